"""Supervised training through TRL: what it learns from, what it leaves alone, and that a crash costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("pyarrow")

from small_training import changed, settings, tiny_nano, write_data  # noqa: E402
from test_reasoners_hf import make_folder  # noqa: E402

from medground.errors import ConfigError  # noqa: E402
from medground.images import load_image  # noqa: E402
from medground.parsing import parse  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.train.answered import AnswerLoss  # noqa: E402
from medground.train.config import TrainConfig  # noqa: E402
from medground.train.describe import describe_run  # noqa: E402
from medground.train.numbers import NumberLoss  # noqa: E402
from medground.train.record import open_run  # noqa: E402
from medground.train.rows import Examples, open_rows  # noqa: E402
from medground.train.start import load_start, parameter_groups, read_asker  # noqa: E402
from medground.train.supervised import train_sft  # noqa: E402

SOFT = {"sft": {"soft_coordinates": 10.0, "max_tokens": 400}}
KILLED = """
import json, os, signal, sys
from medground.train.config import TrainConfig
from medground.train.supervised import train_sft

def progress(now):
    if now.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

train_sft(TrainConfig.model_validate(json.loads(sys.argv[1])), progress=progress)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    return tiny_nano(tmp_path_factory.mktemp("tiny") / "tiny")


def losses(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(nano, data, tmp_path_factory):
    """A run that nothing disturbed."""
    page = settings(
        nano,
        data,
        tmp_path_factory.mktemp("runs") / "whole",
        steps=7,
        batch=3,
        accumulation=2,
        save_every=2,
        vision_rate=1e-4,
        **SOFT,
    )
    page["data"] |= {"augment": True, "mode": "both"}
    return page, train_sft(TrainConfig.model_validate(page))


def test_a_killed_run_goes_on_as_if_nothing_had_been(whole, tmp_path):
    page, model = whole
    page = page | {"out": str(tmp_path / "killed")}
    run = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(page)], env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=False
    )
    assert run.returncode == -signal.SIGKILL
    out = Path(page["out"])
    assert (out / "checkpoint-4").is_dir()
    # What a crash while a checkpoint was written leaves behind isn't gone on from.
    (out / "checkpoint-6").mkdir()
    (out / "checkpoint-6" / "model.safetensors").write_bytes(b"half")
    config = TrainConfig.model_validate(page)
    with pytest.raises(ConfigError, match="holds checkpoints of a run; give --resume"):
        train_sft(config)
    other = TrainConfig.model_validate(page | {"rate": 2e-3})
    with pytest.raises(ConfigError, match=r"run\.json: rate: was 0\.001 and is now 0\.002"):
        train_sft(other, resume=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ConfigError, match="made by 1 processes and there are 2"):
            open_run(config, load_start(config).asker, resume=True)
    again = train_sft(config, resume=True)
    there, here = losses(model.parent), losses(out)
    assert list(here) == list(there) == list(range(1, 8))
    assert list(here.values()) == pytest.approx(list(there.values()), abs=1e-5)
    one, two = weights(model), weights(again)
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert [each["from"] for each in json.loads((out / "run.json").read_text())["resumed"]] == ["checkpoint-4"]


def test_a_run_that_stops_after_some_steps_has_the_rates_of_the_whole(whole, tmp_path):
    page, model = whole
    model = train_sft(TrainConfig.model_validate(page | {"out": str(tmp_path), "stop_after": 3})), model
    here, there = (losses(each.parent) for each in model)
    assert list(here.values()) == pytest.approx(list(there.values())[:3], abs=1e-5)
    assert (model[0] / "model.safetensors").is_file()


def test_the_loss_falls_and_everything_learns_but_the_statistics(whole, nano):
    _, model = whole
    told = list(losses(model.parent).values())
    assert told[-1] < told[0]
    before, after = weights(nano), weights(model)
    names = changed(before, after)
    assert any("vision_tower" in name for name in names)
    assert any("language_model" in name for name in names)
    assert not {name for name in names if "running_" in name or "num_batches" in name}
    assert all(value.isfinite().all() for value in after.values())


def test_the_trained_model_is_asked_as_it_was_trained(whole, data):
    page, model = whole
    reasoner = load_reasoner(str(model), device="cpu")
    assert reasoner.name == page["name"]
    assert not list(model.glob("*.bin"))
    assert (reasoner.template, reasoner.coordinates) == ("nano-v1", "0-1000")
    image = load_image(data / "images" / "train0.png")
    assert reasoner.complete([Request(image, "Where?")], max_new_tokens=4)[0].error is None


def test_a_run_says_what_it_was_made_with(whole):
    page, model = whole
    run = json.loads((model.parent / "run.json").read_text())
    assert TrainConfig.model_validate(run["settings"]) == TrainConfig.model_validate(page)
    assert run["versions"]["torch"] == torch.__version__.split("+")[0] or run["versions"]["torch"] == torch.__version__
    assert {"python", "transformers", "trl", "peft", "medground", "commit"} <= set(run["versions"])
    assert run["asked"]["template"] == "nano-v1"
    assert len(run["data"]["train"]["train.parquet"]) == 64


def test_a_step_is_the_same_however_it_is_cut_into_batches(nano, data, tmp_path):
    found = []
    for batch, accumulation in ((4, 1), (2, 2), (1, 4)):
        page = settings(nano, data, tmp_path / f"b{batch}", steps=2, batch=batch, accumulation=accumulation, **SOFT)
        train_sft(TrainConfig.model_validate(page))
        found.append(list(losses(tmp_path / f"b{batch}").values()))
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def test_batch_normalisation_follows_the_batches_where_that_is_asked_for(nano, data, tmp_path):
    page = settings(nano, data, tmp_path / "follows", steps=1, batch_statistics=True)
    model = train_sft(TrainConfig.model_validate(page))
    assert any("running_mean" in name for name in changed(weights(nano), weights(model)))


def test_rows_come_in_their_order(nano, data, tmp_path, monkeypatch):
    places = []
    original = Examples.example
    monkeypatch.setattr(Examples, "example", lambda self, place: places.append(place) or original(self, place))
    train_sft(TrainConfig.model_validate(settings(nano, data, tmp_path / "out", steps=7, batch=2, **SOFT)))
    assert places[-14:] == list(range(14))  # of 12 rows: two of the second epoch


def test_the_tower_has_a_rate_of_its_own(nano, data, tmp_path):
    page = settings(nano, data, tmp_path / "out", vision_rate=1e-5, weight_decay=0.1)
    config = TrainConfig.model_validate(page)
    model = load_start(config).model
    groups = parameter_groups(config, model)
    found = {id(weight): (group["lr"], group["weight_decay"]) for group in groups for weight in group["params"]}
    named = dict(model.named_parameters())
    assert len(found) == len(named)
    for name, weight in named.items():
        assert found[id(weight)] == (1e-5 if "vision_tower" in name else 1e-3, 0.1 if weight.ndim > 1 else 0.0), name


def test_what_is_frozen_stays_and_checks_are_made(nano, data, tmp_path):
    page = settings(nano, data, tmp_path / "frozen", steps=2, batch=2, freeze_vision=True, eval_every=2, **SOFT)
    page["data"] |= {"val": str(data / "val.parquet"), "val_limit": 2}
    model = train_sft(TrainConfig.model_validate(page))
    names = changed(weights(nano), weights(model))
    assert names
    assert not {name for name in names if "vision_tower" in name}
    lines = [json.loads(line) for line in (tmp_path / "frozen" / "log.jsonl").read_text().splitlines()]
    checks = {line["step"]: line["checkup"] for line in lines if "checkup" in line}
    assert list(checks) == [0, 2]
    assert checks[2]["rows"] == 2
    assert (tmp_path / "frozen" / "eval" / "step-000002.png").is_file()


def test_a_frozen_tower_looks_at_each_view_once(nano, data, tmp_path, monkeypatch):
    from medground.train import once

    seen = []
    looking = once.looking_once

    def watched(model, **options):
        stem = next(module for name, module in model.named_modules() if name.endswith("patch_embed"))
        stem.register_forward_hook(lambda module, given, output: seen.append(len(given[0])))
        return looking(model, **options)

    monkeypatch.setattr(once, "looking_once", watched)
    page = settings(nano, data, tmp_path / "views", steps=8, batch=3, freeze_vision=True, **SOFT)
    page["data"] |= {"augment": True, "views": 1, "limit": 6}
    names = changed(weights(nano), weights(train_sft(TrainConfig.model_validate(page))))
    assert sum(seen) == 6, "8 steps of 3 rows are four epochs of the same six views"
    assert names
    assert not {name for name in names if "vision_tower" in name}


def test_named_modules_stay_with_their_statistics(nano, data, tmp_path):
    front = ["timm_model.patch_embed", "timm_model.stages.0"]
    page = settings(nano, data, tmp_path / "front", steps=2, batch=2, frozen=front, batch_statistics=True, **SOFT)
    before, after = weights(nano), weights(train_sft(TrainConfig.model_validate(page)))
    names = changed(before, after)
    tower = {name for name in names if "vision_tower" in name}
    assert any("stages.1" in name for name in tower)
    assert not {name for name in tower if "patch_embed" in name or "stages.0" in name}
    unknown = TrainConfig.model_validate(page | {"frozen": ["stages.7"], "out": str(tmp_path / "unknown")})
    with pytest.raises(ConfigError, match=r"frozen: .* has no module 'stages\.7'"):
        train_sft(unknown)


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(nano, data, tmp_path):
    grpo = {"generations": 4, "max_completion": 100, "beta": 0.1}
    page = settings(nano, data, tmp_path / "out", "grpo", batch=4, accumulation=2, epochs=2, grpo=grpo)
    told = describe_run(TrainConfig.model_validate(page))
    assert "rows       12 from" in told
    assert "steps      12 of 8 completions, 4 of each of 2 questions" in told
    assert "completions at most 100" in told
    model = load_start(TrainConfig.model_validate(page)).model
    learns = sum(weight.numel() for weight in model.parameters())
    assert f"parameters {learns} learn, 0 don't" in told
    frozen = describe_run(TrainConfig.model_validate(page | {"freeze_vision": True}))
    assert f"parameters {learns} learn" not in frozen
    assert ", frozen" in frozen
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"weights|term"):
        describe_run(TrainConfig.model_validate(page | {"grpo": grpo | {"weights": {"nothing": 1.0}}}))


@pytest.mark.parametrize(
    ("family", "coordinates"), [("qwen2_5_vl", "resized pixels"), ("qwen3_vl", "0-1000"), ("internvl", "0-1000")]
)
def test_other_families_learn_with_adapters_in_their_own_numbers(family, coordinates, data, tmp_path):
    start = make_folder(family, tmp_path / family)
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
    page = settings(
        start, data, tmp_path / "out", steps=2, batch=2, lora=lora, max_pixels=56 * 56, gradient_checkpointing=True
    )
    config = TrainConfig.model_validate(page)
    told = describe_run(config)
    assert "LoRA of rank 4" in told
    assert f"answers in {coordinates}" in told
    assert not Path(page["out"]).exists()
    model = train_sft(config)
    assert all(0 < loss < 20 for loss in losses(tmp_path / "out").values())
    names = changed(weights(start), weights(model))  # merged: the names are the model's own
    assert names
    assert all(name.endswith("weight") for name in names)
    assert not {name for name in names if "visual.blocks" in name or "vision_tower" in name or "embed" in name}
    reasoner = load_reasoner(str(model), device="cpu")
    assert reasoner.coordinates == coordinates
    assert not (model / "adapter_config.json").exists()


def test_an_adapter_may_be_kept_apart(nano, data, tmp_path):
    lora = {"rank": 2, "targets": ["q_proj"], "merge": False}
    page = settings(nano, data, tmp_path / "out", steps=1, batch=2, lora=lora)
    model = train_sft(TrainConfig.model_validate(page))
    assert json.loads((model / "adapter_config.json").read_text())["r"] == 2
    assert load_reasoner(str(nano), device="cpu", adapter=str(model)).name == "tiny+model"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "grpo"}, "kind: is 'grpo'"),
        ({"sft": {"max_tokens": 30}}, r"row train\d+ takes \d+ tokens and sft.max_tokens is 30"),
        ({"sft": {"max_tokens": 30}, "workers": 1}, r"^row train\d+ takes \d+ tokens and sft.max_tokens is 30"),
        ({"lora": {"targets": ["nothing"]}}, r"lora\.targets: .* has no linear layer .*q_proj"),
    ],
)
def test_what_cant_be_trained_is_told(change, said, nano, data, tmp_path):
    page = settings(nano, data, tmp_path / "out", steps=1, **change)
    with pytest.raises(ConfigError, match=said):
        train_sft(TrainConfig.model_validate(page))


def test_numbers_that_arent_single_tokens_have_no_soft_loss(data, tmp_path):
    start = make_folder("qwen2_vl", tmp_path / "qwen")
    page = settings(start, data, tmp_path / "out", steps=1, max_pixels=56 * 56, **SOFT)
    with pytest.raises(ConfigError, match="aren't single tokens"):
        train_sft(TrainConfig.model_validate(page))


@pytest.mark.parametrize("spread", [0.5, 10.0])
def test_soft_numbers_cost_by_their_distance(spread, nano):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano)
    loss = NumberLoss(tokenizer, spread, torch.device("cpu"))
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(["500", "503", "800", "<think>"]))
    bracket, comma, word = (tokenizer(text, add_special_tokens=False).input_ids[-1] for text in ("[", ", ", " at "))
    label, before = ids[:1], torch.tensor([bracket])

    def cost(said: int) -> float:
        logits = torch.full((1, len(tokenizer)), -20.0)
        logits[0, said] = 20.0
        places, words = loss(logits, label, before)
        assert float(words) == 0.0
        return float(places)

    assert cost(ids[0]) < cost(ids[1]) < cost(ids[2])
    assert loss.is_number(ids).tolist() == [True, True, True, False]
    assert loss.opens[torch.tensor([bracket, comma, word])].tolist() == [True, True, False]
    exact = torch.full((1, len(tokenizer)), float("-1e4"))
    for hump, there in ((1, bracket), (0, word)):
        exact[0, loss.ids] = loss.humps[hump, 500].clamp(min=1e-30).log()
        assert float(loss(exact, label, torch.tensor([there]))[0]) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(exact, label, before)[0]) > 0.1, "a number in a sentence has a narrower hump than a coordinate"


def test_the_loss_of_visual_answers():
    tokenizer = SimpleNamespace(get_vocab=lambda: {"<answer>": 1, "</answer>": 2})
    loss = AnswerLoss(tokenizer, torch.device("cpu"))
    labels = torch.tensor(
        [[-100, 5, 1, 7, 8, 2, 6, -100], [-100, 5, 4, 7, 8, 2, 6, 3], [-100, -100, 1, 9, -100, -100, -100, -100]]
    )
    told = loss.is_answer(labels)
    assert labels[told].tolist() == [7, 8, 2, 9], (
        "the words and what ends them, cut off or not; grounding's tags are others"
    )
    even = loss(torch.zeros(*labels.shape, 10), labels)
    assert even.item() == pytest.approx(4 * np.log(10))
    right = torch.nn.functional.one_hot(labels.clamp(min=0), 10) * 40.0
    assert loss(right, labels).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match=r"set sft\.answer_weight to 0"):
        AnswerLoss(SimpleNamespace(get_vocab=lambda: {"<answer>": 1}), torch.device("cpu"))


def test_the_answer_that_is_taught_is_the_rows_own(nano, data, tmp_path):
    config = TrainConfig.model_validate(settings(nano, data, tmp_path / "out"))
    asker, _ = read_asker(config, weights=False)
    rows = open_rows(config)
    example = Examples(rows, config, asker).example(0)
    box = parse(example["completion"][0]["content"], asker.space_for(load_image(data / "images" / "train0.png"))).box
    true = rows[0].truth().box
    assert box is not None
    assert true is not None
    assert box.iou(true) > 0.97

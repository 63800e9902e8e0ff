"""GRPO on tiny real models: what learns and what stays as it is, and that a killed run ends as one that wasn't."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("timm")

from made_rows import made_rows  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_reasoners_hf import make_folder  # noqa: E402

from medground.data.schema import write_rows  # noqa: E402
from medground.errors import ConfigError, TruthError  # noqa: E402
from medground.images import MedicalImage  # noqa: E402
from medground.reasoners import Request, load_reasoner  # noqa: E402
from medground.rewards import Recipe, load_recipe, read_truth, score_batch  # noqa: E402
from medground.train import reinforce  # noqa: E402
from medground.train.config import TrainConfig  # noqa: E402
from medground.train.credit import part_credit, reasoned_claims  # noqa: E402
from medground.train.curves import RunLog  # noqa: E402
from medground.train.reinforce import grpo_arguments, scorable, train_grpo  # noqa: E402
from medground.train.rows import open_rows  # noqa: E402
from medground.train.start import load_start  # noqa: E402
from medground.train.watch import TrainProgress  # noqa: E402

TESTS = Path(__file__).parent


def _terms(completions: Any, truths: Any) -> list[dict[str, float]]:
    """Score what a model can do that was never trained: more of some letters, others for each truth."""
    return [
        {
            "vowels": sum(sign in "aeiouAEIOU" for sign in said) / 8,
            "own": sum(ord(sign) % 7 == int(truth.box.x1 if truth.box else 0) % 7 for sign in said) / 8,
        }
        for said, truth in zip(completions, truths, strict=True)
    ]


LETTERS = Recipe("letters", {"vowels": 1.0, "own": 1.0}, _terms, read_truth, "sum")
"""A recipe in whose groups there is spread from the first step on."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four rows to train on, and two to check on, one of them absent."""
    root = tmp_path_factory.mktemp("data")
    rows = made_rows(root)
    there, absent = [row for row in rows if not row.absent], [row for row in rows if row.absent]
    train = [row.model_copy(update={"split": "train"}) for row in there[:4]]
    write_rows(train, root / "train.parquet", root=root)
    write_rows([*train[:3], *(row.model_copy(update={"split": "train"}) for row in absent)], root / "mixed.parquet")
    val = [row.model_copy(update={"split": "val"}) for row in (there[6], absent[0])]
    write_rows(val, root / "val.parquet", root=root)
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    made: dict[str, Path] = {}

    def get(family: str) -> str:
        """Tiny random models, asked with the short template."""
        if family not in made:
            made[family] = make_folder(family, tmp_path_factory.mktemp(family) / f"tiny-{family}")
            (made[family] / "medground.json").write_text('{"template": "nano-v1"}')
            if family == "fast_vlm":
                (made[family] / "medground.json").write_text('{"template": "nano-v1", "coordinates": "0-1000"}')
        return str(made[family])

    return get


def config(model: str, root: Path, out: Path, *, grpo: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
    values = {
        "name": "tiny-grpo",
        "kind": "grpo",
        "model": model,
        "out": str(out),
        "data": {"train": str(root / "train.parquet"), "val": str(root / "val.parquet")},
        "bf16": False,
        "rate": 3e-3,
        "schedule": "linear",
        "batch": 4,
        "max_pixels": 56 * 56,
        "log_every": 3,
        "eval_every": 100,
        "save_every": 2,
        "steps": 8,
        "grpo": {"recipe": "test_reinforce:LETTERS", "generations": 2, "max_completion": 8} | (grpo or {}),
    }
    return TrainConfig.model_validate(values | changes)


ITERATED = {"beta": 0.1, "iterations": 2}
"""Two steps learn from the same completions; two rounds of them are an epoch, so the fifth step begins another."""


@pytest.fixture(scope="module")
def whole(folders: Callable[[str], str], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train_grpo(config(folders("fast_vlm"), data, out, grpo=ITERATED))
    return out


def lines(out: Path) -> list[dict[str, Any]]:
    return [line for line in RunLog(out).read() if "loss" in line]


def same_as_if_uninterrupted(out: Path, whole: Path) -> None:
    ours, theirs = lines(out), lines(whole)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for one, other in zip(ours, theirs, strict=True):
        for name in set(other) - {"seconds", "step_time"}:
            assert one[name] == pytest.approx(other[name], abs=1e-5), (one["step"], name)
    mine, wanted = (load_file(run / "model" / "model.safetensors") for run in (out, whole))
    assert all(torch.allclose(mine[name], wanted[name], atol=1e-5) for name in wanted)


def test_a_run_killed_in_its_second_epoch_ends_as_if_nothing_had_been(
    whole: Path, folders: Callable[[str], str], data: Path, tmp_path: Path
) -> None:
    asked = config(folders("fast_vlm"), data, tmp_path / "killed", grpo=ITERATED)
    program = (
        "import os, signal, sys\n"
        "from medground.train.config import TrainConfig\n"
        "from medground.train.reinforce import train_grpo\n"
        "asked = TrainConfig.model_validate_json(sys.argv[1])\n"
        "kill = lambda now: now.step == 7 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "train_grpo(asked, progress=kill)\n"
    )
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", program, json.dumps(asked.settings())]
    end = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert end.returncode == -signal.SIGKILL, end.stderr
    assert not (asked.folder / "model").exists()
    assert {path.name for path in asked.folder.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    train_grpo(asked, resume=True)
    same_as_if_uninterrupted(asked.folder, whole)
    assert lines(asked.folder)[-1]["epoch"] > 1.5
    assert [line["step"] for line in RunLog(asked.folder).read() if "checkup" in line] == [0, 8]


def test_the_log_has_each_term_by_name_and_the_kl(whole: Path) -> None:
    found = lines(whole)
    # The first, each third, and each with a checkpoint, which no mean spans.
    assert [line["step"] for line in found] == [1, 2, 3, 4, 6, 8]
    asked_anew = [line for line in found if "reward" in line]
    for line in asked_anew:
        assert line["letters/vowels"] + line["letters/own"] == pytest.approx(line["rewards/letters/mean"], abs=1e-5)
        assert line["reward"] == pytest.approx(line["rewards/letters/mean"], abs=1e-6)
        assert line["frac_reward_zero_std"] < 1
    assert len({line["reward"] for line in asked_anew}) > 2
    assert found[0]["kl"] == pytest.approx(0, abs=1e-6), "the start is what it is measured from"
    assert found[-1]["kl"] > 1e-4
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in found)


def test_weights_learn_and_running_statistics_stay(whole: Path, folders: Callable[[str], str]) -> None:
    before = load_file(Path(folders("fast_vlm")) / "model.safetensors")
    after = load_file(whole / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in changed)
    assert any("vision_tower" in name for name in changed)
    assert not [name for name in changed if "running" in name or "num_batches" in name]


def test_the_trained_model_answers_and_says_how_it_is_asked(whole: Path) -> None:
    assert json.loads((whole / "model" / "medground.json").read_text()) == {
        "name": "tiny-grpo",
        "coordinates": "0-1000",
        "template": "nano-v1",
    }
    reasoner = load_reasoner(str(whole / "model"), device="cpu")
    assert reasoner.name == "tiny-grpo"
    image = MedicalImage.from_array(torch.arange(64 * 64).reshape(64, 64).to(torch.uint8).numpy())
    assert reasoner.complete([Request(image, "Where?")], max_new_tokens=3)[0].error is None


def test_a_run_is_watched(whole: Path) -> None:
    for step in (0, 8):
        told = json.loads((whole / "eval" / f"step-{step:06d}.json").read_text())
        assert told["all"]["rows"] == 2
        assert set(told["all"]["terms"]) == {"vowels", "own", "score"}
        assert (whole / "eval" / f"step-{step:06d}.png").is_file()
    assert "letters/vowels" in (whole / "curves.html").read_text()
    assert list((whole / "runs").rglob("events.out.tfevents.*")), "TensorBoard"
    assert json.loads((whole / "run.json").read_text())["settings"]["grpo"]["beta"] == 0.1


class Stopped(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_large_families_learn_low_rank_and_go_on(
    family: str, folders: Callable[[str], str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda **said: told.append(said))
    changes: dict[str, Any] = {
        "lora": {"rank": 4, "dropout": 0.1},
        "freeze_vision": True,
        "gradient_checkpointing": True,
        "steps": 4,
        "save_every": 2,
        "log_every": 1,
        "grpo": {"beta": 0.1},
    }

    def stop(now: TrainProgress) -> None:
        if now.step == 3:
            raise Stopped

    runs = [config(folders(family), data, tmp_path / name, **changes) for name in ("whole", "stopped")]
    train_grpo(runs[0])
    with pytest.raises(Stopped):
        train_grpo(runs[1], progress=stop)
    train_grpo(runs[1], resume=True)
    same_as_if_uninterrupted(runs[1].folder, runs[0].folder)
    checked = [[line["checkup"] for line in RunLog(run.folder).read() if "checkup" in line] for run in runs]
    assert checked[0] == checked[1]
    found = lines(runs[0].folder)
    assert found[0]["kl"] == pytest.approx(0, abs=0.05)  # dropout is on in the one and off in the other
    assert all(math.isfinite(line["loss"]) for line in found)
    before = load_file(Path(folders(family)) / "model.safetensors")
    after = load_file(runs[0].folder / "model" / "model.safetensors")
    assert set(after) == set(before), "the adapter is laid into the weights"
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(("visual" not in name and "vision_tower" not in name) or "merger" in name for name in changed)
    assert told == [], "nobody is told of a run"


def test_a_longer_run_goes_on_from_amid_a_round(
    folders: Callable[[str], str], data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes: dict[str, Any] = {
        "grpo": {"iterations": 2},
        "log_every": 1,
        "data": {"train": str(data / "train.parquet")},
    }
    train_grpo(config(folders("fast_vlm"), data, tmp_path, steps=3, **changes))
    train_grpo(config(folders("fast_vlm"), data, tmp_path, steps=8, **changes), resume=True)
    assert "step 3: its completions weren't kept; new ones are made" in caplog.text
    # The fourth step makes its own; then rounds begin where they would have begun.
    assert [line["step"] for line in lines(tmp_path) if "reward" in line] == [1, 3, 4, 5, 7]


def test_a_frozen_tower_rests(folders: Callable[[str], str], data: Path, tmp_path: Path) -> None:
    asked = config(folders("fast_vlm"), data, tmp_path / "run", freeze_vision=True, steps=1)
    train_grpo(asked)
    before = load_file(Path(folders("fast_vlm")) / "model.safetensors")
    after = load_file(asked.folder / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in changed)
    assert not [name for name in changed if "vision_tower" in name]


@pytest.mark.parametrize(
    ("changes", "grpo", "said"),
    [
        ({"batch": 3}, {}, r"grpo\.generations: 3 completions are made at once .* multiple of 2"),
        ({"batch": 16}, {}, r"data\.train: has 6 rows that can be scored, and 8 are asked at once"),
        ({"save_every": 3}, {"iterations": 2}, r"save_every: 3 isn't a multiple of 2, the steps that learn"),
        ({"accumulation": 2, "save_every": 2}, {"steps_per_generation": 8, "generations": 8}, "multiple of 4"),
        ({"accumulation": 2}, {"steps_per_generation": 3}, r"grpo\.steps_per_generation: 3 x 1 iterations and acc"),
    ],
)
def test_what_doesnt_fit_together_is_named(
    tmp_path: Path, changes: dict[str, Any], grpo: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        grpo_arguments(config("nano", tmp_path, tmp_path / "out", grpo=grpo, **changes), rows=6)


def test_settings_reach_the_trainer(tmp_path: Path) -> None:
    grpo = {"beta": 0.04, "temperature": 0.7, "top_p": 0.9, "generations": 4, "epsilon": 0.1, "epsilon_high": 0.3}
    grpo |= {"loss_type": "dr_grpo", "scale_rewards": "none", "mask_truncated": True, "iterations": 2}
    asked = config("nano", tmp_path, tmp_path / "out", grpo=grpo, steps=None, epochs=2, accumulation=2)
    found = grpo_arguments(asked, rows=10)
    assert found.max_steps == 2 * 10 * 4 * 2 / (4 * 2)  # each completion is learned from twice
    told = {
        "num_generations": 4,
        "max_completion_length": 8,
        "beta": 0.04,
        "temperature": 0.7,
        "top_p": 0.9,
        "epsilon": 0.1,
        "epsilon_high": 0.3,
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "mask_truncated_completions": True,
        "num_iterations": 2,
        "steps_per_generation": 2,
        "learning_rate": 3e-3,
        "use_vllm": False,
        "logging_nan_inf_filter": False,
    }
    assert {name: getattr(found, name) for name in told} == told


def test_absent_rows_are_left_out_where_a_recipe_cant_score_them(data: Path, tmp_path: Path) -> None:
    asked = config("nano", data, tmp_path, data={"train": str(data / "mixed.parquet")})
    rows, gone = scorable(open_rows(asked), load_recipe("umrg-hard"))
    assert (len(rows), gone) == (3, 1)
    assert not [row for row in rows if row.absent]
    rows, gone = scorable(open_rows(asked), load_recipe("medground"))
    assert (len(rows), gone) == (4, 0)


def test_a_wrong_label_stops_with_its_row(folders: Callable[[str], str], data: Path, tmp_path: Path) -> None:
    root = tmp_path / "bad"
    rows = made_rows(root)[:3]
    rows[1] = rows[1].model_copy(update={"box": (50.0, 5.0, 20.0, 10.0)})
    write_rows([row.model_copy(update={"split": "train"}) for row in rows], root / "train.parquet", root=root)
    with pytest.raises(TruthError, match=r"train\.parquet: row 1: .*bbox_2d"):
        train_grpo(config(folders("fast_vlm"), root, tmp_path / "run"))


def test_the_kind_is_grpo(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind is 'sft'"):
        train_grpo(TrainConfig(name="a", kind="sft", rate=0.1, data={"train": "x.parquet"}))


@pytest.mark.parametrize(("recipe", "credit"), [("umrg-soft", "number"), ("medground", "part")])
def test_parts_have_their_own_credit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, credit: str
) -> None:
    """On nano, whose answers can be read: numbers (and claims) differ from the rest of their completion."""
    seen: list[dict[str, Any]] = []
    original = reinforce._Trainer._advantages_by_part

    def spied(self: Any, inputs: Any, made: dict[str, Any]) -> Any:
        whole = made["advantages"]
        found = original(self, inputs, made)
        seen.append({"whole": whole, "found": found, "ids": made["completion_ids"], "mask": made["completion_mask"]})
        return found

    monkeypatch.setattr(reinforce._Trainer, "_advantages_by_part", spied)
    changes = {"steps": 1, "log_every": 1, "save_every": 1, "freeze_vision": True, "max_pixels": None}
    grpo = {"recipe": recipe, "generations": 4, "max_completion": 128, "credit": credit}
    asked = config("nano", data, tmp_path, grpo=grpo, data={"train": str(data / "train.parquet")}, **changes)
    train_grpo(asked)
    assert lines(tmp_path)[0]["part_credit"] > 0
    (one,) = seen
    tokenizer = load_start(asked).processor.tokenizer
    numbers = set(tokenizer.convert_tokens_to_ids([str(number) for number in range(1001)]))
    own = 0
    for row, ids in enumerate(one["ids"].tolist()):
        written = [place for place in range(len(ids)) if one["mask"][row, place]]
        rest = {one["found"][row, place].item() for place in written if ids[place] not in numbers}
        text = tokenizer.decode([ids[place] for place in written], skip_special_tokens=True)
        assert len(rest) <= 1 + (len(reasoned_claims(text)) if credit == "part" else 0)
        if credit == "number":
            assert rest == {one["whole"][row].item()}
        own += sum(one["found"][row, place].item() not in rest for place in written)
    assert own > 8


def test_claims_of_a_group_that_misses_alike_do_not_outweigh_the_rest(data: Path, tmp_path: Path) -> None:
    asked = config("nano", data, tmp_path, grpo={"recipe": "medground", "generations": 2, "credit": "part"})
    processor = load_start(asked).processor
    truth = {"bbox_2d": [700, 700, 900, 900], "point_2d": [[750, 750], [850, 850]], "coordinates": "0-1000"}
    truth["facts"] = {"size": ["tiny"]}
    texts = [
        f'<think>It is big.</think><answer>{{"bbox": [1, 1, {x2}, 9], "points_1": [9, 9], "points_2": [9, 8]}}</answer>'
        for x2 in (99, 101)
    ]
    ids = [processor.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert len(ids[0]) == len(ids[1])
    recipe = load_recipe("medground")
    told: dict[str, Any] = {"train": defaultdict(list)}
    trainer = SimpleNamespace(run=asked, processing_class=processor, recipe=recipe, _metrics=told)
    made = {
        "advantages": torch.zeros(2),
        "completion_ids": torch.tensor(ids),
        "completion_mask": torch.ones(2, len(ids[0]), dtype=torch.long),
    }
    found = reinforce._Trainer._advantages_by_part(trainer, [{"ground_truth": truth}] * 2, made)

    def score(texts: list[str]) -> list[float]:
        return [row["score"] for row in score_batch(texts, [truth] * len(texts), recipe)]

    scores, credits = part_credit(texts, score, of_claims=True)
    assert 0 < np.std(scores, ddof=1) < reinforce.LEAST_SPREAD / 10
    claim = min(credits[0].values())
    assert claim < 0
    assert found.min().item() == pytest.approx(claim / reinforce.LEAST_SPREAD)


def test_a_group_may_not_lie_in_two_processes_where_numbers_are_compared(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    asked = config("nano", data, tmp_path, grpo={"generations": 8, "credit": "number"})
    with pytest.raises(ConfigError, match=r"multiple of grpo\.generations, 8"):
        grpo_arguments(asked, 100)

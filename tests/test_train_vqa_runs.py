"""Runs on visual questions and grounding together: both are learned, rewarded by their own recipes, and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("timm")

from made_vqa import draw_questions, save_questions  # noqa: E402
from small_training import settings, tiny_nano, write_data  # noqa: E402

from medground.coords import Space  # noqa: E402
from medground.errors import ConfigError  # noqa: E402
from medground.reasoners import Completion, Request  # noqa: E402
from medground.rewards import Recipe, read_truth  # noqa: E402
from medground.rewards.vqa_truth import read_vqa_truth  # noqa: E402
from medground.train import checkup  # noqa: E402
from medground.train.config import TrainConfig  # noqa: E402
from medground.train.curves import RunLog, series  # noqa: E402
from medground.train.record import open_run  # noqa: E402
from medground.train.reinforce import recipes_of, train_grpo  # noqa: E402
from medground.train.supervised import train_sft  # noqa: E402
from medground.train.vqa_checkup import VisualCheck  # noqa: E402

SPACE = Space.norm1000()


def _letters(letters: str) -> Any:
    def terms(completions: Sequence[str], truths: Sequence[Any]) -> list[dict[str, float]]:
        return [{"own": sum(sign in letters for sign in said) / 8} for said in completions]

    return terms


# What a model can do that was never trained, and another for each task.
GROUND = Recipe("ground", {"own": 1.0}, _letters("aeiou"), read_truth, "sum")
ASK = Recipe("ask", {"own": 1.0}, _letters("stnrl"), read_vqa_truth, "sum")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return save_questions(write_data(tmp_path_factory.mktemp("data"), 5), 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_nano(tmp_path_factory.mktemp("tiny"))


def page(model: Path, data: Path, out: Path, kind: str, **more: Any) -> TrainConfig:
    found = settings(model, data, out, kind, **{"rate": 3e-3, "batch": 4, "steps": 4, "save_every": 4, **more})
    files = {name: [str(data / f"vqa-{split}.parquet")] for name, split in (("vqa", "train"), ("vqa_val", "val"))}
    found["data"] |= {"val": str(data / "val.parquet"), "val_limit": 2, **files}
    return TrainConfig.model_validate(found)


@pytest.fixture(scope="module")
def supervised(model, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "sft"
    asked = page(
        model, data, out, "sft", steps=3, sft={"soft_coordinates": 10, "answer_weight": 0.5, "max_tokens": 400}
    )
    train_sft(asked)
    return asked


def test_supervision_learns_both(supervised):
    lines = RunLog(supervised.folder).read()
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert all(line["places"] > 0 and line["answers"] > 0 for line in lines if "places" in line)
    assert (supervised.folder / "model" / "model.safetensors").is_file()


def test_checks_tell_both_tasks(supervised):
    checks = [line["checkup"] for line in RunLog(supervised.folder).read() if "checkup" in line]
    assert len(checks) == 2
    for told in checks:
        assert told["rows"] == 2
        assert {"box_iou", "terms"} <= set(told)
        assert told["visual"]["rows"] == 2
        assert {"readable", "worth", "terms"} <= set(told["visual"])
    folder = supervised.folder / "eval"
    assert {path.stem for path in folder.iterdir()} == {
        f"{kind}-00000{at}" for kind in ("step", "visual") for at in "03"
    }
    curves = series(RunLog(supervised.folder).read())["Validation"]
    assert "visual/worth" in curves
    assert "visual/rows" not in curves
    assert "The same visual questions over time" in (supervised.folder / "curves.html").read_text()


def test_a_run_says_what_it_was_made_with(supervised, model, data):
    told = json.loads((supervised.folder / "run.json").read_text())
    assert set(told["data"]) == {"train", "val", "vqa", "vqa_val"}
    assert len(told["asked"]["visual"]) == 16
    asker = SimpleNamespace(template="nano-v1", coordinates="0-1000")
    more = supervised.model_copy(update={"steps": 6})
    assert open_run(more, asker, resume=True).name == "checkpoint-3"
    del told["settings"]["data"]["vqa_share"]  # a setting that an earlier version didn't have
    (supervised.folder / "run.json").write_text(json.dumps(told))
    assert open_run(more, asker, resume=True) is not None
    other = more.model_copy(update={"data": more.data.model_copy(update={"vqa_limit": 0.5})})
    with pytest.raises(ConfigError, match=r"data\.vqa_limit: was None and is now 0\.5; --resume can't change it"):
        open_run(other, asker, resume=True)
    other = more.model_copy(update={"data": more.data.model_copy(update={"vqa": (str(data / "vqa-val.parquet"),)})})
    with pytest.raises(ConfigError, match=r"data\.vqa: the rows aren't those that the run began with"):
        open_run(other, asker, resume=True)


@pytest.mark.parametrize("credit", ["completion", "number"])
def test_each_task_is_rewarded_by_its_own_recipe(model, data, tmp_path, credit):
    grpo = {"generations": 2, "max_completion": 12, "credit": credit}
    grpo |= {"recipe": "test_train_vqa_runs:GROUND", "vqa_recipe": "test_train_vqa_runs:ASK"}
    asked = page(model, data, tmp_path / "grpo", "grpo", batch=8, steps=4, grpo=grpo)
    train_grpo(asked)
    lines = [line for line in RunLog(asked.folder).read() if "reward" in line]
    assert len(lines) == 4
    for name in ("ground", "ask"):
        told = [line for line in lines if line.get(f"{name}/own") is not None]
        assert told, "over four rounds of four prompts each task has its turn"
        for line in told:
            assert line[f"{name}/own"] == pytest.approx(line[f"rewards/{name}/mean"], abs=1e-5)
    assert {line["reward"] for line in lines} > set()
    last = json.loads((asked.folder / "eval" / "visual-000004.json").read_text())
    assert (last["recipe"], set(last["all"]["terms"])) == ("ask", {"own", "score"})


def test_visual_questions_alone(model, data, tmp_path):
    found = settings(model, data, tmp_path / "alone", "grpo", batch=4, steps=1, save_every=1)
    found["data"] = {"vqa": [str(data / "vqa-train.parquet")]}
    found["grpo"] = {"generations": 2, "max_completion": 8}
    train_grpo(TrainConfig.model_validate(found))
    (line,) = (line for line in RunLog(tmp_path / "alone").read() if "reward" in line)
    assert "thinkvg/format" in line
    assert not any(name.startswith(("medground/", "rewards/medground")) for name in line)


def test_two_recipes_of_one_name_are_refused(model, data, tmp_path):
    asked = page(model, data, tmp_path, "grpo", grpo={"recipe": "thinkvg"})
    with pytest.raises(ConfigError, match=r"grpo\.vqa_recipe: is called thinkvg like grpo\.recipe"):
        recipes_of(asked)


class Resting(torch.nn.Module):
    device = torch.device("cpu")


def test_figures_over_visual_questions_are_those_by_hand(tmp_path, monkeypatch):
    rows = draw_questions(tmp_path, 5, split="val")
    open_one, closed, single, multi, nowhere = rows
    said = {
        open_one.question: "",
        closed.question: closed.completion("0-1000").replace("Yes", "No"),
        single.question: "<think>It is.</think><response><answer>B</answer></response>",
        multi.question: multi.completion("0-1000").replace("A, C", "C; A"),
        nowhere.question: nowhere.completion("0-1000"),
    }

    def complete(_: Any, __: Any, requests: Sequence[Request], most: int) -> list[tuple[Completion, int, bool]]:
        return [(Completion(said[one.question], SPACE), len(said[one.question]), False) for one in requests]

    monkeypatch.setattr(checkup, "complete", complete)
    check = VisualCheck(
        [(row, tmp_path) for row in rows], SimpleNamespace(name="x"), tmp_path, recipe="thinkvg", batch=2
    )
    told = check.measure(Resting(), 7)
    assert told["rows"] == 5
    assert (told["open"], told["closed"], told["single"], told["multi"]) == (0, 0.5, 1, 1)
    assert told["worth"] == pytest.approx(3 / 5)
    assert told["v_score"] == pytest.approx((0 + 1 + 0 + 1) / 4, abs=0.02)
    assert told["located"] == 0.5
    assert (told["right_elsewhere"], told["wrong_there"]) == (0.25, 0.25)
    assert told["agreement"] == pytest.approx((0 + 1 + 0 + 1) / 4)
    assert told["readable"] == 0.8
    assert told["terms"]["semantic"] == pytest.approx(3 / 5)
    each = json.loads((tmp_path / "eval" / "visual-000007.json").read_text())["each"]
    assert [len(one["boxes"] or ()) for one in each] == [0, 1, 0, 2, 0]
    assert each[1]["figures"]["wrong_there"] == 1
    assert "single" not in each[1]["figures"]

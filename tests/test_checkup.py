"""Checks during a training: figures by hand, answers as a user gets them, and a training that isn't touched."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")

from conftest import FillingSegmenter  # noqa: E402
from made_rows import made_rows  # noqa: E402
from PIL import Image  # noqa: E402

from medground.coords import Space  # noqa: E402
from medground.data.pixels import open_image, open_mask  # noqa: E402
from medground.data.rows import Picture, Row  # noqa: E402
from medground.errors import TruthError  # noqa: E402
from medground.metrics import dice  # noqa: E402
from medground.parsing import format_answer  # noqa: E402
from medground.reasoners import NANO, Completion, Request, load_reasoner  # noqa: E402
from medground.reasoners._asking import Asker  # noqa: E402
from medground.reasoners._load import load_model  # noqa: E402
from medground.train import checkup  # noqa: E402
from medground.train.checkup import GRID, Check, Checkup  # noqa: E402
from medground.train.curves import RunLog  # noqa: E402
from medground.types import Box  # noqa: E402

SPACE = Space.norm1000()
ABSENT = '<think>None.</think><answer>{"absent": true}</answer>'


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Row, Path]]:
    """Three targets and an absent one."""
    root = tmp_path_factory.mktemp("rows")
    made = made_rows(root)
    there = [row for row in made if not row.absent]
    chosen = (there[0], there[1], there[2], next(row for row in made if row.absent))
    # Scripts answer by the question.
    return [(row.model_copy(update={"question": f"{row.question} ({at})"}), root) for at, row in enumerate(chosen)]


@pytest.fixture(scope="module")
def nano() -> tuple[Any, Asker]:
    model, processor = load_model(NANO, torch.device("cpu"), "float32", None)
    return model, Asker(processor, template="nano-v1", coordinates="0-1000", max_pixels=10**6, name="nano")


class Resting(torch.nn.Module):
    """Stands where the model would: its answers are scripted."""

    device = torch.device("cpu")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Answer each question by a script."""

    def script(answers: dict[str, str]) -> None:
        def complete(_: Any, __: Any, requests: Sequence[Request], most: int) -> list[tuple[Completion, int, bool]]:
            texts = [answers[request.question] for request in requests]
            return [(Completion(text, SPACE), len(text), len(text) > most) for text in texts]

        monkeypatch.setattr(checkup, "complete", complete)

    return script


def right(row: Row, *, wider: float = 0.0) -> str:
    """Return the true answer, or one whose box is wider by some share (negative: narrower)."""
    truth = row.truth().to(SPACE)
    box = truth.box
    assert box is not None
    grown = Box(box.x1, box.y1, box.x2 + wider * (box.x2 - box.x1), box.y2, SPACE)
    return format_answer(grown, truth.points, SPACE, reasoning="It is bright.")


def check(rows: list[tuple[Row, Path]], out: Path, **options: Any) -> Check:
    return Check(rows, SimpleNamespace(name="scripted"), out, **options)


def test_figures_over_rows_are_those_by_hand(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    a, b, c, gone = (row for row, _ in rows)
    said({a.question: right(a), b.question: right(b, wider=-0.4), c.question: "I see nothing.", gone.question: ABSENT})
    told = check(rows, tmp_path, batch=3, max_new_tokens=60).measure(Resting(), 30)
    assert told["rows"] == 4
    assert told["box_iou"] == pytest.approx((1 + 0.6 + 0) / 3, abs=0.02)
    assert told["acc_50"] == pytest.approx(2 / 3, abs=1e-3)
    # Each category counts the same, and the first two are of one.
    kinds: dict[str, list[float]] = {}
    for row, iou in ((a, 1.0), (b, 0.6), (c, 0.0)):
        kinds.setdefault(row.category, []).append(iou)
    assert told["box_iou_categories"] == pytest.approx(np.mean([np.mean(each) for each in kinds.values()]), abs=0.02)
    assert told["pointing"] == pytest.approx(2 / 3, abs=1e-3)
    assert told["pdice"] == pytest.approx(2 / 3, abs=0.02)
    assert told["absence"] == 0.75
    assert told["absence_balanced"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-3)
    assert told["unreadable"] == 0.25
    assert told["cut"] == 0.5
    assert told["terms"]["format"] == 0.75
    assert "dice" not in told


def test_what_is_said_absent_costs_its_place(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    a, _, _, gone = (row for row, _ in rows)
    said({a.question: ABSENT, gone.question: right(a)})
    told = check([rows[0], rows[3]], tmp_path).measure(Resting(), 1)
    assert (told["box_iou"], told["absence"], told["pointing"]) == (0, 0, 0)


def test_the_files_hold_each_answer_and_a_picture_of_the_same_rows(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    answers = {row.question: right(row) if row.box else ABSENT for row, _ in rows}
    said(answers)
    checked = check(rows, tmp_path, batch=2)
    for step in (0, 100):
        checked.measure(Resting(), step)
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == [
        f"step-{step}.{ending}" for step in ("000000", "000100") for ending in ("json", "png")
    ]
    told = json.loads((tmp_path / "eval" / "step-000100.json").read_text())
    assert (told["step"], told["recipe"], told["mode"]) == (100, "medground", "reason")
    assert [each["id"] for each in told["each"]] == [row.id for row, _ in rows]
    assert [each["said"] for each in told["each"]] == [answers[row.question] for row, _ in rows]
    assert told["each"][0]["figures"]["box_iou"] > 0.95
    assert told["each"][3]["bbox"] is None
    sheets = [np.asarray(Image.open(tmp_path / "eval" / f"step-{step}.png")) for step in ("000000", "000100")]
    assert np.array_equal(*sheets)
    colours = {tuple(colour) for colour in sheets[0].reshape(-1, 3).tolist()}
    assert (255, 255, 255) in colours
    assert any(red > 190 and 120 < green < 190 and blue < 60 for red, green, blue in colours), "the answered box"


def test_rows_are_drawn_evenly(rows: list[tuple[Row, Path]], tmp_path: Path) -> None:
    assert sorted(check(rows, tmp_path).drawn) == [0, 1, 2, 3]
    drawn = sorted(check(rows * 25, tmp_path).drawn)
    assert (len(drawn), drawn[0], drawn[-1]) == (GRID, 0, 99)
    assert {after - before for before, after in itertools.pairwise(drawn)} == {9}


def test_dice_is_that_of_the_segmenters_mask(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    (a, root), (b, _) = rows[0], rows[1]
    said({a.question: right(a), b.question: ABSENT})
    told = check(rows[:2], tmp_path, segmenter=FillingSegmenter()).measure(Resting(), 1)
    image = open_image(a.image, root)
    mask = open_mask(a.mask, root)
    box = np.zeros_like(mask)
    x1, y1, x2, y2 = (round(value) for value in a.truth().box.to(image.space).xyxy)
    box[y1:y2, x1:x2] = True
    assert told["dice"] == pytest.approx((dice(box, mask) + 0) / 2, abs=0.01)


def test_the_papers_recipes_tell_nothing_of_absent_rows(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    said({row.question: right(row) if row.box else ABSENT for row, _ in rows})
    told = check(rows, tmp_path, recipe="umrg-hard").measure(Resting(), 1)
    each = json.loads((tmp_path / "eval" / "step-000001.json").read_text())["each"]
    assert [bool(one["terms"]) for one in each] == [True, True, True, False]
    assert told["terms"]["score"] > 4


def test_figures_that_nothing_is_known_of_are_null(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    said({row.question: ABSENT for row, _ in rows})
    told = check(rows[3:], tmp_path).measure(Resting(), 1)
    assert told["absence"] == told["absence_balanced"] == 1
    assert "box_iou" not in told
    assert "acc_50" not in told


def test_a_row_that_cant_be_read_is_named(
    rows: list[tuple[Row, Path]], said: Callable[..., None], tmp_path: Path
) -> None:
    row, root = rows[0]
    said({row.question: ABSENT})
    lost = row.model_copy(update={"image": Picture(path="images/lost.png")})
    with pytest.raises(TruthError, match=r"lost\.png"):
        check([(lost, root)], tmp_path).measure(Resting(), 1)


class Drawing(FillingSegmenter):
    """Draws from all random states, as loading a model does."""

    def encode(self, image: Any) -> Any:
        _ = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        return super().encode(image)


def test_a_model_in_training_answers_as_a_user_will_get_it_and_isnt_touched(
    nano: tuple[Any, Asker], rows: list[tuple[Row, Path]], tmp_path: Path
) -> None:
    model, asker = nano
    model.train()
    model.generation_config.temperature, own = 0.3, model.generation_config
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    Check(rows[:3], asker, tmp_path, segmenter=Drawing(), max_new_tokens=90, batch=2).measure(model, 5)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert model.training
    assert model.generation_config is own
    assert own.temperature == 0.3
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    told = json.loads((tmp_path / "eval" / "step-000005.json").read_text())["each"]
    reasoner = load_reasoner("nano", device="cpu", batch_size=2)
    requests = [Request(open_image(row.image, root), row.question) for row, root in rows[:3]]
    assert [one["said"] for one in told] == [one.text for one in reasoner.complete(requests, max_new_tokens=90)]


def test_checks_are_made_at_the_start_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    made: list[int] = []

    class Counted:
        def measure(self, model: Any, step: int) -> dict[str, Any]:
            made.append(step)
            return {"box_iou": 0.5}

    log = RunLog(tmp_path)
    for start in (0, 4):
        callback = Checkup(Counted(), 3, log)
        state = SimpleNamespace(global_step=start, max_steps=8, is_world_process_zero=start == 0)
        callback.on_train_begin(None, state, None)
        for step in range(start + 1, 9):
            state.global_step = step
            callback.on_step_end(None, state, None)
    assert made == [0, 3, 6, 8, 6, 8]
    assert [line["step"] for line in log.read()] == [0, 3, 6, 8], "the first process alone writes"

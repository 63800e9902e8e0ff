"""Baselines: what they answer, by hand, and that nothing is asked of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from medground.data.rows import Picture, Row
from medground.errors import ConfigError
from medground.evaluate.baselines import BASELINES, load_baseline
from medground.images import MedicalImage
from medground.parsing import parse
from medground.types import Grounding

IMAGE = MedicalImage.from_array(np.zeros((40, 80), np.uint8))


def row(name: str = "1", category: str = "optic disc", **changed) -> Row:
    given = {"box": (10, 20, 30, 40), "image_size": (80, 40), "category": category, **changed}
    return Row(id=name, question="Where?", image=Picture(path="a.png"), **given)


def answer(name: str, asked: Row, training=()) -> Grounding:
    completion = load_baseline(name, training).answer(asked, IMAGE)
    return parse(completion.text, completion.space, strict=True)


def test_places_by_hand() -> None:
    assert answer("whole-image", row()).box.xyxy == (0, 0, 80, 40)
    assert answer("centre", row()).box.xyxy == (20, 10, 60, 30)
    found = answer("oracle", row(points=((12.0, 30.0), (28.0, 31.0))))
    assert found.box.xyxy == (10, 20, 30, 40)
    assert [point.xy for point in found.points] == [(12, 30), (28, 31)]
    # A row without points gets them on the long axis of the box.
    tall = answer("oracle", row(box=(10, 0, 20, 40)))
    assert [point.xy for point in tall.points] == [(15, 10), (15, 30)]


def test_the_frame_of_a_row_is_not_its_picture_s() -> None:
    framed = row(box=(210, 420, 420, 840), image_size=(840, 840))
    assert answer("oracle", framed).box.xyxy == (20, 20, 40, 40)


def test_only_the_oracle_knows_absence() -> None:
    gone = row(box=None)
    assert {name: answer(name, gone, [row()]).absent for name in BASELINES} == {
        name: name == "oracle" for name in BASELINES
    }


def test_the_prior_is_the_mean_of_the_category_or_of_all() -> None:
    training = [
        row("a", box=(0, 0, 40, 20)),
        row("b", box=(0, 0, 80, 40)),
        row("c", "lung", box=(600, 600, 840, 840), image_size=(840, 840)),
        row("d", "lung", box=None),
    ]
    assert answer("category-prior", row(), training).box.xyxy == (0, 0, 60, 30)
    assert answer("category-prior", row(category="lung"), training).box.xyxy == (57, 29, 80, 40)
    mean = np.mean([[0, 0, 0.5, 0.5], [0, 0, 1, 1], [5 / 7, 5 / 7, 1, 1]], axis=0) * [80, 40, 80, 40]
    assert answer("category-prior", row(category="heart"), training).box.xyxy == tuple(mean.round())
    with pytest.raises(ConfigError, match="needs training rows with boxes"):
        load_baseline("category-prior", [row(box=None)])


def test_chance_is_the_row_s_own() -> None:
    one, two = answer("random", row("1")), answer("random", row("2"))
    assert one == answer("random", row("1"))
    assert one != two
    boxes = np.array([answer("random", row(str(number))).box.xyxy for number in range(300)]) / [80, 40, 80, 40]
    # Of two numbers drawn evenly from 0 to 1 the lesser is 1/3 on average and the greater 2/3.
    assert boxes.mean(axis=0) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3], abs=0.05)


def test_others_are_not_known() -> None:
    with pytest.raises(ConfigError, match="baseline 'corner' isn't known; choose one of whole-image, centre"):
        load_baseline("corner")
    assert load_baseline("centre").describe() == {"name": "centre", "baseline": BASELINES["centre"]}

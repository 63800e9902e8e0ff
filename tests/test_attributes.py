from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from drawn import ellipse
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data.attributes import Attributes, measure
from medground.errors import TruthError

EXAMPLES = settings(deadline=None, max_examples=60)
ZONES = [
    ["upper left", "upper middle", "upper right"],
    ["middle left", "centre", "middle right"],
    ["lower left", "lower middle", "lower right"],
]


def square(height: int, width: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_the_zone_is_the_field_of_the_boxs_centre(row: int, column: int) -> None:
    # 10 pixels of a field 60 wide and 40 high: in its middle, and hard by each of its corners.
    for top, left in ((15, 25), (0, 0), (0, 50), (30, 0), (30, 50)):
        mask = square(120, 180, row * 40 + top, column * 60 + left, 10)
        assert measure(mask, mask * 200).zone == ZONES[row][column]


@pytest.mark.parametrize(
    ("pixels", "size"),
    [
        (1, "tiny"),
        (100, "tiny"),
        (101, "small"),
        (400, "small"),
        (401, "medium-sized"),
        (1500, "medium-sized"),
        (1501, "large"),
        (10_000, "large"),
    ],
)
def test_the_size_is_the_share_of_the_picture(pixels: int, size: str) -> None:
    mask = (np.arange(10_000) < pixels).reshape(100, 100)
    assert measure(mask, mask * 100).size == size


@pytest.mark.parametrize(
    ("inside", "word"),
    [
        (255, "brighter than"),
        (113, "brighter than"),
        (112, "about as bright as"),
        (100, "about as bright as"),
        (88, "about as bright as"),
        (87, "darker than"),
        (0, "darker than"),
    ],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_brightness_is_told_from_12_grey_levels_on(inside: int, word: str, kind: type) -> None:
    mask = ellipse(90, 120, 40, 60, 12, 12)
    assert measure(mask, np.where(mask, inside, 100).astype(kind)).brightness == word


def test_brightness_is_told_against_a_ring_a_quarter_of_the_diameter_wide() -> None:
    mask = ellipse(200, 200, 100, 100, 20, 20)
    distance = np.hypot(*(np.mgrid[:200, :200] - 100))
    near, far = (distance > 20) & (distance < 29), distance > 32
    grey = np.full((200, 200), 100)
    grey[far] = 255  # what lies beyond the ring doesn't count
    assert measure(mask, grey).brightness == "about as bright as"
    grey[near] = 50
    assert measure(mask, grey).brightness == "brighter than"


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 99), (79, 0), (79, 99), (0, 50), (40, 99)])
def test_at_the_border_the_ring_is_what_of_it_lies_in_the_picture(row: int, column: int) -> None:
    mask = ellipse(80, 100, row, column, 20, 20)
    # On the other side of the picture all is bright: a ring that wrapped around would see it.
    rows, columns = np.mgrid[:80, :100]
    other = (np.abs(rows - row) > 40) | (np.abs(columns - column) > 50)
    for level, word in ((160, "brighter than"), (100, "about as bright as"), (40, "darker than")):
        grey = np.where(mask, level, np.where(other, 255, 100))
        assert measure(mask, grey).brightness == word


def test_a_target_that_fills_the_picture_has_no_surroundings() -> None:
    mask = np.ones((40, 60), bool)
    assert measure(mask, mask * 255) == Attributes("centre", "large", "about as bright as", "oval")


@pytest.mark.parametrize("place", [(0, 0), (0, 29), (19, 0), (19, 29), (10, 15)])
def test_one_pixel(place: tuple[int, int]) -> None:
    mask = np.zeros((20, 30), bool)
    mask[place] = True
    facts = measure(mask, mask * 90)
    assert (facts.size, facts.brightness, facts.shape) == ("tiny", "brighter than", "round")
    assert facts.zone == ZONES[place[0] * 3 // 20][place[1] * 3 // 30]
    whole = np.ones((1, 1), bool)
    assert measure(whole, whole * 90) == Attributes("centre", "large", "about as bright as", "round")


@EXAMPLES
@given(st.floats(0, 180), st.sampled_from([(1.0, "round"), (0.8, "round"), (0.58, "oval"), (0.35, "elongated")]))
def test_the_shape_is_the_ratio_of_the_axes_however_it_lies(angle: float, shape: tuple[float, str]) -> None:
    ratio, word = shape
    mask = ellipse(120, 120, 60, 60, 40 * ratio, 40, angle)
    assert measure(mask, mask * 1).shape == word


@pytest.mark.parametrize(
    ("height", "width", "word"),
    [
        (20, 20, "round"),
        (20, 27, "round"),
        (20, 30, "oval"),
        (20, 43, "oval"),
        (20, 46, "elongated"),
        (60, 20, "elongated"),
        (1, 3, "elongated"),
        (2, 4, "oval"),
        (40, 1, "elongated"),
    ],
)
def test_the_shape_of_rectangles(height: int, width: int, word: str) -> None:
    mask = np.zeros((100, 100), bool)
    mask[30 : 30 + height, 20 : 20 + width] = True
    assert measure(mask, mask * 1).shape == word
    assert measure(mask.T, mask.T * 1).shape == word


@EXAMPLES
@given(st.integers(0, 89), st.integers(0, 119), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_mirrored_picture_has_the_same_facts_on_the_other_side(
    row: int, column: int, down: int, across: int, seed: int
) -> None:
    mask = ellipse(90, 120, row, column, down, across)
    grey = np.random.default_rng(seed).integers(0, 256, mask.shape)
    here, there = measure(mask, grey), measure(mask[:, ::-1], grey[:, ::-1])
    words = {"left": "right", "right": "left"}
    centre = np.flatnonzero(mask.any(axis=0))[[0, -1]].sum() + 1
    if centre not in (80, 160):  # exactly between two fields
        expected = " ".join(words.get(word, word) for word in here.zone.split())
        assert there == dataclasses.replace(here, zone=expected)


def test_what_cant_be_measured_is_refused() -> None:
    with pytest.raises(TruthError, match="empty"):
        measure(np.zeros((5, 5), bool), np.zeros((5, 5)))
    with pytest.raises(TruthError, match=r"\(6, 5\).*\(5, 5\)"):
        measure(np.ones((5, 5), bool), np.zeros((6, 5)))
    with pytest.raises(TruthError, match="two axes"):
        measure(np.ones((5, 5, 3), bool), np.zeros((5, 5, 3)))

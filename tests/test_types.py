from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space
from medground.masks import decode_rle
from medground.types import Box, CheckedClaim, Grounding, LocatedRegion, Point, Reply, Result, Sample

PIXELS = Space.pixels(640, 480)
N1000 = Space.norm1000()
BOX = Box(64, 48, 320, 240, PIXELS)
POINTS = (Point(100, 60, PIXELS), Point(200, 120, PIXELS))
NOT_FINITE = [math.nan, math.inf, -math.inf]
NUMBERS = st.floats(-2000, 2000)


@st.composite
def boxes(draw: st.DrawFn, space: Space = PIXELS) -> Box:
    x, y = draw(NUMBERS), draw(NUMBERS)
    return Box(x, y, x + draw(st.floats(0.01, 500)), y + draw(st.floats(0.01, 500)), space)


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_coordinates_are_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Point(bad, 0, PIXELS)
    for index in range(4):
        corners = [0.0, 0.0, 1.0, 1.0]
        corners[index] = bad
        with pytest.raises(ValueError, match="finite"):
            Box(*corners, PIXELS)


@pytest.mark.parametrize("corners", [(1, 0, 1, 1), (0, 1, 1, 1), (2, 0, 1, 1), (0, 2, 1, 1)])
def test_a_box_has_an_area(corners: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="x1 < x2 and y1 < y2"):
        Box(*corners, PIXELS)


def test_values_are_frozen_comparable_and_copyable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BOX.x1 = 0  # type: ignore[misc]
    assert Box(64, 48, 320, 240, Space.pixels(640, 480)) == BOX
    assert {BOX, Box(64, 48, 320, 240, PIXELS)} == {BOX}
    assert Box(64, 48, 320, 240, N1000) != BOX
    for value in (BOX, POINTS[0], Grounding("", (BOX,), POINTS, PIXELS)):
        assert copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - our own bytes; worker processes send them


def test_clipping() -> None:
    assert Box(-10, -20, 700, 240, PIXELS).clipped().xyxy == (0, 0, 640, 240)
    assert BOX.clipped() == BOX
    with pytest.raises(ValueError, match="x1 < x2"):
        Box(700, 0, 800, 10, PIXELS).clipped()
    assert Point(-1, 500, PIXELS).clipped().xy == (0, 480)


def test_a_box_contains_its_edges_in_any_space() -> None:
    assert BOX.contains(Point(64, 48, PIXELS))
    assert BOX.contains(Point(320, 240, PIXELS))
    assert not BOX.contains(Point(63.9, 100, PIXELS))
    assert BOX.contains(Point(300, 300, N1000))
    assert not BOX.contains(Point(600, 300, N1000))


def test_known_overlaps() -> None:
    assert BOX.iou(BOX) == 1
    assert BOX.iou(BOX.to(N1000)) == pytest.approx(1)
    assert Box(0, 0, 10, 10, PIXELS).iou(Box(5, 0, 15, 10, PIXELS)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10, PIXELS).iou(Box(10, 0, 20, 10, PIXELS)) == 0  # they touch
    assert Box(0, 0, 10, 10, PIXELS).iou(Box(20, 20, 30, 30, PIXELS)) == 0
    tiny = Box(0, 0, 1e-200, 1e-200, PIXELS)
    assert tiny.iou(tiny) == 0  # its area is too small for a float


@settings(deadline=None, max_examples=150)
@given(boxes(), boxes())
def test_overlap_is_symmetric_bounded_and_free_of_the_ruler(one: Box, other: Box) -> None:
    overlap = one.iou(other)
    assert 0 <= overlap <= 1
    assert other.iou(one) == pytest.approx(overlap)
    assert one.to(N1000).iou(other.to(Space.unit())) == pytest.approx(overlap, abs=1e-9)
    assert one.iou(one) == 1
    across = max(0.0, min(one.x2, other.x2) - max(one.x1, other.x1))
    down = max(0.0, min(one.y2, other.y2) - max(one.y1, other.y1))
    assert overlap == pytest.approx(across * down / (one.area + other.area - across * down), abs=1e-12)


def test_a_grounding_keeps_to_one_space() -> None:
    for mixed in (((BOX.to(N1000),), POINTS), ((BOX,), (POINTS[0].to(N1000), POINTS[1]))):
        with pytest.raises(ValueError, match="own space"):
            Grounding("", *mixed, PIXELS)
    with pytest.raises(ValueError, match="absent"):
        Grounding("", (BOX,), (), PIXELS, absent=True)
    with pytest.raises(ValueError, match="absent"):
        Grounding("", (), POINTS, PIXELS, absent=True)
    assert Grounding("", (), (), PIXELS).box is None


def test_a_grounding_goes_to_another_space_whole() -> None:
    said = Grounding("Because.", (BOX,), POINTS, PIXELS, answer="Yes", repairs=("something",))
    there = said.to(N1000)
    assert there.space == N1000
    assert there.box.xyxy == pytest.approx((100, 100, 500, 500))
    assert (there.reasoning, there.answer, there.absent, there.repairs) == ("Because.", "Yes", False, ("something",))
    back = there.to(PIXELS)
    assert back.box.xyxy == pytest.approx(BOX.xyxy)
    assert back.points[1].xy == pytest.approx(POINTS[1].xy)
    assert {field.name for field in dataclasses.fields(Grounding)} == {
        *("reasoning", "boxes", "points", "space", "answer", "absent", "repairs")
    }, "a new field must be carried over by Grounding.to"


def test_samples_do_not_share_their_meta() -> None:
    one, other = (Sample(str(index), "image.png", "Where?", BOX, POINTS) for index in range(2))
    one.meta["source"] = "here"
    assert other.meta == {}


def mask() -> np.ndarray:
    mask = np.zeros((480, 640), bool)
    mask[48:240, 64:320] = True
    return mask


def test_a_result_is_in_source_pixels() -> None:
    said = Grounding("Because.", (BOX,), POINTS, PIXELS)
    result = Result(said, mask(), "nano", "litemedsam")
    assert (result.reasoning, result.box, result.points) == ("Because.", BOX, POINTS)
    with pytest.raises(ValueError, match="source pixels"):
        Result(said.to(N1000), None, "nano", "litemedsam")
    with pytest.raises(ValueError, match="shape"):
        Result(said, mask().T, "nano", "litemedsam")
    with pytest.raises(ValueError, match="boolean"):
        Result(said, mask().astype(np.uint8), "nano", "litemedsam")


def test_results_with_masks_can_be_compared() -> None:
    said = Grounding("", (BOX,), POINTS, PIXELS)
    one, other = Result(said, mask(), "a", "b"), Result(said, mask(), "a", "b")
    assert one == one
    assert one != other
    assert one in {one}


def test_a_result_as_json() -> None:
    said = Grounding("Because.", (Box(64.123456, 48, 320, 240, PIXELS),), POINTS, PIXELS)
    claims = (CheckedClaim("cause", "shape", 2, 7, None),)
    result = Result(said, mask(), "nano", "litemedsam", notes=("note",), claims=claims)
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (decode_rle(found.pop("mask")) == mask()).all()
    assert found == {
        "reasoning": "Because.",
        "bbox": [64.12, 48, 320, 240],
        "points": [[100, 60], [200, 120]],
        "absent": False,
        "width": 640,
        "height": 480,
        "reasoner": "nano",
        "segmenter": "litemedsam",
        "coordinates": "source pixels",
        "answer": None,
        "claims": [{"text": "cause", "facet": "shape", "start": 2, "end": 7, "agrees": None}],
        "notes": ["note"],
        "source": {},
    }


def test_an_absent_target_as_json() -> None:
    found = Result(Grounding("", (), (), PIXELS, absent=True), None, "nano", "litemedsam").to_dict()
    assert (found["bbox"], found["points"], found["mask"], found["absent"]) == (None, [], None, True)


# ---- replies ----


def test_a_reply_and_its_regions_check_themselves() -> None:
    with pytest.raises(ValueError, match="has a name"):
        LocatedRegion(" ", BOX)
    with pytest.raises(ValueError, match="source pixels"):
        LocatedRegion("heart", BOX.to(N1000))
    with pytest.raises(ValueError, match="shape"):
        LocatedRegion("heart", BOX, mask().T)
    with pytest.raises(ValueError, match="has an answer"):
        Reply(" ", "open", PIXELS)
    with pytest.raises(ValueError, match="source pixels"):
        Reply("Yes", "closed", N1000)
    with pytest.raises(ValueError, match="own space"):
        Reply("Yes", "closed", Space.pixels(8, 8), regions=(LocatedRegion("heart", BOX),))
    with pytest.raises(ValueError, match="own space"):
        Reply("Yes", "closed", PIXELS, mentions=(("heart", BOX.to(N1000)),))


def test_a_reply_as_json() -> None:
    regions = (LocatedRegion("heart", BOX, mask()), LocatedRegion("lung", BOX))
    reply = Reply(
        "B", "single_choice", PIXELS, ("heart",), "Because.", (("heart", BOX),), regions, "nano", notes=("note",)
    )
    found = json.loads(json.dumps(reply.to_dict(), allow_nan=False))
    assert (decode_rle(found["regions"][0].pop("mask")) == mask()).all()
    place = [round(value, 2) for value in BOX.xyxy]
    assert found == {
        "answer": "B",
        "chosen": ["heart"],
        "question_type": "single_choice",
        "reasoning": "Because.",
        "mentions": [{"ref": "heart", "box": place}],
        "regions": [{"ref": "heart", "box": place}, {"ref": "lung", "box": place, "mask": None}],
        "width": 640,
        "height": 480,
        "reasoner": "nano",
        "segmenter": "none",
        "coordinates": "source pixels",
        "notes": ["note"],
        "source": {},
    }
    assert reply == reply
    assert reply in {reply}

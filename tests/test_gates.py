from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from drawn import ellipse
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data.gates import CENTRE, centre_share, chance_share, overlaps, plain_question, refuse, too_central
from medground.masks import box_of, encode_rle, key_points
from medground.rewards.evidence import Facts

MASK = ellipse(90, 120, 15, 100, 8, 8)
GREY = 60.0 + 120 * MASK
GOOD: dict[str, Any] = {
    "id": "pic/spleen/q1",
    "question": "Where is the organ that filters old red blood cells?",
    "reasoning": (
        "This describes the spleen. It lies in the upper right of the scan, is small and round, and is brighter than "
        "its surroundings."
    ),
    "category": "spleen",
    "split": "train",
    "template": "t01",
    "absent": False,
    "bbox": list(box_of(MASK).xyxy),
    "points": [list(point.xy) for point in key_points(MASK)],
    "mask": encode_rle(MASK),
    "width": 120,
    "height": 90,
    "facts": Facts.measure(MASK, GREY).to_dict(),
}
GONE = {
    **GOOD,
    "absent": True,
    "bbox": None,
    "points": [],
    "mask": None,
    "facts": None,
    "reasoning": "This describes the spleen. This scan shows the heart. So there is nothing here to mark.",
}


def test_good_records_pass() -> None:
    assert refuse(GOOD) is None
    assert refuse(GONE) is None
    assert refuse({**GOOD, "split": "test", "template": "h01"}) is None
    assert refuse({**GOOD, "template": ""}) is None  # no frame made it


@pytest.mark.parametrize(
    ("record", "change", "reason"),
    [
        (GOOD, {"question": "Where is the spleen?"}, "the question names its target: 'spleen'"),
        (GOOD, {"question": "Which splenic region do you see?"}, "the question names its target: 'splenic'"),
        (GONE, {"question": "Is the spleen in this scan?"}, "the question names its target: 'spleen'"),
        (GOOD, {"question": "Where?"}, "the form of the question: 1 words"),
        (GOOD, {"question": " ".join(["where"] * 81) + "?"}, "the form of the question: 81 words"),
        (GOOD, {"question": "Where is " + "x" * 4000 + " it?"}, "the form of the question: 4 words"),
        (GOOD, {"question": "Where is it seen"}, "the form of the question: it must end with"),
        (GOOD, {"question": " Where is it seen?"}, "the form of the question: it must end with"),
        (GOOD, {"question": "Where is the caf\u00e9?"}, "the form of the question: it has characters beyond"),
        (GOOD, {"question": "Where is\nthis organ?"}, "the form of the question: it has characters beyond"),
        (GOOD, {"reasoning": " "}, "the form of the reasoning"),
        (GOOD, {"reasoning": GOOD["reasoning"] + " \u2713"}, "the form of the reasoning"),
        (GOOD, {"category": "flux capacitor"}, "the category isn't in the taxonomy"),
        (GOOD, {"template": "h01"}, "the frame of the question: it is held out"),
        (GOOD, {"split": "val"}, "the frame of the question: it is one of training questions"),
        (GOOD, {"split": "test"}, "the frame of the question: it is one of training questions"),
        (GOOD, {"reasoning": GOOD["reasoning"].replace("small", "large")}, "a claim that is false: size large"),
        (GOOD, {"reasoning": GOOD["reasoning"].replace("upper right", "lower left")}, "a claim that is false: place"),
        (GOOD, {"reasoning": GOOD["reasoning"] + " It consists of two parts."}, "a claim that is false: parts two"),
        (GOOD, {"reasoning": "It is small and round."}, "the right answer doesn't earn full marks: evidence 0.50"),
        (GOOD, {"reasoning": " ".join([GOOD["reasoning"]] * 4)}, "the right answer doesn't earn full marks: repet"),
        (GOOD, {"bbox": [9, 9, 5, 20]}, "the truth can't be read"),
        (GOOD, {"bbox": [0, 0, 500, 20]}, "the truth can't be read"),
        (GOOD, {"points": []}, "the truth can't be read"),
        (GOOD, {"mask": {"size": [90, 120], "counts": "###"}}, "the truth can't be read"),
        (GOOD, {"facts": {"size": ["smal"]}}, "the truth can't be read"),
        (GONE, {"reasoning": "It is small. So it isn't here."}, "a claim about an absent target: small"),
    ],
)
def test_what_is_refused_and_why(record: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    said = refuse({**record, **change})
    assert said is not None
    assert said.startswith(reason)


@given(st.text(max_size=60))
def test_same_questions_are_told_whatever_their_case_and_blanks(text: str) -> None:
    assert plain_question(text) == plain_question(f"  {text.upper().lower()} ?") or not text.isascii()
    assert plain_question(plain_question(text)) == plain_question(text)


# -- the set ----------------------------------------------------------------------------------------------------------

corner = st.floats(0, 0.8)
side = st.floats(0.05, 0.2)
boxes = st.builds(lambda x, y, wide, high: (x, y, x + wide, y + high), corner, corner, side, side)


@settings(max_examples=60)
@given(boxes, boxes)
def test_overlaps_agrees_with_intersection_over_union(one: tuple[float, ...], other: tuple[float, ...]) -> None:
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    shared = across * down
    if abs(shared / (areas - shared) - 0.5) > 1e-9:
        assert overlaps(np.array(one), np.array(other))[0] == (shared / (areas - shared) > 0.5)


def test_centre_and_chance_by_hand() -> None:
    away = [(0.0, 0.0, 0.1, 0.1), (0.9, 0.9, 1.0, 1.0), (0.0, 0.9, 0.1, 1.0), (0.9, 0.0, 1.0, 0.1)]
    assert centre_share(np.array([CENTRE, *away])) == 0.2
    assert chance_share(np.array(away)) == 0
    assert chance_share(np.array([CENTRE] * 5)) == 1
    # Two of four share their box: each finds its twin in one shift of three.
    assert chance_share(np.array([away[0], away[0], away[1], away[2]])) == pytest.approx(2 / 4 / 3)
    assert centre_share(np.zeros((0, 4))) == chance_share(np.zeros((1, 4))) == 0


def test_a_set_of_central_boxes_among_others_is_too_central() -> None:
    spread = [(x / 100, y / 10, x / 100 + 0.02, y / 10 + 0.05) for x in range(95) for y in range(9)]
    assert too_central(spread) is None
    said = too_central([*spread, *[CENTRE] * 100])
    assert said is not None
    assert said.startswith("the centre box answers 10.5 %")
    assert too_central([CENTRE] * 100) is None  # chance answers all of them, too
    assert too_central([]) is None
    # A few in many are within what chance may do.
    assert too_central([*spread, CENTRE]) is None
    assert too_central([*spread, CENTRE], errors=0.0) is not None

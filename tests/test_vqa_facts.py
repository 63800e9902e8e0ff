from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.data.attributes import zone_of
from medground.data.vqa.facts import BOTH, COVERS, comparisons, cup_to_disc, facts
from medground.data.vqa.scene import Scene, Thing

WIDTH, HEIGHT = 200, 100


def thing(name="colon polyp", box=(20, 10, 60, 30), share=None, contrast=0.0, ratio=0.5, steepness=1.5):
    x1, y1, x2, y2 = box
    x, y = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT
    seen = {
        "x": x,
        "y": y,
        "zone": zone_of(x, y),
        "share": (x2 - x1) * (y2 - y1) / WIDTH / HEIGHT if share is None else share,
        "contrast": contrast,
        "axis_ratio": ratio,
        "steepness": steepness,
        "extent": [x2 - x1, y2 - y1],
    }
    return Thing(name, name, box, seen)


def scene(*things):
    return Scene("a.png", WIDTH, HEIGHT, "CT", "", "", "", "", things, frozenset(), frozenset(), "")


def values(one):
    return {aspect: value for aspect, (value, _) in facts(one, scene(one)).items()}


boxes = st.tuples(st.integers(0, 190), st.integers(0, 90), st.integers(4, 200), st.integers(4, 100)).map(
    lambda box: (box[0], box[1], min(box[0] + box[2], WIDTH), min(box[1] + box[3], HEIGHT))
)


@settings(max_examples=150)
@given(boxes)
def test_a_value_is_told_where_it_is_clear_and_then_it_is_true(box):
    found, (x1, y1, x2, y2) = values(thing(box=box)), box
    x, y, share = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) * (y2 - y1) / WIDTH / HEIGHT
    assert found.get("across") in {None, "left half" if x < 0.5 else "right half"}
    assert found.get("down") in {None, "upper half" if y < 0.5 else "lower half"}
    assert ("across" in found) == (abs(x - 0.5) >= 0.03)
    assert found.get("place") in {None, zone_of(x, y)}
    for bound in COVERS:
        assert found.get(f"over {bound:g}") in {None, "more" if 100 * share > bound else "less"}
    if "border" in found:
        assert (found["border"] == "reached") == (min(x1, y1, WIDTH - x2, HEIGHT - y2) == 0)
    if "lie" in found:
        assert (found["lie"] == "wider than high") == (x2 - x1 > y2 - y1)


@settings(max_examples=100)
@given(boxes)
def test_a_mirrored_target_is_on_the_other_side(box):
    x1, y1, x2, y2 = box
    here, there = (values(thing(box=each)) for each in (box, (WIDTH - x2, y1, WIDTH - x1, y2)))
    turned = {"left half": "right half", "right half": "left half", None: None}
    assert there.get("across") == turned[here.get("across")]
    assert here.get("down") == there.get("down")
    assert here.get("size") == there.get("size")


@pytest.mark.parametrize(
    ("contrast", "ratio", "look"),
    [
        (40, 0.9, "round and brighter"),
        (-40, 0.3, "elongated and darker"),
        (3, 0.6, "oval and about as bright"),
        (12, 0.9, None),
        (40, 0.7, None),
        (40, 0.45, None),
    ],
)
def test_looks(contrast, ratio, look):
    assert values(thing(contrast=contrast, ratio=ratio)).get("look") == look


def test_what_is_near_a_border_between_two_values_has_none():
    assert "size" not in values(thing(share=0.0105))
    assert "over 1" not in values(thing(share=0.0105))
    assert values(thing(share=0.0105))["over 2"] == "less"
    assert "edge" not in values(thing(steepness=1.9))


@settings(max_examples=100)
@given(boxes, boxes)
def test_comparisons_of_two_are_the_same_the_other_way_about(one, other):
    a, b = thing("left lung", one), thing("right lung", other)
    here, there = comparisons(a, b, scene(a, b)), comparisons(b, a, scene(a, b))
    assert {aspect: value for aspect, (value, _) in here.items()} == {
        aspect: value for aspect, (value, _) in there.items()
    }
    if "higher" in here:
        assert (here["higher"][0] == "left lung") == (one[1] < other[1])
    if "lower" in here:
        assert (here["lower"][0] == "left lung") == (one[3] > other[3])


def test_two_that_are_alike():
    a, b = thing("left lung", (10, 10, 40, 60)), thing("right lung", (110, 10, 140, 60))
    found = comparisons(a, b, scene(a, b))
    assert {aspect: found[aspect][0] for aspect in ("area", "taller", "wider")} == dict.fromkeys(
        ("area", "taller", "wider"), BOTH
    )
    assert found["left"][0] == "left lung"
    assert "higher" not in found


def test_cup_to_disc():
    cup, disc = thing("optic cup", (20, 20, 40, 46)), thing("optic disc", (15, 10, 60, 60))
    assert {bound: value for bound, (value, _) in cup_to_disc(cup, disc).items()} == {
        "0.4": "above",
        "0.5": "above",
        "0.6": "below",
        "0.7": "below",
    }

"""The medground recipe: full marks for gold on every row, less for anything else, and nothing for tricks."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import ellipse
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from medground.coords import Space, space_named
from medground.data.build import build_sample, grey_levels, partners
from medground.data.open_masks import load_mask, read_open_masks
from medground.errors import TruthError
from medground.parsing import format_answer
from medground.rewards import RECIPES, Truth, gold, score, score_batch
from medground.rewards.box import box as box_term
from medground.rewards.grounding import WEIGHTS
from medground.types import Box, Point

REAL = Path(os.environ.get("MEDGROUND_OPEN_MASKS", Path(__file__).parents[2] / "shared" / "data" / "open-masks"))
SPACES = [Space.pixels(300, 200), Space.norm1000(), Space.norm1000("yx"), Space.unit()]

MASK = ellipse(200, 300, 60, 200, 20, 40)
GREY = np.where(MASK, 200.0, 50.0)
TRUE_WORDS = "It lies in the upper middle of the image, is small and oval, and is brighter than its surroundings."


def a_truth(space: Space | None = None, **changed: object) -> Truth:
    truth = replace(Truth.from_mask(MASK, GREY), **changed)
    return truth.to(space) if space else truth


def located(truth: Truth, box: tuple[float, ...], *points: tuple[float, float], think: str = TRUE_WORDS) -> dict:
    """Score a location given in source pixels."""
    ruler = Space.pixels(300, 200)
    text = format_answer(Box(*box, ruler), [Point(*xy, ruler) for xy in points], truth.space, reasoning=think)
    return score(text, truth)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gold_earns_full_marks_on_every_ruler(space: Space) -> None:
    truth = a_truth(space)
    earned = score(gold(truth, TRUE_WORDS), truth)
    assert set(earned) == {*WEIGHTS, "score"} - {"mask"}
    assert set(earned.values()) == {1.0}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_gold_earns_full_marks_without_reasoning_where_none_was_asked_for(space: Space) -> None:
    truth = a_truth(space, mode="direct")
    earned = score(gold(truth), truth)
    assert set(earned.values()) == {1.0}
    assert {"evidence", "honesty"}.isdisjoint(earned)


@settings(max_examples=150)
@given(
    st.integers(20, 4000),
    st.integers(20, 4000),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
    st.sampled_from(["pixels", "0-1", "0-1000", "0-1000 yx"]),
)
def test_gold_earns_full_marks_whatever_the_numbers(
    width: int, height: int, parts: list[float], coordinates: str
) -> None:
    xs, ys = sorted(parts[:2]), sorted(parts[2:4])
    if xs[1] - xs[0] < 1e-3 or ys[1] - ys[0] < 1e-3:
        return
    picture = Space.pixels(width, height)
    box = Box(xs[0] * width, ys[0] * height, xs[1] * width, ys[1] * height, picture)
    points = [[box.x1 + u * box.width, box.y1 + v * box.height] for u, v in (parts[4:6], parts[6:8])]
    points = [[min(x, width), min(y, height)] for x, y in points]
    row = {"bbox_2d": list(box.xyxy), "point_2d": points, "image_size": [width, height]}
    truth = RECIPES["medground"].read_truth(row, None)

    space = space_named(coordinates, width, height)
    said = gold(truth.to(space), "A pale band.")
    earned = score(said, row, space=space)
    assert set(earned.values()) == {1.0}, earned
    assert score(said, truth.to(space)) == earned


@pytest.mark.parametrize("facts", [{}, {"parts": ["one"]}], ids=["none", "nothing that needs a look"])
def test_gold_earns_full_marks_where_no_claim_can_earn(facts: dict) -> None:
    earned = score(f"<think>A pale band.</think><answer>{ANSWER}</answer>", {**ROW, "facts": facts})
    assert set(earned.values()) == {1.0}
    assert "evidence" not in earned


def test_gold_earns_full_marks_for_an_absent_target() -> None:
    row = {"absent": True}
    earned = score('<think>No such thing can be seen.</think><answer>{"absent": true}</answer>', row)
    assert set(earned.values()) == {1.0}
    assert score(gold(Truth(SPACES[0]), "Nothing."), Truth(SPACES[0])) == earned


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real masks aren't at {REAL}; set MEDGROUND_OPEN_MASKS")
def test_gold_earns_full_marks_on_real_targets() -> None:
    targets = read_open_masks(REAL)
    pairs = partners(targets)
    for target in random.Random(3).sample(targets, 120):
        sample = build_sample(target, pairs.get(target.id), seed=1, held_out=False)
        truth = Truth.from_mask(load_mask(target), grey_levels(target))
        for space in (Space.norm1000(), truth.space):
            earned = score(gold(truth.to(space), sample.reasoning), truth, space=space)
            assert set(earned.values()) == {1.0}, (target.id, space.name, earned, sample.reasoning)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real masks aren't at {REAL}; set MEDGROUND_OPEN_MASKS")
def test_a_sample_is_a_truth() -> None:
    targets = read_open_masks(REAL, "test")
    sample = build_sample(targets[0], None, seed=1, held_out=False)
    read = RECIPES["medground"].read_truth(sample, None)
    assert (read.mask == load_mask(targets[0])).all()
    assert score(format_answer(sample.box, sample.points, read.space, reasoning=sample.reasoning), sample)["box"] == 1


ANSWER = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
ROW = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
UNREADABLE = {
    "": "nothing was said",
    "I cannot see any abnormality.": "no answer block",
    f"<think>a</think>{ANSWER}": "the location stands outside a block",
    f"<think>a</think><answer>{ANSWER}": "the block isn't closed",
    f"</answer><answer>{ANSWER}": "the block closes before it opens",
    f"<answer>{ANSWER}</answer><answer>{ANSWER}</answer>": "two answers",
    f"<answer><answer>{ANSWER}</answer></answer>": "an answer in an answer",
    "<answer>{'bbox': [100, 100, 300, 200], 'points_1': [150, 150], 'points_2': [250, 150]}</answer>": "not JSON",
    '<answer>{"bbox": [100, 100, 300, 200]}</answer>': "no points",
    f'<answer>{ANSWER[:-1]}, "score": 1}}</answer>': "a key that wasn't asked for",
    f'<answer>{ANSWER[:-1]}, "absent": true}}</answer>': "there and absent",
    '<answer>{"absent": "true"}</answer>': "a text, not true",
    '<answer>{"absent": false}</answer>': "no location",
    f"<answer>[{ANSWER}]</answer>": "a list of answers",
    f"<answer>{ANSWER.replace('300', '100')}</answer>": "a box without area",
    f"<answer>{ANSWER.replace('[100, 100, 300', '[300, 100, 100')}</answer>": "swapped corners",
    f"<answer>{ANSWER.replace('300', '9000')}</answer>": "beyond the picture",
    f"<answer>{ANSWER.replace('300', '-3')}</answer>": "before the picture",
    f"<answer>{ANSWER.replace('300', 'NaN')}</answer>": "not a number",
    f"<answer>{ANSWER.replace('300', '1e999')}</answer>": "infinite",
    f"<answer>{ANSWER.replace('300', '٣٠٠')}</answer>": "digits that JSON doesn't know",
    f"<answer>{ANSWER.replace('300', 'true')}</answer>": "a truth value for a number",
    f"<answer>{ANSWER.replace('300', '[300]')}</answer>": "a list for a number",
}


@pytest.mark.parametrize("completion", UNREADABLE, ids=UNREADABLE.values())
@pytest.mark.parametrize("row", [ROW, {"absent": True}, {**ROW, "mode": "direct"}], ids=["present", "absent", "direct"])
def test_what_cannot_be_read_earns_nothing(completion: str, row: dict) -> None:
    assert set(score(completion, row).values()) == {0.0}


FORMATS = [
    (f"<think>A band.</think><answer>{ANSWER}</answer>", 1.0, "as asked for"),
    (f" <think>A band.</think>\n<answer> {ANSWER} </answer>\n", 1.0, "white space is no text"),
    ('<think>None.</think><answer>{"absent": true}</answer>', 1.0, "absent, as asked for"),
    (f"<answer>{ANSWER}</answer>", 0.75, "no reasoning"),
    (f"<think> </think><answer>{ANSWER}</answer>", 0.75, "empty reasoning"),
    (f"<think>\u200b</think><answer>{ANSWER}</answer>", 0.75, "a blank of no width is no word"),
    (f"<think>...</think><answer>{ANSWER}</answer>", 0.75, "nor are full stops"),
    (f"<think>亮区</think><answer>{ANSWER}</answer>", 1.0, "words in another script"),
    (f"Sure! <think>A band.</think><answer>{ANSWER}</answer>", 0.75, "text before"),
    (f"<think>A band.</think> So: <answer>{ANSWER}</answer>", 0.75, "text between"),
    (f"<think>A band.</think><answer>{ANSWER}</answer> I hope this helps.", 0.75, "text after"),
    (f"A band. <answer>{ANSWER}</answer>", 0.5, "reasoning without its tags"),
    (f"<think>A</think><think>B</think><answer>{ANSWER}</answer>", 0.5, "two reasonings"),
    (f"<think>A<answer>{ANSWER}</answer></think>", 0.5, "an answer within the reasoning"),
    (f"<answer>{ANSWER}</answer><think>A</think>", 0.5, "reasoning after the answer"),
]


@pytest.mark.parametrize(("completion", "worth"), [row[:2] for row in FORMATS], ids=[row[2] for row in FORMATS])
def test_layout_is_graded(completion: str, worth: float) -> None:
    earned = score(completion, ROW)
    assert earned["format"] == worth
    assert earned["absence"] == float("absent" not in completion)


def test_direct_answers_have_no_reasoning() -> None:
    row = {**ROW, "mode": "direct"}
    assert score(f"<answer>{ANSWER}</answer>", row)["score"] == 1.0
    assert score(f"<think>A band.</think><answer>{ANSWER}</answer>", row)["format"] == 0.75


def test_reasoning_outside_its_block_earns_nothing() -> None:
    truth = a_truth()
    inside, outside = gold(truth, TRUE_WORDS), TRUE_WORDS + gold(truth, "It is there.")
    assert score(inside, truth)["evidence"] == 1.0
    assert score(outside, truth)["evidence"] == 0.0


@pytest.mark.parametrize("term", ["box", "points_dice", "points_inside"])
def test_a_worse_location_earns_less(term: str) -> None:
    truth = a_truth()
    (ax, ay), (bx, by) = (point.xy for point in truth.points)
    worth = []
    for shift in (0, 3, 10, 30, 60, 90):
        x1, y1, x2, y2 = truth.box.xyxy
        worth.append(
            located(truth, (x1 - shift, y1, x2 - shift, y2), (ax - shift, ay), (bx - shift, by))[term],
        )
    assert worth == sorted(worth, reverse=True)
    assert worth[0] == 1.0
    assert worth[-1] < 0.1


@given(st.lists(st.integers(0, 100), min_size=8, max_size=8), st.floats(0.05, 0.95))
def test_a_box_that_misses_earns_more_on_the_straight_way_to_the_target(edges: list[int], way: float) -> None:
    space = Space.pixels(200, 200)
    x1, y1, x2, y2, u1, v1, u2, v2 = edges
    true = Box(x1, y1, x1 + x2 + 1, y1 + y2 + 1, space)
    far = Box(u1, v1, u1 + u2 + 1, v1 + v2 + 1, space)
    assume(far.iou(true) == 0)
    across = (true.x1 + true.x2 - far.x1 - far.x2) / 2 * way
    down = (true.y1 + true.y2 - far.y1 - far.y2) / 2 * way
    near = Box(far.x1 + across, far.y1 + down, far.x2 + across, far.y2 + down, space)
    assert box_term(near, true) > box_term(far, true)
    assert box_term(far, true) < 0.1


def test_a_box_that_misses_earns_more_the_nearer_it_comes() -> None:
    truth = a_truth()
    worth = [located(truth, (x, 150, x + 20, 160), (x + 1, 151), (x + 9, 152))["box"] for x in (10, 60, 110, 150)]
    assert worth == sorted(worth)
    assert len(set(worth)) == 4


# What a policy may try instead of looking.


def test_a_box_around_the_whole_picture_does_not_pay() -> None:
    truth = a_truth()
    share = truth.box.area / (300 * 200)
    whole = located(truth, (0, 0, 300, 200), *(point.xy for point in truth.points))
    assert whole["box"] < share + 0.1
    x1, y1, x2, y2 = truth.box.xyxy
    rough = located(truth, (x1 + 25, y1 + 12, x2 + 25, y2 + 12), *(point.xy for point in truth.points))
    assert rough["score"] > whole["score"] + 0.05


def test_one_place_twice_does_not_pay() -> None:
    truth = a_truth()
    first = truth.points[0].xy
    assert located(truth, truth.box.xyxy, first, first)["points_dice"] == 0
    off = (first[0] + 6, first[1] + 4)
    assert located(truth, truth.box.xyxy, off, truth.points[1].xy)["score"] > 0.95


def test_the_middle_of_a_ring_is_not_inside() -> None:
    ring = ellipse(200, 300, 100, 150, 80, 80) & ~ellipse(200, 300, 100, 150, 60, 60)
    truth = Truth.from_mask(ring)
    middle = located(truth, truth.box.xyxy, (150, 100), (155, 100))
    assert middle["points_inside"] == 0
    assert located(replace(truth, mask=None), truth.box.xyxy, (150, 100), (155, 100))["points_inside"] == 1
    assert located(truth, truth.box.xyxy, (150, 30), (150, 100))["points_inside"] == 0.5


def test_several_answers_are_none() -> None:
    truth = a_truth()
    good = gold(truth, TRUE_WORDS)
    block = good[good.index("<answer>") :]
    assert score(good + block, truth)["score"] == 0
    assert score(good.replace(block, "") + '<answer>{"absent": true}</answer>' + block, truth)["score"] == 0


def test_text_outside_the_blocks_costs() -> None:
    truth = a_truth()
    good = gold(truth, TRUE_WORDS)
    for said in (f"Sure. {good}", f"{good} Done.", good.replace("</think>", "</think> Thus")):
        assert score(said, truth)["score"] < score(good, truth)["score"]


def mean_score(completion: str | None, absent_share: float) -> float:
    """Return the mean score over rows of which a share is absent; None answers each row rightly."""
    rows = [{"absent": True}] * round(20 * absent_share) + [ROW] * round(20 * (1 - absent_share))
    answers = [
        completion
        or (
            '<think>a</think><answer>{"absent": true}</answer>'
            if "absent" in row
            else f"<think>a</think><answer>{ANSWER}</answer>"
        )
        for row in rows
    ]
    return float(np.mean([earned["score"] for earned in score_batch(answers, rows)]))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_always_answering_absent_does_not_pay(share: float) -> None:
    always = '<think>a</think><answer>{"absent": true}</answer>'
    poor = f"<think>a</think><answer>{ANSWER.replace('[100, 100, 300, 200]', '[50, 100, 250, 200]')}</answer>"
    assert mean_score(always, share) < mean_score(None, share) - (1 - share) / 2
    assert mean_score(always, share) < mean_score(poor, share) or share == 0.5


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_never_answering_absent_does_not_pay(share: float) -> None:
    never = f"<think>a</think><answer>{ANSWER}</answer>"
    assert mean_score(never, share) < mean_score(None, share) - share / 2


def test_copies_of_a_sentence_cost() -> None:
    truth = a_truth()
    once = score(gold(truth, TRUE_WORDS), truth)
    many = score(gold(truth, " ".join([TRUE_WORDS] * 6)), truth)
    assert many["repetition"] < 0.5
    assert many["evidence"] == once["evidence"]
    assert many["score"] < once["score"]


@pytest.mark.parametrize("copy", ["small.and,round-", "oval/", "x", "它很小，", "それは小さい", "A\u200bB_C"])
def test_copies_without_blanks_cost(copy: str) -> None:
    truth = a_truth()
    assert score(gold(truth, copy * (3000 // len(copy))), truth)["repetition"] < 0.2
    assert score(gold(truth, copy), truth)["repetition"] == 1.0


def test_endless_answers_cost() -> None:
    truth = a_truth()
    words = " ".join(f"word{number}" for number in range(3000))
    endless = score(gold(truth, f"{TRUE_WORDS} {words}"), truth)
    assert endless["length"] == 0
    assert endless["repetition"] == 1
    assert endless["score"] < score(gold(truth, TRUE_WORDS), truth)["score"]


@settings(max_examples=200)
@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.sampled_from(SPACES))
def test_every_term_is_from_0_to_1(parts: list[float], space: Space) -> None:
    truth = a_truth(space)
    x1, x2 = sorted(parts[:2])
    y1, y2 = sorted(parts[2:4])
    if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
        return
    box = (x1 * 300, y1 * 200, x2 * 300, y2 * 200)
    earned = located(truth, box, (parts[4] * 300, parts[5] * 200), (parts[6] * 300, parts[7] * 200))
    assert all(0 <= value <= 1 and math.isfinite(value) for value in earned.values())


def test_rounding_to_the_ruler_is_no_fault_and_more_than_that_is() -> None:
    truth = a_truth(Space.norm1000())
    said = json.loads(gold(truth, "a").partition("<answer>")[2].removesuffix("</answer>"))
    for key, place, step in itertools.product(("bbox", "points_1"), (0, 1), (-1, 1)):
        moved = json.loads(json.dumps(said))
        moved[key][place] += step
        earned = score(f"<think>a</think><answer>{json.dumps(moved)}</answer>", truth)
        assert 0.9 < min(earned["box"], earned["points_dice"]) < 1


def test_a_truth_without_points_has_no_gold() -> None:
    with pytest.raises(TruthError, match="point_2d"):
        gold(a_truth(points=()), "a")
    earned = located(a_truth(points=()), a_truth().box.xyxy, (200, 60), (190, 60))
    assert earned["points_dice"] == earned["points_inside"] == 1.0

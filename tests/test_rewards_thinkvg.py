"""ThinkVG's rewards on completions that keep, bend and break the layout, and truths in the layouts of both sets."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space
from medground.errors import ConfigError, TruthError
from medground.rewards import RECIPES, score, score_batch
from medground.rewards.judges import JudgeItem
from medground.rewards.thinkvg import consistency, grounding, layout_kept, thinkvg_recipe
from medground.rewards.thinkvg_reading import MAX_BOXES, Response, format_response, read_mentions, read_response
from medground.rewards.vqa_truth import VqaTruth, choices_of, read_vqa_truth
from medground.types import Box

FRAME = Space.pixels(224, 224)
LEFT, RIGHT, HEART = (Box(*xyxy, FRAME) for xyxy in ((121, 102, 179, 192), (30, 102, 90, 192), (80, 110, 150, 180)))
ONE = {"answer": "Yes", "question_type": "closed", "boxes": [[121, 102, 179, 192]]}
TWO = ONE | {"boxes": [[121, 102, 179, 192], [30, 102, 90, 192]]}
NONE: dict[str, Any] = ONE | {"boxes": []}


def place(*boxes: str) -> str:
    return "".join(f"<ref>lung</ref><box>{box}</box>" for box in boxes)


def said(location: str, answer: str = "Yes", think: str = "Left base (region [121, 102, 179, 192]) is pale.") -> str:
    return f"<think>{think}</think><response><answer>{answer}</answer><location>{location}</location></response>"


GOLD = said(place("[121, 102, 179, 192]"))
GOLD_TWO = said(
    place("[121, 102, 179, 192]", "[30, 102, 90, 192]"),
    think="Pale on the left (region [121, 102, 179, 192]) and on the right (region [30, 102, 90, 192]).",
)
BARE = "<think>Nothing to point at.</think><response><answer>Yes</answer></response>"
FULL = {"semantic": 1.0, "grounding": 1.0, "format": 1.0, "consistency": 1.0, "score": 1.0}


def terms(text: str, truth: Any = None, **options: Any) -> tuple[float, float, float, float]:
    earned = score(text, truth or ONE, thinkvg_recipe(**options))
    return earned["semantic"], earned["grounding"], earned["format"], earned["consistency"]


# ---- reading completions ----

# (completion, semantic, grounding, format, consistency, why); the truth is ONE
COMPLETIONS = [
    (GOLD, 1, 1, 1, 1, "as asked"),
    (f"  {GOLD}\n", 1, 1, 1, 1, "white space around it"),
    (GOLD.replace("><", ">\n<"), 1, 1, 1, 1, "a line for each block"),
    (said(place("[[121, 102, 179, 192]]")), 1, 1, 1, 1, "a list of one box"),
    (said(place("[121.0, 102, 179, 192]")), 1, 1, 1, 1, "a decimal"),
    (GOLD.replace("Yes", "No"), 0, 1, 1, 1, "a wrong answer"),
    (GOLD.replace("<think>", "").replace("</think>", ""), 1, 1, 0.75, 1, "reasoning without its tags"),
    (GOLD.replace("</think>", ""), 1, 1, 0.75, 1, "reasoning that isn't closed"),
    (f"Sure. {GOLD}", 1, 1, 0.75, 1, "words before the reasoning"),
    (f"{GOLD} Done.", 1, 1, 0.75, 1, "words after the response"),
    (GOLD.replace("<response>", "").replace("</response>", ""), 1, 1, 0.75, 1, "no response block"),
    (GOLD.replace("</response>", ""), 1, 1, 0.75, 1, "a response that isn't closed"),
    (GOLD.replace("<answer>", "So: <answer>"), 1, 1, 0.75, 1, "words before the answer"),
    (GOLD.replace("<location>", "").replace("</location>", ""), 1, 1, 0.75, 1, "boxes without a location block"),
    (said("[[121, 102, 179, 192]]"), 1, 1, 0.75, 1, "GEMeX's bare list"),
    (said("<box>[121, 102, 179, 192]</box>"), 1, 1, 0.75, 1, "a box without a name"),
    (said("<ref></ref><box>[121, 102, 179, 192]</box>"), 1, 1, 0.75, 1, "an empty name"),
    (said(place("[121, 102, 179, 192]") + " there"), 1, 1, 0.75, 1, "words after the box"),
    (GOLD.replace("is pale", "is <answer>pale</answer>"), 1, 1, 0.75, 1, "an answer in the reasoning"),
    (said(place("[121, 102, 179, 192]"), think=" "), 1, 1, 0.75, 0, "empty reasoning, so no region is named"),
    (said(place("[121, 102, 179, 192]"), think="It is pale."), 1, 1, 1, 0, "no region is named"),
    (said(""), 1, 0, 1, 0, "no box where one is asked"),
    (BARE, 1, 0, 1, 0, "no location where one is asked"),
    (said(place("[192, 102, 121, 192]")), 1, 0, 0.75, 0, "swapped corners"),
    (said(place("[121, 102, 121, 192]")), 1, 0, 0.75, 0, "no area"),
    (said(place("[121, 102, 179]")), 1, 0, 0.75, 0, "three numbers"),
    (said(place("121, 102, 179, 192")), 1, 0, 0.75, 0, "no brackets"),
    (said(place("[121, 102, 179, 500]")), 1, 0, 0.75, 0, "far outside the picture"),
    (said(place("[121, 102, 179, NaN]")), 1, 0, 0.75, 0, "not a number"),
    (said(place("[121, 102, 179, 1e308]")), 1, 0, 0.75, 0, "a number without end"),
    (said(place("[true, 102, 179, 192]")), 1, 0, 0.75, 0, "a truth value"),
    (said(place("[121, 102, 179, " + "9" * 5000 + "]")), 1, 0, 0.75, 0, "an integer too long to convert"),
    (said(place("[١٢١, 102, 179, 192]")), 1, 0, 0.75, 0, "digits of another script"),
    (said(place('["121", 102, 179, 192]')), 1, 0, 0.75, 0, "a number in quotes"),
    (said(place("[121, 102, 179, 192]") + "<box>"), 1, 0, 0.75, 0, "a box that isn't closed"),
    (said(place("[]")), 1, 0, 0.75, 0, "an empty list"),
    (GOLD.replace("</location>", ""), 1, 0, 0.75, 0, "a location that isn't closed"),
    (said("nowhere"), 1, 0, 0.75, 0, "words for a location"),
    ("", 0, 0, 0, 0, "nothing"),
    ("Yes", 0, 0, 0, 0, "no tags"),
    (GOLD.replace("Yes", " "), 0, 0, 0, 0, "an empty answer"),
    (GOLD.replace("</answer>", ""), 0, 0, 0, 0, "an answer that isn't closed"),
    (GOLD + "<answer>No</answer>", 0, 0, 0, 0, "two answers"),
    (GOLD.replace("Yes</answer>", "Yes</answer><answer>No</answer>"), 0, 0, 0, 0, "two answers in the response"),
    (GOLD.replace("Yes", "<answer>Yes</answer>"), 0, 0, 0, 0, "an answer in the answer"),
    (GOLD.replace("Yes", "Yes" * 10_000), 0, 0, 0, 0, "an answer that is a book"),
    ("<think><think></think></response><response>", 0, 0, 0, 0, "tags alone"),
]


@pytest.mark.parametrize(("text", "right", "fit", "kept", "agree", "why"), COMPLETIONS)
def test_what_a_completion_earns(text: str, right: float, fit: float, kept: float, agree: float, why: str) -> None:
    assert terms(text) == (right, fit, kept, agree), why


def test_the_recipe_is_the_mean_of_four_terms() -> None:
    recipe = RECIPES["thinkvg"]
    assert set(recipe.weights) == {"semantic", "grounding", "format", "consistency"}
    assert score(GOLD, ONE, "thinkvg") == FULL
    assert score(GOLD.replace("Yes", "No"), ONE, "thinkvg")["score"] == 0.75
    papers = recipe.reweighted(consistency=0)
    assert score(said(place("[121, 102, 179, 192]"), think="Pale."), ONE, papers)["score"] == 1.0


@pytest.mark.parametrize(
    "location",
    [
        place("[121, 102, 179, 192]", "[30, 102, 90, 192]"),
        place("[30, 102, 90, 192]", "[121, 102, 179, 192]"),
        place("[[121, 102, 179, 192], [30, 102, 90, 192]]"),
        "[[30, 102, 90, 192], [121, 102, 179, 192]]",
    ],
)
def test_several_boxes_in_every_form(location: str) -> None:
    read = read_response(said(location), FRAME)
    assert read is not None
    assert set(read.boxes or ()) == {LEFT, RIGHT}
    assert grounding(read.boxes, (LEFT, RIGHT)) == 1.0


@pytest.mark.parametrize("apart", [True, False])
def test_no_more_boxes_are_read_than_the_bound(apart: bool) -> None:
    def read(count: int) -> Response | None:
        boxes = [f"[{x}, 0, {x + 20}, 100]" for x in range(count)]
        return read_response(said(place(*boxes) if apart else place(f"[{', '.join(boxes)}]")), FRAME)

    most, more = read(MAX_BOXES), read(MAX_BOXES + 1)
    assert most is not None
    assert more is not None
    assert len(most.boxes or ()) == MAX_BOXES
    assert more.boxes is None


def test_a_row_without_regions() -> None:
    assert score(BARE, NONE, "thinkvg") == FULL
    assert score(said(""), NONE, "thinkvg")["grounding"] == 1.0
    assert terms(GOLD, NONE) == (1, 0, 1, 1)  # a box where none is
    assert terms(said("nowhere"), NONE) == (1, 0, 0.75, 0)
    assert terms(said(""), NONE)[3] == 0.0  # a region is named, and none is final
    assert terms(said(""), NONE, extra_mentions="ignored")[3] == 1.0


def test_numbers_are_read_on_the_ruler_that_is_given() -> None:
    thousandths = said(place("[540, 455, 799, 857]"), think="Left base (region [540, 455, 799, 857]).")
    assert score(thousandths, ONE, "thinkvg", space=Space.norm1000()) == FULL
    swapped = said(place("[455, 540, 857, 799]"), think="Left base (region [455, 540, 857, 799]).")
    assert score(swapped, ONE, "thinkvg", space=Space.norm1000("yx")) == FULL
    assert score(swapped, ONE | {"coordinates": "pixels yx"}, "thinkvg")["grounding"] == 0.0
    yx = said(place("[102, 121, 192, 179]"), think="Left base (region [102, 121, 192, 179]).")
    assert score(yx, ONE | {"coordinates": "pixels yx"}, "thinkvg") == FULL


# ---- the terms ----


def test_grounding_is_graded_or_a_threshold() -> None:
    half = Box(121, 102, 179, 147, FRAME)
    assert grounding([half], [LEFT]) == 0.5
    assert grounding([half], [LEFT], threshold=0.5) == 1.0
    assert grounding([half], [LEFT], threshold=0.51) == 0.0
    assert grounding([half, RIGHT], [LEFT, RIGHT]) == 0.75
    assert grounding([half, RIGHT], [LEFT, RIGHT], threshold=0.75) == 1.0


def test_boxes_are_paired_for_the_best_sum_or_in_order() -> None:
    # Taking the best pair first (HEART with LEFT) would leave the others apart.
    wide = Box(80, 100, 180, 192, FRAME)
    best = max(wide.iou(LEFT) + LEFT.iou(HEART), wide.iou(HEART) + LEFT.iou(LEFT)) / 2
    assert grounding([wide, LEFT], [LEFT, HEART]) == pytest.approx(best)
    assert grounding([RIGHT, LEFT], [LEFT, RIGHT], matching="order") == 0.0
    assert grounding([LEFT, RIGHT], [LEFT, RIGHT], matching="order") == 1.0


def test_the_count_must_be_right() -> None:
    assert grounding([LEFT], [LEFT, RIGHT]) == grounding([], [LEFT]) == grounding([LEFT], []) == 0.0
    assert grounding(None, [LEFT]) == grounding(None, []) == 0.0
    assert grounding([], []) == grounding([], [], threshold=0.5) == 1.0


def test_extra_boxes_do_not_pay() -> None:
    grid = [f"[{x}, {y}, {x + 56}, {y + 56}]" for x in (0, 56, 112, 168) for y in (0, 56, 112, 168)]
    assert terms(said(place("[121, 102, 179, 192]", "[30, 102, 90, 192]")))[1] == 0.0
    assert terms(said(place("[121, 102, 179, 192]", "[121, 102, 179, 192]")))[1] == 0.0
    assert terms(said(place(*grid)))[1] == 0.0
    # The right number of boxes, all on one target, fits one target.
    assert terms(said(place("[121, 102, 179, 192]", "[121, 102, 179, 192]")), TWO)[1] == 0.5
    # The whole picture, once for each.
    assert terms(said(place("[0, 0, 224, 224]", "[0, 0, 224, 224]")), TWO)[1] < 0.12
    assert terms(said(place(*["[121, 102, 179, 192]"] * (MAX_BOXES + 1))))[1] == 0.0
    honest = score(GOLD, ONE, "thinkvg")["score"]
    assert all(
        score(said(place("[121, 102, 179, 192]", *extra)), ONE, "thinkvg")["score"] <= honest - 0.25
        for extra in (grid[:1], grid)
    )


def test_spraying_region_mentions_does_not_pay() -> None:
    def named(*regions: str, **options: Any) -> float:
        think = " ".join(f"(region {region})" for region in regions)
        return terms(said(place("[121, 102, 179, 192]"), think=think), **options)[3]

    final = "[121, 102, 179, 192]"
    sprayed = [f"[{x}, {y}, {x + 20}, {y + 20}]" for x in range(0, 200, 20) for y in range(0, 200, 20)]
    assert named(final) == named(final, final, "[ 121,102 , 179.0, 192 ]") == 1.0  # once more says nothing new
    assert named(final, sprayed[0]) == 0.5
    assert named(final, *sprayed[:9]) == pytest.approx(0.1)
    assert named(final, *sprayed) == 0.0
    assert named(final, "[500, 500, 600, 600]") == 0.5  # not even in the picture
    # Where extra mentions are ignored, they earn nothing either.
    assert named(final, *sprayed[:9], extra_mentions="ignored") == 1.0
    assert named(*sprayed[:9], extra_mentions="ignored") < 0.1


def test_regions_of_the_reasoning_are_matched_with_the_final_boxes() -> None:
    assert terms(GOLD_TWO, TWO) == (1, 1, 1, 1)
    one_named = GOLD_TWO.replace("(region [30, 102, 90, 192])", "too")
    assert terms(one_named, TWO)[3] == 0.5
    assert terms(one_named, TWO, extra_mentions="ignored")[3] == 0.5
    moved = GOLD_TWO.replace("(region [30, 102, 90, 192])", "(region [30, 102, 90, 147])")
    assert terms(moved, TWO)[3] == 0.75
    assert terms(GOLD.replace("[121, 102, 179, 192])", "[0, 0, 20, 20])"))[3] == 0.0


def test_silence_about_places_does_not_agree_with_itself() -> None:
    read = read_response(BARE, FRAME)
    assert consistency(read, asked=False) == 1.0
    assert consistency(read, asked=True) == 0.0
    assert consistency(None) == layout_kept(None) == 0.0


def test_parameters_are_checked() -> None:
    options: list[dict[str, Any]] = [
        {"threshold": 0},
        {"threshold": 1.5},
        {"threshold": math.nan},
        {"matching": "greedy"},
        {"extra_mentions": "both"},
    ]
    for each in options:
        with pytest.raises(ConfigError, match=next(iter(each))):
            thinkvg_recipe(**each)


class Recorder:
    """A judge that keeps what it is asked and gives the verdicts it is told to."""

    def __init__(self, *verdicts: float | None) -> None:
        self.verdicts = list(verdicts)
        self.asked: list[JudgeItem] = []

    def judge(self, items: Sequence[JudgeItem]) -> list[float | None]:
        self.asked += items
        return self.verdicts[: len(items)] if len(self.verdicts) > 1 else self.verdicts * len(items)


def test_a_judge_is_asked_about_readable_answers_alone() -> None:
    judge = Recorder(0.5)
    truth = ONE | {"question": "Is it pale?", "reason": "It is white."}
    rows = score_batch([GOLD, "", GOLD], [truth] * 3, thinkvg_recipe(judge))
    assert [row["semantic"] for row in rows] == [0.5, 0.0, 0.5]
    assert judge.asked[0] == JudgeItem(
        "Is it pale?",
        "closed",
        None,
        true_answer="Yes",
        answer="Yes",
        true_reason="It is white.",
        reason="Left base (region [121, 102, 179, 192]) is pale.",
    )
    assert len(judge.asked) == 2
    assert score("", ONE, thinkvg_recipe(judge))["score"] == 0.0
    assert len(judge.asked) == 2


def test_where_the_judge_fails_its_term_is_left_out() -> None:
    rows = score_batch([GOLD, GOLD], [ONE, ONE], thinkvg_recipe(Recorder(None, 1.0)))
    assert rows == [{name: value for name, value in FULL.items() if name != "semantic"}, FULL]


@pytest.mark.parametrize("verdicts", [(1.5,), (-0.1,), (math.nan,), (1.0, 1.0)])
def test_a_judge_out_of_its_protocol_is_told(verdicts: tuple[float, ...]) -> None:
    class Broken(Recorder):
        def judge(self, items: Sequence[JudgeItem]) -> list[float | None]:
            return list(self.verdicts)

    with pytest.raises(ConfigError, match="the judge gave"):
        score(GOLD, ONE, thinkvg_recipe(Broken(*verdicts)))


def test_the_terms_travel_to_other_processes() -> None:
    made = thinkvg_recipe(threshold=0.5).terms
    again = pickle.loads(pickle.dumps(made))  # noqa: S301
    truth = read_vqa_truth(ONE)
    assert again([GOLD], [truth]) == made([GOLD], [truth])


# ---- laws ----

SPACES = [FRAME, Space.pixels(1000, 700), Space.unit(), Space.norm1000(), Space.norm1000("yx"), Space.resized(644, 476)]


@st.composite
def truths(draw: Any) -> VqaTruth:
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.floats(0, 200)), draw(st.floats(0, 200))
        boxes.append(Box(x1, y1, x1 + draw(st.floats(0.3, 24)), y1 + draw(st.floats(0.3, 24)), FRAME))
    kind, answer = draw(st.sampled_from([("closed", "No"), ("open", "Left effusion"), ("multi_choice", "A, C")]))
    choices = {"A": "x", "B": "y", "C": "z"} if kind == "multi_choice" else None
    return VqaTruth(FRAME, answer, kind, choices, tuple(boxes), ("here",) * len(boxes))


@settings(max_examples=150)
@given(truths(), st.sampled_from(SPACES), st.sampled_from([None, 1.0]))
def test_gold_earns_exactly_full_marks_on_every_ruler(truth: VqaTruth, space: Space, threshold: float | None) -> None:
    there = truth.to(space)
    response = format_response(truth.answer, truth.boxes, truth.refs, space)
    read = read_response(response, space)
    assert read is not None
    assert read.boxes is not None
    distinct = len({box.xyxy for box in read.boxes}) == len(read.boxes)
    think = "I look. " + " ".join(response.split("<box>")[1:]).replace("</box>", ";")
    for tag in ("ref", "location", "response"):
        think = think.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    gold = format_response(truth.answer, truth.boxes, truth.refs, space, reasoning=think)
    earned = score(gold, there, thinkvg_recipe(threshold=threshold))
    assert earned == FULL or (not distinct and earned | {"consistency": 1.0, "score": 1.0} == FULL)


@settings(max_examples=50)
@given(truths(), st.sampled_from(SPACES))
def test_what_is_written_is_read_back(truth: VqaTruth, space: Space) -> None:
    written = format_response(truth.answer, truth.boxes, truth.refs, space, reasoning="It is here.")
    read = read_response(written, space)
    assert read is not None
    assert (read.answer, read.refs, read.reasoning) == (truth.answer, truth.refs, "It is here.")
    assert read.steps == (True,) * 4
    step = 1e-4 if space == Space.unit() else 1.0
    for mine, true in zip(read.boxes or (), truth.boxes, strict=True):
        assert all(abs(a - b) <= step for a, b in zip(mine.xyxy, true.to(space).xyxy, strict=True))
    assert format_response(read.answer, read.boxes or (), read.refs, space, reasoning=read.reasoning) == written


PIECES = (
    "<think> </think> <response> </response> <answer> </answer> <location> </location> <ref> </ref> <box> </box> Yes "
    "[121,102,179,192] [0,0,9,9] [[1,2,30,40],[5,6,70,80]] [ ] NaN 1e308 ١٢ [-1e9,0,1,1] [9,9,1,1] { lung"
)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(PIECES.split()), max_size=30).map(" ".join) | st.text(max_size=80),
    st.sampled_from([ONE, TWO, NONE]),
    st.sampled_from([None, 0.5]),
)
def test_any_text_scores_in_range(text: str, truth: dict[str, Any], threshold: float | None) -> None:
    earned = score(text, truth, thinkvg_recipe(threshold=threshold))
    assert set(earned) == set(FULL)
    assert all(0.0 <= value <= 1.0 for value in earned.values())


@settings(max_examples=100)
@given(truths(), truths(), st.permutations(range(4)))
def test_grounding_knows_no_order_and_no_direction(one: VqaTruth, two: VqaTruth, order: list[int]) -> None:
    mixed = [one.boxes[index] for index in order if index < len(one.boxes)]
    assert grounding(mixed, two.boxes) == pytest.approx(grounding(one.boxes, two.boxes))
    assert grounding(one.boxes, two.boxes) >= grounding(one.boxes, two.boxes, matching="order") - 1e-12


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "<answer>" * 125_000,
        "<think>" * 70_000 + "</think>" * 70_000,
        said("[" * 1_000_000),
        said(place(*["[1, 2, 3, 4]"] * 30_000)),
        said("", think="[1, 2, 3, 4] " * 80_000),
        said("", think="[1, 2, 3, " * 100_000),
        said("", think=" ".join(f"[{x}, 0, {x + 1}, 1]" for x in range(40_000))),
        said("", think="[" + "1" * 1_000_000),
        said("", answer="yes " * 250_000),
        said("<ref>" * 100_000),
        "</box>" * 150_000,
    ],
    ids=lambda text: text[:30],
)
def test_hostile_megabytes_end_in_range(text: str) -> None:
    assert all(0.0 <= value <= 1.0 for value in score(text, ONE, "thinkvg").values())


def test_mentions_stop_at_a_bound() -> None:
    many = " ".join(f"[{x}, 0, {x + 1}, 1]" for x in range(200))
    boxes, strays = read_mentions(many, FRAME)
    assert (len(boxes), strays) == (MAX_BOXES + 1, 0)
    assert read_mentions("", FRAME) == ((), 0)
    assert read_mentions("[9, 9, 1, 1] [9, 9, 1, 1] [1, 2, 3] [1, 2, 3, 4, 5] (1, 2, 3, 4)", FRAME) == ((), 1)


def test_what_cannot_be_read_back_is_not_written() -> None:
    for answer, ref in (("", "lung"), ("a</answer>b", "lung"), ("Yes", "<box>")):
        with pytest.raises(ValueError, match="couldn't be read back"):
            format_response(answer, [LEFT], [ref], FRAME)
    unnamed = read_response(format_response("Yes", [LEFT], [], FRAME), FRAME)
    assert isinstance(unnamed, Response)
    assert unnamed.refs == ("region",)


# ---- truths ----


def test_a_row_of_the_release() -> None:
    row = {
        "question": "Which abnormality is seen? <choices>: [A: effusion, B: nodule, C: edema, mild]",
        "question_type": "multi_choice_questions",
        "image_path": "files/p10/x.jpg",
        "thinkVG": "The base (region [121, 102, 179, 192]) is pale.",
        "response": "<response><answer>A, C</answer><location><ref>left base</ref><box>[121, 102, 179, 192]</box>"
        "<ref>right base</ref><box>[30, 102, 90, 192]</box></location></response>",
    }
    truth = read_vqa_truth(row)
    assert truth.question_type == "multi_choice"
    assert truth.choices == {"A": "effusion", "B": "nodule", "C": "edema, mild"}
    assert (truth.answer, truth.boxes, truth.refs) == ("A, C", (LEFT, RIGHT), ("left base", "right base"))
    assert truth.reason == row["thinkVG"]
    assert read_vqa_truth(json.dumps(row)) == truth
    assert read_vqa_truth(truth) is truth
    larger = read_vqa_truth(row | {"image_size": [448, 336]})
    assert larger.space == Space.pixels(448, 336)
    assert larger.boxes[0].xyxy == LEFT.xyxy


def test_a_row_of_the_parent_set() -> None:
    row = {
        "question": "Where is the effusion?",
        "type": "single-choice",
        "choices": "[A: left lung, B: right lung]",
        "answer": "A",
        "reason": "It is pale.",
        "visual_regions": ["left lung"],
        "visual_locations": "[[121, 102, 179, 192]]",
    }
    truth = read_vqa_truth(row)
    assert truth == VqaTruth(
        FRAME,
        "A",
        "single_choice",
        {"A": "left lung", "B": "right lung"},
        (LEFT,),
        ("left lung",),
        "Where is the effusion?",
        "It is pale.",
    )
    same = {
        "choices": ["left lung", "right lung"],
        "visual_locations": [121, 102, 179, 192],
        "visual_regions": "left lung",
    }
    assert read_vqa_truth(row | same) == truth
    assert read_vqa_truth(row | {"type": "multi-choice", "answer": ["A", "B"]}).answer == "A, B"
    for empty in (None, [], "[]", ""):
        assert read_vqa_truth(row | {"visual_locations": empty}).boxes == ()


def test_truths_may_hold_what_tables_hand_out() -> None:
    row = {
        "question_type": "multi_choice",
        "choices": {"A": "left lung", "B": "right lung", "C": None},
        "answer": np.array(["A", "B"], object),
        "boxes": np.array([LEFT.xyxy, RIGHT.xyxy]),
        "refs": np.array(["left", "right"]),
        "image_size": np.array([224, 224]),
        "picture": np.zeros((224, 224, 3)),
    }
    truth = read_vqa_truth(row)
    assert (truth.space, truth.answer, truth.boxes, truth.refs) == (FRAME, "A, B", (LEFT, RIGHT), ("left", "right"))
    assert truth.choices == {"A": "left lung", "B": "right lung"}
    each = np.array([np.array(LEFT.xyxy), None], object)[:1]
    assert read_vqa_truth({"answer": "a", "question_type": "open", "visual_locations": each}).boxes == (LEFT,)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("open", "open"),
        ("open_ended_questions", "open"),
        ("Open-ended", "open"),
        ("closed_ended_questions", "closed"),
        ("closed-ended question", "closed"),
        ("single_choice_questions", "single_choice"),
        ("multi choice", "multi_choice"),
        ("multiple-choice", "multi_choice"),
    ],
)
def test_names_of_question_types(name: str, kind: str) -> None:
    assert read_vqa_truth({"answer": "A", "question_type": name}).question_type == kind


def test_choices_in_a_question() -> None:
    assert choices_of("Where? <choices>: [A: left, B: right: lower, C: T: 4]") == {
        "A": "left",
        "B": "right: lower",
        "C": "T: 4",
    }
    for question in ("Where?", "<choices>: [", "<choices>: ]", "<choices>: [left, right]"):
        assert choices_of(question) is None
    asked = "Which? <choices>: [A: left, B: right]"
    with pytest.raises(TruthError, match="answer: names none of the choices A, B"):
        read_vqa_truth({"answer": "E", "type": "single_choice", "question": asked})
    assert read_vqa_truth({"answer": "E", "type": "single_choice", "question": asked, "choices": None}).choices is None
    assert read_vqa_truth({"answer": "E", "type": "open", "question": asked}).choices is None


def test_fields_that_are_ours() -> None:
    row = {"answer": "No", "question_type": "closed", "image_size": [640, 480], "coordinates": "0-1000"}
    truth = read_vqa_truth(row | {"boxes": [[0, 0, 500, 1000]]})
    assert (truth.space, truth.boxes[0].xyxy) == (Space.norm1000(), (0, 0, 500, 1000))
    assert truth.to(Space.pixels(640, 480)).boxes[0].xyxy == (0, 0, 320, 480)
    assert read_vqa_truth({"answer": True, "question_type": "closed"}).answer == "Yes"
    assert hash(truth) == hash(truth.to(truth.space))


def test_a_small_overhang_is_clipped_and_gold_stays_gold() -> None:
    row = ONE | {"boxes": [[-3, 102, 230, 192]]}
    assert read_vqa_truth(row).boxes[0].xyxy == (0, 102, 224, 192)
    over = said(place("[-3, 102, 230, 192]"), think="All of it (region [-3, 102, 230, 192]).")
    assert score(over, row, "thinkvg") == FULL


# (row, what the error must say)
WRONG: list[tuple[Any, str]] = [
    ("{", r"truth of row 3: isn't JSON"),
    ("[1]", r"truth of row 3: expected a VqaTruth, a dict or its JSON, not list"),
    (7, r"truth of row 3: expected a VqaTruth"),
    ({}, r"row 3, question_type: expected one of open, closed"),
    ({"question_type": "essay", "answer": "x"}, r"row 3, question_type"),
    ({"question_type": 1, "answer": "x"}, r"row 3, question_type"),
    ({"question_type": "open"}, r"row 3, answer: expected a text"),
    ({"question_type": "open", "answer": " "}, r"row 3, answer: is empty"),
    ({"question_type": "open", "answer": 3}, r"row 3, answer"),
    (ONE | {"question": 3}, r"row 3, question: expected a text"),
    (ONE | {"response": "<response></response>"}, r"row 3, response: stands beside answer"),
    ({"question_type": "open", "response": "no tags"}, r"row 3, response: has no readable <answer>"),
    (
        {"question_type": "open", "response": "<answer>x</answer><location><box>[1, 2]</box></location>"},
        r"row 3, response: has boxes that aren't \[x1, y1, x2, y2\] inside the 224 x 224 picture; give image_size",
    ),
    (ONE | {"boxes": "here"}, r"row 3, boxes: isn't JSON"),
    (ONE | {"boxes": 4}, r"row 3, boxes: expected"),
    (ONE | {"boxes": [[1, 2, 3]]}, r"row 3, boxes: box 1 isn't"),
    (ONE | {"boxes": [[1, 2, 3, 4], [1, 2, math.nan, 4]]}, r"row 3, boxes: box 2 isn't"),
    (ONE | {"boxes": [[1, 2, 10**400, 4]]}, r"row 3, boxes: box 1 isn't"),
    (ONE | {"boxes": [["1", 2, 3, 4]]}, r"row 3, boxes: box 1 isn't"),
    (ONE | {"boxes": [[True, 2, 3, 4]]}, r"row 3, boxes: box 1 isn't"),
    (ONE | {"boxes": [[30, 2, 3, 4]]}, r"row 3, boxes: box 1 has no area"),
    (ONE | {"boxes": [[300, 20, 400, 400]]}, r"row 3, boxes: box 1 .* leaves it; give image_size"),
    (ONE | {"boxes": [[1, 2, 3, 4]] * 40}, r"row 3, boxes: has 40 boxes"),
    (ONE | {"boxes": None, "visual_locations": [[1]]}, r"row 3, visual_locations: box 1"),
    (ONE | {"refs": 3}, r"row 3, refs: expected a list of texts"),
    (ONE | {"image_size": [0, 5]}, r"row 3, image_size"),
    (ONE | {"image_size": "224"}, r"row 3, image_size"),
    (ONE | {"image_size": [math.inf, 5]}, r"row 3, image_size"),
    (ONE | {"coordinates": "inches"}, r"row 3, coordinates: coordinates 'inches' isn't known"),
    (ONE | {"coordinates": 5}, r"row 3, coordinates"),
    (ONE | {"question_type": "single_choice", "choices": {"A": "x"}}, r"row 3, answer: names none of the choices A"),
    (ONE | {"question_type": "multi_choice", "choices": {"AB": "x"}}, r"row 3, choices: expected letters"),
    (ONE | {"question_type": "multi_choice", "choices": {}}, r"row 3, choices: expected letters"),
    (ONE | {"choices": 5}, r"row 3, choices: expected a dict"),
    (ONE | {"choices": "none"}, r"row 3, choices: expected a dict"),
    (ONE | {"choices": {"A": 5}}, r"row 3, choices: expected a dict"),
    (
        {"question_type": "single_choice", "answer": "A, B", "choices": ["x", "y"]},
        r"row 3, answer: names 2 choices of a single-choice question",
    ),
]


@pytest.mark.parametrize(("row", "message"), WRONG)
def test_a_wrong_truth_names_row_and_field(row: Any, message: str) -> None:
    with pytest.raises(TruthError, match=message):
        score_batch([GOLD] * 4, [ONE, ONE, ONE, row], "thinkvg")
    with pytest.raises(TruthError) as error:
        score(GOLD, row, "thinkvg")
    assert "of row" not in str(error.value)


def test_errors_quote_nothing_of_the_row() -> None:
    with pytest.raises(TruthError) as error:
        read_vqa_truth({"question_type": "single_choice", "answer": "Jane Doe has it", "choices": ["x", "y"]}, 3)
    assert "Jane" not in str(error.value)


def test_a_truth_that_cannot_be_is_refused() -> None:
    with pytest.raises(TruthError, match="boxes: must be in the truth's own space"):
        VqaTruth(Space.unit(), "Yes", "closed", None, (LEFT,))
    with pytest.raises(TruthError, match="question_type"):
        VqaTruth(FRAME, "Yes", "essay")  # type: ignore[arg-type]

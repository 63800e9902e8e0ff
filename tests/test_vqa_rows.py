from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_questions import closed, multi, nowhere, questions, single
from pydantic import ValidationError

from medground.coords import COORDINATES, space_named
from medground.data.vqa_rows import Region, VqaRow
from medground.rewards import score
from medground.rewards.thinkvg_reading import read_response

FULL = {"semantic": 1.0, "grounding": 1.0, "format": 1.0, "consistency": 1.0, "score": 1.0}


@pytest.mark.parametrize("row", questions(), ids=lambda row: row.id)
@pytest.mark.parametrize("coordinates", [None, *COORDINATES, "0-1000 yx"])
def test_a_right_completion_earns_full_marks_on_every_ruler(row, coordinates):
    shown = row if coordinates is None else row.to(coordinates)
    assert score(shown.completion(), shown.truth(), "thinkvg") == FULL
    assert score(shown.completion(), shown.ground_truth(), "thinkvg") == FULL
    if coordinates is not None:  # written on that ruler from the row as it was: the truth goes there too
        space = space_named(coordinates, *row.image_size)
        assert score(row.completion(coordinates), row.truth(), "thinkvg", space=space) == FULL


def test_a_wrong_answer_or_region_earns_less():
    row = closed()
    wrong = row.model_copy(update={"answer": "No"})
    assert score(wrong.completion(), row.truth(), "thinkvg")["semantic"] == 0
    moved = row.model_copy(update={"regions": (Region(ref="left base", box=(0, 0, 20, 20)),)})
    assert score(moved.completion(), row.truth(), "thinkvg")["grounding"] == 0


def test_the_truth_says_what_the_row_says():
    truth = multi().truth()
    assert truth.choices == {"A": "left lung", "B": "heart", "C": "right lung: its apex"}
    assert (truth.answer, truth.question_type, truth.refs) == ("A, C", "multi_choice", ("left lung", "right lung"))
    assert truth.boxes[1].xyxy == (20, 40.5, 100, 190)
    assert truth.space == space_named("pixels", 224, 224)
    assert truth.reason == "Both are opaque."
    assert closed().truth().reason == closed().thinking  # for judges, where nobody gave a reason


def test_mentions_go_with_the_regions():
    row = multi().to("0-1000")
    assert row.regions[0].box == pytest.approx((535.714, 178.571, 892.857, 848.214), abs=1e-3)
    assert "(region [536, 179, 893, 848])" in row.thinking
    assert "(region [89, 181, 446, 848])" in row.thinking  # said as [20, 40, 100, 190], and it is [20, 40.5, 100, 190]
    assert row.coordinates == "0-1000"
    assert row.to("0-1000") is row


def test_y_first_is_for_completions_alone():
    row = closed().to("pixels yx")
    assert row.thinking == closed().thinking
    assert row.regions == closed().regions
    assert "(region [20, 10, 40, 30])" in row.completion()
    said = read_response(row.completion(), row.truth().space)
    assert [box.xyxy for box in said.boxes] == [(10, 20, 30, 40)] == [box.xyxy for box in said.mentions]


BAD = {
    "an empty answer": ({"answer": " "}, "answer"),
    "neither yes nor no": ({"answer": "Perhaps"}, "answer: says neither yes nor no"),
    "an unknown type": ({"question_type": "essay"}, "question_type"),
    "choices of a closed question": ({"choices": ("left", "right")}, "choices: a choice question offers"),
    "the picture's place": ({"question": "<image>Is there an effusion?"}, "question: holds <image>"),
    "choices in the question": ({"question": "Which? <choices>: [A: a, B: b]"}, "question: holds <image> or <choices>"),
    "a box beyond the picture": ({"regions": ({"box": (10, 20, 30, 400)},)}, "boxes: box 1"),
    "a box over the edge": ({"regions": ({"box": (-1, 20, 30, 40)},)}, "box 1 leaves the picture; clip it"),
    "corners swapped": ({"regions": ({"box": (30, 20, 10, 40)},)}, "boxes: box 1"),
    "a number that is none": ({"regions": ({"box": (float("nan"), 0, 1, 1)},)}, "regions"),
    "a region without a name": ({"regions": ({"box": (0, 0, 1, 1), "ref": " "},)}, "regions"),
    "too many regions": ({"regions": ({"box": (0, 0, 9, 9)},) * 33}, "at most 32"),
    "a mention beyond the picture": ({"thinking": "It is (region [10, 20, 300, 400])."}, "thinking: names a region"),
    "thinking that goes on": ({"thinking": "pale " * 5000}, "thinking: is longer than 20,000"),
    "tags in the thinking": ({"thinking": "So </think> it is."}, "thinking, regions: the answer is empty, or a part"),
    "no frame": ({"image_size": None}, "image_size"),
    "a picture of no size": ({"image_size": (0, 9)}, "image_size"),
    "an unknown ruler": ({"coordinates": "inches"}, "coordinates 'inches' isn't known"),
    "no picture": ({"image": {}}, "neither a path nor bytes"),
    "a field that isn't there": ({"colour": "red"}, "colour"),
}


@pytest.mark.parametrize(("changes", "said"), BAD.values(), ids=BAD)
def test_a_row_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValidationError) as refused:
        VqaRow.model_validate({**dict(closed()), **changes})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"choices": ()}, "choices: a choice question offers"),
        ({"choices": ("left lung",)}, "choices: a choice question offers"),
        ({"choices": ("left lung", " ")}, "choices"),
        ({"choices": ("a",) * 27}, "choices: a choice question offers"),
        ({"answer": "E"}, "answer: names none of the choices"),
        ({"answer": "A, B"}, "answer: names 2 choices of a single-choice question"),
    ],
)
def test_choices_and_answer_belong_together(changes, said):
    with pytest.raises(ValidationError) as refused:
        VqaRow.model_validate({**dict(single()), **changes})
    assert said in str(refused.value)


def test_errors_quote_nothing_of_the_row():
    with pytest.raises(ValidationError) as refused:
        VqaRow.model_validate({**dict(closed()), "answer": "Perhaps, says Doe", "thinking": "x"})
    assert "Doe" not in str(refused.value)


def test_rows_are_frozen_and_bare():
    row = closed(question="  Is there an effusion?\n", answer=" Yes ")
    assert (row.question, row.answer) == ("Is there an effusion?", "Yes")
    with pytest.raises(ValidationError, match="frozen"):
        row.answer = "No"
    assert nowhere().offered is None


sides = st.integers(1, 3000)


@given(st.data(), sides, sides, st.sampled_from(COORDINATES))
@settings(max_examples=60, deadline=None)
def test_a_row_on_another_ruler_earns_full_marks_wherever_its_region_is(data, width, height, coordinates):
    xs = sorted(data.draw(st.lists(st.integers(0, width), min_size=2, max_size=2, unique=True)))
    ys = sorted(data.draw(st.lists(st.integers(0, height), min_size=2, max_size=2, unique=True)))
    box = (xs[0], ys[0], xs[1], ys[1])
    row = closed(
        image_size=(width, height), thinking=f"It is pale (region {list(box)}).", regions=(Region(ref="base", box=box),)
    ).to(coordinates)
    assert score(row.completion(), row.truth(), "thinkvg") == FULL

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medground.errors import TruthError
from medground.metrics import answer_accuracy, answer_correct, normalised_answer, read_choices
from medground.rewards.vqa_truth import read_vqa_truth

CHOICES = {
    "A": "Edema",
    "B": "Small, left effusion",
    "C": "No finding",
    "D": "Effusion",
    "E": "Pneumothorax and effusion",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Yes. ", "yes"),
        ('"No!"', "no"),
        ("Left\n lower\tlobe", "left lower lobe"),
        ("**B**", "b"),
        ("ＹＥＳ", "yes"),
        ("< 5 mm", "< 5 mm"),
        ("", ""),
        (" .,; ", ""),
    ],
)
def test_normalised(text, expected):
    assert normalised_answer(text) == expected


CLOSED = [
    ("Yes", "yes", True, "case"),
    (" yes. ", "Yes", True, "white space and full stop"),
    ("no", "yes", False, "the other"),
    ("Yes, there is.", "yes", False, "more than the word: exact is exact"),
    ("", "yes", False, "nothing"),
    (None, "yes", False, "couldn't be read"),
    ("yes" * 10_000, "yes", False, "too long"),
]


@pytest.mark.parametrize(("said", "true", "right", "why"), CLOSED, ids=[row[3] for row in CLOSED])
def test_closed(said, true, right, why):
    assert answer_correct(said, true, "closed") is right


SINGLE = [
    ("B", "B", None, True, "letter"),
    ("(b)", "B", None, True, "letter in brackets"),
    ("B.", "B: small effusion", None, True, "letter, and letter with text"),
    ("C", "B", None, False, "another letter"),
    ("Edema", "edema", None, True, "text without choices"),
    ("Small, left effusion", "small, left effusion.", None, True, "commas are part of a text"),
    ("left effusion, small", "small, left effusion", None, False, "other words"),
    ("A lung", "A", None, False, "an article is no letter"),
    ("A, B", "A", None, False, "two for one"),
    ("AB", "A", CHOICES, False, "two letters for one"),
    ("edema", "A", CHOICES, True, "text for a letter"),
    ("A: Edema", "Edema", CHOICES, True, "both for a text"),
    ("Small, left effusion", "B", CHOICES, True, "text with a comma"),
    ("D", "Effusion", CHOICES, True, "letter for a text"),
    ("A: Effusion", "A", CHOICES, False, "the letter of one, the text of another"),
    ("F", "A", CHOICES, False, "no such choice"),
    ("Edema and effusion", "A", CHOICES, False, "a choice and more"),
    (None, "A", CHOICES, False, "couldn't be read"),
    ("", "A", {"A": "", "B": "Edema"}, False, "nothing, though a choice has no text"),
]


@pytest.mark.parametrize(("said", "true", "choices", "right", "why"), SINGLE, ids=[row[4] for row in SINGLE])
def test_single_choice(said, true, choices, right, why):
    assert answer_correct(said, true, "single", choices) is right


MULTI = [
    ("A, C", "C,A", None, True, "any order"),
    ("A and C", "A; C", None, True, "any separator"),
    ("A. Edema, C. No finding", "A, C", None, True, "letters with texts"),
    ("A", "A, C", None, False, "one missing"),
    ("A, B, C", "A, C", None, False, "one too many"),
    ("A, A, C", "A, C", None, True, "said twice"),
    ("effusion, edema", "Edema and effusion", None, True, "texts"),
    ("AC", "A, C", CHOICES, True, "letters together"),
    ("edema, no finding", "AC", CHOICES, True, "texts for letters"),
    ("small, left effusion, edema", "A, B", CHOICES, True, "a text with a comma among others"),
    ("B: Small, left effusion; A: Edema", "A, B", CHOICES, True, "the same with letters"),
    ("Pneumothorax and effusion", "E", CHOICES, True, "a text with an and"),
    ("pneumothorax and effusion, effusion", "D, E", CHOICES, True, "a text within a text"),
    ("effusion", "E", CHOICES, False, "part of a text"),
    (
        "old, small cyst; edema",
        "BC",
        {"A": "Small cyst", "B": "Old, small cyst", "C": "Edema"},
        True,
        "the longer text",
    ),
    (
        "new, old, small cyst; edema",
        "AC",
        {"A": "New, old, small cyst", "B": "Old, small cyst", "C": "Edema"},
        True,
        "longest",
    ),
    ("A, " * 2000 + "A", "A", None, False, "too long"),
    ("A, F", "A", CHOICES, False, "no such choice"),
    ("A: Effusion", "A", CHOICES, False, "the letter of one, the text of another"),
    (", ; and", "A", CHOICES, False, "separators alone"),
    (None, "A", CHOICES, False, "couldn't be read"),
]


@pytest.mark.parametrize(("said", "true", "choices", "right", "why"), MULTI, ids=[row[4] for row in MULTI])
def test_multi_choice(said, true, choices, right, why):
    assert answer_correct(said, true, "multi", choices) is right


@given(st.sets(st.sampled_from("ABCDE"), min_size=1), st.sets(st.sampled_from("ABCDE"), min_size=1), st.booleans())
def test_multi_choice_is_equality_of_sets(said, true, in_words):
    answer = ", ".join(CHOICES[letter] if in_words else letter for letter in sorted(said, reverse=True))
    assert answer_correct(answer, "".join(sorted(true)), "multi", CHOICES) is (said == true)


@given(st.text(max_size=200), st.sampled_from([None, CHOICES]))
def test_any_text_can_be_read(text, choices):
    assert all(read_choices(text, choices))
    for kind in ("closed", "single", "multi"):
        assert answer_correct(text, "A", kind, choices) in (True, False)


@pytest.mark.parametrize(
    ("true", "kind", "choices", "reason"),
    [
        (" . ", "closed", None, "empty"),
        ("", "multi", CHOICES, "empty"),
        ("F", "single", CHOICES, "isn't among its choices"),
        ("A, cyst", "multi", CHOICES, "isn't among its choices"),
    ],
)
def test_wrong_truth_is_refused(true, kind, choices, reason):
    with pytest.raises(TruthError, match=reason):
        answer_correct("A", true, kind, choices)
    with pytest.raises(TruthError, match="row 1: .*" + reason):
        answer_accuracy(["yes", "A"], ["yes", true], ["closed", kind], [None, choices])


def test_accuracy_by_type_under_the_names_of_the_data_set():
    found = answer_accuracy(
        ["yes", "no", "A", "A, B", "A", None, "an effusion"],
        ["yes", "yes", "A", "B, A", "A, B", "C", "effusion"],
        [
            "closed_ended_questions",
            "closed",
            "single_choice_questions",
            "multi_choice_questions",
            "multi",
            "single",
            "open_ended_questions",
        ],
    )
    assert list(found) == ["closed", "multi", "open", "single", "all"]
    assert {kind: score.mean for kind, score in found.items() if kind != "open"} == {
        "closed": 0.5,
        "multi": 0.5,
        "single": 0.5,
        "all": 0.5,
    }
    assert math.isnan(found["open"].mean)
    assert (found["open"].left_out, found["all"].n, found["all"].left_out) == (1, 6, 1)


def test_open_questions_are_for_a_judge():
    def judge(predicted: str, true: str) -> float:
        return 0.5 if true in predicted else 0.0

    answers = ["an effusion", "nothing", None, "x" * 5000]
    found = answer_accuracy(answers, ["effusion"] * 4, ["open"] * 4, judge=judge)
    assert found["open"].mean == found["all"].mean == 0.125
    with pytest.raises(ValueError, match="judge"):
        answer_correct("an effusion", "effusion", "open")
    with pytest.raises(ValueError, match="between 0 and 1"):
        answer_accuracy(["a"], ["a"], ["open"], judge=lambda predicted, true: 7)


def test_rows_must_match():
    with pytest.raises(ValueError, match="each row"):
        answer_accuracy(["A"], ["A", "B"], ["single", "single"])
    with pytest.raises(ValueError, match="isn't known"):
        answer_accuracy(["A"], ["A"], ["true or false"])
    with pytest.raises(ValueError, match="row 1: question type"):
        answer_accuracy(["A", "A"], ["A", "A"], ["single", "true or false"])
    assert answer_accuracy([], [], [])["all"].n == 0


def test_question_types_may_have_the_names_that_rewards_and_data_sets_give_them():
    truths = [
        read_vqa_truth({"answer": answer, "question_type": name})
        for answer, name in (("A", "single_choice_questions"), ("A, C", "multi-choice"), ("no", "closed-ended"))
    ]
    types = [truth.question_type for truth in truths]
    found = answer_accuracy(["A", "C, A", "yes"], [truth.answer for truth in truths], types)
    assert {kind: score.mean for kind, score in found.items()} == {"single": 1, "multi": 1, "closed": 0, "all": 2 / 3}
    assert answer_correct("B", "B", "Single choice")

"""Each number of an answer is judged against the group's others in its place, and each claim against silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medground.rewards import score_batch
from medground.train.credit import answer_numbers, part_credit, reasoned_claims, spread_over_tokens

NANO = Path(__file__).parents[1] / "medground/reasoners/nano"
TRUTH = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]], "coordinates": "0-1000"}


def said(box: list[int], first: tuple[int, int] = (150, 150), second: tuple[int, int] = (250, 150)) -> str:
    answer = json.dumps({"bbox": box, "points_1": list(first), "points_2": list(second)})
    return f"<think>A small region, 3 of 4.</think><answer>{answer}</answer>"


def scored(texts: list[str]) -> list[float]:
    return [row["score"] for row in score_batch(texts, [TRUTH] * len(texts), "medground")]


def credit_of(group: list[str], own: int) -> list[float]:
    return list(part_credit(group, scored)[1][own].values())


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (said([1, 2, 3, 4]), "1 2 3 4 150 150 250 150"),
        ("<think>12</think> 0.5, -3 and 7", "0.5 -3 7"),
        ("no 5 tags 6.25", "5 6.25"),
        ('<answer>{"points_1": [1, 2], "b3": 9, "x": 4e5}</answer>', "1 2 9"),
        ("<answer>1</answer> again <answer>2</answer>", "2"),
        ("none", ""),
    ],
)
def test_numbers_of_an_answer(text: str, numbers: str) -> None:
    assert " ".join(text[start:end] for start, end in answer_numbers(text)) == numbers


def test_the_one_bad_edge_is_blamed_and_the_good_ones_are_not() -> None:
    group = [said([100, 100, 300, 200]), said([100, 100, 300, 200]), said([100, 100, 600, 200])]
    scores, credits = part_credit(group, scored)
    assert scores[2] < scores[0] == scores[1]
    bad = list(credits[2].values())
    assert bad[2] < -0.05
    assert [value for place, value in enumerate(bad) if place != 2] == [0.0] * 7
    # The true edge is praised for what the bad one would have cost.
    assert credit_of(group, 0)[2] == pytest.approx((scores[0] - scores[2]) / 2)


def test_a_group_that_is_all_alike_has_no_credit() -> None:
    assert credit_of([said([100, 100, 300, 200])] * 4, 0) == [0.0] * 8


def test_an_answer_of_another_layout_is_compared_with_nobody() -> None:
    group = [said([100, 100, 300, 200]), "<think>.</think><answer>nothing there</answer>", "<answer>[1, 2]</answer>"]
    assert [len(credit) for credit in part_credit(group, scored)[1]] == [0, 0, 0]


def test_the_reward_is_asked_once_and_of_each_text_once() -> None:
    asked: list[list[str]] = []

    def score(texts: list[str]) -> list[float]:
        asked.append(texts)
        return scored(texts)

    part_credit([said([100 + step, 100, 300, 200]) for step in (0, 0, 5, 9)], score)
    assert len(asked) == 1
    assert len(asked[0]) == len(set(asked[0])) == 3


def test_in_expectation_it_points_where_the_score_rises() -> None:
    """Over many groups, the mean credit of a value of the left edge falls with its distance from the truth."""
    group = [said([left, 100, 300, 200]) for left in (20, 60, 100, 140, 180)]
    credits = [credit_of(group, own)[0] for own in range(5)]
    assert credits[2] == max(credits) > 0
    assert credits[0] < credits[1] < credits[2] > credits[3] > credits[4]
    assert sum(credits) == pytest.approx(0, abs=1e-9)


def reasoned(reasoning: str) -> str:
    return f"<think>{reasoning}</think>{said([100, 100, 300, 200]).partition('</think>')[2]}"


def credit_of_claims(group: list[str], own: int, facts: dict[str, list[str]]) -> dict[str, float]:
    def score(texts: list[str]) -> list[float]:
        return [row["score"] for row in score_batch(texts, [{**TRUTH, "facts": facts}] * len(texts), "medground")]

    credits = part_credit(group, score, of_claims=True)[1][own]
    numbers = answer_numbers(group[own])
    return {group[own][slice(*span)]: value for span, value in credits.items() if span not in numbers}


@pytest.mark.parametrize(
    ("reasoning", "signs"),
    [
        ("It is small.", {"It is small": 1}),
        ("It is large.", {"It is large": -1}),
        (
            "It is small and round. It lies in the upper left of the image.",
            {"It is small": 1, "and round": -1, "It lies in the upper left of the image": 1},
        ),
        ("The disc is pale. A small, oval region.", {"A small": 1, ", oval": 1}),
        ("It lies there; it's what was meant, and is round.", {", and is round": -1}),
        ("It is darker than its surroundings.", {}),  # nothing is known of that
        ("It is small. It is small.", {}),  # said twice, it isn't missed once
        ("It is a growth.", {}),
    ],
)
def test_a_claim_is_judged_against_silence(reasoning: str, signs: dict[str, int]) -> None:
    facts = {"place": ["upper left"], "size": ["small"], "shape": ["oval"]}
    group = [reasoned(reasoning), reasoned("A growth.")]
    found = credit_of_claims(group, 0, facts)
    assert {claim: -1 if value < 0 else 1 for claim, value in found.items()} == signs
    assert credit_of_claims(group, 1, facts) == {}


def test_what_claims_bring_is_theirs_alone() -> None:
    """A false claim costs the completion nothing elsewhere: its other parts are judged as if it hadn't been said."""
    group = [reasoned("It is large."), reasoned("A growth."), said([100, 100, 600, 200])]
    facts = {**TRUTH, "facts": {"size": ["small"]}}

    def score(texts: list[str]) -> list[float]:
        return [row["score"] for row in score_batch(texts, [facts] * len(texts), "medground")]

    assert score(group)[0] < score(group)[1]
    bare = part_credit(group, score, of_claims=True)[0]
    assert bare[0] == bare[1] > bare[2]
    assert part_credit(group, score)[0] == score(group)


def test_claims_stand_in_the_reasoning_alone() -> None:
    for text in ("It is small.", "<think>It is small.", "</think>It is small.<think>", "<answer>It is small.</answer>"):
        assert reasoned_claims(text) == []
    text = "<think>It is small.</think> It is round."
    assert [text[start:end] for start, end in reasoned_claims(text)] == ["small"]


def test_numbers_are_credited_alike_with_and_without_claims() -> None:
    group = [said([100, 100, 300, 200]), said([100, 100, 600, 200])]
    plain, all_parts = part_credit(group, scored), part_credit(group, scored, of_claims=True)
    assert plain[0] == all_parts[0]
    for one, other in zip(plain[1], all_parts[1], strict=True):
        assert one.items() <= other.items()


@pytest.mark.parametrize(
    "text", [said([1, 22, 333, 1000]), said([5, 6, 7, 8]) + " größer, 漢字", "<answer>[0, 17]</answer>"]
)
def test_tokens_get_the_credit_of_the_number_that_they_write(text: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(NANO)
    ids = tokenizer.encode(text, add_special_tokens=False)
    spans = answer_numbers(text)
    credit = {span: float(place + 1) for place, span in enumerate(spans)}
    found = spread_over_tokens(-9.0, credit, [*ids, tokenizer.eos_token_id], tokenizer)
    assert len(found) == len(ids) + 1
    for place, (start, end) in enumerate(spans, start=1):
        own = tokenizer.decode([number for number, value in zip(ids, found, strict=False) if value == place])
        assert own == text[start:end]
    assert found[0] == found[-1] == -9.0

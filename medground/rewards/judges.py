"""Who says whether an answer in words is right: the protocol, and a judge that needs no model.

`medground.rewards.endpoint_judge.EndpointJudge` asks a language model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from medground.answers import chosen, plain, yes_or_no
from medground.rewards.overlap import overlap

__all__ = ["Judge", "JudgeItem", "OfflineJudge", "agreement"]


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to be judged.

    Parameters
    ----------
    question : str or None
        As it was asked, where it is known.
    question_type : {"open", "closed", "single_choice", "multi_choice"}
    choices : mapping of letter to text, or None
    true_answer, answer : str
        The right answer, and the one to be judged; the latter is a model's text, so it is never trusted.
    true_reason, reason : str or None
        The reasoning that belongs to each.
    """

    question: str | None
    question_type: Literal["open", "closed", "single_choice", "multi_choice"]
    choices: Mapping[str, str] | None = field(hash=False)
    true_answer: str
    answer: str
    true_reason: str | None = None
    reason: str | None = None


@runtime_checkable
class Judge(Protocol):
    """Says how far answers agree with the true ones."""

    def judge(self, items: Sequence[JudgeItem]) -> list[float | None]:
        """Return a verdict for each item, in order: 0 (wrong) to 1 (right), or None where the judge failed.

        A failure is never told as 0, since the model would pay for it. A judge that fails on all items raises a
        MedgroundError.
        """
        ...


class OfflineJudge:
    """A judge of rules alone: no model, no network, the same verdict on every run.

    Choices and yes or no are right or wrong; answers to open questions are graded by `overlap`. It doesn't read
    the reasoning. It knows no medicine beyond its synonyms: a right answer in other words earns less than it should,
    and word order says little to it. For a report, prefer a model's verdict.

    Examples
    --------
    >>> item = JudgeItem("Where is it?", "open", None, true_answer="Left lung base", answer="In the left lower lobe")
    >>> OfflineJudge().judge([item])
    [1.0]
    """

    def judge(self, items: Sequence[JudgeItem]) -> list[float | None]:
        """Return a verdict for each item; never None."""
        return [agreement(item) for item in items]


def agreement(item: JudgeItem) -> float:
    """Return how far an answer agrees with the true one, 0 to 1.

    - *single choice*: 1 when the letter, the letter with its own text, or the text of the right choice is given;
    - *multi choice*: 1 when exactly the right set is given, in any order;
    - *closed*: 1 when both say yes, or both no, and what follows names no other side;
    - *open*: `overlap`.

    Choices whose texts aren't known, and closed questions whose true answer is neither yes nor no, need the same
    finding in words: 1 where `overlap` is 1, else 0.

    Examples
    --------
    >>> agreement(JudgeItem(None, "multi_choice", None, true_answer="A, C", answer="C and A"))
    1.0
    >>> agreement(JudgeItem(None, "closed", None, true_answer="No", answer="No, yes"))
    0.0
    """
    if plain(item.answer) == plain(item.true_answer):
        return 1.0
    if item.question_type in ("single_choice", "multi_choice"):
        true, given = chosen(item.true_answer, item.choices), chosen(item.answer, item.choices)
        if true is not None:
            return float(given == true)
    elif (right := _yes_or_no(item)) is not None:
        return float(yes_or_no(item.answer) == right and not _other_side(item))
    worth = overlap(item.answer, item.true_answer, item.question if item.question_type == "open" else None)
    return worth if item.question_type == "open" else float(worth == 1.0)


def _yes_or_no(item: JudgeItem) -> bool | None:
    """Return what the true answer says; "No effusion" answers an open question in words."""
    bare = plain(item.true_answer) in ("yes", "no")
    return yes_or_no(item.true_answer) if bare or item.question_type == "closed" else None


def _other_side(item: JudgeItem) -> bool:
    sides = [{"left", "right"} & set(plain(text).replace("-", " ").split()) for text in (item.answer, item.true_answer)]
    return len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]

"""Whether a worded answer is right: closed questions, single and multiple choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from medground.answers import READ, chosen, folded, question_type
from medground.errors import TruthError
from medground.intervals import Mean, nanmean

__all__ = ["QUESTION_TYPES", "answer_accuracy", "answer_correct", "normalised_answer", "read_choices"]

QUESTION_TYPES = {"open": "open", "closed": "closed", "single_choice": "single", "multi_choice": "multi"}
"""The types of question, as rewards call them, and under which name their accuracy is told.

Data sets' own names of them are understood as well, see `medground.answers.question_type`.
"""

_AROUND = " \t\r\n.,;:!?\"'`*()[]{}"
_SEPARATORS = re.compile(r"[,;/&\n]|\band\b", re.IGNORECASE)

Choices = Mapping[str, str]


def normalised_answer(text: str) -> str:
    """Return an answer without what doesn't change its meaning.

    It is `medground.answers.folded`, and punctuation, quotes and brackets around it are taken off.

    Examples
    --------
    >>> normalised_answer('  "Pleural   Effusion." ')
    'pleural effusion'
    """
    return folded(text).strip(_AROUND)


def read_choices(answer: str, choices: Choices | None = None) -> frozenset[str]:
    """Return the set of choices that an answer names.

    Letters, texts of `choices`, and both together are read by `medground.answers.chosen`, as rewards read them. What
    names no choices in that way is taken apart at commas, semicolons, slashes, ``&``, new lines and ``and``.

    Parameters
    ----------
    answer : str
    choices : mapping of str to str, optional
        The text of each letter.

    Returns
    -------
    frozenset of str
        Letters in upper case; else normalised texts, which equal no letter.

    Examples
    --------
    >>> choices = {"A": "Edema", "B": "Small, left effusion", "C": "No finding"}
    >>> sorted(read_choices("A: Edema and small, left effusion", choices)), sorted(read_choices("AB", choices))
    (['A', 'B'], ['A', 'B'])
    """
    letters = chosen(answer, _upper(choices))
    if letters is not None:
        return letters
    return frozenset(text for part in _SEPARATORS.split(answer[:READ]) if (text := normalised_answer(part)))


def _upper(choices: Choices | None) -> Choices | None:
    return {letter.strip().upper(): text for letter, text in choices.items()} if choices else None


def answer_correct(predicted: str | None, true: str, question_type: str, choices: Choices | None = None) -> bool:
    """Return whether an answer is right.

    - closed: the same text after `normalised_answer`.
    - single: names the one true choice, by letter or text; an answer with commas isn't taken apart.
    - multi: names exactly the true choices (`read_choices`), in any order; one missing or one too many is wrong.

    Parameters
    ----------
    predicted : str or None
        None for an answer that couldn't be read: wrong. So is one of more than 2000 characters.
    true : str
    question_type : str
        A key of `QUESTION_TYPES`. Open questions need a judge; see `answer_accuracy`.
    choices : mapping of str to str, optional
        The text of each letter, so that either may be said.

    Raises
    ------
    TruthError
        When the true answer is empty, or isn't among `choices`.
    ValueError
        When the type is open or unknown.

    Examples
    --------
    >>> answer_correct("Yes.", "yes", "closed"), answer_correct("(B) edema", "B", "single")
    (True, True)
    >>> answer_correct("C, A", "A,C", "multi"), answer_correct("A", "A,C", "multi")
    (True, False)
    """
    kind = _kind(question_type)
    if kind == "open":
        raise ValueError("whether an answer to an open question is right takes a judge")
    if not normalised_answer(true):
        raise TruthError(f"the true answer to a {kind} question is empty; leave the row out or give the answer")
    if kind == "closed":
        return _readable(predicted) and normalised_answer(str(predicted)) == normalised_answer(true)
    read = read_choices if kind == "multi" else _read_one
    wanted, offered = read(true, choices), _upper(choices)
    if offered and not wanted <= offered.keys():
        raise TruthError(f"the true answer to a {kind} choice question isn't among its choices {sorted(offered)}")
    return _readable(predicted) and read(str(predicted), choices) == wanted


def _read_one(answer: str, choices: Choices | None) -> frozenset[str]:
    """Return the one choice that an answer names; a text is never taken apart, so commas are part of it."""
    letters = chosen(answer, _upper(choices))
    return letters if letters is not None else frozenset({normalised_answer(answer[:READ])})


def answer_accuracy(
    predicted: Sequence[str | None],
    true: Sequence[str],
    question_types: Sequence[str],
    choices: Sequence[Choices | None] | None = None,
    *,
    judge: Callable[[str, str], float] | None = None,
) -> dict[str, Mean]:
    """Return the share of right answers for each type of question, and over all of them; 0 to 1.

    Parameters
    ----------
    predicted : sequence of str or None
        None for an answer that couldn't be read: it counts 0.
    true : sequence of str
    question_types : sequence of str
        Keys of `QUESTION_TYPES`, or a data set's own names of them.
    choices : sequence of mapping or None, optional
        For each row the text of each letter.
    judge : callable, optional
        ``judge(predicted, true)`` returns what an answer to an open question is worth, 0 to 1. Without it open
        questions are left out, and counted in ``left_out``.

    Returns
    -------
    dict of str to Mean
        ``"closed"``, ``"multi"``, ``"open"``, ``"single"`` as far as there are any, and ``"all"``.

    Raises
    ------
    TruthError
        When a true answer can't be used; names the row, counted from 0.
    ValueError
        When the numbers of rows differ, a type is unknown, or a judge returns no number from 0 to 1.

    Examples
    --------
    >>> types = ["closed", "single", "multi", "closed"]
    >>> found = answer_accuracy(["yes", "A", "A, B", None], ["no", "A", "B, A", "yes"], types)
    >>> {kind: (score.mean, score.n) for kind, score in found.items()}
    {'closed': (0.0, 2), 'multi': (1.0, 1), 'single': (1.0, 1), 'all': (0.5, 4)}
    """
    rows = len(true)
    if choices is None:
        choices = [None] * rows
    if not rows == len(predicted) == len(question_types) == len(choices):
        raise ValueError(
            f"each row has one answer, one truth, one type and one set of choices, not {len(predicted)}, {rows}, "
            f"{len(question_types)} and {len(choices)}"
        )
    scores: dict[str, list[float]] = {}
    for row, (said, truth, name, offered) in enumerate(zip(predicted, true, question_types, choices, strict=True)):
        kind = _kind(name, f"row {row}: ")
        try:
            score = _judged(said, truth, judge) if kind == "open" else float(answer_correct(said, truth, kind, offered))
        except TruthError as error:
            raise TruthError(f"row {row}: {error}") from error
        scores.setdefault(kind, []).append(score)
    by_type = {kind: nanmean(scores[kind]) for kind in sorted(scores)}
    return {**by_type, "all": nanmean([score for found in scores.values() for score in found])}


def _kind(name: str, where: str = "") -> str:
    kind = question_type(name)
    if kind is None:
        raise ValueError(f"{where}question type {name!r} isn't known; say one of {', '.join(QUESTION_TYPES)}")
    return QUESTION_TYPES[kind]


def _readable(predicted: str | None) -> bool:
    return predicted is not None and len(predicted) <= READ


def _judged(predicted: str | None, true: str, judge: Callable[[str, str], float] | None) -> float:
    if judge is None:
        return float("nan")
    if not _readable(predicted):
        return 0.0
    score = float(judge(str(predicted), true))
    if not 0 <= score <= 1:
        raise ValueError(f"a judge's score is between 0 and 1, not {score}")
    return score

"""Whether a worded answer is right: closed questions, single and multiple choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from medground.errors import TruthError
from medground.intervals import Mean, nanmean

__all__ = ["QUESTION_TYPES", "answer_accuracy", "answer_correct", "normalised_answer", "read_choices"]

QUESTION_TYPES = {
    "open": "open",
    "closed": "closed",
    "single": "single",
    "multi": "multi",
    "open_ended_questions": "open",
    "closed_ended_questions": "closed",
    "single_choice_questions": "single",
    "multi_choice_questions": "multi",
}
"""The names of question types that are understood: ours, and those of GEMeX-ThinkVG's column ``question_type``."""

_LONGEST = 4096
"""An answer of more characters is wrong: no choice is that long, and time stays bounded."""

_AROUND = " \t\r\n.,;:!?\"'`*()[]{}"
_SEPARATORS = re.compile(r"[,;/&\n]|\band\b", re.IGNORECASE)
_LETTERED = re.compile(r"\(?([A-Za-z])(?:[).:]|$)\s*(.*)", re.DOTALL)

Choices = Mapping[str, str]


def normalised_answer(text: str) -> str:
    """Return an answer without what doesn't change its meaning.

    Unicode compatibility forms are unified (NFKC), case is folded, white space is collapsed, and punctuation, quotes
    and brackets around it are taken off.

    Examples
    --------
    >>> normalised_answer('  "Pleural   Effusion." ')
    'pleural effusion'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND)


def read_choices(answer: str, choices: Choices | None = None) -> frozenset[str]:
    """Return the set of choices that an answer names.

    A choice is named by its letter (``B``, ``(B)``, ``B: edema``, and ``AC`` or ``A, C`` for several) or, where
    `choices` are known, by its text. Several are parted by commas, semicolons, slashes, ``&``, new lines or ``and``.
    An answer that is the text of one choice as a whole is that choice, commas and all.

    Parameters
    ----------
    answer : str
    choices : mapping of str to str, optional
        The text of each letter.

    Returns
    -------
    frozenset of str
        Letters in upper case; what is no letter of `choices` stays as normalised text, so that it equals nothing else.

    Examples
    --------
    >>> choices = {"A": "Edema", "B": "Small, left effusion", "C": "No finding"}
    >>> sorted(read_choices("A: Edema and small, left effusion", choices)), sorted(read_choices("AB", choices))
    (['A', 'B'], ['A', 'B'])
    """
    letters, named = _tables(choices)
    whole = normalised_answer(answer)
    if not whole:
        return frozenset()
    if whole in named:
        return frozenset({named[whole]})
    compact = answer.strip(_AROUND)
    if letters and all(letter in letters for letter in compact):
        return frozenset(compact)
    found = set()
    rest = whole
    # Texts that hold a separator are taken out first, the longest first, as one may hold another.
    for text in sorted((text for text in named if _SEPARATORS.search(text)), key=len, reverse=True):
        pattern = rf"(?<!\w)(?:{re.escape(named[text].casefold())}\s*[).:]\s*)?{re.escape(text)}(?!\w)"
        rest, times = re.subn(pattern, ",", rest)
        if times:
            found.add(named[text])
    for part in _SEPARATORS.split(rest):
        if text := normalised_answer(part):
            found.add(_choice(text, letters, named))
    return frozenset(found)


def _tables(choices: Choices | None) -> tuple[dict[str, str], dict[str, str]]:
    """Return the text of each letter, and the letter of each text."""
    letters = {letter.strip().upper(): normalised_answer(text) for letter, text in (choices or {}).items()}
    return letters, {text: letter for letter, text in letters.items() if text}


def _choice(part: str, letters: Mapping[str, str], named: Mapping[str, str]) -> str:
    """Return the letter of the one choice that a normalised text names, or the text itself."""
    if part in named:
        return named[part]
    lettered = _LETTERED.fullmatch(part)
    if not lettered:
        return part
    letter, text = lettered[1].upper(), normalised_answer(lettered[2])
    if letters and (letter not in letters or named.get(text, letter) != letter):
        return part  # no such choice, or the letter of one with the text of another
    return letter


def answer_correct(predicted: str | None, true: str, question_type: str, choices: Choices | None = None) -> bool:
    """Return whether an answer is right.

    - closed: the same text after `normalised_answer`.
    - single: names the one true choice, by letter or text; an answer with commas isn't taken apart.
    - multi: names exactly the true choices (`read_choices`), in any order; one missing or one too many is wrong.

    Parameters
    ----------
    predicted : str or None
        None for an answer that couldn't be read: wrong. So is one of more than 4096 characters.
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
    wanted, letters = read(true, choices), _tables(choices)[0]
    if letters and not wanted <= set(letters):
        raise TruthError(f"the true answer to a {kind} choice question isn't among its choices {sorted(letters)}")
    return _readable(predicted) and read(str(predicted), choices) == wanted


def _read_one(answer: str, choices: Choices | None) -> frozenset[str]:
    """Return the one choice that an answer names: it is never taken apart, so commas are part of its text."""
    return frozenset({_choice(normalised_answer(answer), *_tables(choices))})


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
        Keys of `QUESTION_TYPES`.
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
        kind = _kind(name)
        try:
            score = _judged(said, truth, judge) if kind == "open" else float(answer_correct(said, truth, kind, offered))
        except TruthError as error:
            raise TruthError(f"row {row}: {error}") from error
        scores.setdefault(kind, []).append(score)
    by_type = {kind: nanmean(scores[kind]) for kind in sorted(scores)}
    return {**by_type, "all": nanmean([score for found in scores.values() for score in found])}


def _kind(question_type: str) -> str:
    if question_type not in QUESTION_TYPES:
        raise ValueError(f"question type {question_type!r} isn't known; say one of {', '.join(QUESTION_TYPES)}")
    return QUESTION_TYPES[question_type]


def _readable(predicted: str | None) -> bool:
    return predicted is not None and len(predicted) <= _LONGEST


def _judged(predicted: str | None, true: str, judge: Callable[[str, str], float] | None) -> float:
    if judge is None:
        return float("nan")
    if not _readable(predicted):
        return 0.0
    score = float(judge(str(predicted), true))
    if not 0 <= score <= 1:
        raise ValueError(f"a judge's score is between 0 and 1, not {score}")
    return score

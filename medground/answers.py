"""Answers to visual questions, read: the letters of choices, yes or no. Rewards and metrics read alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

__all__ = ["READ", "QuestionType", "chosen", "folded", "plain", "question_type", "yes_or_no"]

READ = 2_000
"""Characters of an answer that are read; ThinkVG's have about a hundred."""

QuestionType = Literal["open", "closed", "single_choice", "multi_choice"]
"""Closed questions are answered by yes or no."""

_TYPES: dict[str, QuestionType] = {
    "open": "open",
    "closed": "closed",
    "single": "single_choice",
    "single_choice": "single_choice",
    "multi": "multi_choice",
    "multi_choice": "multi_choice",
    "multiple": "multi_choice",
    "multiple_choice": "multi_choice",
}

_LEAD = re.compile(
    r"(?:(?:the|my)\s)?(?:(?:correct|right|best|final)\s)?(?:answers?|options?|choices?)"
    r"(?:\s(?:is|are))?\s?:?\s?(?:(?:options?|choices?)\s)?",
    re.I,
)
_LETTERS = re.compile(r"\(?[a-z][).]?(?:(?:\s?[,;&+/]\s?|\sand\s|,\sand\s|\s)\(?[a-z][).]?){0,25}", re.I)
# A small letter marks a choice where the answer starts; later on it is likelier a word ("vitamin c.").
_MARK = re.compile(r"(?:^\(?[A-Za-z]|(?<=[\s,;(])[A-Z])\s?[:.)](?=\s|$)")
_OWN = re.compile(r"\(?([a-z])(?:\s?[:.)] ?|(?=\s?(?:$|[,;&/]|and\b)))")
_SET_OFF = re.compile(r"(?:[,;&/]|\band\b)\s?\(?([A-Z])[).]?\s?(?=$|[,;&/]|and\b)")
_JOINT = re.compile(r"(?:[,;&/] ?(?:and )?|and )")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_YES_NO = re.compile(r"(?:^|[,;./:!]|\bor\b|\band\b)\s?(yes|no)\b(?=\s?(?:$|[,;./!]|or\b|and\b))")


def question_type(name: Any) -> QuestionType | None:
    """Return the type of question that a data set's name of one means, or None.

    Examples
    --------
    >>> [question_type(name) for name in ("open_ended_questions", "Single-choice", "multi", "essay")]
    ['open', 'single_choice', 'multi_choice', None]
    """
    plain_name = re.sub(r"[\s_-]+", "_", name.strip().casefold()) if isinstance(name, str) else ""
    return _TYPES.get(plain_name.removesuffix("s").removesuffix("_question").removesuffix("_ended"))


def folded(text: str) -> str:
    r"""Return text in lower case and one form of Unicode (NFKC), with single blanks and straight apostrophes.

    Examples
    --------
    >>> folded(" Pleural\n  Effusion. ")
    'pleural effusion.'
    """
    return " ".join(unicodedata.normalize("NFKC", text).replace("’", "'").casefold().split())


def plain(text: str) -> str:
    """Return what is read of a text: `folded`, without quotes around it and a final stop.

    Examples
    --------
    >>> plain(" Pleural  Effusion. ")
    'pleural effusion'
    """
    return folded(text[:READ])[:READ].strip(" \"'.*")


def chosen(answer: str, choices: Mapping[str, str] | None) -> frozenset[str] | None:
    """Return the letters that an answer chooses, or None when it can't be told.

    Read are a letter, several ("A, C", "A and C", "AC"), letters with their texts ("A: left lung"), texts alone, and
    texts among which some have their letter. Texts are parted by commas, semicolons, slashes, "&", "and" or new lines.
    A letter beside another choice's text, "A or B", and words beside the choice are told as None.

    Parameters
    ----------
    answer : str
    choices : mapping of letter to text, or None
        Upper-case letters. Without them any letter counts, and texts beside letters aren't checked.

    Examples
    --------
    >>> choices = {"A": "left lung", "B": "right lung"}
    >>> [sorted(chosen(said, choices) or ()) for said in ("b", "(A) Left lung.", "right lung", "A or B", "A: right")]
    [['B'], ['A'], ['B'], [], []]
    """
    said = " ".join(unicodedata.normalize("NFKC", answer[:READ])[:READ].split()).strip(" \"'*[]")
    if lead := _LEAD.match(said):
        said = said[lead.end() :]
    letters = _letters(said, choices)
    if letters is None:
        letters = _marked(said, choices)
    if letters is None and choices is not None:
        letters = _texts(said, choices)
        lines = [line for line in answer[:READ].splitlines() if line.strip()]
        if letters is None and len(lines) > 1:  # a text may go over two lines, so lines part texts only now
            letters = _texts("; ".join(line.strip(" ,;-*•") for line in lines), choices)
    return letters


def _letters(said: str, choices: Mapping[str, str] | None) -> frozenset[str] | None:
    bare = said.rstrip(".: ")
    # "AC", and never "no": letters run together are capitals of the choices, each once.
    together = bare.isascii() and bare.isalpha() and bare.isupper() and len(set(bare)) == len(bare) > 1
    if together and choices is not None and set(bare) <= set(choices):
        return frozenset(bare)
    if not _LETTERS.fullmatch(bare):
        return None
    found = frozenset(letter.upper() for letter in re.findall(r"\b[A-Za-z]\b", bare))
    return found if found and (choices is None or found <= set(choices)) else None


def _marked(said: str, choices: Mapping[str, str] | None) -> frozenset[str] | None:
    """Return the choices of which each has its letter and a text, or at the start its letter alone."""
    found = [(mark, mark[0].lstrip("(")[0].upper()) for mark in _MARK.finditer(said)]
    marks = [(mark, letter) for mark, letter in found if choices is None or letter in choices]
    if not marks:
        return None
    before = said[: marks[0][0].start()].rstrip(" (,;&/").removesuffix(" and")
    listed = _letters(before, choices) if before else frozenset()
    if listed is None:
        return None
    ends = [mark.start() for mark, _ in marks[1:]] + [len(said)]
    for (mark, letter), end in zip(marks, ends, strict=True):
        text = plain(said[mark.end() : end]).rstrip(" ,;(")
        text = text.removesuffix(" and").rstrip(" ,;")
        if choices is None:  # no text is known, so a capital set off by commas is taken for a choice
            listed |= frozenset(_SET_OFF.findall(said[mark.end() : end]))
        elif text and _bare(text) != _bare(plain(choices[letter])):
            return None
    return listed | {letter for _, letter in marks}


def _texts(said: str, choices: Mapping[str, str]) -> frozenset[str] | None:
    """Return the choices whose texts, letters or both, and joints make up the whole answer."""
    texts = sorted(((_bare(plain(text)), letter) for letter, text in choices.items()), key=lambda pair: -len(pair[0]))
    rest, found = plain(said), set()
    while rest:
        letter, after = _next_choice(rest, texts)
        if letter is None:
            return None
        found.add(letter)
        rest = after.lstrip(" .")
        joint = _JOINT.match(rest)
        if rest and joint is None:
            return None
        rest = rest[joint.end() :] if joint else ""
    return frozenset(found) or None


def _next_choice(rest: str, texts: Sequence[tuple[str, str]]) -> tuple[str | None, str]:
    """Return the choice at the start of plain text, if there is one, and what follows it."""
    bare = _bare(rest)
    for text, letter in texts:
        if text and _starts(bare, text):
            return letter, bare[len(text) :]
    if own := _OWN.match(rest):
        after = _bare(rest[own.end() :])
        for text, letter in texts:
            if letter == own[1].upper():
                known = bool(text) and _starts(after, text)
                if known or not after or _JOINT.match(after.lstrip()):
                    return letter, after[len(text) :] if known else after
    return None, rest


def _starts(said: str, text: str) -> bool:
    return said.startswith(text) and not said[len(text) : len(text) + 1].isalnum()


def _bare(text: str) -> str:
    """Return plain text without an article at its start."""
    for article in ("the ", "a ", "an "):
        text = text.removeprefix(article)
    return text


def yes_or_no(answer: str) -> bool | None:
    """Return what an answer to a closed question says, or None: neither, or both.

    Examples
    --------
    >>> [yes_or_no(said) for said in ("Yes, there is no doubt.", "no", "yes or no", "Perhaps")]
    [True, False, None, None]
    """
    said = plain(answer)
    first = _WORD.match(said)
    if first is None or first[0] not in ("yes", "no"):
        return None
    if len({found[1] for found in _YES_NO.finditer(said)} | {first[0]}) > 1:
        return None
    return first[0] == "yes"

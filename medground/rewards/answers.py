"""Answers to visual questions, read: the letters of choices, yes or no."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

__all__ = ["chosen", "plain", "yes_or_no"]

READ = 2_000
"""Characters of an answer that are read; ThinkVG's have about a hundred."""

_LEAD = re.compile(
    r"(?:(?:the|my)\s)?(?:(?:correct|right|best|final)\s)?(?:answers?|options?|choices?)"
    r"(?:\s(?:is|are))?\s?:?\s?(?:(?:options?|choices?)\s)?",
    re.I,
)
_LETTERS = re.compile(r"\(?[a-z][).]?(?:(?:\s?[,;&+/]\s?|\sand\s|,\sand\s|\s)\(?[a-z][).]?){0,25}", re.I)
_MARK = re.compile(r"(?:^|(?<=[\s,;(]))([A-Z])\s?[:.)](?=\s|$)")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_YES_NO = re.compile(r"(?:^|[,;./:!]|\bor\b|\band\b)\s?(yes|no)\b(?=\s?(?:$|[,;./!]|or\b|and\b))")


def plain(text: str) -> str:
    """Return text in lower case and one form of Unicode, with single blanks, without quotes and a final stop.

    Examples
    --------
    >>> plain(" Pleural  Effusion. ")
    'pleural effusion'
    """
    text = unicodedata.normalize("NFKC", text[:READ])[:READ].replace("’", "'")
    return " ".join(text.casefold().split()).strip(" \"'.*")


def chosen(answer: str, choices: Mapping[str, str] | None) -> frozenset[str] | None:
    """Return the letters that an answer chooses, or None when it can't be told.

    Read are a letter, several ("A, C", "A and C", "AC"), letters with their texts ("A: left lung"), and texts alone.
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
    marks = [mark for mark in _MARK.finditer(said) if choices is None or mark[1] in choices]
    if not marks or said[: marks[0].start()].strip(" ("):
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(said)]
    for mark, end in zip(marks, ends, strict=True):
        text = plain(said[mark.end() : end]).rstrip(" ,;(")
        text = text.removesuffix(" and").rstrip(" ,;")
        if choices is not None and text and _bare(text) != _bare(plain(choices[mark[1]])):
            return None
    return frozenset(mark[1] for mark in marks)


def _texts(said: str, choices: Mapping[str, str]) -> frozenset[str] | None:
    """Return the choices whose texts, and nothing else but commas and "and", make up the answer."""
    texts = sorted(((_bare(plain(text)), letter) for letter, text in choices.items()), key=lambda pair: -len(pair[0]))
    rest, found = _bare(plain(said)), set()
    while rest:
        for text, letter in texts:
            if text and rest.startswith(text) and not rest[len(text) : len(text) + 1].isalnum():
                found.add(letter)
                rest = rest[len(text) :].lstrip(" .")
                joint = re.match(r"(?:[,;&] ?(?:and )?|and )", rest)
                if rest and joint is None:
                    return None
                rest = _bare(rest[joint.end() :]) if joint else ""
                break
        else:
            return None
    return frozenset(found) or None


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

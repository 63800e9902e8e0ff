"""What the words of the taxonomy must look like, and how names are found in them."""

from __future__ import annotations

import functools
import re
from typing import Annotated

from pydantic import AfterValidator, Field, StrictStr

__all__ = ["Description", "Fact", "Heading", "Phrase", "Sentence", "Term", "first_term", "similarity"]

_OPENINGS = ("the ", "a ", "an ", "whatever ", "anything that ")
_MIN_WORDS, _MAX_WORDS, _MAX_FACT_WORDS = 5, 16, 14
_MIN_DESCRIPTION_WORDS, _MAX_DESCRIPTION_WORDS = 25, 90
_MAX_HEADING_WORDS = 12
# Latin and Greek endings beside the English ones; a wrong guess ("lungae") is no word and so does no harm.
_PLURALS = (("y", "ies"), ("a", "ae"), ("us", "i"), ("um", "a"), ("is", "es"), ("ex", "ices"), ("ix", "ices"))


def _check_phrase(text: str) -> str:
    words = len(text.split())
    if not _MIN_WORDS <= words <= _MAX_WORDS:
        raise ValueError(f"{text!r} has {words} words; use {_MIN_WORDS} to {_MAX_WORDS}")
    if not text.startswith(_OPENINGS):
        raise ValueError(f"{text!r} must start with an article, 'whatever' or 'anything that'")
    if not text.isascii() or text != " ".join(text.split()) or text[-1] in ".?!,;:":
        raise ValueError(f"{text!r} must be plain ASCII with single blanks and no final stop")
    return text


def _check_heading(text: str) -> str:
    words = len(_check_phrase(text).split())
    if words > _MAX_HEADING_WORDS:
        raise ValueError(f"{text!r} has {words} words; use {_MIN_WORDS} to {_MAX_HEADING_WORDS}")
    return text


def _check_sentence(text: str) -> str:
    if not text.endswith(".") or not text[:1].isupper() or not text.isascii() or text != " ".join(text.split()):
        raise ValueError(f"{text!r} must be an ASCII sentence with single blanks")
    return text


def _check_fact(text: str) -> str:
    words = len(text.split())
    if words > _MAX_FACT_WORDS or not text.endswith(".") or not text[:1].isupper() or not text.isascii():
        raise ValueError(f"{text!r} must be one ASCII sentence of at most {_MAX_FACT_WORDS} words")
    return text


def _check_description(text: str) -> str:
    sentences = re.split(r"(?<=\.) ", _check_sentence(text))
    if not 2 <= len(sentences) <= 3 or not all(sentence[:1].isupper() for sentence in sentences):
        raise ValueError(f"{text!r} must be two or three sentences")
    words = len(text.split())
    if not _MIN_DESCRIPTION_WORDS <= words <= _MAX_DESCRIPTION_WORDS:
        raise ValueError(f"{text!r} has {words} words; use {_MIN_DESCRIPTION_WORDS} to {_MAX_DESCRIPTION_WORDS}")
    return text


Term = Annotated[StrictStr, Field(min_length=2, pattern=r"^[A-Za-z0-9][A-Za-z0-9' -]*[A-Za-z0-9]$")]
"""A name: letters, digits, apostrophes, blanks and hyphens."""
Phrase = Annotated[StrictStr, AfterValidator(_check_phrase)]
"""A noun phrase of 5 to 16 words that fits "Where is {X}?"."""
Heading = Annotated[StrictStr, AfterValidator(_check_heading)]
"""A noun phrase of 5 to 12 words."""
Sentence = Annotated[StrictStr, AfterValidator(_check_sentence)]
"""One or more ASCII sentences."""
Fact = Annotated[StrictStr, AfterValidator(_check_fact)]
"""One sentence of at most 14 words."""
Description = Annotated[StrictStr, AfterValidator(_check_description)]
"""Two or three sentences, 25 to 90 words."""


def first_term(text: str, terms: tuple[str, ...]) -> str | None:
    """Return the first of some terms that a text holds, as it stands there, or None.

    Terms are looked for as whole words, in any case, in singular and plural, with blanks or hyphens between the
    words of a term; where two could match, the one that comes earlier in `terms` wins.

    Examples
    --------
    >>> first_term("Two Hippocampi", ("hippocampus",))
    'Hippocampi'
    """
    found = _pattern(terms).search(text)
    return found.group(0) if found else None


def similarity(one: str, other: str) -> float:
    """Return the Jaccard index of the words of two texts, in [0, 1], case aside.

    Examples
    --------
    >>> similarity("the organ that makes urine", "the organ that stores urine")
    0.6666666666666666
    """
    words, others = (set(re.findall(r"\w+", text.casefold())) for text in (one, other))
    return len(words & others) / max(len(words | others), 1)


@functools.lru_cache(maxsize=1024)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = []
    for term in terms:
        *before, last = re.split(r"[\s-]+", term)
        forms = {last, last + "s", last + "es", last + "'s"}
        forms |= {last[: -len(end)] + plural for end, plural in _PLURALS if last.endswith(end)}
        tail = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        alternatives.append(r"[\s-]+".join([*map(re.escape, before), f"(?:{tail})"]))
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)", re.IGNORECASE)

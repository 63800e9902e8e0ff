"""Find the claims in a reasoning: what it asserts about its target that pixels can confirm or refute.

The rule is simple on purpose, and errs towards silence: what isn't clearly about the target is no claim.

1. A sentence ends at ``.``, ``!``, ``?``, ``;`` or a line break before a capital, a bullet or an empty line.
2. A question, and a sentence with a word of `vocabulary.DOUBT` (not, no, if, or, perhaps, usually ...), makes no claim.
3. From a word of `vocabulary.RELATIONS` on (next to, beside, than, where ...), a sentence isn't read. A comparison with
   "its surroundings" is read as a whole before that.
4. The target is "it", "this" before a verb, "its shape" and the like, a label ("Shape:"), or one of
   `vocabulary.TARGET_NOUNS` (region, lesion ...). A named structure isn't: its name doesn't tell whether it is meant.
5. A description counts before a noun that stands for the target ("a small, round region"), after it ("the lesion, small
   and round,"), or behind "is", "appears" or "looks" with the target as subject. A noun behind a preposition isn't the
   target ("in a dark region").
6. A place counts when it is anchored to the picture ("of the image") and the target is its subject, or the sentence
   opens with it and then speaks of the target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from medground.rewards.vocabulary import (
    ADVERBS,
    COMPARISON,
    COPULAS,
    DESCRIPTIONS,
    DETERMINERS,
    DOUBT,
    FUNCTION_WORDS,
    LABELS,
    NOT_DESCRIPTIONS,
    PARTS,
    PLACE,
    PREPOSITIONS,
    PROPERTIES,
    RELATIONS,
    TARGET_NOUNS,
)

__all__ = ["FACETS", "MAX_READ", "Claim", "claims"]

FACETS = ("place", "size", "brightness", "shape", "parts")
"""What can be claimed of a target."""

MAX_READ = 8000
"""Characters of a reasoning that are read; a sentence that this cuts isn't."""

_SENTENCE_END = re.compile(r"[!?;]|\.(?![0-9])|\n(?=[ \t]{0,8}(?:\n|[-*#>0-9A-Z]|•))")
_WORD = re.compile(r"[A-Za-z0-9]+(?:['’][A-Za-z]+)?|:")
_COMPARISON, _PLACE, _PARTS = re.compile(COMPARISON), re.compile(PLACE), re.compile(PARTS)
_REACH = 30  # words that are walked back in search of a subject, so that time stays linear


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable assertion.

    Parameters
    ----------
    facet : str
        One of `FACETS`.
    value : str
        The word of `Facts` that it says: ``"upper left"``, ``"small"``, ``"brighter than"``, ``"round"``, ``"one"`` ...
    start, end : int
        Where in the reasoning it stands: ``reasoning[start:end]``.
    coarse : bool
        A place that tells a half, a third or a quadrant of the picture instead of one of nine fields.
    """

    facet: str
    value: str
    start: int
    end: int
    coarse: bool = False


@dataclass(frozen=True, slots=True)
class _Phrase:
    facet: str
    value: str
    first: int  # its words are words[first:stop]
    stop: int
    coarse: bool = False


def claims(reasoning: str) -> tuple[Claim, ...]:
    """Return what a reasoning asserts about its target, in reading order.

    Parameters
    ----------
    reasoning : str
        Any text; its first `MAX_READ` characters are read. Time is linear in them.

    Returns
    -------
    tuple of Claim

    Examples
    --------
    >>> [(claim.facet, claim.value) for claim in claims("It is small and round, in the upper left of the image.")]
    [('size', 'small'), ('shape', 'round'), ('place', 'upper left')]
    >>> claims("Is it round? It is not round. The left lung is dark. It lies next to a bright region.")
    ()
    """
    found: list[Claim] = []
    for start, end in _sentences(reasoning):
        sentence = _Sentence(reasoning, start, end)
        found += sentence.claims()
    return tuple(found)


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each sentence starts and ends, questions left out."""
    start = 0
    for stop in _SENTENCE_END.finditer(text, 0, MAX_READ + 1):
        if stop.start() > start and stop.group() != "?":
            yield start, stop.start()
        start = stop.end()
    if len(text) <= MAX_READ and start < len(text):
        yield start, len(text)


class _Sentence:
    def __init__(self, text: str, start: int, end: int) -> None:
        matches = list(_WORD.finditer(text, start, end))
        self.spans = [match.span() for match in matches]
        self.words = [match.group().lower().replace("’", "'") for match in matches]

    def claims(self) -> list[Claim]:
        words = self.words
        if not DOUBT.isdisjoint(words) or any(word.endswith("n't") for word in words):
            return []
        joined = " ".join(words)
        if "rather than" in joined:
            return []
        phrases = self._phrases(joined)
        if not phrases:
            return []
        self.inside = [False] * len(words)  # part of a phrase of several words, whose words say nothing by themselves
        self.described = [False] * len(words)
        for phrase in phrases:
            for index in range(phrase.first, phrase.stop):
                self.described[index] = phrase.facet not in ("place", "parts")
                self.inside[index] = phrase.stop - phrase.first > 1
        self.target = [self._is_target(index) for index in range(len(words))]
        end = next((index for index in range(len(words)) if self._is_relation(index)), len(words))
        said = [phrase for phrase in phrases if phrase.stop <= end and self._counts(phrase, end)]
        return [
            Claim(
                phrase.facet,
                phrase.value,
                self.spans[phrase.first][0],
                self.spans[phrase.stop - 1][1],
                phrase.coarse,
            )
            for phrase in said
        ]

    def _phrases(self, joined: str) -> list[_Phrase]:
        """Return every phrase of the vocabulary, without overlaps, in order."""
        words, starts, position = self.words, {}, 0
        for index, word in enumerate(words):
            starts[position] = index
            position += len(word) + 1
        found: list[_Phrase] = []
        taken = [False] * len(words)
        for pattern, name in ((_COMPARISON, _compared), (_PLACE, _place), (_PARTS, _parts)):
            for match in pattern.finditer(joined):
                first = starts[match.start()]
                stop = first + match.group().count(" ") + 1
                named = name(match)
                if named and not any(taken[first:stop]):
                    taken[first:stop] = [True] * (stop - first)
                    found.append(_Phrase(*named[:2], first, stop, named[2]))
        index = 0
        while index < len(words):
            step = 1
            for length in (3, 2, 1):
                named_words = " ".join(words[index : index + length])
                if index + length > len(words):
                    continue
                if named_words in DESCRIPTIONS and not any(taken[index : index + length]):
                    if " ".join(words[index : index + 2]) not in NOT_DESCRIPTIONS:
                        found.append(_Phrase(*DESCRIPTIONS[named_words], index, index + length))
                    step = length
                    break
            index += step
        return sorted(found, key=lambda phrase: phrase.first)

    def _word(self, index: int) -> str:
        return self.words[index] if 0 <= index < len(self.words) else ""

    def _is_target(self, index: int) -> bool:
        if self.inside[index]:
            return False
        word, after, before = self.words[index], self._word(index + 1), self._word(index - 1)
        if word in TARGET_NOUNS:
            return before not in ("another", "other", "every", "each")
        if word == "it":
            return True
        if word == "this":
            return after in COPULAS or after in ("lies", "sits", "occupies", "fills")
        return (word in PROPERTIES and before == "its") or (word in LABELS and after == ":")

    def _is_relation(self, index: int) -> bool:
        if self.inside[index]:
            return False
        word = self.words[index]
        return word in RELATIONS or (word in ("left", "right") and self._word(index + 1) == "of")

    def _counts(self, phrase: _Phrase, end: int) -> bool:
        if phrase.facet == "place":
            return self._place_counts(phrase, end)
        if phrase.facet == "parts":
            return self._parts_count(phrase)
        before, after = self._word(phrase.first - 1), self._word(phrase.stop)
        if before in ("more", "less", "most", "least", "too", "so") or (before == "as" == after):
            return False
        if phrase.stop - phrase.first <= 2 and after in ("than", "to", "relative", "compared", "versus", "as"):
            return False
        return self._described_after(phrase) or self._described_before(phrase)

    def _place_counts(self, phrase: _Phrase, end: int) -> bool:
        before = self._word(phrase.first - 1)
        if before in ("patient's", "patients'", "patient", "anatomical", "anatomic", "his", "her"):
            return False
        start = phrase.first - 1 if before in DETERMINERS else phrase.first
        subject = self._subject(start)
        return any(self.target[phrase.stop : end]) if subject is None else subject

    def _parts_count(self, phrase: _Phrase) -> bool:
        before = self._word(phrase.first - 1)
        start = phrase.first - 1 if before in DETERMINERS else phrase.first
        if start == 0 or self._word(start - 1) == "there":
            return True
        if self._word(start - 2) == "there":
            return True
        return self._subject(start) is True

    def _subject(self, stop: int) -> bool | None:
        """Whether what comes before a word has the target as its subject; None when it has no subject at all."""
        index = stop - 1
        for _ in range(_REACH):
            if index < 0:
                return None
            if self.target[index]:
                return True
            word = self.words[index]
            if word in DETERMINERS and not self.inside[index]:
                if self._word(index - 1) not in PREPOSITIONS:
                    return False
                index -= 1
            index -= 1
        return False

    def _described_after(self, phrase: _Phrase) -> bool:
        """Whether the description follows the target or its copula."""
        index = phrase.first - 1
        unknown = 0
        for _ in range(_REACH):
            if index < 0:
                return False
            word = self.words[index]
            if word in COPULAS:
                return self._subject(index) is True
            if self.target[index]:
                return word != "it"
            if self.described[index] or word in ADVERBS or word in ("and", "but"):
                unknown = 0
            elif word in PROPERTIES and self._word(index - 1) in ("in", "of"):
                index -= 1
            elif word in FUNCTION_WORDS or unknown == 3:
                return False
            else:
                unknown += 1
            index -= 1
        return False

    def _described_before(self, phrase: _Phrase) -> bool:
        """Whether the description stands before a noun that means the target."""
        index, unknown = phrase.stop, 0
        for _ in range(_REACH):
            word = self._word(index)
            if not word:
                return False
            if self.target[index] or word in PROPERTIES:
                break
            if self.described[index] or word in ADVERBS:
                unknown = 0
            elif word == "and" and (self.described[index - 1]):
                pass
            elif word in FUNCTION_WORDS or word == "and" or unknown == 3:
                return False
            else:
                unknown += 1
            index += 1
        else:
            return False
        noun = self.words[index]
        if noun == "it" or noun == "this":
            return False
        start = phrase.first
        for _ in range(_REACH):
            word = self._word(start - 1)
            if not word or (word in FUNCTION_WORDS and word not in ADVERBS):
                break
            start -= 1
        if self._word(start - 1) in DETERMINERS:
            start -= 1
        if noun in PROPERTIES:
            return self._subject(start) is True
        return self._word(start - 1) == "as" or self._word(start - 1) not in PREPOSITIONS


def _compared(match: re.Match[str]) -> tuple[str, str, bool]:
    value = {"more": "brighter than", "less": "darker than", "same": "about as bright as"}[match.lastgroup or "same"]
    return ("brightness", value, False)


def _parts(match: re.Match[str]) -> tuple[str, str, bool]:
    return ("parts", match.lastgroup or "one", False)


_ROWS = {"upper": "upper", "top": "upper", "lower": "lower", "bottom": "lower"}


def _place(match: re.Match[str]) -> tuple[str, str, bool] | None:
    said = [word for word in (match["first"], match["second"]) if word]
    noun = match["noun"]
    rows = [_ROWS[word] for word in said if word in _ROWS]
    columns = [word for word in said if word in ("left", "right")]
    middle = len(said) - len(rows) - len(columns)
    if len(rows) > 1 or len(columns) > 1:
        return None
    if rows and columns:
        value = f"{rows[0]} {columns[0]}"
        if noun == "half":
            return None
        return ("place", f"{value} quadrant", True) if noun == "quadrant" else ("place", value, False)
    if not middle:  # one side alone
        if noun in ("quadrant", "corner"):
            return None
        return ("place", f"{(rows or columns)[0]} {'third' if noun == 'third' else 'half'}", True)
    if noun in ("half", "quadrant", "corner") or (noun in ("third", "edge", "border", "margin") and len(said) == 1):
        return None
    if rows:
        return ("place", f"{rows[0]} middle", False)
    return ("place", f"middle {columns[0]}" if columns else "centre", False)

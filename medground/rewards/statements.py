"""Find the claims in a reasoning: what it asserts about its target that pixels can confirm or refute.

The rule is simple on purpose, and errs towards silence: what isn't clearly said of the target is no claim.

1. A sentence ends at ``.``, ``!``, ``?``, ``;``, or a line break before a capital, a number, a bullet or an empty line.
2. A question makes no claim, nor does a sentence with a word of `vocabulary.DOUBT` (not, no, if, or, perhaps, usually).
3. From a word of `vocabulary.RELATIONS` on (next to, beside, than, where ...), a sentence isn't read: it speaks of
   something else. A comparison with "its surroundings" is read as a whole before that.
4. The target is "it", "this" before a verb, "its shape" and the like, a label ("Shape:"), or one of
   `vocabulary.TARGET_NOUNS` (region, lesion ...). A named structure isn't: its name doesn't tell whether it is meant.
5. A description counts before a noun that stands for the target ("a small, round region"), after it ("the lesion, small
   and round,"), or behind "is", "appears" or "looks" with the target as subject. A noun behind a preposition isn't the
   target ("in a dark region").
6. A place counts when it is anchored to the picture ("of the image") and the target is its subject, or the sentence
   opens with it and then speaks of the target. A number of parts counts with the target as its subject, behind "there
   is", or at the start of a sentence.
"""

from __future__ import annotations

import functools
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
    HAVING,
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
_WORD = re.compile(r"[A-Za-z0-9]+(?:['’][A-Za-z]+)?|[:/]")
_COMPARISON, _PLACE, _PARTS = re.compile(COMPARISON), re.compile(PLACE), re.compile(PARTS)
_REACH = 30  # words within which a subject or a noun is looked for, so that time stays linear
_LENGTHS = {phrase.split()[0]: (3, 2, 1) for phrase in DESCRIPTIONS}
_NOUNS = TARGET_NOUNS | PROPERTIES
_PHRASE_ENDS = FUNCTION_WORDS - {"and"}
_NOT_OF_TARGET = (PREPOSITIONS | {"has", "have"}) - {"as"}
_UNKNOWN = 3  # words outside the vocabulary that may stand between a description and its noun


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable assertion.

    Parameters
    ----------
    facet : str
        One of `FACETS`.
    value : str
        The word that `Facts` has for it: ``"upper left"``, ``"small"``, ``"brighter than"``, ``"round"``, ``"one"`` ...
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
    return _claims(reasoning[: MAX_READ + 1])


@functools.lru_cache(maxsize=256)  # a reasoning is asked for its evidence, then for its honesty
def _claims(text: str) -> tuple[Claim, ...]:
    return tuple(claim for start, end in _sentences(text) for claim in _Sentence(text, start, end).claims())


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each sentence starts and ends, questions left out."""
    start = 0
    for stop in _SENTENCE_END.finditer(text, 0, MAX_READ + 1):
        if stop.start() > start and stop.group() != "?":
            yield start, stop.start()
        start = stop.end()
    if len(text) <= MAX_READ and start < len(text):
        yield start, len(text)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase of the vocabulary: ``words[first:stop]`` of its sentence."""

    facet: str
    value: str
    coarse: bool
    first: int
    stop: int


class _Sentence:
    def __init__(self, text: str, start: int, end: int) -> None:
        matches = list(_WORD.finditer(text, start, end))
        self.spans = [match.span() for match in matches]
        self.words = [match.group().lower().replace("’", "'") for match in matches]

    def claims(self) -> list[Claim]:
        words, joined = self.words, " ".join(self.words)
        if not DOUBT.isdisjoint(words) or "n't" in joined or "rather than" in joined:
            return []
        phrases = self._phrases(joined)
        if not phrases:
            return []
        self.hidden = [False] * len(words)  # inside a phrase of several words, where they say nothing by themselves
        self.described = [False] * len(words)
        for phrase in phrases:
            # "A single region, small and round": the noun of a count still stands for the target.
            hidden = phrase.stop - (phrase.facet == "parts")
            for index in range(phrase.first, phrase.stop):
                self.described[index] = phrase.facet not in ("place", "parts")
                self.hidden[index] = phrase.stop - phrase.first > 1 and index < hidden
        self.end = next((index for index in range(len(words)) if self._turns_away(index)), len(words))
        self.target = [self._is_target(index) for index in range(len(words))]
        self.last_target = max((index for index in range(self.end) if self.target[index]), default=-1)
        return [
            Claim(
                phrase.facet,
                phrase.value,
                self.spans[phrase.first][0],
                self.spans[phrase.stop - 1][1],
                phrase.coarse,
            )
            for phrase in phrases
            if phrase.stop <= self.end and self._counts(phrase)
        ]

    def _phrases(self, joined: str) -> list[_Phrase]:
        """Return the phrases of the vocabulary in order, none overlapping another."""
        starts, position = {}, 0
        for index, word in enumerate(self.words):
            starts[position] = index
            position += len(word) + 1
        found: list[_Phrase] = []
        taken = [False] * len(self.words)
        for pattern, meaning in ((_COMPARISON, _compared), (_PLACE, _placed), (_PARTS, _counted)):
            for match in pattern.finditer(joined):
                first = starts[match.start()]
                stop = first + match.group().count(" ") + 1
                said = meaning(match)
                if said and not any(taken[first:stop]):
                    taken[first:stop] = [True] * (stop - first)
                    found.append(_Phrase(*said, first, stop))
        index = 0
        while index < len(self.words):
            length = 1
            for length in _LENGTHS.get(self.words[index], (1,)):
                known = DESCRIPTIONS.get(" ".join(self.words[index : index + length]))
                if known and index + length <= len(self.words) and not any(taken[index : index + length]):
                    if " ".join(self.words[index : index + 2]) not in NOT_DESCRIPTIONS:
                        found.append(_Phrase(*known, False, index, index + length))
                    break
            index += length
        return sorted(found, key=lambda phrase: phrase.first)

    def _word(self, index: int) -> str:
        return self.words[index] if 0 <= index < len(self.words) else ""

    def _turns_away(self, index: int) -> bool:
        """Whether the sentence speaks of something else from here on."""
        word = self.words[index]
        if self.hidden[index]:
            return False
        return word in RELATIONS or (word in ("left", "right") and self._word(index + 1) == "of")

    def _is_target(self, index: int) -> bool:
        word, before, after = self.words[index], self._word(index - 1), self._word(index + 1)
        if self.hidden[index]:
            return False
        if word in ("it", "it's") or word in TARGET_NOUNS:
            return before not in ("every", "each")
        if word == "this":
            return after in COPULAS or after in HAVING or after in ("lies", "sits", "occupies", "fills")
        return (word in PROPERTIES and before == "its") or (word in LABELS and after == ":")

    def _counts(self, phrase: _Phrase) -> bool:
        before, after = self._word(phrase.first - 1), self._word(phrase.stop)
        start = phrase.first - (before in DETERMINERS)
        if phrase.facet == "place":
            if before in ("patient's", "patients'", "patient", "anatomical", "anatomic", "his", "her"):
                return False
            subject = self._subject(start)
            return self.last_target >= phrase.stop if subject is None else subject
        if phrase.facet == "parts":
            existing = "there" in (self._word(start - 1), self._word(start - 2)) or before == "there's"
            return start == 0 or existing or self._subject(start) is True
        if self.words[phrase.first] in HAVING:
            return self._subject(phrase.first) is True
        # "More round", "as large as", "bright compared with": another yardstick than ours.
        if before in ("more", "less", "most", "least", "too", "so") or before == "as" == after:
            return False
        if phrase.stop - phrase.first < 3 and after in ("than", "to", "relative", "compared", "versus", "as"):
            return False
        return self._follows_target(phrase) or self._precedes_target(phrase)

    def _subject(self, stop: int) -> bool | None:
        """Whether the target is the subject of what comes before a word; None when it has no subject at all."""
        index = stop - 1
        for _ in range(_REACH):
            if index < 0:
                return None
            if self.target[index]:
                return True
            if self.words[index] in DETERMINERS and not self.hidden[index]:
                if self._word(index - 1) not in PREPOSITIONS:
                    return False
                index -= 1
            index -= 1
        return False

    def _follows_target(self, phrase: _Phrase) -> bool:
        """Whether the description stands behind the target, or behind a verb whose subject is the target."""
        index, unknown = phrase.first - 1, 0
        for _ in range(_REACH):
            if index < 0:
                return False
            word = self.words[index]
            if word in COPULAS or word == "it's":
                return self._subject(index + 1) is True
            if self.target[index]:
                return word not in ("it", "this")
            if self.described[index] or word in ADVERBS or word in ("and", "but"):
                unknown = 0
            elif word in PROPERTIES and self._word(index - 1) in ("in", "of"):
                index -= 1
            elif word in FUNCTION_WORDS or unknown == _UNKNOWN:
                return False
            else:
                unknown += 1
            index -= 1
        return False

    def _precedes_target(self, phrase: _Phrase) -> bool:
        """Whether the description stands before a noun for the target, or for a property of the target."""
        index, unknown = phrase.stop, 0
        for _ in range(_REACH):
            word = self._word(index)
            if not word or (word in _NOUNS and not self.hidden[index]):
                break
            if self.described[index] or word in ADVERBS or (word == "and" and self.described[index - 1]):
                unknown = 0
            elif word in FUNCTION_WORDS or unknown == _UNKNOWN:
                return False
            else:
                unknown += 1
            index += 1
        if self._word(index) not in _NOUNS:
            return False
        start = phrase.first
        while start > max(0, phrase.first - _REACH) and self.words[start - 1] not in _PHRASE_ENDS:
            start -= 1
        start -= self._word(start - 1) in DETERMINERS
        if self._word(index) in PROPERTIES:
            return self._subject(start) is True
        # "In a dark region", "it has a bright spot": another region than the target, or a part of it.
        return self._word(start - 1) not in _NOT_OF_TARGET


def _compared(match: re.Match[str]) -> tuple[str, str, bool]:
    words = {"more": "brighter than", "less": "darker than", "same": "about as bright as"}
    return "brightness", next(words[name] for name, said in match.groupdict().items() if said), False


def _counted(match: re.Match[str]) -> tuple[str, str, bool]:
    return "parts", next(name for name, said in match.groupdict().items() if said), False


_ROWS = {"upper": "upper", "top": "upper", "lower": "lower", "bottom": "lower"}


def _placed(match: re.Match[str]) -> tuple[str, str, bool] | None:
    said, noun = [word for word in (match["first"], match["second"]) if word], match["noun"]
    rows = [_ROWS[word] for word in said if word in _ROWS]
    columns = [word for word in said if word in ("left", "right")]
    middle = len(said) > len(rows) + len(columns)
    if len(rows) > 1 or len(columns) > 1:
        return None
    if middle:
        narrow = ("half", "quadrant", "corner") if len(said) == 2 else ("half", "quadrant", "corner", "third", "edge")
        if noun in narrow or noun in ("border", "margin"):
            return None
        value = f"{rows[0]} middle" if rows else f"middle {columns[0]}" if columns else "centre"
        return "place", value, False
    if rows and columns:
        if noun == "half":
            return None
        quadrant = noun == "quadrant"
        return "place", f"{rows[0]} {columns[0]}" + " quadrant" * quadrant, quadrant
    if noun in ("quadrant", "corner"):
        return None
    return "place", f"{(rows + columns)[0]} {'third' if noun == 'third' else 'half'}", True

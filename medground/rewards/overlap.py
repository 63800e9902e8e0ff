"""How far two answers in words say the same: overlap of findings, with synonyms, negation and sides."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from medground.answers import plain
from medground.rewards.radiology_words import EXCLUSIVE, NUMBER_WORDS, OPAQUE, PHRASES, STOP_WORDS

__all__ = ["overlap"]

HEDGED = 0.5
"""The most that an answer earns that says "or" where the truth doesn't, or names one side too many or too few."""

_PIECE = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[.;:,]")
_NEGATIVE = frozenset({"no", "not", "without", "nor", "neither", "never"})
_ABSENT = frozenset({"absent", "excluded", "resolved", "cleared"})
_SEEN = frozenset({"seen", "see", "present", "identified", "evident", "visible", "visualized", "visualised", "noted"})
_SEEN |= frozenset({"observed", "detected", "demonstrated", "shown", "appreciated"})
_CLAUSE_ENDS = frozenset({".", ";", ":", "but", "however", "although", "though", "while", "whereas", "yet", "except"})
# "no opacity in the left lung" says nothing against the lung.
_SCOPE_ENDS = _CLAUSE_ENDS | {"in", "of", "within", "at", "on", "along", "over", "with", "are", "is"}


@dataclass(frozen=True, slots=True)
class _Said:
    """Findings, each with whether it is denied, and the sides that stand beside it."""

    features: frozenset[tuple[str, bool]]
    sides: dict[str, set[str]]
    alternatives: bool


def overlap(answer: str, truth: str, question: str | None = None) -> float:
    r"""Return how far an answer in words agrees with the true one, 0 to 1.

    .. math:: overlap = \frac{2 P R}{P + R}

    where P is the share of the answer's findings that are the truth's, and R the share of the truth's that are the
    answer's (the F1 of SQuAD, Rajpurkar et al. 2016, over sets). A finding is a word that is neither a stop word nor
    one of the question's, after synonyms (`radiology_words.PHRASES`, and those of `medground.taxonomy` for anatomy) and
    plurals are made one, together with whether it is denied ("no", "without", "not seen", "is absent").

    0 for an answer that contradicts the truth: a finding denied that the truth affirms or affirmed that it denies, one
    on the other side, or one of exclusive words (left and right; upper, middle and lower ...) for another.
    At most 0.5 for "this or that" where the truth doesn't say "or", and where both name sides, one of them one more.

    Parameters
    ----------
    answer, truth : str
        Their first 2,000 characters are read.
    question : str, optional
        Its words earn nothing, unless the truth has no others.

    Examples
    --------
    >>> round(overlap("There is an enlarged heart and a small effusion.", "Cardiomegaly"), 2)
    0.5
    >>> overlap("Effusion on the right", "Left pleural effusion"), overlap("No effusion", "Pleural effusion")
    (0.0, 0.0)
    """
    if plain(answer) == plain(truth):
        return 1.0
    given, true = _read(plain(answer)), _read(plain(truth))
    if not given.features or not true.features or _contradicts(given, true):
        return 0.0
    ours, theirs = given.features, true.features
    asked = {word for word, _ in _read(plain(question)).features} if question else set()
    if beyond := {each for each in theirs if each[0] not in asked}:
        ours, theirs = frozenset(each for each in ours if each[0] not in asked), frozenset(beyond)
    shared = len(ours & theirs)
    worth = 2 * shared / (len(ours) + len(theirs))
    sides, true_sides = (
        {word for word in ("left", "right") if (word, False) in each.features} for each in (given, true)
    )
    hedged = (given.alternatives and not true.alternatives) or (sides and true_sides and sides != true_sides)
    return min(worth, HEDGED) if hedged else worth


def _contradicts(given: _Said, true: _Said) -> bool:
    words, true_words = ({word for word, denied in each.features if not denied} for each in (given, true))
    for word in {word for word, _ in given.features} & {word for word, _ in true.features}:
        if not {denied for each, denied in given.features if each == word} & {
            denied for each, denied in true.features if each == word
        }:
            return True
        ours, theirs = given.sides.get(word), true.sides.get(word)
        if ours and theirs and not ours & theirs:
            return True
    for group in EXCLUSIVE:
        ours_of = {index for index, names in enumerate(group) if names & words}
        theirs_of = {index for index, names in enumerate(group) if names & true_words}
        if ours_of and theirs_of and (not ours_of & theirs_of or (given.alternatives and ours_of > theirs_of)):
            return True
    return False


def _read(text: str) -> _Said:
    pieces = _canonical(tuple(NUMBER_WORDS.get(each, _singular(each)) for each in _PIECE.findall(text)))
    features: set[tuple[str, bool]] = set()
    sides: dict[str, set[str]] = {}
    alternatives = False
    denied = False
    clause: list[str] = []  # the findings of the clause so far, for negation that comes after them
    segment: list[str] = []  # the findings beside one side
    beside: set[str] = set()

    def close() -> None:
        for word in segment:
            sides.setdefault(word, set()).update(beside)
        segment.clear()
        beside.clear()

    for index, piece in enumerate(pieces):
        if piece in _CLAUSE_ENDS or (piece in (",", "and", "or") and segment):  # "left and right effusion" is one
            close()
        if piece in _CLAUSE_ENDS:
            clause.clear()
        if piece in _SCOPE_ENDS:
            denied = False
        if clause and (piece in _ABSENT or (piece == "not" and _SEEN & set(pieces[index + 1 : index + 3]))):
            features -= {(word, False) for word in clause}
            features |= {(word, True) for word in clause}
            continue
        if piece in _NEGATIVE or piece in _ABSENT:
            denied = True
            continue
        alternatives |= piece == "or" and not denied
        if piece in _STOPS or not piece[0].isalnum():
            continue
        features.add((piece, denied))
        if piece in ("left", "right"):
            beside.add(piece)
        else:
            segment.append(piece)
            clause.append(piece)
    close()
    return _Said(frozenset(features), sides, alternatives)


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "xes", "shes", "ches")) else word[:-1]


_STOPS = STOP_WORDS | {_singular(word) for word in STOP_WORDS}


@functools.cache
def _synonyms() -> dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]]:
    """First word -> (phrase, what it is read as), longest phrase first."""
    from medground.taxonomy import load_targets

    pairs = [(phrase, line[-1]) for line in PHRASES for phrase in line[:-1]]
    listed = {phrase for line in PHRASES for phrase in line}
    names: dict[str, set[str]] = {}
    for target in load_targets().values():
        if target.kind == "structure" and " and " not in target.name:
            for synonym in target.synonyms:
                names.setdefault(synonym.casefold(), set()).add(target.name.casefold())
    # Abbreviations are too short to be safe, and a synonym of two targets is one of neither.
    pairs += [
        (synonym, targets.pop())
        for synonym, targets in names.items()
        if len(targets) == 1 and len(synonym) > 3 and synonym not in OPAQUE | listed
    ]
    table: dict[str, list[tuple[tuple[str, ...], tuple[str, ...]]]] = {}
    for phrase, meant in pairs:
        words = tuple(_singular(word) for word in _PIECE.findall(phrase))
        table.setdefault(words[0], []).append((words, tuple(_singular(word) for word in _PIECE.findall(meant))))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return table


def _canonical(pieces: tuple[str, ...]) -> list[str]:
    """Replace phrases by what they are read as; a few passes, since what replaces one may begin another."""
    table = _synonyms()
    for _ in range(3):
        done: list[str] = []
        index = 0
        while index < len(pieces):
            for phrase, meant in table.get(pieces[index], ()):
                if pieces[index : index + len(phrase)] == phrase:
                    done += meant
                    index += len(phrase)
                    break
            else:
                done.append(pieces[index])
                index += 1
        if tuple(done) == pieces:
            break
        pieces = tuple(done)
    return list(pieces)

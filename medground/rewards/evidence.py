"""Evidence in a reasoning: what it claims of its target, checked against the pixels.

A claim that can be checked earns when it is true and costs when it is false; silence earns nothing. Claims are found by
`medground.rewards.statements`, facts are measured by `medground.data.attributes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from medground.data.attributes import (
    CONTRAST,
    ELONGATED,
    LARGE,
    ROUND,
    SMALL,
    TINY,
    Attributes,
    Quantities,
    quantities,
    zone_of,
)
from medground.errors import TruthError
from medground.rewards.statements import FACETS, MAX_READ, Claim, claims
from medground.types import Box, Mask

__all__ = [
    "FACETS",
    "MAX_READ",
    "NEEDED",
    "WORDS",
    "ZONES",
    "Claim",
    "Facts",
    "can_earn",
    "claims",
    "evidence",
    "holds",
    "honesty",
]

NEEDED = 4
"""Facets that a full account covers, where so many are known."""

SIZE_MARGIN, SHAPE_MARGIN, BRIGHTNESS_MARGIN, PLACE_MARGIN = 0.2, 0.05, 3.0, 0.04
"""How near to a threshold both its sides are accepted: share of a size threshold, axis ratio, grey levels, share of the
picture's width or height."""

PART, PART_MARGIN = 0.05, 0.01
"""Share of the target's area that a connected part must hold to be counted, and how near to it both counts are."""

ZONES = tuple(zone_of((column + 0.5) / 3, (row + 0.5) / 3) for row in range(3) for column in range(3))
"""The nine equal fields of a picture, row by row."""
_SIDES = tuple(f"{side} {part}" for part in ("half", "third") for side in ("left", "right", "upper", "lower"))
_QUADRANTS = tuple(f"{row} {column} quadrant" for row in ("upper", "lower") for column in ("left", "right"))
_SIZES = ("tiny", "small", "medium-sized", "large")
_BRIGHTNESS = ("darker than", "about as bright as", "brighter than")
_SHAPES = ("elongated", "oval", "round")
_PARTS = ("one", "two", "several")
WORDS: dict[str, tuple[str, ...]] = {
    "place": (*ZONES, *_SIDES, *_QUADRANTS),
    "size": _SIZES,
    "brightness": _BRIGHTNESS,
    "shape": _SHAPES,
    "parts": _PARTS,
}
"""The words of each facet; a zone is one of nine equal fields, as `data.attributes` words them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a target, in words.

    Parameters
    ----------
    accepted : mapping of str to frozenset of str
        Facet (one of `FACETS`) to the words of it that are true; facets that aren't known are missing. Near a threshold
        both neighbours are true.

    Examples
    --------
    >>> from medground.coords import Space
    >>> sorted(Facts.of_box(Box(0, 0, 10, 10, Space.pixels(100, 100))).accepted["place"])
    ['left half', 'left third', 'upper half', 'upper left', 'upper left quadrant', 'upper third']
    """

    accepted: Mapping[str, frozenset[str]]

    @classmethod
    def measure(cls, mask: Mask, grey: npt.NDArray[Any] | None = None) -> Facts:
        """Measure a target; the words of `medground.data.attributes.measure` are always among the accepted ones.

        Near a threshold both neighbours are accepted: within 20 % of a threshold of size, 0.05 of an axis ratio, 3 grey
        levels, 0.04 of the picture's width or height at the border of a field. Parts are 8-connected and hold at least
        5 % of the area; within one point of that both counts are accepted.

        Parameters
        ----------
        mask : bool array, shape (height, width)
            Not empty.
        grey : array, shape (height, width), optional
            Grey levels, 0 to 255; brightness isn't known without.

        Raises
        ------
        TruthError
            When the mask is empty, or the two shapes differ.
        """
        seen = quantities(mask, grey)
        accepted = {
            "place": _places(seen.x, seen.y),
            "size": _near(seen.share, _SIZES, [(edge, edge * SIZE_MARGIN) for edge in (TINY, SMALL, LARGE)]),
            "shape": _near(seen.axis_ratio, _SHAPES, [(edge, SHAPE_MARGIN) for edge in (ELONGATED, ROUND)]),
            "parts": _counts(seen),
        }
        if seen.contrast is not None:
            edges = [(edge, BRIGHTNESS_MARGIN) for edge in (-CONTRAST, CONTRAST)]
            accepted["brightness"] = _near(seen.contrast, _BRIGHTNESS, edges)
        return cls(accepted)

    @classmethod
    def of_box(cls, box: Box) -> Facts:
        """Return what a box tells, in any space: the place alone."""
        x, y = (box.x1 + box.x2) / 2 / box.space.width, (box.y1 + box.y2) / 2 / box.space.height
        return cls({"place": _places(x, y)})

    @classmethod
    def from_attributes(cls, attributes: Attributes) -> Facts:
        """Return the facts that measured words tell, without margins; what a zone leaves open of the sides is true."""
        index = ZONES.index(attributes.zone)
        row, column = divmod(index, 3)
        return cls(
            {
                "place": _place_words([column], [row], _halves(column), _halves(row)),
                "size": frozenset({attributes.size}),
                "brightness": frozenset({attributes.brightness}),
                "shape": frozenset({attributes.shape}),
            }
        )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Facts:
        """Read what `to_dict` wrote: facet to a word or a list of words; a facet that is None isn't known.

        Raises
        ------
        TruthError
            When a facet or a word is unknown; names the field.

        Examples
        --------
        >>> Facts.read({"size": ["small", "tiny"]}).to_dict()
        {'size': ['small', 'tiny']}
        >>> Facts.read({"size": ["smal"]})
        Traceback (most recent call last):
            ...
        medground.errors.TruthError: facts, field 'size': unknown word 'smal'; use tiny, small, medium-sized, large
        """
        if not isinstance(value, Mapping):
            raise TruthError(f"facts: a table of facets is needed, not {type(value).__name__}; use {', '.join(FACETS)}")
        accepted: dict[str, frozenset[str]] = {}
        for facet, words in value.items():
            if facet not in WORDS:
                raise TruthError(f"facts: unknown field {str(facet)[:40]!r}; use {', '.join(FACETS)}")
            if words is None:  # as tables fill in what a row lacks
                continue
            listed = [words] if isinstance(words, str) else words
            if not isinstance(listed, Sequence | frozenset | set) or not listed:
                raise TruthError(f"facts, field {facet!r}: a list of words is needed; use {', '.join(WORDS[facet])}")
            for word in listed:
                if word not in WORDS[facet]:
                    raise TruthError(
                        f"facts, field {facet!r}: unknown word {str(word)[:40]!r}; use {', '.join(WORDS[facet])}"
                    )
            accepted[facet] = frozenset(listed)
        return cls(accepted)

    def to_dict(self) -> dict[str, list[str]]:
        """Return facets and their sorted words, ready for JSON."""
        return {facet: sorted(self.accepted[facet]) for facet in FACETS if facet in self.accepted}


def _near(value: float, words: Sequence[str], edges: Sequence[tuple[float, float]]) -> frozenset[str]:
    """Return the words, in ascending order, whose interval holds the value once widened by the margin of each edge."""
    lows = [float("-inf"), *(edge - margin for edge, margin in edges)]
    highs = [*(edge + margin for edge, margin in edges), float("inf")]
    return frozenset(word for word, low, high in zip(words, lows, highs, strict=True) if low <= value <= high)


def _thirds(value: float) -> list[int]:
    return [int(word) for word in _near(value, "012", [(1 / 3, PLACE_MARGIN), (2 / 3, PLACE_MARGIN)])]


def _places(x: float, y: float) -> frozenset[str]:
    halves = ([int(word) for word in _near(value, "01", [(0.5, PLACE_MARGIN)])] for value in (x, y))
    return _place_words(_thirds(x), _thirds(y), *halves)


def _halves(third: int) -> list[int]:
    return [[0], [0, 1], [1]][third]


def _place_words(
    columns: Iterable[int], rows: Iterable[int], halves_across: Iterable[int], halves_down: Iterable[int]
) -> frozenset[str]:
    across, down = ("left", "right"), ("upper", "lower")
    words = {ZONES[row * 3 + column] for row in rows for column in columns}
    for names, thirds, halves in ((across, columns, halves_across), (down, rows, halves_down)):
        words |= {f"{names[third // 2]} third" for third in thirds if third != 1}
        words |= {f"{names[half]} half" for half in halves}
    words |= {f"{down[row]} {across[column]} quadrant" for row in halves_down for column in halves_across}
    return frozenset(words)


def _counts(seen: Quantities) -> frozenset[str]:
    def word(least: float) -> int:
        counted = [part for part in seen.parts if part >= least]
        # Dust: what is counted must be most of the target before it says how many parts there are.
        return min(len(counted), 3) if sum(counted) >= 0.5 else 3

    counts = {word(PART - PART_MARGIN), word(PART), word(PART + PART_MARGIN)}
    return frozenset(_PARTS[count - 1] for count in range(min(counts), max(counts) + 1))


def holds(claim: Claim, facts: Facts) -> bool | None:
    """Whether a claim is true; None when its facet isn't known.

    Examples
    --------
    >>> claim = claims("It is small.")[0]
    >>> holds(claim, Facts.read({"size": "small"})), holds(claim, Facts.read({"shape": "oval"}))
    (True, None)
    """
    accepted = facts.accepted.get(claim.facet)
    return None if accepted is None else claim.value in accepted


def can_earn(facts: Facts) -> bool:
    """Whether a reasoning can earn anything by `evidence`: some facet is known that a look is needed for.

    Examples
    --------
    >>> can_earn(Facts.read({"size": "small"})), can_earn(Facts.read({"parts": "one"}))
    (True, False)
    """
    return any(_earns(facet, facts) for facet in facts.accepted)


def _earns(facet: str, facts: Facts) -> bool:
    # One part is what everybody expects: saying it of each target would earn without a look.
    return facet in facts.accepted and (facet != "parts" or facts.accepted[facet] != {"one"})


def _weigh(reasoning: str, facts: Facts) -> tuple[float, int, int]:
    """Return how much is true, how many facets are false, and how many facets a full account covers."""
    earned: dict[str, float] = {}
    false: set[str] = set()
    for claim in claims(reasoning):
        verdict = holds(claim, facts)
        if verdict is False:
            false.add(claim.facet)
        elif verdict and _earns(claim.facet, facts):
            earned[claim.facet] = max(earned.get(claim.facet, 0.0), 0.5 if claim.coarse else 1.0)
    true = sum(weight for facet, weight in earned.items() if facet not in false)
    return true, len(false), min(NEEDED, sum(_earns(facet, facts) for facet in facts.accepted))


def evidence(reasoning: str, facts: Facts) -> float:
    """Return how much of what can be seen a reasoning tells truly, 0 to 1.

    ``clip((true - false) / needed, 0, 1)``; ``needed`` is the number of facets that can earn, at most 4.

    A facet (place, size, brightness, shape, parts) counts once, however often it is claimed: 1 false as soon as one
    claim about it is false, else 1 true. A place told by a half, a third or a quadrant of the picture alone is half
    true; with a zone beside it, it counts no more than the zone. Claims about a facet that isn't known count nothing.
    "One part" can be false but can't earn: nearly every target is in one part, so it would earn without a look.

    When does a guess pay that is right with probability p? Weigh evidence and honesty the same. A right one gains
    ``1 / needed``. A wrong one loses ``2 / needed`` of honesty, and ``1 / needed`` of evidence where there is so much
    to lose. So a guess pays from p = 3/4 on beside a true claim (4p > 3), from p = 2/3 on where no facet is true yet
    (3p > 2), and never once evidence is full. For a coarse place the limits are 6/7 and 4/5: neither a side tossed by a
    coin nor "the centre", true of about 64 % of real targets, pays.

    Parameters
    ----------
    reasoning : str
        Any text; its first `MAX_READ` characters are read.
    facts : Facts

    Returns
    -------
    float
        0 for silence, and where no facet can earn.

    Examples
    --------
    >>> facts = Facts.read({"place": ["upper left", "left half"], "size": "small", "shape": "round"})
    >>> evidence("It is small and round, in the upper left of the image.", facts)
    1.0
    >>> evidence("It is small and round. It lies on the left side of the image.", facts) == 2.5 / 3
    True
    >>> evidence("It is small. It is small. It is oval.", facts)
    0.0
    """
    true, false, needed = _weigh(reasoning, facts)
    return min(max((true - false) / needed, 0.0), 1.0) if needed else 0.0


def honesty(reasoning: str, facts: Facts) -> float:
    """Return how free of false claims a reasoning is, 0 to 1: ``clip(1 - 2 false / needed, 0, 1)``.

    A false facet costs twice what a true one earns: at the same price, saying what is true of most targets would pay.

    False facets and ``needed`` (here at least 1) are those of `evidence`. Silence is 1.

    Parameters
    ----------
    reasoning : str
        Any text; its first `MAX_READ` characters are read.
    facts : Facts

    Examples
    --------
    >>> honesty("It is small and oval.", Facts.read({"place": "centre", "size": "small", "shape": "round"}))
    0.33333333333333337
    """
    _, false, needed = _weigh(reasoning, facts)
    return min(max(1.0 - 2 * false / max(needed, 1), 0.0), 1.0)

"""An answer held against itself: whether the mask that was drawn says what the reasoning says.

What a reasoning claims of its target can be measured on the mask that its own location led to: the two were made by
different models, and only one of them speaks. No truth is needed. A claim that the mask speaks against tells that one
of the two is wrong (docs/report/report.md has how often).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground.rewards.evidence import WORDS, ZONES, Facts, claims, holds
from medground.types import CheckedClaim, Mask

__all__ = ["contradictions", "drawn_facts", "self_check"]

LONGEST_SIDE = 1024
"""Pixels of the longer side at which larger pictures are measured."""

_SAID = {
    "place": "in the {}",
    "size": "{}",
    "brightness": "{} its surroundings",
    "shape": "{}",
    "parts": "in {} parts",
}


def drawn_facts(mask: Mask, rgb: npt.NDArray[np.uint8]) -> Facts | None:
    """Return what a mask says of its target; None of an empty one.

    Parameters
    ----------
    mask : bool array, shape (height, width)
    rgb : uint8 array, shape (height, width, 3)
    """
    grey, drawn = Image.fromarray(rgb).convert("L"), Image.fromarray(mask)
    if (longest := max(grey.size)) > LONGEST_SIDE:
        width, height = (max(1, round(side * LONGEST_SIDE / longest)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BOX)
        drawn = drawn.resize((width, height), Image.Resampling.NEAREST)
    seen = np.asarray(drawn, bool)
    return Facts.measure(seen, np.asarray(grey)) if seen.any() else None


def self_check(reasoning: str, facts: Facts) -> tuple[CheckedClaim, ...]:
    """Return what a reasoning claims of its target, each claim held against what was measured of the drawn mask.

    Parameters
    ----------
    reasoning : str
    facts : Facts
        Of `drawn_facts`.

    Returns
    -------
    tuple of CheckedClaim
        In reading order; which claims can be found is told in `medground.rewards.statements`.

    Examples
    --------
    >>> facts = Facts.read({"size": "small", "shape": ["oval", "round"]})
    >>> [(claim.text, claim.agrees) for claim in self_check("It is large and round, and in one piece.", facts)]
    [('large', False), ('round', True), ('one piece', None)]
    """
    return tuple(
        CheckedClaim(reasoning[claim.start : claim.end], claim.facet, claim.start, claim.end, holds(claim, facts))
        for claim in sorted(claims(reasoning), key=lambda each: each.start)
    )


def contradictions(checked: Iterable[CheckedClaim], facts: Facts) -> tuple[str, ...]:
    """Return a sentence for each claim that the drawn mask speaks against.

    Examples
    --------
    >>> facts = Facts.read({"size": "small", "shape": ["oval", "round"]})
    >>> contradictions(self_check("It is large and round.", facts), facts)
    ('the reasoning says "large"; by the mask that was drawn the target is small',)
    """
    return tuple(
        f'the reasoning says "{claim.text}"; by the mask that was drawn the target is {_words(facts, claim.facet)}'
        for claim in checked
        if claim.agrees is False
    )


def _words(facts: Facts, facet: str) -> str:
    # Of places the nine fields: halves, thirds and quadrants follow from them.
    said = [word for word in (ZONES if facet == "place" else WORDS[facet]) if word in facts.accepted[facet]]
    words = _SAID[facet].format(" or ".join(said))
    return "in one part" if words == "in one parts" else words

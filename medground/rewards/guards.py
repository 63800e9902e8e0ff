"""Guards against answers that grow without end or say one thing again and again."""

from __future__ import annotations

import re

__all__ = ["ENOUGH", "READ", "SPAN", "TOO_LONG", "length", "repetition"]

ENOUGH, TOO_LONG = 4_000, 8_000
"""Characters up to which a completion is no longer than it need be, and from which it earns nothing for its length.

The paper's completions have at most 2,048 tokens, about 8,000 characters of English.
"""

SPAN = 6
"""Words in a row that count as said again."""

READ = TOO_LONG
"""Characters of the reasoning that are looked at; what is longer has lost the length term already."""

_PARDONED = 0.1

_WORD = re.compile(r"[^\W_]{1,30}")  # what runs on without a blank is read in pieces, so that it can repeat as well


def length(completion: str) -> float:
    r"""Return 1 for a completion of up to 4,000 characters, falling to 0 at 8,000; 0 to 1.

    .. math:: length = \min\left(1, \max\left(0, \frac{8000 - n}{8000 - 4000}\right)\right)

    for n characters (the overlong punishment of DAPO, arXiv 2503.14476).

    Notes
    -----
    Hacking: claims at random until some are true; each has to be paid for in characters, and false ones cost.

    Examples
    --------
    >>> length("short"), length("x" * 6000), length("x" * 10**6)
    (1.0, 0.5, 0.0)
    """
    return min(max((TOO_LONG - len(completion)) / (TOO_LONG - ENOUGH), 0.0), 1.0)


def repetition(reasoning: str) -> float:
    r"""Return 1 less the share of six-word spans that were said before, of which a tenth is pardoned; 0 to 1.

    .. math:: repetition = \min\left(1, \frac{1 - r}{0.9}\right)

    with r the share of spans that repeat an earlier one (the n-gram penalty of Yeo et al. 2025, arXiv 2502.03373). A
    word is a run of letters and digits, at most 30 of them.

    Notes
    -----
    Hacking: one true sentence, many times over; a claim earns once, and the copies cost here, with and without
    blanks between them.

    Examples
    --------
    >>> repetition("It lies in the upper left of the image and is small and round.")
    1.0
    >>> round(repetition("It is small and round and dark. " * 20), 2)
    0.06
    """
    words = _WORD.findall(reasoning[:READ].casefold())
    spans = [tuple(words[start : start + SPAN]) for start in range(len(words) - SPAN + 1)]
    repeated = 1 - len(set(spans)) / len(spans) if spans else 0.0
    return min(1.0, (1 - repeated) / (1 - _PARDONED))

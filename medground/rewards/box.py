"""What a predicted box is worth."""

from __future__ import annotations

import math

from medground.types import Box

__all__ = ["NEARNESS", "box"]

NEARNESS = 0.1
"""The share of the box term that a box earns by being near: its slope where the boxes don't meet."""


def box(predicted: Box, true: Box) -> float:
    r"""Return how well a box fits, 0 to 1, in the manner of complete IoU (Zheng et al. 2020, arXiv 1911.08287).

    .. math::

        box = 0.9 \max(0, IoU - \alpha v) + 0.1 (1 - \rho^2 / c^2), \quad
        v = \tfrac{4}{\pi^2} (\arctan \tfrac{w}{h} - \arctan \tfrac{w'}{h'})^2, \quad
        \alpha = \frac{v}{1 - IoU + v}

    with the distance :math:`\rho` of the two centres and the diagonal c of the smallest box around both. Complete IoU
    subtracts the distance; here nearness earns a tenth instead, so the term stays in 0 to 1, identical boxes get 1, and
    a box that misses still earns more as it moves straight towards the target. As c grows with the boxes, one that
    misses earns a little for size as well; the whole of it stays within the tenth.

    Parameters
    ----------
    predicted, true : Box
        In the same space, best one with square units: the distance and the sides' ratio depend on it.

    Notes
    -----
    Hacking: a box around the whole picture always meets the target. It earns the target's share of the picture, and
    for its centre at most the tenth.

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(100, 100)
    >>> true = Box(10, 10, 30, 30, space)
    >>> box(true, true)
    1.0
    >>> [round(box(Box(x, 10, x + 20, 30, space), true), 3) for x in (20, 40, 70)]
    [0.392, 0.069, 0.047]
    """
    if predicted == true:
        return 1.0
    iou = predicted.iou(true)
    v = 4 / math.pi**2 * (math.atan2(predicted.width, predicted.height) - math.atan2(true.width, true.height)) ** 2
    ratio = v * v / (1 - iou + v) if v > 0 else 0.0
    across = (predicted.x1 + predicted.x2 - true.x1 - true.x2) / 2
    down = (predicted.y1 + predicted.y2 - true.y1 - true.y2) / 2
    wide = max(predicted.x2, true.x2) - min(predicted.x1, true.x1)
    high = max(predicted.y2, true.y2) - min(predicted.y1, true.y1)
    nearness = 1 - (across**2 + down**2) / (wide**2 + high**2)
    return (1 - NEARNESS) * max(0.0, iou - ratio) + NEARNESS * min(max(nearness, 0.0), 1.0)

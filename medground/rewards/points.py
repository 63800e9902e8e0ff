"""What two predicted key points are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medground.coords import Space
from medground.types import Box, Mask, Point

__all__ = ["points_dice", "points_inside"]


def points_dice(predicted: Sequence[Point], true: Sequence[Point]) -> float:
    r"""Return the Dice coefficient (Dice 1945) of two circles, each with its two key points as a diameter; 0 to 1.

    .. math:: points\_dice = \frac{2 |C \cap C'|}{|C| + |C'|}

    The circle stands for the target's place and extent (MedReasoner, arXiv 2508.08177); the paper's own term divides
    by the union instead and so passes 1, see `medground.rewards.umrg`.

    Parameters
    ----------
    predicted, true : sequence of two Point
        In the same space with square units. Their order doesn't matter.

    Notes
    -----
    Hacking: both points on the one place that is surest to be inside; a circle without extent shares no area, so the
    term is 0 unless the true points coincide there too.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> a, b, c = (Point(x, 50, space) for x in (20, 40, 60))
    >>> points_dice([a, c], [c, a]), points_dice([a, b], [a, c]), points_dice([a, a], [a, c])
    (1.0, 0.4, 0.0)
    """
    (ax, ay, ar), (bx, by, br) = _circle(predicted), _circle(true)
    apart = math.hypot(ax - bx, ay - by)
    if (ax, ay, ar) == (bx, by, br):
        return 1.0
    if apart >= ar + br:
        return 0.0
    small, large = sorted((ar, br))
    if apart <= large - small:
        shared = math.pi * small**2
    else:
        shared = _segment(small, large, apart) + _segment(large, small, apart)
    both = math.pi * (ar**2 + br**2)
    return min(2 * shared / both, 1.0) if both else 0.0  # circles too small for a float


def points_inside(predicted: Sequence[Point], box: Box | None, mask: Mask | None = None) -> float:
    r"""Return the share of points that lie on the target: on its mask where that is known, else in its box; 0 to 1.

    .. math:: points\_inside = \tfrac1n \sum_i [p_i \in target]

    Parameters
    ----------
    predicted : sequence of Point
        In any space of the picture.
    box : Box or None
        The true box; not looked at where there is a mask.
    mask : bool array, shape (height, width), optional
        The true mask of the whole picture.

    Notes
    -----
    Hacking: the box's centre is inside most boxes, and off the target where it is a ring or a crescent; the mask tells.

    Examples
    --------
    >>> import numpy as np
    >>> ring = np.ones((3, 3), bool); ring[1, 1] = False
    >>> space = Space.pixels(3, 3)
    >>> centre, corner = Point(1.5, 1.5, space), Point(0.5, 0.5, space)
    >>> points_inside([centre, corner], Box(0, 0, 3, 3, space)), points_inside([centre, corner], None, ring)
    (1.0, 0.5)
    """
    hits = 0
    for point in predicted:
        if mask is None:
            hits += box is not None and box.contains(point)
            continue
        height, width = mask.shape
        x, y = point.to(Space.pixels(width, height)).xy
        # A point on the right or lower edge belongs to the last pixel.
        column, row = min(int(x), width - 1), min(int(y), height - 1)
        hits += 0 <= x <= width and 0 <= y <= height and bool(mask[row, column])
    return hits / len(predicted) if predicted else 0.0


def _circle(points: Sequence[Point]) -> tuple[float, float, float]:
    (ax, ay), (bx, by) = sorted(point.xy for point in points)  # so that the order changes no last digit
    return (ax + bx) / 2, (ay + by) / 2, math.hypot(bx - ax, by - ay) / 2


def _segment(own: float, other: float, apart: float) -> float:
    """Return the area that the chord of two crossing circles cuts from the one of radius `own`."""
    cosine = (apart**2 + own**2 - other**2) / (2 * apart * own)
    half = math.acos(min(max(cosine, -1.0), 1.0))
    return own**2 * (half - math.sin(half) * math.cos(half))

"""The single terms of MedReasoner's rewards (arXiv 2508.08177) in plain numbers, for `medground.rewards.umrg`.

Boxes are x1, y1, x2, y2 and points are (x, y), all in pixels of the paper's 840 x 840 pictures. A term is measured
first (an overlap, where more is better, or a distance), then shaped, then taken down by its two validities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

__all__ = [
    "Edges",
    "Pair",
    "angle",
    "area_valid",
    "box_align",
    "box_iou",
    "box_scale",
    "exp_shaped",
    "log_shaped",
    "pdice_paper",
    "penalised",
    "points_align",
    "position_valid",
    "spread_valid",
]

Edges = Sequence[float]
"""A box as four numbers: x1, y1, x2, y2."""

Pair = Sequence[Sequence[float]]
"""Two points as two pairs of numbers: (x, y), (x, y)."""


# --- shaping ---------------------------------------------------------------------------------------------------------


def log_shaped(value: float, k: float = 3.0) -> float:
    """Return 0.9 ln(k v + 1) / ln(k + 1) + 0.1, which is steep where v is small.

    From 0.1 at 0 to 1 at 1, and above 1 beyond (`penalised` clips). For v >= 0. Source: MedReasoner.

    Examples
    --------
    >>> [round(log_shaped(value), 4) for value in (0, 0.5, 1)]
    [0.1, 0.6949, 1.0]
    """
    return 0.9 * math.log(k * value + 1) / math.log(k + 1) + 0.1


def exp_shaped(value: float, k: float = 3.0, c: float = 1.0) -> float:
    """Return 0.9 (s(v) - s(2)) / (s(0) - s(2) + 1e-8) + 0.1 with s(v) = 1 / (1 + exp(k (v - c))).

    For a distance v from 0 (worth 1) to 2 (worth 0.1), falling fastest at `c`. Source: MedReasoner.

    Examples
    --------
    >>> [round(exp_shaped(value), 4) for value in (0, 1, 2)]
    [1.0, 0.55, 0.1]
    """
    low, span = _ends(k, c)
    return 0.9 * (1 / (1 + math.exp(k * (value - c))) - low) / span + 0.1


@cache
def _ends(k: float, c: float) -> tuple[float, float]:
    low, high = (1 / (1 + math.exp(k * (value - c))) for value in (2, 0))
    return low, high - low + 1e-8


def penalised(reward: float, valid_a: float, valid_b: float) -> float:
    """Return 0.7 r + 0.3 r (valid_a + valid_b) / 2, clipped to [0, 1] and rounded to 4 places.

    Two validities of 0.5 take 15 % off. NaN gives 0. Source: MedReasoner.

    Examples
    --------
    >>> penalised(0.8, 1.0, 1.0), penalised(0.8, 0.5, 0.5), penalised(1.6, 1.0, 0.5)
    (0.8, 0.68, 1.0)
    """
    value = 0.7 * reward + 0.3 * reward * (valid_a + valid_b) / 2
    if value >= 1:
        return 1.0
    return round(value, 4) if value > 0 else 0.0  # NaN is not above 0


# --- box -------------------------------------------------------------------------------------------------------------


def _diagonal(true: Edges) -> float:
    return math.hypot(true[2] - true[0], true[3] - true[1]) + 1e-5


def box_iou(predicted: Edges, true: Edges) -> float:
    """Return intersection over union of two boxes x1, y1, x2, y2, with 1e-5 added to the union; 0 to 1.

    The paper's metric too; its reward is `log_shaped` of it. In the paper's pixels. Source: MedReasoner.

    Examples
    --------
    >>> round(box_iou((0, 0, 10, 10), (0, 0, 10, 20)), 6)
    0.5
    """
    across = min(predicted[2], true[2]) - max(predicted[0], true[0])
    down = min(predicted[3], true[3]) - max(predicted[1], true[1])
    shared = across * down if across > 0 and down > 0 else 0.0
    areas = (predicted[2] - predicted[0]) * (predicted[3] - predicted[1]) + (true[2] - true[0]) * (true[3] - true[1])
    return shared / (areas - shared + 1e-5)


def box_align(predicted: Edges, true: Edges) -> float:
    """Return the mean distance of the four edges over the true diagonal (+1e-5), clipped to [0, 2].

    A distance: its reward is `exp_shaped` of it. Both boxes x1, y1, x2, y2 in the paper's pixels. Source: MedReasoner.

    Examples
    --------
    >>> round(box_align((4, 0, 30, 40), (0, 0, 30, 40)), 6)
    0.02
    """
    x1, y1, x2, y2 = predicted
    apart = (abs(x1 - true[0]) + abs(y1 - true[1]) + abs(x2 - true[2]) + abs(y2 - true[3])) / 4
    return min(apart / _diagonal(true), 2.0)


def box_scale(predicted: Edges, true: Edges) -> float:
    """Return sqrt(dlogA^2 + dlogR^2) of area A and aspect ratio R = w / h, each + 1e-6, capped at 1.

    A distance: its reward is `exp_shaped` of it with c = 0.5. Both boxes x1, y1, x2, y2 with x1 < x2 and y1 < y2, in
    the paper's pixels. Source: MedReasoner.

    Examples
    --------
    >>> round(box_scale((0, 0, 10, 20), (5, 5, 15, 25)), 6), box_scale((0, 0, 10, 20), (0, 0, 100, 20))
    (0.0, 1.0)
    """
    w, h = predicted[2] - predicted[0], predicted[3] - predicted[1]
    true_w, true_h = true[2] - true[0], true[3] - true[1]
    area = math.log((w * h + 1e-6) / (true_w * true_h + 1e-6))
    # The ratio of a box almost without height needn't fit in a float.
    ratio = math.log((min(w / h, 1e60) + 1e-6) / (min(true_w / true_h, 1e60) + 1e-6))
    return min(math.hypot(area, ratio), 1.0)


def position_valid(points: Pair, box: Edges) -> float:
    """Return 1 or 0.5 for each point inside the box or not, edges included, multiplied: 1, 0.5 or 0.25.

    The true points in the predicted box are a validity of the box terms, the predicted ones in the true box one of the
    point terms. Source: MedReasoner.

    Examples
    --------
    >>> position_valid([(5, 5), (20, 5)], (0, 0, 10, 10))
    0.5
    """
    x1, y1, x2, y2 = box
    valid = 1.0
    for x, y in points:
        if not (x1 <= x <= x2 and y1 <= y <= y2):
            valid *= 0.5
    return valid


def area_valid(predicted: Edges, true: Edges) -> float:
    """Return 1 when the predicted area is strictly between half and twice the true one, else 0.5. Source: MedReasoner.

    Examples
    --------
    >>> area_valid((0, 0, 10, 15), (0, 0, 10, 10)), area_valid((0, 0, 10, 20), (0, 0, 10, 10))
    (1.0, 0.5)
    """
    area = (predicted[2] - predicted[0]) * (predicted[3] - predicted[1])
    true_area = (true[2] - true[0]) * (true[3] - true[1])
    return 1.0 if 0.5 * true_area < area < 2 * true_area else 0.5


# --- points ----------------------------------------------------------------------------------------------------------


def pdice_paper(points: Pair, true_points: Pair, *, slack: float = 0.0) -> float:
    """Return the paper's pDice: 2 |C & C'| / (|C u C'| + 1e-5) of the circles that two points each span; 0 to 2.

    A circle has its two points as a diameter. The union in place of the sum of areas makes this twice the circles' IoU,
    not their Dice: 2 for the same circles. Points (x, y) in the paper's pixels. The reward is `log_shaped` of it, with
    1e-5 as the `slack` that is added to each radius. Source: MedReasoner, metric and reward.

    Examples
    --------
    >>> round(pdice_paper([(0, 0), (10, 0)], [(10, 0), (0, 0)]), 4), pdice_paper([(0, 0), (1, 0)], [(8, 0), (9, 0)])
    (2.0, 0.0)
    """
    ((ax, ay), (bx, by)), ((cx, cy), (dx, dy)) = points, true_points
    radius = math.hypot(ax - bx, ay - by) / 2 + slack
    true_radius = math.hypot(cx - dx, cy - dy) / 2 + slack
    shared = _lens(math.hypot(ax + bx - cx - dx, ay + by - cy - dy) / 2, radius, true_radius)
    union = math.pi * (radius * radius + true_radius * true_radius) - shared
    return 2 * shared / (union + 1e-5)


def _lens(apart: float, one: float, other: float) -> float:
    """Return the area that two circles share."""
    if apart >= one + other:
        return 0.0
    if apart <= abs(one - other):
        return math.pi * min(one, other) ** 2
    a, b = one * one, other * other
    # Divided one by one: the product of two small numbers may be 0.
    cosine = (apart * apart + a - b) / apart / (2 * one)
    true_cosine = (apart * apart + b - a) / apart / (2 * other)
    # Heron's product; both it and the cosines may leave their range by rounding.
    product = (one + other - apart) * (apart + one - other) * (apart - one + other) * (apart + one + other)
    sectors = a * math.acos(max(-1.0, min(cosine, 1.0))) + b * math.acos(max(-1.0, min(true_cosine, 1.0)))
    return max(sectors - math.sqrt(max(product, 0.0)) / 2, 0.0)


def points_align(points: Pair, true_points: Pair, true: Edges) -> float:
    """Return the mean distance of the points, in the better pairing, over the true box's diagonal (+1e-5).

    The distance of two points is (|dx| + |dy|) / 2; clipped to [0, 2]. A distance: its reward is `exp_shaped` of it.
    In the paper's pixels. Source: MedReasoner.

    Examples
    --------
    >>> round(points_align([(30, 40), (0, 10)], [(0, 0), (30, 40)], (0, 0, 30, 40)), 6)
    0.05
    """
    ((ax, ay), (bx, by)), ((cx, cy), (dx, dy)) = points, true_points
    straight = abs(ax - cx) + abs(ay - cy) + abs(bx - dx) + abs(by - dy)
    crossed = abs(ax - dx) + abs(ay - dy) + abs(bx - cx) + abs(by - cy)
    return min(min(straight, crossed) / 4 / _diagonal(true), 2.0)


def angle(points: Pair, true_points: Pair) -> float | None:
    """Return |cos| of the angle between the lines through the two pairs of points, 0 to 1.

    None when the points of a pair coincide: there is no angle, and its term is 0. The reward is `log_shaped` of it.
    Source: MedReasoner.

    Examples
    --------
    >>> angle([(0, 0), (0, 5)], [(3, 9), (3, 1)]), angle([(0, 0), (0, 5)], [(2, 2), (2, 2)])
    (1.0, None)
    """
    ((ax, ay), (bx, by)), ((cx, cy), (dx, dy)) = points, true_points
    lengths = math.hypot(bx - ax, by - ay) * math.hypot(dx - cx, dy - cy)
    if not lengths:
        return None
    return min(abs((bx - ax) * (dx - cx) + (by - ay) * (dy - cy)) / lengths, 1.0)


def spread_valid(points: Pair) -> float:
    """Return 1 when the two points are more than 10 of the paper's pixels apart, else 0.5. Source: MedReasoner.

    Examples
    --------
    >>> spread_valid([(0, 0), (6, 8)]), spread_valid([(0, 0), (6, 9)])
    (0.5, 1.0)
    """
    (ax, ay), (bx, by) = points
    return 1.0 if math.hypot(ax - bx, ay - by) > 10 else 0.5

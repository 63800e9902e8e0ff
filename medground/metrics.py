"""What a prediction is worth against the truth, and how sure a mean is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.types import Mask, Point

__all__ = ["bootstrap_interval", "dice", "pointing"]


def dice(predicted: Mask, true: Mask) -> float:
    """Return the Dice coefficient (Dice 1945) of two masks: twice the shared area over the sum of areas, 0 to 1.

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)

    Returns
    -------
    float
        NaN when both masks are empty: there is nothing to agree on.

    Examples
    --------
    >>> dice(np.array([[True, True, False]]), np.array([[False, True, True]]))
    0.5
    """
    if predicted.shape != true.shape:
        raise ValueError(f"the masks' shapes differ: {predicted.shape} and {true.shape}")
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else float("nan")


def pointing(points: Sequence[Point], true: Mask) -> float:
    """Return the share of points that lie on the true mask, 0 to 1; 0 without points (the pointing game).

    Parameters
    ----------
    points : sequence of Point
        In any space of the picture.
    true : bool array, shape (height, width)

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(2, 1)
    >>> pointing([Point(0.5, 0.5, space), Point(1.5, 0.5, space)], np.array([[True, False]]))
    0.5
    """
    height, width = true.shape
    hits = 0
    for point in points:
        x, y = point.to(Space.pixels(width, height)).xy
        hits += 0 <= x < width and 0 <= y < height and bool(true[int(y), int(x)])
    return hits / len(points) if points else 0.0


def bootstrap_interval(
    values: Sequence[float] | npt.NDArray[np.float64],
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (Efron 1979) of a mean.

    Parameters
    ----------
    values : sequence of float
        One a sample.
    groups : sequence of str, optional
        The patient of each sample. Patients are drawn, not samples, because a patient's samples fail together.
    level : float
        Share of the resampled means that the interval holds.
    rounds, seed : int
        Number of resamples, and where their chance starts.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN without values.

    Examples
    --------
    >>> bootstrap_interval([1.0, 1.0, 1.0])
    (1.0, 1.0)
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return float("nan"), float("nan")
    _, owner = np.unique(np.arange(len(numbers)) if groups is None else np.asarray(groups), return_inverse=True)
    sums = np.bincount(owner, weights=numbers)
    counts = np.bincount(owner)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(rounds, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Means that leave out what isn't defined, and how sure they are: bootstrap over patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Mean", "PairedDifference", "bootstrap_interval", "nanmean", "paired_bootstrap"]

Values = Sequence[float] | npt.NDArray[np.float64]

_AT_ONCE = 1 << 22
"""How many drawn indices are held at a time: 32 MB of them."""


class Mean(NamedTuple):
    """A mean and how many values stand behind it.

    Parameters
    ----------
    mean : float
        NaN without values.
    n : int
        How many values the mean is of.
    left_out : int
        How many were NaN.
    """

    mean: float
    n: int
    left_out: int


def nanmean(values: Values) -> Mean:
    """Return the mean of the values that are defined, and how many were not.

    A metric is NaN where truth and prediction are both empty: there was nothing to find and nothing was said to be
    there. The field leaves such samples out of the mean (MONAI's ``do_metric_reduction``). An infinite value (HD95 of
    a missing mask) is kept, so the mean is infinite too.

    Examples
    --------
    >>> nanmean([1.0, 0.0, float("nan")])
    Mean(mean=0.5, n=2, left_out=1)
    """
    numbers = _numbers(values)
    known = numbers[~np.isnan(numbers)]
    return Mean(float(known.mean()) if len(known) else float("nan"), len(known), len(numbers) - len(known))


def bootstrap_interval(
    values: Values,
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int | np.random.Generator = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval (Efron 1979) of a mean.

    Parameters
    ----------
    values : sequence of float
        One a sample. NaN are left out, as `nanmean` does.
    groups : sequence of str, optional
        The patient of each sample. Patients are drawn, not samples, because a patient's samples fail together.
    level : float
        Share of the resampled means that the interval holds.
    rounds : int
        Number of resamples.
    seed : int or numpy.random.Generator
        Where their chance starts.

    Returns
    -------
    tuple of float
        Lower and upper end; NaN without values.

    Raises
    ------
    ValueError
        When values and groups differ in number, a value is infinite, or `level` or `rounds` can't be used.

    Examples
    --------
    >>> bootstrap_interval([1.0, 1.0, 1.0])
    (1.0, 1.0)
    """
    numbers = _numbers(values)
    owner = _owners(len(numbers), groups)
    known = ~np.isnan(numbers)
    means = _resampled_means(numbers[known], owner[known], level, rounds, seed)
    return _ends(means, level)


class PairedDifference(NamedTuple):
    """How much better one method is than another on the same samples.

    Parameters
    ----------
    difference : float
        Mean of the first less mean of the second; NaN without samples, like `low`, `high` and `p`.
    low, high : float
        Percentile interval of the difference.
    p : float
        Two-sided, above 0 and at most 1.
    n : int
        Samples on which both are defined.
    left_out : int
        Samples on which either is NaN.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    left_out: int


def paired_bootstrap(
    a: Values,
    b: Values,
    groups: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int | np.random.Generator = 0,
) -> PairedDifference:
    """Return how much the mean of `a` is above the mean of `b` on the same samples, with interval and p (Efron 1979).

    Patients are drawn with both methods' values, so what makes a patient hard for both cancels out. With d the
    difference of the means in a resample,

    ``p = min(1, 2 (1 + min(count of d <= 0, count of d >= 0)) / (1 + rounds))``

    the share of resamples on the other side of 0, on both sides, with the sample itself counted as one resample so
    that no finite number of rounds gives 0 (Davison and Hinkley 1997, section 4.2).

    Parameters
    ----------
    a, b : sequence of float
        One a sample, in the same order. Samples where either is NaN are left out of both.
    groups : sequence of str, optional
        The patient of each sample.
    level : float
        Share of the resampled differences that the interval holds.
    rounds : int
        Number of resamples; p can't be below 2 / (1 + rounds).
    seed : int or numpy.random.Generator
        Where their chance starts.

    Raises
    ------
    ValueError
        When the numbers of `a`, `b` and `groups` differ, a value is infinite (give `hd95` a finite value for a missing
        mask), or `level` or `rounds` can't be used.

    Examples
    --------
    >>> found = paired_bootstrap([0.9, 0.8, 0.7, 0.9], [0.8, 0.7, 0.6, 0.8], ["p1", "p1", "p2", "p3"])
    >>> round(found.difference, 3), round(found.low, 3), round(found.high, 3), round(found.p, 3)
    (0.1, 0.1, 0.1, 0.001)
    """
    first, second = _numbers(a), _numbers(b)
    if len(first) != len(second):
        raise ValueError(f"the two methods must have the same samples; they have {len(first)} and {len(second)}")
    owner = _owners(len(first), groups)
    known = ~(np.isnan(first) | np.isnan(second))
    first, second = first[known], second[known]
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("infinite values have no difference; give hd95 a finite value for a missing mask")
    means = _resampled_means(first - second, owner[known], level, rounds, seed)
    low, high = _ends(means, level)
    left_out = len(known) - len(first)
    if not len(means):
        return PairedDifference(float("nan"), low, high, float("nan"), 0, left_out)
    # Means of equal differences vary in the last digits, and around 0 such a digit isn't a side.
    means[np.abs(means) <= 1e-12 * np.abs(np.concatenate([first, second])).max()] = 0.0
    fewer = min(int((means <= 0).sum()), int((means >= 0).sum()))
    p = min(1.0, 2 * (1 + fewer) / (1 + rounds))
    return PairedDifference(float((first - second).mean()), low, high, p, len(first), left_out)


def _numbers(values: Values) -> npt.NDArray[np.float64]:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"values come in one row, one a sample, not in shape {numbers.shape}")
    return numbers


def _owners(count: int, groups: Sequence[str] | None) -> npt.NDArray[np.intp]:
    """Return the number of each sample's patient."""
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"each sample has one group; there are {count} samples and {len(groups)} groups")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def _resampled_means(
    numbers: npt.NDArray[np.float64],
    owner: npt.NDArray[np.intp],
    level: float,
    rounds: int,
    seed: int | np.random.Generator,
) -> npt.NDArray[np.float64]:
    if not (0 < level < 1 and rounds >= 1):
        raise ValueError(f"an interval needs a level between 0 and 1 and a round or more, not {level} and {rounds}")
    if not np.isfinite(numbers).all():
        raise ValueError("infinite values have no interval; give hd95 a finite value for a missing mask")
    if not len(numbers):
        return np.empty(0)
    _, owner = np.unique(owner, return_inverse=True)  # patients all of whose samples are left out are no patients here
    sums, counts = np.bincount(owner, weights=numbers), np.bincount(owner)
    chance = np.random.default_rng(seed)
    means = []
    step = max(1, _AT_ONCE // len(sums))
    for start in range(0, rounds, step):
        drawn = chance.integers(len(sums), size=(min(step, rounds - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def _ends(means: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    if not len(means):
        return float("nan"), float("nan")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Whether a confidence can be believed: calibration error, and risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Reliability", "RiskCoverage", "aurc", "expected_calibration_error", "reliability", "risk_coverage"]

Values = Sequence[float] | Sequence[bool] | npt.NDArray[np.float64] | npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Reliability(NamedTuple):
    """The reliability diagram: one entry a bin that holds samples, from low to high confidence.

    Parameters
    ----------
    confidence, score : float array, shape (bins,)
        Mean confidence and mean score of the bin's samples, 0 to 1; equal where the confidence can be believed.
    n : int array, shape (bins,)
        How many samples.
    """

    confidence: Floats
    score: Floats
    n: npt.NDArray[np.int64]


def reliability(
    confidences: Values, scores: Values, *, bins: int = 15, binning: Literal["width", "mass"] = "width"
) -> Reliability:
    """Return mean confidence, mean score and number of samples in each bin of confidence.

    Parameters
    ----------
    confidences : sequence of float
        One a sample, 0 to 1.
    scores : sequence of float or bool
        What came of it, 0 to 1: right or wrong, or graded such as an IoU. A failure counts 0. Samples whose score is
        NaN are left out.
    bins : int
        How many; bins without samples are left out of the result.
    binning : {"width", "mass"}
        ``"width"``: bins of equal width, each with its upper end and the first with 0 too (Guo et al. 2017).
        ``"mass"``: bins of equally many samples, one more in the first where they don't divide (Nguyen and O'Connor
        2015); samples of equal confidence count with their mean score, so that their order doesn't matter.

    Raises
    ------
    ValueError
        When a value isn't between 0 and 1, the numbers of values differ, or there are no bins.

    Examples
    --------
    >>> found = reliability([0.2, 0.9, 1.0], [False, True, False], bins=2)
    >>> found.confidence.tolist(), found.score.tolist(), found.n.tolist()
    ([0.2, 0.95], [0.0, 0.5], [1, 2])
    """
    sure, score = _read(confidences, scores)
    if len(sure) and not (sure.min() >= 0 and sure.max() <= 1):
        raise ValueError("confidences are between 0 and 1; scale them first")
    if bins < 1:
        raise ValueError(f"at least one bin is needed, not {bins}")
    if binning == "width":
        where = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], sure)
    elif binning == "mass":
        sure, score = _by_confidence(sure, score)
        sizes = [len(part) for part in np.array_split(sure, bins)]
        where = np.repeat(np.arange(bins), sizes)
    else:
        raise ValueError(f"binning is 'width' or 'mass', not {binning!r}")
    count = np.bincount(where, minlength=bins)
    held = count > 0
    confidence = np.bincount(where, weights=sure, minlength=bins)[held] / count[held]
    return Reliability(confidence, np.bincount(where, weights=score, minlength=bins)[held] / count[held], count[held])


def expected_calibration_error(
    confidences: Values, scores: Values, *, bins: int = 15, binning: Literal["width", "mass"] = "width"
) -> float:
    """Return the expected calibration error (Naeini et al. 2015; Guo et al. 2017), 0 to 1, the less the better.

    ``sum over bins of count / n * |mean score - mean confidence|``. It grows with the number of bins and shrinks with
    the number of samples, so compare only what was measured alike.

    Parameters
    ----------
    confidences, scores, bins, binning
        See `reliability`.

    Returns
    -------
    float
        NaN without samples.

    Raises
    ------
    ValueError
        When a value isn't between 0 and 1, the numbers of values differ, or there are no bins.

    Examples
    --------
    >>> round(expected_calibration_error([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 0]), 3)
    0.15
    """
    found = reliability(confidences, scores, bins=bins, binning=binning)
    if not len(found.n):
        return float("nan")
    return float((found.n * np.abs(found.score - found.confidence)).sum() / found.n.sum())


class RiskCoverage(NamedTuple):
    """What is lost when only the surest samples are answered.

    Parameters
    ----------
    coverage : float array, shape (n,)
        1/n, 2/n, ... 1: the share of samples that are answered, the surest first.
    risk : float array, shape (n,)
        Mean of 1 - score of those samples, 0 to 1.
    threshold : float array, shape (n,)
        The confidence from which on they are answered. Only the last entry of equal ones can be chosen in practice.
    """

    coverage: Floats
    risk: Floats
    threshold: Floats


def risk_coverage(confidences: Values, scores: Values) -> RiskCoverage:
    """Return the risk-coverage curve of selective prediction (El-Yaniv and Wiener 2010).

    Parameters
    ----------
    confidences : sequence of float
        One a sample, finite; only their order counts. Samples of equal confidence count with their mean score, what
        is expected when they are taken in any order.
    scores : sequence of float or bool
        What came of it, 0 to 1: right or wrong, or graded such as an IoU. A failure counts 0. Samples whose score is
        NaN are left out.

    Raises
    ------
    ValueError
        When a score isn't between 0 and 1, a confidence isn't finite, or the numbers of values differ.

    Examples
    --------
    >>> curve = risk_coverage([0.9, 0.5, 0.7, 0.6], [1, 0, 1, 0])
    >>> curve.coverage.tolist(), curve.risk.round(3).tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.333, 0.5])
    """
    sure, score = _by_confidence(*_read(confidences, scores))
    sure, score = sure[::-1], score[::-1]
    taken = np.arange(1, len(sure) + 1)
    # A mean of values from 0 to 1 stays there, whatever the last digits of its sum.
    return RiskCoverage(taken / max(len(sure), 1), np.clip(np.cumsum(1 - score) / taken, 0, 1), sure)


def aurc(confidences: Values, scores: Values) -> float:
    """Return the area under the risk-coverage curve (Geifman, Uziel and El-Yaniv 2019), 0 to 1, the less the better.

    The mean of the risk over the coverages 1/n, 2/n, ... 1. It is the mean of 1 - score when confidences say nothing,
    and below that when samples with surer answers are better.

    Parameters
    ----------
    confidences, scores
        See `risk_coverage`.

    Returns
    -------
    float
        NaN without samples.

    Raises
    ------
    ValueError
        When a score isn't between 0 and 1, a confidence isn't finite, or the numbers of values differ.

    Examples
    --------
    >>> round(aurc([0.9, 0.5, 0.7, 0.6], [1, 0, 1, 0]), 3), aurc([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0])
    (0.208, 0.5)
    """
    curve = risk_coverage(confidences, scores)
    return float(curve.risk.mean()) if len(curve.risk) else float("nan")


def _read(confidences: Values, scores: Values) -> tuple[Floats, Floats]:
    sure, score = np.asarray(confidences, np.float64), np.asarray(scores, np.float64)
    if sure.ndim != 1 or sure.shape != score.shape:
        raise ValueError(f"each sample has one confidence and one score, not {sure.shape} and {score.shape} of them")
    known = ~np.isnan(score)
    sure, score = sure[known], score[known]
    if not np.isfinite(sure).all():
        raise ValueError("each sample needs a finite confidence; give a failed one the confidence 0")
    if len(score) and not (score.min() >= 0 and score.max() <= 1):
        raise ValueError("scores are between 0 and 1")
    return sure, score


def _by_confidence(sure: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Return both from low to high confidence, each score as the mean of those of the same confidence."""
    levels, place = np.unique(sure, return_inverse=True)
    count = np.bincount(place, minlength=len(levels))
    mean = np.clip(np.bincount(place, weights=score, minlength=len(levels)) / count, 0, 1)
    return np.repeat(levels, count), np.repeat(mean, count)

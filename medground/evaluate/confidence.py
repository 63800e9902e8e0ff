"""Whether the agreement of sampled answers can be believed, and what is gained by keeping silent when they disagree.

The confidence of an answer is the agreement of k sampled ones (the figure ``confidence`` of
`medground.evaluate.score.figures`), 0 to 1. What it is held to is the answer's `worth`. A threshold below which nothing
is answered, and the curve from agreement to expected worth, are chosen on one run (validation rows) and applied to
another: chosen on the rows that they are judged by, they would look better than they are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medground.errors import ConfigError
from medground.evaluate.score import Scored
from medground.metrics import (
    Reliability,
    RiskCoverage,
    aurc,
    bootstrap_interval,
    expected_calibration_error,
    reliability,
    risk_coverage,
)

__all__ = [
    "COVERAGES",
    "Assessment",
    "Calibration",
    "Outcome",
    "Sure",
    "assess",
    "choose_threshold",
    "halves",
    "outcome",
    "read_confidence",
    "worth",
]

BINS = 10
COVERAGES = (0.9, 0.8, 0.7, 0.5)
"""The shares of questions for which the report tells what a threshold brings."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sure:
    """Confidences with what came of them.

    Parameters
    ----------
    confidence, worth : float array, shape (n,)
        0 to 1.
    groups : tuple of str
        The patient of each.
    """

    confidence: Floats
    worth: Floats
    groups: tuple[str, ...]

    def part(self, where: npt.NDArray[np.bool_]) -> Sure:
        """Return the rows of a boolean array."""
        groups = tuple(group for group, kept in zip(self.groups, where.tolist(), strict=True) if kept)
        return Sure(self.confidence[where], self.worth[where], groups)


def worth(scored: Scored) -> Floats:
    """Return what each answer is worth, 0 to 1: its box IoU; where the target is absent, 1 if that was said, else 0."""
    box = scored.column("box_iou")
    return np.where(np.isnan(box), scored.column("absence"), box)


def read_confidence(scored: Scored) -> Sure:
    """Return the rows of a run that have a confidence.

    Raises
    ------
    ConfigError
        When none has.
    """
    sure, came = scored.column("confidence"), worth(scored)
    known = ~(np.isnan(sure) | np.isnan(came))
    if not known.any():
        raise ConfigError("the run has no sampled answers, so no confidence; evaluate again with --samples 8")
    return Sure(sure, came, tuple(scored.groups)).part(known)


def halves(sure: Sure) -> tuple[Sure, Sure]:
    """Return two parts of a run that share no patient, the same ones each time; for where there is no validation run.

    Examples
    --------
    >>> one = Sure(np.array([0.1, 0.2, 0.3, 0.4]), np.ones(4), ("a", "a", "b", "c"))
    >>> [part.groups for part in halves(one)]
    [('a', 'a', 'c'), ('b',)]
    """
    # In the order of their digests, every second one: an order that no data set was sorted by.
    ordered = sorted(set(sure.groups), key=lambda group: hashlib.sha256(group.encode()).digest())
    chosen = set(ordered[::2])
    first = np.array([group in chosen for group in sure.groups], bool)
    return sure.part(first), sure.part(~first)


@dataclass(frozen=True, slots=True, eq=False)
class Assessment:
    """How far a confidence can be believed.

    Parameters
    ----------
    reliability : Reliability
        In bins of equally many answers.
    curve : RiskCoverage
    error : float
        Expected calibration error, 0 to 1, in those bins.
    area, blind, best : float
        Area under the risk-coverage curve; that of a confidence that says nothing (the mean risk); that of one which
        knows each answer's worth. The less the better.
    """

    reliability: Reliability
    curve: RiskCoverage
    error: float
    area: float
    blind: float
    best: float

    @property
    def gain(self) -> float:
        """How much of the way from a blind to a perfect order the confidence goes: 0 to 1, below 0 if it misleads.

        1 where all answers are worth the same, so that there is nothing to order.
        """
        return (self.blind - self.area) / (self.blind - self.best) if self.blind > self.best else 1.0


def assess(sure: Sure) -> Assessment:
    """Hold confidences to what came of them.

    Examples
    --------
    >>> found = assess(Sure(np.array([0.9, 0.5, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0]), ("a", "b", "c", "d")))
    >>> round(found.area, 3), found.blind, round(found.gain, 2)
    (0.208, 0.5, 1.0)
    """
    return Assessment(
        reliability(sure.confidence, sure.worth, bins=BINS, binning="mass"),
        risk_coverage(sure.confidence, sure.worth),
        expected_calibration_error(sure.confidence, sure.worth, bins=BINS, binning="mass"),
        aurc(sure.confidence, sure.worth),
        float((1 - sure.worth).mean()),
        aurc(sure.worth, sure.worth),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A curve that never falls, from confidence to the worth that is to be expected.

    Parameters
    ----------
    confidence, worth : float array, shape (n,)
        Its corners, ascending; between them it is straight, beyond them level.
    """

    confidence: Floats
    worth: Floats

    @classmethod
    def fit(cls, sure: Sure) -> Calibration:
        """Fit it by isotonic regression (pool adjacent violators; Zadrozny and Elkan 2002).

        Examples
        --------
        >>> groups = ("a", "b", "c", "d")
        >>> curve = Calibration.fit(Sure(np.array([0.2, 0.4, 0.6, 0.8]), np.array([0.1, 0.5, 0.3, 0.9]), groups))
        >>> curve.apply(np.array([0.0, 0.4, 0.6, 0.7, 1.0])).round(2).tolist()
        [0.1, 0.4, 0.4, 0.65, 0.9]
        """
        from scipy.optimize import isotonic_regression

        levels, place = np.unique(sure.confidence, return_inverse=True)
        count = np.bincount(place, minlength=len(levels)).astype(np.float64)
        mean = np.bincount(place, weights=sure.worth, minlength=len(levels)) / count
        return cls(levels, np.clip(isotonic_regression(mean, weights=count).x, 0, 1))

    def apply(self, confidence: Floats) -> Floats:
        """Return the worth that is to be expected, 0 to 1, shape as given."""
        return np.interp(confidence, self.confidence, self.worth)


def choose_threshold(sure: Sure, *, coverage: float | None = None, risk: float | None = None) -> float:
    """Return the confidence from which on to answer.

    Parameters
    ----------
    sure : Sure
        Of validation rows.
    coverage : float, optional
        Above 0, at most 1: the threshold is the highest that lets at least this share of questions be answered.
    risk : float, optional
        0 to 1: the threshold is the lowest with which the answers' mean ``1 - worth`` is at most this.

    Returns
    -------
    float
        Infinity, so that nothing is answered, where no threshold has such a risk.

    Raises
    ------
    ValueError
        When not one of the two is given, or it isn't in its range.

    Examples
    --------
    >>> sure = Sure(np.array([0.9, 0.5, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0]), ("a", "b", "c", "d"))
    >>> choose_threshold(sure, coverage=0.5), choose_threshold(sure, risk=0.4), choose_threshold(sure, risk=0.5)
    (0.7, 0.6, 0.5)
    """
    if (coverage is None) == (risk is None):
        raise ValueError("a threshold is chosen by a coverage or by a risk: give one of them")
    if (risk is not None and not 0 <= risk <= 1) or (coverage is not None and not 0 < coverage <= 1):
        raise ValueError(f"a coverage is above 0 and a risk at least 0, both at most 1, not {coverage or risk}")
    curve = risk_coverage(sure.confidence, sure.worth)
    # Answers of equal confidence are given together or not at all.
    last = np.flatnonzero(np.diff(curve.threshold, append=-np.inf) != 0)
    if risk is None:
        wanted = curve.coverage[last] >= (coverage or 0) - 1e-12
        return float(curve.threshold[last[wanted]][0]) if wanted.any() else float("inf")
    fits = curve.threshold[last[curve.risk[last] <= risk + 1e-12]]
    return float(fits[-1]) if len(fits) else float("inf")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a threshold brings.

    Parameters
    ----------
    threshold : float
    coverage : float
        Share of questions that are answered, 0 to 1.
    worth, low, high : float
        Mean worth of the answers with its interval; NaN where nothing is answered.
    n : int
        How many are answered.
    """

    threshold: float
    coverage: float
    worth: float
    low: float
    high: float
    n: int


def outcome(sure: Sure, threshold: float) -> Outcome:
    """Return what comes of answering from a confidence on.

    Examples
    --------
    >>> sure = Sure(np.array([0.9, 0.5, 0.7, 0.6]), np.array([1.0, 0.0, 1.0, 0.0]), ("a", "b", "c", "d"))
    >>> outcome(sure, 0.7)
    Outcome(threshold=0.7, coverage=0.5, worth=1.0, low=1.0, high=1.0, n=2)
    """
    answered = sure.part(sure.confidence >= threshold)
    n = len(answered.worth)
    low, high = bootstrap_interval(answered.worth, answered.groups)
    mean = float(answered.worth.mean()) if n else float("nan")
    return Outcome(threshold, n / max(1, len(sure.worth)), mean, low, high, n)

"""Metrics over a set of images: average precision, the V-score of several regions, and said absence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.intervals import Mean, nanmean
from medground.types import Box

__all__ = ["Absence", "absence", "average_precision", "box_iou", "check_rows", "region_iou", "v_score"]

Floats = npt.NDArray[np.float64]
Matching = Literal["optimal", "order"]


def box_iou(predicted: Box | None, true: Box | None) -> float:
    """Return the intersection over union of two boxes (Jaccard 1901), 0 to 1.

    Parameters
    ----------
    predicted, true : Box or None
        In any spaces of the same picture, measured in the true one's. None is a box that isn't there: the target is
        absent, or the prediction couldn't be read.

    Returns
    -------
    float
        0 when one of them is None, NaN when both are.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> box_iou(Box(0, 0, 10, 10, space), Box(0, 0, 10, 20, space)), box_iou(None, Box(0, 0, 10, 20, space))
    (0.5, 0.0)
    """
    if predicted is None and true is None:
        return float("nan")
    found = None if predicted is None or true is None else _brought(predicted, true.space)
    return 0.0 if found is None or true is None else true.iou(found)


def _brought(box: Box, space: Space) -> Box | None:
    """Return a box in another space, or None where its numbers are too large or too close to be a box there."""
    try:
        return box.to(space)
    except ValueError:
        return None


def average_precision(
    predicted: Sequence[Box | None],
    true: Sequence[Box | None],
    confidences: Sequence[float] | Floats | None = None,
    *,
    threshold: float = 0.5,
    interpolation: Literal["all", "101"] = "all",
) -> float:
    """Return the average precision of boxes at one IoU threshold, 0 to 1: one prediction and one truth an image.

    Predictions are accepted from the surest on. After each, precision is the share of accepted boxes that are right
    (IoU with the image's true box at least `threshold`), and recall the share of true boxes that were found. A box on
    an image without a target is wrong, and so lowers precision. With p(r) the highest precision at a recall of at
    least r, the result is

    - ``"all"``: the area under p(r), as in Pascal VOC from 2010 on: the sum of p over the steps of recall;
    - ``"101"``: the mean of p(r) at r = 0, 0.01, ... 1, as COCO (Lin et al. 2014) computes it.

    Predictions of equal confidence are accepted together, so their order doesn't matter (COCO takes them in the order
    of the file).

    Parameters
    ----------
    predicted : sequence of Box or None
        One an image; None where the target was said to be absent or nothing could be read.
    true : sequence of Box or None
        One an image; None where the target is absent.
    confidences : sequence of float, optional
        One an image, the more the surer; not looked at where the prediction is None. Without them all predictions are
        accepted at once, and the curve has one point: ``"all"`` is then precision times recall.
    threshold : float
        Least IoU of a right box, above 0 and at most 1: 0.1, 0.3, 0.5.
    interpolation : {"all", "101"}
        How the area is measured.

    Returns
    -------
    float
        NaN when no image has a target.

    Raises
    ------
    ValueError
        When the numbers of values differ, a confidence isn't finite, or a parameter can't be used.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> here, there = Box(0, 0, 10, 10, space), Box(50, 50, 60, 60, space)
    >>> average_precision([here, there, here], [here, here, None], [0.9, 0.8, 0.3])
    0.5
    >>> round(average_precision([here, there, here], [here, here, None]), 3)
    0.167
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"an IoU threshold is above 0 and at most 1, not {threshold}")
    if interpolation not in ("all", "101"):
        raise ValueError(f"interpolation is 'all' or '101', not {interpolation!r}")
    check_rows(predicted, true)
    if confidences is not None and len(confidences) != len(true):
        raise ValueError(f"each image has one confidence; there are {len(true)} images and {len(confidences)}")
    targets = sum(box is not None for box in true)
    if not targets:
        return float("nan")
    said = [row for row, box in enumerate(predicted) if box is not None]
    sure = np.array([0.0 if confidences is None else confidences[row] for row in said], np.float64)
    if not np.isfinite(sure).all():
        raise ValueError("a prediction's confidence isn't finite; leave confidences out where there are none")
    right = np.array([box_iou(predicted[row], true[row]) >= threshold for row in said], bool)
    order = np.argsort(-sure, kind="stable")
    last = np.flatnonzero(np.diff(sure[order], append=math.nan) != 0)  # of each group of equal confidence
    found = np.cumsum(right[order])[last]
    recall, precision = found / targets, found / (last + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "all":
        return float((np.diff(recall, prepend=0.0) * best).sum())
    reached = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.append(best, 0.0)[reached].mean())


def region_iou(
    predicted: Sequence[Box],
    true: Sequence[Box],
    *,
    matching: Matching = "optimal",
    over: Literal["larger", "true"] = "larger",
) -> float:
    """Return the mean IoU of one answer's regions with the true ones, 0 to 1.

    ``sum of the pairs' IoU / N``: each box is in one pair at most.

    Parameters
    ----------
    predicted, true : sequence of Box
        In any spaces of the same picture. Empty where no region was named, or nothing could be read.
    matching : {"optimal", "order"}
        Which boxes are pairs: those that make the sum greatest (Kuhn 1955), or the first with the first and so on.
    over : {"larger", "true"}
        N is the larger of the two numbers of boxes, so that each box too many costs as one missing does; or the
        number of true boxes, so that boxes too many cost nothing.

    Returns
    -------
    float
        0 when one side is empty, NaN when both are.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> left, right = Box(0, 0, 10, 10, space), Box(50, 0, 60, 10, space)
    >>> region_iou([right, left], [left, right]), region_iou([right, left], [left, right], matching="order")
    (1.0, 0.0)
    >>> region_iou([left, right], [left]), region_iou([left, right], [left], over="true")
    (0.5, 1.0)
    """
    if matching not in ("optimal", "order") or over not in ("larger", "true"):
        raise ValueError(f"matching is 'optimal' or 'order' and over 'larger' or 'true', not {matching!r} and {over!r}")
    if not predicted and not true:
        return float("nan")
    if not predicted or not true:
        return 0.0
    if matching == "order":
        total = sum(box_iou(found, real) for found, real in zip(predicted, true, strict=False))
    else:
        from scipy.optimize import linear_sum_assignment  # here, because it takes 0.3 s to load

        ious = _ious(predicted, true)
        total = float(ious[linear_sum_assignment(ious, maximize=True)].sum())
    return min(total / (len(true) if over == "true" else max(len(predicted), len(true))), 1.0)


def v_score(
    predicted: Sequence[Sequence[Box]],
    true: Sequence[Sequence[Box]],
    *,
    matching: Matching = "optimal",
    over: Literal["larger", "true"] = "larger",
) -> Mean:
    """Return the V-score, the mean over answers of the mean IoU of their regions, 0 to 1 (papers print percent).

    GEMeX (arXiv 2411.16778) and GEMeX-ThinkVG (arXiv 2506.17939) report it as "mIoU" and don't say which boxes are
    pairs nor what a wrong number of boxes costs, so both are parameters, of `region_iou`.

    Parameters
    ----------
    predicted, true : sequence of sequence of Box
        One an answer. An answer that couldn't be read has no boxes and counts 0.
    matching, over
        See `region_iou`.

    Returns
    -------
    Mean
        Answers without regions on either side are left out, and counted.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> left, right = Box(0, 0, 10, 10, space), Box(50, 0, 60, 10, space)
    >>> v_score([[left], [], []], [[left, right], [left], []])
    Mean(mean=0.25, n=2, left_out=1)
    """
    check_rows(predicted, true)
    return nanmean(
        [region_iou(found, real, matching=matching, over=over) for found, real in zip(predicted, true, strict=True)]
    )


class Absence(NamedTuple):
    """How well a model tells that a target isn't in the image; absent is the positive class.

    Parameters
    ----------
    precision : float
        Share of those said to be absent that are; NaN when none is said to be.
    recall : float
        Share of the absent that are said to be; NaN when none is absent.
    f1 : float
        ``2 tp / (2 tp + fp + fn)``; NaN when none is absent nor said to be.
    tp, fp, fn, tn : int
        Absent and said so; present but said to be absent; absent but not said so; present and not denied.
    """

    precision: float
    recall: float
    f1: float
    tp: int
    fp: int
    fn: int
    tn: int


def absence(said: Sequence[bool], true: Sequence[bool]) -> Absence:
    """Return precision, recall and F1 (van Rijsbergen 1979) of saying that a target is absent; each 0 to 1.

    Parameters
    ----------
    said : sequence of bool
        Whether the answer says that the target is absent. An answer that couldn't be read says nothing: False.
    true : sequence of bool
        Whether it is.

    Examples
    --------
    >>> absence([True, False, True, False], [True, True, False, False])
    Absence(precision=0.5, recall=0.5, f1=0.5, tp=1, fp=1, fn=1, tn=1)
    """
    check_rows(said, true)
    denied, gone = np.asarray(said, bool), np.asarray(true, bool)
    tp, fp, fn = int((denied & gone).sum()), int((denied & ~gone).sum()), int((~denied & gone).sum())
    return Absence(
        _ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(2 * tp, 2 * tp + fp + fn), tp, fp, fn, len(true) - tp - fp - fn
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def check_rows(predicted: Sequence[object], true: Sequence[object]) -> None:
    """Raise ValueError unless there is one prediction a truth."""
    if len(predicted) != len(true):
        raise ValueError(f"each truth has one prediction, but there are {len(predicted)} for {len(true)} truths")


def _ious(predicted: Sequence[Box], true: Sequence[Box]) -> Floats:
    """Return the IoU of each predicted with each true box, shape (predicted, true)."""
    ious = np.zeros((len(predicted), len(true)))
    for column, real in enumerate(true):
        brought = [_brought(box, real.space) for box in predicted]
        rows = [row for row, box in enumerate(brought) if box is not None]
        edges = np.array([box.xyxy for box in brought if box is not None]).reshape(-1, 4)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is too far off to share anything
            across = np.minimum(edges[:, 2], real.x2) - np.maximum(edges[:, 0], real.x1)
            down = np.minimum(edges[:, 3], real.y2) - np.maximum(edges[:, 1], real.y1)
            shared = across.clip(0) * down.clip(0)
            union = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1]) + real.area - shared
            ratio = shared / union
        ious[rows, column] = np.where(np.isfinite(ratio), ratio, 0.0)
    return ious

"""What a prediction is worth against the truth, and how sure a mean is: the one door to all metrics.

How the field treats what isn't there, and so every metric here:

- Truth and prediction both empty (a target that is absent and said to be): NaN. `nanmean` leaves these samples out of
  the mean and says how many they were; `absence` is the metric for them.
- One of them empty: 0 for a score; infinity, or a cost of your choice, for a distance (`hd95`, `assd`).
- An answer that couldn't be read is an empty prediction (None, no points, an empty mask), so a failure counts 0.

Labels that can't be used raise `TruthError`; arguments that don't fit each other raise ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medground.answer_metrics import QUESTION_TYPES, answer_accuracy, answer_correct, normalised_answer, read_choices
from medground.calibration import (
    Reliability,
    RiskCoverage,
    aurc,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from medground.coords import Space
from medground.detection_metrics import (
    Absence,
    absence,
    average_precision,
    box_iou,
    check_rows,
    region_iou,
    v_score,
)
from medground.errors import TruthError
from medground.intervals import Mean, PairedDifference, bootstrap_interval, nanmean, paired_bootstrap
from medground.surface_metrics import SurfaceDistances, assd, hd95, surface_dice, surface_distances
from medground.types import Box, Mask, Point

__all__ = [
    "QUESTION_TYPES",
    "Absence",
    "Mean",
    "PairedDifference",
    "Reliability",
    "RiskCoverage",
    "SurfaceDistances",
    "absence",
    "accuracy_at",
    "answer_accuracy",
    "answer_correct",
    "assd",
    "aurc",
    "average_precision",
    "bootstrap_interval",
    "box_iou",
    "cumulative_iou",
    "dice",
    "expected_calibration_error",
    "hd95",
    "mean_iou",
    "nanmean",
    "normalised_answer",
    "paired_bootstrap",
    "pdice",
    "pdice_paper",
    "pointing",
    "read_choices",
    "region_iou",
    "reliability",
    "risk_coverage",
    "surface_dice",
    "surface_distances",
    "v_score",
]

_LARGEST = 1e60
"""Points farther out than that share nothing with a picture, and their squares' products don't fit in a float."""


def mean_iou(predicted: Sequence[Box | None], true: Sequence[Box | None]) -> Mean:
    """Return the mean of `box_iou`, 0 to 1 (the "gIoU" of referring segmentation papers, on boxes).

    Parameters
    ----------
    predicted, true : sequence of Box or None
        One a sample; None is a box that isn't there.

    Returns
    -------
    Mean
        Samples without a box on either side are left out, and counted.

    Raises
    ------
    ValueError
        When the numbers of boxes differ.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> small, large = Box(0, 0, 10, 10, space), Box(0, 0, 10, 20, space)
    >>> mean_iou([small, None, None], [large, large, None])
    Mean(mean=0.25, n=2, left_out=1)
    """
    check_rows(predicted, true)
    return nanmean([box_iou(found, real) for found, real in zip(predicted, true, strict=True)])


def accuracy_at(ious: Sequence[float] | npt.NDArray[np.float64], threshold: float = 0.5) -> Mean:
    """Return the share of samples whose IoU is at least `threshold`, 0 to 1 (Acc@0.5 of referring expressions).

    Parameters
    ----------
    ious : sequence of float
        One a sample, 0 to 1; of boxes or of masks. NaN are left out, and counted.
    threshold : float
        Above 0, at most 1. An IoU of exactly the threshold counts, as in RefCOCO's evaluation and COCO's.

    Raises
    ------
    ValueError
        When an IoU or the threshold isn't in its range.

    Examples
    --------
    >>> accuracy_at([0.5, 0.49, float("nan")])
    Mean(mean=0.5, n=2, left_out=1)
    """
    values = np.asarray(ious, np.float64)
    if not 0 < threshold <= 1:
        raise ValueError(f"an IoU threshold is above 0 and at most 1, not {threshold}")
    if ((values < 0) | (values > 1)).any():
        raise ValueError("an IoU is between 0 and 1")
    return nanmean(np.where(np.isnan(values), np.nan, values >= threshold))


def cumulative_iou(predicted: Sequence[Box | Mask | None], true: Sequence[Box | Mask | None]) -> float:
    """Return the sum of all intersections over the sum of all unions, 0 to 1 (cIoU, overall IoU).

    ``sum of |P and T| / sum of |P or T|``. Large targets count more than small ones, unlike in `mean_iou`.

    Parameters
    ----------
    predicted, true : sequence of Box or None, or of bool array, shape (height, width)
        One a sample, boxes or masks on both sides. What is there on one side only adds to the union. Areas of masks
        are in pixels, those of boxes in the true box's space (the predicted one's where the truth is None). Of a
        predicted box the part inside the picture counts, so that no single answer can outweigh all others.

    Returns
    -------
    float
        NaN when everything is empty.

    Raises
    ------
    ValueError
        When the numbers of samples or the shapes of two masks differ, a mask meets a box, or areas on different rulers
        (pixels, thousandths) would be summed.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> small, large = Box(0, 0, 10, 10, space), Box(0, 0, 10, 20, space)
    >>> cumulative_iou([small, None], [large, small])
    0.3333333333333333
    """
    check_rows(predicted, true)
    shared = either = 0.0
    rulers: set[str] = set()
    for found, real in zip(predicted, true, strict=True):
        if isinstance(found, np.ndarray) or isinstance(real, np.ndarray):
            if not (isinstance(found, np.ndarray) and isinstance(real, np.ndarray)):
                raise ValueError("a mask can't be compared with a box or None; say that it is missing by an empty mask")
            _check_masks(found, real)
            shared += int((found & real).sum())
            either += int((found | real).sum())
            continue
        reference = found if real is None else real
        if reference is None:
            continue
        rulers.add(reference.space.name)
        found = found and _inside(found, reference.space)
        area = sum(box.area for box in (found, real) if box is not None)
        # The areas' sum is union + intersection, so it is union * (1 + IoU).
        iou = real.iou(found) if found and real else 0.0
        shared += area * iou / (1 + iou)
        either += area / (1 + iou)
    if len(rulers) > 1:
        raise ValueError(f"areas in {' and in '.join(sorted(rulers))} can't be summed; bring boxes to source pixels")
    return shared / either if either else float("nan")


def _inside(box: Box, space: Space) -> Box | None:
    """Return the part of a box that lies in the picture, in another space; None where there is none."""
    try:
        return box.clipped().to(space)
    except ValueError:
        return None


def _check_masks(predicted: Mask, true: Mask) -> None:
    if predicted.shape != true.shape:
        raise ValueError(f"the masks' shapes differ: {predicted.shape} and {true.shape}")
    if predicted.dtype != np.bool_ or true.dtype != np.bool_:
        raise ValueError(f"masks are boolean arrays, not {predicted.dtype} and {true.dtype}; compare with 0 first")


def dice(predicted: Mask, true: Mask) -> float:
    """Return the Dice coefficient (Dice 1945) of two masks: twice the shared area over the sum of areas, 0 to 1.

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)

    Returns
    -------
    float
        0 when one mask is empty, NaN when both are: there is nothing to agree on.

    Raises
    ------
    ValueError
        When the masks aren't boolean arrays of one shape.

    Examples
    --------
    >>> dice(np.array([[True, True, False]]), np.array([[False, True, True]]))
    0.5
    """
    _check_masks(predicted, true)
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else float("nan")


def pointing(points: Sequence[Point], true: Mask | Box | None) -> float:
    """Return the share of points that lie on the target, 0 to 1; 0 without points (the pointing game).

    Zhang et al. 2016 count one point an image, the maximum of a heat map; here it is the share of the key points.

    Parameters
    ----------
    points : sequence of Point
        In any space of the picture.
    true : bool array, shape (height, width), or Box or None
        The true mask; the true box, edges included, where no mask is known; None where the target is absent.

    Returns
    -------
    float
        NaN when there is neither a target (None, an empty mask) nor a point.

    Examples
    --------
    >>> space = Space.pixels(2, 1)
    >>> pointing([Point(0.5, 0.5, space), Point(1.5, 0.5, space)], np.array([[True, False]]))
    0.5
    """
    if not points:
        absent = true is None or (isinstance(true, np.ndarray) and not true.any())
        return float("nan") if absent else 0.0
    return sum(_hits(point, true) for point in points) / len(points)


def _hits(point: Point, true: Mask | Box | None) -> bool:
    if true is None:
        return False
    try:
        if isinstance(true, Box):
            return true.contains(point)
        height, width = true.shape
        x, y = point.to(Space.pixels(width, height)).xy
    except ValueError:  # its numbers are too large for the other space
        return False
    return 0 <= x < width and 0 <= y < height and bool(true[int(y), int(x)])


def pdice(predicted: Sequence[Point], true: Sequence[Point]) -> float:
    """Return the Dice coefficient of two discs, each with its two key points as a diameter, 0 to 1.

    ``2 |D and D'| / (|D| + |D'|)``: what the name of MedReasoner's pDice (arXiv 2508.08177) says, see `pdice_paper`.

    Parameters
    ----------
    predicted, true : sequence of Point
        Two each, in either order, or none where the target is absent or nothing could be read. Measured in the true
        points' space, in which a disc is round: use one with square units, such as source pixels.

    Returns
    -------
    float
        0 when one side has no points, NaN when neither has. Two discs without extent (a target of one pixel) score 1
        at the same place and 0 otherwise.

    Raises
    ------
    TruthError
        When there are true points, but not two.

    Examples
    --------
    >>> space = Space.pixels(100, 100)
    >>> a, b, c = (Point(x, 50, space) for x in (20, 40, 60))
    >>> pdice([a, c], [c, a]), pdice([a, b], [a, c])
    (1.0, 0.4)
    """
    from medground.rewards.points import points_dice  # here, because rewards need metrics

    found, real = _diameters(predicted, true)
    return points_dice(found, real) if found and real else _one_empty(predicted, true)


def pdice_paper(predicted: Sequence[Point], true: Sequence[Point]) -> float:
    """Return MedReasoner's pDice as the paper's tables have it, 0 to 2: the shared area counts twice, the union once.

    ``2 |D and D'| / (|D or D'| + 1e-5)``, twice the discs' IoU (arXiv 2508.08177 and its published code). Equal discs
    score 2 (0 without extent), a true Dice of 2/3 scores 1: it compares with no Dice coefficient, while `pdice` is one.

    Parameters
    ----------
    predicted, true : sequence of Point
        As for `pdice`. The paper's are pixels of pictures of 840 x 840.

    Returns
    -------
    float
        0 when one side has no points, NaN when neither has.

    Raises
    ------
    TruthError
        When there are true points, but not two.

    Examples
    --------
    >>> space = Space.pixels(840, 840)
    >>> a, b, c = (Point(x, 50, space) for x in (20, 40, 60))
    >>> round(pdice_paper([a, c], [c, a]), 4), round(pdice_paper([a, b], [a, c]), 4)
    (2.0, 0.5)
    """
    from medground.rewards import umrg_terms  # here, because rewards need metrics

    found, real = _diameters(predicted, true)
    if not (found and real):
        return _one_empty(predicted, true)
    return umrg_terms.pdice_paper([point.xy for point in found], [point.xy for point in real])


def _diameters(predicted: Sequence[Point], true: Sequence[Point]) -> tuple[list[Point], Sequence[Point]]:
    """Return the two predicted points in the true points' space, or none where they can't be used."""
    if len(true) not in (0, 2):
        raise TruthError(f"a target has two true key points, or none where it is absent, not {len(true)}")
    if len(true) != 2 or len(predicted) != 2:
        return [], true
    if true[0].space != true[1].space:
        raise TruthError("the two true key points must be in one space")
    try:
        found = [point.to(true[0].space) for point in predicted]
    except ValueError:  # their numbers are too large for the other space
        return [], true
    within = all(abs(value) <= _LARGEST for point in found for value in point.xy)
    return found if within else [], true


def _one_empty(predicted: Sequence[Point], true: Sequence[Point]) -> float:
    return 0.0 if predicted or true else float("nan")

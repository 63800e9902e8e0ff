"""How far two outlines lie from each other, in millimetres: surface Dice, HD95, average surface distance.

Two ways to say what the outline of a mask is:

- ``"contour"``: the corners where pixels inside and outside meet, each with the length of outline that passes it
  (Nikolov et al., arXiv 1809.04430; the package ``surface-distance``; MONAI with ``use_subvoxels=True``). The
  coefficient named surface Dice is defined on it.
- ``"pixels"``: the pixels of the mask with one of their four neighbours outside, all of the same weight (MONAI, and
  the toolkits that challenges use for HD95 and ASSD).

The picture's border counts as outside in both. Where only one mask is empty each distance is infinite, as in both
packages, and so are their percentiles (MONAI interpolates between infinities, which gives NaN; without a percentile its
distance is infinite too). Where both are empty there is nothing to measure: NaN, as in MONAI.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medground.types import Mask

__all__ = ["SurfaceDistances", "assd", "hd95", "surface_dice", "surface_distances"]

Elements = Literal["contour", "pixels"]
Spacing = tuple[float, float]


class SurfaceDistances(NamedTuple):
    """The distance from each element of either outline to the other outline.

    Parameters
    ----------
    predicted_to_true, true_to_predicted : float array, shape (elements,)
        In mm, in reading order; infinite where the other mask is empty.
    predicted_lengths, true_lengths : float array, shape (elements,)
        The weight of each element: its length in mm with ``"contour"``, 1 with ``"pixels"``.
    """

    predicted_to_true: npt.NDArray[np.float64]
    true_to_predicted: npt.NDArray[np.float64]
    predicted_lengths: npt.NDArray[np.float64]
    true_lengths: npt.NDArray[np.float64]


def surface_distances(
    predicted: Mask, true: Mask, spacing: Spacing = (1.0, 1.0), *, elements: Elements = "contour"
) -> SurfaceDistances:
    """Return the distances between the outlines of two masks, from which the metrics here are made.

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)
    spacing : (float, float)
        Distance between rows and between columns in mm (DICOM's order); 1 and 1 measure in pixels.
    elements : {"contour", "pixels"}
        What an outline consists of; see the module.

    Raises
    ------
    ValueError
        When the masks aren't boolean arrays of one shape, or the spacing isn't two positive numbers.

    Examples
    --------
    >>> wide, pixel = np.array([[True, True, True]]), np.array([[True, False, False]])
    >>> surface_distances(wide, pixel, (1.0, 0.5), elements="pixels").predicted_to_true.tolist()
    [0.0, 0.5, 1.0]
    """
    _check(predicted, true, spacing)
    either = predicted | true
    columns, rows = np.flatnonzero(either.any(axis=0)), np.flatnonzero(either.any(axis=1))
    if not len(rows):
        nothing = np.empty(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    # Nothing outside the smallest box around both plays a part. One pixel of background stands for all of it.
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    (found, found_lengths), (real, real_lengths) = (
        _outline(np.pad(mask[part], 1), spacing, elements) for mask in (predicted, true)
    )
    return SurfaceDistances(
        _distance_to(real, spacing)[found], _distance_to(found, spacing)[real], found_lengths, real_lengths
    )


def surface_dice(
    predicted: Mask, true: Mask, tolerance: float, spacing: Spacing = (1.0, 1.0), *, elements: Elements = "contour"
) -> float:
    """Return the surface Dice coefficient, the share of both outlines that lies within `tolerance` of the other.

    ``(|S within t of S'| + |S' within t of S|) / (|S| + |S'|)`` with ``|.|`` the length of an outline (Nikolov et al.,
    arXiv 1809.04430); also called normalised surface distance, NSD. 0 to 1.

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)
    tolerance : float
        In mm, 0 or more; a distance of exactly the tolerance is within it. What clinicians would not correct:
        about what two experts differ by.
    spacing : (float, float)
        Distance between rows and between columns in mm (DICOM's order); 1 and 1 measure in pixels.
    elements : {"contour", "pixels"}
        ``"contour"`` gives the numbers of ``surface-distance`` and of MONAI with ``use_subvoxels=True``, ``"pixels"``
        those of MONAI without.

    Returns
    -------
    float
        0 when one mask is empty, NaN when both are.

    Raises
    ------
    ValueError
        When the masks aren't boolean arrays of one shape, or spacing or tolerance can't be used.

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> moved = np.roll(true, 1, axis=1)
    >>> round(surface_dice(moved, true, 0.5, (0.8, 0.8)), 3), surface_dice(moved, true, 0.8, (0.8, 0.8))
    (0.5, 1.0)
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"a tolerance is a finite number of mm, 0 or more, not {tolerance}")
    found = surface_distances(predicted, true, spacing, elements=elements)
    total = found.predicted_lengths.sum() + found.true_lengths.sum()
    within = (
        found.predicted_lengths[found.predicted_to_true <= tolerance].sum()
        + found.true_lengths[found.true_to_predicted <= tolerance].sum()
    )
    return float(within / total) if total else float("nan")


def hd95(
    predicted: Mask,
    true: Mask,
    spacing: Spacing = (1.0, 1.0),
    *,
    percentile: float = 95.0,
    elements: Elements = "pixels",
    missing: float | Literal["diagonal"] = math.inf,
) -> float:
    """Return the 95th percentile Hausdorff distance of two masks in mm, 0 or more, the less the better.

    The percentile of the distances from each outline to the other, then the larger of the two directions. With
    ``"pixels"`` the percentile is interpolated linearly between elements (MONAI's ``compute_hausdorff_distance``);
    with ``"contour"`` it is the least distance that 95 % of the outline's length don't pass
    (``surface-distance``'s ``compute_robust_hausdorff``).

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)
    spacing : (float, float)
        Distance between rows and between columns in mm (DICOM's order); 1 and 1 measure in pixels.
    percentile : float
        Above 0, at most 100; 100 is the Hausdorff distance itself.
    elements : {"pixels", "contour"}
        What an outline consists of; see the module.
    missing : float or "diagonal"
        What one empty mask costs: infinity, as in both packages, or a finite number so that means stay finite.
        ``"diagonal"`` is the picture's diagonal in mm, the largest distance that there could be (the BraTS challenges
        charge their volume's diagonal).

    Returns
    -------
    float
        NaN when both masks are empty.

    Raises
    ------
    ValueError
        When the masks aren't boolean arrays of one shape, or a parameter can't be used.

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> hd95(np.roll(true, 1, axis=1), true, (0.8, 0.5))
    0.5
    >>> hd95(np.zeros((8, 8), bool), true), hd95(np.zeros((8, 8), bool), true, (3.0, 4.0), missing="diagonal")
    (inf, 40.0)
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"a percentile is above 0 and at most 100, not {percentile}")
    found = surface_distances(predicted, true, spacing, elements=elements)
    if not predicted.any() or not true.any():
        return _without_distance(predicted, true, spacing, missing)
    if elements == "pixels":
        return max(
            float(np.quantile(each, percentile / 100)) for each in (found.predicted_to_true, found.true_to_predicted)
        )
    return max(
        _weighted_percentile(found.predicted_to_true, found.predicted_lengths, percentile),
        _weighted_percentile(found.true_to_predicted, found.true_lengths, percentile),
    )


def assd(
    predicted: Mask,
    true: Mask,
    spacing: Spacing = (1.0, 1.0),
    *,
    elements: Elements = "pixels",
    missing: float | Literal["diagonal"] = math.inf,
) -> float:
    """Return the average symmetric surface distance of two masks in mm, 0 or more, the less the better.

    The mean distance of the elements of both outlines to the other one, weighted by their lengths: with ``"pixels"``
    MONAI's ``compute_average_surface_distance(symmetric=True)``; with ``"contour"`` the two averages that
    ``surface-distance`` returns, weighted by the outlines' lengths.

    Parameters
    ----------
    predicted, true : bool array, shape (height, width)
    spacing : (float, float)
        Distance between rows and between columns in mm (DICOM's order); 1 and 1 measure in pixels.
    elements : {"pixels", "contour"}
        What an outline consists of; see the module.
    missing : float or "diagonal"
        What one empty mask costs; see `hd95`.

    Returns
    -------
    float
        NaN when both masks are empty.

    Raises
    ------
    ValueError
        When the masks aren't boolean arrays of one shape, or a parameter can't be used.

    Examples
    --------
    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> round(assd(np.roll(true, 1, axis=1), true, (0.8, 0.5)), 3)
    0.25
    """
    found = surface_distances(predicted, true, spacing, elements=elements)
    if not predicted.any() or not true.any():
        return _without_distance(predicted, true, spacing, missing)
    distances = np.concatenate([found.predicted_to_true, found.true_to_predicted])
    return float(np.average(distances, weights=np.concatenate([found.predicted_lengths, found.true_lengths])))


def _check(predicted: Mask, true: Mask, spacing: Spacing) -> None:
    if predicted.dtype != np.bool_ or true.dtype != np.bool_:
        raise ValueError(f"masks are boolean arrays, not {predicted.dtype} and {true.dtype}; compare with 0 first")
    if predicted.ndim != 2 or predicted.shape != true.shape:
        raise ValueError(f"two masks of one shape (height, width) are needed, not {predicted.shape} and {true.shape}")
    if len(spacing) != 2 or not all(0 < step < math.inf for step in spacing):
        raise ValueError(f"spacing is the distance between rows and between columns in mm, not {spacing}")


def _outline(mask: Mask, spacing: Spacing, elements: Elements) -> tuple[Mask, npt.NDArray[np.float64]]:
    """Return where the elements of the outline are, and their weights; the mask doesn't touch the array's border."""
    if elements == "pixels":
        border: Mask = mask & ~ndimage.binary_erosion(mask)
        return border, np.ones(int(border.sum()))
    if elements != "contour":
        raise ValueError(f"elements are 'contour' or 'pixels', not {elements!r}")
    # One bit for each of the four pixels around a corner.
    upper_left, upper_right, lower_left, lower_right = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
    code = upper_left + 2 * upper_right + 4 * lower_left + 8 * lower_right
    lengths = _lengths(*spacing)[code]
    return (code != 0) & (code != 15), lengths[(code != 0) & (code != 15)]


def _lengths(down: float, across: float) -> npt.NDArray[np.float64]:
    """Return the length of outline at a corner for each set of pixels inside: it runs between the edges' middles."""
    diagonal = math.sqrt(down * down + across * across)
    table = np.full(16, diagonal / 2)  # one pixel in or out: the corner is cut
    table[[0b0000, 0b1111]] = 0.0
    table[[0b0011, 0b1100]] = across  # the upper or the lower two: straight on
    table[[0b0101, 0b1010]] = down
    table[[0b0110, 0b1001]] = diagonal  # two that touch at the corner: cut twice
    return table


def _distance_to(outline: Mask, spacing: Spacing) -> npt.NDArray[np.float64]:
    if not outline.any():
        return np.full(outline.shape, math.inf)
    distances: npt.NDArray[np.float64] = ndimage.distance_transform_edt(~outline, sampling=spacing)
    return distances


def _weighted_percentile(
    distances: npt.NDArray[np.float64], lengths: npt.NDArray[np.float64], percentile: float
) -> float:
    # Summed in this order as surface-distance does, since the last digit decides where a share is exactly reached.
    order = np.lexsort((lengths, distances))
    share = np.cumsum(lengths[order]) / np.sum(lengths[order])
    return float(distances[order][min(int(np.searchsorted(share, percentile / 100)), len(order) - 1)])


def _without_distance(predicted: Mask, true: Mask, spacing: Spacing, missing: float | Literal["diagonal"]) -> float:
    if not predicted.any() and not true.any():
        return float("nan")
    if missing == "diagonal":
        return math.hypot(true.shape[0] * spacing[0], true.shape[1] * spacing[1])
    if not missing >= 0:
        raise ValueError(f"a missing mask costs a number of mm, 0 or more, or 'diagonal', not {missing!r}")
    return float(missing)

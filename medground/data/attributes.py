"""What can be measured of a target: where it lies, how large, how bright, how round it is.

These are the facts that reasoning traces state, so every word of theirs can be checked against the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medground.errors import TruthError
from medground.masks import box_of
from medground.types import Box, Mask

__all__ = [
    "CONTRAST",
    "ELONGATED",
    "LARGE",
    "ROUND",
    "SMALL",
    "TINY",
    "Attributes",
    "Quantities",
    "measure",
    "quantities",
    "zone_of",
]

TINY, SMALL, LARGE = 0.01, 0.04, 0.15
"""Shares of the picture's area below which a target is tiny and small, and above which it is large."""

CONTRAST = 12.0
"""Grey levels (of 255) by which a target must differ from its surroundings to be called brighter or darker."""

ROUND, ELONGATED = 0.7, 0.45
"""Ratios of the minor to the major axis above which a target is round, and below which it is elongated."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Measured facts about one target.

    Parameters
    ----------
    zone : str
        Where the box's centre lies among nine equal fields of the picture: ``"upper left"``, ``"centre"`` ...
        Left and right are the picture's, never the patient's.
    size : {"tiny", "small", "medium-sized", "large"}
        By the mask's share of the picture: up to 1 %, 4 %, 15 %, more.
    brightness : {"brighter than", "darker than", "about as bright as"}
        The mean grey level against that of a ring around the target about a quarter of its diameter wide.
    shape : {"round", "oval", "elongated"}
        By the ratio of the axes of the ellipse with the same second moments.
    """

    zone: str
    size: str
    brightness: str
    shape: str


@dataclass(frozen=True, slots=True)
class Quantities:
    """The numbers behind `Attributes`.

    Parameters
    ----------
    x, y : float, 0 to 1
        The box's centre, as fractions of the picture.
    share : float, 0 to 1
        The mask's share of the picture.
    contrast : float or None
        Mean grey level of the target less that of the ring around it, in grey levels of 255; None without a picture, or
        where nothing lies around the target.
    axis_ratio : float, 0 to 1
        Minor by major axis of the ellipse with the same second moments.
    parts : tuple of float
        The share of the mask that each 8-connected part of it holds, largest first.
    """

    x: float
    y: float
    share: float
    contrast: float | None
    axis_ratio: float
    parts: tuple[float, ...]


def zone_of(x: float, y: float) -> str:
    """Return which of nine equal fields of the picture holds a place, given as fractions of the picture.

    Examples
    --------
    >>> zone_of(0.5, 0.5), zone_of(0.1, 0.9), zone_of(0.5, 0.1), zone_of(0.9, 0.5)
    ('centre', 'lower left', 'upper middle', 'middle right')
    """
    column = ("left", "", "right")[min(int(x * 3), 2)]
    row = ("upper", "", "lower")[min(int(y * 3), 2)]
    if not row and not column:
        return "centre"
    if not column:
        return f"{row} middle"
    return f"{row or 'middle'} {column}"


def _axis_ratio(mask: Mask) -> float:
    rows, columns = np.nonzero(mask)
    if len(rows) < 3:
        return 1.0
    # 1/12 is the second moment of one pixel: it keeps a straight line of pixels from having no width at all.
    spread = np.cov(np.stack([columns, rows]), bias=True) + np.eye(2) / 12
    minor, major = np.linalg.eigvalsh(spread)
    return float(np.sqrt(minor / major))


def _contrast(mask: Mask, grey: npt.NDArray[Any], box: Box) -> float | None:
    reach = max(2, round(np.sqrt(mask.sum() / np.pi) / 2))
    left, top = max(int(box.x1) - reach, 0), max(int(box.y1) - reach, 0)
    field = (slice(top, int(box.y2) + reach), slice(left, int(box.x2) + reach))
    inside = mask[field]
    ring = (ndimage.distance_transform_edt(~inside) <= reach) & ~inside
    levels = np.asarray(grey, np.float32)[field]
    return float(levels[inside].mean() - levels[ring].mean()) if ring.any() else None


def quantities(mask: Mask, grey: npt.NDArray[Any] | None = None) -> Quantities:
    """Measure the numbers that the words of `measure` stand for.

    Parameters
    ----------
    mask : bool array, shape (height, width)
        Not empty.
    grey : array, shape (height, width), optional
        Grey levels, 0 to 255.

    Raises
    ------
    TruthError
        When the mask is empty, or the two shapes differ.

    Examples
    --------
    >>> mask = np.zeros((100, 100), bool); mask[10:20, 40:60] = True; mask[30:40, 40:60] = True
    >>> quantities(mask)
    Quantities(x=0.5, y=0.25, share=0.04, contrast=None, axis_ratio=0.5547001962252291, parts=(0.5, 0.5))
    """
    box = box_of(mask)
    height, width = mask.shape
    if grey is not None and grey.shape != mask.shape:
        raise TruthError(f"grey levels of shape {grey.shape} don't fit a mask of shape {mask.shape}")
    crop = mask[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)]
    sizes = np.bincount(ndimage.label(crop, structure=np.ones((3, 3), bool))[0].ravel())[1:]
    return Quantities(
        x=(box.x1 + box.x2) / 2 / width,
        y=(box.y1 + box.y2) / 2 / height,
        share=float(mask.mean()),
        contrast=None if grey is None else _contrast(mask, grey, box),
        axis_ratio=_axis_ratio(mask),
        parts=tuple(float(size) for size in np.sort(sizes)[::-1] / sizes.sum()),
    )


def measure(mask: Mask, grey: npt.NDArray[Any]) -> Attributes:
    """Measure a target.

    Parameters
    ----------
    mask : bool array, shape (height, width)
        Not empty.
    grey : array, shape (height, width)
        Grey levels, 0 to 255.

    Returns
    -------
    facts : Attributes
        What the pixels say.

    Raises
    ------
    TruthError
        When the mask is empty, or the two shapes differ.

    Examples
    --------
    >>> grey = np.zeros((90, 90)); grey[5:15, 70:80] = 200
    >>> measure(grey > 0, grey)
    Attributes(zone='upper right', size='small', brightness='brighter than', shape='round')
    """
    seen = quantities(mask, grey)
    share, difference, ratio = seen.share, seen.contrast or 0.0, seen.axis_ratio
    size = "tiny" if share <= TINY else "small" if share <= SMALL else "medium-sized" if share <= LARGE else "large"
    brightness = (
        "brighter than" if difference > CONTRAST else "darker than" if difference < -CONTRAST else "about as bright as"
    )
    shape = "round" if ratio > ROUND else "elongated" if ratio < ELONGATED else "oval"
    return Attributes(zone_of(seen.x, seen.y), size, brightness, shape)

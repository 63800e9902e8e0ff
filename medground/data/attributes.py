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
from medground.types import Mask

__all__ = ["Attributes", "measure"]

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


def _zone(x: float, y: float) -> str:
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
    box = box_of(mask)
    height, width = mask.shape
    if grey.shape != mask.shape:
        raise TruthError(f"grey levels of shape {grey.shape} don't fit a mask of shape {mask.shape}")
    share = float(mask.mean())
    size = "tiny" if share <= TINY else "small" if share <= SMALL else "medium-sized" if share <= LARGE else "large"

    reach = max(2, round(np.sqrt(mask.sum() / np.pi) / 2))
    left, top = max(int(box.x1) - reach, 0), max(int(box.y1) - reach, 0)
    field = (slice(top, int(box.y2) + reach), slice(left, int(box.x2) + reach))
    inside = mask[field]
    ring = (ndimage.distance_transform_edt(~inside) <= reach) & ~inside
    levels = np.asarray(grey, np.float32)[field]
    difference = float(levels[inside].mean() - levels[ring].mean()) if ring.any() else 0.0
    brightness = (
        "brighter than" if difference > CONTRAST else "darker than" if difference < -CONTRAST else "about as bright as"
    )

    ratio = _axis_ratio(mask)
    shape = "round" if ratio > ROUND else "elongated" if ratio < ELONGATED else "oval"
    zone = _zone((box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height)
    return Attributes(zone, size, brightness, shape)

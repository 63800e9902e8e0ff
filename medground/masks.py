"""From masks to places and back: boxes, key points, components, run lengths.

A mask is a boolean array of shape (height, width). Coordinates are source pixels counted from the picture's top left
*edge*: the pixel in column c and row r covers ``[c, c + 1] x [r, r + 1]`` and its centre is ``(c + 0.5, r + 0.5)``.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medground.coords import Space
from medground.errors import TruthError
from medground.types import Box, Mask, Point

__all__ = ["box_of", "decode_rle", "encode_rle", "key_points", "largest_component"]


def _space(mask: npt.NDArray[Any]) -> Space:
    if mask.ndim != 2:
        raise TruthError(f"a mask has two axes (height, width), not {mask.ndim}; take one plane of it")
    if not mask.size:
        raise TruthError(f"a mask of shape {mask.shape} has no pixels")
    return Space.pixels(mask.shape[1], mask.shape[0])


def box_of(mask: Mask) -> Box:
    """Return the tightest box around a mask.

    Parameters
    ----------
    mask : bool array, shape (height, width)

    Returns
    -------
    Box
        In source pixels, edges included.

    Raises
    ------
    TruthError
        When the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((8, 10), bool)
    >>> mask[2:5, 3:9] = True
    >>> box_of(mask).xyxy
    (3.0, 2.0, 9.0, 5.0)
    """
    space = _space(mask)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        raise TruthError("the mask is empty, so it has no box; leave the row out or mark its target absent")
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1), space)


def largest_component(mask: Mask) -> Mask:
    """Return the largest 8-connected part of a mask (the first in reading order among equals)."""
    _space(mask)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), bool))
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Mask = labels == int(sizes.argmax())
    return largest


def key_points(mask: Mask) -> tuple[Point, Point]:
    """Return the two key points of a target: its deepest place, and the farthest place from that which is deep too.

    Depth is the distance to the nearest background pixel (Euclidean distance transform; the picture's border counts as
    background). The first point is the deepest pixel; the second is the pixel farthest from it among those
    at least half as deep, so that both lie well inside the target and together tell its extent. Ties go to the first
    in reading order, so the result is a function of the mask alone.

    Parameters
    ----------
    mask : bool array, shape (height, width)

    Returns
    -------
    tuple of two Point
        Pixel centres in source pixels. Both are the same place when the mask is one pixel.

    Raises
    ------
    TruthError
        When the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((7, 20), bool)
    >>> mask[1:6, 1:19] = True
    >>> [point.xy for point in key_points(mask)]
    [(3.5, 3.5), (17.5, 2.5)]
    """
    space = _space(mask)
    box = box_of(mask)
    left, top = int(box.x1), int(box.y1)
    crop = mask[top : int(box.y2), left : int(box.x2)]
    depth = ndimage.distance_transform_edt(np.pad(crop, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    rows, columns = np.nonzero(depth >= depth[row, column] / 2)
    far = int(((rows - row) ** 2 + (columns - column) ** 2).argmax())
    first = Point(float(left + column) + 0.5, float(top + row) + 0.5, space)
    second = Point(float(left + columns[far]) + 0.5, float(top + rows[far]) + 0.5, space)
    return first, second


def encode_rle(mask: Mask) -> dict[str, Any]:
    """Return a mask as COCO's compressed run-length encoding.

    Returns
    -------
    dict
        ``size`` [height, width] and ``counts``, a string that is safe in JSON.

    Examples
    --------
    >>> encode_rle(np.eye(3, dtype=bool))
    {'size': [3, 3], 'counts': '013000'}
    >>> bool((decode_rle(encode_rle(np.eye(3, dtype=bool))) == np.eye(3, dtype=bool)).all())
    True
    """
    from pycocotools import mask as coco

    _space(mask)
    encoded = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))  # pycocotools takes any change for an edge
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any]) -> Mask:
    """Return the mask of COCO's compressed run-length encoding; the inverse of `encode_rle`.

    Read here and not with pycocotools, which returns uninitialised memory where the runs end before the picture does.

    Parameters
    ----------
    rle : dict
        ``size`` [height, width] and ``counts``, str or bytes; the runs must fill the picture exactly.

    Returns
    -------
    bool array, shape (height, width)

    Raises
    ------
    TruthError
        When `rle` isn't such an encoding.
    """
    try:
        height, width = (operator.index(side) for side in rle["size"])
        counts = rle["counts"].encode("ascii") if isinstance(rle["counts"], str) else bytes(memoryview(rle["counts"]))
        if not (height > 0 and width > 0 and height * width <= 1 << 28):
            raise ValueError("the size isn't positive, or over 268 million pixels")
        runs = _runs(counts, height * width)
    except (KeyError, TypeError, ValueError) as error:
        raise TruthError(f"not a compressed COCO run-length encoding ({error}); expected size and counts") from error
    # Runs alternate between background and target, down the columns.
    mask: Mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    return mask


def _runs(counts: bytes, pixels: int) -> list[int]:
    """Return the run lengths in COCO's ``counts``: base 32, a character a digit, signed steps from two runs back."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        digit = character - 48
        if not 0 <= digit < 64 or shift > 30:
            raise ValueError("counts holds characters or numbers that no encoder writes")
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if not 0 <= runs[-1] <= pixels:
            raise ValueError("a run is longer than the picture or negative")
        value = shift = 0
    if shift or sum(runs) != pixels:
        raise ValueError("the runs don't fill the picture")
    return runs

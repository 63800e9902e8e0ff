"""Training pictures: seen anew each time, with boxes, points and traces that stay true of what is shown."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from medground.data.build import PATIENT_SIDED
from medground.types import Mask

__all__ = ["View", "choose_view", "show", "show_mask"]

FREE_TURNS = frozenset(
    {"voxelmorph_t1", "kvasir_seg", "cvc_clinicdb", "isic2017", "ph2", "dsb2018", "antillia_octa_faz"}
)
"""Collections whose pictures have no right way up: polyps, moles, nuclei, flat vessel maps, slices in any plane."""

MASK_SIDE = 320
"""Side of the square on which masks are measured; a pixel of it is 3 thousandths of the picture."""


@dataclass(frozen=True, slots=True)
class View:
    """How a picture is shown once.

    Parameters
    ----------
    turns : int
        Quarter turns, counter-clockwise, 0 to 3, made first.
    mirrored : bool
        Whether left and right are swapped after turning.
    angle : float
        A small rotation, degrees.
    crop : tuple of float
        Left, top, right, bottom of what is shown, as fractions of the turned picture; beyond 0 to 1 is black.
    gain, offset : float
        Contrast around mid grey, and brightness in grey levels.
    """

    turns: int = 0
    mirrored: bool = False
    angle: float = 0.0
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    gain: float = 1.0
    offset: float = 0.0


def choose_view(rng: random.Random, source: str, box: Sequence[float], *, wide: bool = False) -> View:
    """Choose how to show a picture of a collection so that a target stays in sight.

    Parameters
    ----------
    rng : random.Random
    source : str
        The collection's name.
    box : sequence of 4 float
        The target, XYXY, fractions of the picture as stored.
    wide : bool
        Show it half of the time from up to 2.2 times as far, as a camera with a wider field would.
    """
    turns = rng.randrange(4) if source in FREE_TURNS else 0
    # A mirrored picture of these would make their questions' sides wrong.
    mirrored = source not in PATIENT_SIDED and rng.random() < 0.5
    angle = rng.uniform(-12, 12) if rng.random() < 0.3 else 0.0
    x1, y1, x2, y2 = _turned(box, turns, mirrored)
    least, most = (1.0, 2.2) if wide and rng.random() < 0.5 else (0.6, 1.25)
    scale = np.exp(rng.uniform(np.log(least), np.log(most)))
    width, height = scale * rng.uniform(0.9, 1.1), scale * rng.uniform(0.9, 1.1)
    width, height = max(width, (x2 - x1) * 1.1), max(height, (y2 - y1) * 1.1)
    left, top = _place(rng, x1, x2, width), _place(rng, y1, y2, height)
    gain, offset = rng.uniform(0.75, 1.25), rng.uniform(-25, 25)
    return View(turns, mirrored, angle, (left, top, left + width, top + height), gain, offset)


def _turned(box: Sequence[float], turns: int, mirrored: bool) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    for _ in range(turns):
        x1, y1, x2, y2 = y1, 1 - x2, y2, 1 - x1
    return (1 - x2, y1, 1 - x1, y2) if mirrored else (x1, y1, x2, y2)


def _place(rng: random.Random, low: float, high: float, extent: float) -> float:
    """Choose where a window of `extent` starts: it holds low to high, and strays little beyond the picture if it can.

    A window that is wider than the picture and its margin is held by the target alone.
    """
    stray = 0.08
    first, last = max(high - extent, -stray), min(low, 1 + stray - extent)
    if first > last:
        first, last = sorted((high - extent, low))
    return rng.uniform(first, last)


def _transform(picture: Image.Image, view: View, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    if view.turns:
        picture = picture.rotate(90 * view.turns, expand=True)
    if view.mirrored:
        picture = ImageOps.mirror(picture)
    if view.angle:
        picture = picture.rotate(view.angle, resample=Image.Resampling.BILINEAR if resample else resample)
    width, height = picture.size
    left, top, right, bottom = (edge * (width if index % 2 == 0 else height) for index, edge in enumerate(view.crop))
    pad = (max(0, int(np.ceil(-left))), max(0, int(np.ceil(-top))))
    beyond = (max(0, int(np.ceil(right - width))), max(0, int(np.ceil(bottom - height))))
    if any(pad) or any(beyond):
        picture = ImageOps.expand(picture, (*pad, *beyond))
    window = (left + pad[0], top + pad[1], right + pad[0], bottom + pad[1])
    return picture.resize(size, resample, box=window)


def show(picture: Image.Image, view: View, side: int | tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a picture under a view, RGB uint8 of shape (side, side, 3); or of a size, (width, height)."""
    size = side if isinstance(side, tuple) else (side, side)
    shown = np.asarray(_transform(picture, view, size, Image.Resampling.BICUBIC), np.float32)
    if (view.gain, view.offset) != (1.0, 0.0):
        shown = (shown - 128) * view.gain + 128 + view.offset
    return np.clip(shown, 0, 255).astype(np.uint8)


def show_mask(mask: Mask, view: View, size: tuple[int, int] = (MASK_SIDE, MASK_SIDE)) -> Mask:
    """Return a mask under a view, at a size given as (width, height)."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    shown: Mask = np.asarray(_transform(picture, view, size, Image.Resampling.NEAREST)) > 127
    return shown

"""Robustness: a row and its picture changed in one known way, with a truth that stays true of what is shown.

A model that answers variants of rows that it answered clean shows how much it leans on the usual pose, exposure,
framing, file quality or wording. Each variant draws what it draws from the row's id, so that all models see the same.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground.coords import Space
from medground.data.rows import Row
from medground.errors import ConfigError, TruthError
from medground.evaluate.paraphrase import paraphrase
from medground.images import MedicalImage
from medground.masks import box_of
from medground.rewards.evidence import Facts
from medground.train.varied import keeps_its_side, stays_true
from medground.types import Box, Mask

__all__ = ["VARIANTS", "Varied", "check_variant", "vary_row"]

VARIANTS = {
    "rotate_5": "turned by 5 degrees to either side, the frame widened so that nothing is cut off",
    "rotate_15": "turned by 15 degrees to either side, the frame widened so that nothing is cut off",
    "rotate_90": "turned by a quarter to either side; questions that speak of a side are left out",
    "crop_80": "cut to 80 % of its width and height, around the target",
    "contrast_50": "half the contrast around its mean",
    "contrast_150": "half as much contrast again around its mean",
    "darker": "40 grey levels (of 255) darker",
    "brighter": "40 grey levels (of 255) brighter",
    "jpeg_20": "saved as JPEG at quality 20",
    "noise_10": "Gaussian noise with a standard deviation of 10 grey levels (of 255)",
    "paraphrase": "the question in another carrier sentence, the picture as it is",
}
"""What is done to each row's picture (or question), by name; a report prints these words."""

_ANGLES = {"rotate_5": 5.0, "rotate_15": 15.0, "rotate_90": 90.0}
_GAINS = {"contrast_50": 0.5, "contrast_150": 1.5}
_OFFSETS = {"darker": -40.0, "brighter": 40.0}
_KEPT, _QUALITY, _NOISE = 0.8, 20, 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Varied:
    """A row under a variant.

    Parameters
    ----------
    row : Row
        Box, points and facts are true of `image`; its `mask` and its reasoning are left out, for they aren't.
    image : MedicalImage
    mask : bool array, shape (height, width), or None
        The row's mask on `image`.
    """

    row: Row
    image: MedicalImage
    mask: Mask | None


@dataclass(frozen=True, slots=True)
class _Move:
    """A map from the picture's pixels to the new one's: ``new = turn @ old + shift``, and the new (width, height)."""

    turn: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    size: tuple[int, int]

    @property
    def straight(self) -> bool:
        """Whether boxes stay boxes."""
        return bool(np.isin(self.turn, (-1, 0, 1)).all())

    def places(self, places: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return np.asarray(np.asarray(places, float).reshape(-1, 2) @ self.turn.T + self.shift)

    def picture(self, picture: Image.Image, resample: Image.Resampling) -> Image.Image:
        # Pillow asks where each new pixel comes from, and counts from edges as we do.
        back = self.turn.T  # turns and nothing else, so the inverse
        from_ = -back @ self.shift
        data = (*back[0], from_[0], *back[1], from_[1])
        return picture.transform(self.size, Image.Transform.AFFINE, data, resample)

    def mask(self, mask: Mask) -> Mask:
        drawn = self.picture(Image.fromarray(mask.astype(np.uint8) * 255), Image.Resampling.NEAREST)
        moved: Mask = np.asarray(drawn) > 127
        return moved


def check_variant(name: str) -> None:
    """Raise ConfigError unless there is such a variant.

    Examples
    --------
    >>> check_variant("rotate_45")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    medground.errors.ConfigError: variant 'rotate_45' isn't known; choose one of rotate_5, rotate_15, rotate_90, ...
    """
    if name not in VARIANTS:
        raise ConfigError(f"variant {name!r} isn't known; choose one of {', '.join(VARIANTS)}")


def vary_row(name: str, row: Row, image: MedicalImage, mask: Mask | None = None, *, seed: int = 0) -> Varied | None:
    """Return a row under a variant, or None where the variant would make its question or its truth wrong.

    None is given to: a quarter turn of a question that speaks of a side; a slanted turn of a target without a mask,
    whose new box can't be told; a crop that the target leaves no room for; a paraphrase of a question that isn't the
    grammar's; and any variant under which a claim in the question would become false.

    Parameters
    ----------
    name : str
        One of `VARIANTS`.
    row : Row
    image : MedicalImage
        The row's picture.
    mask : bool array, shape (height, width), or None
        The row's mask; facts are measured again where there is one, and dropped where there isn't.
    seed : int

    Raises
    ------
    ConfigError
        When the variant isn't known.
    TruthError
        When the mask isn't of the picture's size.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> image = MedicalImage.from_array(np.arange(48, dtype=np.uint8).reshape(6, 8))
    >>> row = Row(id="3", question="Where?", image=Picture(path="a.png"), image_size=(8, 6), box=(1, 2, 4, 4))
    >>> turned = vary_row("rotate_90", row, image)
    >>> turned.image.size, turned.row.box, turned.row.image_size
    ((6, 8), (2.0, 1.0, 4.0, 4.0), (6, 8))
    """
    check_variant(name)
    if mask is not None and mask.shape != image.rgb.shape[:2]:
        raise TruthError(f"row {row.id}: a mask of shape {mask.shape} isn't of its picture of size {image.size}")
    rng = random.Random(f"{seed}/{name}/{row.id}")  # noqa: S311 - what to show, not secrets
    if name == "paraphrase":
        question = paraphrase(row, rng)
        if question is None:
            return None
        return Varied(row.model_copy(update={"question": question, "mask": None, "reasoning": ""}), image, mask)
    if name in _ANGLES or name == "crop_80":
        return _moved(name, row, image, mask, rng)
    shown = MedicalImage.from_array(_tinted(name, image.rgb, rng), file_name=image.provenance.file_name)
    return _told(row, shown, _target(row, image, mask), mask, {})


def _moved(name: str, row: Row, image: MedicalImage, mask: Mask | None, rng: random.Random) -> Varied | None:
    """Return a row whose picture is turned or cut."""
    if name == "rotate_90" and not row.absent and keeps_its_side(row):
        return None
    space = image.space
    truth = row.truth()
    box = None if truth.box is None else truth.box.to(space)
    points = [point.to(space).xy for point in truth.points]
    move = _window(box, image, rng) if name == "crop_80" else _turn(rng.choice((-1, 1)) * _ANGLES[name], image.size)
    if move is None:
        return None
    target = _target(row, image, mask)
    seen = None if target is None else move.mask(target)
    update: dict[str, object] = {"image_size": move.size, "coordinates": "pixels"}
    if box is not None:
        there = _box(box, move) if move.straight else box_of(seen) if seen is not None and seen.any() else None
        places = tuple((x, y) for x, y in move.places(points).tolist())
        if there is None or not all(0 <= x <= move.size[0] and 0 <= y <= move.size[1] for x, y in places):
            return None
        update |= {"box": there.xyxy, "points": places}
    pixels = np.asarray(move.picture(Image.fromarray(image.rgb), Image.Resampling.BICUBIC))
    shown = MedicalImage.from_array(pixels, file_name=image.provenance.file_name)
    return _told(row, shown, seen, None if mask is None else move.mask(mask), update)


def _told(
    row: Row, shown: MedicalImage, target: Mask | None, mask: Mask | None, update: dict[str, object]
) -> Varied | None:
    """Return the row with the facts of what is shown, or None where its question says something that is false now."""
    changed = row.model_copy(update={**update, "facts": None, "mask": None, "reasoning": ""})
    if row.facts is not None and target is not None:
        facts = Facts.measure(target, np.asarray(Image.fromarray(shown.rgb).convert("L")))
        if not stays_true(changed, Facts.read(row.facts), facts):
            return None
        changed = changed.model_copy(update={"facts": facts.to_dict()})
    return Varied(changed, shown, mask)


def _target(row: Row, image: MedicalImage, mask: Mask | None) -> Mask | None:
    """Return the part of a mask that the row's box is around: all of it, or the component that is asked for."""
    if mask is None or row.box is None:
        return None
    box = row.truth().box
    if box is None:
        return None
    x1, y1, x2, y2 = box.to(image.space).xyxy
    inside = np.zeros_like(mask)
    inside[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
    target: Mask = mask & inside
    return target if target.any() else None


def _turn(angle: float, size: tuple[int, int]) -> _Move:
    """Return a turn by degrees, counter-clockwise, in a frame that holds the whole picture."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if angle % 90 == 0:
        cosine, sine = float(round(cosine)), float(round(sine))
    turn = np.array([[cosine, sine], [-sine, cosine]])  # y grows downwards
    width, height = size
    extent = np.abs(turn) @ (width, height)
    new = (math.ceil(extent[0] - 1e-9), math.ceil(extent[1] - 1e-9))
    return _Move(turn, np.array(new) / 2 - turn @ np.array(size) / 2, new)


def _window(box: Box | None, image: MedicalImage, rng: random.Random) -> _Move | None:
    """Return a cut at whole pixels that holds the target; None where the target leaves nothing to cut."""
    starts, sides = [], []
    for axis, side in enumerate(image.size):
        low, high = (0, 0) if box is None else (math.floor(box.xyxy[axis]), math.ceil(box.xyxy[axis + 2]))
        kept = max(round(_KEPT * side), high - low, 1)
        first, last = max(high - kept, 0), min(low if box is not None else side, side - kept)
        starts.append(rng.randint(first, last))
        sides.append(kept)
    size = (sides[0], sides[1])
    return None if size == image.size else _Move(np.eye(2), -np.array(starts, float), size)


def _box(box: Box, move: _Move) -> Box:
    (x1, y1), (x2, y2) = move.places([box.xyxy[:2], box.xyxy[2:]]).tolist()
    return Box(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2), Space.pixels(*move.size))


def _tinted(name: str, pixels: npt.NDArray[np.uint8], rng: random.Random) -> npt.NDArray[np.uint8]:
    """Return other levels at the same places."""
    if name == "jpeg_20":
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
        return np.asarray(Image.open(stream).convert("RGB"))
    levels = pixels.astype(np.float32)
    if name in _GAINS:
        middle = levels.mean()
        levels = (levels - middle) * _GAINS[name] + middle
    elif name in _OFFSETS:
        levels = levels + _OFFSETS[name]
    else:  # one plane for all channels: a grey picture stays grey
        noise = np.random.default_rng(rng.getrandbits(64)).normal(0.0, _NOISE, pixels.shape[:2])
        levels = levels + noise[..., None].astype(np.float32)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)

"""What a completion is scored against, and how users write it down.

A label that can't be right raises TruthError: the data is wrong, so the model must not pay for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground.coords import Space, space_named
from medground.errors import ConfigError, ImageError, TruthError
from medground.images import MedicalImage, load_image
from medground.masks import box_of, decode_rle, key_points, largest_component
from medground.prompts import Mode
from medground.rewards.evidence import Facts
from medground.types import Box, Mask, Point, Sample

__all__ = ["FRAME", "Truth", "read_truth", "unpacked"]

FRAME = (840, 840)
"""The picture's size where a truth doesn't say it: the UMRG set's images are resized to it (MedReasoner)."""

_FIELDS = (
    "bbox_2d",
    "point_2d",
    "image_size",
    "coordinates",
    "absent",
    "mask",
    "facts",
    "image",
    "mode",
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The right answer to one question.

    Parameters
    ----------
    space : Space
        The ruler of `box` and `points`.
    box : Box or None
        The true box; None when the target isn't in the picture.
    points : tuple of Point
        The two key points, or none: then nothing is asked of the predicted ones but to lie on the target.
    mask : bool array, shape (height, width), or None
        The whole picture's, at any resolution.
    facts : Facts or None
        What is true of the target, in words, so that claims in the reasoning can be checked and earn. Without them
        claims about the place alone are checked (against the box), and only false ones count.
    image : MedicalImage or path or None
        The picture, for the mask term.
    mode : {"reason", "direct"}
        Whether a ``<think>`` block was asked for.
    picture : Space or None
        A ruler with square units (pixels), on which distances are measured; `space` when None.
    """

    space: Space
    box: Box | None = None
    points: tuple[Point, ...] = ()
    mask: Mask | None = None
    facts: Facts | None = None
    image: MedicalImage | str | None = None
    mode: Mode = "reason"
    picture: Space | None = None

    def __post_init__(self) -> None:
        spaces = [point.space for point in self.points] + ([self.box.space] if self.box else [])
        if any(space is not self.space and space != self.space for space in spaces):
            raise TruthError("the box and the points of a truth must be in the truth's own space; convert them first")
        if len(self.points) not in ((0, 2) if self.box else (0,)):
            raise TruthError(f"a truth has two key points or none, and none without a box, not {len(self.points)}")
        if self.mask is not None and self.mask.dtype != np.bool_:
            raise TruthError(f"a mask is boolean, not {self.mask.dtype}; compare it with 0")

    @property
    def absent(self) -> bool:
        """Whether the target isn't in the picture."""
        return self.box is None

    def to(self, space: Space) -> Truth:
        """Return the same truth on another ruler; distances are still measured on the first one's pixels."""
        if space == self.space:
            return self
        return replace(
            self,
            space=space,
            box=self.box and self.box.to(space),
            points=tuple(point.to(space) for point in self.points),
            picture=self.picture or self.space,
        )

    @classmethod
    def from_mask(
        cls,
        mask: Mask,
        grey: npt.NDArray[Any] | None = None,
        *,
        image: MedicalImage | str | None = None,
        mode: Mode = "reason",
    ) -> Truth:
        """Return the truth that a mask implies: box, key points, and the facts that claims are checked against.

        Parameters
        ----------
        mask : bool array, shape (height, width)
            Not empty; its pixels are the picture's.
        grey : array, shape (height, width), optional
            Grey levels, 0 to 255; without them claims about brightness aren't checked.
        image : MedicalImage or path, optional
        mode : {"reason", "direct"}

        Raises
        ------
        TruthError
            When the mask is empty or the shapes differ.

        Examples
        --------
        >>> mask = np.zeros((90, 90), bool); mask[5:15, 70:80] = True
        >>> truth = Truth.from_mask(mask)
        >>> truth.box.xyxy, [point.xy for point in truth.points]
        ((70.0, 5.0, 80.0, 15.0), [(74.5, 9.5), (77.5, 12.5)])
        """
        box = box_of(mask)
        facts = Facts.measure(mask, grey)
        return cls(box.space, box, key_points(mask), mask=mask, facts=facts, image=image, mode=mode)

    def to_dict(self) -> dict[str, Any]:
        """Return the layout that `read_truth` reads, without the mask and the image: small, and safe in JSON.

        Examples
        --------
        >>> space = Space.pixels(90, 90)
        >>> Truth(space, Box(70, 5, 80, 15, space)).to_dict()
        {'image_size': [90, 90], 'coordinates': 'pixels', 'bbox_2d': [70, 5, 80, 15]}
        """
        own = self.space
        # Pixels of a resized image depend on its model's settings; to a score they are a picture's of that size.
        picture, name = (own, "pixels") if own.name == "resized pixels" else (self.picture or own, own.name)
        name += " yx" if own.order == "yx" else ""
        row: dict[str, Any] = {"image_size": [picture.width, picture.height], "coordinates": name}
        if self.box is None:
            row["absent"] = True
        else:
            row["bbox_2d"] = list(self.box.xyxy)
        if self.points:
            row["point_2d"] = [list(point.xy) for point in self.points]
        if self.facts is not None:
            row["facts"] = self.facts.to_dict()
        if self.mode != "reason":
            row["mode"] = self.mode
        return row


def read_truth(value: Truth | Sample | Mapping[str, Any] | str, row: int | None = None) -> Truth:
    """Read a truth as users write it.

    Parameters
    ----------
    value : Truth, Sample, dict or str
        A dict (or its JSON) in the layout of the UMRG set, with optional fields of ours:

        - ``bbox_2d``: [x1, y1, x2, y2]; ``point_2d``: [[x, y], [x, y]], or left out;
        - ``absent``: true, instead of both, when the target isn't in the picture;
        - ``image_size``: [width, height] in pixels, 840 x 840 where it is left out;
        - ``coordinates``: what the numbers are: "pixels" (the default), "0-1" or "0-1000". x comes first in any case;
          " yx" after it says that completions write y first;
        - ``mask``: COCO's compressed run lengths; ``facts``: what is true of the target (`Facts.to_dict`), measured
          from the mask where it is given alone;
        - ``image``: path of the picture, for the mask term;
        - ``mode``: "reason" (the default) or "direct".

        A field that is None counts as left out, and numpy's arrays and numbers are taken for lists and numbers, since
        tables (datasets, pandas) hand out both. A Sample is read with its mask and picture, from which the facts are
        measured.
    row : int, optional
        The row's number, for the error.

    Raises
    ------
    TruthError
        Names the row and the field.

    Examples
    --------
    >>> read_truth({"bbox_2d": [10, 20, 30, 40], "point_2d": [[15, 25], [25, 35]]}).box.xyxy
    (10, 20, 30, 40)
    >>> read_truth({"bbox_2d": [10, 20, 30]}, row=7)
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: truth of row 7, bbox_2d: expected [x1, y1, x2, y2], four finite numbers
    """
    if isinstance(value, Truth):
        return value
    try:
        if isinstance(value, Sample):
            return _of_sample(value)
        if isinstance(value, str):
            value = _from_json(value)
        if not isinstance(value, Mapping):
            _refuse("", f"expected a Truth, a Sample, a dict or its JSON, not {type(value).__name__}")
        return _of_dict(value)
    except _FieldError as error:
        where = "truth" if row is None else f"truth of row {row}"
        raise TruthError(f"{where}{error}") from error.__cause__


class _FieldError(Exception):
    """Carries ", field: what is wrong" to the one place that knows the row."""


def _refuse(field: str, why: str, cause: Exception | None = None) -> NoReturn:
    raise _FieldError(f", {field}: {why}" if field else f": {why}") from cause


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        _refuse("", f"isn't JSON ({error}); write a JSON object with bbox_2d and point_2d", error)


_PLAIN = frozenset({int, float, str, bool, type(None)})
_NUMPY = (np.ndarray, np.generic)


def unpacked(value: Any, depth: int = 4) -> Any:
    """Return what a table hands out without numpy's arrays and numbers, down to lists in lists.

    Examples
    --------
    >>> unpacked({"point_2d": np.array([[1, 2], [3, 4]]), "absent": np.bool_(False)})
    {'point_2d': [[1, 2], [3, 4]], 'absent': False}
    """
    kind = type(value)
    if kind in _PLAIN or not depth:
        return value
    if kind is list or kind is tuple:
        return [each if type(each) in _PLAIN else unpacked(each, depth - 1) for each in value]
    if isinstance(value, _NUMPY):
        return unpacked(value.tolist(), depth - 1)
    if isinstance(value, Mapping):
        return {name: unpacked(each, depth - 1) for name, each in value.items()}
    return value


def _of_dict(row: Mapping[str, Any]) -> Truth:
    for name in row:
        if name not in _FIELDS:
            _refuse(str(name), f"unknown; the fields are {', '.join(_FIELDS)}")
    if isinstance(row.get("mask"), np.ndarray):
        _refuse("mask", "expected COCO's run lengths, not an array; encode it with medground.masks.encode_rle")
    value = {name: unpacked(field) for name, field in row.items() if field is not None}
    picture = _picture(value.get("image_size", FRAME))
    space = picture
    if (name := value.get("coordinates", "pixels")) != "pixels":
        try:
            space = space_named(str(name), int(picture.width), int(picture.height))
        except ConfigError as error:
            _refuse("coordinates", str(error), error)
    mode = value.get("mode", "reason")
    if mode not in ("reason", "direct"):
        _refuse("mode", "expected 'reason' or 'direct'")
    image = value.get("image")
    if isinstance(image, os.PathLike):
        image = os.fspath(image)
    if not isinstance(image, str | MedicalImage | None):
        _refuse("image", "expected a path")
    absent = value.get("absent", False)
    if not isinstance(absent, bool):
        _refuse("absent", "expected true or false")
    if absent:
        for name in ("bbox_2d", "point_2d", "mask", "facts"):
            if value.get(name) is not None:
                _refuse(name, "an absent target has none; leave out this field, or absent")
        return Truth(space, image=image, mode=mode, picture=picture)
    box = _box(value.get("bbox_2d"), space)
    points = _points(value.get("point_2d"), space)
    mask = None
    if value.get("mask") is not None:
        try:
            mask = decode_rle(value["mask"])
            if not mask.any():
                _refuse("mask", "is empty; leave it out, or mark the target absent")
        except TruthError as error:
            _refuse("mask", str(error), error)
    facts = None
    if value.get("facts") is not None:
        try:
            facts = Facts.read(value["facts"])
        except TruthError as error:
            _refuse("facts", str(error).removeprefix("facts: ").removeprefix("facts, "), error)
    elif mask is not None:
        facts = Facts.measure(mask)
    return Truth(space, box, points, mask=mask, facts=facts, image=image, mode=mode, picture=picture)


def _number(value: Any) -> bool:
    # NaN fails the comparison; so do infinities and whole numbers that no float holds.
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(-1e9 < value < 1e9)


def _picture(size: Any) -> Space:
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(_number(side) and side > 0 for side in size)):
        _refuse("image_size", "expected [width, height], two positive numbers of pixels")
    return Space.pixels(size[0], size[1])


def _box(value: Any, space: Space) -> Box:
    if value is None:
        _refuse("bbox_2d", 'is missing; give [x1, y1, x2, y2], or "absent": true')
    if not (isinstance(value, list | tuple) and len(value) == 4 and all(map(_number, value))):
        _refuse("bbox_2d", "expected [x1, y1, x2, y2], four finite numbers")
    x1, y1, x2, y2 = value
    if not (x1 < x2 and y1 < y2):
        _refuse("bbox_2d", f"{list(value)} has no area or its corners are swapped; expected x1 < x2 and y1 < y2")
    if not (x1 >= 0 and y1 >= 0 and x2 <= space.width and y2 <= space.height):
        _refuse(
            "bbox_2d",
            f"{list(value)} reaches outside the picture, {space.width:g} x {space.height:g} in {space.name} "
            "coordinates; give image_size or coordinates, or mend the box",
        )
    return Box(x1, y1, x2, y2, space)


def _points(value: Any, space: Space) -> tuple[Point, ...]:
    if value is None or value == []:
        return ()
    if not (isinstance(value, list | tuple) and len(value) == 2):
        _refuse("point_2d", "expected [[x, y], [x, y]], or nothing")
    for each in value:
        if not (isinstance(each, list | tuple) and len(each) == 2 and all(map(_number, each))):
            _refuse("point_2d", "expected [[x, y], [x, y]], finite numbers")
        if not (0 <= each[0] <= space.width and 0 <= each[1] <= space.height):
            _refuse("point_2d", f"{list(each)} lies outside the picture; give image_size or coordinates, or mend it")
    (ax, ay), (bx, by) = value
    return Point(ax, ay, space), Point(bx, by, space)


def _of_sample(sample: Sample) -> Truth:
    space = sample.box.space
    if sample.mask is None:
        return Truth(space, sample.box, sample.points, image=sample.image)
    try:
        picture, drawn = load_image(sample.image), load_image(sample.mask)
    except ImageError as error:
        _refuse("image or mask", str(error), error)
    for name, image in (("image", picture), ("mask", drawn)):
        if (image.width, image.height) != (space.width, space.height):
            _refuse(name, f"{image.width} x {image.height} isn't the box's picture, {space.width:g} x {space.height:g}")
    mask: Mask = drawn.rgb[:, :, 0] > 0
    if not mask.any():
        _refuse("mask", f"{Path(sample.mask).name} is empty; drop the row")
    if box_of(mask) != sample.box:  # one box is the answer to one question, so the mask's largest part is meant
        mask = largest_component(mask)
    facts = Facts.measure(mask, np.asarray(Image.fromarray(picture.rgb).convert("L")))
    return Truth(space, sample.box, sample.points, mask=mask, facts=facts, image=picture)

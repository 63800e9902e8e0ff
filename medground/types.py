"""The value types that cross every border: frozen, valid once constructed, and typed by coordinate space."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medground.boxes import Box, Point
from medground.coords import Space

if TYPE_CHECKING:
    from medground.answers import QuestionType
    from medground.images import Provenance

__all__ = ["Box", "CheckedClaim", "Grounding", "LocatedRegion", "Mask", "Point", "Reply", "Result", "Sample"]

Mask = npt.NDArray[np.bool_]
"""A boolean array of shape (height, width), True on the target."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """What a reasoner said, read: the only thing that crosses from text to everything downstream.

    Parameters
    ----------
    reasoning : str
        The text of the ``<think>`` block; empty in direct mode.
    boxes : tuple of Box
        Zero, one, or (for questions about several regions) more, all in `space`.
    points : tuple of Point
        Zero or two key points, all in `space`.
    answer : str or None
        A worded answer, for visual question answering.
    absent : bool
        Whether the reasoner said that the target isn't in the image; then there are no boxes and no points.
    space : Space
        The coordinate space of boxes and points.
    repairs : tuple of str
        What tolerant reading mended or noticed, in words; empty in strict reading.
    """

    reasoning: str
    boxes: tuple[Box, ...]
    points: tuple[Point, ...]
    space: Space
    answer: str | None = None
    absent: bool = False
    repairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        spaces = [box.space for box in self.boxes] + [point.space for point in self.points]
        if any(space != self.space for space in spaces):
            raise ValueError("boxes and points of a grounding must be in the grounding's own space")
        if self.absent and (self.boxes or self.points):
            raise ValueError("an absent target has neither boxes nor points")

    @property
    def box(self) -> Box | None:
        """The first box, or None."""
        return self.boxes[0] if self.boxes else None

    def to(self, space: Space) -> Grounding:
        """Return the same grounding in another space of the same picture."""
        return Grounding(
            reasoning=self.reasoning,
            boxes=tuple(box.to(space) for box in self.boxes),
            points=tuple(point.to(space) for point in self.points),
            space=space,
            answer=self.answer,
            absent=self.absent,
            repairs=self.repairs,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One question about one image, with its truth in source pixels.

    Parameters
    ----------
    id : str
        Unique in its data set.
    image : str
        Path of the image.
    question : str
        The implicit question.
    box : Box
        The true box.
    points : tuple of Point
        The two true key points.
    reasoning : str
        A true reasoning trace, or empty.
    mask : str or None
        Path of the mask image, or None.
    meta : dict
        Category, modality, source, licence, patient group, split.
    """

    id: str
    image: str
    question: str
    box: Box
    points: tuple[Point, ...]
    reasoning: str = ""
    mask: str | None = None
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedClaim:
    """Something that a reasoning says of its target, held against the mask that was drawn (`medground.self_check`).

    Parameters
    ----------
    text : str
        As it stands in the reasoning.
    facet : {"place", "size", "brightness", "shape", "parts"}
        What it is about.
    start, end : int
        Where it stands: ``reasoning[start:end]``.
    agrees : bool or None
        Whether the mask says so too; None when it can't tell.
    """

    text: str
    facet: str
    start: int
    end: int
    agrees: bool | None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The answer to one question about one image, in source pixels.

    Parameters
    ----------
    grounding : Grounding
        In the space of source pixels.
    mask : Mask or None
        Boolean (height, width), or None when the target is absent or no location could be read.
    reasoner, segmenter : str
        Names of the models that answered.
    notes : tuple of str
        What a user should know: prompts that the segmenter couldn't use, repairs made while reading.
    seconds : dict of str to float
        Time spent in each stage: ``reason``, ``encode``, ``mask``.
    provenance : Provenance or None
        Where the image came from: file, frame or slice, window, spacing, source UIDs.
    claims : tuple of CheckedClaim
        What the reasoning says of its target, held against the mask; empty without a mask. `notes` has a sentence for
        each that the mask speaks against.
    """

    grounding: Grounding
    mask: Mask | None
    reasoner: str
    segmenter: str
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: Provenance | None = None
    claims: tuple[CheckedClaim, ...] = ()

    def __post_init__(self) -> None:
        space = self.grounding.space
        _check_pixels(space)
        _check_mask(self.mask, space)

    @property
    def reasoning(self) -> str:
        """The reasoning text."""
        return self.grounding.reasoning

    @property
    def box(self) -> Box | None:
        """The first box in source pixels, or None."""
        return self.grounding.box

    @property
    def points(self) -> tuple[Point, ...]:
        """The key points in source pixels."""
        return self.grounding.points

    def to_dict(self) -> dict[str, Any]:
        """Return the machine-readable form that ``medground ground --json`` prints.

        Returns
        -------
        dict
            ``reasoning``, ``bbox`` [x1, y1, x2, y2] or None, ``points`` [[x, y], [x, y]], ``mask`` (COCO RLE with
            ``size`` [height, width] and ``counts``) or None, ``absent``, ``width``, ``height``, ``reasoner``,
            ``segmenter``, ``coordinates`` ("source pixels"), ``answer`` (in words, or None), ``claims`` (``text``,
            ``facet``, ``start``, ``end``, ``agrees`` each), ``notes``, ``source`` (what is known of the image: file,
            slice, window, spacing, UIDs). Coordinates are rounded to 2 places.
        """
        from medground.masks import encode_rle

        return {
            "reasoning": self.reasoning,
            "claims": [asdict(claim) for claim in self.claims],
            "bbox": None if self.box is None else _rounded(self.box),
            "points": [[round(point.x, 2), round(point.y, 2)] for point in self.points],
            "mask": None if self.mask is None else encode_rle(self.mask),
            "absent": self.grounding.absent,
            "width": int(self.grounding.space.width),
            "height": int(self.grounding.space.height),
            "reasoner": self.reasoner,
            "segmenter": self.segmenter,
            "coordinates": "source pixels",
            "answer": self.grounding.answer,
            "notes": list(self.notes),
            "source": {} if self.provenance is None else _known(self.provenance),
        }


@dataclass(frozen=True, slots=True, eq=False)
class LocatedRegion:
    """A region that a reply points to: its name, its place and its mask.

    Parameters
    ----------
    ref : str
        What the reasoner calls it; not empty.
    box : Box
        In source pixels.
    mask : Mask or None
        Boolean (height, width), or None when nothing was segmented.
    """

    ref: str
    box: Box
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if not self.ref.strip():
            raise ValueError("a region has a name")
        _check_pixels(self.box.space)
        _check_mask(self.mask, self.box.space)


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """The answer to one visual question about one image, with the regions that it rests on, in source pixels.

    Parameters
    ----------
    answer : str
        As the reasoner worded it; the letter ("B"), or the letters ("A, C"), where choices could be read.
    question_type : {"open", "closed", "single_choice", "multi_choice"}
        As asked, or else as answered.
    space : Space
        The picture's pixels.
    chosen : tuple of str
        The texts of the choices that the answer names, in the order of their letters; empty for other questions.
    reasoning : str
        The text before the answer, the boxes in it in source pixels too; empty in direct mode.
    mentions : tuple of (str, Box)
        The regions that the reasoning names and boxes, in its order; boxes in source pixels.
    regions : tuple of LocatedRegion
        What the answer points to; none where it has no place in the picture.
    reasoner, segmenter, notes, seconds, provenance
        As `Result` has them.
    """

    answer: str
    question_type: QuestionType
    space: Space
    chosen: tuple[str, ...] = ()
    reasoning: str = ""
    mentions: tuple[tuple[str, Box], ...] = ()
    regions: tuple[LocatedRegion, ...] = ()
    reasoner: str = ""
    segmenter: str = "none"
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        _check_pixels(self.space)
        if not self.answer.strip():
            raise ValueError("a reply has an answer")
        boxes = [box for _, box in self.mentions] + [region.box for region in self.regions]
        if any(box.space != self.space for box in boxes):
            raise ValueError("mentions and regions of a reply must be in its own space")

    def to_dict(self) -> dict[str, Any]:
        """Return the machine-readable form that ``medground ask --json`` prints.

        Returns
        -------
        dict
            ``answer``, ``chosen`` (texts), ``question_type``, ``reasoning``, ``mentions`` (each ``ref`` and ``box``
            [x1, y1, x2, y2]), ``regions`` (each ``ref``, ``box`` and ``mask``, a COCO RLE or None), and ``width``,
            ``height``, ``reasoner``, ``segmenter``, ``coordinates``, ``notes`` and ``source`` as in `Result.to_dict`.

        Examples
        --------
        >>> space = Space.pixels(64, 48)
        >>> reply = Reply("Yes", "closed", space, regions=(LocatedRegion("heart", Box(10, 10, 30, 40, space)),))
        >>> reply.to_dict()["regions"]
        [{'ref': 'heart', 'box': [10, 10, 30, 40], 'mask': None}]
        """
        from medground.masks import encode_rle

        return {
            "answer": self.answer,
            "chosen": list(self.chosen),
            "question_type": self.question_type,
            "reasoning": self.reasoning,
            "mentions": [{"ref": ref, "box": _rounded(box)} for ref, box in self.mentions],
            "regions": [
                {
                    "ref": region.ref,
                    "box": _rounded(region.box),
                    "mask": None if region.mask is None else encode_rle(region.mask),
                }
                for region in self.regions
            ],
            "width": int(self.space.width),
            "height": int(self.space.height),
            "reasoner": self.reasoner,
            "segmenter": self.segmenter,
            "coordinates": "source pixels",
            "notes": list(self.notes),
            "source": {} if self.provenance is None else _known(self.provenance),
        }


def _check_pixels(space: Space) -> None:
    if space != Space.pixels(space.width, space.height):
        raise ValueError(f"a result is in source pixels, not in {space.name}")


def _check_mask(mask: Mask | None, space: Space) -> None:
    if mask is not None and mask.dtype != np.bool_:
        raise ValueError(f"a mask is boolean, not {mask.dtype}")
    if mask is not None and mask.shape != (space.height, space.width):
        raise ValueError(f"the mask's shape {mask.shape} isn't the image's {(space.height, space.width)}")


def _rounded(box: Box) -> list[float]:
    return [round(value, 2) for value in box.xyxy]


def _known(provenance: Provenance) -> dict[str, Any]:
    return {name: value for name, value in asdict(provenance).items() if value is not None}

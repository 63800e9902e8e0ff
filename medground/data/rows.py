"""One question of a grounding data set, typed: the picture, what is asked, the right answer and where it comes from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from medground.coords import convert, space_named
from medground.errors import ConfigError, TruthError
from medground.rewards.truth import FRAME, Truth, read_truth
from medground.types import Mask

__all__ = ["Picture", "Row", "RowSplit"]

RowSplit = Literal["train", "val", "test", ""]


class Picture(BaseModel):
    """An image or a mask of a row: a file, its content, or both.

    Parameters
    ----------
    path : str or None
        As the row's file gives it: absolute, or relative to a folder that the reader of the row knows (the file's own).
    data : bytes or None
        The content of an image file; it counts where both are there.

    Examples
    --------
    >>> drawn = Picture.of_mask(np.eye(3, dtype=bool))
    >>> drawn.mask().tolist()
    [[True, False, False], [False, True, False], [False, False, True]]
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    path: str | None = None
    data: bytes | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _is_somewhere(self) -> Picture:
        if not (self.path or self.data):
            raise ValueError("has neither a path nor bytes")
        return self

    @classmethod
    def of_mask(cls, mask: Mask, path: str | None = None) -> Picture:
        """Return a mask, bool array of shape (height, width), as the bytes of a 1-bit PNG."""
        stream = io.BytesIO()
        Image.fromarray(np.asarray(mask, bool)).save(stream, "PNG", optimize=False)
        return cls(path=path, data=stream.getvalue())

    def read(self, root: str | Path = ".") -> bytes:
        """Return the content of the image file, whose path is relative to `root`.

        Raises
        ------
        TruthError
            When the file can't be read.
        """
        if self.data is not None:
            return self.data
        try:
            return self.file(root).read_bytes()
        except (OSError, ValueError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            raise TruthError(f"{self.path}: can't be read ({reason}); restore the file or give its root") from error

    def file(self, root: str | Path = ".") -> Path:
        """Return where the file is; raises TruthError when the picture is bytes alone."""
        if self.path is None:
            raise TruthError("the picture is bytes without a path; write them to a file first")
        return Path(root) / self.path

    def mask(self, root: str | Path = ".") -> Mask:
        """Return the picture as a mask, True where it isn't black; bool array of shape (height, width).

        Raises
        ------
        TruthError
            When it can't be read.
        """
        content = self.read(root)
        try:
            with Image.open(io.BytesIO(content)) as picture:
                drawn: Mask = np.asarray(picture.convert("L")) > 0
        except Exception as error:  # decoders of damaged files raise whatever they stumble over
            raise TruthError(f"{self.path or 'bytes'}: isn't a readable mask ({error}); restore it") from error
        return drawn


def _known_coordinates(name: str) -> str:
    try:
        space_named(name, *FRAME)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return name


def _bare(question: str) -> str:
    question = question.strip()
    if question.startswith("<image>"):
        raise ValueError("begins with <image>, which is the prompt's; leave it out")
    return question


Side = Annotated[int, Field(gt=0, lt=1_000_000_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Row(BaseModel):
    """One question about one picture, and its answer.

    What can be asked of a row without looking at others or at pixels is checked; whether the box lies inside the
    picture and the like is for `truth` and ``medground data validate`` to say, so that a bad row can be read and named.

    Parameters
    ----------
    id : str
    question : str
        Without white space around it.
    image : Picture
    mask : Picture or None
        Where there is one; nonzero pixels are the target.
    box : tuple of four float, or None
        x1, y1, x2, y2; None when what is asked for isn't in the picture.
    points : tuple of two (x, y), or empty
    image_size : tuple of int
        (width, height) in pixels.
    coordinates : str
        What the numbers of `box` and `points` are; one of `medground.coords.COORDINATES`. Never guessed.
    reasoning, short, long : str
        The trace that leads to the answer; a short and a long description of the target.
    category, supercategory, modality, source, licence, group, split, style, template : str
        Empty where it isn't known. `group` is the patient, `split` one of train, val, test.
    healthy : bool or None
    facts : dict or None
        What is true of the target, for the evidence terms; see `medground.rewards.evidence.Facts.to_dict`.
    other : dict
        What a file said beyond this, so that writing it again loses nothing: ``columns`` and ``extra_info`` (columns
        and keys of a parquet file that aren't in the layout), ``kept`` (how the file wrote what is in the layout, where
        that isn't how `write_rows` would), and anything else that JSON can hold.

    Examples
    --------
    >>> row = Row(id="1", question="What filters the blood?", image=Picture(path="a.png"), image_size=(840, 840),
    ...           box=(10, 20, 30.5, 40), points=((15, 25), (25, 35)))
    >>> row.ground_truth()
    '{"bbox_2d": [10, 20, 30.5, 40], "point_2d": [[15, 25], [25, 35]]}'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, Field(min_length=1)]
    question: Annotated[str, AfterValidator(_bare), Field(min_length=1, repr=False)]
    image: Picture
    mask: Picture | None = None
    box: tuple[Number, Number, Number, Number] | None
    points: tuple[()] | tuple[tuple[Number, Number], tuple[Number, Number]] = ()
    image_size: tuple[Side, Side]
    coordinates: Annotated[str, AfterValidator(_known_coordinates)] = "pixels"
    reasoning: Annotated[str, Field(repr=False)] = ""
    short: str = ""
    long: str = ""
    category: str = ""
    supercategory: str = ""
    modality: str = ""
    source: str = ""
    licence: str = ""
    group: str = ""
    split: RowSplit = ""
    style: str = ""
    template: str = ""
    healthy: bool | None = None
    facts: dict[str, Any] | None = None
    other: Annotated[dict[str, Any], Field(repr=False)] = {}

    @model_validator(mode="after")
    def _absent_has_no_place(self) -> Row:
        if self.box is None and (self.points or self.mask is not None):
            raise ValueError("a target that is absent has no points and no mask")
        return self

    @property
    def absent(self) -> bool:
        """Whether what is asked for isn't in the picture."""
        return self.box is None

    def ground_truth(self) -> str:
        """Return the answer as the JSON that rewards read (`medground.rewards.read_truth`).

        The UMRG set's two fields; the picture's size and the coordinates where they aren't that set's (840 x 840
        pixels), because rewards see nothing else of the row; and the facts where they are known.
        """
        said: dict[str, Any] = {}
        if self.box is None:
            said["absent"] = True
        else:
            said["bbox_2d"] = whole(self.box)
            if self.points:
                said["point_2d"] = [whole(point) for point in self.points]
        if (self.image_size, self.coordinates) != (FRAME, "pixels"):
            said |= {"image_size": list(self.image_size), "coordinates": self.coordinates}
        if self.facts is not None and self.box is not None:
            said["facts"] = self.facts
        return json.dumps(said)

    def to(self, coordinates: str) -> Row:
        """Return the row with its numbers on another ruler (one of `medground.coords.COORDINATES`) of the same picture.

        Examples
        --------
        >>> picture = Picture(path="a.png")
        >>> row = Row(id="1", question="Where?", image=picture, image_size=(400, 200), box=(40, 20, 80, 50))
        >>> row.to("0-1000").box
        (100.0, 100.0, 200.0, 250.0)
        """
        space, own = space_named(coordinates, *self.image_size), space_named(self.coordinates, *self.image_size)
        if coordinates == self.coordinates:
            return self
        box = self.box and convert(self.box, own, space)
        points = tuple(convert(point, own, space) for point in self.points)
        return self.model_copy(update={"box": box, "points": points, "coordinates": coordinates})

    def truth(self) -> Truth:
        """Return what a completion is scored against, the mask left out.

        Raises
        ------
        TruthError
            When the box or a point lies outside the picture, or another of the answer's fields can't be; names the row.
        """
        try:
            return read_truth(self.ground_truth())
        except TruthError as error:
            raise TruthError(f"row {self.id}: {error}") from error


def whole(values: tuple[float, ...]) -> list[float]:
    """Return numbers for JSON: 12.0 as 12, as the published files write it."""
    return [int(value) if value == int(value) else value for value in values]

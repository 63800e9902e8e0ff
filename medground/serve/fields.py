"""What clients send, as JSON or as the fields of a form."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medground.answers import QuestionType
from medground.image_files import Axis
from medground.prompts import MAX_QUESTION, Mode
from medground.serve.images import View

__all__ = ["AskFields", "ExportFields", "FileKind", "GroundFields", "JobFields", "SegmentFields", "ViewFields"]

Number = Annotated[float, Field(allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0, le=1 << 20)]
Corners = Annotated[list[Number], Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in source pixels")]
Place = Annotated[list[Number], Field(min_length=2, max_length=2, description="x, y in source pixels")]
Name = Annotated[str, Field(max_length=200)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _from_form(cls, value: Any, info: Any) -> Any:
        """Read what a form can only send as text: lists and objects, as JSON or as numbers between commas."""
        if not isinstance(value, str) or info.field_name not in _STRUCTURED:
            return value
        if not value.strip():
            return None
        try:
            return json.loads(value if value.lstrip()[:1] in ("[", "{") else f"[{value}]")
        except (ValueError, RecursionError):
            raise ValueError("neither JSON nor numbers between commas") from None


_STRUCTURED = {"window", "region", "box", "points", "choices", "earlier", "mask"}


class ViewFields(_Fields):
    """Which picture of the file: left out, as the upload said, else as the file itself says."""

    frame: Index | None = None
    slice: Index | None = None
    axis: Axis | None = None
    window: Annotated[list[Number], Field(min_length=2, max_length=2, description="centre, width")] | None = None

    def view(self) -> View:
        """Return the same as the store takes it."""
        window = None if self.window is None else (self.window[0], self.window[1])
        return View(self.frame, self.axis, self.slice, window)


class _Question(ViewFields):
    image: Name | None = None
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
    mode: Mode = "reason"
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None


class GroundFields(_Question):
    """A question about a place."""

    region: Annotated[
        Corners | None,
        Field(
            description="x1, y1, x2, y2 in source pixels: a region found before, to which the question refers. Its box "
            "is added to the question's words, in the reasoner's own coordinates; nothing is cut or masked. Models "
            "that learned where-questions standing alone, like the embedded one, aren't told of it: `follows_regions` "
            "of /v1/models is then false, and a note says so."
        ),
    ] = None


class Earlier(BaseModel):
    """A region found before."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ref: Annotated[str, Field(min_length=1, max_length=200)]
    box: Corners


class AskFields(_Question):
    """A visual question; with choices the answer is a letter or letters."""

    choices: Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=26)] = []
    question_type: QuestionType | None = None
    earlier: Annotated[
        list[Earlier],
        Field(max_length=32, description="regions found before, to which the question may refer; told in order"),
    ] = []


class SegmentFields(ViewFields):
    """Where one target is."""

    image: Name
    box: Corners | None = None
    points: Annotated[list[Place], Field(max_length=64)] = []


class RunLengths(BaseModel):
    """COCO's compressed run-length encoding."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    size: Annotated[list[Index], Field(min_length=2, max_length=2, description="height, width")]
    counts: Annotated[str, Field(max_length=1 << 22)]


class ExportFields(ViewFields):
    """An answer, perhaps corrected, as it is to be written."""

    image: Name
    box: Corners | None = None
    points: Annotated[list[Place], Field(max_length=64)] = []
    mask: RunLengths | None = None
    question: Annotated[str, Field(max_length=MAX_QUESTION)] = ""
    reasoning: Annotated[str, Field(max_length=20_000)] = ""
    label: Annotated[str, Field(max_length=64)] = ""


class JobFields(_Fields):
    """Many questions, answered when nobody else waits."""

    items: Annotated[list[GroundFields], Field(min_length=1)]


FileKind = Literal["png", "json", "coco", "dicom-seg", "dicom-sr"]

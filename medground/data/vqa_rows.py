"""One visual question of a data set, typed: the picture, what is asked, the answer, and the regions it rests on."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from medground.answers import QuestionType, yes_or_no
from medground.coords import Space, space_named, written_order
from medground.data.rows import Number, Picture, RowSplit, Side, whole
from medground.errors import ConfigError, TruthError
from medground.parsing import written_box
from medground.rewards.thinkvg_reading import REGION, format_response, read_box, read_mentions
from medground.rewards.vqa_truth import VqaTruth, read_vqa_truth
from medground.tolerant import MAX_ANSWER
from medground.types import Box

__all__ = ["UNNAMED", "Region", "VqaRow"]

UNNAMED = "region"
"""What a region is called where nothing calls it anything."""

Text = Annotated[str, StringConstraints(strip_whitespace=True)]
Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Region(BaseModel):
    """A place in the picture and what it is called.

    Examples
    --------
    >>> Region(ref="left lung", box=(120, 40, 200, 190)).box
    (120.0, 40.0, 200.0, 190.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ref: Said = UNNAMED
    box: tuple[Number, Number, Number, Number]


class VqaRow(BaseModel):
    """One question about one picture, its answer, and reasoning that names and boxes the regions it rests on.

    A row that could be made is right in itself: its answer can be an answer to its type of question, and its regions,
    those named in the thinking too, lie in a picture of its size. Neither the pixels nor other rows are looked at.

    Parameters
    ----------
    id : str
    question : str
        Without the choices, and without white space around it.
    question_type : {"open", "closed", "single_choice", "multi_choice"}
    choices : tuple of str
        The texts of the choices A, B, ... of a choice question, 2 to 26 of them; empty for other questions.
    answer : str
        In words; yes or no, with words after it or without; the letter, or the letters ("A, C").
    reason : str
        Why, in short, as GEMeX has it; empty where nobody said.
    thinking : str
        The thoughts that lead to the answer, with mentions like ``left lung (region [120, 40, 200, 190])``, x first,
        on the ruler of the regions; at most 20,000 characters. Empty where nobody said.
    regions : tuple of Region
        What the answer points to, at most 32; none where the question has no place in the picture.
    image : Picture
    image_size : tuple of int
        (width, height) in pixels of the picture that the boxes were measured on. Never guessed.
    coordinates : str
        What the numbers are; one of `medground.coords.COORDINATES`, with " yx" after it where completions are to write
        y first. Never guessed.
    modality, source, licence, group, split, style, template : str
        As `medground.data.rows.Row` has them; empty where not known.
    other : dict
        What a file said beyond this, that JSON can hold; ``columns`` are columns that aren't in its layout.

    Examples
    --------
    >>> row = VqaRow(id="1", question="Is there an effusion?", question_type="closed", answer="Yes",
    ...              thinking="The base (region [10, 20, 30, 40]) is pale.", image=Picture(path="a.png"),
    ...              regions=(Region(ref="left base", box=(10, 20, 30, 40)),), image_size=(224, 224))
    >>> row.truth().refs
    ('left base',)
    >>> from medground.rewards import score
    >>> score(row.completion(), row.truth(), "thinkvg")["score"]
    1.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Said
    question: Annotated[Said, Field(repr=False)]
    question_type: QuestionType
    choices: tuple[Said, ...] = ()
    answer: Annotated[Said, Field(repr=False)]
    reason: Annotated[Text, Field(repr=False)] = ""
    thinking: Annotated[Text, Field(repr=False)] = ""
    regions: tuple[Region, ...] = ()
    image: Picture
    image_size: tuple[Side, Side]
    coordinates: str = "pixels"
    modality: str = ""
    source: str = ""
    licence: str = ""
    group: str = ""
    split: RowSplit = ""
    style: str = ""
    template: str = ""
    other: Annotated[dict[str, Any], Field(repr=False)] = {}

    @model_validator(mode="after")
    def _is_right(self) -> VqaRow:
        try:
            space = space_named(self.coordinates, *self.image_size)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if "<image>" in self.question or "<choices>" in self.question:
            raise ValueError("question: holds <image> or <choices>, which are a prompt's; leave them out")
        if (len(self.choices) > 26) or (len(self.choices) < 2) is self.question_type.endswith("_choice"):
            raise ValueError("choices: a choice question offers 2 to 26, and no other question offers any")
        if self.question_type == "closed" and yes_or_no(self.answer) is None:
            raise ValueError("answer: says neither yes nor no to a closed question; mend it, or call the question open")
        if len(self.thinking) > MAX_ANSWER:
            raise ValueError(f"thinking: is longer than {MAX_ANSWER:,} characters, beyond which nothing is read")
        try:
            truth = read_vqa_truth(self.ground_truth())
        except TruthError as error:
            raise ValueError(str(error).removeprefix("truth, ")) from None
        for number, (region, box) in enumerate(zip(self.regions, truth.boxes, strict=True), 1):
            if region.box != box.xyxy:
                raise ValueError(f"regions: box {number} leaves the picture; clip it")
        if read_mentions(self.thinking, _labels(space))[1]:
            raise ValueError(
                "thinking: names a region that is no box inside the picture; give the image_size and the coordinates "
                "that its numbers were measured on, or mend it"
            )
        try:
            self.completion()
        except ValueError as error:
            raise ValueError(f"answer, thinking, regions: {error}") from None
        return self

    @property
    def offered(self) -> dict[str, str] | None:
        """The choices by their letters, None when there are none."""
        return {chr(ord("A") + index): text for index, text in enumerate(self.choices)} or None

    def ground_truth(self) -> str:
        """Return the answer as the JSON that rewards read; see `medground.rewards.vqa_truth`.

        Examples
        --------
        >>> row = VqaRow(id="1", question="What organ is shown?", question_type="open", answer="The heart",
        ...              image=Picture(path="a.png"), image_size=(64, 48))
        >>> json.loads(row.ground_truth())["image_size"]
        [64, 48]
        """
        return json.dumps(
            {
                "question": self.question,
                "question_type": self.question_type,
                "choices": self.offered,
                "answer": self.answer,
                "reason": self.reason or self.thinking or None,
                "boxes": [whole(region.box) for region in self.regions],
                "refs": [region.ref for region in self.regions],
                "image_size": list(self.image_size),
                "coordinates": self.coordinates,
            }
        )

    def truth(self) -> VqaTruth:
        """Return what a completion is scored against, on the row's own ruler."""
        return read_vqa_truth(self.ground_truth())

    def completion(self, coordinates: str | None = None) -> str:
        """Return the completion that is right in every word: the thinking, the answer and the regions.

        Parameters
        ----------
        coordinates : str, optional
            The ruler to write on, one of `medground.coords.COORDINATES`, " yx" after it for y first; the row's own
            where None. Numbers are whole, or have 4 decimals on 0-1, those of mentions as those of the regions.

        Examples
        --------
        >>> row = VqaRow(id="1", question="Is it pale?", question_type="closed", answer="Yes", image_size=(400, 200),
        ...              thinking="It is (region [40, 20, 80, 50]).", image=Picture(path="a.png"))
        >>> row.completion("0-1000 yx")
        '<think>It is (region [100, 100, 250, 200]).</think><response><answer>Yes</answer></response>'
        """
        space = space_named(coordinates or self.coordinates, *self.image_size)
        boxes, refs = [box for _, box in self._known()], [region.ref for region in self.regions]
        return format_response(self.answer, boxes, refs, space, reasoning=self._thought_in(space))

    def to(self, coordinates: str) -> VqaRow:
        """Return the row with its regions and mentions on another ruler of the same picture.

        Mentions are rounded as completions write them, regions aren't; a mention of a region, exact or rounded, is
        taken for that region, so that both still agree when they are written.

        Examples
        --------
        >>> row = VqaRow(id="1", question="Is it pale?", question_type="closed", answer="Yes", image_size=(400, 200),
        ...              thinking="It is (region [40, 20, 80, 50]).", image=Picture(path="a.png"))
        >>> row.to("0-1").thinking
        'It is (region [0.1, 0.1, 0.2, 0.25]).'
        """
        if coordinates == self.coordinates:
            return self
        space = _labels(space_named(coordinates, *self.image_size))
        regions = tuple(
            Region(ref=region.ref, box=_inside(box.to(space)))
            for region, (_, box) in zip(self.regions, self._known(), strict=True)
        )
        changes = {"thinking": self._thought_in(space), "regions": regions, "coordinates": coordinates}
        return VqaRow.model_validate({**dict(self), **changes})

    def _known(self) -> list[tuple[tuple[float, ...], Box]]:
        """Return each region's box, and as it is written."""
        space = _labels(space_named(self.coordinates, *self.image_size))
        boxes = [Box(*region.box, space) for region in self.regions]
        return [(written_box(box, space).xyxy, box) for box in boxes]

    def _thought_in(self, space: Space) -> str:
        """Return the thinking with its mentions as a completion in this space writes them."""
        own, known = _labels(space_named(self.coordinates, *self.image_size)), dict(self._known())
        known |= {box.xyxy: box for box in list(known.values())}

        def written(found: re.Match[str]) -> str:
            numbers = [float(number) for number in found[1].split(",")]
            box = known.get(tuple(numbers)) or read_box(numbers, own)
            if box is None:
                return found[0]
            said = written_order([f"{value:.12g}" for value in written_box(box, space).xyxy], space)
            return f"[{', '.join(said)}]"

        return REGION.sub(written, self.thinking)


def _labels(space: Space) -> Space:
    """Return the space in which labels are written: x first, in whatever order completions are."""
    return Space(space.name, space.width, space.height)


def _inside(box: Box) -> tuple[float, float, float, float]:
    width, height = box.space.width, box.space.height
    x1, y1, x2, y2 = box.xyxy
    return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)  # conversion may round over the edge

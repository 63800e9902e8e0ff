"""A reasoner that answers from a script and a segmenter that fills what it is pointed at, both at the real protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from medground.coords import Space
from medground.images import MedicalImage
from medground.parsing import format_answer
from medground.reasoners import Completion, Request
from medground.segmenters import MaskPrediction, Prompt
from medground.types import Box, Point

Script = Callable[[Request, Space], str]


def middle(request: Request, space: Space) -> str:
    """Answer with the middle of the picture, whatever the question."""
    box = Box(space.width * 0.25, space.height * 0.25, space.width * 0.75, space.height * 0.5, space)
    points = [Point(space.width * 0.4, space.height * 0.35, space), Point(space.width * 0.6, space.height * 0.4, space)]
    return format_answer(box, points, space, reasoning="It is in the middle." if request.mode == "reason" else None)


class ScriptedReasoner:
    def __init__(self, script: Script = middle, space: Space | None = None) -> None:
        self.name = "scripted"
        self.script = script
        self.space = space or Space.norm1000()
        self.batches: list[int] = []

    def complete(
        self,
        requests: Sequence[Request],
        *,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        self.batches.append(len(requests))
        said = []
        for request in requests:
            text = self.script(request, self.space)
            failed = text.startswith("ERROR ")
            said.append(Completion("" if failed else text, self.space, text[6:] if failed else None))
        return said

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        text = self.script(request, self.space)
        yield from (text[start : start + 7] for start in range(0, len(text), 7))

    def space_for(self, image: MedicalImage) -> Space:
        return self.space


class FillingSegmenter:
    def __init__(self, trained_prompts: frozenset[str] = frozenset({"box"})) -> None:
        self.name = "filling"
        self.trained_prompts = trained_prompts
        self.encoded = 0
        self.prompts: list[Prompt] = []

    def encode(self, image: MedicalImage) -> MedicalImage:
        self.encoded += 1
        return image

    def segment(self, embedding: MedicalImage, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        self.prompts += prompts
        predictions = []
        for prompt in prompts:
            mask = np.zeros((embedding.height, embedding.width), bool)
            if prompt.box is not None:
                x1, y1, x2, y2 = (round(value) for value in prompt.box.to(embedding.space).xyxy)
                mask[y1:y2, x1:x2] = True
            for point in prompt.points if prompt.box is None else ():
                x, y = point.to(embedding.space).xy
                mask[int(y), int(x)] = True
            notes = ("filling knows boxes only",) if prompt.points and "points" not in self.trained_prompts else ()
            predictions.append(MaskPrediction(mask, 0.9, notes))
        return predictions


@pytest.fixture
def picture() -> MedicalImage:
    """A picture of 80 x 60 pixels with something on it."""
    rows, columns = np.mgrid[:60, :80]
    return MedicalImage.from_array((20 + 2 * columns + (rows % 7)).astype(np.uint8), "picture.png")


@pytest.fixture
def reasoner() -> ScriptedReasoner:
    return ScriptedReasoner()


@pytest.fixture
def segmenter() -> FillingSegmenter:
    return FillingSegmenter()

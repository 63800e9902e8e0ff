"""The masks that a frozen segmenter draws for answers: for the points, the box, both, and the true box."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from medground.errors import ConfigError, SegmenterError
from medground.evaluate.embeddings import KeptEmbeddings
from medground.evaluate.predictions import PROMPTS, Drawn, Prediction, PromptKind
from medground.images import MedicalImage
from medground.masks import decode_rle, encode_rle
from medground.segmenters import MaskPrediction, Prompt, Segmenter
from medground.self_check import drawn_facts
from medground.types import Grounding

__all__ = ["Masker", "known_prompts", "prompts_of"]


def known_prompts(segmenter: Segmenter) -> tuple[PromptKind, ...]:
    """Return the kinds of prompts that a segmenter was trained on."""
    needs = {"points": {"points"}, "box": {"box"}, "both": {"points", "box"}}
    return tuple(kind for kind in PROMPTS if needs[kind] <= segmenter.trained_prompts)


def prompts_of(answer: Grounding, kind: PromptKind) -> list[Prompt]:
    """Return the prompts that an answer gives: one for each of its boxes; none where it lacks what the kind needs.

    Of several boxes, each gets the points that lie in it.
    """
    if kind == "points":
        return [Prompt(points=answer.points)] if answer.points else []
    if kind == "box":
        return [Prompt(box) for box in answer.boxes]
    if not answer.points:
        return []
    if len(answer.boxes) == 1:
        return [Prompt(answer.boxes[0], answer.points)]
    return [Prompt(box, tuple(point for point in answer.points if box.contains(point))) for box in answer.boxes]


class Masker:
    """Draws masks for answers, all that concern one picture at once.

    Parameters
    ----------
    segmenter : Segmenter
    prompts : sequence of {"points", "box", "both"}, or None
        All that the segmenter was trained on when None.
    oracle : bool
        Draw one for the true box too.
    embeddings : KeptEmbeddings or None

    Raises
    ------
    ConfigError
        When the segmenter wasn't trained on a kind of prompt.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        prompts: Sequence[PromptKind] | None = None,
        *,
        oracle: bool = False,
        embeddings: KeptEmbeddings | None = None,
    ) -> None:
        known = known_prompts(segmenter)
        for kind in prompts or ():
            if kind not in known:
                raise ConfigError(f"{segmenter.name} doesn't take prompts {kind!r}; choose of {', '.join(known)}")
        self.segmenter, self.oracle = segmenter, oracle
        self.kinds = tuple(kind for kind in known if prompts is None or kind in prompts)
        self._encode = segmenter.encode if embeddings is None else embeddings.encode

    def draw(self, answered: Sequence[tuple[Prediction, MedicalImage | None]]) -> list[Prediction]:
        """Return lines with their masks; None for each kind where there is no picture."""
        lines = [line for line, _ in answered]
        pictures: dict[int, tuple[MedicalImage, list[int]]] = {}
        for index, (line, image) in enumerate(answered):
            if image is None:
                lines[index] = line.model_copy(update={"masks": dict.fromkeys(self.kinds)})
            else:
                pictures.setdefault(id(image), (image, []))[1].append(index)
        for image, indices in pictures.values():
            drawn = self._drawn(image, [lines[index] for index in indices])
            for index, update in zip(indices, drawn, strict=True):
                lines[index] = lines[index].model_copy(update=update)
        return lines

    def _drawn(self, image: MedicalImage, lines: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Return for each line about one picture what is known of its masks."""
        asked: list[tuple[int, str, list[Prompt]]] = []
        for index, line in enumerate(lines):
            if line.answer is not None:
                asked += [(index, kind, made) for kind in self.kinds if (made := prompts_of(line.answer, kind))]
            if self.oracle and line.right.box is not None:
                asked.append((index, "oracle", [Prompt(line.right.box)]))
        updates: list[dict[str, Any]] = [{"masks": dict.fromkeys(self.kinds)} for _ in lines]
        if not asked:
            return updates
        started = time.perf_counter()
        try:
            embedding = self._encode(image)
        except SegmenterError as error:
            return [{**update, "notes": (f"no masks: {error}",)} for update in updates]
        encoded = time.perf_counter()
        for (index, kind, _), found in zip(asked, self._segmented(embedding, asked), strict=True):
            if isinstance(found, SegmenterError):
                updates[index]["notes"] = (*updates[index].get("notes", ()), f"no mask for {kind}: {found}")
            elif kind == "oracle":
                updates[index]["oracle_mask"] = _together(found)
            else:
                updates[index]["masks"][kind] = _together(found)
        spent = {"encode": encoded - started, "mask": time.perf_counter() - encoded}
        for update, line in zip(updates, lines, strict=True):
            if (best := line.model_copy(update=update).best_mask) is not None:
                facts = drawn_facts(decode_rle(best["rle"]), image.rgb)
                update["drawn_facts"] = None if facts is None else facts.to_dict()
        shares = {name: round(seconds / len(lines), 5) for name, seconds in spent.items()}
        return [{**update, "seconds": {**line.seconds, **shares}} for update, line in zip(updates, lines, strict=True)]

    def _segmented(
        self, embedding: Any, asked: Sequence[tuple[int, str, list[Prompt]]]
    ) -> list[list[MaskPrediction] | SegmenterError]:
        """Return the masks of each list of prompts, or why there are none."""
        try:
            found = iter(self.segmenter.segment(embedding, [prompt for *_, prompts in asked for prompt in prompts]))
            return [[next(found) for _ in prompts] for *_, prompts in asked]
        except SegmenterError as error:
            if len(asked) == 1:
                return [error]
        return [self._segmented(embedding, [one])[0] for one in asked]


def _together(found: Sequence[MaskPrediction]) -> Drawn:
    """Return the union of an answer's masks, with the least of their scores (0 for one that isn't a number)."""
    mask = np.logical_or.reduce([each.mask for each in found])
    score = min(float(each.score) for each in found)
    return {"rle": encode_rle(mask), "score": round(score, 5) if math.isfinite(score) else 0.0}

"""Checks on visual questions during a training: is the answer right, are its regions, and do the two go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from medground.data.pixels import open_image
from medground.data.vqa_rows import VqaRow
from medground.drawing import draw
from medground.images import MedicalImage
from medground.rewards import score_batch
from medground.rewards.thinkvg import semantic
from medground.rewards.thinkvg_reading import Response
from medground.rewards.vqa_truth import VqaTruth
from medground.train.checkup import TILE, Answered, Check, figures_over, outline, rounded
from medground.train.vqa import question_of
from medground.vqa_metrics import RIGHT, read_answer, vqa_figures

__all__ = ["VisualCheck"]


class VisualCheck(Check):
    """Measures a model on fixed visual questions; `measure` writes ``eval/visual-NNNNNN.json`` and ``.png``.

    Its figures are ``rows``, the means of `medground.vqa_metrics.vqa_figures` over the rows that each applies to, with
    the offline judge's verdict on open questions, ``cut`` and ``tokens``, and the recipe's ``terms``.
    """

    stem = "visual"

    def _answer(self, model: Any, numbers: Sequence[int]) -> list[Answered]:
        rows = [self.rows[number] for number in numbers]
        images = [open_image(row.image, root) for row, root in rows]
        asked = [question_of(row, image, self.mode) for (row, _), image in zip(rows, images, strict=True)]
        answered = []
        for number, (row, _), image, (completion, tokens, cut) in zip(
            numbers, rows, images, self.completions(model, asked), strict=True
        ):
            truth = row.truth().to(completion.space)
            reading = read_answer(completion.text, completion.space)
            verdict = semantic([reading], [truth])[0]
            figures = vqa_figures(reading, truth, verdict, reasoned=self.mode == "reason")
            terms = score_batch(
                [completion.text],
                [self.recipe.read_truth(row.ground_truth(), None)],
                self.recipe,
                space=completion.space,
            )[0]
            tile = _tile(row, image, reading, truth, figures) if number in self.drawn else None
            answered.append(Answered(row, completion.text, tokens, cut, reading, figures, terms, tile))
        return answered

    def _figures(self, answered: Sequence[Answered]) -> dict[str, Any]:
        told = figures_over(answered, {})
        return {name: value for name, value in told.items() if value is not None}

    def _entry(self, one: Answered) -> dict[str, Any]:
        boxes = None if one.result is None or one.result.boxes is None else one.result.boxes
        return {
            "question_type": one.row.question_type,
            "said": one.text,
            "boxes": None if boxes is None else [rounded(box.xyxy) for box in boxes],
        }


def _tile(
    row: VqaRow, image: MedicalImage, reading: Response | None, truth: VqaTruth, figures: dict[str, float]
) -> tuple[Image.Image, str]:
    """Return a row's picture with the true boxes in white and the located ones in orange, and its caption."""
    boxes = () if reading is None or reading.boxes is None else reading.boxes
    canvas = draw(image, boxes=[box.to(image.space) for box in boxes])
    for box in truth.boxes:
        outline(canvas, box.to(image.space), canvas.width / image.width)
    canvas.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    told = "can't be read" if reading is None else "right" if figures["worth"] >= RIGHT else "wrong"
    if not np.isnan(figures["v_score"]):
        told += f", V-score {figures['v_score']:.2f}"
    return canvas, f"{told}\n{' '.join(row.question.split())}"

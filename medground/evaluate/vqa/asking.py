"""One chunk of visual questions: shown, asked, and written into lines; each picture is decoded and looked at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from medground.data.pixels import open_image
from medground.data.vqa.earlier import earlier_of
from medground.data.vqa_rows import VqaRow
from medground.errors import MedgroundError
from medground.evaluate.asking import Answering, Asked
from medground.evaluate.planning import Planned
from medground.evaluate.stored import StoredAnswers
from medground.evaluate.vqa.baselines import VisualBaseline
from medground.evaluate.vqa.predictions import VisualPrediction
from medground.images import MedicalImage
from medground.prompts.vqa import Visual
from medground.reasoners import Request

__all__ = ["VisualAsking"]


class VisualAsking(Answering):
    """Answers chunks of visual questions; `medground.evaluate.asking.Asking` does so for grounding."""

    about = ("source", "modality", "group", "split", "style", "template", "question_type")
    blind = (VisualBaseline, StoredAnswers)

    def answer(self, rows: Sequence[Planned], seed: Sequence[int]) -> list[VisualPrediction]:
        """Return one line for each row, in order."""
        asked = list(self._opened(rows))
        told = self.told(asked, seed)
        return [self._line(each.row, said) for each, said in zip(asked, told, strict=True)]

    def _opened(self, rows: Sequence[Planned]) -> Iterator[Asked]:
        pictures: dict[str, MedicalImage] = {}
        for planned in rows:
            row = cast(VqaRow, planned.row)
            try:
                if planned.picture not in pictures:
                    pictures[planned.picture] = open_image(row.image, planned.root)
                image = pictures[planned.picture]
                visual = Visual(row.question_type, row.choices, earlier_of(row))
                yield Asked(row, image, Request(image, row.question, self.mode, visual))
            except MedgroundError as error:
                yield Asked(row, error=str(error))

    def _line(self, row: VqaRow, told: dict[str, Any]) -> VisualPrediction:
        own = {"question_type": row.question_type, "choices": row.choices, "truth": json.loads(row.ground_truth())}
        return VisualPrediction.model_validate(told | own)

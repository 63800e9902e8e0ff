"""One chunk of visual questions: shown, asked, and written into lines; each picture is decoded and looked at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medground.data.pixels import open_image
from medground.data.vqa.earlier import earlier_of
from medground.data.vqa_rows import VqaRow
from medground.errors import MedgroundError, ReasonerError
from medground.evaluate.asking import tokens_of, writable
from medground.evaluate.planning import Planned
from medground.evaluate.predictions import ruler_of
from medground.evaluate.stored import StoredAnswers
from medground.evaluate.vqa.baselines import VisualBaseline
from medground.evaluate.vqa.predictions import VisualPrediction
from medground.images import MedicalImage
from medground.prompts import Mode
from medground.prompts.vqa import Visual
from medground.reasoners import Completion, Reasoner, Request
from medground.reasoners._sharing import looking_once

__all__ = ["ABOUT", "VisualAsking"]

ABOUT = ("source", "modality", "group", "split", "style", "template", "question_type")
"""What a line says about its row."""


@dataclass(slots=True, eq=False)
class _Asked:
    row: VqaRow
    image: MedicalImage | None = None
    request: Request | None = None
    completion: Completion | None = None
    error: str | None = None


class VisualAsking:
    """Answers chunks of visual questions; `medground.evaluate.asking.Asking` does so for grounding."""

    def __init__(
        self,
        reasoner: Reasoner | VisualBaseline | StoredAnswers,
        mode: Mode,
        samples: int,
        temperature: float,
        max_new_tokens: int | None,
    ) -> None:
        self.reasoner, self.mode = reasoner, mode
        self.samples, self.temperature, self.max_new_tokens = samples, temperature, max_new_tokens

    def answer(self, rows: Sequence[Planned], seed: Sequence[int]) -> list[VisualPrediction]:
        """Return one line for each row, in order."""
        asked = list(self._opened(rows))
        # Questions of one length go together, so that little is padded; the order is the same in every run.
        ready = sorted((each for each in asked if each.request is not None), key=lambda each: len(each.row.question))
        sampled: dict[str, list[str]] = {each.row.id: [] for each in ready}
        with looking_once(getattr(self.reasoner, "model", None)):
            started = time.perf_counter()
            for each, completion in zip(ready, self._complete(ready), strict=True):
                each.completion, each.error = completion, completion.error
            spent = (time.perf_counter() - started) / max(1, len(ready))
            for turn in range(self.samples):
                drawn = int(np.random.SeedSequence([*seed, turn]).generate_state(1)[0])
                for each, completion in zip(ready, self._complete(ready, drawn), strict=True):
                    sampled[each.row.id].append(completion.text)
        return [self._line(each, sampled.get(each.row.id, []), spent) for each in asked]

    def _opened(self, rows: Sequence[Planned]) -> Iterator[_Asked]:
        pictures: dict[str, MedicalImage] = {}
        for planned in rows:
            row: Any = planned.row
            try:
                if planned.picture not in pictures:
                    pictures[planned.picture] = open_image(row.image, planned.root)
                image = pictures[planned.picture]
                visual = Visual(row.question_type, row.choices, earlier_of(row))
                yield _Asked(row, image, Request(image, row.question, self.mode, visual))
            except MedgroundError as error:
                yield _Asked(row, error=str(error))

    def _complete(self, asked: Sequence[_Asked], seed: int | None = None) -> list[Completion]:
        """Return greedy answers, or with a seed sampled ones."""
        if isinstance(self.reasoner, VisualBaseline | StoredAnswers):
            return [self.reasoner.answer(each.row, each.image) for each in asked if each.image is not None]
        requests = [each.request for each in asked if each.request is not None]
        said = self.reasoner.complete(
            requests,
            temperature=0.0 if seed is None else self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
        if len(said) != len(requests):
            raise ReasonerError(f"{self.reasoner.name} gave {len(said)} answers to {len(requests)} questions")
        return said

    def _line(self, asked: _Asked, samples: Sequence[str], spent: float) -> VisualPrediction:
        row, image, said = asked.row, asked.image, asked.completion
        text = "" if said is None else writable(said.text)
        space = ruler_of(said.space) if said else {"coordinates": "0-1000", "width": 1000.0, "height": 1000.0}
        return VisualPrediction.model_validate(
            {
                "id": row.id,
                "question": row.question,
                "question_type": row.question_type,
                "choices": row.choices,
                "mode": self.mode,
                "image": row.image.path,
                "image_size": row.image_size if image is None else image.size,
                "about": {name: getattr(row, name) for name in ABOUT},
                "truth": json.loads(row.ground_truth()),
                "completion": text,
                "space": space,
                "error": asked.error and writable(asked.error),
                "samples": [writable(each) for each in samples],
                "tokens": tokens_of(self.reasoner, text),
                "seconds": {"reason": round(spent, 5)} if said else {},
            }
        )

"""One chunk of rows: shown, asked about, and written into lines; each picture is decoded once and looked at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from medground.data.pixels import open_image, open_mask
from medground.data.rows import Row
from medground.errors import MedgroundError, ReasonerError, TruthError
from medground.evaluate.baselines import Baseline
from medground.evaluate.masking import Masker
from medground.evaluate.planning import Planned
from medground.evaluate.predictions import Prediction, ruler_of
from medground.evaluate.variants import vary_row
from medground.images import MedicalImage
from medground.masks import encode_rle
from medground.prompts import Mode
from medground.reasoners import Completion, Reasoner, Request
from medground.reasoners._sharing import looking_once
from medground.rewards.evidence import Facts
from medground.types import Mask

__all__ = ["ABOUT", "Asking", "tokens_of", "writable"]

ABOUT = ("source", "category", "supercategory", "modality", "group", "split", "style", "template")
"""What a line says about its row."""


@dataclass(slots=True, eq=False)
class _Asked:
    """A row on its way: as it is shown, what it was answered, and why not."""

    row: Row
    image: MedicalImage | None = None
    mask: Mask | None = None
    facts: dict[str, list[str]] | None = None
    completion: Completion | None = None
    error: str | None = None


class Asking:
    """Answers chunks of rows."""

    def __init__(
        self,
        reasoner: Reasoner | Baseline,
        masker: Masker | None,
        mode: Mode,
        samples: int,
        temperature: float,
        max_new_tokens: int | None,
        variant: str,
    ) -> None:
        self.reasoner, self.masker, self.mode, self.variant = reasoner, masker, mode, variant
        self.samples, self.temperature, self.max_new_tokens = samples, temperature, max_new_tokens

    def answer(self, rows: Sequence[Planned], seed: Sequence[int]) -> list[Prediction]:
        """Return one line for each row, in order, less those that the variant leaves out."""
        asked = list(self._opened(rows))
        # Questions of one length go together, so that little is padded; the order is the same in every run.
        ready = sorted((each for each in asked if each.image is not None), key=lambda each: len(each.row.question))
        sampled: dict[str, list[str]] = {each.row.id: [] for each in ready}
        with looking_once(getattr(self.reasoner, "model", None)):
            started = time.perf_counter()
            for each, completion in zip(ready, self._complete(ready), strict=True):
                each.completion = completion
                each.error = completion.error
            spent = (time.perf_counter() - started) / max(1, len(ready))
            for turn in range(self.samples):
                drawn = int(np.random.SeedSequence([*seed, turn]).generate_state(1)[0])
                for each, completion in zip(ready, self._complete(ready, drawn), strict=True):
                    sampled[each.row.id].append(completion.text)
        lines = [self._line(each, sampled.get(each.row.id, []), spent) for each in asked]
        if self.masker is None:
            return lines
        return self.masker.draw([(line, each.image) for line, each in zip(lines, asked, strict=True)])

    def _opened(self, rows: Sequence[Planned]) -> Iterator[_Asked]:
        pictures: dict[str, MedicalImage] = {}
        for planned in rows:
            try:
                if planned.picture not in pictures:
                    pictures[planned.picture] = open_image(planned.row.image, planned.root)
                asked = self._shown(planned, pictures[planned.picture])
            except MedgroundError as error:
                yield _Asked(cast(Row, planned.row), error=str(error))
            else:
                if asked is not None:
                    yield asked

    def _shown(self, planned: Planned, image: MedicalImage) -> _Asked | None:
        """Return a row as it is shown, with its mask; None where the variant leaves it out."""
        row, mask = cast(Row, planned.row), None
        if row.mask is not None:
            mask = open_mask(row.mask, planned.root, size=image.size)
            if not mask.any():
                raise TruthError("the mask is empty; drop the row, or mark its target absent")
        if self.variant:
            varied = vary_row(self.variant, row, image, mask)
            if varied is None:
                return None
            row, image, mask = varied.row, varied.image, varied.mask
        facts = None
        if mask is not None and row.facts is None:
            facts = Facts.measure(mask, np.asarray(Image.fromarray(image.rgb).convert("L"))).to_dict()
        return _Asked(row, image, mask, facts)

    def _complete(self, asked: Sequence[_Asked], seed: int | None = None) -> list[Completion]:
        """Return greedy answers, or with a seed sampled ones."""
        pairs = [(each.row, each.image) for each in asked if each.image is not None]
        if isinstance(self.reasoner, Baseline):
            return [self.reasoner.answer(row, image) for row, image in pairs]
        said = self.reasoner.complete(
            [Request(image, row.question, self.mode) for row, image in pairs],
            temperature=0.0 if seed is None else self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
        if len(said) != len(pairs):
            raise ReasonerError(f"{self.reasoner.name} gave {len(said)} answers to {len(pairs)} questions")
        return said

    def _line(self, asked: _Asked, samples: Sequence[str], spent: float) -> Prediction:
        row, image, said = asked.row, asked.image, asked.completion
        truth = json.loads(row.ground_truth()) | {"image_size": row.image_size, "coordinates": row.coordinates}
        if asked.facts is not None:
            truth["facts"] = asked.facts
        text = "" if said is None else writable(said.text)
        space = ruler_of(said.space) if said else {"coordinates": "0-1000", "width": 1000.0, "height": 1000.0}
        return Prediction.model_validate(
            {
                "id": row.id,
                "question": row.question,
                "mode": self.mode,
                "image": row.image.path,
                "image_size": row.image_size if image is None else image.size,
                "about": {name: getattr(row, name) for name in ABOUT} | {"absent": row.absent},
                "truth": truth,
                "truth_mask": None if asked.mask is None else encode_rle(asked.mask),
                "completion": text,
                "space": space,
                "error": asked.error and writable(asked.error),
                "samples": [writable(each) for each in samples],
                "tokens": tokens_of(self.reasoner, text),
                "seconds": {"reason": round(spent, 5)} if said else {},
                "variant": self.variant,
            }
        )


def tokens_of(reasoner: object, text: str) -> int | None:
    """Return how many tokens a completion has, None where the reasoner's tokenizer isn't known."""
    tokenizer = getattr(getattr(reasoner, "processor", None), "tokenizer", None)
    return len(tokenizer(text, add_special_tokens=False).input_ids) if tokenizer else None


def writable(text: str) -> str:
    """Return text without halves of characters, which an endpoint's JSON can hold and UTF-8 can't."""
    return text.encode("utf-8", "replace").decode("utf-8")

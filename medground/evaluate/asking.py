"""One chunk of rows: shown, asked about, and written into lines; each picture is decoded once and looked at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

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

__all__ = ["Answering", "Asked", "Asking", "tokens_of", "writable"]


@dataclass(slots=True, eq=False)
class Asked:
    """A row on its way: as it is shown, how it is asked, what it was answered, and why not."""

    row: Any
    image: MedicalImage | None = None
    request: Request | None = None
    mask: Mask | None = None
    facts: dict[str, list[str]] | None = None
    completion: Completion | None = None
    error: str | None = None


class Answering:
    """Asks a chunk of rows, and says what lines of either task say alike."""

    about: ClassVar[tuple[str, ...]]
    """What a line says about its row."""

    blind: ClassVar[tuple[type[Any], ...]]
    """Reasoners that are handed the row, truth included, in place of a request."""

    def __init__(self, reasoner: Any, mode: Mode, samples: int, temperature: float, max_new_tokens: int | None) -> None:
        self.reasoner, self.mode = reasoner, mode
        self.samples, self.temperature, self.max_new_tokens = samples, temperature, max_new_tokens

    def told(self, asked: Sequence[Asked], seed: Sequence[int]) -> list[dict[str, Any]]:
        """Ask what has a request, and return for each row, in order, what its line says whatever the task."""
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
        return [self._told(each, sampled.get(each.row.id, []), spent) for each in asked]

    def _complete(self, asked: Sequence[Asked], seed: int | None = None) -> list[Completion]:
        """Return greedy answers, or with a seed sampled ones."""
        if isinstance(self.reasoner, self.blind):
            return [self.reasoner.answer(each.row, each.image) for each in asked]
        said: list[Completion] = self.reasoner.complete(
            [each.request for each in asked],
            temperature=0.0 if seed is None else self.temperature,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
        if len(said) != len(asked):
            raise ReasonerError(f"{self.reasoner.name} gave {len(said)} answers to {len(asked)} questions")
        return said

    def _told(self, asked: Asked, samples: Sequence[str], spent: float) -> dict[str, Any]:
        row, said = asked.row, asked.completion
        text = "" if said is None else writable(said.text)
        return {
            "id": row.id,
            "question": row.question,
            "mode": self.mode,
            "image": row.image.path,
            "image_size": row.image_size if asked.image is None else asked.image.size,
            "about": {name: getattr(row, name) for name in self.about},
            "completion": text,
            "space": ruler_of(said.space) if said else {"coordinates": "0-1000", "width": 1000.0, "height": 1000.0},
            "error": asked.error and writable(asked.error),
            "samples": [writable(each) for each in samples],
            "tokens": tokens_of(self.reasoner, text),
            "seconds": {"reason": round(spent, 5)} if said else {},
        }


class Asking(Answering):
    """Answers chunks of rows."""

    about = ("source", "category", "supercategory", "modality", "group", "split", "style", "template", "absent")
    blind = (Baseline,)

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
        super().__init__(reasoner, mode, samples, temperature, max_new_tokens)
        self.masker, self.variant = masker, variant

    def answer(self, rows: Sequence[Planned], seed: Sequence[int]) -> list[Prediction]:
        """Return one line for each row, in order, less those that the variant leaves out."""
        asked = list(self._opened(rows))
        told = self.told(asked, seed)
        lines = [self._line(each, said) for each, said in zip(asked, told, strict=True)]
        if self.masker is None:
            return lines
        return self.masker.draw([(line, each.image) for line, each in zip(lines, asked, strict=True)])

    def _opened(self, rows: Sequence[Planned]) -> Iterator[Asked]:
        pictures: dict[str, MedicalImage] = {}
        for planned in rows:
            try:
                if planned.picture not in pictures:
                    pictures[planned.picture] = open_image(planned.row.image, planned.root)
                asked = self._shown(planned, pictures[planned.picture])
            except MedgroundError as error:
                yield Asked(planned.row, error=str(error))
            else:
                if asked is not None:
                    yield asked

    def _shown(self, planned: Planned, image: MedicalImage) -> Asked | None:
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
        return Asked(row, image, Request(image, row.question, self.mode), mask, facts)

    def _line(self, asked: Asked, told: dict[str, Any]) -> Prediction:
        row = asked.row
        truth = json.loads(row.ground_truth()) | {"image_size": row.image_size, "coordinates": row.coordinates}
        if asked.facts is not None:
            truth["facts"] = asked.facts
        mask = None if asked.mask is None else encode_rle(asked.mask)
        return Prediction.model_validate(told | {"truth": truth, "truth_mask": mask, "variant": self.variant})


def tokens_of(reasoner: object, text: str) -> int | None:
    """Return how many tokens a completion has, None where the reasoner's tokenizer isn't known."""
    tokenizer = getattr(getattr(reasoner, "processor", None), "tokenizer", None)
    return len(tokenizer(text, add_special_tokens=False).input_ids) if tokenizer else None


def writable(text: str) -> str:
    r"""Return text without halves of characters, which an endpoint's JSON can hold and UTF-8 can't.

    Examples
    --------
    >>> writable("a kidney\ud83d")
    'a kidney?'
    """
    return text.encode("utf-8", "replace").decode("utf-8")

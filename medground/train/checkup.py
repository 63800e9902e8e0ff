"""Checks during a training: the model as it stands answers the same validation rows, greedily, as a user would ask.

Each check writes ``OUT/eval/step-000100.json`` (figures over all rows, and each row's own) and beside it a picture of
the same rows, so that a run can be watched. What is drawn at random elsewhere isn't touched: a run with checks takes
the same course as one without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from transformers import TrainerCallback

from medground._io import make_folder, write_bytes, write_json
from medground.data.pixels import open_image, open_mask
from medground.data.rows import Row
from medground.drawing import contact_sheet, draw, png
from medground.errors import ParseError, TruthError
from medground.images import MedicalImage
from medground.metrics import dice, pdice, pointing
from medground.pipeline import MedGround
from medground.prompts import Mode
from medground.reasoners import Completion, Request
from medground.reasoners._asking import Asker
from medground.rewards import Recipe, load_recipe, score_batch
from medground.segmenters import Segmenter
from medground.train.answering import at_rest, complete, gathered, place_of_process
from medground.train.config import TrainConfig
from medground.train.curves import RunLog
from medground.train.rows import open_rows
from medground.types import Box, Mask, Result

__all__ = ["Answered", "Check", "Checkup", "checkups", "figures_over", "outline", "rounded"]

GRID = 12
"""Rows that are drawn at most: taken evenly, so that not all are of one source, and always the same."""

LONGEST = 1024
"""Tokens of an answer in the checks of a supervised run, at most."""

_TRUE = (255, 255, 255)
TILE = 320
"""Width of a row's picture, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """One row with what the model said of it; `result` is what was read of it."""

    row: Any
    text: str
    tokens: int
    cut: bool
    result: Any
    figures: dict[str, float]
    terms: dict[str, float]
    tile: tuple[Image.Image, str] | None


class Check:
    """Measures a model on fixed rows.

    Parameters
    ----------
    rows : sequence of (Row, path)
        Validation rows, each with the folder at which its relative paths start.
    asker : Asker
        How the model is asked, the same as in training.
    out : path
        The run's folder.
    recipe : str or Recipe
        Whose terms are told; rows that it can't score (absent targets under the paper's) are told without.
    mode : {"reason", "direct"}
    segmenter : str, Segmenter or None
        Where one is given, the Dice of its mask is told for rows with a mask.
    max_new_tokens : int
    batch : int
        Rows that are answered at once.
    """

    stem = "step"
    """How its files' names begin."""

    def __init__(
        self,
        rows: Sequence[tuple[Any, Path]],
        asker: Asker,
        out: str | Path,
        *,
        recipe: str | Recipe = "medground",
        mode: Mode = "reason",
        segmenter: str | Segmenter | None = None,
        max_new_tokens: int = 512,
        batch: int = 8,
    ) -> None:
        self.rows, self.asker, self.out = list(rows), asker, Path(out)
        self.recipe, self.mode, self.batch = load_recipe(recipe), mode, batch
        self.max_new_tokens = max_new_tokens
        self.drawn = {round(at) for at in np.linspace(0, len(self.rows) - 1, min(GRID, len(self.rows)))}
        self._said: _Said = _Said(asker.name)
        self._grounder = MedGround(self._said, segmenter)
        self._masks = segmenter is not None

    def measure(self, model: Any, step: int) -> dict[str, Any]:
        """Ask, write ``eval/step-NNNNNN.json`` and ``.png``, and return the figures over all rows.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Is left in the mode in which it was.
        step : int

        Returns
        -------
        dict
            ``rows`` and means: ``box_iou``, ``box_iou_categories`` (each category counts the same), ``acc_50``,
            ``pdice``, ``pointing`` and, with a segmenter, ``dice`` over rows whose target is present (what can't be
            read, or is said to be absent, counts 0); ``absence``, share of all rows where presence is told right, and
            ``absence_balanced``, the mean of that share over present and absent rows; ``unreadable``, ``cut`` and
            ``tokens`` of all completions; ``terms``, the recipe's by name, over the rows that they apply to.

        Raises
        ------
        TruthError
            When a row's picture or label can't be read.
        """
        rank, world = place_of_process()
        share = len(self.rows) // world + (len(self.rows) % world > 0)
        own = list(range(rank, len(self.rows), world))
        # Weights that are spread over processes are gathered in each forward pass: all must make as many.
        asked = own + [0] * (share - len(own))
        answered: list[Answered] = []
        with at_rest(model):
            for start in range(0, len(asked), self.batch):
                answered += self._answer(model, asked[start : start + self.batch])
        found = gathered(list(zip(own, answered, strict=False)), world)
        told = self._figures([one for _, one in found])
        if rank == 0:
            self._write(step, told, [one for _, one in found])
        return told

    def _answer(self, model: Any, numbers: Sequence[int]) -> list[Answered]:
        """Answer a batch of rows, and measure each answer."""
        rows = [self.rows[number] for number in numbers]
        images = [open_image(row.image, root) for row, root in rows]
        requests = [Request(image, row.question, self.mode) for image, (row, _) in zip(images, rows, strict=True)]
        said = self.completions(model, requests)
        self._said.completions = {id(image): each[0] for image, each in zip(images, said, strict=True)}
        pairs = [(image, row.question) for image, (row, _) in zip(images, rows, strict=True)]
        found = list(self._grounder.ground_each(pairs, mode=self.mode, batch_size=len(pairs)))
        answered = []
        for number, (row, root), image, result, (completion, tokens, cut) in zip(
            numbers, rows, images, found, said, strict=True
        ):
            if not isinstance(result, Result | ParseError):
                raise result
            read = result if isinstance(result, Result) else None
            mask = None if row.mask is None else open_mask(row.mask, root, size=image.size)
            figures = self._measured(row, image, read, mask)
            tile = _tile(row, image, read, figures) if number in self.drawn else None
            terms = self._terms(row, completion)
            answered.append(Answered(row, completion.text, tokens, cut, read, figures, terms, tile))
        return answered

    def completions(self, model: Any, requests: Sequence[Request]) -> list[tuple[Completion, int, bool]]:
        """Return the model's greedy answers, each with its tokens and whether it was cut off."""
        return complete(model, self.asker, requests, self.max_new_tokens)

    def _measured(self, row: Row, image: MedicalImage, result: Result | None, mask: Mask | None) -> dict[str, float]:
        """Return one answer's figures, all in source pixels."""
        truth = row.truth()
        absent = result is not None and result.grounding.absent
        figures = {"absence": float(result is not None and absent == row.absent), "unreadable": float(result is None)}
        if truth.box is None:
            return figures
        box = truth.box.to(image.space)
        said = None if result is None else result.box
        figures["box_iou"] = box.iou(said) if said else 0.0
        points = () if result is None else result.points
        if truth.points:
            true = [point.to(image.space) for point in truth.points]
            figures["pdice"] = pdice(points, true)
        figures["pointing"] = pointing(points, box if mask is None else mask)
        if self._masks and mask is not None:
            drawn = None if result is None else result.mask
            figures["dice"] = 0.0 if drawn is None else dice(drawn, mask)
        return figures

    def _terms(self, row: Row, completion: Completion) -> dict[str, float]:
        try:
            truth = self.recipe.read_truth(row.ground_truth(), None).to(completion.space)
        except TruthError:
            if row.absent:
                return {}  # the paper's recipes know no absence
            raise
        return score_batch([completion.text], [truth], self.recipe)[0]

    def _figures(self, answered: Sequence[Answered]) -> dict[str, Any]:
        kinds: dict[str, list[float]] = defaultdict(list)
        presence: dict[bool, list[float]] = defaultdict(list)
        for one in answered:
            presence[one.row.absent].append(one.figures["absence"])
            if "box_iou" in one.figures:
                kinds[one.row.category].append(one.figures["box_iou"])
        further: dict[str, Any] = {}
        if kinds:
            further["box_iou_categories"] = _mean([_mean(values) for values in kinds.values()])
            further["acc_50"] = _mean([float(value >= 0.5) for values in kinds.values() for value in values])
        further["absence_balanced"] = _mean([_mean(values) for values in presence.values()])
        return figures_over(answered, further)

    def _write(self, step: int, told: dict[str, Any], answered: Sequence[Answered]) -> None:
        folder = make_folder(self.out / "eval")
        each = [
            {
                "id": one.row.id,
                **self._entry(one),
                "figures": {name: round(value, 4) for name, value in one.figures.items() if value == value},
                "terms": {name: round(value, 4) for name, value in one.terms.items()},
            }
            for one in answered
        ]
        settings = {"recipe": self.recipe.name, "mode": self.mode, "max_new_tokens": self.max_new_tokens}
        # The picture first: who sees the figures may rely on both.
        tiles = [one.tile for one in answered if one.tile is not None]
        write_bytes(folder / f"{self.stem}-{step:06d}.png", png(contact_sheet(tiles, columns=4, width=TILE, lines=4)))
        write_json(folder / f"{self.stem}-{step:06d}.json", {"step": step, **settings, "all": told, "each": each})

    def _entry(self, one: Answered) -> dict[str, Any]:
        """Return what a file says of an answer beside its figures."""
        box = None if one.result is None else one.result.box
        return {
            "category": one.row.category,
            "absent": one.row.absent,
            "said": one.text,
            "bbox": None if box is None else rounded(box.xyxy),
        }


class Checkup(TrainerCallback):  # type: ignore[misc]
    """Makes checks every so many steps, before the first one and after the last; their figures go into the log.

    Parameters
    ----------
    check : Check or None
    every : int
        Steps.
    log : RunLog
    visual : Check or None
        Of visual questions; its figures are told under ``visual``.
    """

    def __init__(self, check: Check | None, every: int, log: RunLog, visual: Check | None = None) -> None:
        self.check, self.every, self.log, self.visual = check, every, log, visual

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Check what the run starts from."""
        if state.global_step == 0:
            self._make(model, state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Check every so many steps, and after the last."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            self._make(model, state)

    def _make(self, model: Any, state: Any) -> None:
        told = {} if self.check is None else self.check.measure(model, state.global_step)
        if self.visual is not None:
            told["visual"] = self.visual.measure(model, state.global_step)
        if state.is_world_process_zero:
            self.log.add(state.global_step, checkup=told)


def checkups(
    config: TrainConfig, asker: Asker, recipe: str | Recipe = "medground", vqa_recipe: str | Recipe = "thinkvg"
) -> list[TrainerCallback]:
    """Return the callback that checks a run's model on its validation rows; none where it has no such rows.

    Raises
    ------
    ConfigError, TruthError
        When the rows can't be used.
    """
    from medground.train.vqa_checkup import VisualCheck  # which builds on Check

    if config.data.val is None and not config.data.vqa_val:
        return []
    found = open_rows(config, "val")
    rows: dict[bool, list[tuple[Any, Path]]] = {False: [], True: []}
    for index, row in enumerate(found):
        rows[found.is_visual(index)].append((row, Path(config.data.root or found.home(index))))
    options: dict[str, Any] = {
        "mode": "direct" if config.data.mode == "direct" else "reason",
        "max_new_tokens": config.grpo.max_completion if config.kind == "grpo" else min(config.sft.max_tokens, LONGEST),
        "batch": config.batch,
    }
    check = visual = None
    if rows[False]:
        check = Check(rows[False], asker, config.folder, recipe=recipe, segmenter=config.segmenter, **options)
    if rows[True]:
        visual = VisualCheck(rows[True], asker, config.folder, recipe=vqa_recipe, **options)
    return [Checkup(check, config.eval_every, RunLog(config.folder), visual)]


def figures_over(answered: Sequence[Answered], further: dict[str, Any]) -> dict[str, Any]:
    """Return the means over answers: of their figures, `further` ones, how long they are, and of their terms."""
    by_name: dict[str, list[float]] = defaultdict(list)
    terms: dict[str, list[float]] = defaultdict(list)
    for one in answered:
        for name, value in one.figures.items():
            by_name[name].append(value)
        for name, value in one.terms.items():
            terms[name].append(value)
    told: dict[str, Any] = {"rows": len(answered)}
    told |= {name: _mean(values) for name, values in sorted(by_name.items())}
    told |= further
    told["cut"] = _mean([float(one.cut) for one in answered])
    told["tokens"] = _mean([float(one.tokens) for one in answered])
    told["terms"] = {name: _mean(values) for name, values in sorted(terms.items())}
    return told


class _Said:
    """A reasoner that gives answers that were made before, by the picture they are about."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.completions: dict[int, Completion] = {}

    def complete(self, requests: Sequence[Request], **_: Any) -> list[Completion]:
        return [self.completions[id(request.image)] for request in requests]

    def stream(self, request: Request, **_: Any) -> Iterator[str]:
        yield self.completions[id(request.image)].text

    def space_for(self, image: MedicalImage) -> Any:
        return self.completions[id(image)].space


def _tile(row: Row, image: MedicalImage, result: Result | None, figures: dict[str, float]) -> tuple[Image.Image, str]:
    """Return a row's picture with the true box in white and the answer in colours, and its caption."""
    boxes = () if result is None else result.grounding.boxes
    points = () if result is None else result.points
    canvas = draw(image, boxes=boxes, points=points, mask=None if result is None else result.mask)
    truth = row.truth().box
    if truth is not None:
        outline(canvas, truth.to(image.space), canvas.width / image.width)
    canvas.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    if result is None:
        told = "can't be read"
    elif truth is None:
        told = "absent, said so" if result.grounding.absent else "absent, and a place was given"
    else:
        told = "said to be absent" if result.grounding.absent else f"IoU {figures['box_iou']:.2f}"
    return canvas, f"{told}\n{' '.join(row.question.split())}"


def outline(canvas: Image.Image, box: Box, factor: float) -> None:
    """Draw a true box in white, with a dark edge; `factor` is the canvas's size over the picture's."""
    pen = ImageDraw.Draw(canvas)
    x1, y1, x2, y2 = (round(value * factor) for value in box.xyxy)
    line = max(2, round(max(canvas.size) / 250))
    corners = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
    pen.rectangle(corners, outline=(0, 0, 0), width=line + 2)
    pen.rectangle(corners, outline=_TRUE, width=line)


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is known (not NaN), or None."""
    known = [value for value in values if value is not None and value == value]
    return round(sum(known) / len(known), 4) if known else None


def rounded(values: Sequence[float]) -> list[float]:
    """Return numbers as a file has them."""
    return [round(value, 2) for value in values]

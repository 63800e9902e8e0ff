"""What was answered, in files: one line a row, with everything that scores and pictures of it need but the pixels.

A run is a folder: ``predictions.jsonl`` (or its shards, ``predictions-00000-of-00004.jsonl``), appended to as answers
come, and ``run.json`` with what decided the answers. Of two lines about one row the later counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from medground._io import read_lines
from medground.coords import COORDINATES, Order, Space
from medground.errors import ConfigError, ParseError, TruthError, first_mistake
from medground.parsing import parse
from medground.pipeline import in_source_pixels
from medground.prompts import Mode
from medground.rewards.truth import Truth, read_truth
from medground.types import Grounding

__all__ = [
    "PROMPTS",
    "Answered",
    "AnyRun",
    "Drawn",
    "Line",
    "Prediction",
    "PromptKind",
    "Ruler",
    "Run",
    "predictions_name",
    "read_folder",
    "read_run",
    "ruler_of",
    "task_of",
]

PromptKind = Literal["points", "box", "both"]
"""What of an answer a segmenter is prompted with: the key points, the box, or the box with the points."""

PROMPTS: tuple[PromptKind, ...] = ("points", "box", "both")

_FILES = re.compile(r"predictions(?:-(\d{5})-of-(\d{5}))?\.jsonl")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(gt=0, lt=1_000_000_000)]


class Ruler(TypedDict):
    """The `Space` of a completion's numbers: its name, with ``" yx"`` where y is written first, and its extents."""

    coordinates: str
    width: Finite
    height: Finite


class Drawn(TypedDict):
    """A mask (COCO's compressed run lengths, in the picture's pixels) and the segmenter's own estimate of its IoU."""

    rle: dict[str, Any]
    score: Finite


class Answered(BaseModel):
    """What each line says, whatever was asked.

    Parameters
    ----------
    id, question, mode
        The row's, and whether reasoning was asked for.
    image : str or None
        The picture's path as the row has it; None where the row embeds the picture.
    image_size : (width, height)
        Of the picture in pixels.
    about : dict
        What the row says of itself, such as ``source``, ``modality``, ``group``, ``split``; empty where unknown.
    completion : str
        What the reasoner wrote; empty when it failed.
    space : Ruler
        The ruler of the numbers in `completion` and `samples`.
    error : str or None
        Why there is no answer; never that an answer can't be read, which its text tells.
    samples : tuple of str
        Further completions, sampled.
    tokens : int or None
        Of `completion`, where the reasoner's tokenizer is known.
    seconds : dict of str to float
        ``reason``: this row's share of its batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: Annotated[str, Field(min_length=1)]
    question: Annotated[str, Field(repr=False)]
    mode: Mode = "reason"
    image: str | None = None
    image_size: tuple[Side, Side]
    about: dict[str, str | bool] = {}
    completion: Annotated[str, Field(repr=False)] = ""
    space: Ruler
    error: str | None = None
    samples: Annotated[tuple[str, ...], Field(repr=False)] = ()
    tokens: int | None = None
    seconds: dict[str, Finite] = {}

    @property
    def group(self) -> str:
        """Whom a bootstrap draws: the row's patient, else its picture, else the row."""
        return str(self.about.get("group") or self.image or self.id)

    @property
    def pixels(self) -> Space:
        """The space of the picture's pixels."""
        return Space.pixels(*self.image_size)

    @property
    def ruler(self) -> Space:
        """The space of the completion's numbers."""
        return _space(self.space)


class Prediction(Answered):
    """One row of a data set, and what was answered; see `Answered` for what isn't said here.

    Parameters
    ----------
    about : dict
        ``source``, ``category``, ``supercategory``, ``modality``, ``group``, ``split``, ``style``, ``template`` of the
        row (empty where unknown) and ``absent``, whether its target isn't in the picture.
    truth : dict
        The right answer, as `medground.rewards.read_truth` takes it, without the mask.
    truth_mask : dict or None
        COCO's compressed run lengths, of the picture's size.
    masks : dict of PromptKind to Drawn or None
        One for each kind of prompt that was asked for; None where the answer gave no such prompt. Empty without a
        segmenter.
    oracle_mask : Drawn or None
        What the segmenter draws for the true box.
    drawn_facts : dict or None
        What the mask that the segmenter scores highest says of its target (`medground.self_check.drawn_facts`).
    notes : tuple of str
        Why the segmenter drew no mask where it was asked for one.
    seconds : dict of str to float
        ``reason`` (this row's share of its batch), ``encode`` and ``mask`` (its share of its picture's).
    variant : str
        The perturbation's name; empty for the row as it is.

    Examples
    --------
    >>> line = Prediction(id="1", question="Where?", image_size=(100, 50), truth={"absent": True},
    ...                   completion='<answer>{"absent": true}</answer>',
    ...                   space={"coordinates": "0-1000", "width": 1000, "height": 1000})
    >>> line.answer.absent, Prediction.model_validate_json(line.model_dump_json()) == line
    (True, True)
    """

    truth: dict[str, Any]
    truth_mask: Annotated[dict[str, Any] | None, Field(repr=False)] = None
    masks: Annotated[dict[PromptKind, Drawn | None], Field(repr=False)] = {}
    oracle_mask: Annotated[Drawn | None, Field(repr=False)] = None
    drawn_facts: dict[str, list[str]] | None = None
    notes: tuple[str, ...] = ()
    variant: str = ""

    @cached_property
    def answer(self) -> Grounding | None:
        """What `completion` says, in the picture's pixels; None when it can't be read or there is none."""
        return None if self.error is not None else self.read(self.completion)

    @property
    def best_mask(self) -> Drawn | None:
        """The mask of `masks` that the segmenter scores highest, None where there is none."""
        drawn = [mask for mask in self.masks.values() if mask is not None]
        return max(drawn, key=lambda mask: mask["score"], default=None)

    @cached_property
    def right(self) -> Truth:
        """The right answer, in the picture's pixels, without its mask.

        Raises
        ------
        TruthError
            Names the row.
        """
        try:
            return read_truth(self.truth).to(self.pixels)
        except TruthError as error:
            raise TruthError(f"row {self.id}: {error}") from error

    def read(self, text: str) -> Grounding | None:
        """Return what a completion (one of `samples`) says, in the picture's pixels; None when it can't be read.

        Read as `medground.pipeline.MedGround` reads: tolerantly, and clipped to the picture.
        """
        try:
            return in_source_pixels(parse(text, self.ruler), self.pixels)[0]
        except ParseError:
            return None


Line = TypeVar("Line", bound=Answered)


@dataclass(frozen=True, slots=True)
class AnyRun(Generic[Line]):
    """The answers of one reasoner to one data set, whatever was asked.

    Parameters
    ----------
    name : str
        The folder's.
    folder : Path
    info : dict
        ``run.json``: ``reasoner`` and ``segmenter`` (dicts with at least a ``name``; the latter None without one),
        ``mode``, ``variant``, ``samples``, ``data`` (``rows``, ``digest``, ``files``) and further settings.
    predictions : tuple of Answered
        One a row, ordered by id. Fewer than ``data.rows`` while the run goes on, and where a variant left rows out.
    """

    name: str
    folder: Path
    info: dict[str, Any]
    predictions: tuple[Line, ...]


class Run(AnyRun[Prediction]):
    """A run on grounding; see `AnyRun`."""

    __slots__ = ()


def read_run(folder: str | Path) -> Run:
    """Read a run, also while it is being written: a half-written last line is left out.

    Raises
    ------
    ConfigError
        When the folder holds no run, a line is damaged, or files of differently sharded runs lie together.
    """
    folder = Path(folder)
    if task_of(folder):
        raise ConfigError(f"{folder}: holds a run on visual questions; give one on grounding")
    info, predictions = read_folder(folder, Prediction)
    return Run(folder.resolve().name, folder, info, predictions)


def read_folder(folder: Path, kind: type[Line]) -> tuple[dict[str, Any], tuple[Line, ...]]:
    """Return a run's settings and its lines, ordered by id; raises ConfigError as `read_run` does."""
    info = _info(folder)
    by_id: dict[str, Line] = {}
    for file in _files(folder):
        for prediction in _lines(file, kind):
            by_id[prediction.id] = prediction
    return info, tuple(by_id[name] for name in sorted(by_id))


def task_of(folder: str | Path) -> str:
    """Return the task of a run: empty for grounding, ``"visual"`` for visual questions; raises ConfigError."""
    return str(_info(Path(folder)).get("task", ""))


def _info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / "run.json").read_bytes())
    except OSError as error:
        raise ConfigError(f"{folder}: holds no run.json; give a folder that medground eval wrote") from error
    except ValueError as error:
        raise ConfigError(f"{folder / 'run.json'}: isn't JSON ({error}); evaluate again into another folder") from error
    return info if isinstance(info, dict) else {}


def _lines(file: Path, kind: type[Line]) -> Iterator[Line]:
    """Yield the lines of one file; raises ConfigError naming the line and the field of the first bad one."""
    for number, _, line in read_lines(file):
        try:
            yield kind.model_validate(line)
        except ValidationError as error:
            field, _, reason = first_mistake(error)
            raise ConfigError(f"{file}:{number}: {field or 'the line'}: {reason}; evaluate that row again") from None


def predictions_name(shard: tuple[int, int] = (0, 1)) -> str:
    """Return the name of a shard's file.

    Examples
    --------
    >>> predictions_name(), predictions_name((1, 4))
    ('predictions.jsonl', 'predictions-00001-of-00004.jsonl')
    """
    index, count = shard
    return "predictions.jsonl" if count == 1 else f"predictions-{index:05d}-of-{count:05d}.jsonl"


def ruler_of(space: Space) -> Ruler:
    """Return a space as a line of a file has it.

    Examples
    --------
    >>> ruler_of(Space.pixels(640, 480))
    {'coordinates': 'pixels', 'width': 640, 'height': 480}
    """
    name = space.name if space.order == "xy" else f"{space.name} yx"
    return {"coordinates": name, "width": space.width, "height": space.height}


def _space(ruler: Ruler) -> Space:
    kind = ruler["coordinates"].removesuffix(" yx")
    if kind not in COORDINATES:
        raise ConfigError(f"coordinates {kind!r} aren't known; a line's space is one of {', '.join(COORDINATES)}")
    order: Order = "xy" if kind == ruler["coordinates"] else "yx"
    return Space(kind, ruler["width"], ruler["height"], order)


def _files(folder: Path) -> list[Path]:
    found = {
        path: match for path in sorted(folder.glob("predictions*.jsonl")) if (match := _FILES.fullmatch(path.name))
    }
    counts = {match[2] for match in found.values()}
    if len(counts) > 1:
        raise ConfigError(f"{folder}: holds files of differently sharded runs; keep those of one")
    return list(found)

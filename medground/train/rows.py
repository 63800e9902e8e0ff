"""From rows of a data set to what TRL's trainers take, one row at a time, when it is needed.

``prompt`` (messages, the picture's place before the text), ``image`` (PIL, within the pixel budget), and ``completion``
(SFT) or ``ground_truth`` (GRPO: JSON in the very numbers that the model writes). The prompt is made by the same hand
that asks the trained model (`medground.reasoners._asking.Asker`). Where visual questions are among the rows, GRPO is
given their truths as ``visual_truth``; of the two columns each row has one, and None in the other.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground.coords import space_named
from medground.data.columns import FieldError, row_of
from medground.data.layouts import vqa_own
from medground.data.layouts._vqa import cleared
from medground.data.pixels import open_image, open_mask
from medground.data.rows import Row
from medground.data.schema import parquet_files, split_of_name
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError, MissingExtraError, TruthError
from medground.images import MedicalImage
from medground.masks import encode_rle, key_points
from medground.parsing import format_answer
from medground.prompts import Mode
from medground.reasoners import Request
from medground.reasoners._asking import Asker, Prepared
from medground.rewards.evidence import Facts
from medground.train.config import TrainConfig
from medground.train.mixture import drawn_rows, group_counts
from medground.train.varied import Trace, by_name, drop_words, plain_trace, vary
from medground.train.vqa import plain_thinking, question_of, seen_anew, told_by, written_for
from medground.types import Box, Mask, Point

__all__ = ["DIRECT_SHARE", "Examples", "Rows", "completion_of", "dataset", "open_rows"]

DIRECT_SHARE = 0.25
"""How often a row is asked for the answer alone where ``data.mode`` is ``both``."""

KEPT = 4
"""Prepared rows that are kept: GRPO asks for each prompt as often as it has completions, in a row."""


_Place = tuple[int, int]


class Rows(Sequence[Row | VqaRow]):
    """Rows of parquet files, on disk until they are asked for, and fast in any order.

    Parameters
    ----------
    files : sequence of path
        In U-MRG's layout.
    cache : path
        Folder for the memory-mapped copies that `datasets` makes of parquet files.
    vqa : sequence of path
        Visual questions in our own layout; they come after the others.
    """

    def __init__(self, files: Sequence[Path], cache: Path, vqa: Sequence[Path] = ()) -> None:
        try:
            from datasets import Dataset, disable_progress_bars, enable_progress_bars, is_progress_bar_enabled
        except ImportError as error:
            raise MissingExtraError("datasets", extra="train", purpose="training") from error
        self.files = [*files, *vqa]
        self._first_visual = len(files)
        shown = is_progress_bar_enabled()
        disable_progress_bars()
        try:
            self._tables = [
                # As arrow gives them, because `datasets` would decode embedded pictures without bounds.
                Dataset.from_parquet(str(file), cache_dir=str(cache)).with_format("arrow")
                for file in self.files
            ]
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.files[0].parent}: can't be read as parquet ({error})") from error
        finally:
            if shown:
                enable_progress_bars()
        self.places = [(part, number) for part, table in enumerate(self._tables) for number in range(len(table))]
        self.sources: dict[tuple[int, int], str] = {}  # of each place, where `open_rows` has read them

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Row | VqaRow:  # type: ignore[override]
        part, number = self.places[index]
        file = self.files[part]
        record = self._tables[part][number].to_pylist()[0]
        name, split = f"{file.stem}/{number}", split_of_name(file)
        try:
            if self.is_visual(index):
                return vqa_own.row_of(cleared(record), {"id": name, "split": split, "coordinates": "pixels"})
            return row_of(record, name=name, split=split)
        except FieldError as error:
            raise TruthError(f"{file}: row {number}: {error}") from error

    def is_visual(self, index: int) -> bool:
        """Return whether a row is a visual question."""
        return self.places[index][0] >= self._first_visual

    def where(self, index: int) -> str:
        """Return the file and the row's number in it, for an error."""
        part, number = self.places[index]
        return f"{self.files[part]}: row {number}"

    def home(self, index: int) -> Path:
        """Return the folder of a row's file, at which its relative paths start."""
        return self.files[self.places[index][0]].parent


def open_rows(config: TrainConfig, split: Literal["train", "val"] = "train") -> Rows:
    """Open the rows of a split and read each of them once, so that a bad one is told before the training starts.

    Raises
    ------
    ConfigError
        When there is no such file, or no such row.
    TruthError
        When a row can't be trained on; names the file, the row and the field.
    """
    data = config.data
    file, vqa = (data.train, data.vqa) if split == "train" else (data.val, data.vqa_val)
    if file is None and not vqa:
        raise ConfigError("data.val: isn't given; name the parquet file with validation rows, or visual questions")
    files = [] if file is None else parquet_files(file)
    rows = Rows(files, config.folder / "rows", [each for path in vqa or () for each in parquet_files(path)])
    kept: list[_Place] = []
    absent: list[_Place] = []
    asked: list[_Place] = []
    for index in range(len(rows)):
        try:
            row = rows[index]
            if row.split not in (split, ""):
                continue
            (asked if rows.is_visual(index) else kept).append(rows.places[index])
            rows.sources[rows.places[index]] = row.source
            row.truth()
            if isinstance(row, Row) and row.absent:
                absent.append(rows.places[index])
            if isinstance(row, Row) and config.kind == "sft" and split == "train":
                _check_answer(row)
            if row.image.data is None and not row.image.file(data.root or rows.home(index)).is_file():
                raise TruthError(f"image: there is no file {row.image.path}; restore it or set data.root")
        except TruthError as error:
            told = str(error)
            known = any(told.startswith(str(path)) for path in (file, *(vqa or ())) if path is not None)
            raise TruthError(told if known else f"{rows.where(index)}: {told}") from error
    for found, named in ((kept, files), (asked, vqa)):
        if named and not found:
            shown = file if named is files else ", ".join(vqa or ())
            raise ConfigError(f"{shown}: has no rows of split {split!r}; name another file")
    if split == "train" and data.absent < 1:
        gone = set(absent).difference(_some(absent, data.absent, [config.seed, 4]) if data.absent else ())
        kept = [place for place in kept if place not in gone]
    limits = (data.limit, data.vqa_limit) if split == "train" else (data.val_limit, data.val_limit)
    rows.places = _some(kept, limits[0], [config.seed, 1]) + _some(asked, limits[1], [config.seed, 3])
    sources = {rows.sources[place] for place in kept}
    if split == "train" and (unknown := set(data.weights) - sources):
        raise ConfigError(
            f"data.weights: no row is of {', '.join(sorted(unknown))}; the sources are {', '.join(sorted(sources))}"
        )
    if split == "train" and sources and not any(data.weights.get(source, 1.0) for source in sources):
        raise ConfigError("data.weights: leaves out every source; give one of them a weight above 0")
    return rows


def _some(places: list[_Place], limit: float | None, seed: list[int]) -> list[_Place]:
    """Return so many places (below 1: a share of them) in their order, drawn evenly."""
    count = len(places) if limit is None else max(1, round(limit * len(places))) if limit < 1 else round(limit)
    if count >= len(places):
        return places
    chosen = np.random.default_rng(seed).permutation(len(places))[:count]
    return [places[index] for index in sorted(chosen.tolist())]


def _check_answer(row: Row) -> None:
    if row.box is not None and not row.points and row.mask is None:
        raise TruthError("point_2d: is missing, and there is no mask to take key points from; add one of the two")
    if any(tag in row.reasoning.lower() for tag in ("<think", "</think", "<answer", "</answer")):
        raise TruthError("extra_info.think: holds a think or answer tag; remove it")


class Examples:
    """What a trainer is given of each row; see the module.

    Parameters
    ----------
    rows : Rows
    config : TrainConfig
    asker : Asker
    in_a_row : bool
        Whether places count on through epochs, each in an order of its own (SFT). Row and view are then a function of
        the seed and the place alone, which is what lets an interrupted run go on with the very rows that would have
        followed. Else a place is a row's number, and the trainer shuffles.
    with_image : bool
        Tell a reward where the picture lies, for the term that asks the segmenter.
    """

    def __init__(
        self, rows: Rows, config: TrainConfig, asker: Asker, *, in_a_row: bool = False, with_image: bool = False
    ) -> None:
        self.rows, self.config, self.asker = rows, config, asker
        self.in_a_row, self.with_image = in_a_row, with_image
        self._kept: dict[int, dict[str, Any]] = {}
        self._counts = group_counts(rows, config.data)
        self._epoch: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        plain = functools.partial(plain_trace, omit=config.data.omit_claims)
        self._trace: Trace | None = plain if config.data.traces == "plain" else None
        images = asker.processor.image_processor
        size = dict(images.size)
        self._most = 2 * int(size["height"]) if "height" in size else 1280
        # Others with one size (InternVL's) cut a picture into tiles of it first.
        whole = "CLIP" in type(images).__name__ and not images.do_center_crop
        self._size = (int(size["width"]), int(size["height"])) if whole and "height" in size else None

    def __len__(self) -> int:
        """Return how many examples an epoch has; differs from the number of rows where sources have weights."""
        return sum(self._counts.values())

    def __call__(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """Return TRL's columns for some places."""
        made = [self.example(int(place)) for place in batch["place"]]
        return {name: [each[name] for each in made] for name in made[0]} if made else {}

    def example(self, place: int) -> dict[str, Any]:
        """Return one row as TRL takes it."""
        if place not in self._kept:
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[place] = self._made(place)
        return dict(self._kept[place])

    def _made(self, place: int) -> dict[str, Any]:
        epoch, place = divmod(place, len(self)) if self.in_a_row else (0, place)
        index = int(self._order(epoch)[place])
        row = self.rows[index]
        root = self.config.data.root or self.rows.home(index)
        rng = view = self._chance(epoch, row)
        if self.config.data.views is not None:
            view = self._chance(epoch % self.config.data.views, row)
        try:
            if isinstance(row, VqaRow):
                return self._visual(row, root, rng, view)
            return self._example(row, root, rng, view)
        except (TruthError, ValueError) as error:
            raise TruthError(f"{self.rows.where(index)}: {error}") from error

    def _chance(self, epoch: int, row: Row | VqaRow) -> random.Random:
        return random.Random(f"{self.config.seed}/{epoch}/{row.id}")  # noqa: S311 - for training, not for secrets

    def _example(self, row: Row, root: str | Path, rng: random.Random, view: random.Random) -> dict[str, Any]:
        image = open_image(row.image, root)
        if row.coordinates == "pixels" and image.size != row.image_size:
            raise TruthError(
                f"image_size: says {row.image_size[0]} x {row.image_size[1]} and the picture has {image.width} x "
                f"{image.height} pixels; mend one of the two"
            )
        mode = self._mode(row, rng)
        mask = None if row.mask is None else open_mask(row.mask, root)
        if self.config.data.augment:
            row, image = vary(row, image, mask, view, most=self._most, trace=self._trace)
        elif self._trace:
            row = row.model_copy(update={"reasoning": self._trace(row, rng, None)})
        asked = self.asker.prepare(Request(image, self._question(row, rng), mode))
        example: dict[str, Any] = {"id": row.id, "prompt": _messages(asked), "image": self._fitted(asked.picture)}
        if self.config.kind == "sft":
            said = completion_of(row, mask, asked, mode)
            return {**example, "completion": [{"role": "assistant", "content": said}]}
        truth = self._truth(row, image, mask, asked, mode)
        if self.with_image and row.image.path is not None:
            truth["image"] = str(Path(root) / row.image.path)
        return {**example, **self._truths(json.dumps(truth), None)}

    def _question(self, row: Row, rng: random.Random) -> str:
        data = self.config.data
        if data.by_name and row.category and rng.random() < data.by_name:
            return by_name(row, rng)
        if data.drop_words and not row.absent:  # words that aren't understood mustn't come to mean absence
            return drop_words(row.question, data.drop_words, rng)
        return row.question

    def _visual(self, row: VqaRow, root: str | Path, rng: random.Random, view: random.Random) -> dict[str, Any]:
        image = open_image(row.image, root)
        if self.config.data.traces == "plain":
            row = plain_thinking(row)
        if self.config.data.augment:
            row, image = seen_anew(row, image, view, most=self._most)
        mode = self._mode(row, rng)
        asked = self.asker.prepare(question_of(row, image, mode))
        example: dict[str, Any] = {"id": row.id, "prompt": _messages(asked), "image": self._fitted(asked.picture)}
        written = written_for(row, asked.space)
        if self.config.kind == "sft":
            return {**example, "completion": [{"role": "assistant", "content": told_by(written, mode)}]}
        return {**example, **self._truths(None, written.ground_truth())}

    def _truths(self, truth: str | None, visual: str | None) -> dict[str, str | None]:
        return {"ground_truth": truth, **({"visual_truth": visual} if self.config.data.vqa else {})}

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the rows of an epoch; drawn anew for each, and in an order of its own where places count on."""
        if self._epoch[0] != epoch:
            drawn = drawn_rows(self.rows, self.config.data, self._counts, self.config.seed, epoch)
            shuffled = np.random.default_rng([self.config.seed, epoch]).permutation(len(drawn))
            self._epoch = epoch, drawn[shuffled] if self.in_a_row else drawn
        return self._epoch[1]

    def _fitted(self, picture: Image.Image) -> Image.Image:
        """Return the picture in the size that the processor gives all: made once, not for each one of a group."""
        if self._size is None:
            # vLLM prepares pictures by the model's published settings, whatever our budget.
            elsewhere = self.config.kind == "grpo" and self.config.grpo.vllm != "off"
            return self.asker.sized(picture) if elsewhere else picture
        resample = Image.Resampling(self.asker.processor.image_processor.resample)
        return picture.resize(self._size, resample)

    def _mode(self, row: Row | VqaRow, rng: random.Random) -> Mode:
        chosen = self.config.data.mode
        if self.config.kind == "sft" and not (row.thinking if isinstance(row, VqaRow) else row.reasoning):
            return "direct"  # asked to reason and shown none, a model would learn to leave it out
        if self.config.kind == "grpo" and isinstance(row, VqaRow):
            return "reason"  # their recipes score it
        if chosen == "both":
            return "direct" if rng.random() < DIRECT_SHARE else "reason"
        return chosen

    def _truth(self, row: Row, image: MedicalImage, mask: Mask | None, asked: Prepared, mode: Mode) -> dict[str, Any]:
        truth = row.truth()
        said = truth.to(asked.space).to_dict()
        if mode != "reason":
            said["mode"] = mode
        if mask is not None and not truth.absent:
            said["mask"] = encode_rle(mask)
            if truth.facts is None:
                said["facts"] = Facts.measure(mask, _grey(image, mask)).to_dict()
        return said


def _grey(image: MedicalImage, mask: Mask) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image.rgb).convert("L").resize(mask.shape[::-1]))


def _messages(asked: Prepared) -> list[dict[str, str]]:
    """Return messages with plain text: TRL puts the picture's place before the text of the user's turn."""
    messages = []
    for message in asked.messages:
        text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
        messages.append({"role": message["role"], "content": text})
    return messages


def completion_of(row: Row, mask: Mask | None, asked: Prepared, mode: Mode) -> str:
    """Return what the model is to write, in its own numbers.

    Raises
    ------
    TruthError
        When there are no key points and no mask to take them from.
    """
    own = space_named(row.coordinates, *row.image_size)
    box = None if row.box is None else Box(*row.box, own)
    points: tuple[Point, ...] = tuple(Point(*point, own) for point in row.points)
    if box is not None and not points:
        if mask is None:
            raise TruthError("point_2d: is missing, and there is no mask to take key points from; add one of the two")
        points = key_points(mask)
    return format_answer(box, points, asked.space, reasoning=row.reasoning if mode == "reason" else None)


def dataset(examples: Examples, length: int) -> Any:
    """Return a `datasets.Dataset` of so many places, each made into an example when it is asked for."""
    from datasets import Dataset

    return Dataset.from_dict({"place": range(length)}).with_transform(examples)

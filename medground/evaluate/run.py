"""Ask a reasoner every question of a data set and write each answer down, with the masks that come of it.

Rows are taken in chunks, in an order that is a function of the data alone: a run that was killed goes on with what is
missing, and shards hold whole pictures. Inside a chunk each picture is decoded and encoded once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from medground._io import alone, make_folder, read_lines
from medground.data.pixels import Source, open_image, open_mask
from medground.data.rows import Row
from medground.errors import ConfigError, MedgroundError, ReasonerError
from medground.evaluate.baselines import Baseline
from medground.evaluate.embeddings import KeptEmbeddings
from medground.evaluate.masking import Masker
from medground.evaluate.planning import Planned, chosen_rows, digest_of, in_chunks
from medground.evaluate.predictions import Prediction, PromptKind, predictions_name, ruler_of
from medground.evaluate.settings import hold_settings, settings_of
from medground.evaluate.variants import check_variant, vary_row
from medground.images import MedicalImage
from medground.masks import encode_rle
from medground.prompts import Mode
from medground.reasoners import Completion, Reasoner, Request, load_reasoner
from medground.reasoners._sharing import looking_once
from medground.rewards.evidence import Facts
from medground.segmenters import Segmenter, load_segmenter
from medground.types import Mask

__all__ = ["EvalProgress", "evaluate"]

CHUNK = 4
"""Batches in a chunk: among so many rows, those with questions of one length are answered together."""


@dataclass(slots=True)
class EvalProgress:
    """How far a run is.

    Parameters
    ----------
    total : int
        Rows of the data set, or of the shard.
    found : int
        Rows that an earlier run had answered.
    done, failed : int
        Rows of this run, and those of them without an answer.
    left_out : int
        Rows of this run for which the variant can't be made.
    """

    total: int
    found: int
    done: int = 0
    failed: int = 0
    left_out: int = 0


@dataclass(slots=True, eq=False)
class _Asked:
    """A row on its way: as it is shown, what it was answered, and why not."""

    row: Row
    image: MedicalImage | None = None
    mask: Mask | None = None
    completion: Completion | None = None
    error: str | None = None


def evaluate(
    data: Source,
    out: str | Path,
    *,
    reasoner: Reasoner | Baseline | str = "nano",
    segmenter: Segmenter | str | None = None,
    mode: Mode = "reason",
    split: str = "test",
    limit: int | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    prompts: Sequence[PromptKind] | None = None,
    oracle: bool = False,
    variant: str = "",
    embeddings: str | Path | None = None,
    batch: int = 16,
    root: str | Path | None = None,
    retry_failed: bool = False,
    progress: Callable[[EvalProgress], None] | None = None,
) -> Path:
    """Answer the rows that the run's folder doesn't answer yet, and append to it.

    What fails for one row (a picture that can't be read, a reasoner's refusal) is recorded in its line, and the others
    go on.

    Parameters
    ----------
    data : path, paths or iterable of Row
        In the layout that `medground.data.schema.read_rows` reads.
    out : path
        The run's folder; see `medground.evaluate.predictions`.
    reasoner : Reasoner, Baseline or str
        As `load_reasoner` takes it.
    segmenter : Segmenter, str or None
        As `load_segmenter` takes it; None draws no masks.
    mode : {"reason", "direct"}
    split : {"train", "val", "test"}
        Rows of this split, and those that have none.
    limit : int or None
        So many rows at most, drawn by chance that is the same in every run.
    samples : int
        Further completions of each row, drawn at `temperature`.
    temperature : float
        Above 0; the answer itself is greedy always.
    max_new_tokens : int or None
        The longest completion; None leaves it to the reasoner.
    seed : int
        Of the samples. The draws of a chunk depend on the seed and the chunk alone, wherever a run was interrupted.
    shard : (int, int)
        Which part of how many, counted from 0; parts may run at once into one folder, each with its own file.
    prompts : sequence of {"points", "box", "both"}, or None
        What masks are drawn for; all that the segmenter was trained on when None.
    oracle : bool
        Draw a mask for each true box too.
    variant : str
        One of `medground.evaluate.variants.VARIANTS`; empty for the rows as they are.
    embeddings : path or None
        Folder in which the segmenter's embeddings are kept for other runs.
    batch : int
        Questions that a reasoner named by a string is given at once.
    root : path or None
        Folder at which relative paths of rows start; each file's own by default.
    retry_failed : bool
        Ask again about rows that an earlier run had no answer for.
    progress : callable or None
        Called at the start and after each chunk of rows.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        A setting can't be used, `out` holds a run with others, another process writes to it, or the disk is full.
    TruthError
        A row's label can't be used.

    Examples
    --------
    >>> evaluate("test.parquet", "runs/nano", segmenter="litemedsam")  # doctest: +SKIP
    """
    _check(mode, samples, temperature, shard, batch)
    if variant:
        check_variant(variant)
    rows = chosen_rows(data, split=split, limit=limit, root=root)
    if isinstance(reasoner, str):
        reasoner = load_reasoner(reasoner, batch_size=batch)
    masker = _masker(segmenter, prompts, oracle, embeddings)
    settings = settings_of(
        reasoner,
        masker,
        mode=mode,
        split=split,
        limit=limit,
        samples=samples,
        temperature=temperature if samples else None,
        max_new_tokens=max_new_tokens,
        seed=seed if samples else None,
        variant=variant,
        shards=shard[1],
        data={"rows": len(rows), "digest": digest_of(rows)},
    )
    folder = make_folder(out)
    file = folder / predictions_name(shard)
    hold_settings(folder, settings)
    _touch(file)
    with alone(file):
        done = _recover(file, retry_failed)
        chunks = in_chunks(rows, batch * CHUNK, shard)
        total = sum(map(len, chunks))
        now = EvalProgress(total, sum(each.row.id in done for chunk in chunks for each in chunk))
        if progress is not None:
            progress(now)
        asking = _Asking(reasoner, masker, mode, samples, temperature, max_new_tokens, variant)
        with _Appended(file) as lines:
            for number, chunk in enumerate(chunks):
                missing = [each for each in chunk if each.row.id not in done]
                if not missing:
                    continue
                answered = asking.answer(missing, [seed, number])
                lines.write("".join(f"{each.model_dump_json()}\n" for each in answered).encode())
                now.done += len(missing)
                now.failed += sum(each.error is not None for each in answered)
                now.left_out += len(missing) - len(answered)
                if progress is not None:
                    progress(now)
    return folder


class _Asking:
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
        self._tokenizer = getattr(getattr(reasoner, "processor", None), "tokenizer", None)

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
            row = planned.row
            try:
                if planned.picture not in pictures:
                    pictures[planned.picture] = open_image(row.image, planned.root)
                image = pictures[planned.picture]
                mask = None if row.mask is None else open_mask(row.mask, planned.root, size=image.size)
            except MedgroundError as error:
                yield _Asked(row, error=str(error))
                continue
            if not self.variant:
                yield _Asked(row, image, mask)
                continue
            varied = vary_row(self.variant, row, image, mask)
            if varied is not None:
                yield _Asked(varied.row, varied.image, varied.mask)

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
        if asked.mask is not None and image is not None and row.facts is None and row.box is not None:
            grey = np.asarray(Image.fromarray(image.rgb).convert("L"))
            truth["facts"] = Facts.measure(asked.mask, grey).to_dict()
        text = "" if said is None else said.text
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
                "truth_mask": None if asked.mask is None or row.absent else encode_rle(asked.mask),
                "completion": text,
                "space": space,
                "error": asked.error,
                "samples": samples,
                "tokens": len(self._tokenizer(text, add_special_tokens=False).input_ids) if self._tokenizer else None,
                "seconds": {"reason": round(spent, 5)} if said else {},
                "variant": self.variant,
            }
        )


ABOUT = ("source", "category", "supercategory", "modality", "group", "split", "style", "template")
"""What a line says about its row."""


class _Appended:
    """A file that is appended to, so that a full disk is told in a sentence and costs half a line at most."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> _Appended:
        self._stream = self.file.open("ab", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise ConfigError(
                f"can't write {self.file}: {error.strerror or error}; free space, and the same command goes on"
            ) from error


def _check(mode: str, samples: int, temperature: float, shard: tuple[int, int], batch: int) -> None:
    if mode not in get_args(Mode):
        raise ConfigError(f"mode {mode!r} isn't known; choose reason or direct")
    if samples < 0:
        raise ConfigError(f"samples must be 0 or more, not {samples}")
    if samples and not 0 < temperature < float("inf"):
        raise ConfigError(f"samples need a temperature above 0, not {temperature}: at 0 all are the same")
    if not 0 <= shard[0] < shard[1]:
        raise ConfigError(f"shard {shard[0]} of {shard[1]} isn't one; the first of four is 0 of 4, the last 3 of 4")
    if batch < 1:
        raise ConfigError(f"the batch must be at least 1, not {batch}")


def _masker(
    segmenter: Segmenter | str | None,
    prompts: Sequence[PromptKind] | None,
    oracle: bool,
    embeddings: str | Path | None,
) -> Masker | None:
    if segmenter is None:
        for name, given in (("prompts", prompts), ("oracle", oracle), ("embeddings", embeddings)):
            if given:
                raise ConfigError(f"{name} is for masks, and there is no segmenter; name one, such as litemedsam")
        return None
    if isinstance(segmenter, str):
        segmenter = load_segmenter(segmenter)
    kept = None if embeddings is None else KeptEmbeddings(segmenter, embeddings)
    return Masker(segmenter, prompts, oracle=oracle, embeddings=kept)


def _touch(file: Path) -> None:
    try:
        file.touch()
    except OSError as error:
        raise ConfigError(f"can't write {file}: {error.strerror or error}; choose another folder") from error


def _recover(file: Path, retry_failed: bool) -> set[str]:
    """Return the ids that are done, after cutting off a half-written last line."""
    done: set[str] = set()
    whole = 0
    for _, (_, whole), line in read_lines(file):  # noqa: B007 - the last line's end is needed
        if retry_failed and line.get("error") is not None:
            done.discard(str(line.get("id")))
        else:
            done.add(str(line.get("id")))
    if whole < file.stat().st_size:
        os.truncate(file, whole)
    return done

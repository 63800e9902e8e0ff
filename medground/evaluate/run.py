"""Ask a reasoner every question of a data set and write each answer down, with the masks that come of it.

Rows are taken in chunks, in an order that is a function of the data alone: a run that was killed goes on with what is
missing, and shards hold whole pictures. Inside a chunk each picture is decoded and encoded once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from medground._io import alone, make_folder, read_lines
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError
from medground.evaluate.asking import Asking
from medground.evaluate.baselines import Baseline
from medground.evaluate.embeddings import KeptEmbeddings
from medground.evaluate.masking import Masker
from medground.evaluate.planning import Given, chosen_rows, digest_of, in_chunks
from medground.evaluate.predictions import PromptKind, predictions_name
from medground.evaluate.settings import hold_run, settings_of
from medground.evaluate.stored import StoredAnswers
from medground.evaluate.variants import check_variant
from medground.evaluate.vqa.asking import VisualAsking
from medground.evaluate.vqa.baselines import VisualBaseline
from medground.evaluate.vqa.predictions import TASK
from medground.prompts import Mode
from medground.reasoners import Reasoner, load_reasoner
from medground.segmenters import Segmenter, load_segmenter

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


def evaluate(
    data: Given,
    out: str | Path,
    *,
    reasoner: Reasoner | Baseline | VisualBaseline | str = "nano",
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
        In the layout that `medground.data.schema.read_rows` reads; or visual questions (`VqaRow`), in our own layout of
        them. The two aren't mixed in one run.
    out : path
        The run's folder; see `medground.evaluate.predictions`.
    reasoner : Reasoner, Baseline, VisualBaseline or str
        As `load_reasoner` takes it; a baseline is for its own task.
    segmenter : Segmenter, str or None
        As `load_segmenter` takes it; None draws no masks. Visual questions have no true masks, and none are drawn.
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
        One of `medground.evaluate.variants.VARIANTS`; empty for the rows as they are, as visual questions always are.
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
    visual = isinstance(rows[0].row, VqaRow)
    if isinstance(reasoner, str):
        reasoner = load_reasoner(reasoner, batch_size=batch)
    _check_task(reasoner, variant, visual)
    masker = _masker(None if visual else segmenter, prompts, oracle, embeddings)
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
        **({"task": TASK} if visual else {}),
    )
    folder = make_folder(out)
    file = folder / predictions_name(shard)
    hold_run(folder, settings)
    _touch(file)
    with alone(file):
        done = _recover(file, retry_failed)
        chunks = in_chunks(rows, batch * CHUNK, shard)
        total = sum(map(len, chunks))
        now = EvalProgress(total, sum(each.row.id in done for chunk in chunks for each in chunk))
        if progress is not None:
            progress(now)
        asking = _asking(reasoner, visual, masker, mode, samples, temperature, max_new_tokens, variant)
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


def _check_task(reasoner: object, variant: str, visual: bool) -> None:
    if visual and variant:
        raise ConfigError(f"variant {variant!r} is for grounding; visual questions are asked as they are")
    known = (VisualBaseline, StoredAnswers) if visual else Baseline
    if isinstance(reasoner, Baseline | VisualBaseline) and not isinstance(reasoner, known):
        raise ConfigError(f"baseline {reasoner.name} is for another task; choose one for these rows")


def _asking(reasoner: Any, visual: bool, masker: Masker | None, mode: Mode, *settings: Any) -> Asking | VisualAsking:
    """Return what answers chunks; `settings` are samples, temperature, longest completion and variant."""
    return VisualAsking(reasoner, mode, *settings[:3]) if visual else Asking(reasoner, masker, mode, *settings)


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

"""Many questions from a file, answered into a file: resumable after any interruption, nothing lost, nothing doubled.

The answers go to ``results.jsonl``, one object a line, appended as they come. A line that a crash left half-written is
dropped and its row is done again. ``batch.json`` beside it holds the settings, so that a run can't be continued with
another model by mistake.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from medground._io import IMAGE_ENDINGS, alone, hold_settings, json_lines, make_folder, read_lines, write_bytes
from medground.errors import ConfigError, MedgroundError, ParseError, first_mistake
from medground.pipeline import MedGround
from medground.prompts import Mode, clean_question
from medground.types import Result

__all__ = ["BatchProgress", "Pair", "read_pairs", "run_batch"]

MAX_LINE = 1 << 20


class Pair(BaseModel):
    """One row of a batch: a question about an image.

    Parameters
    ----------
    id : str
        Unique in the batch.
    image : Path
        In a file, relative to the file's folder.
    question : str
    frame, axis, slice, window : optional
        What to read of the image; see `load_image`.
    meta : dict
        Anything else that the row's owner wants to keep in it; not looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=500)]
    image: Path
    question: str
    frame: Annotated[int, Field(ge=0)] | None = None
    axis: Literal["axial", "coronal", "sagittal"] | None = None
    slice: Annotated[int, Field(ge=0)] | None = None
    window: tuple[float, float] | None = None
    meta: dict[str, Any] = {}

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("id", mode="before")
    @classmethod
    def _whole_numbers_are_ids_too(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("image", mode="before")
    @classmethod
    def _image_is_named(cls, value: Any) -> Any:
        if value == "" or (isinstance(value, str) and "\0" in value):
            raise ValueError("names no file")
        return value

    @field_validator("question")
    @classmethod
    def _question_can_be_asked(cls, value: str) -> str:
        try:
            clean_question(value)
        except MedgroundError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def path(self) -> Path:
        """Where the image is."""
        return self._folder / self.image

    def options(self) -> dict[str, Any]:
        """Return what `load_image` is to be told beside the path."""
        given = {"frame": self.frame, "axis": self.axis, "slice": self.slice, "window": self.window}
        return {name: value for name, value in given.items() if value is not None}

    def digest(self) -> str:
        """Return a short digest of the row as it was written, by which a resumed run knows it again."""
        said = json.dumps([self.image.as_posix(), self.question, self.options()], sort_keys=True)
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class BatchProgress:
    """How far a batch is.

    Parameters
    ----------
    total : int
        Rows of the batch.
    found : int
        Rows that an earlier run had done.
    done, failed : int
        Rows of this run: all of them, and those of them that failed.
    """

    total: int
    found: int
    done: int = 0
    failed: int = 0


def read_pairs(source: str | Path, question: str | None = None, **options: Any) -> list[Pair]:
    """Read the rows of a batch and check every one of them; images aren't opened yet.

    Parameters
    ----------
    source : str or Path
        A JSON Lines file of `Pair` objects, or a folder, all of whose images (told by their endings) are asked the
        same question.
    question : str or None
        The one question; for a folder only.
    options
        ``frame``, ``axis``, ``slice``, ``window`` for rows that don't say.

    Raises
    ------
    ConfigError
        Names the file, the line and the field of the first mistake.
    """
    path = Path(source)
    options = {name: value for name, value in options.items() if value is not None}
    if path.is_dir():
        if question is None:
            raise ConfigError(f"{path} is a folder, so the batch needs the one question to ask of its images")
        found = sorted(file for file in path.rglob("*") if _looks_like_image(file.relative_to(path)) and file.is_file())
        if not found:
            raise ConfigError(f"{path} holds no file named like an image ({', '.join(IMAGE_ENDINGS)})")
        names = [file.relative_to(path).as_posix() for file in found]
        return [_pair({"id": name, "image": name, "question": question} | options, path, path) for name in names]
    if question is not None:
        raise ConfigError(f"{path} is a file of rows with their own questions; leave the question out")
    pairs: list[Pair] = []
    lines: dict[str, int] = {}
    for number, row in json_lines(path, MAX_LINE):
        pair = _pair(options | row, f"{path}:{number}", path.parent)
        if pair.id in lines:
            raise ConfigError(
                f"{path}:{number}: id: {pair.id!r} is the id of line {lines[pair.id]} too; make ids unique"
            )
        lines[pair.id] = number
        pairs.append(pair)
    if not pairs:
        raise ConfigError(f"{path} holds no rows; write one JSON object with id, image and question a line")
    return pairs


def run_batch(
    grounder: MedGround,
    pairs: Sequence[Pair],
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    mode: Mode = "reason",
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    batch_size: int = 8,
    retry_failed: bool = False,
    on_row: Callable[[BatchProgress], None] | None = None,
) -> BatchProgress:
    """Answer the rows that ``out/results.jsonl`` doesn't answer yet, and append to it.

    Each line holds ``id``, ``input`` (a digest of the row) and what `Result.to_dict` gives, or ``error`` (one
    sentence; beside it ``completion``, where the reasoner wrote something that can't be read).

    Parameters
    ----------
    grounder : MedGround
    pairs : sequence of Pair
        With unique ids.
    out : str or Path
        A folder, made when it isn't there.
    settings : mapping, optional
        Names of the models and the like, kept in ``out/batch.json``; a run with others refuses to go on there.
    mode, temperature, max_new_tokens, seed, batch_size
        As for `MedGround.ground_each`; at most `batch_size` images are held at once.
    retry_failed : bool
        Do rows again that failed in an earlier run.
    on_row : callable, optional
        Called at the start and after each row.

    Returns
    -------
    BatchProgress

    Raises
    ------
    ConfigError
        `out` holds another batch, is being written by another run, or is damaged.
    """
    folder = make_folder(out)
    asked = {"mode": mode, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    with alone(folder):
        held, results = folder / "batch.json", folder / "results.jsonl"
        if results.exists() and not held.exists():
            raise ConfigError(f"{folder} holds a results.jsonl of something else; choose another folder")
        hold_settings(held, {**(settings or {}), **asked}, "batch")
        done = _recover(results, {pair.id: pair.digest() for pair in pairs}, retry_failed)
        todo = [pair for pair in pairs if pair.id not in done]
        progress = BatchProgress(total=len(pairs), found=len(pairs) - len(todo))
        if on_row is not None:
            on_row(progress)
        answers = grounder.ground_each(
            todo, mode=mode, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed, batch_size=batch_size
        )
        with results.open("ab") as stream:
            for pair, answer in zip(todo, answers, strict=True):
                stream.write(_line(pair, answer))
                stream.flush()
                progress.done += 1
                progress.failed += not isinstance(answer, Result)
                if on_row is not None:
                    on_row(progress)
            os.fsync(stream.fileno())
    return progress


def _line(pair: Pair, answer: Result | MedgroundError) -> bytes:
    row: dict[str, Any] = {"id": pair.id, "input": pair.digest()}
    if isinstance(answer, Result):
        row |= answer.to_dict()
    else:
        row["error"] = str(answer)
        if isinstance(answer, ParseError) and answer.completion is not None:
            row["completion"] = answer.completion
    return json.dumps(row, allow_nan=False).encode("ascii") + b"\n"


def _pair(row: Mapping[str, Any], where: str | Path, folder: Path) -> Pair:
    try:
        pair = Pair.model_validate(row)
    except ValidationError as error:
        field, kind, reason = first_mistake(error)
        known = {"missing": "is missing", "extra_forbidden": "isn't a field of a row; put it under meta"}
        raise ConfigError(f"{where}: {field or 'row'}: {known.get(kind, reason)}") from None
    pair._folder = folder
    return pair


def _looks_like_image(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.name.lower().endswith(IMAGE_ENDINGS)


def _recover(path: Path, digests: Mapping[str, str], retry_failed: bool) -> set[str]:
    """Return the ids that are done, after dropping a half-written last line (and failed rows that are to be redone)."""
    if not path.exists():
        return set()
    done: set[str] = set()
    keep: list[tuple[int, int]] = []
    whole = 0
    redo = False
    for number, span, row in read_lines(path):
        whole = span[1]
        if not isinstance(name := row.get("id"), str):
            raise ConfigError(f"{path}:{number} is damaged; remove that line")
        if retry_failed and "error" in row:
            redo = True
            continue
        if name in done:
            raise ConfigError(f"{path}:{number}: id {name!r} is there twice; remove one of its lines")
        if row.get("input") != digests.get(name, row.get("input")):
            raise ConfigError(f"{path}:{number}: row {name!r} was another question or image; choose another folder")
        done.add(name)
        keep.append(span)
    if redo:
        write_bytes(path, _parts(path, keep))
    elif whole < path.stat().st_size:
        os.truncate(path, whole)
    return done


def _parts(path: Path, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    with path.open("rb") as stream:
        for start, end in spans:
            stream.seek(start)
            yield stream.read(end - start)

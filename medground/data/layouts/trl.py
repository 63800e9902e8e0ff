"""TRL's conversational rows with pictures (its documentation, "Dataset formats", version 1.16), JSON Lines or parquet.

A row is ``{"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ...}]}], "image": ...,
"ground_truth": ...}``: what `GRPOTrainer` trains on with `medground.adapters.trl`'s rewards. With ``completion=True``
there is a ``completion`` as well, which is what `SFTTrainer` wants. ``question``, ``mask`` and ``extra_info`` hold the
rest.

``image`` is a path in JSON Lines (``dataset.cast_column("image", datasets.Image())`` opens it, from the folder that the
trainer runs in) and a picture in parquet with ``embed=True``. A row that was read with several pictures has ``images``.

Not held: masks that parquet doesn't embed are paths or run lengths; values that JSON can't hold are left out and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medground._io import json_lines
from medground.coords import space_named
from medground.data.fields import FieldError
from medground.data.layouts._shared import (
    IMAGE,
    Files,
    Notes,
    OnBad,
    OnNote,
    asked,
    bare,
    columns_of,
    extra_of,
    mask_of,
    on_ruler,
    pictures,
    read_each,
    row_from,
    write_lines,
)
from medground.data.rows import Picture, Row
from medground.data.schema import parquet
from medground.errors import ConfigError, TruthError
from medground.parsing import format_answer
from medground.types import Box, Point

__all__ = ["export_rows", "import_rows"]

_OWN = ("prompt", "completion", "image", "images", "ground_truth", "question", "mask", "extra_info")


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    copy_images: bool = False,
    embed: bool = False,
    coordinates: str | None = None,
    template: str | None = None,
    completion: bool = False,
    on_note: OnNote = None,
) -> int:
    """Write rows, as parquet where the path ends so; see `medground.data.layouts.export_rows` for what isn't said here.

    Parameters
    ----------
    embed : bool
        Put images into the file; parquet only.
    template : str, optional
        A name in `medground.prompts.TEMPLATES` to ask by, for the ruler of the numbers: give the model's as
        `coordinates`, and the truths are on it too. Without it the bare question is asked.
    completion : bool
        Add the reasoning and the answer as the model would write them. Rows without key points are refused.
    """
    in_parquet = path.suffix == ".parquet"
    if embed and not in_parquet:
        raise ConfigError(f"{path}: pictures can't be embedded in JSON lines; name the file .parquet or copy_images")
    notes, files = Notes("trl", on_note), Files(path.parent, root, copy=copy_images)

    def written() -> Iterator[dict[str, Any]]:
        for row in on_ruler(rows, coordinates):
            try:
                yield _line(row, files, notes, embed=embed, template=template, completion=completion)
            except (FieldError, TruthError, ValueError) as error:
                raise TruthError(f"row {row.id}: {error}") from error

    count = parquet().write_records(written(), path) if in_parquet else write_lines(written(), path)
    notes.tell()
    return int(count)


def _line(
    row: Row, files: Files, notes: Notes, *, embed: bool, template: str | None, completion: bool
) -> dict[str, Any]:
    shown = pictures(row)
    line: dict[str, Any] = {
        "prompt": [
            {"role": message["role"], "content": _parts(message["content"])}
            for message in asked(row, len(shown), template)
        ]
    }
    if completion:
        line["completion"] = [{"role": "assistant", "content": _parts(_answer(row))}]
    written = [_embedded(each, files) if embed else files.image(each) for each in shown]
    line |= {"image": written[0]} if len(written) == 1 else {"images": written}
    return {
        **line,
        "ground_truth": row.ground_truth(),
        "question": row.question,
        "mask": files.mask(row.mask),
        "extra_info": extra_of(row, notes),
        **columns_of(row, _OWN, notes),
    }


def _embedded(picture: Picture, files: Files) -> dict[str, Any]:
    return {"bytes": picture.read(files.start), "path": picture.path}


def _parts(text: str) -> list[dict[str, str]]:
    first, *rest = text.split(IMAGE)
    parts = [{"type": "text", "text": first}] if first else []
    for each in rest:
        parts += [{"type": "image"}, *([{"type": "text", "text": each}] if each else [])]
    return parts


def _answer(row: Row) -> str:
    space = space_named(row.coordinates, *row.image_size)
    box = Box(*row.box, space) if row.box else None
    if box and not row.points:
        raise TruthError("points: there are none, so there is no completion; add them, or leave completion out")
    return format_answer(box, [Point(*point, space) for point in row.points], space, reasoning=row.reasoning)


def import_rows(path: Path, *, split: str = "", on_bad: OnBad = None) -> Iterator[Row]:
    """Read rows that have ``prompt``, ``image`` or ``images``, and ``ground_truth``.

    The question is ``question`` where there is one, else the text of the user's last message.

    Parameters
    ----------
    split : str
        The split of rows that don't say one.
    """

    def read(line: dict[str, Any], name: str) -> Row:
        return _row(line, name, split)

    if path.suffix == ".parquet":
        return read_each(path, enumerate(parquet().read_records(path)), read, on_bad, unit=" row ")
    return read_each(path, json_lines(path), read, on_bad)


def _row(line: dict[str, Any], name: str, split: str) -> Row:
    prompt = line.get("prompt")
    if not isinstance(prompt, list) or not all(isinstance(message, dict) for message in prompt):
        raise FieldError("prompt", "expected a list of messages with role and content")
    messages = [{**message, "content": _text(message.get("content"))} for message in prompt]
    images = line.get("images") or ([line["image"]] if line.get("image") else [])
    record = {
        "prompt": bare(messages, line.get("question")),
        "images": images,
        "masks": mask_of(line.get("mask")),
        "reward_model": {"ground_truth": line["ground_truth"]}
        if line.get("ground_truth")
        else line.get("reward_model"),
        "extra_info": line.get("extra_info"),
        **{column: value for column, value in line.items() if column not in (*_OWN, "reward_model")},
    }
    return row_from(record, name, split)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise FieldError("prompt", "expected text, or a list of parts of type image and text")
    return "".join(IMAGE if part.get("type") == "image" else str(part.get("text") or "") for part in content)

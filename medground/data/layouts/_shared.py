"""What the layouts share: lines of JSON, places of pictures, prompts, and telling what was left out."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from medground._io import make_folder, write_bytes
from medground.coords import space_named
from medground.data.columns import COLUMNS, pictures_of, record_of, row_of
from medground.data.fields import FieldError
from medground.data.rows import Picture, Row
from medground.errors import MedgroundError, TruthError
from medground.masks import encode_rle
from medground.prompts import render

__all__ = [
    "IMAGE",
    "Files",
    "Notes",
    "OnBad",
    "OnNote",
    "asked",
    "bare",
    "columns_of",
    "extra_of",
    "known_size",
    "mask_of",
    "on_ruler",
    "pictures",
    "read_each",
    "row_from",
    "write_lines",
]

IMAGE = "<image>"
"""Where the picture goes in a prompt."""

OnBad = Callable[[MedgroundError], None] | None
OnNote = Callable[[str], None] | None

_Read = TypeVar("_Read")


class Notes:
    """Counts what rows held and the layout doesn't, and tells it in the end, a sentence a thing."""

    def __init__(self, layout: str, on_note: OnNote) -> None:
        self._layout, self._tell = layout, on_note or logging.getLogger(__name__).warning
        self._counts: Counter[str] = Counter()

    def add(self, thing: str) -> None:
        """Count one row that held `thing`."""
        self._counts[thing] += 1

    def tell(self) -> None:
        """Say what was counted."""
        for thing, count in self._counts.items():
            self._tell(f"{self._layout}: {count} row{'s' if count > 1 else ''}: {thing}")


class Files:
    """Where the pictures of rows are, seen from the file that is being written.

    Parameters
    ----------
    home : Path
        The folder of that file.
    root : path or None
        Where relative paths of the rows start; `home` where None.
    copy : bool
        Copy pictures into ``images/`` and ``masks/`` in `home`.
    """

    def __init__(self, home: Path, root: str | Path | None, *, copy: bool) -> None:
        self.home, self.copy = home, copy
        self.start = home if root is None else Path(root)

    def image(self, picture: Picture) -> str:
        """Return the path of an image; raises TruthError when it is nowhere on the disk."""
        if self.copy:
            return self._copied(picture, "images")
        if picture.data is not None and not (picture.path and picture.file(self.start).is_file()):
            raise TruthError("images: the picture is bytes alone; copy_images=True writes it to a file")
        return self._moved(picture)

    def mask(self, picture: Picture | None) -> str:
        """Return the path of a mask, or its run lengths as JSON; empty when there is none."""
        if picture is None:
            return ""
        if self.copy:
            return self._copied(picture, "masks")
        if picture.data is not None:
            return json.dumps(encode_rle(picture.mask()))
        return self._moved(picture)

    def _moved(self, picture: Picture) -> str:
        path = picture.path or ""
        if os.path.isabs(path) or self.start == self.home:
            return path
        return Path(os.path.relpath(self.start / path, self.home)).as_posix()

    def _copied(self, picture: Picture, folder: str) -> str:
        content = picture.read(self.start)
        name = f"{folder}/{hashlib.sha256(content).hexdigest()[:16]}{_ending(picture.path, content)}"
        if not (self.home / name).exists():
            make_folder(self.home / folder)
            write_bytes(self.home / name, content)
        return name


def _ending(path: str | None, content: bytes) -> str:
    if path and (ending := "".join(Path(path).suffixes[-2:] if path.endswith(".nii.gz") else Path(path).suffixes[-1:])):
        return ending.lower()
    try:
        with Image.open(BytesIO(content)) as picture:
            return f".{(picture.format or 'bin').lower()}"
    except Exception as error:  # decoders raise whatever they stumble over
        raise TruthError(f"images: the bytes aren't a picture ({error}); mend or drop the row") from error


# --- rows to records --------------------------------------------------------------------------------------------------


def on_ruler(rows: Iterable[Row], coordinates: str | None) -> Iterable[Row]:
    """Return the rows with their numbers on this ruler, or on their own; raises ConfigError for an unknown one."""
    if coordinates is None:
        return rows
    space_named(coordinates, 1000, 1000)
    return (row.to(coordinates) for row in rows)


def pictures(row: Row) -> list[Picture]:
    """Return the row's image, and the further ones of the file that it was read from."""
    return pictures_of(record_of(row)["images"])


def asked(row: Row, count: int, template: str | None) -> list[dict[str, str]]:
    """Return the messages that ask a row's question, with as many places for pictures as there are.

    Parameters
    ----------
    row : Row
    count : int
        How many pictures.
    template : str or None
        A name in `medground.prompts.TEMPLATES`, rendered for the row's ruler; without it the row's own prompt.
    """
    if template is None:
        messages = [dict(message) for message in record_of(row)["prompt"]]
    else:
        system, user = render(template, row.question, space=space_named(row.coordinates, *row.image_size))
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": user})
    places = sum(message["content"].count(IMAGE) for message in messages)
    if places > count:
        raise TruthError(f"prompt: has {places} places for {count} pictures; take {IMAGE} out of the question")
    first = next(message for message in messages if message["role"] == "user")
    first["content"] = IMAGE * (count - places) + first["content"]
    return messages


def bare(messages: list[dict[str, Any]], question: Any) -> list[dict[str, Any]]:
    """Return messages that ask a known question, or the question alone where a template is around it.

    Examples
    --------
    >>> bare([{"role": "user", "content": "<image>Where is it? Answer in JSON."}], "Where is it?")
    [{'role': 'user', 'content': '<image>Where is it?'}]
    """
    own = [message["content"] for message in messages if message.get("role") == "user"]
    if not question or (own and own[-1].replace(IMAGE, "").strip() == question):
        return messages
    return [{"role": "user", "content": f"{IMAGE}{question}"}]


def extra_of(row: Row, notes: Notes) -> dict[str, Any]:
    """Return ``extra_info`` for files of JSON: text is never null, so that its type is known from the first row on."""
    extra = dict(record_of(row)["extra_info"] or {})
    extra |= {name: "" for name in ("facts", "other") if extra.get(name) is None}
    if not isinstance(extra.get("health"), str):
        extra["health"] = {True: "healthy", False: "unhealthy", None: ""}[row.healthy]
    return _in_json(extra, "extra_info.", notes)


def columns_of(row: Row, taken: Iterable[str], notes: Notes) -> dict[str, Any]:
    """Return the columns beyond the layout that a row was read with, as far as JSON holds them."""
    columns = _in_json(row.other.get("columns") or {}, "", notes)
    for name in taken:
        if columns.pop(name, None) is not None:
            notes.add(f"column {name} is the layout's own, so the row's is left out")
    return columns


def _in_json(values: Mapping[str, Any], prefix: str, notes: Notes) -> dict[str, Any]:
    held = {}
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            notes.add(f"{prefix}{name} holds what JSON can't, and is left out")
        else:
            held[name] = value
    return held


def write_lines(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write a file of JSON lines, whole or not at all; return how many."""
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in rows:
            yield json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            count += 1

    make_folder(path.parent)
    write_bytes(path, lines())
    return count


# --- records to rows --------------------------------------------------------------------------------------------------


def read_each(
    path: Path, numbered: Iterable[tuple[Any, Any]], read: Callable[[Any, str], _Read], on_bad: OnBad, unit: str = ""
) -> Iterator[_Read]:
    """Yield what `read` makes of each (number, value), given a name for it; hand over or raise what can't be read."""
    for number, value in numbered:
        try:
            row = read(value, f"{path.stem}/{number}")
        except (FieldError, TruthError) as error:
            bad = TruthError(f"{path}:{unit}{number}: {error}")
            if on_bad is None:
                raise bad from error
            on_bad(bad)
        else:
            yield row


def row_from(record: Mapping[str, Any], name: str, split: str = "") -> Row:
    """Return the row of a record in the UMRG layout, without how its values happened to be written.

    A prompt of several messages and further images are kept: they are more than a way of writing.
    """
    row = row_of({column: record.get(column) for column in COLUMNS} | dict(record), name=name, split=split)
    kept = row.other.get("kept") or {}
    other = {key: value for key, value in row.other.items() if key != "kept"}
    more = {}
    if "prompt" in kept and len(kept["prompt"]["file"]) > 1:
        more["prompt"] = kept["prompt"]
    if "images" in kept and len(kept["images"]["file"]) > 1:
        more["images"] = kept["images"]
    return row.model_copy(update={"other": {**other, "kept": more} if more else other})


def mask_of(value: Any) -> list[Any]:
    """Return the ``masks`` of the UMRG layout for a path, or run lengths as JSON, as `Files.mask` writes them.

    Examples
    --------
    >>> mask_of("masks/7.png"), mask_of('{"size": [1, 2], "counts": "11"}'), mask_of("")
    (['masks/7.png'], [{'size': [1, 2], 'counts': '11'}], [])
    """
    if not value:
        return []
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise FieldError("mask", f"isn't a path, nor run lengths as JSON ({error})") from None
    return [value]


def known_size(value: Any, image: Path) -> Any:
    """Return [width, height] as it was said, or as the image file's header says it; raises FieldError for neither."""
    if value:
        return value
    try:
        with Image.open(image) as picture:
            return list(picture.size)
    except Exception as error:  # decoders raise whatever they stumble over
        raise FieldError(
            "image_size", f"isn't said, and {image.name} can't be read to tell it ({error}); give the size in pixels"
        ) from None

"""A plain folder: pictures, masks, and a CSV that says which question is asked of which.

Columns ``image`` (or ``file_name``, as in an image folder of `datasets`) and ``question`` must be there, and one of
``mask``, ``box`` and ``absent`` must say what the answer is. Paths start at the CSV. ``box`` is four numbers
(x1 y1 x2 y2), ``points`` also (x y x y), in whatever ``coordinates`` says (pixels where it isn't said). The others are
the fields of `Row`; a column that isn't one is kept in `Row.other`. The file is UTF-8 with a header, commas and double
quotes.

Not held: system messages and further images of a prompt, pictures that aren't files; values that JSON can't hold are
left out and told.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from medground._io import make_folder, write_bytes
from medground.data.columns import pictures_of
from medground.data.fields import FieldError, mapping_of
from medground.data.layouts._shared import (
    Files,
    Notes,
    OnBad,
    OnNote,
    columns_of,
    extra_of,
    known_size,
    mask_of,
    on_ruler,
    pictures,
    read_each,
    row_from,
)
from medground.data.rows import Row
from medground.errors import ConfigError, TruthError
from medground.masks import box_of, key_points

__all__ = ["export_rows", "import_rows"]

_WORDS = ("category", "supercategory", "modality", "short", "long", "group", "licence", "source", "split", "style")
_HEADER = (
    *("id", "image", "mask", "question", "box", "points", "absent", "width", "height", "coordinates", "reasoning"),
    *_WORDS,
    *("template", "healthy", "facts", "other"),
)
_SEPARATORS = re.compile(r"[\s,;\[\]()]+")
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0", "")


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    copy_images: bool = False,
    coordinates: str | None = None,
    on_note: OnNote = None,
) -> int:
    """Write rows; see `medground.data.layouts.export_rows`.

    Columns beyond the layout are those of the first row; what later ones have beyond that stands in ``other``, as JSON.
    """
    notes, files = Notes("csv", on_note), Files(path.parent, root, copy=copy_images)
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        stream = io.StringIO(newline="")
        found = iter(on_ruler(rows, coordinates))
        first = next(found, None)
        more = [
            name
            for name, value in (columns_of(first, _HEADER, Notes("csv", None)) if first else {}).items()
            if isinstance(value, str)
        ]
        writer = csv.DictWriter(stream, [*_HEADER, *more], restval="")
        writer.writeheader()
        for row in chain([first] if first else [], found):
            try:
                writer.writerow(_line(row, files, notes, more))
            except (FieldError, TruthError, csv.Error) as error:
                raise TruthError(f"row {row.id}: {error}") from error
            count += 1
            yield stream.getvalue().encode()
            stream.seek(0)
            stream.truncate()
        yield stream.getvalue().encode()

    make_folder(path.parent)
    write_bytes(path, lines())
    notes.tell()
    return count


def _line(row: Row, files: Files, notes: Notes, more: list[str]) -> dict[str, str]:
    if len(pictures(row)) > 1 or "prompt" in (row.other.get("kept") or {}):
        notes.add("further images or the prompt around the question are left out")
    columns = columns_of(row, _HEADER, notes)
    other = {key: value for key, value in row.other.items() if key not in ("kept", "columns", "extra_info")}
    if beyond := {key: value for key, value in columns.items() if key not in more or not isinstance(value, str)}:
        other["columns"] = beyond
    known = extra_of(row, notes)
    if unknown := {key: known[key] for key in row.other.get("extra_info") or () if key in known}:
        other["extra_info"] = unknown
    return {
        "id": row.id,
        "image": files.image(row.image),
        "mask": files.mask(row.mask),
        "question": row.question,
        "box": _numbers(row.box or ()),
        "points": _numbers(value for point in row.points for value in point),
        "absent": "true" if row.absent else "",
        "width": str(row.image_size[0]),
        "height": str(row.image_size[1]),
        "coordinates": row.coordinates,
        "reasoning": row.reasoning,
        **{name: getattr(row, name) for name in _WORDS},
        "template": row.template,
        "healthy": {True: "true", False: "false", None: ""}[row.healthy],
        "facts": "" if row.facts is None else json.dumps(row.facts),
        "other": json.dumps(other) if other else "",
        **{name: columns[name] for name in more if isinstance(columns.get(name), str)},
    }


def _numbers(values: Iterable[float]) -> str:
    return " ".join(repr(int(value) if value == int(value) else value) for value in values)


def import_rows(path: Path, *, question: str | None = None, split: str = "", on_bad: OnBad = None) -> Iterator[Row]:
    """Read a CSV, or the only one of a folder.

    Where there is a mask and no box, the box is the mask's (`medground.masks.box_of`) and so are the key points; where
    the picture's size isn't said, the file's header tells it.

    Parameters
    ----------
    question : str, optional
        What to ask where a row has no question; ``{category}`` in it is replaced by the row's category.
    split : str
        The split of rows that don't say one.
    """
    if path.is_dir():
        found = sorted(path.glob("*.csv"), key=lambda file: file.name)
        if len(found) != 1:
            raise ConfigError(f"{path}: has {len(found)} files *.csv; name the one to read")
        path = found[0]

    def read(line: dict[str, str], name: str) -> Row:
        return _row(line, name, question, split, path.parent)

    return read_each(path, _lines(path), read, on_bad)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            if not {"image", "file_name"} & set(header):
                raise ConfigError(f"{path}:1: the header has no column image; name the pictures' paths so")
            if twice := [name for name in header if header.count(name) > 1]:
                raise ConfigError(f"{path}:1: the header has two columns {twice[0]}; drop one")
            for cells in reader:
                if cells:
                    if len(cells) != len(header):
                        raise ConfigError(
                            f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} columns; put cells with "
                            "commas in quotes"
                        )
                    yield reader.line_num, dict(zip(header, cells, strict=True))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}; check the path") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: isn't a CSV in UTF-8 ({error}); save it as such") from error


def _row(line: dict[str, str], name: str, question: str | None, split: str, home: Path) -> Row:
    cell = {column: value.strip() for column, value in line.items()}
    image = cell.get("image") or cell.get("file_name", "")
    if not image:
        raise FieldError("image", "is empty; give the picture's path")
    asked = cell.get("question") or (question and question.replace("{category}", cell.get("category", "")))
    if not asked:
        raise FieldError("question", 'is empty; give what to ask, such as question="Where is the {category}?"')
    absent = _flag(cell, "absent")
    box, points = _cells(cell, "box"), _cells(cell, "points")
    masks = mask_of(cell.get("mask"))
    size = _size(cell)
    coordinates = cell.get("coordinates") or "pixels"
    if not absent and not box:
        if not masks:
            raise FieldError("box", "is empty, and so are mask and absent; one of them must say what the answer is")
        box, points, size = _of_mask(line, masks, size, home)
        coordinates = "pixels"
    size = known_size(size, home / image)
    truth: dict[str, Any] = {"absent": True} if absent else {"bbox_2d": box}
    if points:
        if len(points) != 4:
            raise FieldError("points", "expected four numbers, x y of one point and x y of the other")
        truth["point_2d"] = [points[:2], points[2:]]
    other = _object(cell, "other")
    extra: dict[str, Any] = mapping_of(other.pop("extra_info", None), "other.extra_info")
    extra |= {column: line.get(column) or "" for column in (*_WORDS, "template")}
    extra |= {"id": line.get("id") or None, "think": line.get("reasoning") or ""}
    healthy = _flag(cell, "healthy") if cell.get("healthy") else None
    extra |= {"health": healthy, "image_size": size, "coordinates": coordinates}
    extra |= {"facts": _object(cell, "facts") or None}
    columns = {column: value for column, value in line.items() if column not in (*_HEADER, "file_name")}
    columns |= mapping_of(other.pop("columns", None), "other.columns")
    record = {
        "prompt": [{"role": "user", "content": f"<image>{asked}"}],
        "images": [image],
        "masks": [] if absent else masks,
        "reward_model": {"ground_truth": truth},
        "extra_info": extra | {"other": json.dumps(other) if other else None},
        **columns,
    }
    return row_from(record, name, split)


def _of_mask(
    line: dict[str, str], masks: list[Any], size: list[int] | None, home: Path
) -> tuple[list[float], list[float], list[int]]:
    try:
        mask = pictures_of(masks, "mask")[0].mask(home)
        box, points = box_of(mask), key_points(mask)
    except TruthError as error:
        raise FieldError("mask", str(error)) from None
    if size not in (None, [mask.shape[1], mask.shape[0]]):
        raise FieldError("mask", f"{mask.shape[1]} x {mask.shape[0]} isn't the row's width and height; mend either")
    return list(box.xyxy), [value for point in points for value in point.xy], [mask.shape[1], mask.shape[0]]


def _cells(cell: dict[str, str], column: str) -> list[float]:
    words = [word for word in _SEPARATORS.split(cell.get(column, "")) if word]
    try:
        return [float(word) for word in words]
    except ValueError:
        raise FieldError(column, "expected numbers with spaces between them") from None


def _size(cell: dict[str, str]) -> list[int] | None:
    given = [cell.get("width", ""), cell.get("height", "")]
    if not any(given):
        return None
    try:
        return [int(value) for value in given]
    except ValueError:
        raise FieldError("width, height", "expected two whole numbers of pixels, or nothing in both") from None


def _flag(cell: dict[str, str], column: str) -> bool:
    word = cell.get(column, "").lower()
    if word not in (*_TRUE, *_FALSE):
        raise FieldError(column, "expected true or false")
    return word in _TRUE


def _object(cell: dict[str, str], column: str) -> dict[str, Any]:
    if not cell.get(column):
        return {}
    try:
        value = json.loads(cell[column])
    except (ValueError, RecursionError) as error:
        raise FieldError(column, f"isn't JSON ({error})") from None
    if not isinstance(value, dict):
        raise FieldError(column, "expected a JSON object")
    return value

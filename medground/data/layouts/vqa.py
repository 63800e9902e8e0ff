"""Visual questions in files: ThinkVG's rows, GEMeX's for questions and for training, and our own, one row at a time.

``thinkvg``, ``gemex`` and ``gemex-training`` are JSON Lines, a JSON list or parquet, by the file's ending; pictures
are paths. ``medground`` is our own parquet: a column for each field of `VqaRow`, pictures as paths, bytes or both. What
is written is read back as it was; that is checked of each row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medground._io import json_lines, make_folder, write_bytes
from medground.coords import space_named
from medground.data.fields import FieldError
from medground.data.layouts import gemex, thinkvg, vqa_own
from medground.data.layouts._shared import Files, OnBad, read_each, write_lines
from medground.data.layouts._vqa import OWN, Defaults, checked, cleared
from medground.data.schema import changing, parquet, split_of_name
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError, TruthError

__all__ = ["VQA_LAYOUTS", "export_vqa_rows", "import_vqa_rows"]

_ReadRow = Callable[[Mapping[str, Any], Defaults], VqaRow]
_WriteRow = Callable[[VqaRow, str], dict[str, Any]]

VQA_LAYOUTS: dict[str, tuple[_ReadRow, _WriteRow, tuple[str, ...]]] = {
    "thinkvg": (thinkvg.row_of, thinkvg.record_of, thinkvg.COLUMNS),
    "gemex": (gemex.row_of, gemex.record_of, gemex.COLUMNS),
    "gemex-training": (gemex.training_row_of, gemex.training_record_of, gemex.TRAINING),
    "medground": (vqa_own.row_of, vqa_own.record_of, vqa_own.COLUMNS),
}
"""What reads a record of each layout, what writes one, and the columns that are the layout's own."""


def import_vqa_rows(
    path: str | Path,
    layout: str = "medground",
    *,
    image_size: tuple[int, int] | None = None,
    coordinates: str = "pixels",
    on_bad: OnBad = None,
) -> Iterator[VqaRow]:
    """Read visual questions from a file.

    Paths of pictures are left as the file has them; relative ones start at the file's folder. Where a row has no id,
    the file's stem and the row's number are its id; where it has no split, the file's name tells it
    (`medground.data.schema.split_of_name`). Columns that nobody knows are kept under ``columns`` in `VqaRow.other`.

    Parameters
    ----------
    path : path
        ``.jsonl``, ``.json`` (a list of rows) or ``.parquet``.
    layout : str
        A name in `VQA_LAYOUTS`.
    image_size : tuple of int, optional
        (width, height) in pixels of the picture that boxes were measured on, for rows that don't say it. ThinkVG's and
        GEMeX's releases don't, and it is never guessed: without it such rows are refused.
    coordinates : str
        What the numbers are, for rows that don't say it; one of `medground.coords.COORDINATES`.
    on_bad : callable, optional
        Is given the error of each bad row, which is then left out; without it the first one is raised.

    Yields
    ------
    VqaRow

    Raises
    ------
    ConfigError
        When the layout isn't known, or the file can't be read.
    TruthError
        When a row can't be read; names the file, the row (counted from 0; the line of JSON Lines, from 1), the field.
    """
    path, (read, _, _) = Path(path), _known(layout)
    space_named(coordinates, 1000, 1000)
    defaults = {"split": split_of_name(path), "image_size": image_size, "coordinates": coordinates}

    def row_of(record: Any, name: str) -> VqaRow:
        if not isinstance(record, dict):
            raise FieldError("row", "isn't an object; mend or drop it")
        return read(cleared(record), {**defaults, "id": name})

    yield from read_each(path, _records(path), row_of, on_bad, unit="" if path.suffix == ".jsonl" else " row ")


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    if path.suffix == ".parquet":
        yield from enumerate(parquet().read_records(path))
    elif path.suffix == ".jsonl":
        yield from json_lines(path)
    elif path.suffix == ".json":
        try:
            rows = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: can't be read as JSON in UTF-8 ({error}); mend it or check the path") from error
        if not isinstance(rows, list):
            raise ConfigError(f"{path}: isn't a list of rows; write [{{...}}, ...], or a row on each line of a .jsonl")
        yield from enumerate(rows)
    else:
        raise ConfigError(f"{path}: its ending isn't known; name it .jsonl, .json or .parquet, after what is in it")


def export_vqa_rows(
    rows: Iterable[VqaRow],
    path: str | Path,
    layout: str = "medground",
    *,
    root: str | Path | None = None,
    copy_images: bool = False,
    embed: bool = False,
    coordinates: str | None = None,
) -> int:
    """Write visual questions into a file, which appears whole or not at all.

    Numbers are written as the rows have them, to the last digit.

    Parameters
    ----------
    rows : iterable of VqaRow
        Consumed as it is written, except into ``.json``, which holds them all.
    path : path
        ``.jsonl``, ``.json`` or ``.parquet``; the layout ``medground`` is ``.parquet``.
    layout : str
        A name in `VQA_LAYOUTS`.
    root : path, optional
        The folder at which relative paths of the rows start (that of `path` where None); they are rewritten to start at
        the file's folder.
    copy_images : bool
        Copy pictures into ``images/`` beside the file, named by their content. Without it a picture that is bytes alone
        is refused, except by ``medground``, which holds it and knows no copies.
    embed : bool
        Put the pictures' content into the file; for ``medground`` alone.
    coordinates : str, optional
        The ruler on which numbers are written, mentions in the thinking too, where it isn't to be each row's own.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    ConfigError
        When the layout or the file's ending isn't known, or the file can't be written.
    TruthError
        When a row can't be written, or wouldn't be read back as it is; names it.

    Examples
    --------
    >>> import tempfile
    >>> from medground.data.rows import Picture
    >>> row = VqaRow(id="7", question="Which side?", question_type="single_choice", choices=("left", "right"),
    ...              answer="B", image=Picture(path="7.png"), image_size=(224, 224))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export_vqa_rows([row], f"{folder}/rows.jsonl", "thinkvg")
    ...     list(import_vqa_rows(f"{folder}/rows.jsonl", "thinkvg")) == [row]
    True
    """
    path, (read, write, columns) = Path(path), _known(layout)
    own = layout == "medground"
    if path.suffix not in ((".parquet",) if own else (".jsonl", ".json", ".parquet")):
        raise ConfigError(f"{path}: layout {layout} is {'.parquet' if own else '.jsonl, .json or .parquet'}; rename it")
    if (embed and not own) or (copy_images and own):
        what = (
            "embed is for the layout medground alone" if embed else "layout medground knows no copy_images; use embed"
        )
        raise ConfigError(f"{path}: {what}")
    if coordinates is not None:
        space_named(coordinates, 1000, 1000)
    files, change = Files(path.parent, root, copy=copy_images), changing(path.parent, root, embed=embed)

    def written() -> Iterator[dict[str, Any]]:
        for row in rows:
            try:
                shown = row if coordinates is None else row.to(coordinates)
                if taken := sorted({*columns, *OWN} & set(shown.other.get("columns") or {})):
                    raise FieldError("other, columns", f"{taken[0]} is the layout's own; rename it")
                if own:
                    record = write(
                        shown.model_copy(update={"image": change(row.image, False)}) if change else shown, ""
                    )
                else:
                    record = write(shown, files.image(row.image))
                checked(shown, read(cleared(record), {}))
            except (FieldError, TruthError) as error:
                raise TruthError(f"row {row.id}: {error}") from error
            yield record

    if path.suffix == ".parquet":
        return int(parquet().write_records(written(), path))
    if path.suffix == ".jsonl":
        return write_lines(written(), path)
    records = list(written())
    make_folder(path.parent)
    write_bytes(path, json.dumps(records, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n")
    return len(records)


def _known(layout: str) -> tuple[_ReadRow, _WriteRow, tuple[str, ...]]:
    if layout not in VQA_LAYOUTS:
        raise ConfigError(f"layout {layout!r} isn't known for visual questions; use one of {', '.join(VQA_LAYOUTS)}")
    return VQA_LAYOUTS[layout]

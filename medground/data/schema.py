"""Read and write U-MRG's published parquet layout, typed and without loss, however large the set is.

A file that is read and written again has the same columns, in the same order, with the same values: what `Row` has no
field for travels in `Row.other`. Both ways hold one batch of rows in memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medground.data.columns import record_of, row_of
from medground.data.fields import FieldError
from medground.data.rows import Picture, Row, RowSplit
from medground.errors import ConfigError, MedgroundError, MissingExtraError, TruthError

__all__ = [
    "Picture",
    "Row",
    "RowSplit",
    "changing",
    "parquet",
    "parquet_files",
    "read_rows",
    "split_of_name",
    "write_rows",
]

_NAMED = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|dev|test)(?:[^a-z]|$)")


def split_of_name(path: str | Path) -> str:
    """Return the split that a file's name tells, as on the Hugging Face hub; empty when it tells none.

    Examples
    --------
    >>> split_of_name("data/train-00000-of-00002.parquet"), split_of_name("dev.parquet"), split_of_name("a.parquet")
    ('train', 'val', '')
    """
    found = _NAMED.search(Path(path).stem.lower())
    return {"validation": "val", "valid": "val", "dev": "val"}.get(found[1], found[1]) if found else ""


def parquet_files(path: str | Path) -> list[Path]:
    """Return the parquet files that a path means: itself, or those of the folder, by name.

    Raises
    ------
    ConfigError
        When there are none.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; give a parquet file or a folder of them")
        return [path]
    files = sorted(path.glob("*.parquet"), key=lambda file: file.name)
    if not files:
        raise ConfigError(f"{path}: the folder has no *.parquet; give the folder that holds the files themselves")
    return files


def read_rows(
    path: str | Path,
    *,
    split: str | None = None,
    on_bad: Callable[[MedgroundError], None] | None = None,
) -> Iterator[Row]:
    """Read the rows of U-MRG's parquet layout, one batch at a time.

    Relative paths of images and masks are left as they are; they start at the file's folder. Where a file doesn't say
    the size of its pictures or the coordinates, they are pixels of 840 x 840 (`medground.rewards.truth.FRAME`), which
    is how the UMRG set was published; the numbers themselves are never looked at to tell. Where a row has no split, the
    file's name tells it (`split_of_name`); where it has no id, the file's stem and the row's number are its id.

    Parameters
    ----------
    path : path
        A parquet file, or a folder of them.
    split : {"train", "val", "test"}, optional
        Return these rows alone.
    on_bad : callable, optional
        Is given the error of each bad row, which is then left out; without it the first one is raised.

    Yields
    ------
    Row

    Raises
    ------
    ConfigError
        When a file can't be read as parquet.
    TruthError
        When a row can't be read; names the file, the row (counted from 0, as datasets and pandas do) and the column.

    Examples
    --------
    >>> rows = [Row(id="7", question="Which organ filters the blood?", image=Picture(path="images/7.png"),
    ...             box=(10, 20, 30, 40), image_size=(64, 48), split="test")]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_rows(rows, Path(folder) / "test.parquet")
    ...     list(read_rows(folder, split="test")) == rows
    True
    """
    for file in parquet_files(path):
        for number, record in enumerate(parquet().read_records(file)):
            try:
                row = row_of(record, name=f"{file.stem}/{number}", split=split_of_name(file))
            except FieldError as error:
                bad = TruthError(f"{file}: row {number}: {error}")
                if on_bad is None:
                    raise bad from error
                on_bad(bad)
                continue
            if split in (None, row.split):
                yield row


def write_rows(rows: Iterable[Row], path: str | Path, *, embed: bool = False, root: str | Path | None = None) -> int:
    """Write rows in U-MRG's parquet layout, one row group at a time; the file appears whole or not at all.

    Parameters
    ----------
    rows : iterable of Row
        Consumed as it is written; at most 256 rows are held.
    path : path
        The parquet file. Its folder is made when it isn't there.
    embed : bool
        Put the content of images and of masks (as 1-bit PNG) into the file. `datasets` then decodes both columns to
        pictures, which is what the published set does and what verl wants.
    root : path, optional
        The folder at which relative paths of the rows start; they are rewritten to start at the file's folder, where
        readers look. Without it paths are written as they are, and what is embedded is read from the file's folder.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    ConfigError
        When the file can't be written, or the values of a column that isn't in the layout have no type in common.
    TruthError
        When a picture can't be embedded; names the row.
    """
    path = Path(path)
    change = changing(path.parent, root, embed=embed)
    records = (_record(row, split_of_name(path), change) for row in rows)
    return int(parquet().write_records(records, path))


def changing(home: Path, root: str | Path | None, *, embed: bool) -> Callable[[Picture, bool], Picture] | None:
    """Return what `record_of` is to do with pictures, or masks, for a file in `home`; see `write_rows`."""
    start = home if root is None else Path(root)

    def change(picture: Picture, mask: bool) -> Picture:
        if embed:
            picture = _embedded(picture, start, mask=mask)
        return picture if root is None else _moved(picture, start, home)

    return change if embed or root is not None else None


def _record(row: Row, split: str, change: Callable[[Picture, bool], Picture] | None) -> dict[str, Any]:
    try:
        return record_of(row, split=split, change=change)
    except (FieldError, TruthError) as error:
        raise TruthError(f"row {row.id}: {error}") from error


def _embedded(picture: Picture, start: Path, *, mask: bool) -> Picture:
    if picture.data is not None:
        return picture
    if mask:
        return Picture.of_mask(picture.mask(start), picture.path)
    return Picture(path=picture.path, data=picture.read(start))


def _moved(picture: Picture, start: Path, home: Path) -> Picture:
    if picture.path is None or os.path.isabs(picture.path):
        return picture
    moved = Path(os.path.relpath(start / picture.path, home)).as_posix()
    return picture.model_copy(update={"path": moved})


def parquet() -> Any:
    """Return `medground.data.parquet`; raises MissingExtraError without pyarrow."""
    try:
        from medground.data import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="data", purpose="reading and writing parquet files") from error
    return parquet

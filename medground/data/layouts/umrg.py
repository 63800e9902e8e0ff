"""U-MRG's own parquet layout: see `medground.data.schema`. It holds everything that a row does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from medground.data.layouts._shared import OnBad, OnNote, on_ruler
from medground.data.rows import Row
from medground.data.schema import read_rows, write_rows

__all__ = ["export_rows", "import_rows"]


def import_rows(path: Path, *, split: str | None = None, on_bad: OnBad = None) -> Iterator[Row]:
    """Read a parquet file or a folder of them; see `medground.data.schema.read_rows`."""
    return read_rows(path, split=split, on_bad=on_bad)


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    embed: bool = False,
    coordinates: str | None = None,
    on_note: OnNote = None,
) -> int:
    """Write a parquet file; see `medground.data.schema.write_rows`."""
    return write_rows(on_ruler(rows, coordinates), path, embed=embed, root=root)

"""Which rows a run answers, and in which order: a function of the data alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medground.data.layouts.vqa import import_vqa_rows
from medground.data.pixels import Source, rows_at
from medground.data.rows import Row
from medground.data.schema import parquet, parquet_files
from medground.data.vqa_rows import VqaRow
from medground.errors import ConfigError

__all__ = ["Given", "Planned", "chosen_rows", "digest_of", "given_rows", "in_chunks", "is_visual"]

Given = Source | Iterable[VqaRow]
"""A parquet file, a folder of them, several of either, or rows; of grounding or of visual questions."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A row that is to be answered.

    Parameters
    ----------
    row : Row or VqaRow
    root : Path
        The folder at which its relative paths start.
    picture : str
        What rows about one picture have in common.
    """

    row: Row | VqaRow
    root: Path
    picture: str


def is_visual(file: Path) -> bool:
    """Return whether a parquet file holds visual questions, by its columns; raises ConfigError when it is damaged."""
    return {"question_type", "answer"} <= set(parquet().columns_of(file))


def given_rows(data: Given, root: str | Path | None = None) -> Iterator[tuple[Row | VqaRow, Path]]:
    """Yield rows with the folder at which their relative paths start; see `medground.data.pixels.rows_at`."""
    given: Iterable[str | Path | Row | VqaRow] = [data] if isinstance(data, str | Path) else data
    for each in given:
        if isinstance(each, VqaRow):
            yield each, Path(root or ".")
        elif isinstance(each, Row):
            yield from rows_at([each], root)
        else:
            for file in parquet_files(each):
                if is_visual(file):
                    home = file.parent if root is None else Path(root)
                    yield from ((question, home) for question in import_vqa_rows(file))
                else:
                    yield from rows_at(file, root)


def chosen_rows(
    data: Given, *, split: str = "test", limit: int | None = None, root: str | Path | None = None
) -> list[Planned]:
    """Return the rows of a split, checked: ids are unique and labels can be used.

    Rows without a split count as of any. `limit` rows are drawn by the same chance in every run.

    Raises
    ------
    ConfigError, TruthError
        When the data can't be read, a row can't be scored, or there is none.
    """
    rows: dict[str, Planned] = {}
    for row, home in given_rows(data, root):
        if row.split not in (split, ""):
            continue
        if row.id in rows:
            raise ConfigError(f"{home}: id {row.id!r} is there twice in split {split!r}; make ids unique")
        row.truth()
        rows[row.id] = Planned(row, home, _picture(row, home))
    if len({type(each.row) for each in rows.values()}) > 1:
        raise ConfigError(f"{_named(data)}: holds visual questions beside others; evaluate each by itself")
    if not rows:
        raise ConfigError(f"{_named(data)}: has no rows of split {split!r}; name another split or file")
    kept = list(rows.values())
    if limit is not None:
        if limit < 1:
            raise ConfigError(f"limit must be at least 1, not {limit}")
        drawn = np.random.default_rng(0).permutation(len(kept))[:limit]
        kept = [kept[index] for index in sorted(drawn.tolist())]
    return kept


def in_chunks(rows: Sequence[Planned], size: int, shard: tuple[int, int] = (0, 1)) -> list[list[Planned]]:
    """Return one shard's rows in chunks of about `size`, those about one picture in the same chunk.

    Examples
    --------
    >>> row = lambda name, path: Planned(
    ...     Row(id=name, question="Where?", image={"path": path}, box=None, image_size=(9, 9)), Path(), path)
    >>> rows = [row("1", "a"), row("2", "b"), row("3", "a"), row("4", "c")]
    >>> [[each.row.id for each in chunk] for chunk in in_chunks(rows, 2)]
    [['1', '3'], ['2', '4']]
    >>> [[each.row.id for each in chunk] for chunk in in_chunks(rows, 2, (1, 2))]
    [['2']]
    """
    pictures: dict[str, list[Planned]] = {}
    for each in rows:
        pictures.setdefault(each.picture, []).append(each)
    index, count = shard
    chunks: list[list[Planned]] = []
    for group in list(pictures.values())[index::count]:
        if not chunks or len(chunks[-1]) + len(group) > size:
            chunks.append([])
        chunks[-1] += group
    return chunks


def digest_of(rows: Sequence[Planned]) -> str:
    """Return a digest (hex) of what rows ask, of which picture, and of the right answers."""
    digest = hashlib.sha256()
    for each in rows:
        row = each.row
        parts = [row.id, row.question, row.ground_truth(), row.image.path or ""]
        if isinstance(row, VqaRow):
            parts.append(json.dumps(row.other.get("earlier")))
        for part in parts:
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        for picture in (row.image, None if isinstance(row, VqaRow) else row.mask):
            digest.update(b"" if picture is None or picture.data is None else hashlib.sha256(picture.data).digest())
    return digest.hexdigest()


def _picture(row: Row | VqaRow, home: Path) -> str:
    if row.image.data is not None:
        return hashlib.sha256(row.image.data).hexdigest()
    return str(row.image.file(home))


def _named(data: Given) -> str:
    return str(data) if isinstance(data, str | Path) else "the data"

"""Which rows a run answers, and in which order: a function of the data alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medground.data.pixels import Source, rows_at
from medground.data.rows import Row
from medground.errors import ConfigError

__all__ = ["Planned", "chosen_rows", "digest_of", "in_chunks"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A row that is to be answered.

    Parameters
    ----------
    row : Row
    root : Path
        The folder at which its relative paths start.
    picture : str
        What rows about one picture have in common.
    """

    row: Row
    root: Path
    picture: str


def chosen_rows(
    data: Source, *, split: str = "test", limit: int | None = None, root: str | Path | None = None
) -> list[Planned]:
    """Return the rows of a split, checked: ids are unique and labels can be used.

    Rows without a split count as of any. `limit` rows are drawn by the same chance in every run.

    Raises
    ------
    ConfigError, TruthError
        When the data can't be read, a row can't be scored, or there is none.
    """
    rows: dict[str, Planned] = {}
    for row, home in rows_at(data, root):
        if row.split not in (split, ""):
            continue
        if row.id in rows:
            raise ConfigError(f"{home}: id {row.id!r} is there twice in split {split!r}; make ids unique")
        row.truth()
        rows[row.id] = Planned(row, home, _picture(row, home))
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
        for part in (row.id, row.question, row.ground_truth(), row.image.path or ""):
            digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
        for picture in (row.image, row.mask):
            digest.update(b"" if picture is None or picture.data is None else hashlib.sha256(picture.data).digest())
    return digest.hexdigest()


def _picture(row: Row, home: Path) -> str:
    if row.image.data is not None:
        return hashlib.sha256(row.image.data).hexdigest()
    return str(row.image.file(home))


def _named(data: Source) -> str:
    return str(data) if isinstance(data, str | Path) else "the data"

"""Rows to look at: a sheet of pictures with what is asked, answered and reasoned, and the same as text."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image, Resampling

from medground._io import write_bytes
from medground.data.pixels import Source, open_image, open_mask, rows_at
from medground.data.rows import Row
from medground.drawing import contact_sheet, draw, png
from medground.errors import ConfigError, TruthError

__all__ = ["MAX_ROWS", "as_text", "pick_rows", "picture_of", "sheet", "show"]

MAX_ROWS = 200
"""Rows of a sheet, at most: more are a picture that nobody can open."""

_LINES = 24


def pick_rows(
    source: Source,
    *,
    number: int = 12,
    seed: int | None = None,
    ids: Collection[str] = (),
    category: str | None = None,
    modality: str | None = None,
    split: str | None = None,
    absent: bool | None = None,
    root: str | Path | None = None,
) -> list[tuple[Row, Path]]:
    """Return some rows of a data set in their order, each with the folder at which its relative paths start.

    Parameters
    ----------
    source : path, paths or iterable of Row
        Parquet files or folders of them, in U-MRG's layout; or rows.
    number : int
        How many at most, 1 to `MAX_ROWS`; all those of `ids` where they are given.
    seed : int, optional
        Draw them, each as probable as another, and the same ones for the same seed; without it the first ones come.
    ids : collection of str
        These rows alone.
    category, modality, split, absent
        Rows of which this is true.
    root : path, optional
        The folder at which relative paths start; each file's own by default.

    Raises
    ------
    ConfigError, TruthError
        When no row is so, an id isn't there, or a row can't be read.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> rows = [Row(id=str(at), question="Where?", image=Picture(path="a.png"), image_size=(9, 9), box=(0, 0, 1, 1))
    ...         for at in range(100)]
    >>> [row.id for row, _ in pick_rows(rows, number=3, seed=1)]
    ['6', '36', '54']
    """
    if not 1 <= number <= MAX_ROWS or len(ids) > MAX_ROWS:
        raise ConfigError(f"a sheet shows 1 to {MAX_ROWS} rows, not {len(ids) if ids else number}; choose fewer")
    wanted = {"category": category, "modality": modality, "split": split, "absent": absent}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    draws = random.Random(seed)  # noqa: S311
    picked: list[tuple[int, Row, Path]] = []
    fitting = 0
    for at, (row, home) in enumerate(rows_at(source, root)):
        if (ids and row.id not in ids) or any(getattr(row, name) != value for name, value in wanted.items()):
            continue
        fitting += 1
        if ids or len(picked) < number:
            picked.append((at, row, home))
        elif seed is None:
            break
        elif (place := draws.randrange(fitting)) < number:  # a reservoir: each row so far stays as probably as another
            picked[place] = (at, row, home)
    if lacking := sorted(set(ids) - {row.id for _, row, _ in picked}):
        raise ConfigError(f"there is no row {lacking[0]!r}{' with these properties' if wanted else ''}; check the id")
    if not picked:
        told = ", ".join(f"{name} {value!r}" for name, value in wanted.items())
        raise ConfigError(
            f"there is no row{f' with {told}' if told else ''}; see medground data stats for what there is"
        )
    return [(row, home) for _, row, home in sorted(picked, key=lambda each: each[0])]


def picture_of(row: Row, root: str | Path = ".") -> tuple[Image, tuple[str, ...]]:
    """Return a row's picture with its mask, box and points on it, and what of them couldn't be drawn, and why.

    Parameters
    ----------
    row : Row
    root : path
        The folder at which relative paths start.

    Raises
    ------
    TruthError
        When the picture itself can't be read.
    """
    image = open_image(row.image, root)
    mask, problems = None, []
    if row.mask is not None:
        try:
            mask = open_mask(row.mask, root, size=image.size)
        except TruthError as error:
            problems.append(f"mask: {error}")
    try:
        truth = row.truth()
    except TruthError as error:
        return draw(image, mask=mask), (*problems, str(error).removeprefix(f"row {row.id}: "))
    return draw(image, boxes=[truth.box] if truth.box else (), points=truth.points, mask=mask), tuple(problems)


def as_text(row: Row) -> str:
    """Return a row as lines for a terminal.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> print(as_text(Row(id="7", question="What filters blood?", image=Picture(path="a.png"), image_size=(64, 48),
    ...                   box=None, reasoning="It isn't in view.", category="kidney left", split="test")))
    7
      test, kidney left
      question   What filters blood?
      reasoning  It isn't in view.
      answer     {"absent": true, "image_size": [64, 48], "coordinates": "pixels"}
      image      a.png, 64 x 48
    """
    kinds = (row.split, row.modality, row.supercategory, row.category, row.style, row.source, row.licence)
    image = row.image.path or f"{len(row.image.data or b''):,} bytes"
    answer = row.model_copy(update={"facts": None}).ground_truth()
    facts = "; ".join(f"{facet}: {_listed(words)}" for facet, words in (row.facts or {}).items())
    lines = {
        "question": row.question,
        "reasoning": row.reasoning,
        "answer": answer,
        "facts": facts,
        "short": row.short,
        "long": row.long,
        "image": f"{image}, {row.image_size[0]} x {row.image_size[1]}",
        "mask": (row.mask.path or f"{len(row.mask.data or b''):,} bytes") if row.mask else "",
        "template": row.template,
    }
    told = [f"  {name:<9}  {' '.join(value.split())}" for name, value in lines.items() if value]
    return "\n".join([row.id, f"  {', '.join(filter(None, kinds))}", *told])


def sheet(rows: Sequence[tuple[Row, Path]], *, columns: int = 4, width: int = 420) -> Image:
    """Return rows as a sheet of pictures, each over its question, its reasoning and where it comes from.

    Parameters
    ----------
    rows : sequence of (Row, path)
        As `pick_rows` returns them.
    columns : int
        Pictures in a row, at least 1.
    width : int
        Of a picture, in pixels; at least 40.
    """
    if columns < 1 or width < 40:
        raise ConfigError(f"a sheet has at least 1 column of 40 pixels, not {columns} of {width}; choose more")
    tiles = []
    for row, root in rows:
        try:
            picture, problems = picture_of(row, root)
        except TruthError as error:
            raise TruthError(f"row {row.id}: image: {error}") from error
        picture.thumbnail((width, width), Resampling.LANCZOS)  # 200 mammograms at their own size fill a memory
        tiles.append((picture, _caption(row, problems)))
    return contact_sheet(tiles, columns=columns, width=width, lines=_LINES)


def show(rows: Sequence[tuple[Row, Path]], out: str | Path, *, columns: int = 4, width: int = 420) -> Path:
    """Write the `sheet` of rows as a PNG, whole or not at all, and return its path.

    Raises
    ------
    ConfigError, TruthError
        When it can't be written, or a picture can't be read; names the row.
    """
    path = Path(out)
    write_bytes(path, png(sheet(rows, columns=columns, width=width)))
    return path


def _caption(row: Row, problems: Sequence[str]) -> str:
    origin = ", ".join(filter(None, (row.split, row.modality, row.category, row.style)))
    lines = [f"{row.id} ({origin})" if origin else row.id, row.question, row.reasoning or "(no reasoning)"]
    lines += ["ABSENT"] * row.absent + [f"NOT DRAWN: {each}" for each in problems]
    return "\n".join(" ".join(line.split()) for line in lines)


def _listed(words: Any) -> str:
    return ", ".join(map(str, words)) if isinstance(words, list) else str(words)

"""Data sets of other projects' layouts to rows, and rows to theirs, one row at a time.

``umrg`` and ``verl`` (parquet), ``swift`` (ms-swift's grounding JSON Lines), ``coco`` (one JSON document, masks as run
lengths), ``trl`` (conversational rows, JSON Lines or parquet), ``csv`` (a plain folder). Each module says what its
layout can't hold; whoever exports is told when rows held such.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medground.data.layouts import coco, csv_folder, swift, trl, umrg, verl
from medground.data.rows import Row
from medground.errors import ConfigError

__all__ = ["LAYOUTS", "export_rows", "import_rows"]

LAYOUTS: dict[str, tuple[Callable[..., Iterator[Row]], Callable[..., int]]] = {
    "umrg": (umrg.import_rows, umrg.export_rows),
    "verl": (verl.import_rows, verl.export_rows),
    "swift": (swift.import_rows, swift.export_rows),
    "coco": (coco.import_rows, coco.export_rows),
    "trl": (trl.import_rows, trl.export_rows),
    "csv": (csv_folder.import_rows, csv_folder.export_rows),
}
"""What reads each layout, and what writes it."""


def import_rows(path: str | Path, layout: str, **options: Any) -> Iterator[Row]:
    """Read rows from a file of another layout.

    Paths of pictures are left as the file has them; relative ones start at the file's folder. Columns that the layout
    doesn't know are kept under ``columns`` in `Row.other`.

    Parameters
    ----------
    path : path
    layout : str
        A name in `LAYOUTS`.
    **options
        ``on_bad``, in every layout: a function that is given the error of each bad row, which is then left out;
        without it the first one is raised. Others by layout: see its module's ``import_rows``.

    Yields
    ------
    Row

    Raises
    ------
    ConfigError
        When the layout or an option isn't known, or the file can't be read.
    TruthError
        When a row can't be read; names the file, the row or line, and the field.
    """
    rows: Iterator[Row] = _known(layout, 0, options)(Path(path), **options)
    return rows


def export_rows(rows: Iterable[Row], path: str | Path, layout: str, **options: Any) -> int:
    """Write rows into a file of another layout, which appears whole or not at all.

    Parameters
    ----------
    rows : iterable of Row
    path : path
    layout : str
        A name in `LAYOUTS`.
    **options
        In every layout:

        - ``root``: the folder at which relative paths of the rows start (that of `path` where it isn't given); paths
          are rewritten so that they start at the file's folder;
        - ``coordinates``: the ruler on which numbers are written, one of `medground.coords.COORDINATES`, where it isn't
          to be each row's own;
        - ``on_note``: is given one sentence for each thing that rows held and the layout doesn't; they are logged
          where it isn't given.

        Layouts in text also know ``copy_images``: copy images and masks into ``images/`` and ``masks/`` beside the
        file, named by their content. Without it nothing is copied, and a picture that is bytes alone is refused (a
        mask is written as run lengths). Others by layout: see its module's ``export_rows``.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    ConfigError
        When the layout or an option isn't known, or the file can't be written.
    TruthError
        When a row can't be written; names it.

    Examples
    --------
    >>> import tempfile
    >>> from medground.data.schema import Picture
    >>> row = Row(id="7", question="Which organ filters the blood?", image=Picture(path="7.png"), box=(10, 20, 30, 40),
    ...           image_size=(64, 48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = export_rows([row], f"{folder}/rows.csv", "csv")
    ...     list(import_rows(f"{folder}/rows.csv", "csv")) == [row]
    True
    """
    return int(_known(layout, 1, options)(rows, Path(path), **options))


def _known(layout: str, way: int, options: dict[str, Any]) -> Callable[..., Any]:
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} isn't known; use one of {', '.join(LAYOUTS)}")
    found = LAYOUTS[layout][way]
    known = [name for name, each in inspect.signature(found).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise ConfigError(f"layout {layout}: option {name!r} isn't known; there are {', '.join(known)}")
    return found

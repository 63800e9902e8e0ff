"""Tables and figures of docs/results.md as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medground.evaluate.cells import LEVEL, ROUNDS, Cell, Column, Line, Table, as_text

SIGNED = Column("", places=3, signed=True)
PLAIN = Column("", places=3)
NOTHING = Cell(math.nan, math.nan, math.nan, 0)

Told = dict[str, Any]
"""Figures of runs as JSON has them (`result_runs.gathered`)."""

INTERVALS = f"Intervals hold {LEVEL:.0%} of {ROUNDS:,} bootstrap samples, in which patients are drawn, not questions."


def as_cells(figures: Mapping[str, Sequence[float | None]]) -> dict[str, Cell]:
    """Return figures by name, from how `result_vqa.as_values` writes them."""
    return {name: _cell(values) for name, values in figures.items()}


def _cell(values: Sequence[float | None]) -> Cell:
    value, low, high, n = values
    return Cell(*(float("nan") if each is None else float(each) for each in (value, low, high)), int(n or 0))


def as_table(heading: str, corner: str, heads: Sequence[str], lines: Sequence[Line], note: str = "") -> str:
    """Return a table of finished texts under a heading of the third level, or under none."""
    made = Table("", heading, corner, tuple(Column(head) for head in heads), tuple(lines), note)
    return made.to_markdown().removeprefix("## \n\n") if not heading else f"#{made.to_markdown()}"


def plain(found: Cell) -> str:
    """Return a figure with its interval."""
    return as_text(found, PLAIN)


def signed(found: Cell) -> str:
    """Return a difference with its interval."""
    return as_text(found, SIGNED)


def up(value: float) -> str:
    """Return what is missing, never less than it is: a miss is never told as one by 0.000.

    Examples
    --------
    >>> up(0.05), up(0.00001), up(0.1234)
    ('0.050', '0.001', '0.124')
    """
    return f"{math.ceil(round(value * 1000, 6)) / 1000:.3f}"


def picture(name: str, alt: str, pictures: Sequence[str]) -> str:
    """Return a picture of docs/images/results, empty where there is none of the name."""
    return f"![{alt}](images/results/{name}.png)" if name in pictures else ""

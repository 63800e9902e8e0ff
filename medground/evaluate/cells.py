"""Figures of a run with their intervals, and tables of them that are ready to be shown.

A table is made once and shown twice, as HTML by `medground.evaluate.markup` and as Markdown by `Table.to_markdown`, so
that a report's page and file can't say different things.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from medground.data.attributes import LARGE, SMALL, TINY
from medground.evaluate.predictions import Answered, Prediction
from medground.masks import decode_rle

__all__ = [
    "LEVEL",
    "ROUNDS",
    "SIZES",
    "Cell",
    "Column",
    "Line",
    "Measure",
    "Measured",
    "Table",
    "as_text",
    "cell",
    "difference",
    "field",
    "number",
    "size_of",
]

LEVEL, ROUNDS = 0.95, 2000
"""Of all intervals: the share of resampled means that they hold, and how many resamples there are."""

SIZES = ("tiny", "small", "medium-sized", "large")
"""Of targets, by the share of the picture that they cover; the limits are `medground.data.attributes`'s."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Measured(Protocol):
    """A run with the figures of each of its answers, such as `medground.evaluate.score.Scored`."""

    @property
    def predictions(self) -> Sequence[Answered]:
        """One a row."""

    @property
    def groups(self) -> list[str]:
        """Whom a bootstrap draws, for each row."""

    def column(self, name: str) -> Floats:
        """Return one figure of all answers, NaN where it doesn't apply."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a run, made from figures of its answers.

    Parameters
    ----------
    title, told : str
        The column's head, and what it is, in a sentence.
    top : str
        The figure of an answer (`medground.evaluate.score.figures`) whose mean is taken.
    bottom : str
        Where it isn't empty, the sum of `top` is divided by the sum of this figure, instead of by the number of rows.
    over : str
        Where it isn't empty, the mean is taken in each class of rows by this field of ``Prediction.about``, and then
        over the classes, so that a frequent class counts no more than a rare one.
    places : int
        Decimals.
    """

    title: str
    told: str
    top: str
    bottom: str = ""
    over: str = ""
    places: int = 2


class Cell(NamedTuple):
    """A figure with its interval.

    Parameters
    ----------
    value, low, high : float
        NaN where nothing is there to measure. The ends are equal where nothing varies, as with one patient.
    n : int
        Rows that it is of.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column.

    Parameters
    ----------
    title, told : str
    group : str
        Neighbours of one group have a common head above their own.
    places : int
        Decimals.
    signed : bool
        A difference: positive ones have a plus.
    """

    title: str
    told: str = ""
    group: str = ""
    places: int = 2
    signed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: its name, a kind by which it is styled, and a cell for each column."""

    name: str
    cells: tuple[Cell | str | int, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is ready to be shown.

    Parameters
    ----------
    name : str
        Its anchor in a page.
    title, note : str
    corner : str
        What the names of its lines are.
    columns : tuple of Column
    lines : tuple of Line
    """

    name: str
    title: str
    corner: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    note: str = ""

    def to_markdown(self) -> str:
        r"""Return it as a Markdown table under its title.

        Examples
        --------
        >>> table = Table("t", "A table", "run", (Column("IoU"),), (Line("a|b", (Cell(0.5, 0.25, 0.75, 9),)),))
        >>> print(table.to_markdown())
        ## A table
        <BLANKLINE>
        | run | IoU |
        | :-- | --: |
        | a\|b | 0.50 (0.25 to 0.75) |
        <BLANKLINE>
        """
        heads = [f"{column.group}: {column.title}" if column.group else column.title for column in self.columns]
        rows = [[self.corner, *heads], [":--", *("--:" for _ in self.columns)]]
        rows += [
            [line.name, *(as_text(each, column) for each, column in zip(line.cells, self.columns, strict=True))]
            for line in self.lines
        ]
        told = "\n".join(f"| {' | '.join(_escaped(each) for each in row)} |" for row in rows)
        return "\n\n".join(filter(None, [f"## {self.title}", told, self.note])) + "\n"


def as_text(value: Cell | str | int, column: Column) -> str:
    """Return a cell in words: the figure, and its interval in parentheses where it has one.

    Examples
    --------
    >>> as_text(Cell(0.123, 0.05, 0.2, 40), Column("difference", places=3, signed=True))
    '+0.123 (+0.050 to +0.200)'
    >>> as_text(Cell(float("nan"), float("nan"), float("nan"), 0), Column("Dice"))
    '–'
    """
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if np.isnan(value.value):
        return "–"
    middle, low, high = (number(each, column) for each in value[:3])
    return f"{middle} ({low} to {high})" if value.low < value.high else middle


def number(value: float, column: Column) -> str:
    """Return a figure with its column's decimals; nothing is ever "-0.00".

    Examples
    --------
    >>> share, less = Column("IoU"), Column("IoU", signed=True)
    >>> number(0.25, share), number(0.25, less), number(-0.25, less), number(-0.001, less)
    ('0.25', '+0.25', '−0.25', '0.00')
    """
    told = f"{value:{'+' if column.signed else ''}.{column.places}f}"
    return told.replace("-", "−") if float(told) else told.replace("-", "").replace("+", "")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


# -- a figure and its interval ----------------------------------------------------------------------------------------


def cell(scored: Measured, measure: Measure, where: Bools | None = None, *, rounds: int = ROUNDS) -> Cell:
    """Return a figure of a run, over the rows of `where`, with its percentile bootstrap interval.

    Groups (patients) are drawn, not rows. A mean over classes is taken anew in each resample, over the classes that are
    in it; a ratio is that of the resample's sums. For plain means it is `medground.metrics.bootstrap_interval`.

    Parameters
    ----------
    scored : Measured
    measure : Measure
    where : bool array, shape (rows,), optional
    rounds : int
        Number of resamples.
    """
    top, bottom = _columns(scored, measure)
    known = ~(np.isnan(top) | np.isnan(bottom))
    if where is not None:
        known &= where
    if not known.any() or not bottom[known].sum():
        return _NOTHING
    rows = np.flatnonzero(known)
    owner, kinds = _owners(scored, rows), _kinds(scored, measure, rows)
    above, below = (_sums(values[rows], owner, kinds) for values in (top, bottom))
    value = _mean_ratio(above.sum(axis=0)[None], below.sum(axis=0)[None])[0]
    means = [_mean_ratio(times @ above, times @ below) for times in _draws(len(above), rounds)]
    return _with_interval(value, np.concatenate(means), len(rows))


def difference(a: Measured, b: Measured, measure: Measure, where: Bools | None = None, *, rounds: int = ROUNDS) -> Cell:
    """Return how much a figure of `a` is above that of `b`, on the rows on which both have it.

    Each resample of patients is of both runs, so what makes a patient hard for both cancels out. For plain means it is
    `medground.metrics.paired_bootstrap`.

    Parameters
    ----------
    a, b : Measured
    measure : Measure
    where : bool array, shape (rows of a,), optional
        The rows of `a` that count.
    rounds : int
        Number of resamples.

    Returns
    -------
    Cell
        Without a value where there is no such row.
    """
    at = {each.id: place for place, each in enumerate(b.predictions)}
    pairs = [(place, at[each.id]) for place, each in enumerate(a.predictions) if each.id in at]
    first, second = (
        (np.array(each, np.intp) for each in zip(*pairs, strict=True)) if pairs else (np.empty(0, np.intp),) * 2
    )
    columns = [values[rows] for one, rows in ((a, first), (b, second)) for values in _columns(one, measure)]
    known = ~np.isnan(columns).any(axis=0)
    if where is not None:
        known &= where[first]
    first, columns = first[known], [values[known] for values in columns]
    if not len(first) or not (columns[1].sum() and columns[3].sum()):
        return _NOTHING
    owner, kinds = _owners(a, first), _kinds(a, measure, first)
    sums = [_sums(values, owner, kinds) for values in columns]

    def less(times: Floats) -> Floats:
        tops, bottoms, others, below = (times @ each for each in sums)
        return _mean_ratio(tops, bottoms) - _mean_ratio(others, below)

    value = less(np.ones((1, len(sums[0]))))[0]
    return _with_interval(value, np.concatenate([less(times) for times in _draws(len(sums[0]), rounds)]), len(first))


_NOTHING = Cell(float("nan"), float("nan"), float("nan"), 0)


def _columns(scored: Measured, measure: Measure) -> tuple[Floats, Floats]:
    top = scored.column(measure.top)
    return top, scored.column(measure.bottom) if measure.bottom else np.ones(len(top))


def _owners(scored: Measured, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    return _codes(np.asarray(scored.groups)[rows])


def _kinds(scored: Measured, measure: Measure, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    if not measure.over:
        return np.zeros(len(rows), np.intp)
    return _codes(np.asarray([field(scored.predictions[row], measure.over) for row in rows.tolist()]))


def _sums(values: Floats, owner: npt.NDArray[np.intp], kinds: npt.NDArray[np.intp]) -> Floats:
    """Return the sums of values, shape (groups, classes)."""
    shape = int(owner.max()) + 1, int(kinds.max()) + 1
    sums = np.bincount(owner * shape[1] + kinds, weights=values, minlength=shape[0] * shape[1])
    return sums.reshape(shape).astype(np.float64)


def _with_interval(value: float, means: Floats, n: int) -> Cell:
    # A resample may draw only groups that have nothing to count.
    low, high = np.quantile(means[~np.isnan(means)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Cell(float(value), float(low), float(high), n)


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    return np.unique(values, return_inverse=True)[1]


_AT_ONCE = 1 << 22
"""Draws that are held at a time: 32 MB of them."""


def _draws(groups: int, rounds: int) -> Iterator[Floats]:
    """Yield how often each group is drawn in each resample, in arrays of shape (resamples, groups).

    The same for the same number of groups, so that all figures of a row of a table are of the same resamples.
    """
    if groups * rounds <= _AT_ONCE:
        yield _drawn(groups, rounds, 0)
        return
    step = max(1, _AT_ONCE // groups)
    for start in range(0, rounds, step):
        yield _count(np.random.default_rng(start), groups, min(step, rounds - start))


@lru_cache(maxsize=4)
def _drawn(groups: int, rounds: int, seed: int) -> Floats:
    return _count(np.random.default_rng(seed), groups, rounds)


def _count(chance: np.random.Generator, groups: int, rounds: int) -> Floats:
    places = chance.integers(groups, size=(rounds, groups)) + groups * np.arange(rounds)[:, None]
    return np.bincount(places.ravel(), minlength=rounds * groups).reshape(rounds, groups).astype(np.float64)


def _mean_ratio(above: Floats, below: Floats) -> Floats:
    there = below > 0
    ratios = np.divide(above, below, out=np.zeros_like(above), where=there)
    count = there.sum(axis=1)
    means: Floats = np.divide(ratios.sum(axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
    return means


def field(prediction: Answered, name: str) -> str:
    """Return what `Prediction.about` says, ``"unknown"`` where it says nothing; ``"size"`` is `size_of`.

    Examples
    --------
    >>> truth = {"bbox_2d": [10, 20, 30, 40], "image_size": [100, 50]}
    >>> line = Prediction(id="1", question="Where?", image_size=(100, 50), truth=truth, about={"modality": "ct"},
    ...                   space={"coordinates": "pixels", "width": 100, "height": 50})
    >>> field(line, "modality"), field(line, "source"), field(line, "size")
    ('ct', 'unknown', 'medium-sized')
    """
    if name == "size" and isinstance(prediction, Prediction):
        return size_of(prediction)
    value = prediction.about.get(name, "")
    return str(value).lower() if isinstance(value, bool) else value or "unknown"


def size_of(prediction: Prediction) -> str:
    """Return how large the target is, one of `SIZES`: by its mask, or else its box; ``"absent"`` without a target."""
    if prediction.truth_mask is not None:
        share = float(decode_rle(prediction.truth_mask).mean())
    else:
        box = prediction.right.box
        if box is None:
            return "absent"
        share = box.area / (box.space.width * box.space.height)
    return SIZES[sum(share > edge for edge in (TINY, SMALL, LARGE))]

"""The sections of a report that say how good answers are: the figures, who is better, and where."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from medground.evaluate import plots, tables
from medground.evaluate.baselines import BASELINES
from medground.evaluate.cells import ROUNDS, Cell, Column, Line, Table, cell
from medground.evaluate.markup import Part, figure_html, table_html
from medground.evaluate.plots import Dot, DotRow, Series, both, legend
from medground.evaluate.predictions import Answered
from medground.evaluate.roles import Shown
from medground.evaluate.tables import BREAKDOWNS, MEASURES, Entry

__all__ = [
    "differences",
    "figures",
    "lead",
    "leaderboard",
    "pairs_of",
    "part_of_differences",
    "places",
    "runs",
    "runs_table",
]

_One = TypeVar("_One")

_MOST_PAIRS = 6
_MOST_DOTS = 3


def lead(shown: Shown) -> str:
    """Return what was found, in two or three sentences, as HTML."""
    first, blind = shown.models[0], shown.blind
    rows = first.scored.predictions
    pictures = len({one.image or one.id for one in rows})
    absent = sum(one.right.absent for one in rows)
    patients = len(set(first.scored.groups))
    asked = (
        f"{_counted(len(rows), 'question')} about {_counted(pictures, 'picture')} of {_counted(patients, 'patient')}"
    )
    if absent:
        asked += f", {absent:,} of them about something that isn't there"
    told = f"{asked}. {html.escape(first.name)} reaches a mean box IoU of {_told(first)}"
    if blind is not None:
        told += f"; the best guess without a look at the picture ({html.escape(blind.name)}) {_told(blind)}"
    return f"{told}."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _told(entry: Entry) -> str:
    return figure_html(cell(entry.scored, MEASURES["box_iou"]))


def figures(shown: Shown) -> Part:
    """Return the one table, and the one picture: how many answers are how good."""
    table = tables.headline(shown.entries)
    terms = "".join(
        f"<dt>{html.escape(column.title)}</dt><dd>{html.escape(column.told)}</dd>" for column in table.columns
    )
    series = [
        Series(entry.name, shown.look(entry), _success(entry), f"{_mean(entry):.2f}")
        for entry in shown.entries
        if entry.kind != "oracle"
    ]
    drawn = both(
        lambda width: plots.lines(
            series[::-1],
            across="box IoU of at least",
            up="share of questions",
            alt="Share of questions whose answered box reaches an IoU, for each model and baseline.",
            width=width,
        )
    )
    baselines = (
        "Grey: baselines. Those that never look at the picture show how much of the task is solved without it; the "
        "true box shows what the segmenter adds."
    )
    intervals = f"Below each figure is its 95 % interval, from {ROUNDS:,} resamples of patients."
    note = f"{intervals} {baselines}{_lacking(shown)}{_other_rows(shown)}"
    more = tables.further(shown.entries)
    content = (
        f"{table_html(table)}<p class=note>{note}</p>"
        f'<div class="plots side"><div>{drawn}</div><div><h3>How many answers are how good</h3>{legend(series)}'
        "<p class=note>The share of present targets whose box reaches an IoU. The area under a line is its mean, given "
        "beside the name.</p></div></div>"
        "<details><summary>What the columns and baselines are</summary>"
        f"<dl class=terms>{terms}{_baselines(shown)}</dl></details>{_folded(more)}"
    )
    return Part("figures", "Figures", "Figures", content, (table, more))


def _folded(table: Table) -> str:
    return f"<details><summary>{html.escape(table.title)}</summary>{table_html(table)}</details>"


def _lacking(shown: Shown) -> str:
    """Return which baselines are missing, wholly or but for their masks, and how they come into the table."""
    runs = {shown.reasoner(each) for each in shown.baselines if "data" in each.scored.run.info}
    lacking = [name for name in BASELINES if name not in runs and name != "oracle"]
    if np.isnan(shown.models[0].scored.column("dice")).all():  # without masks the report knows the others fully
        lacking = [name for name in lacking if name == "category-prior"]
    if not lacking:
        return ""
    return f" For all figures of {', '.join(lacking)}, run medground eval with --reasoner baseline:NAME."


def _other_rows(shown: Shown) -> str:
    """Return a warning where figures stand beside each other that aren't of the same rows."""
    rows = {one.id for one in shown.models[0].scored.predictions}
    others = [each.name for each in shown.entries if {one.id for one in each.scored.predictions} != rows]
    if not others:
        return ""
    return f" <b>Not on the same rows as {html.escape(shown.models[0].name)}: {html.escape(', '.join(others))}.</b>"


def _mean(entry: Entry) -> float:
    return float(np.nanmean(entry.scored.column("box_iou")))


def _success(entry: Entry) -> list[tuple[float, float]]:
    values = entry.scored.column("box_iou")
    values = values[~np.isnan(values)]
    # At 0 any overlap at all: "at least 0" would be so of every answer.
    shares = [float((values > 0).mean()), *(float((values >= step / 50).mean()) for step in range(1, 51))]
    return [(step / 50, share) for step, share in enumerate(shares)]


def _baselines(shown: Shown) -> str:
    return "".join(
        f"<dt>{html.escape(entry.name)}</dt><dd>Baseline: {html.escape(BASELINES[name])}.</dd>"
        for entry in shown.baselines
        if (name := shown.reasoner(entry)) in BASELINES
    )


def differences(shown: Shown) -> Part | None:
    """Return how much better which run is, pair by pair on the same rows; None where there is no pair."""
    pairs = pairs_of(shown.models)
    if shown.blind is not None:
        pairs += [(each, shown.blind) for each in shown.models]
    return part_of_differences(tables.differences(pairs)) if pairs else None


def pairs_of(models: Sequence[_One]) -> list[tuple[_One, _One]]:
    """Return all pairs of models, or the first with each other one where those would be many.

    Examples
    --------
    >>> pairs_of("abc"), len(pairs_of("abcde"))
    ([('a', 'b'), ('a', 'c'), ('b', 'c')], 4)
    """
    pairs = list(combinations(models, 2))
    return pairs if len(pairs) <= _MOST_PAIRS else [(models[0], each) for each in models[1:]]


def part_of_differences(table: Table) -> Part:
    """Return the section that shows a table of paired differences."""
    note = (
        "The first less the second on the rows that both answered, with the interval of a paired bootstrap over "
        "patients; in bold where it leaves out 0. Where many pairs are compared, some will by chance."
    )
    return Part(
        "differences", "Differences", "Paired differences", f"<p class=note>{note}</p>{table_html(table)}", (table,)
    )


def places(shown: Shown) -> Part:
    """Return the figures by category, modality and the like, and a plot of the categories."""
    entries = [*shown.models, *([shown.blind] if shown.blind else [])]
    made = [table for table in (tables.breakdown(entries, by) for by in BREAKDOWNS) if len(table.lines) > 1]
    content = "".join(_category_plot(shown, table) for table in made if table.name == "by-category")
    content += "".join(map(_folded, made))
    return Part("where", "Where it works", "Where it works", content, tuple(made))


def _category_plot(shown: Shown, table: Table) -> str:
    of = {column.group: at for at, column in enumerate(table.columns) if column.title == MEASURES["box_iou"].title}
    entries = [*shown.models[:_MOST_DOTS], *([shown.blind] if shown.blind else [])]
    rows = []
    for line in table.lines:
        dots = tuple(_dot(line.cells[of[entry.name]], shown.look(entry)) for entry in entries)
        rows.append(DotRow(line.name, int(str(line.cells[0])), dots))
    rows.sort(key=lambda row: -row.dots[0].value)
    drawn = both(
        lambda width: plots.dots(
            rows, across="mean box IoU", alt="Mean box IoU of each category, with its interval.", width=width
        )
    )
    names = legend([Series(entry.name, shown.look(entry), shape="dot") for entry in entries], across=True)
    return (
        "<p class=note>Mean box IoU by category with its 95 % interval, the best first. Few rows or patients make wide "
        f"intervals, and of one patient there is none.</p>{names}<div class=plots><div>{drawn}</div></div>"
    )


def _dot(value: Cell | str | int, look: str) -> Dot:
    if not isinstance(value, Cell):
        raise TypeError("a dot is drawn for a figure")
    # A baseline's interval would lie over the models', and its box is the same for all of a category.
    bare = look.startswith("b") or not value.low < value.high
    return Dot(look, value.value) if bare else Dot(look, value.value, value.low, value.high)


def leaderboard(shown: Shown) -> Part:
    """Return the table in the layout of the paper's."""
    entries = [*shown.models, *([shown.blind] if shown.blind else [])]
    table = tables.leaderboard(entries)
    note = (
        "Box IoU, pDice as the paper's code has it (0 to 2), and Dice of the mask that the segmenter draws for the "
        "points (P), the box (B) and both (P+B); of several masks the one that it scores highest. What can't be read "
        "counts 0, and rows with an absent target are left out. Figures compare with the paper's on its own test set "
        "alone."
    )
    return Part(
        "leaderboard", "Leaderboard", "In the paper's layout", f"<p class=note>{note}</p>{table_html(table)}", (table,)
    )


_TOLD = ("reasoner", "segmenter", "mode", "split", "variant", "samples", "temperature", "seed", "template", "data")


def runs(shown: Shown) -> Part:
    """Return what was run: the settings that decide the answers, and what the answers cost."""
    entries = [*shown.entries, *(each.entry for each in shown.changed), *shown.validation.values()]
    # Baselines that the report made itself have no run of their own.
    entries = [each for each in entries if "data" in each.scored.run.info and not shown.derived(each)]
    table = runs_table([(entry.name, entry.scored.run.info, entry.scored.predictions) for entry in entries])
    versions = shown.models[0].scored.run.info.get("versions") or {}
    made = ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, dict) else ""
    note = f"<p class=note>{html.escape(shown.models[0].name)} was run with {html.escape(made)}.</p>" if made else ""
    return Part("runs", "Runs", "Runs", f"{table_html(table)}{note}", (table,))


def runs_table(runs: Sequence[tuple[str, Mapping[str, Any], Sequence[Answered]]]) -> Table:
    """Return a table of runs, each given by its name, its settings and its lines: what was asked, and what it cost."""
    told = [[_setting(info.get(name)) for name in _TOLD] for _, info, _ in runs]
    at = [place for place in range(len(_TOLD)) if any(row[place] for row in told)]
    lines = tuple(
        Line(name, (_rows(info, len(answered)), *(row[place] for place in at), *_cost(answered)))
        for (name, info, answered), row in zip(runs, told, strict=True)
    )
    columns = (
        Column("rows"),
        *(Column(_TOLD[place]) for place in at),
        Column("tokens"),
        Column("s", "Seconds an answer."),
    )
    return Table("runs", "Runs", "run", columns, lines)


def _rows(info: Mapping[str, Any], have: int) -> str:
    """Return how many rows a run has, and of how many where some are missing."""
    data = info.get("data")
    whole = data.get("rows") if isinstance(data, dict) else None
    return f"{have:,}" if whole in (None, have) else f"{have:,} of {whole:,}"


def _cost(answered: Sequence[Answered]) -> tuple[str, str]:
    """Return mean tokens and mean seconds of an answer."""
    tokens = [one.tokens for one in answered if one.tokens is not None]
    seconds = [sum(one.seconds.values()) for one in answered if one.seconds]
    return f"{np.mean(tokens):.0f}" if tokens else "", f"{np.mean(seconds):.2f}" if seconds else ""


def _setting(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name") or str(value.get("digest") or "")[:12])
    return "" if value is None else str(value)

"""The tables of a report: the first one, breakdowns, the paper's layout, differences between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medground.evaluate.cells import SIZES, Column, Line, Measure, Measured, Table, cell, difference, field
from medground.evaluate.score import Scored

__all__ = [
    "BREAKDOWNS",
    "FURTHER",
    "MEASURES",
    "PAPER",
    "Entry",
    "Kind",
    "across",
    "breakdown",
    "compared",
    "differences",
    "further",
    "headline",
    "leaderboard",
    "robustness",
]

Kind = Literal["model", "blind", "oracle", "other"]

MEASURES: dict[str, Measure] = {
    "box_iou": Measure(
        "Box IoU", "Intersection over union of the answered and the true box; no box counts 0.", "box_iou"
    ),
    "box_iou_categories": Measure(
        "Macro IoU",
        "Mean of the categories' mean box IoU: each counts the same.",
        "box_iou",
        over="category",
    ),
    "acc_50": Measure("IoU ≥ 0.5", "Share of answers whose box has an IoU of at least 0.5.", "acc_50"),
    "dice": Measure("Dice", "Dice of the mask that the segmenter draws for the answer; no mask counts 0.", "dice"),
    "pdice": Measure("pDice", "Dice of the two discs that the answered and the true key points span.", "pdice"),
    "pointing": Measure("Points", "Share of the two key points that lie on the target.", "pointing"),
    "absence": Measure(
        "Presence",
        "Share of answers that tell rightly whether the target is there; mean of present and absent targets.",
        "absence",
        over="absent",
    ),
    "claims": Measure(
        "Claims true",
        "Of all claims in the reasoning that pixels can confirm or refute, the share that is true.",
        "claims_true",
        bottom="claims",
    ),
    "readable": Measure("Readable", "Share of answers from which a location, or absence, could be read.", "readable"),
}
"""What the first table shows, by name; all are shares, 0 to 1, the more the better."""

FURTHER: dict[str, Measure] = {
    "sampled_box_iou": Measure("Sampled IoU", "Box IoU of the sampled answers, their mean.", "sampled_box_iou"),
    "sampled_readable": Measure(
        "Sampled readable", "Share of the sampled answers that can be read.", "sampled_readable"
    ),
    "consistency": Measure(
        "Points in box", "Share of the answer's own key points that lie in its own box.", "consistency"
    ),
    "hd95": Measure(
        "HD95, px",
        "95th percentile of the distances between the masks' outlines; the less the better. No mask: the diagonal.",
        "hd95",
        places=1,
    ),
}
"""What is told of the same entries beneath the first table."""

PAPER = {
    "box_iou": Measure("IoU", "Box IoU", "box_iou"),
    "pdice_paper": Measure("pDice", "As the paper's code has it: 0 to 2, twice the discs' IoU.", "pdice_paper"),
    "dice_points": Measure("P", "Dice of the mask for the two points alone", "dice_points"),
    "dice_box": Measure("B", "Dice of the mask for the box alone", "dice_box"),
    "dice_both": Measure("P+B", "Dice of the mask for both", "dice_both"),
    "readable": Measure("Read", "Share of answers that could be read; the others count 0", "readable"),
}

BREAKDOWNS = {
    "supercategory": "By super-category",
    "category": "By category",
    "modality": "By modality",
    "source": "By source",
    "size": "By size of the target",
    "style": "By style of the question",
}


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A run as it is shown.

    Parameters
    ----------
    name : str
        Unique on the page.
    kind : {"model", "blind", "oracle", "other"}
        A model; a baseline that doesn't look at the picture; the true box, handed to the segmenter. Among several
        models the best figures are in bold; where less is better they are ``"other"``.
    scored : Scored
    """

    name: str
    kind: Kind
    scored: Scored


def headline(entries: Sequence[Entry]) -> Table:
    """Return the first table: entries down, `MEASURES` across; those that no entry has are left out."""
    rows = [(each.name, each.scored, each.kind) for each in entries]
    return across("figures", "Figures", rows, list(MEASURES.values()))


def further(entries: Sequence[Entry]) -> Table:
    """Return `FURTHER` of the models; those that none has are left out."""
    models = [(each.name, each.scored, "other") for each in entries if each.kind == "model"]
    return across("further", "Further figures", models, list(FURTHER.values()))


def across(name: str, title: str, rows: Sequence[tuple[str, Measured, str]], measures: Sequence[Measure]) -> Table:
    """Return a table of models, each with its name and kind, down and measures across; what none has is left out."""
    made = [(told, [cell(scored, each) for each in measures], kind) for told, scored, kind in rows]
    shown = [at for at in range(len(measures)) if any(cells[at].n for _, cells, _ in made)]
    columns = tuple(Column(measures[at].title, measures[at].told, places=measures[at].places) for at in shown)
    lines = tuple(Line(told, tuple(cells[at] for at in shown), kind) for told, cells, kind in made)
    return Table(name, title, "model", columns, lines)


def breakdown(entries: Sequence[Entry], by: str, names: Sequence[str] = ("box_iou", "dice")) -> Table:
    """Return figures by a field of `BREAKDOWNS`: its values down, entries across.

    Parameters
    ----------
    entries : sequence of Entry
    by : str
        One of `BREAKDOWNS`.
    names : sequence of str
        Of `MEASURES`; a figure that no row of an entry has is left out.
    """
    columns: list[tuple[Entry, Measure]] = [
        (entry, MEASURES[name])
        for entry in entries
        for name in names
        if not np.isnan(entry.scored.column(MEASURES[name].top)).all()
    ]
    known = {each.id: field(each, by) for each in entries[0].scored.predictions}
    of = {
        id(entry): np.asarray([known.get(each.id) or field(each, by) for each in entry.scored.predictions])
        for entry in entries
    }
    there = ~np.isnan(entries[0].scored.column(MEASURES[names[0]].top))
    values, counts = np.unique(of[id(entries[0])][there], return_counts=True)
    found = sorted(zip(values.tolist(), counts.tolist(), strict=True), key=_order(by))
    lines = [
        Line(value, (count, *(cell(entry.scored, measure, of[id(entry)] == value) for entry, measure in columns)))
        for value, count in found
    ]
    heads = (Column("rows"), *(Column(measure.title, measure.told, entry.name) for entry, measure in columns))
    return Table(f"by-{by}", BREAKDOWNS[by], by.replace("supercategory", "super-category"), heads, tuple(lines))


def _order(by: str) -> Callable[[tuple[str, int]], Any]:
    return (lambda each: SIZES.index(each[0])) if by == "size" else (lambda each: (-each[1], each[0]))


def leaderboard(entries: Sequence[Entry]) -> Table:
    """Return the layout of the paper's leaderboard: super-categories down, and for each entry its figures across.

    Box IoU, pDice as the paper's code has it, Dice of the masks for points, box and both (of each the mask that the
    segmenter scores highest), and the share of answers that could be read; what couldn't be counts 0. Rows with an
    absent target, of which the paper has none, are left out.
    """
    present = {id(entry): ~np.isnan(entry.scored.column("box_iou")) for entry in entries}
    columns = [
        (entry, measure)
        for entry in entries
        for measure in PAPER.values()
        if not np.isnan(entry.scored.column(measure.top)).all()
    ]
    groups = {
        id(entry): np.asarray([field(each, "supercategory") for each in entry.scored.predictions]) for entry in entries
    }
    first = entries[0]
    names, counts = np.unique(groups[id(first)][present[id(first)]], return_counts=True)
    order = sorted(zip(names.tolist(), counts.tolist(), strict=True))
    lines = [
        Line(
            name,
            (
                count,
                *(
                    cell(entry.scored, measure, present[id(entry)] & (groups[id(entry)] == name))
                    for entry, measure in columns
                ),
            ),
        )
        for name, count in order
    ]
    whole = (cell(entry.scored, measure, present[id(entry)]) for entry, measure in columns)
    lines.append(Line("all", (sum(counts.tolist()), *whole), "total"))
    heads = (Column("rows"), *(Column(measure.title, measure.told, entry.name) for entry, measure in columns))
    return Table("leaderboard", "The paper's leaderboard", "super-category", heads, tuple(lines))


_COMPARED = tuple(MEASURES[name] for name in ("box_iou", "box_iou_categories", "dice", "pdice", "absence", "claims"))


def differences(pairs: Sequence[tuple[Entry, Entry]]) -> Table:
    """Return paired differences, the first of each pair less the second."""
    named = [(f"{a.name} − {b.name}", a.scored, b.scored) for a, b in pairs]
    return compared("differences", "Paired differences", "pair", named, _COMPARED)


def robustness(changed: Sequence[tuple[str, Entry, Entry]]) -> Table:
    """Return how much is lost when pictures or questions are changed.

    Parameters
    ----------
    changed : sequence of (change, Entry, Entry)
        The name of a change, the run without it and the run with it.
    """
    named = [(f"{clean.name}: {change}", entry.scored, clean.scored) for change, clean, entry in changed]
    return compared("robustness", "Robustness", "change", named, _COMPARED)


def compared(
    name: str, title: str, corner: str, pairs: Sequence[tuple[str, Measured, Measured]], measures: Sequence[Measure]
) -> Table:
    """Return a table of named pairs down and measures across: the first less the second; what none has is left out."""
    found = [(told, [difference(a, b, each) for each in measures]) for told, a, b in pairs]
    kept = [at for at in range(len(measures)) if any(cells[at].n for _, cells in found)]
    columns = tuple(Column(measures[at].title, measures[at].told, places=3, signed=True) for at in kept)
    return Table(
        name, title, corner, columns, tuple(Line(told, tuple(cells[at] for at in kept)) for told, cells in found)
    )

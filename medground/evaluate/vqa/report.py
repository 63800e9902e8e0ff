"""The report of runs on visual questions: one HTML page that asks nothing of any network, and the same as Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from medground.errors import ConfigError
from medground.evaluate.cells import ROUNDS, cell
from medground.evaluate.gallery import Where
from medground.evaluate.markup import Part, figure_html, table_html
from medground.evaluate.roles import told_apart
from medground.evaluate.sections import pairs_of, part_of_differences, runs_table
from medground.evaluate.vqa import gallery, tables
from medground.evaluate.vqa.baselines import VISUAL_BASELINES
from medground.evaluate.vqa.score import VisualScored
from medground.evaluate.vqa.tables import BREAKDOWNS, MEASURES, PARTING, VisualEntry

__all__ = ["entries_of", "lead", "parts"]

_TITLES = {
    "frequent-answer": "most frequent answer",
    "random-answer": "random answer",
    "text-only": "words alone",
    "truth": "the truth itself",
}


def entries_of(scored: Sequence[VisualScored]) -> list[VisualEntry]:
    """Return runs as they are shown, models first, with the shortest names that tell them apart.

    Raises
    ------
    ConfigError
        When a run is empty or given twice, shares no row with the first, or none is a model's.
    """
    names = []
    for one in scored:
        if not one.predictions:
            raise ConfigError(f"{one.run.folder}: has no predictions yet; wait for medground eval, or leave it out")
        name = str(_reasoner(one).get("name") or one.run.name)
        names.append(_TITLES.get(name, name) if "baseline" in _reasoner(one) else name)
    runs = [one.run for one in scored]
    names = told_apart(runs, names, [str(run.info.get("mode", "")) for run in runs], [run.name for run in runs])
    kinds: list[VisualEntry] = []
    for name, one in zip(names, scored, strict=True):
        baseline = _reasoner(one).get("name") if "baseline" in _reasoner(one) else None
        kinds.append(
            VisualEntry(name, "model" if baseline is None else "oracle" if baseline == "truth" else "blind", one)
        )
    found = sorted(kinds, key=lambda each: ("model", "blind", "oracle").index(each.kind))
    if found[0].kind != "model":
        raise ConfigError("a report needs a run of a model beside the baselines; give one")
    rows = {each.id for each in found[0].scored.predictions}
    for each in found:
        if not rows & {one.id for one in each.scored.predictions}:
            raise ConfigError(f"{each.scored.run.folder}: is on other rows than {found[0].scored.run.folder}")
    return found


def _reasoner(one: VisualScored) -> dict[str, Any]:
    told = one.run.info.get("reasoner")
    return told if isinstance(told, dict) else {}


def lead(entries: Sequence[VisualEntry]) -> str:
    """Return what was found, in two or three sentences, as HTML."""
    first = entries[0]
    rows = first.scored.predictions
    pictures, patients = len({one.image or one.id for one in rows}), len(set(first.scored.groups))
    told = (
        f"{len(rows):,} visual questions about {pictures:,} pictures of {patients:,} patients. "
        f"{html.escape(first.name)} answers {_figure(first, 'types')} rightly, mean of the types of question, and "
        f"locates their regions with a V-score of {_figure(first, 'v_score')}"
    )
    blind = [each for each in entries if each.kind == "blind"]
    if blind:
        best = max(blind, key=lambda each: float(np.nanmean(each.scored.column("worth"))))
        told += f"; without a look at the picture ({html.escape(best.name)}) it is {_figure(best, 'types')}"
    return f"{told}."


def _figure(entry: VisualEntry, name: str) -> str:
    return figure_html(cell(entry.scored, MEASURES[name]))


def parts(entries: Sequence[VisualEntry], where: Where) -> list[Part]:
    """Return the sections in the order of the page."""
    made = [
        _figures(entries),
        _types(entries),
        _parting(entries),
        _differences(entries),
        _where(entries),
        gallery.section(entries[0], where),
        _runs(entries),
    ]
    return [part for part in made if part is not None]


def _figures(entries: Sequence[VisualEntry]) -> Part:
    table = tables.headline(entries)
    judges = sorted({entry.scored.judge or "the offline judge" for entry in entries})
    rows = {one.id for one in entries[0].scored.predictions}
    others = [each.name for each in entries if {one.id for one in each.scored.predictions} != rows]
    note = (
        f"Below each figure is its 95 % interval, from {ROUNDS:,} resamples of patients. Grey: baselines, which don't "
        f"look at the picture. Open questions were judged by {', '.join(judges)}."
    )
    if others:
        note += f" Not of the same rows as the first: {', '.join(others)}."
    terms = [(column.title, column.told) for column in table.columns]
    terms += [
        (each.name, VISUAL_BASELINES[key]) for each in entries for key, title in _TITLES.items() if title == each.name
    ]
    listed = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(told)}</dd>" for name, told in terms)
    content = (
        f"{table_html(table)}<p class=note>{html.escape(note)}</p>"
        f"<details><summary>What the columns and baselines are</summary><dl class=terms>{listed}</dl></details>"
    )
    return Part("figures", "Figures", "Figures", content, (table,))


def _types(entries: Sequence[VisualEntry]) -> Part:
    made = [tables.by_type(entry) for entry in entries if entry.kind == "model"]
    content = "".join(
        f"<h3>{html.escape(entry.name)}</h3>{table_html(table)}" for entry, table in zip(entries, made, strict=False)
    )
    return Part("types", "By type", "By type of question", content, tuple(made))


def _parting(entries: Sequence[VisualEntry]) -> Part | None:
    table = tables.parting([entry for entry in entries if entry.kind != "oracle"])
    if not table.columns:
        return None
    told = " ".join(each.told for each in PARTING.values())
    note = f"{told} A right answer with wrong regions doesn't rest on them."
    return Part(
        "parting",
        "Answer and regions",
        "Where answer and regions part",
        f"{table_html(table)}<p class=note>{html.escape(note)}</p>",
        (table,),
    )


def _differences(entries: Sequence[VisualEntry]) -> Part | None:
    models, blind = ([each for each in entries if each.kind == kind] for kind in ("model", "blind"))
    pairs = [*pairs_of(models), *((models[0], each) for each in blind)]
    return part_of_differences(tables.differences(pairs)) if pairs else None


def _where(entries: Sequence[VisualEntry]) -> Part | None:
    shown = [each for each in entries if each.kind == "model"]
    made = [table for by in BREAKDOWNS if len((table := tables.breakdown(shown, by)).lines) > 1]
    if not made:
        return None
    content = "".join(
        f"<details><summary>{html.escape(table.title)}</summary>{table_html(table)}</details>" for table in made
    )
    return Part("where", "Where it works", "Where it works", content, tuple(made))


def _runs(entries: Sequence[VisualEntry]) -> Part:
    table = runs_table([(entry.name, entry.scored.run.info, entry.scored.predictions) for entry in entries])
    return Part("runs", "Runs", "Runs", table_html(table), (table,))

"""The tables of a report on visual questions: figures by type, where answer and regions part, differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medground.evaluate.cells import Column, Line, Measure, Table, cell, field
from medground.evaluate.tables import across, compared
from medground.evaluate.vqa.score import VisualScored

__all__ = [
    "BREAKDOWNS",
    "COMPARED",
    "MEASURES",
    "PARTING",
    "TYPES",
    "VisualEntry",
    "breakdown",
    "by_type",
    "differences",
    "headline",
    "parting",
]

MEASURES = {
    "closed": Measure("Closed", "Share of yes-or-no questions that are answered rightly.", "closed"),
    "single": Measure("Single", "Share of single-choice questions whose right choice is named.", "single"),
    "multi": Measure("Multi", "Share of multi-choice questions for which exactly the right set is named.", "multi"),
    "open": Measure("Open", "Mean verdict of the judge on answers to open questions, 0 to 1.", "open"),
    "types": Measure(
        "All types", "Mean of the types' figures: each type counts the same.", "worth", over="question_type"
    ),
    "v_score": Measure(
        "V-score",
        "Mean IoU of located and true regions, paired so that it is largest; one missing or one too many counts 0.",
        "v_score",
    ),
    "located": Measure("V ≥ 0.5", "Share of answers whose V-score is at least 0.5.", "located"),
    "agreement": Measure(
        "Agreement",
        "How far the regions that the reasoning names are the final ones: their IoU, one without a partner counts 0.",
        "agreement",
    ),
    "readable": Measure("Readable", "Share of answers that can be read; the others count 0 everywhere.", "readable"),
    "sampled": Measure(
        "Sampled", "Mean worth of the sampled answers, open ones by the offline judge.", "sampled_worth"
    ),
}
"""What the first table shows, by name; all are shares, 0 to 1, the more the better."""

PARTING = {
    "right_elsewhere": Measure(
        "Right answer, wrong regions",
        "Share of questions with a true region that are answered rightly with a V-score below 0.5.",
        "right_elsewhere",
    ),
    "wrong_there": Measure(
        "Wrong answer, right regions",
        "Share of questions with a true region that are answered wrongly with a V-score of at least 0.5.",
        "wrong_there",
    ),
}
"""Where answer and regions part; the less the better."""

TYPES = {"open": "open", "closed": "closed", "single_choice": "single choice", "multi_choice": "multi choice"}

BREAKDOWNS = {"modality": "By modality", "source": "By source", "style": "By style of the question"}

COMPARED = ("closed", "single", "multi", "open", "types", "v_score", "agreement", "right_elsewhere", "wrong_there")

_ALL = {**MEASURES, **PARTING}


@dataclass(frozen=True, slots=True, eq=False)
class VisualEntry:
    """A run as it is shown.

    Parameters
    ----------
    name : str
        Unique on the page.
    kind : {"model", "blind", "oracle"}
        A model; a baseline that doesn't look at the picture; the rows' own answers.
    scored : VisualScored
    """

    name: str
    kind: Literal["model", "blind", "oracle"]
    scored: VisualScored


def headline(entries: Sequence[VisualEntry]) -> Table:
    """Return the first table: entries down, `MEASURES` across; those that no entry has are left out."""
    rows = [(each.name, each.scored, each.kind) for each in entries]
    return across("figures", "Figures", rows, list(MEASURES.values()))


def parting(entries: Sequence[VisualEntry]) -> Table:
    """Return how often answer and regions part, over all questions with a true region."""
    # Less is better here, and the best would be in bold: no entry is called a model.
    rows = [(each.name, each.scored, "") for each in entries]
    return across("parting", "Answer and regions", rows, list(PARTING.values()))


def by_type(entry: VisualEntry) -> Table:
    """Return one entry's figures by type of question: types down; how many questions, answer, regions, both."""
    kinds = np.array([field(each, "question_type") for each in entry.scored.predictions])
    measures = [
        Measure("Right", "Share of right answers; for open questions the judge's mean verdict.", "worth"),
        *(_ALL[name] for name in ("v_score", "located", "agreement", "right_elsewhere", "wrong_there", "readable")),
    ]
    lines = [
        Line(title, (int((kinds == kind).sum()), *(cell(entry.scored, each, kinds == kind) for each in measures)))
        for kind, title in TYPES.items()
        if (kinds == kind).any()
    ]
    lines.append(Line("all", (len(kinds), *(cell(entry.scored, each) for each in measures)), "total"))
    heads = (Column("rows"), *(Column(each.title, each.told) for each in measures))
    return Table(f"types-of-{entry.name}", f"By type of question: {entry.name}", "type", heads, tuple(lines))


def breakdown(entries: Sequence[VisualEntry], by: str) -> Table:
    """Return answer and V-score by a field of `BREAKDOWNS`: its values down, entries across."""
    measures = (Measure("Right", "Share of right answers, open ones by the judge.", "worth"), MEASURES["v_score"])
    of = {id(entry): np.array([field(each, by) for each in entry.scored.predictions]) for entry in entries}
    values, counts = np.unique(of[id(entries[0])], return_counts=True)
    order = sorted(zip(values.tolist(), counts.tolist(), strict=True), key=lambda each: (-each[1], each[0]))
    lines = [
        Line(
            value,
            (count, *(cell(entry.scored, each, of[id(entry)] == value) for entry in entries for each in measures)),
        )
        for value, count in order
    ]
    heads = (Column("rows"), *(Column(each.title, each.told, entry.name) for entry in entries for each in measures))
    return Table(f"by-{by}", BREAKDOWNS[by], by, heads, tuple(lines))


def differences(pairs: Sequence[tuple[VisualEntry, VisualEntry]]) -> Table:
    """Return paired differences, the first of each pair less the second, on the rows that both answered."""
    named = [(f"{a.name} − {b.name}", a.scored, b.scored) for a, b in pairs]
    return compared("differences", "Paired differences", "pair", named, [_ALL[each] for each in COMPARED])

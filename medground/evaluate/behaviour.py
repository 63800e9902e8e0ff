"""The sections of a report that say how answers fail, whether they are true and sure, and what disturbs them."""

from __future__ import annotations

import html
import math
from collections import Counter

import numpy as np
import numpy.typing as npt

from medground.evaluate import cases, plots, tables
from medground.evaluate.cells import Cell, Column, Line, Measure, Table, cell
from medground.evaluate.confidence import (
    COVERAGES,
    Calibration,
    Sure,
    assess,
    choose_threshold,
    halves,
    outcome,
    read_confidence,
)
from medground.evaluate.markup import Part, table_html
from medground.evaluate.plots import Dot, DotRow, Series, both, legend
from medground.evaluate.roles import Shown
from medground.evaluate.tables import Entry

__all__ = ["claims", "confidence", "fates", "robustness", "self_check"]

_PAIR = 480
"""Width of a plot that has another beside it, in CSS pixels."""


def fates(shown: Shown) -> Part:
    """Return what became of the answers."""
    counts = [Counter(map(cases.fate, entry.scored.predictions, entry.scored.figures)) for entry in shown.models]
    names = [name for name in cases.FATES if any(found[name] for found in counts)]
    looks = {name: f"f{at}" for at, name in enumerate(cases.FATES)}
    columns = tuple(Column(title, "", entry.name) for entry in shown.models for title in ("answers", "share"))
    lines = tuple(
        Line(
            cases.FATES[name],
            tuple(each for found in counts for each in (found[name], _percent(found[name], found.total()))),
        )
        for name in names
    )
    table = Table("fates", "How answers fail", "answer", columns, lines)
    rows = [
        (entry.name, [(cases.FATES[name], looks[name], found[name]) for name in names])
        for entry, found in zip(shown.models, counts, strict=True)
    ]
    drawn = both(lambda width: plots.bars(rows, alt="Shares of what became of the answers.", width=width), wide=_WHOLE)
    named = legend([Series(cases.FATES[name], looks[name], shape="square") for name in names], across=True)
    content = (
        "<p class=note>Each answer counts once, under the gravest thing that is wrong with it.</p>"
        f"<div class=plots><div>{drawn}{named}</div></div><details><summary>In numbers</summary>{table_html(table)}"
        "</details>"
    )
    return Part("fates", "Failures", "How answers fail", content, (table,))


_WHOLE = 1000


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def claims(shown: Shown) -> Part | None:
    """Return how much of what the reasoning says is true, by what it is about; None where nothing can be checked."""
    found = [(entry, cases.facets(entry.scored)) for entry in shown.models]
    found = [(entry, facets) for entry, facets in found if facets]
    if not found:
        return None
    names = sorted({name for _, facets in found for name in facets})
    columns = tuple(Column(title, "", entry.name) for entry, _ in found for title in ("claims", "true"))
    rows = [(name, [facets.get(name, (0, 0)) for _, facets in found]) for name in names]
    whole = [(sum(count for count, _ in each.values()), sum(true for _, true in each.values())) for _, each in found]
    rows.append(("all", whole))
    lines = tuple(
        Line(
            name,
            tuple(each for count, true in counts for each in (count, _percent(true, count))),
            "total" if name == "all" else "",
        )
        for name, counts in rows
    )
    table = Table("claims", "Is the reasoning true?", "claim about", columns, lines)
    note = (
        "What the reasoning says of its target that pixels can confirm or refute. A claim is held to the true target, "
        "so that it is false, too, where the answer means another place."
    )
    return Part(
        "claims", "Reasoning", "Is the reasoning true?", f"<p class=note>{note}</p>{table_html(table)}", (table,)
    )


def self_check(shown: Shown) -> Part | None:
    """Return what it tells that the drawn mask confirms the reasoning; None where no run has it."""
    known = [entry for entry in shown.models if np.nansum(entry.scored.column("held")) > 0]
    if not known:
        return None
    columns = tuple(Column(title, "", entry.name) for entry in known for title in ("claims", "true"))
    lines = []
    for title, name in (("the mask agrees", "confirmed"), ("the mask speaks against it", "refuted")):
        true = Measure("True", "", f"{name}_true", bottom=name)
        counted = ((int(np.nansum(entry.scored.column(name))), cell(entry.scored, true)) for entry in known)
        lines.append(Line(title, tuple(each for pair in counted for each in pair)))
    of_claims = Table("self-check", "Are confirmed claims true?", "claim", columns, tuple(lines))

    worth = [tables.MEASURES[name] for name in ("box_iou", "dice")]
    titles = ("answers", *(each.title for each in worth))
    columns = tuple(Column(title, "", entry.name) for entry in known for title in titles)
    kinds = ("it agrees with all of them", "it speaks against one or more", "nothing is claimed that it can tell")
    answers = []
    for kind, title in enumerate(kinds):
        cells: list[int | Cell] = []
        for entry in known:
            there = _kinds(entry) == kind
            cells += [int(there.sum()), *(cell(entry.scored, each, there) for each in worth)]
        answers.append(Line(title, tuple(cells)))
    of_answers = Table("self-checked", "What the mask says of the claims", "the mask", columns, tuple(answers))
    note = (
        "The claims of the reasoning, held against the mask that was drawn for the answer instead of the true target; "
        "medground says so with each answer, for it takes no truth. Of questions whose target is there, and of answers "
        "whose mask was measured."
    )
    content = f"<p class=note>{note}</p>{table_html(of_claims)}{table_html(of_answers)}"
    return Part("self-check", "Self-check", "Does the mask agree with the reasoning?", content, (of_claims, of_answers))


def _kinds(entry: Entry) -> npt.NDArray[np.int64]:
    """Return 0 for answers whose claims the mask confirms, 1 where it refutes one, 2 without claims, else -1."""
    held, against = entry.scored.column("held"), entry.scored.column("spoken_against")
    return np.select([np.isnan(held), against > 0, held > 0], [-1, 1, 0], 2)


def confidence(shown: Shown) -> Part | None:
    """Return whether the agreement of samples tells which answers are good; None where none were drawn."""
    parts = {each.name: _parts(shown, each) for each in shown.models if _sampled(each)}
    known = [each for each in shown.models if each.name in parts and all(len(part.worth) for part in parts[each.name])]
    if not known:
        return None
    risks: list[Series] = []
    beliefs: list[Series] = []
    lines: list[Line] = []
    choices: list[Line] = []
    for entry in known:
        chosen_on, judged = parts[entry.name]
        found = assess(judged)
        fitted = Calibration.fit(chosen_on).apply(judged.confidence)
        after = assess(Sure(fitted, judged.worth, judged.groups))
        curve, look = found.curve, shown.look(entry)
        # A risk of a handful of answers says nothing.
        places = np.unique(np.linspace(len(curve.risk) // 20, len(curve.risk) - 1, 120).astype(int))
        line = list(zip(curve.coverage[places].tolist(), curve.risk[places].tolist(), strict=True))
        risks.append(Series(entry.name, look, line, f"AURC {found.area:.2f}"))
        dots = list(zip(found.reliability.confidence.tolist(), found.reliability.score.tolist(), strict=True))
        beliefs.append(Series(entry.name, look, dots, f"error {found.error:.2f}", "dot"))
        values = (found.error, after.error, found.area, found.blind, found.best)
        alone = tuple(Cell(value, math.nan, math.nan, len(judged.worth)) for value in values)
        lines.append(Line(entry.name, (len(judged.worth), *alone, f"{found.gain:.0%}")))
        for coverage in (1.0, *COVERAGES):
            came = outcome(judged, choose_threshold(chosen_on, coverage=coverage) if coverage < 1 else 0.0)
            worth = Cell(came.worth, came.low, came.high, came.n)
            choices.append(
                Line(f"{entry.name}, {coverage:.0%}", (f"{came.threshold:.2f}", f"{came.coverage:.0%}", worth))
            )
    table = Table("confidence", "Agreement of sampled answers as confidence", "model", _ASSESSED, tuple(lines))
    kept = Table("abstention", "Answering only when sure", "model, coverage aimed at", _KEPT, tuple(choices))
    apart = [entry.name for entry in known if not _validated(shown, entry)]
    half = "one half of the patients, and judged on the other"
    aimed = "a validation run" if len(apart) < len(known) else half
    if apart and aimed != half:
        aimed += f" (for {', '.join(apart)}: on {half})"
    note = (
        "Confidence is the agreement of sampled answers: the mean IoU of their boxes, pair by pair. An answer's "
        "worth is its box IoU, or 1 where absence was rightly told, and its risk is 1 less that. Thresholds "
        f"and calibration were chosen on {html.escape(aimed)}."
    )
    risk = both(
        lambda width: plots.lines(
            risks, across="share of questions answered", up="risk", alt="Risk against coverage.", width=width
        ),
        wide=_PAIR,
    )
    belief = both(
        lambda width: plots.lines(
            beliefs, across="confidence", up="worth", alt="Worth against confidence.", width=width, diagonal=True
        ),
        wide=_PAIR,
    )
    content = (
        f'<p class=note>{note}</p><div class="plots pair"><div><h3>Risk when only the surest are answered</h3>{risk}'
        f"{legend(risks, across=True)}</div><div><h3>Worth of answers by confidence</h3>{belief}"
        f"{legend(beliefs, across=True)}</div></div>{table_html(table)}{table_html(kept)}"
    )
    return Part("confidence", "Confidence", "Does it know when it is wrong?", content, (table, kept))


_ASSESSED = (
    Column("answers"),
    Column("calibration error", "Expected calibration error of the agreement, in ten bins of equally many answers."),
    Column("calibrated", "The same once the agreement is calibrated by isotonic regression."),
    Column("AURC", "Area under the risk-coverage curve; the less the better."),
    Column("blind", "The same area where the order says nothing: the mean risk."),
    Column("best", "The same area where the order is perfect."),
    Column("of the way", "How much of the way from blind to best the agreement goes."),
)
_KEPT = (
    Column("threshold", "The agreement from which on questions are answered."),
    Column("answered", "Share of questions that are."),
    Column("mean worth", "Of the answers that are given."),
)


def _sampled(entry: Entry) -> bool:
    return not np.isnan(entry.scored.column("confidence")).all()


def _parts(shown: Shown, entry: Entry) -> tuple[Sure, Sure]:
    """Return what a threshold is chosen on, and what it is judged by."""
    here = read_confidence(entry.scored)
    if not _validated(shown, entry):
        return halves(here)
    return read_confidence(shown.validation[entry.name].scored), here


def _validated(shown: Shown, entry: Entry) -> bool:
    validation = shown.validation.get(entry.name)
    return validation is not None and _sampled(validation)


def robustness(shown: Shown) -> Part | None:
    """Return what is lost on changed rows; None where there are none."""
    if not shown.changed:
        return None
    table = tables.robustness([(each.variant, each.clean, each.entry) for each in shown.changed])
    rows = [
        DotRow(line.name, value.n, (Dot(shown.look(each.clean), value.value, value.low, value.high),))
        for each, line in zip(shown.changed, table.lines, strict=True)
        if isinstance(value := line.cells[0], Cell)
    ]
    ends = [end for row in rows for dot in row.dots for end in (dot.low, dot.high)]
    low, high = (
        round_(end * 10) / 10 for round_, end in ((math.floor, min(-0.1, *ends)), (math.ceil, max(0.1, *ends)))
    )
    drawn = both(
        lambda width: plots.dots(
            rows,
            across="change of the mean box IoU",
            alt="Change of the mean box IoU by perturbation.",
            width=width,
            low=low,
            high=high,
        )
    )
    note = (
        "What is lost when the same picture is turned, cut or degraded, or the same question worded otherwise: the "
        "changed run less the clean one on the same rows, with the interval of a paired bootstrap over patients."
    )
    content = f"<p class=note>{note}</p><div class=plots><div>{drawn}</div></div>{table_html(table)}"
    return Part("robustness", "Robustness", "Robustness", content, (table,))

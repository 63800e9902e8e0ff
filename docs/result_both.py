"""The section of docs/results.md on what a model for both tasks pays in grounding."""

from __future__ import annotations

from collections.abc import Iterator

from result_arms import ASKED, BOTH_TASKS, GREEDY, PAID, SAMPLED
from result_tables import Told, as_cells, as_table, plain, signed, up

from medground.evaluate.cells import Cell, Line


def both_tasks(told: Told) -> Iterator[str]:
    """Yield what a model for both tasks pays in grounding."""
    yield "## One model for both tasks"
    both = told["both"]
    if both is None:
        joint, alone = BOTH_TASKS
        named = told["shipped"] or joint
        yield f"No model for both tasks (`{named}`) was given beside one for grounding alone (`{alone}`)."
        return
    joint, alone = both["joint"], both["alone"]
    yield (
        f"`{joint}` answers both tasks, `{alone}` was trained for grounding alone; the same questions. Aimed at: no "
        f"figure of grounding more than {100 * PAID:g} point below."
    )
    for mode, found in both["less"].items():
        less = as_cells(found)
        pair = [as_cells(told["arms"][name]["modes"][mode]["figures"]) for name in (joint, alone)]
        measures = {name: each for name, each in {**GREEDY, **SAMPLED}.items() if less[name].n}
        lines = [
            Line(
                f"sampled {each.title}" if name in SAMPLED else each.title,
                (*(plain(figures[name]) for figures in pair), signed(less[name]), _paid(less[name])),
            )
            for name, each in measures.items()
        ]
        yield as_table(f"Both tasks, asked {ASKED[mode]}", "figure", [joint, alone, "difference", "aimed at"], lines)
    visual = told["visual"]
    known = as_cells(visual["arms"][joint]["figures"]) if visual and joint in visual["arms"] else None
    yield (
        f"To visual questions `{joint}` has not been asked."
        if known is None
        else f"Its answers to visual questions stand [above](#visual-questions): {plain(known['types'])} right, mean "
        f"of the types; V-score {plain(known['v_score'])}."
    )


def _paid(less: Cell) -> str:
    """Return whether a figure is no further below than it may be.

    Examples
    --------
    >>> _paid(Cell(-0.01, -0.01, 0.0, 9)), _paid(Cell(0.0, -0.02, 0.02, 9))
    ('reached', 'reached, the interval goes below')
    >>> _paid(Cell(-0.025, -0.03, -0.02, 9)), _paid(Cell(-0.025, -0.05, 0.01, 9))
    ('missed by 0.015', 'missed by 0.015, the interval holds 0')
    """
    missed = -PAID - less.value
    if missed <= 1e-9:
        return "reached" + (", the interval goes below" if less.low < -PAID - 1e-9 else "")
    return f"missed by {up(missed)}" + (", the interval holds 0" if less.high > 0 else "")

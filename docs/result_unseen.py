"""The section of docs/results.md on collections that no arm of the experiment with few labels was shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from result_arms import ASKED, FEW, GREEDY, few_base
from result_folders import Arm
from result_tables import Told, as_cells, as_table, plain, signed
from result_vqa import as_values

from medground.evaluate.cells import Line, cell, difference
from medground.evaluate.score import Scored

_SHOWN = ("box_iou", "dice", "claims")


def unseen(arms: dict[str, Arm], scored: dict[str, dict[str, Scored]]) -> dict[str, Any] | None:
    """Return figures of the test questions of collections left out whole, and of the others; None where none was."""
    few = {name: arm for name, arm in arms.items() if name in FEW and arm.trainings}
    weights = [each.settings.get("data", {}).get("weights", {}) for arm in few.values() for each in arm.trainings]
    sources = sorted({name for page in weights for name, weight in page.items() if weight == 0})
    if not sources or any(page.get(name) != 0 for page in weights for name in sources):
        return None
    told: dict[str, Any] = {"sources": sources, "rows": 0, "patients": 0, "modes": {}}
    for mode in ASKED:
        runs = {name: scored[name][mode] for name in few if mode in scored.get(name, {})}
        for name, one in runs.items():
            of_them = np.array([each.about.get("source") in sources for each in one.predictions])
            told["rows"] = int(of_them.sum())
            told["patients"] = len({group for group, counts in zip(one.groups, of_them, strict=True) if counts})
            line: dict[str, Any] = {
                part: {each: as_values(cell(one, GREEDY[each], where)) for each in _SHOWN}
                for part, where in (("unseen", of_them), ("seen", ~of_them))
            }
            if (base := few_base(name)) in runs and base != name:
                less = {each: as_values(difference(one, runs[base], GREEDY[each], of_them)) for each in _SHOWN}
                line |= {"base": base, "less": less}
            told["modes"].setdefault(mode, {})[name] = line
    return told if told["rows"] else None


def left_out_whole(told: Told) -> Iterator[str]:
    """Yield how the arms answer questions of collections that none of them was shown."""
    found = told.get("unseen")
    if not found:
        return
    named = ", ".join(f"`{name}`" for name in found["sources"])
    yield "### Collections left out whole"
    yield (
        f"No arm of this experiment was shown {named}. {found['rows']:,} of the test questions, {found['patients']:,} "
        "patients, are of them; beside their figures stand those of the other collections."
    )
    for mode, lines in found["modes"].items():
        parts = {name: (as_cells(each["unseen"]), as_cells(each["seen"])) for name, each in lines.items()}
        shown = [each for each in _SHOWN if any(cells[each].n for pair in parts.values() for cells in pair)]
        heads = [f"{GREEDY[each].title} {where}" for each in shown for where in ("left out", "others")]
        rows = [
            Line(name, tuple(plain(cells[each]) for each in shown for cells in pair)) for name, pair in parts.items()
        ]
        yield as_table(f"Left out whole, asked {ASKED[mode]}", "arm", heads, rows)
        less = [
            Line(f"{name} − {each['base']}", tuple(signed(as_cells(each["less"])[one]) for one in shown))
            for name, each in lines.items()
            if "less" in each
        ]
        if less:
            heads = [GREEDY[each].title for each in shown]
            yield as_table(f"Paired differences on what was left out, asked {ASKED[mode]}", "pair", heads, less)

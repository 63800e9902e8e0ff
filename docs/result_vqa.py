"""What docs/results.py tells of visual questions: figures of each arm, differences, and what each training took."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from result_arms import ANSWERS, PAIRS, REGIONS, THREE_WAY
from result_folders import Arm, Training, mean_of

from medground.evaluate.cells import Cell, Measure, cell, difference
from medground.evaluate.vqa.score import VisualScored

_ALL: dict[str, Measure] = {**ANSWERS, **REGIONS}


def visual(arms: dict[str, Arm]) -> dict[str, Any] | None:
    """Return all that the document says of visual questions, as JSON has it; None where nothing is known of them."""
    known = {name: arm for name, arm in arms.items() if arm.visual or (name in THREE_WAY and arm.trainings)}
    if not known:
        return None
    scored = {name: mean_of(arm.visual) for name, arm in known.items() if arm.visual}
    trained = {name: known[name].trainings for name in THREE_WAY if name in known and known[name].trainings}
    return {
        "data": _data(list(scored.values())),
        "arms": {
            name: {
                "seeds": len(known[name].visual),
                "figures": {each: as_values(cell(one, measure)) for each, measure in _ALL.items()},
            }
            for name, one in scored.items()
        },
        "differences": [
            {"of": a, "less": b, "figures": _less(scored[a], scored[b])}
            for a, b in PAIRS
            if a in scored and b in scored
        ],
        "cost": _cost(trained),
        "terms": {name: terms for name, several in trained.items() if (terms := several[0].terms())},
    }


def as_values(found: Cell) -> list[float | None]:
    """Return a figure as JSON has it: value, low, high, and the number of rows."""
    return [None if value != value else round(float(value), 5) for value in found[:3]] + [found.n]


def _less(one: VisualScored, other: VisualScored) -> dict[str, list[float | None]]:
    return {name: as_values(difference(one, other, measure)) for name, measure in _ALL.items()}


def _data(scored: list[VisualScored]) -> dict[str, Any] | None:
    """Return what the test questions are; None where nothing was evaluated."""
    if not scored:
        return None
    # Of any run with samples, where there is one.
    one = next((each for each in scored if each.run.info.get("samples")), scored[0])
    info = one.run.info
    return {
        "rows": len(one.predictions),
        "pictures": len({each.image or each.id for each in one.predictions}),
        "patients": len(set(one.groups)),
        "types": dict(Counter(each.question_type for each in one.predictions)),
        "mode": info.get("mode"),
        "digest": str(info.get("data", {}).get("digest", ""))[:12],
        "split": info.get("split"),
        "limit": info.get("limit"),
        "samples": info.get("samples", 0),
        "temperature": info.get("temperature"),
    }


def _cost(trained: dict[str, list[Training]]) -> list[dict[str, Any]]:
    """Return what each training took, alone and together with the one that it goes on from."""
    spent = {each.folder.name: each.told()["seconds"] for several in trained.values() for each in several}
    told = []
    for name, several in trained.items():
        for at, each in enumerate(several):
            page, took = each.settings, each.told()
            group = page.get("grpo", {}).get("generations", 1) if took["kind"] == "grpo" else 1
            before = Path(str(page.get("model", ""))).parent.name
            told.append({
                "arm": name,
                "run": at + 1 if len(several) > 1 else 0,
                "recipe": page.get("grpo", {}).get("vqa_recipe", "") if took["kind"] == "grpo" else "",
                "share": page.get("data", {}).get("vqa_limit"),
                "shown": took["steps"] * took["sequences"] // group,
                "after": before if before in spent else "",
                "seconds_with_start": round(took["seconds"] + spent.get(before, 0.0), 1),
                **{key: took[key] for key in ("kind", "steps", "sequences", "seconds", "finished")},
            })  # fmt: skip
    return told

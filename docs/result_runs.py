"""What docs/results.py tells, read from folders of runs: figures of each arm, as plain JSON values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from result_arms import ABLATION, BASE, BOTH_TASKS, FEW, GREEDY, HALF, MODES, SAMPLED, few_base
from result_folders import Arm, mean_of, read_arms
from result_unseen import unseen
from result_vqa import as_values, visual

from medground.errors import ConfigError
from medground.evaluate.cases import fate
from medground.evaluate.cells import Measure, cell, difference, size_of
from medground.evaluate.score import Scored


def gathered(folders: Sequence[Path], *, shipped: str | None = None, machine: str = "") -> dict[str, Any]:
    """Return all that the document says of runs, as JSON has it.

    Parameters
    ----------
    folders : sequence of path
        In each, one folder an arm.
    shipped : str, optional
        The arm that was chosen, by validation rows, to be handed out.
    machine : str
        Where the runs were made.

    Raises
    ------
    ConfigError
        When the runs can't be read or compared, or `shipped` isn't there.
    """
    arms, left_out = read_arms(folders)
    if shipped is not None and shipped not in arms:
        raise ConfigError(f"--shipped {shipped}: there is no such arm; the arms are {', '.join(arms)}")
    ours = {name: arm for name, arm in arms.items() if arm.grounds}
    scored = {name: {mode: one for mode in MODES if (one := arm.scored(mode))} for name, arm in ours.items()}
    main = shipped or next((name for name in reversed(ABLATION) if "reason" in scored.get(name, {})), None)
    told: dict[str, Any] = {
        "made": {"date": _date(arms), "machine": machine},
        "data": _data(scored),
        "shipped": shipped,
        "main": main,
        "left_out": left_out,
        "arms": {name: _arm(name, ours[name], scored) for name in ours},
        "categories": _categories(main, scored),
        "visual": visual(arms),
        "unseen": unseen(ours, scored),
        "both": _both(shipped or BOTH_TASKS[0], scored),
    }
    trained = {name: arm.trainings[0] for name, arm in ours.items() if arm.trainings}
    told["curves"] = {name: checks for name, training in trained.items() if (checks := training.checks())}
    told["terms"] = {name: terms for name, training in trained.items() if (terms := training.terms())}
    return told


def _date(arms: dict[str, Arm]) -> str:
    """Return the day on which the last of the runs ended."""
    files = [training.folder / "log.jsonl" for arm in arms.values() for training in arm.trainings]
    runs = [one.run.folder for arm in arms.values() for one in arm.evaluations]
    files += [file for folder in runs for file in folder.glob("predictions*.jsonl")]
    return datetime.fromtimestamp(max(file.stat().st_mtime for file in files), UTC).date().isoformat()


def _data(scored: dict[str, dict[str, Scored]]) -> dict[str, Any] | None:
    """Return what the test questions are; None where nothing was evaluated."""
    one = next((run for modes in scored.values() for run in modes.values()), None)
    if one is None:
        return None
    # Of any run with samples, where there is one.
    one = next((run for modes in scored.values() for run in modes.values() if run.run.info.get("samples")), one)
    info, about = one.run.info, [each.about for each in one.predictions]
    segmenter = info.get("segmenter") or {}
    return {
        "rows": len(about),
        "absent": sum(bool(each.get("absent")) for each in about),
        "patients": len(set(one.groups)),
        "categories": len({each.get("category") for each in about if not each.get("absent")}),
        "digest": str(info.get("data", {}).get("digest", ""))[:12],
        "split": info.get("split"),
        "limit": info.get("limit"),
        "segmenter": segmenter.get("name"),
        "samples": info.get("samples", 0),
        "temperature": info.get("temperature"),
        "medground": info.get("versions", {}).get("medground"),
    }


def _arm(name: str, arm: Arm, scored: dict[str, dict[str, Scored]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "seeds": max([len(arm.trainings), *(len(several) for several in arm.runs.values())]),
        "training": [each.told() for each in arm.trainings],
        "modes": {},
    }
    base = few_base(name) if name in FEW else BASE
    for mode, one in scored[name].items():
        figures = {each: as_values(cell(one, measure)) for each, measure in GREEDY.items()}
        figures |= {each: as_values(cell(one, measure)) for each, measure in SAMPLED.items()}
        told["modes"][mode] = {"figures": figures, "fates": dict(_fates(one))}
        if (against := scored.get(base, {}).get(mode)) is not None and name != base:
            told["modes"][mode]["against"] = _less(one, against, {**GREEDY, **SAMPLED})
        one_eighth, whole = (scored.get(each, {}).get(mode) for each in HALF)
        if name in FEW and name not in HALF and one_eighth and whole:
            told["modes"][mode]["half"] = _less(one, mean_of([one_eighth, whole]), GREEDY)
    return told


def _less(one: Scored, other: Scored, measures: dict[str, Measure]) -> dict[str, list[float | None]]:
    return {name: as_values(difference(one, other, measure)) for name, measure in measures.items()}


def _both(joint: str, scored: dict[str, dict[str, Scored]]) -> dict[str, Any] | None:
    """Return what the model for both tasks is above the one for grounding alone; None where one wasn't asked."""
    alone = BOTH_TASKS[1]
    shared = [mode for mode in MODES if mode in scored.get(joint, {}) and mode in scored.get(alone, {})]
    if not shared or joint == alone:
        return None
    less = {mode: _less(scored[joint][mode], scored[alone][mode], {**GREEDY, **SAMPLED}) for mode in shared}
    return {"joint": joint, "alone": alone, "less": less}


def _fates(scored: Scored) -> Counter[str]:
    return Counter(map(fate, scored.predictions, scored.figures))


def _categories(main: str | None, scored: dict[str, dict[str, Scored]]) -> list[dict[str, Any]]:
    """Return each category of the main arm with reasoning, the worst first."""
    one = scored.get(main or "", {}).get("reason")
    if one is None:
        return []
    base = scored.get(BASE, {}).get("reason") if main != BASE else None
    present = [at for at, figures in enumerate(one.figures) if figures["box_iou"] == figures["box_iou"]]
    earlier = () if base is None else zip(base.predictions, base.figures, strict=True)
    before = {each.id: worth["box_iou"] for each, worth in earlier}
    by_name: dict[str, list[int]] = {}
    for at in present:
        by_name.setdefault(str(one.predictions[at].about.get("category", "")), []).append(at)
    told = []
    for name, places in by_name.items():
        lines = [one.predictions[at] for at in places]
        came = Counter(fate(one.predictions[at], one.figures[at]) for at in places)
        known = [before[each.id] for each in lines if each.id in before]
        drawn = [one.figures[at]["dice"] for at in places if one.figures[at]["dice"] == one.figures[at]["dice"]]
        told.append({
            "name": name,
            "rows": len(places),
            "patients": len({one.groups[at] for at in places}),
            "box_iou": round(float(np.mean([one.figures[at]["box_iou"] for at in places])), 4),
            "base_iou": round(float(np.mean(known)), 4) if known else None,
            "dice": round(float(np.mean(drawn)), 4) if drawn else None,
            "size": Counter(map(size_of, lines)).most_common(1)[0][0],
            "fates": dict(came.most_common()),
        })  # fmt: skip
    return sorted(told, key=lambda each: (each["box_iou"], each["name"]))

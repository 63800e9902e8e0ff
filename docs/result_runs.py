"""What docs/results.py tells, read from folders of runs: figures of each arm, as plain JSON values."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from result_arms import ABLATION, BASE, FEW, GREEDY, HALF, MODES, SAMPLED, few_base

from medground.errors import ConfigError
from medground.evaluate.cases import fate
from medground.evaluate.cells import Cell, Measure, cell, difference, size_of
from medground.evaluate.predictions import read_run
from medground.evaluate.score import Scored, score_run
from medground.train.curves import RunLog, series

POINTS = 60
"""Points of a curve, at most."""

_NAMED = re.compile(r"(?P<arm>[A-Za-z0-9][\w.-]*?)(?:@(?P<seed>\d+))?")


@dataclass(frozen=True)
class Training:
    """What `medground train` left in a folder."""

    folder: Path
    settings: dict[str, Any]
    lines: list[dict[str, Any]]

    @property
    def finished(self) -> bool:
        """Whether it came to its end: the model is written last."""
        return (self.folder / "model").is_dir()

    @cached_property
    def clock(self) -> list[tuple[int, float]]:
        """Steps with the seconds that were spent until then, all processes of a resumed run together."""
        found, before, last = [], 0.0, 0.0
        for line in self.lines:
            if (now := line.get("seconds")) is None:
                continue
            if now < last:  # each process counts from its own start
                before += last
            last = now
            found.append((line["step"], before + now))
        return found

    def seconds(self, step: int) -> float:
        """Return the seconds until a step was made."""
        return max((seconds for at, seconds in self.clock if at <= step), default=0.0)

    def told(self) -> dict[str, Any]:
        """Return what a table says of it."""
        steps = max((line["step"] for line in self.lines), default=0)
        kind = str(self.settings.get("kind", ""))
        recipe = self.settings.get("grpo", {}).get("recipe", "") if kind == "grpo" else ""
        sequences = self.settings.get("batch", 1) * self.settings.get("accumulation", 1)
        return {
            "kind": kind,
            "recipe": recipe,
            "steps": steps,
            "sequences": sequences,
            "seconds": round(self.seconds(steps), 1),
            "finished": self.finished,
        }

    def checks(self) -> dict[str, Any]:
        """Return the curves of its checks on validation rows; empty without any."""
        made = [line for line in self.lines if line.get("checkup")]
        if not made:
            return {}
        names = ("box_iou", "box_iou_categories", "dice", "absence_balanced")
        told: dict[str, Any] = {"rows": made[-1]["checkup"].get("rows", 0), "steps": [line["step"] for line in made]}
        told["seconds"] = [round(self.seconds(line["step"]), 1) for line in made]
        for name in names:
            if any(line["checkup"].get(name) is not None for line in made):
                told[name] = [line["checkup"].get(name) for line in made]
        return told

    def terms(self) -> dict[str, list[list[float]]]:
        """Return the rewards of its training by term; empty where it had none."""
        found = dict(series(self.lines).get("Reward by term", {}))
        return {name: thinned(curve) for name, curve in found.items()}


@dataclass
class Arm:
    """An arm with all of its seeds: its trainings, and for each mode its scored answers to the test questions."""

    name: str
    trainings: list[Training] = field(default_factory=list)
    runs: dict[str, list[Scored]] = field(default_factory=dict)

    def scored(self, mode: str) -> Scored | None:
        """Return its answers in a mode, each row's figures the mean of the seeds'."""
        return mean_of(self.runs[mode]) if self.runs.get(mode) else None


def thinned(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    """Return a curve of at most `POINTS`: means of neighbours."""
    parts = np.array_split(np.asarray(curve, np.float64), min(POINTS, len(curve)))
    return [[int(part[-1, 0]), round(float(part[:, 1].mean()), 4)] for part in parts]


def mean_of(several: Sequence[Scored]) -> Scored:
    """Return runs as one whose figures are their means, row by row, on the rows that all have."""
    if len(several) == 1:
        return several[0]
    known = [{one.id: figures for one, figures in zip(each.predictions, each.figures, strict=True)} for each in several]
    shared = [at for at, one in enumerate(several[0].predictions) if all(one.id in each for each in known)]
    figures = []
    for at in shared:
        row = [each[several[0].predictions[at].id] for each in known]
        figures.append({name: float(np.mean([each[name] for each in row])) for name in row[0]})
    run = several[0].run
    kept = tuple(several[0].predictions[at] for at in shared)
    return Scored(type(run)(run.name, run.folder, run.info, kept), tuple(figures))


def read_arms(folders: Sequence[Path]) -> tuple[dict[str, Arm], list[str]]:
    """Return the arms in folders of runs, in the order of the tables, and sentences about what was left out.

    Raises
    ------
    ConfigError
        When there is none, a run can't be read, or evaluations aren't of the same rows.
    """
    arms: dict[str, Arm] = {}
    left_out: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: is no folder; give the one in which the arms' folders lie")
        for place in sorted(path for path in folder.iterdir() if path.is_dir()):
            named = _NAMED.fullmatch(place.name)
            if named is not None:
                _read_arm(place, arms.setdefault(named["arm"], Arm(named["arm"])), left_out)
    known = {name: arm for name, arm in arms.items() if arm.trainings or arm.runs}
    if not known:
        raise ConfigError(
            f"{', '.join(map(str, folders))}: holds no run; an arm is a folder ARM of medground train, with "
            f"{' and '.join(MODES.values())} of medground eval in it"
        )
    _hold_alike(known)
    order = [*ABLATION, *FEW]
    ranked = sorted(known, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: known[name] for name in ranked}, left_out


def _read_arm(place: Path, arm: Arm, left_out: list[str]) -> None:
    if (place / "run.json").is_file():
        training = _training(place)
        if not training.lines:
            left_out.append(f"the training of {place.name}: it has logged nothing yet")
        else:
            arm.trainings.append(training)
            if not training.finished:
                left_out.append(f"the end of the training of {place.name}: it isn't finished")
    for mode, name in MODES.items():
        folder = place / name
        if not (folder / "run.json").is_file():
            continue
        run = read_run(folder)
        if run.info.get("mode") != mode:
            raise ConfigError(f"{folder}: is a run of mode {run.info.get('mode')!r}; evaluate with --mode {mode}")
        there, wanted = len(run.predictions), run.info.get("data", {}).get("rows", 0)
        if there < wanted:
            left_out.append(f"the answers of {place.name}, {mode}: {there:,} of {wanted:,} are there")
            continue
        arm.runs.setdefault(mode, []).append(score_run(run))


def _training(place: Path) -> Training:
    try:
        settings = json.loads((place / "run.json").read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place / 'run.json'}: isn't one of medground train ({error}); remove the folder") from error
    return Training(place, settings, RunLog(place).read())


def _hold_alike(arms: dict[str, Arm]) -> None:
    """Refuse figures that don't compare."""
    held: dict[str, tuple[Path, Any]] = {}
    for run in [one.run for arm in arms.values() for several in arm.runs.values() for one in several]:
        segmenter = run.info.get("segmenter") or {}
        now = {
            "data.digest": run.info.get("data", {}).get("digest"),
            "split": run.info.get("split"),
            "variant": run.info.get("variant"),
            "segmenter": segmenter.get("name"),
            "prompts": segmenter.get("prompts"),
        }
        if run.info.get("samples"):
            now |= {name: run.info.get(name) for name in ("samples", "temperature")}
        for name, value in now.items():
            folder, wanted = held.setdefault(name, (run.folder, value))
            if value != wanted:
                raise ConfigError(f"{run.folder}: {name} is {value!r}, and {wanted!r} in {folder}; evaluate both alike")


# -- figures ----------------------------------------------------------------------------------------------------------


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
    scored = {name: {mode: one for mode in MODES if (one := arm.scored(mode))} for name, arm in arms.items()}
    main = shipped or next((name for name in reversed(ABLATION) if "reason" in scored.get(name, {})), None)
    told: dict[str, Any] = {
        "made": {"date": _date(arms), "machine": machine},
        "data": _data(scored),
        "shipped": shipped,
        "main": main,
        "left_out": left_out,
        "arms": {name: _arm(name, arms[name], scored) for name in arms},
        "categories": _categories(main, scored),
    }
    told["curves"] = {
        name: checks for name, arm in arms.items() if arm.trainings and (checks := arm.trainings[0].checks())
    }
    told["terms"] = {name: terms for name, arm in arms.items() if arm.trainings and (terms := arm.trainings[0].terms())}
    return told


def _date(arms: dict[str, Arm]) -> str:
    """Return the day on which the last of the runs ended."""
    files = [training.folder / "log.jsonl" for arm in arms.values() for training in arm.trainings]
    runs = [one.run.folder for arm in arms.values() for several in arm.runs.values() for one in several]
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
        figures = {each: _cell(cell(one, measure)) for each, measure in GREEDY.items()}
        figures |= {each: _cell(cell(one, measure)) for each, measure in SAMPLED.items()}
        told["modes"][mode] = {"figures": figures, "fates": dict(_fates(one))}
        if (against := scored.get(base, {}).get(mode)) is not None and name != base:
            told["modes"][mode]["against"] = _less(one, against, {**GREEDY, **SAMPLED})
        one_eighth, whole = (scored.get(each, {}).get(mode) for each in HALF)
        if name in FEW and name not in HALF and one_eighth and whole:
            told["modes"][mode]["half"] = _less(one, mean_of([one_eighth, whole]), GREEDY)
    return told


def _less(one: Scored, other: Scored, measures: dict[str, Measure]) -> dict[str, list[float | None]]:
    return {name: _cell(difference(one, other, measure)) for name, measure in measures.items()}


def _cell(found: Cell) -> list[float | None]:
    return [None if value != value else round(float(value), 5) for value in found[:3]] + [found.n]


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

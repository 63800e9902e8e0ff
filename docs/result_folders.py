"""What lies in folders of runs: trainings, and scored answers to test questions, held to be alike."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from result_arms import ABLATION, BLIND, BOTH_TASKS, FEW, MODES, STARTED, THREE_WAY, VISUAL_TEST, WHOLE

from medground.errors import ConfigError
from medground.evaluate.predictions import Run, read_run
from medground.evaluate.score import Scored, score_run
from medground.evaluate.vqa.predictions import VisualRun, read_visual_run
from medground.evaluate.vqa.score import VisualScored, score_visual_run
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
    questions: tuple[str, ...] = ()
    """Digests of the files of visual questions that it learned from."""

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


AnyScored = TypeVar("AnyScored", Scored, VisualScored)


@dataclass
class Arm:
    """An arm with all of its seeds: its trainings, and its scored answers to the test questions.

    Parameters
    ----------
    name : str
    trainings : list of Training
    runs : dict of str to list of Scored
        Of grounding, by mode.
    visual : list of VisualScored
        Of visual questions.
    """

    name: str
    trainings: list[Training] = field(default_factory=list)
    runs: dict[str, list[Scored]] = field(default_factory=dict)
    visual: list[VisualScored] = field(default_factory=list)

    def scored(self, mode: str) -> Scored | None:
        """Return its answers in a mode, each row's figures the mean of the seeds'."""
        return mean_of(self.runs[mode]) if self.runs.get(mode) else None

    @property
    def evaluations(self) -> list[Scored | VisualScored]:
        """All that was answered, whatever was asked."""
        return [*(one for several in self.runs.values() for one in several), *self.visual]

    @property
    def grounds(self) -> bool:
        """Whether it belongs to the tables on grounding."""
        return bool(self.runs) or (bool(self.trainings) and self.name not in THREE_WAY)


def thinned(curve: Sequence[tuple[int, float]]) -> list[list[float]]:
    """Return a curve of at most `POINTS`: means of neighbours."""
    parts = np.array_split(np.asarray(curve, np.float64), min(POINTS, len(curve)))
    return [[int(part[-1, 0]), round(float(part[:, 1].mean()), 4)] for part in parts]


def mean_of(several: Sequence[AnyScored]) -> AnyScored:
    """Return runs as one whose figures are their means, row by row, on the rows that all have."""
    if len(several) == 1:
        return several[0]
    known = [{one.id: figures for one, figures in zip(each.predictions, each.figures, strict=True)} for each in several]
    shared = [at for at, one in enumerate(several[0].predictions) if all(one.id in each for each in known)]
    figures = []
    for at in shared:
        row = [each[several[0].predictions[at].id] for each in known]
        figures.append({name: float(np.mean([each[name] for each in row])) for name in row[0]})
    kept = tuple(several[0].predictions[at] for at in shared)
    run = dataclasses.replace(several[0].run, predictions=kept)
    return dataclasses.replace(several[0], run=run, figures=tuple(figures))


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
    known = {name: arm for name, arm in arms.items() if arm.trainings or arm.evaluations}
    if not known:
        raise ConfigError(
            f"{', '.join(map(str, folders))}: holds no run; an arm is a folder ARM of medground train, with "
            f"{', '.join(MODES.values())} or {VISUAL_TEST} of medground eval in it"
        )
    _hold_alike(one.run for arm in known.values() for several in arm.runs.values() for one in several)
    _hold_alike(one.run for arm in known.values() for one in arm.visual)
    _hold_three_ways(known)
    order = [*ABLATION, *FEW, *BOTH_TASKS, *THREE_WAY, *BLIND]
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
    weights: dict[str, Path] = {}
    for mode, name in MODES.items():
        folder = place / name
        if not (folder / "run.json").is_file():
            continue
        run = read_run(folder)
        if run.info.get("mode") != mode:
            raise ConfigError(f"{folder}: is a run of mode {run.info.get('mode')!r}; evaluate with --mode {mode}")
        if _is_whole(run, f"{place.name}, {mode}", left_out):
            arm.runs.setdefault(mode, []).append(score_run(run))
            weights.setdefault(_weights(run), folder)
    folder = place / VISUAL_TEST
    if (folder / "run.json").is_file():
        asked = read_visual_run(folder)
        if _is_whole(asked, f"{place.name} to visual questions", left_out):
            arm.visual.append(score_visual_run(asked))
            weights.setdefault(_weights(asked), folder)
    if len(named := [folder for known, folder in weights.items() if known]) > 1:
        raise ConfigError(f"{' and '.join(map(str, named))}: are of different weights; an arm is one model")


def _is_whole(run: Run | VisualRun, told: str, left_out: list[str]) -> bool:
    there, wanted = len(run.predictions), run.info.get("data", {}).get("rows", 0)
    if there < wanted:
        left_out.append(f"the answers of {told}: {there:,} of {wanted:,} are there")
    return bool(there >= wanted)


def _weights(run: Run | VisualRun) -> str:
    """Return the digest of the weights that answered; empty where none is known."""
    reasoner = run.info.get("reasoner")
    return str(reasoner.get("weights") or "") if isinstance(reasoner, dict) else ""


def _training(place: Path) -> Training:
    try:
        page = json.loads((place / "run.json").read_bytes())
        settings, questions = page["settings"], page.get("data", {}).get("vqa", {})
        return Training(place, settings, RunLog(place).read(), tuple(sorted(map(str, questions.values()))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{place / 'run.json'}: isn't one of medground train ({error}); remove the folder") from error


def _hold_alike(runs: Iterable[Run | VisualRun]) -> None:
    """Refuse figures that don't compare."""
    held: dict[str, tuple[Path, Any]] = {}
    for run in runs:
        segmenter = run.info.get("segmenter") or {}
        now = {
            "data.digest": run.info.get("data", {}).get("digest"),
            "split": run.info.get("split"),
            "variant": run.info.get("variant"),
            "segmenter": segmenter.get("name"),
            "prompts": segmenter.get("prompts"),
        }
        if isinstance(run, VisualRun):
            now["mode"] = run.info.get("mode")
        if run.info.get("samples"):
            now |= {name: run.info.get(name) for name in ("samples", "temperature")}
        for name, value in now.items():
            folder, wanted = held.setdefault(name, (run.folder, value))
            if value != wanted:
                raise ConfigError(f"{run.folder}: {name} is {value!r}, and {wanted!r} in {folder}; evaluate both alike")


def _hold_three_ways(arms: dict[str, Arm]) -> None:
    """Refuse trainings that aren't three ways from one start with the same questions."""
    held: dict[tuple[str, Any], tuple[Path, Any]] = {}
    for name, training in [(arm, each) for arm in THREE_WAY if arm in arms for each in arms[arm].trainings]:
        page = training.settings
        seed = page.get("seed")
        now = {
            ("data.vqa", ""): training.questions,
            ("model", "" if name in STARTED else seed): page.get("model"),
        }
        if name != WHOLE:
            now["data.vqa_limit", seed] = page.get("data", {}).get("vqa_limit")
        for key, value in now.items():
            folder, wanted = held.setdefault(key, (training.folder, value))
            if value != wanted:
                raise ConfigError(
                    f"{training.folder}: was trained with {key[0]} {value!r}, and {folder} with {wanted!r}; train alike"
                )

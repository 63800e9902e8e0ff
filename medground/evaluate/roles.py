"""What each run is in a report: a model, a baseline, a model on changed rows, or one on validation rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medground.data.rows import Picture, Row
from medground.errors import ConfigError
from medground.evaluate.baselines import BASELINES, Baseline, load_baseline
from medground.evaluate.predictions import AnyRun, Prediction, ruler_of
from medground.evaluate.score import Scored, score_run
from medground.evaluate.tables import Entry, Kind
from medground.images import MedicalImage

__all__ = ["Changed", "Shown", "gather", "told_apart"]

ORACLE = "oracle"


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """A model on rows that a perturbation changed, beside the same model on the rows as they are."""

    clean: Entry
    variant: str
    entry: Entry


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The runs of a report.

    Parameters
    ----------
    models : tuple of Entry
        At least one; what is told of one model alone is told of the first.
    baselines : tuple of Entry
        The blind ones, then the oracle.
    changed : tuple of Changed
    validation : dict of str to Entry
        By the name of the model on whose answers a threshold is to be used.
    """

    models: tuple[Entry, ...]
    baselines: tuple[Entry, ...]
    changed: tuple[Changed, ...]
    validation: dict[str, Entry]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Models and baselines, in the order of the first table."""
        return self.models + self.baselines

    def look(self, entry: Entry) -> str:
        """Return the class of an entry in plots; the same all over the page."""
        alike = [each for each in self.entries if each.kind == entry.kind]
        number = next(at for at, each in enumerate(alike) if each.name == entry.name)
        return "oracle" if entry.kind == "oracle" else f"{'b' if entry.kind == 'blind' else 's'}{number % 6}"

    def derived(self, entry: Entry) -> bool:
        """Whether an entry was made from another one's run."""
        return entry.kind == "oracle" and _part(entry.scored, "reasoner") != ORACLE

    @staticmethod
    def reasoner(entry: Entry) -> str:
        """Return the name of an entry's reasoner."""
        return _part(entry.scored, "reasoner")

    @property
    def blind(self) -> Entry | None:
        """The baseline that gets furthest without looking at the picture, by its mean box IoU."""
        blind = [each for each in self.baselines if each.kind == "blind"]
        return max(blind, key=lambda each: float(np.nanmean(each.scored.column("box_iou"))), default=None)


def gather(scored: Sequence[Scored]) -> Shown:
    """Tell the runs of a report apart.

    The first run that isn't on changed rows tells which rows the report is about.

    Raises
    ------
    ConfigError
        When there is no model, a run is empty, or one fits nowhere.
    """
    for one in scored:
        if not one.predictions:
            raise ConfigError(f"{one.run.folder}: has no predictions yet; wait for medground eval, or leave it out")
    plain = [one for one in scored if not _variant(one)]
    if not plain:
        raise ConfigError("a report needs a run on the rows as they are, without a variant; give one first")
    rows = {each.id for each in plain[0].predictions}
    here = [one for one in plain if rows & {each.id for each in one.predictions}]
    named = _named(here)
    models = tuple(each for each in named if each.kind == "model")
    baselines = tuple(each for each in named if each.kind != "model")
    if not models:
        raise ConfigError("a report needs a run of a model beside the baselines; give one")
    baselines = (*_blind(models[0], baselines), *baselines)
    baselines = tuple(sorted(baselines, key=_rank))
    if not any(each.kind == "oracle" for each in baselines):
        baselines += _oracle(models[0])
    changed, validation = [], {}
    for one in scored:
        if any(one is each.scored for each in named):
            continue
        alike = [each for each in models if _asked(each.scored) == _asked(one)]
        # The same segmenter where there is one: boxes, and so their agreement, don't depend on it.
        clean = next((each for each in alike if _part(each.scored, "segmenter") == _part(one, "segmenter")), None)
        clean = clean or next(iter(alike), None)
        if clean is None:
            raise ConfigError(
                f"{one.run.folder}: its model has no run on the rows of {models[0].scored.run.folder}; give that one "
                "too, or report this one apart"
            )
        if variant := _variant(one):
            changed.append(Changed(clean, variant, replace(clean, name=f"{clean.name}, {variant}", scored=one)))
        else:
            validation[clean.name] = replace(clean, scored=one)
    return Shown(models, baselines, tuple(changed), validation)


def _variant(scored: Scored) -> str:
    return scored.predictions[0].variant if scored.predictions else ""


def _kind(scored: Scored) -> Kind:
    if "baseline" not in (scored.run.info.get("reasoner") or {}):
        return "model"
    return "oracle" if _part(scored, "reasoner") == ORACLE else "blind"


def _rank(entry: Entry) -> int:
    return [*BASELINES].index(_part(entry.scored, "reasoner"))


def _part(scored: Scored, name: str) -> str:
    """Return the name of a run's reasoner or segmenter; empty without one."""
    told: Any = scored.run.info.get(name) or {}
    return str(told.get("name", "")) if isinstance(told, dict) else str(told)


def _asked(scored: Scored) -> tuple[str, str]:
    return _part(scored, "reasoner"), str(scored.run.info.get("mode", ""))


_TITLES = {
    "whole-image": "whole image",
    "category-prior": "category's mean box",
    "random": "random box",
    "oracle": "true box (oracle)",
}


def _named(scored: Sequence[Scored]) -> list[Entry]:
    """Return the runs with the shortest names that tell them apart: the reasoner, then mode, segmenter, folder."""
    runs = [one.run for one in scored]
    names = told_apart(
        runs,
        [_part(one, "reasoner") or one.run.name for one in scored],
        ["" if run.info.get("mode") == "reason" else str(run.info.get("mode", "")) for run in runs],
        [_part(one, "segmenter") for one in scored],
        [run.name for run in runs],
    )
    return [Entry(_TITLES.get(name, name), _kind(one), one) for name, one in zip(names, scored, strict=True)]


def told_apart(runs: Sequence[AnyRun[Any]], names: Sequence[str], *further: Sequence[str]) -> list[str]:
    """Return names of runs, those that are alike with what `further` says of each, as little as tells them apart.

    Raises
    ------
    ConfigError
        When a run is given twice.

    Examples
    --------
    >>> from pathlib import Path
    >>> runs = [AnyRun(name, Path(name), {}, ()) for name in ("first", "second", "third")]
    >>> told_apart(runs, ["nano", "nano", "random"], ["", "direct", ""], ["first", "second", "third"])
    ['nano', 'nano, direct', 'random']
    """
    names = list(names)
    for words in further:
        counts = Counter(names)
        names = [
            ", ".join(filter(None, (name, word))) if counts[name] > 1 else name
            for name, word in zip(names, words, strict=True)
        ]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"{runs[number].folder}: is given twice; leave it out once")
    return names


def _blind(model: Entry, given: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the baselines that need neither pictures nor training rows and have no run; their masks aren't known."""
    for name in ("whole-image", "centre", "random"):
        if any(_part(each.scored, "reasoner") == name for each in given):
            continue
        baseline = load_baseline(name)
        answered = tuple(_answered(baseline, one) for one in model.scored.predictions)
        run = replace(model.scored.run, name=name, info={"reasoner": baseline.describe()}, predictions=answered)
        yield Entry(_TITLES.get(name, name), "blind", score_run(run))


def _answered(baseline: Baseline, one: Prediction) -> Prediction:
    row = Row(id=one.id, question=one.question, image=Picture(path="-"), image_size=one.image_size, box=None)
    # What these baselines answer depends on the picture's size alone, so any picture of that size will do.
    blank = MedicalImage.from_array(np.zeros((one.image_size[1], one.image_size[0]), np.uint8))
    said = baseline.answer(row, blank)
    update: dict[str, Any] = {
        "completion": said.text,
        "space": ruler_of(said.space),
        "masks": {},
        "oracle_mask": None,
        "samples": (),
    }
    # Built anew: a copy would keep what was read from the model's answer.
    return Prediction.model_validate(one.model_dump() | update | {"error": None})


def _oracle(model: Entry) -> tuple[Entry, ...]:
    """Return what the segmenter draws for the true box, where a model's run has it."""
    drawn = model.scored.column("dice_oracle")
    if np.isnan(drawn).all():
        return ()
    nothing = dict.fromkeys(model.scored.figures[0], float("nan"))
    figures = tuple(
        nothing | ({"box_iou": 1.0, "acc_50": 1.0} if one["box_iou"] == one["box_iou"] else {}) | {"dice": float(dice)}
        for one, dice in zip(model.scored.figures, drawn, strict=True)
    )
    return (Entry(_TITLES[ORACLE], "oracle", Scored(model.scored.run, figures)),)

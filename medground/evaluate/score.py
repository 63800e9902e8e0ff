"""What each answer of a run is worth, from its file alone: no data set, no model, no pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.evaluate.predictions import AnyRun, Line, Prediction
from medground.masks import decode_rle
from medground.metrics import dice, hd95, pdice, pdice_paper, pointing
from medground.rewards.evidence import Facts, claims, holds
from medground.rewards.truth import FRAME
from medground.types import Grounding, Mask

__all__ = ["FIGURES", "AnyScored", "Scored", "figures", "score_run"]

FIGURES = (
    *("box_iou", "acc_50", "pdice", "pdice_paper", "pointing"),
    *("dice", "dice_points", "dice_box", "dice_both", "dice_oracle", "hd95"),
    *("absence", "readable", "failed", "claims", "claims_true", "consistency", "confidence"),
    *("held", "spoken_against", "confirmed", "confirmed_true", "refuted", "refuted_true"),
    *("sampled_box_iou", "sampled_acc_50", "sampled_pdice", "sampled_absence", "sampled_readable"),
    *("sampled_claims", "sampled_claims_true"),
)
"""The names of what `figures` returns, in the order of a table."""

_NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class AnyScored(Generic[Line]):
    """A run with the figures of each of its answers, whatever was asked.

    Parameters
    ----------
    run : AnyRun
    figures : tuple of dict
        One a prediction, each with the same names; NaN where a figure doesn't apply.
    """

    run: AnyRun[Line]
    figures: tuple[dict[str, float], ...]

    @property
    def predictions(self) -> tuple[Line, ...]:
        """The run's."""
        return self.run.predictions

    @property
    def groups(self) -> list[str]:
        """Whom a bootstrap draws, for each row."""
        return [one.group for one in self.predictions]

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """Return one figure of all answers, NaN where it doesn't apply; raises KeyError for an unknown name."""
        return np.array([each[name] for each in self.figures], np.float64)


class Scored(AnyScored[Prediction]):
    """A run on grounding with what `figures` returns for each of its answers; see `AnyScored`."""

    __slots__ = ()


def score_run(run: AnyRun[Prediction]) -> Scored:
    """Return a run with the figures of each of its answers.

    Raises
    ------
    TruthError
        When a row's truth can't be used; names the row.
    """
    return Scored(run, tuple(figures(prediction) for prediction in run.predictions))


def figures(prediction: Prediction) -> dict[str, float]:
    """Return what an answer is worth, all in the picture's own pixels.

    Parameters
    ----------
    prediction : Prediction

    Returns
    -------
    dict of str to float
        NaN where a figure doesn't apply. Where it does, an answer that failed, can't be read, or says wrongly that the
        target is absent, counts 0.

        ``box_iou``, ``acc_50`` (1 from an IoU of 0.5 on), ``pdice``, ``pdice_paper`` (0 to 2, on a frame of 840 x 840,
        as the paper has it) and ``pointing``: where the target is present (and has key points).
        ``dice_points``, ``dice_box``, ``dice_both``: of the masks that were drawn for these prompts, where a true mask
        is known; ``dice``: of that one of them which the segmenter scores highest; ``dice_oracle``: for the true box.
        ``hd95``: pixels, of the same mask as ``dice``; the picture's diagonal where there is none.
        ``absence``: 1 where presence or absence is told right. ``readable``, ``failed`` (no answer at all): 0 or 1.
        ``claims``, ``claims_true``: claims in the reasoning that can be checked, and those that are true; on present
        targets. ``held``, ``spoken_against``: claims that the drawn mask can tell of, and those that it speaks against.
        ``confirmed``, ``confirmed_true``, ``refuted``, ``refuted_true``: of these the ones that the truth can check, by
        what the mask says, and how many of each are true. ``consistency``: share of the
        answer's points in its own box, where it gives both.
        ``confidence``: mean agreement over all pairs of samples: the IoU of their boxes, 1 where both say that the
        target is absent, else 0. ``sampled_...``: means over the samples.
    """
    right, answer = prediction.right, prediction.answer
    told = dict.fromkeys(FIGURES, _NAN)
    true = None if prediction.truth_mask is None or right.box is None else decode_rle(prediction.truth_mask)
    told |= _located(prediction, answer)
    told["readable"] = float(answer is not None)
    told["failed"] = float(prediction.error is not None)
    if answer is None:
        told["consistency"] = 0.0
    elif answer.box and answer.points:
        told["consistency"] = sum(map(answer.box.contains, answer.points)) / len(answer.points)
    if right.box is not None:
        told["pointing"] = pointing(answer.points if answer else (), right.box if true is None else true)
        if true is not None:
            told |= _masks(prediction, true)
        facts = right.facts or Facts.of_box(right.box)
        told["claims"], told["claims_true"] = _checked(answer, facts)
        if answer is not None and prediction.drawn_facts is not None:
            told |= _self_checked(answer, Facts.read(prediction.drawn_facts), facts)
    if prediction.samples:
        said = [prediction.read(text) for text in prediction.samples]
        each = [_located(prediction, one) for one in said]
        for name in ("box_iou", "acc_50", "pdice", "absence"):
            told[f"sampled_{name}"] = _mean([one.get(name, _NAN) for one in each])
        told["sampled_readable"] = _mean([float(one is not None) for one in said])
        if right.box is not None:
            checked = [_checked(one, facts) for one in said]
            told["sampled_claims"], told["sampled_claims_true"] = map(_mean, zip(*checked, strict=True))
        if len(said) > 1:
            told["confidence"] = _mean([_agreement(a, b) for a, b in combinations(said, 2)])
    return told


def _located(prediction: Prediction, answer: Grounding | None) -> dict[str, float]:
    """Return what an answer's presence, box and points are worth, without the mask."""
    right = prediction.right
    told = {"absence": float(answer is not None and answer.absent == right.absent)}
    if right.box is None:
        return told
    box, points = (answer.box, answer.points) if answer else (None, ())
    told["box_iou"] = right.box.iou(box) if box else 0.0
    told["acc_50"] = float(told["box_iou"] >= 0.5)
    if right.points:
        frame = Space.pixels(*FRAME)
        told["pdice"] = pdice(points, right.points)
        told["pdice_paper"] = pdice_paper([p.to(frame) for p in points], [p.to(frame) for p in right.points])
    return told


def _checked(answer: Grounding | None, facts: Facts) -> tuple[float, float]:
    """Return how many claims of a reasoning can be checked, and how many of them are true."""
    said = () if answer is None else claims(answer.reasoning)
    known = [held for claim in said if (held := holds(claim, facts)) is not None]
    return float(len(known)), float(sum(known))


def _self_checked(answer: Grounding, drawn: Facts, facts: Facts) -> dict[str, float]:
    """Return how many claims the drawn mask confirms, how many it speaks against, and how many of each are true."""
    told = dict.fromkeys(("held", "spoken_against", "confirmed", "confirmed_true", "refuted", "refuted_true"), 0.0)
    for claim in claims(answer.reasoning):
        said, true = holds(claim, drawn), holds(claim, facts)
        if said is None:
            continue
        told["held"] += 1
        told["spoken_against"] += not said
        if true is not None:
            told["confirmed" if said else "refuted"] += 1
            told["confirmed_true" if said else "refuted_true"] += true
    return told


def _masks(prediction: Prediction, true: Mask) -> dict[str, float]:
    """Return what the masks are worth."""
    told: dict[str, float] = {}
    if prediction.oracle_mask is not None:
        told["dice_oracle"] = dice(decode_rle(prediction.oracle_mask["rle"]), true)
    if not prediction.masks:
        return told
    for kind, drawn in prediction.masks.items():
        told[f"dice_{kind}"] = 0.0 if drawn is None else dice(decode_rle(drawn["rle"]), true)
    best = prediction.best_mask
    shown = np.zeros_like(true) if best is None else decode_rle(best["rle"])
    told["dice"] = 0.0 if best is None else dice(shown, true)
    told["hd95"] = hd95(shown, true, missing="diagonal")
    return told


def _agreement(a: Grounding | None, b: Grounding | None) -> float:
    """Return how much two answers say the same, 0 to 1; what can't be read agrees with nothing."""
    if a is None or b is None:
        return 0.0
    if a.absent or b.absent:
        return float(a.absent and b.absent)
    return a.box.iou(b.box) if a.box and b.box else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)

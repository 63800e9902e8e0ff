"""The ``medground`` recipe: every term 0 to 1, full marks for the gold answer on every row.

It mends what the paper's rewards get wrong (a Dice that passes 1, boxes that earn nothing until they meet, points that
are inside a box and off the target) and adds what they lack: claims that are checked, absence, guards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medground.errors import TruthError
from medground.parsing import format_answer, written_box, written_point
from medground.rewards.box import box as box_term
from medground.rewards.evidence import Facts, can_earn, evidence, honesty
from medground.rewards.guards import length, repetition
from medground.rewards.layout import Reading, layout
from medground.rewards.mask import mask as mask_term
from medground.rewards.points import points_dice, points_inside
from medground.rewards.recipe import Recipe
from medground.rewards.truth import Truth, read_truth
from medground.segmenters import Segmenter
from medground.types import Point

__all__ = ["WEIGHTS", "gold", "medground_recipe"]

WEIGHTS = {
    "format": 1.0,
    "absence": 1.0,
    "box": 3.0,
    "points_dice": 1.0,
    "points_inside": 1.0,
    "mask": 2.0,
    "evidence": 1.0,
    "honesty": 1.0,
    "length": 0.5,
    "repetition": 0.5,
}
"""The terms and their weights: half of the score is the location, a quarter the reasoning, the rest what is asked for.

``mask`` counts where a segmenter is given, ``evidence`` where facts are known, ``honesty`` where the target is present.
"""


def medground_recipe(segmenter: Segmenter | None = None) -> Recipe:
    r"""Return the ``medground`` recipe, with the mask term when a segmenter is given.

    Parameters
    ----------
    segmenter : Segmenter, optional
        From `medground.load_segmenter`. Without it the recipe needs neither torch nor a model.

    Returns
    -------
    Recipe
        Terms ``format``, ``absence``, ``box``, ``points_dice``, ``points_inside``, ``length`` and ``repetition`` on
        each row; ``mask``, ``evidence`` and ``honesty`` where they apply. An answer that can't be read scores 0 on all.

    Notes
    -----
    The ``absence`` term is 1 when the answer says rightly whether the target is in the picture, else 0:

    .. math:: absence = [\text{answered absent} = \text{truly absent}]

    Where the target is absent, ``box`` and the points' terms are 1 for ``{"absent": true}`` and 0 for any location: the
    right location of what isn't there is none.

    Hacking: answering "absent" on each row, or on none; both lose most of the score where they are wrong.

    Examples
    --------
    >>> from medground.rewards import score
    >>> truth = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
    >>> answer = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
    >>> score(f"<think>A pale band.</think><answer>{answer}</answer>", truth)["score"]
    1.0
    >>> round(score('<think>Nothing.</think><answer>{"absent": true}</answer>', truth)["score"], 2)
    0.33
    """
    return Recipe("medground", WEIGHTS, _terms(segmenter), read_truth)


def gold(truth: Truth, reasoning: str = "") -> str:
    """Return the answer that earns full marks, given a reasoning that states the truth's facts.

    Parameters
    ----------
    truth : Truth
        With key points, if it is present; written on the ruler of ``truth.space``.
    reasoning : str
        Left out in direct mode.

    Raises
    ------
    TruthError
        When a truth that is present has no key points.
    """
    if not truth.absent and not truth.points:
        raise TruthError("a truth without key points has no gold answer; add point_2d")
    said = reasoning if truth.mode == "reason" else None
    return format_answer(truth.box, truth.points, truth.space, reasoning=said)


def _terms(segmenter: Segmenter | None) -> Callable[[Sequence[str], Sequence[Truth]], list[dict[str, float]]]:
    def terms(completions: Sequence[str], truths: Sequence[Truth]) -> list[dict[str, float]]:
        readings = [
            _settled(layout(completion, truth.space, truth.mode), truth)
            for completion, truth in zip(completions, truths, strict=True)
        ]
        scored = [_score(*row) for row in zip(completions, readings, truths, strict=True)]
        if segmenter is not None:
            for row, worth in zip(scored, mask_term(readings, truths, segmenter), strict=True):
                if worth is not None:
                    row["mask"] = worth
        return scored

    return terms


def _settled(reading: Reading | None, truth: Truth) -> Reading | None:
    """Put the truth in the place of a prediction that is the truth as it is written: rounding is no fault."""
    if reading is None or reading.box is None or truth.box is None:
        return reading
    box = truth.box if reading.box in (truth.box, written_box(truth.box, truth.space)) else reading.box
    written = [written_point(point, truth.space) for point in truth.points]
    if list(reading.points) in (written, written[::-1]):  # both at once: two true points may be written as one place
        points = truth.points
    else:
        points = tuple(truth.points[written.index(point)] if point in written else point for point in reading.points)
    return replace(reading, box=box, points=points)


def _score(completion: str, reading: Reading | None, truth: Truth) -> dict[str, float]:
    names = ["format", "absence", "box", "points_dice", "points_inside"]
    checked = truth.mode == "reason" and not truth.absent
    can = checked and truth.facts is not None and can_earn(truth.facts)
    names += ["evidence"] * can + ["honesty"] * checked + ["length", "repetition"]
    earned = dict.fromkeys(names, 0.0)
    if reading is None:
        return earned
    right = float(reading.absent == truth.absent)
    earned |= {"format": reading.format, "absence": right, "length": length(completion)}
    earned["repetition"] = repetition(reading.reasoning)
    if truth.absent:
        earned |= {"box": right, "points_dice": right, "points_inside": right}
    elif reading.box is not None and truth.box is not None:
        earned |= _location(reading, truth)
    if checked and truth.box is not None:
        known = truth.facts if truth.facts is not None else Facts.of_box(truth.box)
        earned["honesty"] = honesty(reading.reasoning, known)
        if can and not reading.absent:
            earned["evidence"] = evidence(reading.reasoning, known)
    return earned


def _location(reading: Reading, truth: Truth) -> dict[str, float]:
    if reading.box is None or truth.box is None:
        raise ValueError("both the answer and the truth must have a location")
    ruler = truth.picture or truth.space  # with square units: circles and distances depend on it

    def measured(points: Sequence[Point]) -> list[Point]:
        return [point.to(ruler) for point in points]

    # A true point counts as inside, whatever the mask's resolution; where no true points are known, places count alone.
    inside = [float(p in truth.points) or points_inside([p], truth.box, truth.mask) for p in reading.points]
    share = sum(inside) / len(inside) if inside else 0.0
    circles = points_dice(measured(reading.points), measured(truth.points)) if truth.points else share
    return {
        "box": box_term(reading.box.to(ruler), truth.box.to(ruler)),
        "points_dice": circles,
        "points_inside": share,
    }

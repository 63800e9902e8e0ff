"""ThinkVG's rewards: is the answer right, are the boxes, is the layout kept, and does the reasoning mean those boxes.

After GEMeX-ThinkVG (arXiv 2506.17939). Where it isn't known to us whether the paper's grounding is graded or passes a
threshold, how its boxes are paired, and in which order its judge reads, these are parameters, and no default is the
paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from medground.errors import ConfigError
from medground.parsing import written_box
from medground.rewards.judges import Judge, JudgeItem, OfflineJudge
from medground.rewards.recipe import Recipe
from medground.rewards.thinkvg_reading import MAX_BOXES, Response, read_response
from medground.rewards.vqa_truth import VqaTruth, read_vqa_truth
from medground.types import Box

__all__ = [
    "WEIGHTS",
    "ExtraMentions",
    "Matching",
    "VqaTruth",
    "consistency",
    "grounding",
    "layout_kept",
    "read_vqa_truth",
    "semantic",
    "thinkvg_recipe",
    "thinkvg_terms",
]

Matching = Literal["optimal", "order"]
ExtraMentions = Literal["counted", "ignored"]

WEIGHTS = {"semantic": 1.0, "grounding": 1.0, "format": 1.0, "consistency": 1.0}
"""Equal weights, since the paper's aren't known to us; ``consistency`` is ours, and 0 leaves it out."""


def semantic(
    readings: Sequence[Response | None], truths: Sequence[VqaTruth], judge: Judge | None = None
) -> list[float | None]:
    """Return a judge's verdict on each answer, 0 to 1; None where the judge failed.

    Parameters
    ----------
    readings : sequence of Response or None
        None is an answer that can't be read: 0, and the judge isn't asked.
    truths : sequence of VqaTruth
    judge : Judge, optional
        `OfflineJudge` where None. The paper asks a language model: `medground.rewards.endpoint_judge.EndpointJudge`.

    Raises
    ------
    ConfigError
        When a judge's verdicts aren't one number from 0 to 1, or None, for each answer.

    Notes
    -----
    Hacking: every letter, every word of the vocabulary, the question once more, or words meant for the judge.

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(224, 224)
    >>> said = read_response("<response><answer>No effusion.</answer></response>", space)
    >>> semantic([said, None], [VqaTruth(space, "No pleural effusion", "open")] * 2)
    [1.0, 0.0]
    """
    asked = [
        (index, _item(reading, truth))
        for index, (reading, truth) in enumerate(zip(readings, truths, strict=True))
        if reading is not None
    ]
    verdicts: list[float | None] = [0.0] * len(readings)
    if not asked:
        return verdicts
    found = (OfflineJudge() if judge is None else judge).judge([item for _, item in asked])
    if len(found) != len(asked):
        raise ConfigError(f"the judge gave {len(found)} verdicts on {len(asked)} answers; it must give one for each")
    for (index, _), verdict in zip(asked, found, strict=True):
        if verdict is not None and not 0 <= verdict <= 1:
            raise ConfigError(f"the judge gave {verdict}; a verdict is a number from 0 to 1, or None where it failed")
        verdicts[index] = None if verdict is None else float(verdict)
    return verdicts


def _item(said: Response, truth: VqaTruth) -> JudgeItem:
    return JudgeItem(
        truth.question,
        truth.question_type,
        truth.choices,
        true_answer=truth.answer,
        answer=said.answer,
        true_reason=truth.reason,
        reason=said.reasoning or None,
    )


def grounding(
    predicted: Sequence[Box] | None,
    true: Sequence[Box],
    *,
    threshold: float | None = None,
    matching: Matching = "optimal",
) -> float:
    r"""Return how well the final boxes fit, 0 to 1.

    .. math:: grounding = [m = n] \; \frac{1}{n} \sum_i IoU(p_{\sigma(i)}, t_i)

    for m predicted and n true boxes, with the pairing :math:`\sigma` that makes the sum largest (Kuhn 1955, scipy's
    `linear_sum_assignment`), or in the order in which they are written. The count that must be right and
    the mean IoU are the paper's; `threshold` and `matching` aren't known to us, so they are parameters.

    Parameters
    ----------
    predicted : sequence of Box, or None
        In the space of `true`; None, boxes that can't be read, is worth 0.
    true : sequence of Box
        None at all: 1 when none are predicted, else 0.
    threshold : float, above 0 to 1, optional
        1 from this mean IoU on, else 0; the mean IoU itself where None.
    matching : {"optimal", "order"}

    Notes
    -----
    A prediction that is the truth as `medground.parsing` writes it, rounded to the ruler's decimals, has IoU 1.

    Hacking: more boxes than asked for, so that one of them fits. Another count is worth 0.

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(224, 224)
    >>> left, right = Box(120, 40, 200, 190, space), Box(20, 40, 100, 190, space)
    >>> grounding([right, left], [left, right]), grounding([right, left], [left, right], matching="order")
    (1.0, 0.0)
    >>> grounding([left, right], [left]), grounding([], [])
    (0.0, 1.0)
    """
    _check(threshold, matching, "counted")
    if predicted is None or len(predicted) != len(true):
        return 0.0
    if not true:
        return 1.0
    written = [written_box(box, box.space).xyxy for box in true]
    fits = np.array([
        [1.0 if box.xyxy == written[index] else box.iou(each) for index, each in enumerate(true)] for box in predicted
    ])  # fmt: skip
    mean = (_best(fits) if matching == "optimal" else float(fits.trace())) / len(true)
    return mean if threshold is None else float(mean >= threshold)


def _best(fits: npt.NDArray[np.float64]) -> float:
    """Return the largest sum of pairs of an array (rows, columns), each row and column used at most once."""
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return float(fits[rows, columns].sum())


def layout_kept(reading: Response | None) -> float:
    r"""Return the format term, 0 to 1: a quarter for each part that keeps the layout, 0 when the answer can't be read.

    1. one ``<think>`` block with text in it, and nothing else before the response;
    2. one ``<response>`` block, and nothing after it;
    3. one ``<answer>`` block, first in the response;
    4. after it nothing, or one ``<location>`` block of ``<ref>name</ref><box>[x1, y1, x2, y2]</box>`` pairs, readable.

    The paper has a format reward whose definition isn't known to us; the steps are ours.

    Notes
    -----
    Hacking: the layout around nothing. An empty answer can't be read, so it is 0 on every term.

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(224, 224)
    >>> layout_kept(read_response("It is pale. <response><answer>Yes</answer></response>", space))
    0.75
    """
    return sum(reading.steps) / len(reading.steps) if reading is not None else 0.0


def consistency(reading: Response | None, *, asked: bool = True, extra_mentions: ExtraMentions = "counted") -> float:
    r"""Return how far the regions named in the reasoning agree with the final boxes, 0 to 1; ours, not the paper's.

    .. math:: consistency = \frac{\sum_i IoU(m_{\sigma(i)}, b_i)}{\max(|b|, |m|)}

    for the final boxes b and the distinct regions m that the reasoning boxes, paired so that the sum is largest.
    With ``extra_mentions="ignored"`` the sum is divided by the number of final boxes alone.

    Parameters
    ----------
    reading : Response or None
        Unreadable, or with unreadable boxes, is worth 0.
    asked : bool
        Whether the question has a place in the picture. Where it has, giving no box is worth 0, since silence would
        agree with itself. Where it hasn't, no box and no mention is worth 1.
    extra_mentions : {"counted", "ignored"}
        Whether a region that is named and isn't final lowers the term. "ignored" suits sets whose reasoning looks at
        places that the answer doesn't point to; then no final box, where none is asked, is worth 1.

    Notes
    -----
    Brackets of four numbers that are no box inside the picture count as mentions that fit nothing. More than 32
    distinct regions are no reasoning: 0.

    Hacking: naming regions all over the picture until one agrees; each that doesn't is counted. Saying one region again
    earns nothing. The term says nothing of the truth: a wrong box that the reasoning names agrees with itself, and
    loses under `grounding`.

    Examples
    --------
    >>> from medground.coords import Space
    >>> space = Space.pixels(224, 224)
    >>> place = "<location><ref>base</ref><box>[10, 20, 30, 40]</box></location>"
    >>> final = f"<response><answer>Yes</answer>{place}</response>"
    >>> one, two = "The base (region [10, 20, 30, 40]) is pale. ", "So is the apex (region [50, 0, 90, 20])."
    >>> consistency(read_response(one + final, space)), consistency(read_response(one + two + final, space))
    (1.0, 0.5)
    """
    _check(None, "optimal", extra_mentions)
    if reading is None or reading.boxes is None:
        return 0.0
    boxes, mentions = reading.boxes, reading.mentions
    named = len(mentions) + reading.strays if extra_mentions == "counted" else 0
    if not boxes:
        return float(not asked and not named)
    if not mentions or len(mentions) + reading.strays > MAX_BOXES:
        return 0.0
    fits = np.array([[mention.iou(box) for box in boxes] for mention in mentions])
    return _best(fits) / max(len(boxes), named)


def thinkvg_terms(
    judge: Judge | None = None,
    *,
    threshold: float | None = None,
    matching: Matching = "optimal",
    extra_mentions: ExtraMentions = "counted",
) -> Callable[[Sequence[str], Sequence[VqaTruth]], list[dict[str, float]]]:
    """Return the recipe's terms as one function of completions and truths; see `thinkvg_recipe`."""
    _check(threshold, matching, extra_mentions)
    return _Terms(OfflineJudge() if judge is None else judge, threshold, matching, extra_mentions)


def thinkvg_recipe(
    judge: Judge | None = None,
    *,
    threshold: float | None = None,
    matching: Matching = "optimal",
    extra_mentions: ExtraMentions = "counted",
) -> Recipe:
    """Return the ``thinkvg`` recipe: the mean of ``semantic``, ``grounding``, ``format`` and ``consistency``, 0 to 1.

    Parameters
    ----------
    judge : Judge, optional
        See `semantic`. Where it fails on an answer, the term is left out of that row.
    threshold : float, optional
        See `grounding`.
    matching : {"optimal", "order"}
        See `grounding`.
    extra_mentions : {"counted", "ignored"}
        See `consistency`.

    Raises
    ------
    ConfigError
        When a parameter can't be used.

    Notes
    -----
    A completion without a readable answer is worth 0 on every term; unreadable boxes are worth 0 on ``grounding`` and
    ``consistency``. Truths are read by `read_vqa_truth`.

    Examples
    --------
    >>> from medground.rewards import score
    >>> truth = {"answer": "Yes", "question_type": "closed", "boxes": [[10, 20, 30, 40]]}
    >>> place = "<location><ref>base</ref><box>[10, 20, 30, 40]</box></location>"
    >>> said = f"<think>Pale (region [10, 20, 30, 40]).</think><response><answer>Yes</answer>{place}</response>"
    >>> score(said, truth, thinkvg_recipe())
    {'semantic': 1.0, 'grounding': 1.0, 'format': 1.0, 'consistency': 1.0, 'score': 1.0}
    """
    terms = thinkvg_terms(judge, threshold=threshold, matching=matching, extra_mentions=extra_mentions)
    return Recipe("thinkvg", WEIGHTS, terms, read_vqa_truth)


@dataclass(frozen=True, slots=True)
class _Terms:  # a class, not a closure: trainers that score in other processes pickle it
    judge: Judge
    threshold: float | None
    matching: Matching
    extra_mentions: ExtraMentions

    def __call__(self, completions: Sequence[str], truths: Sequence[VqaTruth]) -> list[dict[str, float]]:
        readings = [read_response(text, truth.space) for text, truth in zip(completions, truths, strict=True)]
        rows = []
        for reading, truth, right in zip(readings, truths, semantic(readings, truths, self.judge), strict=True):
            boxes = reading.boxes if reading is not None else None
            row = {} if right is None else {"semantic": right}
            row["grounding"] = grounding(boxes, truth.boxes, threshold=self.threshold, matching=self.matching)
            row["format"] = layout_kept(reading)
            row["consistency"] = consistency(reading, asked=bool(truth.boxes), extra_mentions=self.extra_mentions)
            rows.append(row)
        return rows


def _check(threshold: float | None, matching: str, extra_mentions: str) -> None:
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"threshold must be a mean IoU above 0 and up to 1, or None, not {threshold}")
    if matching not in get_args(Matching):
        raise ConfigError(f"matching must be 'optimal' or 'order', not {matching!r}")
    if extra_mentions not in get_args(ExtraMentions):
        raise ConfigError(f"extra_mentions must be 'counted' or 'ignored', not {extra_mentions!r}")

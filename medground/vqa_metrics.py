"""What an answer to a visual question is worth: is it right, are its regions, and do the two go together.

Answers are read as `medground.MedGround.ask` reads them, tolerantly, since that is what a user gets; they are judged
and held to their boxes by the functions of the rewards.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from medground.coords import Space
from medground.errors import ParseError
from medground.metrics import QUESTION_TYPES
from medground.rewards.thinkvg import consistency
from medground.rewards.thinkvg_reading import Response
from medground.rewards.vqa_truth import VqaTruth
from medground.vqa_parsing import parse_answer

__all__ = ["LOCATED", "RIGHT", "VQA_FIGURES", "read_answer", "v_score", "vqa_figures"]

LOCATED = 0.5
"""The V-score from which on an answer's regions count as right."""

RIGHT = 0.5
"""A judge's verdict from which on the answer to an open question counts as right."""

VQA_FIGURES = (
    *("closed", "single", "multi", "open", "worth"),
    *("v_score", "located", "agreement", "right_elsewhere", "wrong_there"),
    "readable",
)
"""The names of what `vqa_figures` returns."""

_NAN = float("nan")


def read_answer(text: str, space: Space) -> Response | None:
    r"""Return what a completion says, read tolerantly; None when there is no answer in it.

    Examples
    --------
    >>> read_answer("It is large. [10, 20, 30, 40]\nAnswer: B", Space.norm1000()).answer
    'B'
    """
    try:
        said = parse_answer(text, space)
    except ParseError:
        return None
    boxes, mentions = (tuple(box for _, box in each) for each in (said.regions, said.mentions))
    refs = tuple(ref for ref, _ in said.regions)
    return Response(said.answer, boxes, refs, said.reasoning, mentions, 0, (False,) * 4)


def v_score(reading: Response | None, truth: VqaTruth) -> float:
    r"""Return how well the located regions fit the true ones, 0 to 1; NaN where the question has no true region.

    .. math:: V = \frac{\sum_i IoU(p_{\sigma(i)}, t_i)}{\max(|p|, |t|)}

    for the located boxes p and the true boxes t, paired so that the sum is largest: the mean IoU, where a region that
    is missing, and one too many, count 0. The papers report a mean IoU without a word on other numbers of boxes.

    Parameters
    ----------
    reading : Response or None
        None, an answer that can't be read, is worth 0.
    truth : VqaTruth
        On the ruler of the reading.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.rewards.thinkvg_reading import read_response
    >>> from medground.types import Box
    >>> space = Space.pixels(100, 100)
    >>> truth = VqaTruth(space, "Yes", "closed", boxes=(Box(0, 0, 50, 100, space),))
    >>> answer = "<response><answer>Yes</answer><location><ref>a</ref><box>[0, 0, 100, 100]</box></location></response>"
    >>> v_score(read_response(answer, space), truth), v_score(None, truth)
    (0.5, 0.0)
    """
    if not truth.boxes:
        return _NAN
    if reading is None or not reading.boxes:
        return 0.0
    fits = np.array([[one.iou(other) for other in truth.boxes] for one in reading.boxes])
    rows, columns = linear_sum_assignment(fits, maximize=True)
    return float(fits[rows, columns].sum() / max(fits.shape))


def vqa_figures(
    reading: Response | None, truth: VqaTruth, verdict: float | None, *, reasoned: bool = True
) -> dict[str, float]:
    """Return what an answer is worth.

    Parameters
    ----------
    reading : Response or None
        None where the answer can't be read: it counts 0 wherever a figure applies.
    truth : VqaTruth
        On the ruler of the reading.
    verdict : float or None
        A judge's (`medground.rewards.thinkvg.semantic`), 0 to 1; None where the judge failed.
    reasoned : bool
        Whether reasoning was asked for.

    Returns
    -------
    dict of str to float
        All of `VQA_FIGURES`, NaN where one doesn't apply.

        ``closed``, ``single``, ``multi``, ``open``: the verdict, under the name of the question's type; of the first
        three it is 1 or 0, and of ``multi`` 1 for exactly the right set. ``worth``: the same under one name.
        ``v_score``: see there; ``located``: 1 from `LOCATED` on. ``agreement``: of the regions that the reasoning names
        and the final ones, `medground.rewards.thinkvg.consistency`; where either is there, or one was asked for.
        ``right_elsewhere``, ``wrong_there``: 1 where the answer is right and its regions are wrong, and the other way
        round; where the question has a true region. ``readable``: 0 or 1.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.rewards.thinkvg_reading import read_response
    >>> from medground.types import Box
    >>> space = Space.pixels(100, 100)
    >>> truth = VqaTruth(space, "Yes", "closed", boxes=(Box(0, 0, 50, 100, space),))
    >>> said = read_response("<response><answer>Yes</answer></response>", space)
    >>> found = vqa_figures(said, truth, 1.0)
    >>> found["closed"], found["v_score"], found["right_elsewhere"]
    (1.0, 0.0, 1.0)
    """
    told = dict.fromkeys(VQA_FIGURES, _NAN)
    worth = _NAN if verdict is None else verdict
    told[QUESTION_TYPES[truth.question_type]] = told["worth"] = worth
    told["readable"] = float(reading is not None)
    if reasoned and (truth.boxes or reading is None or reading.boxes or reading.mentions):
        told["agreement"] = consistency(reading, asked=bool(truth.boxes))
    if truth.boxes:
        told["v_score"] = v_score(reading, truth)
        told["located"] = float(told["v_score"] >= LOCATED)
        if verdict is not None:
            right, there = worth >= RIGHT, told["v_score"] >= LOCATED
            told["right_elsewhere"], told["wrong_there"] = float(right and not there), float(there and not right)
    return told

"""The rewards of MedReasoner (arXiv 2508.08177), as its published code computes them, faults included.

Three sets of terms for a completion ``<think>...</think><answer>{"bbox": [x1, y1, x2, y2], "points_1": [x, y],
"points_2": [x, y]}</answer>``: `soft`, `hard`, and `base` (after Seg-Zero, arXiv 2503.06520). The paper's pictures are
840 x 840 pixels and its constants (10 px, 100 px) are meant there, so all numbers are first brought to that frame; in
840 x 840 pixels this changes nothing.

What the name of the paper keeps, and the recipe ``medground`` mends: its "dice" divides by the union, so identical
circles are worth 2 and a true Dice of 0.75 already earns full marks; a disjoint box has no slope in its IoU term; the
text of ``<think>`` is only asked to be there.

What scores 0 here, never an error: text without the blocks, JSON that can't be read (or longer than
`medground.parsing.MAX_ANSWER` characters), lists of the wrong length, strings, ``true`` in place of numbers. Where the
published code would raise or give NaN, these terms are 0 too, validities included: a box without width or height or
with swapped corners, and numbers that aren't finite or are beyond `LARGEST`. Two equal points have no angle: that term
is 0. The truth is the user's data: without a box and two points it raises `TruthError`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from medground.coords import Space, written_order
from medground.errors import TruthError
from medground.rewards.truth import Truth
from medground.rewards.truth import read_truth as read_any_truth
from medground.rewards.umrg_terms import (
    Edges,
    Pair,
    angle,
    area_valid,
    box_align,
    box_iou,
    box_scale,
    exp_shaped,
    log_shaped,
    pdice_paper,
    penalised,
    points_align,
    position_valid,
    spread_valid,
)
from medground.tolerant import MAX_ANSWER

__all__ = [
    "BASE",
    "HARD",
    "LARGEST",
    "SIDE",
    "SOFT",
    "base",
    "format_seg",
    "format_think",
    "hard",
    "pdice_paper",
    "read_truth",
    "soft",
]

SOFT = {"format_think": 1.0, "format_seg": 1.0, "bbox_iou": 1.0, "points_dice": 1.0}
"""The terms that the soft reward sums, 0 to 4; its other terms are for information."""

HARD = SOFT | {"bbox_align": 1.0, "bbox_scale": 1.0, "points_align": 1.0, "points_angle": 1.0}
"""The terms that the hard reward sums, 0 to 8; the four validities are for information."""

BASE = {"format_think": 1.0, "format_seg": 1.0, "bbox_iou": 1.0, "bbox_align": 1.0, "points_align": 1.0}
"""The terms that the base reward sums, 0 to 5."""

SIDE = 840.0
"""Width and height of the paper's pictures in pixels."""

LARGEST = 1e60
"""The largest coordinate that is computed with: the product of four of them must fit in a float."""

_KEYS = ("bbox", "points_1", "points_2")
_BETWEEN = re.compile(r"</think>\s*+<answer>")  # possessive, so that a run of white space is read once
_OPENED = re.compile(r"\{[^}]")


# --- format ----------------------------------------------------------------------------------------------------------


def _block(text: str, opening: str, closing: str) -> str | None:
    """Return what stands in the first block, as a non-greedy search would, in one pass over the text."""
    start = text.find(opening)
    if start < 0:
        return None
    start += len(opening)
    end = text.find(closing, start)
    return None if end < 0 else text[start:end]


def format_think(completion: str) -> float:
    """Return 0 without a ``<think>...</think>`` block, 0.2 with an empty one, else 1. Source: MedReasoner.

    Examples
    --------
    >>> format_think("A bright disc."), format_think("<think> </think>"), format_think("<think>A bright disc.</think>")
    (0.0, 0.2, 1.0)
    """
    inside = _block(completion, "<think>", "</think>")
    if inside is None:
        return 0.0
    return 0.2 if not inside or inside.isspace() else 1.0


def _decoded(text: str | None) -> dict[str, Any] | None:
    """Return the JSON object in a text; None for anything else, and for more than `MAX_ANSWER` characters."""
    if text is None or len(text) > MAX_ANSWER:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):  # broken, a number of thousands of digits, or brackets nested too deep
        return None
    return said if isinstance(said, dict) else None


def _numbers(value: Any, count: int) -> TypeGuard[list[float]]:
    # json gives plain ints and floats; `true` is a bool, so no number.
    if type(value) is not list or len(value) != count:
        return False
    for each in value:  # noqa: SIM110 - a generator costs twice as much, here and below
        if type(each) is not int and type(each) is not float:
            return False
    return True


def format_seg(completion: str) -> float:
    """Return how well the first ``<answer>...</answer>`` block is written, 0 to 1. Source: MedReasoner.

    0 without a block; 0.2 when it isn't a JSON object (single quotes are read as double ones); 0.4 when one of
    ``bbox``, ``points_1``, ``points_2`` is missing, or when neither box (four numbers) nor points (two pairs) are
    right; 0.6 when one of them is; 1 when both are. Where the numbers lie plays no part.

    Examples
    --------
    >>> format_seg("<answer>[1, 2]</answer>"), format_seg('<answer>{"bbox": [1, 2, 3, 4]}</answer>')
    (0.2, 0.4)
    >>> format_seg("<answer>{'bbox': [1, 2, 3], 'points_1': [1, 2], 'points_2': [3, 4]}</answer>")
    0.6
    """
    return _read_answer(completion).format


class _Answer(NamedTuple):
    """How well an answer is written, and its lists of numbers as they are written."""

    format: float
    box: list[float] | None = None
    points: tuple[list[float], list[float]] | None = None


def _read_answer(completion: str) -> _Answer:
    inside = _block(completion, "<answer>", "</answer>")
    if inside is None:
        return _Answer(0.0)
    said = _decoded(inside[: MAX_ANSWER + 1].replace("'", '"'))
    if said is None:
        return _Answer(0.2)
    box, points = _lists(said)
    if not ("bbox" in said and "points_1" in said and "points_2" in said):
        return _Answer(0.4, box, points)
    right = (box is not None) + (points is not None)
    return _Answer((0.4, 0.6, 1.0)[right], box, points)


def _lists(said: dict[str, Any]) -> tuple[list[float] | None, tuple[list[float], list[float]] | None]:
    box, first, second = said.get("bbox"), said.get("points_1"), said.get("points_2")
    points = (first, second) if _numbers(first, 2) and _numbers(second, 2) else None
    return box if _numbers(box, 4) else None, points


# --- from text and truth to numbers in the paper's frame -------------------------------------------------------------


def read_truth(value: Any, row: int | None = None) -> Truth:
    """Read a truth as `medground.rewards.truth.read_truth` does, and insist on a box and two points.

    Raises
    ------
    TruthError
        Names the row and the field.

    Examples
    --------
    >>> read_truth({"bbox_2d": [10, 20, 30, 40]}, row=3)
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: truth of row 3, point_2d: the umrg recipes need two key points; give [[x, y], [x, y]]
    """
    truth = read_any_truth(value, row)
    if truth.box is None or len(truth.points) != 2:
        raise _lacking(truth, row)
    return truth


def _lacking(truth: Truth, row: int | None) -> TruthError:
    where = "truth" if row is None else f"truth of row {row}"
    if truth.box is None:
        return TruthError(f"{where}, absent: the umrg recipes need a target; leave it out, or use recipe medground")
    return TruthError(f"{where}, point_2d: the umrg recipes need two key points; give [[x, y], [x, y]]")


def _true(truth: Truth, row: int) -> tuple[Edges, Pair]:
    """Return the true box and points in the paper's frame."""
    if truth.box is None or len(truth.points) != 2:
        raise _lacking(truth, row)
    box: Edges = truth.box.xyxy
    first: Edges = truth.points[0].xy
    second: Edges = truth.points[1].xy
    space = truth.space
    if not space.width == space.height == SIDE:
        box, first, second = (_scaled(values, space) for values in (box, first, second))
    if not (_within_reach(box) and _within_reach(first) and _within_reach(second)):
        raise TruthError(f"truth of row {row}: a number is beyond {LARGEST:g}; check the coordinates and the space")
    return box, (first, second)


def _scaled(values: Sequence[float], space: Space) -> list[float]:
    across, down = SIDE / space.width, SIDE / space.height
    return [value * (down if index % 2 else across) for index, value in enumerate(values)]


def _placed(written: list[float] | None, space: Space) -> list[float] | None:
    """Return written numbers in the paper's frame; None unless they can be computed with."""
    if written is None or not _within_reach(written):
        return None
    numbers = written if space.order == "xy" else written_order(written, space)
    if space.width == space.height == SIDE:
        return numbers
    return _scaled(numbers, space)


def _placed_pair(written: tuple[list[float], list[float]] | None, space: Space) -> Pair | None:
    if written is None:
        return None
    first, second = _placed(written[0], space), _placed(written[1], space)
    return None if first is None or second is None else (first, second)


def _within_reach(values: Sequence[float]) -> bool:
    for value in values:  # noqa: SIM110
        if not -LARGEST <= value <= LARGEST:  # true of NaN; an int of any size compares
            return False
    return True


# --- the three rewards -----------------------------------------------------------------------------------------------

_SILENT = {
    "format_think": 0.0,
    "format_seg": 0.0,
    "bbox_iou": 0.0,
    "points_dice": 0.0,
    "bbox_align": 0.0,
    "bbox_scale": 0.0,
    "points_align": 0.0,
    "points_angle": 0.0,
    "bbox_position_valid": 0.0,
    "bbox_area_valid": 0.0,
    "points_position_valid": 0.0,
    "points_spread_valid": 0.0,
}


def soft(completions: Sequence[str], truths: Sequence[Truth]) -> list[dict[str, float]]:
    """Return the terms of the paper's soft reward: format, IoU and circles.

    Parameters
    ----------
    completions : sequence of str
    truths : sequence of Truth
        With a box and two points, on the ruler that the completions are written on.

    Returns
    -------
    list of dict
        The terms of `hard` under the same names, each 0 to 1; those that the soft reward doesn't know are 0.

    Raises
    ------
    TruthError
        When a truth lacks the box or the points; names the row.
    """
    return [_score(text, truth, row, False) for row, (text, truth) in enumerate(zip(completions, truths, strict=True))]


def hard(completions: Sequence[str], truths: Sequence[Truth]) -> list[dict[str, float]]:
    """Return the terms of the paper's hard reward: the soft ones, and alignment, scale and angle.

    Parameters, errors: those of `soft`.

    Returns
    -------
    list of dict
        ``format_think``, ``format_seg``, ``bbox_iou``, ``bbox_align``, ``bbox_scale``, ``points_dice``,
        ``points_align``, ``points_angle``, and the validities ``bbox_position_valid``, ``bbox_area_valid``,
        ``points_position_valid``, ``points_spread_valid``; each 0 to 1.

    Examples
    --------
    >>> truth = read_truth({"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]})
    >>> near = "{'bbox': [110, 100, 310, 200], 'points_1': [250, 150], 'points_2': [150, 140]}"
    >>> terms = hard([f"<think>A bright oval.</think><answer>{near}</answer>"], [truth])[0]
    >>> {name: terms[name] for name in ("bbox_iou", "bbox_align", "points_dice", "points_angle")}
    {'bbox_iou': 0.9519, 'bbox_align': 0.9969, 'points_dice': 1.0, 'points_angle': 0.9976}
    """
    return [_score(text, truth, row, True) for row, (text, truth) in enumerate(zip(completions, truths, strict=True))]


def _score(text: str, truth: Truth, row: int, fully: bool) -> dict[str, float]:
    true_box, true_points = _true(truth, row)
    terms = _SILENT.copy()
    terms["format_think"] = format_think(text)
    answer = _read_answer(text)
    terms["format_seg"] = answer.format
    box = _placed(answer.box, truth.space)
    if box is not None and box[0] < box[2] and box[1] < box[3]:
        valid = position_valid(true_points, box), area_valid(box, true_box)
        terms["bbox_position_valid"], terms["bbox_area_valid"] = valid
        terms["bbox_iou"] = penalised(log_shaped(box_iou(box, true_box)), *valid)
        if fully:
            terms["bbox_align"] = penalised(exp_shaped(box_align(box, true_box)), *valid)
            terms["bbox_scale"] = penalised(exp_shaped(box_scale(box, true_box), c=0.5), *valid)
    points = _placed_pair(answer.points, truth.space)
    if points is not None:
        valid = position_valid(points, true_box), spread_valid(points)
        terms["points_position_valid"], terms["points_spread_valid"] = valid
        terms["points_dice"] = penalised(log_shaped(pdice_paper(points, true_points, slack=1e-5)), *valid)
        if fully:
            terms["points_align"] = penalised(exp_shaped(points_align(points, true_points, true_box)), *valid)
            cosine = angle(points, true_points)
            terms["points_angle"] = 0.0 if cosine is None else penalised(log_shaped(cosine), *valid)
    return terms


def base(completions: Sequence[str], truths: Sequence[Truth]) -> list[dict[str, float]]:
    """Return the five 0/1 terms of the paper's base reward (after Seg-Zero, arXiv 2503.06520), as they were meant.

    As published, an exception on the parsed truth is swallowed, so ``bbox_iou`` and ``bbox_align`` are always 0 and a
    perfect answer scores 3. Here it scores 5.

    - ``format_think``: the whole text is ``<think>...</think>``, white space, ``<answer>...</answer>``;
    - ``format_seg``: the first ``{...}`` of the text is JSON (single quotes aren't) with lists ``bbox``, ``points_1``
      and ``points_2`` of 4, 2 and 2;
    - ``bbox_iou``: IoU above 0.5, each side counted with 1 px more;
    - ``bbox_align``: mean distance of the four edges below 10 px;
    - ``points_align``: both points in the predicted box, edges included, and their mean Euclidean distance to the true
      ones, in the better pairing, below 100 px.

    Parameters, errors: those of `soft`.

    Examples
    --------
    >>> truth = read_truth({"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]})
    >>> right = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'
    >>> sum(base([f"<think>A bright oval.</think> <answer>{right}</answer>"], [truth])[0].values())
    5.0
    """
    return [_score_base(text, truth, row) for row, (text, truth) in enumerate(zip(completions, truths, strict=True))]


def _score_base(text: str, truth: Truth, row: int) -> dict[str, float]:
    true_box, true_points = _true(truth, row)
    terms = dict.fromkeys(BASE, 0.0)
    if text.startswith("<think>") and text.endswith("</answer>"):
        terms["format_think"] = float(_BETWEEN.search(text) is not None)
    said = _decoded(_first_braces(text))
    if said is None:
        return terms
    lists = [said.get(key) for key in _KEYS]
    terms["format_seg"] = float(
        all(type(each) is list and len(each) == count for each, count in zip(lists, (4, 2, 2), strict=True))
    )
    written = _lists(said)
    box, points = _placed(written[0], truth.space), _placed_pair(written[1], truth.space)
    if box is None:
        return terms
    terms["bbox_iou"] = float(_iou_of_pixels(box, true_box) > 0.5)
    terms["bbox_align"] = float(sum(abs(a - b) for a, b in zip(box, true_box, strict=True)) / 4 < 10)
    if points is not None and position_valid(points, box) == 1:
        (a, b), (c, d) = points, true_points
        apart = min(math.dist(a, c) + math.dist(b, d), math.dist(a, d) + math.dist(b, c)) / 2
        terms["points_align"] = float(apart < 100)
    return terms


def _first_braces(text: str) -> str | None:
    """Return the first ``{...}`` with something in it, up to its first closing brace."""
    opened = _OPENED.search(text)
    end = text.find("}", opened.end()) if opened else -1
    return text[opened.start() : end + 1] if opened and end >= 0 else None


def _iou_of_pixels(predicted: Edges, true: Edges) -> float:
    """Return the IoU of boxes whose last row and column of pixels belong to them."""
    across = min(predicted[2], true[2]) - max(predicted[0], true[0]) + 1
    down = min(predicted[3], true[3]) - max(predicted[1], true[1]) + 1
    if across <= 0 or down <= 0:
        return 0.0
    areas = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (predicted, true))
    return across * down / (areas - across * down)

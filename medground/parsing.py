"""From a completion's text to a `Grounding`, and from a location to the text that says it.

Two ways to read. *Strict* is for rewards: one layout, anything else is refused with its reason. *Tolerant* is for
people: it reads what models write in practice and says in ``Grounding.repairs`` what it had to mend. Neither ever
guesses the coordinate space: numbers are read on the ruler of the space that is handed in, in the order that it writes.
Both take time linear in the text and raise nothing but `ParseError`, whatever the text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from medground.coords import Space, decimals, written_order
from medground.errors import ParseError
from medground.prompts import Mode
from medground.tolerant import MAX_ANSWER, OUTSIDE, has_area, parse_tolerant
from medground.types import Box, Grounding, Point

__all__ = ["MAX_ANSWER", "OUTSIDE", "format_answer", "parse", "written_box", "written_point"]

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


def parse(text: str, space: Space, *, strict: bool = False, mode: Mode | None = None) -> Grounding:
    """Read a completion.

    Parameters
    ----------
    text : str
        What the model wrote.
    space : Space
        The space in which the model was asked to answer; its ``order`` says how the numbers are to be read.
    strict : bool
        Accept only ``<think>...</think><answer>...</answer>`` (or the answer block alone), with white space around
        the blocks and nothing else; in the answer a JSON object with exactly ``bbox``, ``points_1`` and ``points_2``,
        or exactly ``{"absent": true}``; finite numbers inside the picture, ``x1 < x2`` and ``y1 < y2``. A key point
        outside the box is no fault of format, so it is accepted.
    mode : {"reason", "direct"}, optional
        Strict only: insist on a ``<think>`` block, or on none.

    Returns
    -------
    Grounding
        At most one box, and no or two points, in `space`. ``repairs`` says what tolerant reading mended or noticed.

    Raises
    ------
    ParseError
        When no grounding can be read; the message is one sentence with the reason and quotes nothing from `text`.

    Examples
    --------
    >>> space = Space.norm1000()
    >>> location = '{"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [25, 35]}'
    >>> parse(f"<think>Pale disc.</think><answer>{location}</answer>", space, strict=True).box.xyxy
    (10.0, 20.0, 30.0, 40.0)
    >>> parse("It is here: {'bbox_2d': [30, 20, 10, 40]}", space).repairs[-2:]
    ("the box's corners were swapped and were sorted", 'no key points were given')
    >>> parse('<answer>{"absent": true}</answer>', space).absent
    True
    """
    if strict:
        return _parse_strict(text, space, mode)
    return parse_tolerant(text, space)


def format_answer(box: Box | None, points: Sequence[Point], space: Space, *, reasoning: str | None = None) -> str:
    """Return the canonical completion for a location; the inverse of strict `parse` within rounding.

    Parameters
    ----------
    box : Box or None
        In any space of the same picture; None says that the target is absent.
    points : sequence of two Point
        The key points, in any space of the same picture; none when `box` is None.
    space : Space
        The space to write in: whole numbers, or 4 decimals for 0-1. A box too thin is rounded outwards.
    reasoning : str, optional
        Text of the ``<think>`` block; no block when None or empty.

    Examples
    --------
    >>> pixels = Space.pixels(640, 480)
    >>> points = (Point(100, 60, pixels), Point(200, 120, pixels))
    >>> format_answer(Box(64, 48, 320, 240, pixels), points, Space.norm1000(), reasoning="Hm.")
    '<think>Hm.</think><answer>{"bbox": [100, 100, 500, 500], "points_1": [156, 125], "points_2": [312, 250]}</answer>'
    """
    if len(points) != (0 if box is None else 2):
        raise ValueError(f"a location has a box and two points, an absent target neither; got {len(points)} points")
    answer: dict[str, Any] = {"absent": True}
    if box is not None:
        answer = {"bbox": _write_box(box.to(space), space)}
        for index, point in enumerate(points, 1):
            answer[f"points_{index}"] = _write(point.to(space).xy, space)
    think = (reasoning or "").strip()
    if any(tag in think.lower() for tag in _TAGS):
        raise ValueError("the reasoning holds a think or answer tag, so the completion couldn't be read back")
    return (f"<think>{think}</think>" if think else "") + f"<answer>{json.dumps(answer)}</answer>"


def written_box(box: Box, space: Space) -> Box:
    """Return a box as `format_answer` writes it in a space: rounded, but never to nothing.

    Examples
    --------
    >>> written_box(Box(10.4, 20, 10.6, 30, Space.pixels(100, 100)), Space.pixels(100, 100)).xyxy
    (10.0, 20.0, 11.0, 30.0)
    """
    x1, y1, x2, y2 = written_order(_write_box(box.to(space), space), space)
    return Box(float(x1), float(y1), float(x2), float(y2), space)


def written_point(point: Point, space: Space) -> Point:
    """Return a point as `format_answer` writes it in a space: rounded."""
    x, y = written_order(_write(point.to(space).xy, space), space)
    return Point(float(x), float(y), space)


def _write(values: Sequence[float], space: Space) -> list[float]:
    digits = decimals(space)
    return written_order([round(value, digits) if digits else round(value) for value in values], space)


def _write_box(box: Box, space: Space) -> list[float]:
    scale = 10 ** decimals(space)
    written = written_order(_write(box.xyxy, space), space)
    for low, high in ((0, 2), (1, 3)):
        if written[low] >= written[high]:
            first, last = math.floor(box.xyxy[low] * scale), math.ceil(box.xyxy[high] * scale)
            written[low], written[high] = (first, last) if scale == 1 else (first / scale, last / scale)
    return written_order(written, space)


def _parse_strict(text: str, space: Space, mode: Mode | None) -> Grounding:
    for tag in _TAGS:
        if (count := text.count(tag)) > 1:
            raise ParseError(f"{tag} appears {count} times")
    before, opened, rest = text.partition("<answer>")
    inside, closed, after = rest.partition("</answer>")
    if not (opened and closed):
        raise ParseError("there is no <answer>...</answer> block")
    head = before.strip()
    if head and not (head.startswith("<think>") and head.endswith("</think>")):
        raise ParseError("something other than one <think>...</think> block stands before the answer")
    if after.strip():
        raise ParseError("text follows the answer")
    reasoning = head.removeprefix("<think>").removesuffix("</think>").strip()
    if head and not reasoning:
        raise ParseError("the <think> block is empty")
    if mode == "reason" and not head:
        raise ParseError("there is no <think>...</think> block")
    if mode == "direct" and head:
        raise ParseError("a <think> block stands where the answer alone was asked for")
    said = _strict_object(inside)
    if set(said) == {"absent"} and said["absent"] is True:
        return Grounding(reasoning, (), (), space, absent=True)
    if set(said) != {"bbox", "points_1", "points_2"}:
        raise ParseError('the keys aren\'t exactly bbox, points_1 and points_2 (or "absent": true)')
    x1, y1, x2, y2 = _strict_numbers(said["bbox"], 4, "bbox", space)
    if not has_area(x1, y1, x2, y2, space):
        raise ParseError("the box's corners aren't top left and bottom right, or it has no area")
    points = [Point(*_strict_pair(said[key], key, space), space) for key in ("points_1", "points_2")]
    return Grounding(reasoning, (Box(x1, y1, x2, y2, space),), tuple(points), space)


def _strict_object(inside: str) -> dict[str, Any]:
    if len(inside) > MAX_ANSWER:
        raise ParseError(f"the answer has more than {MAX_ANSWER} characters")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise ValueError("a key appears twice")
        return dict(items)

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} isn't a JSON number")

    try:
        said = json.loads(inside, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ParseError("the answer isn't valid JSON") from error
    if not isinstance(said, dict):
        raise ParseError("the answer isn't a JSON object")
    return said


def _strict_numbers(value: Any, count: int, key: str, space: Space) -> list[float]:
    if not (isinstance(value, list) and len(value) == count):
        raise ParseError(f"{key} isn't a list of {count} numbers")
    numbers = []
    for each, extent in zip(written_order(value, space), (space.width, space.height) * 2, strict=False):
        if isinstance(each, bool) or not isinstance(each, int | float):
            raise ParseError(f"{key} isn't a list of {count} numbers")
        if not 0 <= each <= extent:  # false for NaN and infinities; an int of any size compares
            raise ParseError(f"{key} isn't inside the picture in {space.name} coordinates")
        numbers.append(float(each))
    return numbers


def _strict_pair(value: Any, key: str, space: Space) -> tuple[float, float]:
    x, y = _strict_numbers(value, 2, key, space)
    return x, y

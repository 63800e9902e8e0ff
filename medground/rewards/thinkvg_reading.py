"""Reading of ThinkVG's completions: prose that names and boxes regions, then an answer and where it is seen.

Strict where a guess would pay: one answer, boxes that are JSON. Time is linear in the text with a small factor: tags
are found by plain search, and what is decoded or searched by a pattern is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from medground.coords import Space, written_order
from medground.tolerant import MAX_ANSWER, OUTSIDE, has_area
from medground.types import Box

__all__ = [
    "MAX_BOXES",
    "REGION",
    "Response",
    "find_mentions",
    "format_response",
    "read_box",
    "read_mentions",
    "read_response",
]

MAX_BOXES = 32
"""How many boxes, and how many distinct regions of a reasoning, are read; ThinkVG has at most 4 boxes a row."""

_TAGS = ("think", "response", "answer", "location")
_NUMBER = r"[-+]?[0-9]{1,9}(?:\.[0-9]{0,9})?"
REGION = re.compile(rf"\[\s{{0,9}}({_NUMBER}(?:\s{{0,9}},\s{{0,9}}{_NUMBER}){{3}})\s{{0,9}}\]")
"""A region in prose: four numbers in brackets, those in its first group."""


@dataclass(frozen=True, slots=True)
class Response:
    """A completion whose answer could be read.

    Parameters
    ----------
    answer : str
        Not empty.
    boxes : tuple of Box or None
        The final boxes, in the space they were read in and clipped to the picture; None when the list can't be read.
    refs : tuple of str
        What the final boxes are called.
    reasoning : str
        What stands before the response, without its tags.
    mentions : tuple of Box
        The distinct regions that the reasoning boxes; see `read_mentions`.
    strays : int
        How many brackets of four numbers in the reasoning are no box inside the picture.
    steps : tuple of bool
        Which parts keep the layout: reasoning, response, answer, location.
    """

    answer: str
    boxes: tuple[Box, ...] | None
    refs: tuple[str, ...]
    reasoning: str
    mentions: tuple[Box, ...]
    strays: int
    steps: tuple[bool, bool, bool, bool]


def read_response(text: str, space: Space) -> Response | None:
    """Read a completion; None when there isn't exactly one ``<answer>...</answer>`` with something in it.

    The layout is ``<think>...</think><response><answer>...</answer><location><ref>...</ref><box>[x1, y1, x2, y2]</box>
    ...</location></response>``. Pairs of ``<ref>`` and ``<box>`` may repeat, a ``<box>`` may hold a list of boxes, and
    the location may be left out or empty, which says that there is no region. Read as well, with fewer steps
    of the format: reasoning without its tags, no ``<response>`` around the answer, boxes without ``<location>`` or
    without ``<box>`` (GEMeX's ``<location>[[x1, y1, x2, y2], ...]``).

    Parameters
    ----------
    text : str
        Any text.
    space : Space
        The ruler and the order of the numbers.

    Examples
    --------
    >>> said = read_response(
    ...     "<think>Pale (region [10, 20, 30, 40]).</think><response><answer>Yes</answer><location><ref>left lung</ref>"
    ...     "<box>[10, 20, 30, 40]</box></location></response>",
    ...     Space.pixels(224, 224),
    ... )
    >>> said.answer, said.refs, said.boxes[0].xyxy, said.steps
    ('Yes', ('left lung',), (10.0, 20.0, 30.0, 40.0), (True, True, True, True))
    """
    once = {tag: text.count(f"<{tag}>") == text.count(f"</{tag}>") == 1 for tag in _TAGS}
    thought = max(text.find("</think>"), 0)
    start = text.find("<response>", thought)
    # Without <response>, what follows the reasoning is read in its place; without </think>, what follows the prose.
    first = start if start >= 0 else max(text.find("<answer>", thought), 0)
    before, body = text[:first], text[first:].removeprefix("<response>")
    body, _, after = body.partition("</response>")
    lead, opened, rest = body.partition("<answer>")
    answer, closed, rest = rest.partition("</answer>")
    alone = text.count("<answer>", first) == text.count("</answer>", first) == 1  # two answers are none
    answer = answer.strip()
    if not (opened and closed and alone and answer and len(answer) <= MAX_ANSWER):
        return None
    refs, boxes, kept = _location(rest, space)
    think = before.strip()
    inside = think.removeprefix("<think>").removesuffix("</think>").strip()
    steps = (
        once["think"] and think.startswith("<think>") and think.endswith("</think>") and bool(inside),
        once["response"] and start >= 0 and not after.strip(),
        once["answer"] and not lead.strip(),
        kept and text.count("<location>") == text.count("</location>") <= 1,
    )
    reasoning = before.replace("<think>", " ").replace("</think>", " ").strip()
    return Response(answer, boxes, refs, reasoning, *read_mentions(reasoning, space), steps)


def _location(rest: str, space: Space) -> tuple[tuple[str, ...], tuple[Box, ...] | None, bool]:
    """Return the regions' names, their boxes (None: unreadable), and whether the layout is kept."""
    lead, opened, rest = rest.partition("<location>")
    inside, closed, tail = rest.partition("</location>") if opened else (lead, "", "")
    kept = bool(opened and closed and not lead.strip() and not tail.strip()) or not (opened or inside.strip())
    if len(inside) > MAX_ANSWER or (opened and not closed):
        return (), None, False
    if "<box>" not in inside:
        bare = inside.strip()
        if not bare:
            return (), (), kept
        found = _boxes(bare, space)
        return (), found, False
    refs: list[str] = []
    boxes: list[Box] = []
    for part in inside.split("</box>"):
        name, opened, listed = part.partition("<box>")
        name = name.strip()
        if not opened:
            kept = kept and not name  # words after the last box
            break
        kept = kept and name.startswith("<ref>") and name.endswith("</ref>") and name.count("<") == 2 and len(name) > 11
        refs += [name.removeprefix("<ref>").removesuffix("</ref>").strip()] if name else []
        found = _boxes(listed, space)
        if not found or len(boxes) + len(found) > MAX_BOXES:
            return tuple(refs), None, False
        boxes += found
    else:
        return tuple(refs), None, False  # the last <box> isn't closed
    return tuple(refs), tuple(boxes), kept


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't a JSON number")


def _boxes(text: str, space: Space) -> tuple[Box, ...] | None:
    try:
        said = json.loads(text, parse_constant=_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, list) or len(said) > MAX_BOXES:
        return None
    boxes = [read_box(each, space) for each in (said if all(isinstance(each, list) for each in said) else [said])]
    return None if any(box is None for box in boxes) else tuple(box for box in boxes if box is not None)


def read_box(values: Sequence[Any], space: Space) -> Box | None:
    """Return a box from four numbers as a completion writes them, clipped to the picture; None when it is none.

    None too when a number lies outside the picture by more than a tenth of its side, or corners are swapped.

    Examples
    --------
    >>> read_box([-3, 20, 30, 40], Space.pixels(224, 224)).xyxy
    (0.0, 20.0, 30.0, 40.0)
    >>> read_box([30, 20, 10, 40], Space.pixels(224, 224)) is None
    True
    """
    if not isinstance(values, list) or len(values) != 4:
        return None
    numbers = []
    for value, extent in zip(written_order(values, space), (space.width, space.height) * 2, strict=True):
        # Compared before it is converted: an integer may be too long for a float. NaN fails the comparison.
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not -OUTSIDE * extent <= value <= (1 + OUTSIDE) * extent:
            return None
        numbers.append(min(max(float(value), 0.0), float(extent)))
    x1, y1, x2, y2 = numbers
    return Box(x1, y1, x2, y2, space) if has_area(x1, y1, x2, y2, space) else None


def read_mentions(reasoning: str, space: Space) -> tuple[tuple[Box, ...], int]:
    """Return the distinct regions that a reasoning boxes, and how many bracketed fours of numbers are no box.

    A region is ``[x1, y1, x2, y2]`` anywhere in the first 20,000 characters, as in ``left lower lung zone (region
    [121, 102, 179, 192])``. Reading stops after `MAX_BOXES` + 1 distinct ones.

    Examples
    --------
    >>> boxes, strays = read_mentions("The base (region [1, 2, 3, 4]), again [1, 2, 3, 4].", Space.pixels(9, 9))
    >>> [box.xyxy for box in boxes], strays
    ([(1.0, 2.0, 3.0, 4.0)], 0)
    """
    boxes: dict[tuple[float, ...], Box] = {}
    strays: set[tuple[float, ...]] = set()
    for _, numbers, box in find_mentions(reasoning, space):
        if box is None:
            strays.add(numbers)
        else:
            boxes.setdefault(box.xyxy, box)
        if len(boxes) + len(strays) > MAX_BOXES:
            break
    return tuple(boxes.values()), len(strays)


def find_mentions(reasoning: str, space: Space) -> Iterator[tuple[re.Match[str], tuple[float, ...], Box | None]]:
    """Yield each bracket of four numbers in the first 20,000 characters: where, its numbers, and the box, if it is one.

    Examples
    --------
    >>> [(found.start(), box.xyxy) for found, _, box in find_mentions("base [1, 2, 3, 4]", Space.pixels(9, 9))]
    [(5, (1.0, 2.0, 3.0, 4.0))]
    """
    for found in REGION.finditer(reasoning, 0, MAX_ANSWER):
        numbers = [float(number) for number in found[1].split(",")]
        yield found, tuple(numbers), read_box(numbers, space)


def format_response(
    answer: str, boxes: Sequence[Box], refs: Sequence[str], space: Space, *, reasoning: str | None = None
) -> str:
    """Return the canonical completion; the inverse of `read_response` within rounding.

    Parameters
    ----------
    answer : str
        Not empty.
    boxes : sequence of Box
        In any space of the same picture; no location is written without them.
    refs : sequence of str
        A name for each box; ``"region"`` where there are too few.
    space : Space
        The space to write in: whole numbers, or 4 decimals for 0-1.
    reasoning : str, optional
        Text of the ``<think>`` block; no block when None or empty.

    Examples
    --------
    >>> pixels = Space.pixels(224, 224)
    >>> format_response("Yes", [Box(10, 20, 30, 40, pixels)], ["left lung"], pixels)
    '<response><answer>Yes</answer><location><ref>left lung</ref><box>[10, 20, 30, 40]</box></location></response>'
    """
    from medground.parsing import written_box

    said = [answer.strip(), *(ref.strip() for ref in refs), (reasoning or "").strip()]
    if not said[0] or any(
        f"<{end}{tag}>" in part for part in said for tag in (*_TAGS, "ref", "box") for end in ("", "/")
    ):
        raise ValueError("the answer is empty, or a part holds one of the layout's tags, so it couldn't be read back")
    places = []
    for index, box in enumerate(boxes):
        numbers = written_order([f"{value:.12g}" for value in written_box(box, space).xyxy], space)
        name = refs[index].strip() if index < len(refs) else "region"
        places.append(f"<ref>{name or 'region'}</ref><box>[{', '.join(numbers)}]</box>")
    location = f"<location>{''.join(places)}</location>" if places else ""
    think = f"<think>{said[-1]}</think>" if said[-1] else ""
    return f"{think}<response><answer>{said[0]}</answer>{location}</response>"

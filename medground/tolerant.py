"""Tolerant reading of completions: what models write in practice, and what had to be mended to read it.

The public door is `medground.parsing.parse`. Every pattern here starts with a plain letter or bracket and repeats at
most a bounded number of times, at most `SEARCHED` characters are searched and at most `MAX_ANSWER` decoded as JSON, so
time is linear in the text with a small factor: see the hostile texts in the tests.
"""

from __future__ import annotations

import json
import re
from typing import Any

from medground.coords import Space, decimals, written_order
from medground.errors import ParseError
from medground.types import Box, Grounding, Point

__all__ = ["MAX_ANSWER", "OUTSIDE", "SEARCHED", "boxes_in", "has_area", "mended_box", "parse_tolerant"]

MAX_ANSWER = 20_000
"""The longest answer that is decoded as JSON, in characters; a real one has about a hundred."""

SEARCHED = 100_000
"""How many characters are searched for a location: the first of an answer block, or the last where tags are missing."""

OUTSIDE = 0.1
"""How far a coordinate may lie outside the picture, in parts of its side, and still be clipped."""

_BOX_KEYS = ("bbox", "bbox_2d", "box", "box_2d", "bounding_box")
_POINT_KEYS = (("points_1", "point_1"), ("points_2", "point_2"))
_POINTS_KEYS = ("points", "point_2d", "points_2d")

_THINK, _THINK_END = re.compile(r"<think>", re.I | re.A), re.compile(r"</think>", re.I | re.A)
_ANSWER, _ANSWER_END = re.compile(r"<answer>", re.I | re.A), re.compile(r"</answer>", re.I | re.A)
_ANY_TAG = re.compile(r"</?(?:think|answer)>", re.I | re.A)

_NUMBER = r"[-+]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?(?:\s?%)?"
_NUMBER_ALONE = re.compile(_NUMBER)
# A number counts only if something ends it; one at the very end of a completion may have been cut short.
_NEXT_NUMBER = re.compile(rf"""[\s,;\[\]()"']{{0,20}}({_NUMBER})(?=[\s,;\[\]()"'}}<`])""")
_IS = r"""["']?\s{0,20}[:=]\s{0,20}"""
_KEYED_BOX = re.compile(rf"""b(?:box|ox|ounding_box)(?:_2d)?{_IS}(?=[\s\[("']{{0,20}}[-+.]?[0-9])""")
_KEYED_POINT = tuple(re.compile(rf"points?_{index}{_IS}") for index in (1, 2))
_KEYED_POINTS = re.compile(rf"point(?:s|_2d|s_2d){_IS}")
_KEYED_ABSENT = re.compile(rf"""absent{_IS}["']?[Tt]rue""")
_NATIVE = re.compile(r"<(?:box|bbox|\|box_start\||\|begin_of_box\|)>")
_BETWEEN = r"[\s,;]{1,20}"
_LIST = re.compile(
    rf"[\[(]\s{{0,9}}{_NUMBER}{_BETWEEN}{_NUMBER}(?:\s{{0,9}}[\])]\s{{0,9}},?\s{{0,9}}[\[(]\s{{0,9}}|{_BETWEEN})"
    rf"{_NUMBER}{_BETWEEN}{_NUMBER}\s{{0,9}}[\])]"
)
_OPENING = re.compile(r"[{\[]")
_IN_BRACKETS = re.compile(r"[\[(]([^\[\]()]{1,400})[\])]")
_NUMBERS = re.compile(rf"(?<![\w.]){_NUMBER}(?![\w.])")
_TRAILING_COMMA = re.compile(r",\s{0,20}([\]}])")
_FENCE = re.compile(r"```[a-z]{0,10}")

_SEVERAL = "several boxes were given; the first was taken"
_OTHER_KEYS = "other keys were ignored"


def parse_tolerant(text: str, space: Space) -> Grounding:
    """Read a completion as `medground.parsing.parse` does when it isn't strict; see there."""
    if not text.strip():
        raise ParseError("the completion is empty")
    notes: list[str] = []
    reasoning, start, end, closed = _blocks(text, notes)
    answer = text[start:end]
    # The closing tag ends the last number too, unless a bracket is open: then the list may have been cut within it.
    if closed and all(answer.count(left) == answer.count(right) for left, right in ("[]", "()", "{}")):
        answer += "\n"
    said, at = _location(answer, notes)
    if reasoning is None:
        reasoning = _FENCE.sub(" ", text[start : start + at])
    elif _ANY_TAG.search(reasoning):
        notes.append("the reasoning holds tags of other blocks")
    reasoning = reasoning.strip()
    if _is_absent(said, notes):
        return Grounding(reasoning, (), (), space, absent=True, repairs=_once(notes))
    box = _box(said, space, notes)
    points = _points(said, box, space, notes)
    return Grounding(reasoning, (box,), points, space, repairs=_once(notes))


def has_area(x1: float, y1: float, x2: float, y2: float, space: Space) -> bool:
    """Whether corners are in order and so far apart (a millionth of the side) that conversion can't make them meet."""
    return x2 - x1 > 1e-6 * space.width and y2 - y1 > 1e-6 * space.height


def _once(notes: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _blocks(text: str, notes: list[str]) -> tuple[str | None, int, int, bool]:
    """Return the reasoning (None: what stands before the location), the answer's start and end, and if it is closed."""
    think = _THINK.search(text)
    think_end = _THINK_END.search(text, think.end() if think else 0)
    after = think_end.end() if think_end else think.end() if think else 0
    answer = _ANSWER.search(text, after)
    reasoning: str | None = None
    limit = len(text)
    if not answer and think and (answer := _ANSWER.search(text, 0, think.start())):
        notes.append("the answer stood before the reasoning")
        reasoning, limit = text[think.end() : think_end.start() if think_end else limit], think.start()
    elif think_end:
        reasoning = text[think.end() if think else 0 : think_end.start()]
        if not think:
            notes.append("<think> was missing; the text before </think> was taken as the reasoning")
        elif text[: think.start()].strip():
            notes.append("text before <think> was ignored")
        if not reasoning.strip():
            notes.append("the <think> block was empty")
        if answer and text[after : answer.start()].strip():
            notes.append("text between the blocks was ignored")
    elif think:
        reasoning = text[after : answer.start()] if answer else None
        notes.append("</think> was missing")
    elif answer and text[: answer.start()].strip():
        reasoning = text[: answer.start()]
        notes.append("<think> tags were missing; the text before the answer was taken as the reasoning")

    start = answer.end() if answer else after
    close = _ANSWER_END.search(text, start, limit)
    if not answer:
        notes.append("<answer> was missing" if close else "<answer> tags were missing")
    elif not close:
        notes.append("</answer> was missing")
    rest = text[close.end() : limit] if close else ""
    if rest.strip():
        several = _ANSWER.search(rest)
        notes.append(
            "several answers were given; the first was read" if several else "text after the answer was ignored"
        )
    if any(tag and tag.group() != tag.group().lower() for tag in (think, think_end, answer, close)):
        notes.append("tags in capitals were read")
    end = close.start() if close else limit
    if end - start > SEARCHED:
        notes.append(f"only {SEARCHED} characters were searched")
        start, end = (start, start + SEARCHED) if answer else (end - SEARCHED, end)
    return reasoning, start, end, close is not None and end == close.start()


def _location(answer: str, notes: list[str]) -> tuple[dict[str, Any], int]:
    """Return the raw values of a location, by canonical key, and where in `answer` they begin."""
    if len(answer) > MAX_ANSWER:
        notes.append("the answer is far longer than a location")
    keyed, absent = _KEYED_BOX.search(answer), _KEYED_ABSENT.search(answer)
    if keyed and absent:
        raise ParseError("the answer gives a box and says that the target is absent")
    opening, clue = _OPENING.search(answer), keyed or absent
    starts = [opening.start()] if opening else []
    if clue and (brace := answer.rfind("{", max(0, clue.start() - 100), clue.start())) >= 0:
        starts.append(brace)
    for start in starts:
        if said := _from_json(answer, start, notes):
            return said, start
    if clue:
        return _from_keys(answer, keyed, clue.start(), notes), clue.start()
    for pattern, note in (
        (_NATIVE, "the box was read from the model's own box tags"),
        (_LIST, "the box was read from a list without a key"),
    ):
        if found := pattern.search(answer):
            notes.append(note)
            if pattern.search(answer, found.end()):
                notes.append(_SEVERAL)
            return {
                "bbox": _numbers(answer, found.end() if pattern is _NATIVE else found.start(), notes)
            }, found.start()
    raise ParseError('the answer holds neither a box nor "absent": true')


def _from_json(answer: str, start: int, notes: list[str]) -> dict[str, Any] | None:
    """Return the location in the JSON value that begins at `start`, mended where needed, or None if there is none."""
    source = answer[start : start + MAX_ANSWER]
    mended = _TRAILING_COMMA.sub(r"\1", source if '"' in source else source.replace("'", '"'))
    for candidate in dict.fromkeys((source, mended)):
        ours: list[str] = []

        def pairs(items: list[tuple[str, Any]], ours: list[str] = ours) -> dict[str, Any]:
            if len(dict(items)) < len(items):
                ours.append("a key appeared twice; the last was read")
            return dict(items)

        try:
            value, length = json.JSONDecoder(object_pairs_hook=pairs).raw_decode(candidate)
        except (ValueError, RecursionError):
            continue
        said = _unwrap(value, ours)
        if said is None:
            return None
        if candidate is not source:
            ours.append("quotes or commas that JSON doesn't allow were mended")
        around = answer[:start] + candidate[length:]
        if _FENCE.search(around):
            ours.append("a code fence was removed")
        if _FENCE.sub("", around).strip(" \n\t\r"):
            ours.append("the JSON stood in other text")
        if _KEYED_BOX.search(candidate, length):
            ours.append(_SEVERAL)
        notes += ours
        return said
    return None


def _unwrap(value: Any, notes: list[str]) -> dict[str, Any] | None:
    """Return the first object with a location, with canonical keys; None when `value` has none near its surface."""
    for _ in range(4):
        if isinstance(value, dict):
            if any(key in value for key in (*_BOX_KEYS, "absent")):
                return _canonical(value, notes)
            inside = [each for each in value.values() if isinstance(each, dict | list)]
            notes.append("the location was taken out of an outer object")
        elif isinstance(value, list):
            inside = value
            notes.append(_SEVERAL if len(value) > 1 else "a list around the location was removed")
        else:
            return None
        if not inside or (isinstance(value, dict) and len(inside) > 1):
            return None
        value = inside[0]
    return None


def _canonical(said: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for names in (("absent",), _BOX_KEYS, *_POINT_KEYS, ("points", *_POINTS_KEYS)):
        name = next((name for name in names if name in said), None)
        if name is not None:
            found[names[0]] = said[name]
            if name != names[0] or name == "points":
                notes.append(f"{name} was read as {names[0] if name != 'points' else 'points_1 and points_2'}")
    if len(said) > len(found) or ("absent" in found and len(found) > 1):
        notes.append(_OTHER_KEYS)
    return found


def _from_keys(answer: str, keyed: re.Match[str] | None, start: int, notes: list[str]) -> dict[str, Any]:
    notes.append("the answer isn't JSON; what follows its keys was read")
    if not keyed:
        return {"absent": True}
    found: dict[str, Any] = {"bbox": _numbers(answer, keyed.end(), notes)}
    if _KEYED_BOX.search(answer, keyed.end()):
        notes.append(_SEVERAL)
    for names, pattern in zip(_POINT_KEYS, _KEYED_POINT, strict=True):
        if match := pattern.search(answer, max(0, start - 200)):
            found[names[0]] = _numbers(answer, match.end(), [])[:2]
    if match := _KEYED_POINTS.search(answer, max(0, start - 200)):
        found["points"] = _numbers(answer, match.end(), [])
    return found


def _numbers(text: str, start: int, notes: list[str]) -> list[float | str]:
    """Return up to 4 numbers that follow each other from `start` on; percentages stay text."""
    found: list[float | str] = []
    while len(found) < 8 and (match := _NEXT_NUMBER.match(text, start)):
        found.append(match[1] if match[1].endswith("%") else float(match[1]))
        start = match.end()
    if len(found) == 8:
        notes.append(_SEVERAL)
    return found[:4]


def _is_absent(said: dict[str, Any], notes: list[str]) -> bool:
    if said.get("absent") is True:
        absent = True
    elif absent := isinstance(said.get("absent"), str) and said["absent"].strip().lower() == "true":
        notes.append('"true" in quotes was read as true')
    if absent and said.get("bbox"):
        raise ParseError("the answer gives a box and says that the target is absent")
    return absent


def _coordinate(raw: Any, extent: float, notes: list[str]) -> float:
    if isinstance(raw, str):
        plain = raw.strip()
        if not _NUMBER_ALONE.fullmatch(plain):
            raise ParseError("a coordinate isn't a number")
        if plain.endswith("%"):
            notes.append("percentages were read as parts of the picture")
            raw = float(plain.rstrip("% ")) / 100 * extent
        else:
            notes.append("numbers in quotes were read as numbers")
            raw = float(plain)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ParseError("a coordinate isn't a number")
    # Compared before it is converted: an integer may be too long for a float. NaN fails the comparison.
    if not -OUTSIDE * extent <= raw <= (1 + OUTSIDE) * extent:
        raise ParseError(
            "a coordinate lies far outside the picture; check which coordinates the model answers in, and set them"
        )
    return float(raw)


def _two_places(raw: Any, space: Space, notes: list[str]) -> list[float]:
    """Return x, y, x, y of a list of four numbers or of two pairs, written in the order of `space`."""
    if isinstance(raw, list) and len(raw) == 2 and all(isinstance(each, list) and len(each) == 2 for each in raw):
        raw = [*raw[0], *raw[1]]
    if not (isinstance(raw, list) and len(raw) == 4):
        raise ParseError("four coordinates were expected")
    extents = (space.width, space.height) * 2
    return [_coordinate(each, extent, notes) for each, extent in zip(written_order(raw, space), extents, strict=True)]


def _box(said: dict[str, Any], space: Space, notes: list[str]) -> Box:
    raw = said.get("bbox")
    if isinstance(raw, list) and raw and isinstance(raw[0], list):
        notes.append("the box's numbers were nested")
        if len(raw[0]) == 4:
            notes += [_SEVERAL] * (len(raw) > 1)
            raw = raw[0]
    return mended_box(raw, space, notes)


def mended_box(raw: Any, space: Space, notes: list[str]) -> Box:
    """Return a box from four numbers, or two pairs of them, in the order that `space` writes; clipped to the picture.

    What is mended is added to `notes`.

    Raises
    ------
    ParseError
        When they are no box in the picture.
    """
    x1, y1, x2, y2 = _two_places(raw, space, notes)
    if x1 > x2 or y1 > y2:
        notes.append("the box's corners were swapped and were sorted")
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, space.width), min(y2, space.height)
    if (left, top, right, bottom) != (x1, y1, x2, y2):
        notes.append("the box reached outside the picture and was clipped")
    if not has_area(left, top, right, bottom, space):
        raise ParseError("the box has no area inside the picture")
    if not decimals(space) and max(right, bottom) <= 1:
        notes.append(f"the whole box lies below 1; check that the model answers in {space.name} coordinates")
    return Box(left, top, right, bottom, space)


def boxes_in(text: str, space: Space, notes: list[str]) -> list[Box]:
    """Return the boxes of a text, in whichever way several are written; those that can't be read are told in `notes`.

    Read are ``[x1, y1, x2, y2]``, lists of such, ``(x1, y1), (x2, y2)``, and numbers without brackets. A bracket that
    isn't closed may have been cut within a number, so it isn't read.

    Examples
    --------
    >>> notes = []
    >>> boxes = boxes_in("[[1, 2, 3, 4], [5, 6, 7, 80]]; (1, 1), (2, 2)", Space.pixels(9, 9), notes)
    >>> [box.xyxy for box in boxes]
    [(1.0, 2.0, 3.0, 4.0), (1.0, 1.0, 2.0, 2.0)]
    >>> notes[0]
    'a box was left out: a coordinate lies far outside the picture; check which coordinates the model answers in, \
and set them'
    """
    text = text[:MAX_ANSWER]
    if "[" in text or "(" in text:
        text = " ".join(_IN_BRACKETS.findall(text))
    numbers: list[float | str] = [
        said if said.endswith("%") else float(said) for said in (found[0] for found in _NUMBERS.finditer(text))
    ]
    if not numbers or len(numbers) % 4:
        notes.append("a box was left out: four coordinates were expected")
    boxes = []
    for index in range(0, len(numbers) - 3, 4):
        try:
            boxes.append(mended_box(numbers[index : index + 4], space, notes))
        except ParseError as error:
            notes.append(f"a box was left out: {error}")
    return boxes


def _points(said: dict[str, Any], box: Box, space: Space, notes: list[str]) -> tuple[Point, ...]:
    raw: Any = [said[key] for key in ("points_1", "points_2") if key in said] or said.get("points")
    if not raw:
        notes.append("no key points were given")
        return ()
    if isinstance(raw, list) and len(raw) > 2 and all(isinstance(each, list) for each in raw):
        notes.append("more than two key points were given; the first two were taken")
        raw = raw[:2]
    ours: list[str] = []
    try:
        x1, y1, x2, y2 = _two_places(raw, space, ours)
    except ParseError:
        notes.append("the key points weren't two places in the picture and were left out")
        return ()
    notes += ours
    points = (Point(x1, y1, space), Point(x2, y2, space))
    inside = (points[0].clipped(), points[1].clipped())
    if inside != points:
        notes.append("a key point lay outside the picture and was moved to its edge")
    if not all(box.contains(point) for point in inside):
        notes.append("a key point lies outside the box")
    return inside

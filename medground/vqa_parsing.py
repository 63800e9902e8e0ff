"""From a completion's text to an answer with its regions: visual questions' counterpart of `medground.parsing`.

Strict reading takes ThinkVG's layout, as rewards read it (`medground.rewards.thinkvg_reading`), and GEMeX's. Tolerant
reading takes what models write in practice and says in ``Answered.repairs`` what it had to mend. Both take time linear
in the text, never guess the coordinate space, and raise nothing but `ParseError`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medground.coords import Space
from medground.errors import ParseError
from medground.prompts import Mode
from medground.rewards.thinkvg_reading import MAX_BOXES, Response, find_mentions, read_response
from medground.tolerant import MAX_ANSWER, boxes_in, mended_box
from medground.types import Box

__all__ = ["UNNAMED", "Answered", "Named", "parse_answer"]

UNNAMED = "region"
"""What a region is called where the model gives it no name."""

MAX_NAME = 200
"""The longest name of a region, in characters."""

MAX_TAGS = 1_000
"""How many tags of a completion are looked at; a real one has about ten, and one for each region and its name."""

MAX_UNTAGGED = 2_000
"""The longest text that is taken for an answer without any tags."""

Named = tuple[str, Box]
"""A region's name and place."""

_MARK = re.compile(r"<\s{0,3}(/?)\s{0,3}(think|response|answer|reason|location|ref|box)\s{0,3}>", re.I | re.A)
_GEMEX = re.compile(r"\s*<answer>([^<>]+)<reason>([^<>]*)<location>([^<>]*)")
_FENCE = re.compile(r"```[a-z]{0,10}")
_LABEL = re.compile(r"\b(?:final |correct )?answer(?: is)?[\s*]{0,5}:[\s*]{0,9}([^\n]{1,2000})$", re.I | re.M)
_OBJECT = re.compile(r"[{\[]")
_OBJECT_WITH_BOX = re.compile(r"""\{[^{}]{0,200}["']b?box(?:_2d)?["']""")
_OTHER_TAGS = re.compile(r"<\|(object_ref|box)_(start|end)\|>|<(/?)bbox>")
_PLACE = re.compile(r"""\s{0,20}\{\s{0,20}["']?(?:bbox|box|points?_|absent)""", re.I)
_BOX_KEYS = ("box", "bbox", "bbox_2d", "box_2d")
_NAME_KEYS = ("ref", "label", "name", "region")
# What stands between a region's name and its bracket, and the words before which a name can't begin.
_BEFORE_BRACKET = re.compile(r"[\s(:,-]{0,5}(?:\b(?:regions?|box|bbox|located at|at))?[\s(:]{0,5}$", re.I)
_CLAUSE = re.compile(r"[.,;:()\[\]!?*\n]")
_NO_NAME = re.compile(
    "an?|the|this|that|these|those|its|their|his|her|in|on|at|by|to|from|with|within|near|over|into|onto|behind|above|"
    "below|beside|and|or|but|is|are|was|were|be|shows?|sees?|seen|lies?|sits?|has|have|there|which|where|as|than|both|between|"
    "against|towards?|for|it",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a reasoner answered to a visual question, read.

    Parameters
    ----------
    answer : str
        Not empty.
    reasoning : str
        Empty where there is none.
    regions : tuple of (str, Box)
        What the answer points to: name and box, in `space` and clipped to the picture.
    mentions : tuple of (str, Box)
        The distinct regions that the reasoning boxes, in its order.
    space : Space
        The coordinate space of the boxes, and of the numbers in `answer` and `reasoning`.
    repairs : tuple of str
        What tolerant reading mended or noticed; empty in strict reading.
    """

    answer: str
    reasoning: str
    regions: tuple[Named, ...]
    mentions: tuple[Named, ...]
    space: Space
    repairs: tuple[str, ...] = ()


def parse_answer(text: str, space: Space, *, strict: bool = False, mode: Mode | None = None) -> Answered:
    r"""Read a completion.

    Parameters
    ----------
    text : str
        What the model wrote.
    space : Space
        The space in which it was asked to answer, with the order in which it writes.
    strict : bool
        Accept only ``<think>...</think><response><answer>...</answer><location><ref>name</ref><box>[x1, y1, x2,
        y2]</box>...</location></response>``, the thinking and the location left out or not, or
        ``<answer> ... <reason> ... <location> [[x1, y1, x2, y2], ...]``.
    mode : {"reason", "direct"}, optional
        Strict only: insist on reasoning, or on none.

    Raises
    ------
    ParseError
        When there is no answer, or in strict reading another layout; quotes nothing from `text`.

    Examples
    --------
    >>> place = "<location><ref>left base</ref><box>[10, 20, 30, 40]</box></location>"
    >>> text = f"<think>Pale (region [10, 20, 30, 40]).</think><response><answer>Yes</answer>{place}</response>"
    >>> said = parse_answer(text, Space.norm1000(), strict=True)
    >>> said.answer, [(ref, box.xyxy) for ref, box in said.regions]
    ('Yes', [('left base', (10.0, 20.0, 30.0, 40.0))])
    >>> said = parse_answer("It is large.\nAnswer: B", Space.norm1000())
    >>> said.answer, said.repairs
    ('B', ('<answer> tags were missing; the line that names the answer was read',))
    """
    if strict:
        return _parse_strict(text, space, mode)
    if not text.strip():
        raise ParseError("the completion is empty")
    return _Reading(text, space).answered()


# --- strict ----------------------------------------------------------------------------------------------------------


def _parse_strict(text: str, space: Space, mode: Mode | None) -> Answered:
    if gemex := _GEMEX.fullmatch(text):
        answer, reasoning, place = (part.strip() for part in gemex.groups())
        said = read_response(f"<response><answer>{answer}</answer><location>{place}</location></response>", space)
        if said is None or said.boxes is None:
            raise ParseError("the answer or its boxes can't be read")
        names = [UNNAMED] * len(said.boxes)
    else:
        said = _whole(read_response(text, space))
        answer, reasoning = said.answer, said.reasoning
        names = [ref for ref, _ in _places(text.partition("<location>")[2].partition("</location>")[0], space, [])]
    if said.boxes is None or len(names) != len(said.boxes):
        raise ParseError("the location isn't pairs of a name and its boxes")
    regions = list(zip(names, said.boxes, strict=True))
    if mode is not None and (mode == "reason") is not bool(reasoning):
        raise ParseError("there is no reasoning" if mode == "reason" else "reasoning stands before the answer")
    return Answered(answer, reasoning, tuple(regions), _mentions(reasoning, space, regions, []), space)


def _whole(said: Response | None) -> Response:
    """Return what rewards read, once it keeps the layout in every part."""
    if said is None:
        raise ParseError("there isn't exactly one <answer>...</answer> with something in it")
    thought, response, answer, location = said.steps
    if said.reasoning and not thought:
        raise ParseError("something other than one <think>...</think> block stands before the response")
    if not (response and answer):
        raise ParseError("there isn't exactly one <response> block that begins with the answer and ends the text")
    if said.boxes is None or not location:
        raise ParseError("the location isn't one block of <ref>name</ref><box>[x1, y1, x2, y2]</box> pairs")
    return said


# --- tolerant --------------------------------------------------------------------------------------------------------


class _Reading:
    """One completion, its tags, and what was mended so far."""

    def __init__(self, text: str, space: Space) -> None:
        self.text, self.space = _OTHER_TAGS.sub(_as_ours, text), space
        self.notes: list[str] = ["the model's own tags of regions were read"] if self.text != text else []
        self.marks = _marks(self.text)
        if any(mark[0] != f"<{'/' * closes}{name}>" for mark, name, closes in self.marks):
            self.notes.append("tags in capitals or with blanks were read")
        opened, closed = self._first("think", False, 0), self._first("think", True, 0)
        self.think = (opened.end() if opened else 0, closed.start() if closed else None)
        self.thinks = opened is not None
        self.after = closed.end() if closed else 0

    def answered(self) -> Answered:
        opened = self._first("answer", False, self.after)
        early = self._first("answer", False, 0)
        if opened is None and early is not None and self.thinks and early.start() < self.think[0]:
            opened = early
            self.notes.append("the answer stood before the reasoning")
        answer, reasoning, place = self._untagged() if opened is None else self._tagged(opened)
        answer = _FENCE.sub(" ", answer).strip()
        if not answer:
            raise ParseError("the answer is empty")
        if len(answer) > MAX_ANSWER:
            raise ParseError(f"the answer has more than {MAX_ANSWER:,} characters")
        if _PLACE.match(answer):
            raise ParseError(
                "the reasoner gave a place and no answer in words: it may know no other task than finding a region"
            )
        regions = self._once(_places(place, self.space, self.notes))
        reasoning = reasoning.strip()
        mentions = _mentions(reasoning, self.space, regions, self.notes)
        repairs = tuple(dict.fromkeys(self.notes))
        return Answered(answer, reasoning, tuple(regions), mentions, self.space, repairs)

    def _first(self, name: str, closes: bool, start: int) -> re.Match[str] | None:
        found = (mark for mark, *what in self.marks if what == [name, closes] and mark.start() >= start)
        return next(found, None)

    def _next(self, start: int) -> tuple[int, str]:
        """Return where the next tag stands, and what it is."""
        found = ((mark.start(), f"{'/' * closes}{name}") for mark, name, closes in self.marks if mark.start() >= start)
        return next(found, (len(self.text), ""))

    def _tagged(self, opened: re.Match[str]) -> tuple[str, str, str]:
        """Return the answer that a tag opens, the reasoning, and the text of the location."""
        end, tag = self._next(opened.end())
        reason = self._first("reason", False, end)
        if tag != "/answer" and reason is None:  # GEMeX closes nothing
            self.notes.append("</answer> was missing")
        if self._first("answer", False, end) is not None:
            self.notes.append("several answers were given; the first was read")
        reasoning = self._thought(self._first("response", False, self.after) or opened)
        if reason is not None:
            reasoning = f"{reasoning}\n{self.text[reason.end() : self._next(reason.end())[0]].strip()}".strip()
        place = self._place(end)
        return self.text[opened.end() : end], reasoning, place

    def _thought(self, first: re.Match[str]) -> str:
        """Return the reasoning, which ends where the response or the answer opens where it isn't closed."""
        start, end = self.think
        if end is not None:
            if not self.thinks:
                self.notes.append("<think> was missing; the text before </think> was taken as the reasoning")
            return self.text[start:end]
        before = self.text[start if self.thinks else 0 : max(start, first.start())]
        before = _FENCE.sub(" ", _MARK.sub(" ", before))
        if self.thinks:
            self.notes.append("</think> was missing")
        elif before.strip():
            self.notes.append("<think> tags were missing; the text before the answer was taken as the reasoning")
        return before

    def _place(self, start: int) -> str:
        """Return the text of the location, that after `start` where it isn't tagged."""
        opened = self._first("location", False, self.after)
        if opened is not None:
            closed = self._first("location", True, opened.end())
            if closed is None and self._first("reason", False, start) is None:
                self.notes.append("</location> was missing")
            return self.text[opened.end() : len(self.text) if closed is None else closed.start()]
        rest = self.text[start:]
        if self._first("box", False, start) is None and not self._untagged_place(rest):
            return ""
        self.notes.append("<location> tags were missing")
        return rest

    def _untagged_place(self, rest: str) -> bool:
        """Whether a text holds places without any tags: brackets of four numbers, or objects with a box."""
        return any(find_mentions(rest, self.space)) or _OBJECT_WITH_BOX.search(rest[:MAX_ANSWER]) is not None

    def _untagged(self) -> tuple[str, str, str]:
        """Return answer, reasoning and location of a completion without an ``<answer>``."""
        if self.thinks and self.think[1] is None:
            raise ParseError("the completion ends within its reasoning")
        if (said := self._object()) is not None:
            return said
        tags = [self._first(name, False, self.after) for name in ("location", "ref", "box")]
        end = min((mark.start() for mark in tags if mark is not None), default=len(self.text))
        place = self._place(end)
        tail = _MARK.sub(" ", self.text[self.after : end])
        reasoning = self.text[self.think[0] : self.think[1]] if self.think[1] is not None else ""
        labels = list(_LABEL.finditer(tail[-MAX_ANSWER:]))
        if labels:
            self.notes.append("<answer> tags were missing; the line that names the answer was read")
            before, after = tail[-MAX_ANSWER:][: labels[-1].start()], tail[-MAX_ANSWER:][labels[-1].end() :]
            if not place and self._untagged_place(after):
                self.notes.append("<location> tags were missing")
                place = after
            return labels[-1][1].strip("* "), f"{reasoning}\n{before}".strip(), place
        if len(tail) > MAX_UNTAGGED or not tail.strip():
            raise ParseError("there is no <answer>...</answer> block")
        self.notes.append("<answer> tags were missing; the text was taken as the answer")
        return tail, reasoning, place

    def _object(self) -> tuple[str, str, str] | None:
        """Return what a JSON object with an ``answer`` says in place of tags."""
        tail = self.text[self.after :][:MAX_ANSWER]
        start = tail.find("{")
        said = _decoded(tail[start:]) if start >= 0 else None
        if not isinstance(said, dict) or not isinstance(said.get("answer"), str | list):
            return None
        self.notes.append("the answer was read from JSON")
        answer = said["answer"]
        if isinstance(answer, list):
            answer = ", ".join(str(each) for each in answer)
        words = [said[name] for name in ("reasoning", "reason") if isinstance(said.get(name), str)]
        if self.think[1] is not None:
            words.insert(0, self.text[self.think[0] : self.think[1]])
        places: Any = next((said[name] for name in ("location", "locations", "regions", "boxes") if name in said), [])
        return answer, "\n".join(words), json.dumps(places)

    def _once(self, regions: list[Named]) -> list[Named]:
        distinct = list(dict.fromkeys(regions))
        if len(distinct) < len(regions):
            self.notes.append("a region was given twice")
        if len(distinct) > MAX_BOXES:
            self.notes.append(f"more than {MAX_BOXES} regions were given; the first were taken")
        return distinct[:MAX_BOXES]


def _as_ours(tag: re.Match[str]) -> str:
    name = "ref" if tag[1] == "object_ref" else "box"
    return f"<{'/' if tag[2] == 'end' or tag[3] else ''}{name}>"


def _marks(text: str) -> list[tuple[re.Match[str], str, bool]]:
    """Return a text's tags, each with its name and whether it closes; the first `MAX_TAGS` of them."""
    return [(mark, mark[2].lower(), bool(mark[1])) for mark in islice(_MARK.finditer(text), MAX_TAGS)]


# --- places ----------------------------------------------------------------------------------------------------------


def _places(inside: str, space: Space, notes: list[str]) -> list[Named]:
    """Return the regions of a location; a name belongs to the boxes that follow it, several names one by one."""
    if len(inside) > MAX_ANSWER:
        notes.append(f"the location is long; its first {MAX_ANSWER:,} characters were read")
        inside = inside[:MAX_ANSWER]
    marks = _marks(inside)
    if not any(name == "box" for _, name, _ in marks):
        return _unboxed(_MARK.sub(" ", inside), space, notes)
    regions: list[Named] = []
    waiting: list[str] = []
    last, named = UNNAMED, False
    for index, (mark, name, closes) in enumerate(marks):
        if closes or name not in ("ref", "box"):
            continue
        end, closed = len(inside), False
        if index + 1 < len(marks):
            end, closed = marks[index + 1][0].start(), marks[index + 1][1:] == (name, True)
        if not closed:
            notes.append(f"</{name}> was missing")
        part = inside[mark.end() : end]
        if name == "ref":
            waiting.append(" ".join(part.split())[:MAX_NAME] or UNNAMED)
            continue
        if not closed and end == len(inside) and not ("[" in part or "(" in part):
            part = ""  # its last number may have been cut short
        for box in boxes_in(part, space, notes):
            if waiting:
                last, named = waiting.pop(0), True
            regions.append((last, box))
        if not named and not waiting:
            notes.append("a region had no name")
    if waiting:
        notes.append("a region was named and had no readable box")
    return regions


def _unboxed(inside: str, space: Space, notes: list[str]) -> list[Named]:
    """Return the regions of a location without ``<box>``: JSON objects, or a bare list of boxes (GEMeX's)."""
    bare = _FENCE.sub(" ", inside).strip()
    if not bare or bare in ("[]", "[[]]") or bare.strip(" .").lower() in ("none", "null", "n/a"):
        return []
    start = _OBJECT.search(bare)
    said = _decoded(bare[start.start() :]) if start and "{" in bare else None
    objects = [said] if isinstance(said, dict) else said
    if not isinstance(objects, list):
        named = [
            (_named(bare[max(0, mark.start() - 120) : mark.start()]), box)
            for mark, _, box in find_mentions(bare, space)
        ]
        whole: list[Named] = [(ref, box) for ref, box in named if box is not None]
        return whole if whole and len(whole) == len(named) else [(UNNAMED, box) for box in boxes_in(bare, space, notes)]
    regions: list[Named] = []
    for each in objects[: 4 * MAX_BOXES]:
        found = each if isinstance(each, dict) else {"box": each}
        raw = next((found[name] for name in _BOX_KEYS if name in found), None)
        ref = next((found[name] for name in _NAME_KEYS if isinstance(found.get(name), str)), "")
        try:
            regions.append((" ".join(ref.split())[:MAX_NAME] or UNNAMED, mended_box(raw, space, notes)))
        except ParseError as error:
            notes.append(f"a box was left out: {error}")
    return regions


def _decoded(text: str) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


def _mentions(reasoning: str, space: Space, regions: list[Named], notes: list[str]) -> tuple[Named, ...]:
    """Return the distinct regions that a reasoning boxes, called as the location calls the same box, or as it says."""
    called = {box.xyxy: ref for ref, box in reversed(regions)}
    found: dict[tuple[float, ...], Named] = {}
    for mark, _, box in find_mentions(reasoning, space):
        if box is None:
            notes.append("the reasoning names a place that is no box in the picture")
        elif box.xyxy not in found and len(found) < MAX_BOXES:
            name = _named(reasoning[max(0, mark.start() - 120) : mark.start()])
            found[box.xyxy] = (called.get(box.xyxy) or name, box)
    return tuple(found.values())


def _named(before: str) -> str:
    """Return the name that the words before a bracket end with.

    Examples
    --------
    >>> _named("It is hazy at the base of the left lung (region "), _named("Seen. The heart "), _named("there is ")
    ('base of the left lung', 'heart', 'region')
    """
    clause = _CLAUSE.split(_BEFORE_BRACKET.sub("", before))[-1].split()
    name: list[str] = []
    for index in range(len(clause) - 1, max(-1, len(clause) - 9), -1):
        of_it = name and clause[index].lower() in ("the", "a", "its") and clause[index - 1].lower() == "of"
        if _NO_NAME.fullmatch(clause[index]) and not of_it:
            break
        name.insert(0, clause[index])
    return " ".join(name).removeprefix("of the ").removeprefix("of ") or UNNAMED

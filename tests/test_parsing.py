"""A table of good and bad completions, each with its reason, and what strict and tolerant reading make of it."""

from __future__ import annotations

import contextlib
import json
import math
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space, convert, decimals
from medground.errors import ParseError
from medground.parsing import MAX_ANSWER, format_answer, parse
from medground.types import Box, Point

N1000 = Space.norm1000()
YX = Space.norm1000("yx")
UNIT = Space.unit()
PIXELS = Space.pixels(640, 480)
LOCATION = '{"bbox": [10, 20, 300, 400], "points_1": [15, 25], "points_2": [25, 35]}'
BOX = (10, 20, 300, 400)
POINTS = ((15, 25), (25, 35))


def wrap(answer: str) -> str:
    return f"<think>Pale disc.</think><answer>{answer}</answer>"


@dataclass(frozen=True)
class Case:
    reason: str  # why the completion is good or bad
    text: str
    strict: str | None = None  # None: reads strictly; else a part of the refusal
    box: tuple[float, ...] | None = BOX  # tolerant outcome; None: absent
    points: tuple[tuple[float, float], ...] = POINTS
    said: tuple[str, ...] = ()  # what tolerant reading says, each a part of one repair, in order; all of them
    refused: str | None = None  # tolerant refusal, a part of it
    space: Space = N1000
    reasoning: str = "Pale disc."


NO_POINTS = "no key points were given"
OUTSIDE_BOX = "a key point lies outside the box"

GOOD = [
    Case("the layout asked for", wrap(LOCATION)),
    Case(
        "white space between the blocks and in them",
        f"<think>\nPale disc.\n</think>\n\n<answer>\n{LOCATION}\n</answer>\n",
    ),
    Case("direct mode: the answer alone", f"<answer>{LOCATION}</answer>", reasoning=""),
    Case("other order of keys", wrap('{"points_2": [25, 35], "bbox": [10, 20, 300, 400], "points_1": [15, 25]}')),
    Case("decimals in a space of whole numbers", wrap(LOCATION.replace("10,", "10.0,"))),
    Case("the target is absent", wrap('{"absent": true}'), box=None, points=()),
    Case(
        "the whole picture", wrap(LOCATION.replace("[10, 20, 300, 400]", "[0, 0, 1000, 1000]")), box=(0, 0, 1000, 1000)
    ),
    Case(
        "fractions",
        wrap('{"bbox": [0.1, 0.2, 0.3, 0.4], "points_1": [0.15, 0.25], "points_2": [0.25, 0.35]}'),
        box=(0.1, 0.2, 0.3, 0.4),
        points=((0.15, 0.25), (0.25, 0.35)),
        space=UNIT,
    ),
    Case(
        "y before x",
        wrap('{"bbox": [20, 10, 400, 300], "points_1": [25, 15], "points_2": [35, 25]}'),
        space=YX,
    ),
    Case(
        "a key point outside the box is a wrong place, not a wrong format",
        wrap(LOCATION.replace("[25, 35]", "[900, 900]")),
        points=((15, 25), (900, 900)),
        said=(OUTSIDE_BOX,),
    ),
]

MENDED = [
    Case("single quotes", wrap(LOCATION.replace('"', "'")), "valid JSON", said=("quotes or commas",)),
    Case("trailing comma", wrap(LOCATION.replace("35]}", "35],}")), "valid JSON", said=("quotes or commas",)),
    Case("code fence", wrap(f"```json\n{LOCATION}\n```"), "valid JSON", said=("a code fence was removed",)),
    Case(
        "no tags, fenced JSON after prose",
        f"Pale disc.\n```json\n{LOCATION}\n```",
        "no <answer>",
        said=("<answer> tags were missing", "code fence", "stood in other text"),
    ),
    Case(
        "no think tags",
        f"Pale disc. <answer>{LOCATION}</answer>",
        "other than one <think>",
        said=("<think> tags were missing",),
    ),
    Case(
        "think isn't closed",
        f"<think>Pale disc.<answer>{LOCATION}</answer>",
        "other than",
        said=("</think> was missing",),
    ),
    Case(
        "think isn't opened, as after a template that opens it",
        f"Pale disc.</think><answer>{LOCATION}</answer>",
        "other than",
        said=("<think> was missing",),
    ),
    Case(
        "think is empty",
        f"<think> </think><answer>{LOCATION}</answer>",
        "empty",
        said=("block was empty",),
        reasoning="",
    ),
    Case(
        "answer isn't closed", wrap(LOCATION).removesuffix("</answer>"), "no <answer>", said=("</answer> was missing",)
    ),
    Case(
        "answer isn't opened",
        f"<think>Pale disc.</think>{LOCATION}</answer>",
        "no <answer>",
        said=("<answer> was missing",),
    ),
    Case(
        "answer has no tags",
        f"<think>Pale disc.</think>{LOCATION}",
        "no <answer>",
        said=("<answer> tags were missing",),
    ),
    Case(
        "answer before think",
        f"<answer>{LOCATION}</answer><think>Pale disc.</think>",
        "other than|text follows",
        said=("stood before",),
    ),
    Case(
        "text after the answer", wrap(LOCATION) + " I hope this helps.", "text follows", said=("text after the answer",)
    ),
    Case("text before think", "Sure! " + wrap(LOCATION), "other than one", said=("text before <think>",)),
    Case(
        "text between the blocks",
        wrap(LOCATION).replace("</think>", "</think> So:"),
        "other than",
        said=("between the blocks",),
    ),
    Case(
        "two answers",
        wrap(LOCATION) + '<answer>{"bbox": [1, 2, 3, 4]}</answer>',
        "<answer> appears 2 times",
        said=("several answers were given; the first",),
    ),
    Case(
        "two think blocks",
        "<think>Pale disc.</think>" + wrap(LOCATION),
        "appears 2 times",
        said=("between the blocks",),
    ),
    Case("tags in capitals", wrap(LOCATION).replace("answer>", "Answer>"), "no <answer>", said=("tags in capitals",)),
    Case(
        "answer in answer",
        wrap(f"<answer>{LOCATION}</answer>"),
        "appears 2 times",
        said=("text after the answer", "stood in other text"),
    ),
    Case(
        "an answer inside the thinking isn't the answer",
        f'<think>Maybe <answer>{{"bbox": [1, 2, 3, 4]}}</answer>?</think><answer>{LOCATION}</answer>',
        "appears 2 times",
        said=("holds tags of other blocks",),
        reasoning='Maybe <answer>{"bbox": [1, 2, 3, 4]}</answer>?',
    ),
    Case("Qwen's bbox_2d", wrap(LOCATION.replace("bbox", "bbox_2d")), "keys", said=("bbox_2d was read as bbox",)),
    Case(
        "point_1 for points_1", wrap(LOCATION.replace("points_", "point_")), "keys", said=("point_1 was", "point_2 was")
    ),
    Case(
        "key box, points as one list",
        wrap('{"box": [10, 20, 300, 400], "points": [[15, 25], [25, 35]]}'),
        "keys",
        said=("box was read", "points was read as points_1 and points_2"),
    ),
    Case(
        "MedReasoner's labels",
        wrap('{"bbox_2d": [10, 20, 300, 400], "point_2d": [[15, 25], [25, 35]]}'),
        "keys",
        said=("bbox_2d", "point_2d was read"),
    ),
    Case(
        "three points",
        wrap('{"bbox": [10, 20, 300, 400], "points": [[15, 25], [25, 35], [40, 50]]}'),
        "keys",
        said=("points was read", "more than two key points"),
    ),
    Case(
        "Gemini's list of objects with box_2d",
        '```json\n[{"box_2d": [20, 10, 400, 300], "label": "disc"}]\n```',
        "no <answer>",
        points=(),
        said=("tags were missing", "a list around", "box_2d was read", "other keys", "code fence", NO_POINTS),
        space=YX,
        reasoning="",
    ),
    Case(
        "Qwen2-VL's own tags",
        "<|object_ref_start|>disc<|object_ref_end|><|box_start|>(10,20),(300,400)<|box_end|>",
        "no <answer>",
        points=(),
        said=("tags were missing", "own box tags", NO_POINTS),
        reasoning="<|object_ref_start|>disc<|object_ref_end|>",
    ),
    Case(
        "InternVL's own tags",
        wrap("<box>[[10, 20, 300, 400]]</box>"),
        "JSON",
        points=(),
        said=("own box tags", NO_POINTS),
    ),
    Case("a flat list", wrap("[10, 20, 300, 400]"), "object", points=(), said=("list without a key", NO_POINTS)),
    Case(
        "a list in prose",
        "It is at (10, 20), (300, 400).",
        "no <answer>",
        points=(),
        said=("tags were", "list without", NO_POINTS),
        reasoning="It is at",
    ),
    Case(
        "two lists",
        wrap("[10, 20, 300, 400] [1, 2, 3, 4]"),
        "JSON",
        points=(),
        said=("list without a key", "several boxes", NO_POINTS),
    ),
    Case(
        "several boxes in a list",
        wrap('[{"bbox": [10, 20, 300, 400]}, {"bbox": [1, 2, 3, 4]}]'),
        "object",
        points=(),
        said=("several boxes", NO_POINTS),
    ),
    Case(
        "several boxes under one key",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[[10, 20, 300, 400], [1, 2, 3, 4]]")),
        "bbox",
        said=("nested", "several"),
    ),
    Case(
        "corners as pairs",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[[10, 20], [300, 400]]")),
        "bbox isn't",
        said=("nested",),
    ),
    Case("an outer object", wrap(f'{{"result": {LOCATION}}}'), "keys", said=("outer object",)),
    Case(
        "numbers in quotes", wrap(LOCATION.replace("10, 20", '"10", "20"')), "bbox isn't", said=("numbers in quotes",)
    ),
    Case("percent in quotes", wrap(LOCATION.replace("10, 20,", '"1%", "2 %",')), "bbox isn't", said=("percentages",)),
    Case(
        "percent, not JSON",
        wrap("{bbox: [1%, 2%, 30%, 40%]}"),
        "JSON",
        points=(),
        said=("isn't JSON", "percentages", NO_POINTS),
    ),
    Case("keys without quotes", wrap(LOCATION.replace('"', "")), "JSON", said=("isn't JSON",)),
    Case(
        "keys with =",
        "bbox=[10,20,300,400], points_1=[15,25], points_2=[25,35].",
        "no <answer>",
        said=("tags were", "isn't JSON"),
        reasoning="",
    ),
    Case(
        "cut off within the points",
        wrap(LOCATION)[:-22],
        "no <answer>",
        points=(),
        said=("</answer> was", "isn't JSON", "left out"),
    ),
    Case(
        "corners swapped",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[300, 400, 10, 20]")),
        "corners",
        said=("sorted",),
    ),
    Case(
        "slightly outside the picture",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[-5, 20, 1003, 400]")),
        "inside the picture",
        box=(0, 20, 1000, 400),
        said=("was clipped",),
    ),
    Case(
        "a point slightly outside the picture",
        wrap(LOCATION.replace("[15, 25]", "[-3, 25]")),
        "inside the picture",
        points=((0, 25), (25, 35)),
        said=("moved to its edge", OUTSIDE_BOX),
    ),
    Case("no points", wrap('{"bbox": [10, 20, 300, 400]}'), "keys", points=(), said=(NO_POINTS,)),
    Case(
        "one point", wrap('{"bbox": [10, 20, 300, 400], "points_1": [15, 25]}'), "keys", points=(), said=("left out",)
    ),
    Case("a point is NaN", wrap(LOCATION.replace("[15, 25]", "[NaN, 25]")), "JSON", points=(), said=("left out",)),
    Case(
        "a point far outside",
        wrap(LOCATION.replace("[15, 25]", "[1e308, 25]")),
        "points_1",
        points=(),
        said=("left out",),
    ),
    Case("another key", wrap(LOCATION.replace("}", ', "label": "disc"}')), "keys", said=("other keys",)),
    Case(
        "absent: false next to a box", wrap(LOCATION.replace("}", ', "absent": false}')), "keys", said=("other keys",)
    ),
    Case("absent in quotes", wrap('{"absent": "true"}'), "keys", box=None, points=(), said=("in quotes",)),
    Case("absent as Python", wrap("{'absent': True}"), "JSON", box=None, points=(), said=("isn't JSON",)),
    Case(
        "a key twice",
        wrap(LOCATION.replace('{"bbox"', '{"bbox": [1, 2, 3, 4], "bbox"')),
        "JSON",
        said=("appeared twice",),
    ),
    Case(
        "fractions where thousandths were asked for: read as asked, and said",
        wrap('{"bbox": [0.1, 0.2, 0.3, 0.4], "points_1": [0.2, 0.3], "points_2": [0.2, 0.3]}'),
        None,
        box=(0.1, 0.2, 0.3, 0.4),
        points=((0.2, 0.3), (0.2, 0.3)),
        said=("lies below 1",),
    ),
    Case(
        "an example repeated before the answer",
        wrap('{"bbox": [x1, y1, x2, y2]} that is ' + LOCATION),
        "JSON",
        said=("stood in other text",),
    ),
]

BAD = [
    Case("nothing", "", "no <answer>", refused="empty"),
    Case("white space", " \n ", "no <answer>", refused="empty"),
    Case("prose", "The optic disc is bright.", "no <answer>", refused="neither a box nor"),
    Case("a box only in the thinking", '<think>{"bbox": [1, 2, 3, 4]}</think>', "no <answer>", refused="neither"),
    Case("an empty answer", wrap(""), "JSON", refused="neither"),
    Case("no box in the object", wrap('{"points_1": [1, 2], "points_2": [3, 4]}'), "keys", refused="neither"),
    Case("an empty box", wrap('{"bbox": []}'), "keys", refused="four coordinates"),
    Case("null", wrap('{"bbox": null}'), "keys", refused="four coordinates"),
    Case("three numbers", wrap(LOCATION.replace("10, ", "")), "bbox isn't a list of 4", refused="four coordinates"),
    Case(
        "five numbers: which four?", wrap(LOCATION.replace("10, ", "10, 10, ")), "list of 4", refused="four coordinates"
    ),
    Case(
        "cut off within the box's last number",
        '<answer>{"bbox": [10, 20, 300, 40',
        "no <answer>",
        refused="four coordinates",
    ),
    Case(
        "cut off, and nothing tells that 40 is whole",
        "bbox: 10, 20, 300, 40",
        "no <answer>",
        refused="four coordinates",
    ),
    Case("no width", wrap(LOCATION.replace("[10, 20, 300, 400]", "[10, 20, 10, 400]")), "no area", refused="no area"),
    Case(
        "closed, yet cut off within the box's last number",
        wrap('{"bbox": [10, 20, 300, 40'),
        "JSON",
        refused="four coordinates",
    ),
    Case(
        "a width that conversion would round away",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[10, 20, 10.000000000000002, 400]")),
        "no area",
        refused="no area",
    ),
    Case("words for numbers", wrap(LOCATION.replace("10,", '"ten",')), "bbox isn't", refused="isn't a number"),
    Case("true for a number", wrap(LOCATION.replace("10,", "true,")), "bbox isn't", refused="isn't a number"),
    Case("digits of another script", wrap(LOCATION.replace("10,", '"١٠",')), "bbox isn't", refused="isn't a number"),
    Case("NaN", wrap(LOCATION.replace("10,", "NaN,")), "JSON", refused="far outside"),
    Case("Infinity", wrap(LOCATION.replace("300,", "Infinity,")), "JSON", refused="far outside"),
    Case("1e308", wrap(LOCATION.replace("300,", "1e308,")), "inside the picture", refused="far outside"),
    Case("1e999", wrap(LOCATION.replace("300,", "1e999,")), "inside the picture", refused="far outside"),
    Case("infinite percent", wrap(LOCATION.replace("300,", '"1e999%",')), "list of 4", refused="far outside"),
    Case(
        "an integer too long for a float",
        wrap(LOCATION.replace("300,", "3" * 400 + ",")),
        "inside",
        refused="far outside",
    ),
    Case(
        "an integer too long for Python",
        wrap(LOCATION.replace("300,", "3" * 9000 + ",")),
        "JSON",
        refused="four coordinates",
    ),
    Case(
        "pixels where thousandths were asked for: never guessed",
        wrap(LOCATION.replace("300,", "1800,")),
        "inside",
        refused="set them",
    ),
    Case(
        "a box and absent: which?",
        wrap(LOCATION.replace("}", ', "absent": true}')),
        "keys",
        refused="says that the target is absent",
    ),
    Case("absent: false and no box", wrap('{"absent": false}'), "keys", refused="four coordinates"),
    Case(
        "outside the picture altogether",
        wrap(LOCATION.replace("[10, 20, 300, 400]", "[1010, 20, 1050, 400]")),
        "inside",
        refused="no area inside",
    ),
]


@pytest.mark.parametrize("case", GOOD + MENDED, ids=lambda case: case.reason)
def test_a_completion_that_people_can_read(case: Case) -> None:
    grounding = parse(case.text, case.space)
    assert (grounding.box.xyxy if grounding.box else None) == case.box
    assert tuple(point.xy for point in grounding.points) == case.points
    assert grounding.absent is (case.box is None)
    assert grounding.reasoning == case.reasoning
    assert grounding.space == case.space
    assert len(grounding.repairs) == len(case.said), grounding.repairs
    for repair, part in zip(grounding.repairs, case.said, strict=True):
        assert part in repair


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.reason)
def test_a_completion_that_nobody_can_read(case: Case) -> None:
    with pytest.raises(ParseError, match=case.refused):
        parse(case.text, case.space)


@pytest.mark.parametrize("case", GOOD + MENDED + BAD, ids=lambda case: case.reason)
def test_strict_reading(case: Case) -> None:
    if case.strict is None:
        grounding = parse(case.text, case.space, strict=True)
        assert grounding.repairs == ()
        assert (grounding.box.xyxy if grounding.box else None) == case.box
        assert tuple(point.xy for point in grounding.points) == case.points
        assert grounding.reasoning == case.reasoning
    else:
        with pytest.raises(ParseError, match=case.strict):
            parse(case.text, case.space, strict=True)


def test_the_table_reads_well() -> None:
    reasons = [case.reason for case in GOOD + MENDED + BAD]
    assert len(set(reasons)) == len(reasons)
    assert all(case.strict is None for case in GOOD)
    assert all(case.refused for case in BAD)


def test_strict_reading_can_insist_on_a_mode() -> None:
    direct = f"<answer>{LOCATION}</answer>"
    assert parse(direct, N1000, strict=True, mode="direct").box
    assert parse(wrap(LOCATION), N1000, strict=True, mode="reason").box
    with pytest.raises(ParseError, match="no <think>"):
        parse(direct, N1000, strict=True, mode="reason")
    with pytest.raises(ParseError, match="alone was asked for"):
        parse(wrap(LOCATION), N1000, strict=True, mode="direct")


def test_a_refusal_quotes_nothing_from_the_completion() -> None:
    for strict in (False, True):
        with pytest.raises(ParseError) as caught:
            parse("<think>Mrs Example, 1950</think><answer>{'bbox': 'Mrs Example'}</answer>", N1000, strict=strict)
        assert "Example" not in str(caught.value)


MEGABYTE = 1_000_000
HOSTILE = {
    "prose, then an answer": "the lesion is bright. " * (MEGABYTE // 22) + LOCATION,
    "a long thought": "<think>" + "lesion " * (MEGABYTE // 7) + f"</think><answer>{LOCATION}</answer>",
    "open braces": "{" * MEGABYTE,
    "open brackets": "<answer>" + "[" * MEGABYTE,
    "nested objects": "<answer>" + '{"a":' * (MEGABYTE // 5),
    "thousands of boxes": "<answer>[" + ", ".join(['{"bbox_2d": [1, 2, 3, 4]}'] * (MEGABYTE // 27)) + "]</answer>",
    "thousands of lists": "[1,2,3," * (MEGABYTE // 7),
    "thousands of corners": "(1,2),(3," * (MEGABYTE // 9),
    "digits": '{"bbox": [' + "9" * MEGABYTE + "]}",
    "keys and nothing": "bbox: " * (MEGABYTE // 6),
    "keys and spaces": "bbox" + " " * MEGABYTE,
    "NaN after NaN": '{"bbox": [NaN,' * (MEGABYTE // 14),
    "1e308 after 1e308": "[1e308, " * (MEGABYTE // 8),
    "opening tags": "<think><answer>" * (MEGABYTE // 15),
    "crossed tags": "<think><answer></think></answer>" * (MEGABYTE // 32),
    "answers": f"<answer>{LOCATION}</answer>" * (MEGABYTE // 90),
    "less-than signs": "<" * MEGABYTE,
    "quotes": "'" * MEGABYTE,
    "backslashes in a string": '{"' + "\\" * MEGABYTE,
    "commas": "<answer>{" + ", " * (MEGABYTE // 2) + "}</answer>",
    "white space": "<answer>" + "\n" * MEGABYTE,
    "digits of another script": "[" + "٣, " * (MEGABYTE // 3),
    "letters that grow in lower case": "İ" * MEGABYTE,
    "lone surrogates": "\ud800" * MEGABYTE,
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_megabyte_is_read_or_refused_at_once(name: str, strict: bool) -> None:
    seconds = math.inf
    for _ in range(10):  # processor time, and the best of a few, since other work may share the machine
        start = time.process_time()
        with contextlib.suppress(ParseError):
            parse(HOSTILE[name], N1000, strict=strict)
        seconds = min(seconds, time.process_time() - start)
        if seconds < 0.05:
            return
    assert seconds < 0.05


def test_what_hostile_texts_still_say() -> None:
    assert parse(HOSTILE["prose, then an answer"], N1000).box.xyxy == BOX
    assert parse(HOSTILE["a long thought"], N1000, strict=True).box.xyxy == BOX
    boxes = parse(HOSTILE["thousands of boxes"], N1000)
    assert boxes.box.xyxy == (1, 2, 3, 4)
    assert any("several boxes" in repair for repair in boxes.repairs)
    with pytest.raises(ParseError, match="characters"):
        parse("<answer>" + " " * MAX_ANSWER + LOCATION + "</answer>", N1000, strict=True)


WORDS = "<think> </think> <answer> </answer> <Answer> ```json ``` ' { } [ ] , : <box> <|box_start|> 12 0.5 % ٣"
KEYS = 'bbox bbox_2d points_1 points absent "bbox" "points" "absent" true null NaN -Infinity 1e308'
PIECES = st.sampled_from(
    [*WORDS.split(), *KEYS.split(), " ", "\n", "\\", "\x00", LOCATION, '{"absent": true}', "Pale disc.", "[1, 2, 3, 4]"]
)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(PIECES, max_size=14).map("".join),
    # A good completion with one stretch replaced.
    st.tuples(st.integers(0, 120), st.integers(0, 12), PIECES).map(
        lambda cut: wrap(LOCATION)[: cut[0]] + cut[2] + wrap(LOCATION)[cut[0] + cut[1] :]
    ),
)


@settings(deadline=None, max_examples=800)
@given(TEXTS, st.sampled_from([N1000, YX, UNIT, PIXELS]))
def test_any_text_is_read_or_refused_and_every_mending_is_said(text: str, space: Space) -> None:
    try:
        strict = parse(text, space, strict=True)
    except ParseError:
        strict = None
    try:
        tolerant = parse(text, space)
    except ParseError:
        tolerant = None
    if strict:
        assert tolerant
        assert (tolerant.reasoning, tolerant.boxes, tolerant.points) == (strict.reasoning, strict.boxes, strict.points)
        assert tolerant.absent == strict.absent
    elif tolerant:
        assert tolerant.repairs, "something was mended in silence"
    if tolerant and tolerant.box:
        assert tolerant.box == tolerant.box.clipped()
        assert len(tolerant.points) in (0, 2)


SPACES = st.one_of(
    st.sampled_from([N1000, YX, UNIT, Space("0-1", 1.0, 1.0, "yx")]),
    st.builds(Space.pixels, st.integers(8, 5000), st.integers(8, 5000)),
    st.builds(Space.resized, st.integers(28, 3000), st.integers(28, 3000)),
)
PARTS = st.floats(0, 1, allow_nan=False).map(lambda part: round(part, 6))


@settings(deadline=None, max_examples=300)
@given(SPACES, st.integers(16, 4000), st.integers(16, 4000), st.lists(PARTS, min_size=8, max_size=8))
def test_what_is_written_is_read_within_rounding(space: Space, width: int, height: int, parts: list[float]) -> None:
    pixels = Space.pixels(width, height)
    x = sorted([parts[0] * width, parts[1] * width])
    y = sorted([parts[2] * height, parts[3] * height])
    if x[1] - x[0] < 1e-3 or y[1] - y[0] < 1e-3:
        x, y = [0, width], [0, height]
    box = Box(x[0], y[0], x[1], y[1], pixels)
    points = (Point(parts[4] * width, parts[5] * height, pixels), Point(parts[6] * width, parts[7] * height, pixels))
    text = format_answer(box, points, space, reasoning="Because.")
    read = parse(text, space, strict=True)
    assert read.reasoning == "Because."
    unit = 10.0 ** -decimals(space)
    thin = box.to(space).width <= unit or box.to(space).height <= unit
    for found, true in zip(read.box.xyxy, box.to(space).xyxy, strict=True):
        assert abs(found - true) <= unit * (1 if thin else 0.5) + 1e-9
    for found, true in zip(read.points, points, strict=True):
        assert found.xy == pytest.approx(true.to(space).xy, abs=unit * 0.5 + 1e-9)
    assert format_answer(read.box, read.points, space, reasoning="Because.") == text


def test_the_canonical_layout() -> None:
    box, points = Box(64, 48, 320, 240, PIXELS), (Point(100, 60, PIXELS), Point(200, 120, PIXELS))
    assert format_answer(box, points, PIXELS, reasoning=" Pale disc. ") == (
        "<think>Pale disc.</think>"
        '<answer>{"bbox": [64, 48, 320, 240], "points_1": [100, 60], "points_2": [200, 120]}</answer>'
    )
    assert format_answer(box, points, YX) == (
        '<answer>{"bbox": [100, 100, 500, 500], "points_1": [125, 156], "points_2": [250, 312]}</answer>'
    )
    unit = format_answer(box, points, UNIT)
    assert json.loads(unit.removeprefix("<answer>").removesuffix("</answer>"))["points_1"] == [0.1562, 0.125]
    assert (
        format_answer(None, (), N1000, reasoning="Not here.")
        == '<think>Not here.</think><answer>{"absent": true}</answer>'
    )


def test_a_thin_box_is_rounded_outwards() -> None:
    box, points = Box(100.2, 50.1, 100.4, 300, PIXELS), (Point(100.3, 60, PIXELS), Point(100.3, 200, PIXELS))
    read = parse(format_answer(box, points, PIXELS), PIXELS, strict=True)
    assert read.box.xyxy == (100, 50, 101, 300)


def test_what_cannot_be_written_is_refused() -> None:
    box, point = Box(64, 48, 320, 240, PIXELS), Point(100, 60, PIXELS)
    with pytest.raises(ValueError, match="two points"):
        format_answer(box, (point,), PIXELS)
    with pytest.raises(ValueError, match="absent target"):
        format_answer(None, (point, point), PIXELS)
    with pytest.raises(ValueError, match="tag"):
        format_answer(box, (point, point), PIXELS, reasoning="a </Think> b")


def test_order_is_applied_once_each_way() -> None:
    box, points = Box(64, 48, 320, 240, PIXELS), (Point(100, 60, PIXELS), Point(200, 120, PIXELS))
    read = parse(format_answer(box, points, YX), YX, strict=True)
    assert read.box.xyxy == convert(box.xyxy, PIXELS, YX)
    as_xy = parse(format_answer(box, points, YX), N1000, strict=True)
    assert as_xy.points[0].xy == (125, 156)  # the same text on the other ruler: x and y change places

"""Answers with regions, read: the layouts as they should be, as models bend them, and hostile texts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space, written_order
from medground.errors import ParseError
from medground.parsing import written_box
from medground.rewards.thinkvg_reading import MAX_BOXES, format_response, read_response
from medground.types import Box
from medground.vqa_parsing import UNNAMED, Answered, parse_answer

N1000 = Space.norm1000()
PLACE = "<ref>left base</ref><box>[10, 20, 30, 40]</box>"
GOLD = (
    "<think>The left base (region [10, 20, 30, 40]) is pale.</think>"
    f"<response><answer>Yes</answer><location>{PLACE}</location></response>"
)
GEMEX = "<answer> Yes <reason> The base is pale. <location> [[10, 20, 30, 40], [5, 6, 7, 8]]"


def places(said: Answered) -> list[tuple[str, tuple[float, ...]]]:
    return [(ref, box.xyxy) for ref, box in said.regions]


ONE = [("left base", (10, 20, 30, 40))]


def test_gold_is_read_alike_strictly_and_tolerantly() -> None:
    said = parse_answer(GOLD, N1000, strict=True, mode="reason")
    assert said == parse_answer(GOLD, N1000)
    assert (said.answer, said.reasoning, places(said)) == (
        "Yes",
        "The left base (region [10, 20, 30, 40]) is pale.",
        ONE,
    )
    assert said.mentions == said.regions
    assert said.repairs == ()


def test_gemexs_layout_is_read_alike_strictly_and_tolerantly() -> None:
    said = parse_answer(GEMEX, N1000, strict=True)
    assert said == parse_answer(GEMEX, N1000)
    assert (said.answer, said.reasoning) == ("Yes", "The base is pale.")
    assert places(said) == [(UNNAMED, (10, 20, 30, 40)), (UNNAMED, (5, 6, 7, 8))]
    none = parse_answer("<answer> A, C <reason> <location> []", N1000, strict=True, mode="direct")
    assert (none.answer, none.regions, none.repairs) == ("A, C", (), ())
    closed = parse_answer("<answer>Yes</answer><reason>Pale.</reason><location>[[10, 20, 30, 40]]</location>", N1000)
    assert (closed.reasoning, places(closed), closed.repairs) == ("Pale.", [(UNNAMED, (10, 20, 30, 40))], ())


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("", None, "exactly one <answer>"),
        (GOLD.replace("Yes", ""), None, "exactly one <answer>"),
        (GOLD + "<answer>No</answer>", None, "exactly one <answer>"),
        (f"Sure. {GOLD}", None, "<think>"),
        (f"{GOLD} Done.", None, "<response>"),
        (GOLD.replace("<response>", "").replace("</response>", ""), None, "<response>"),
        (GOLD.replace("<ref>left base</ref>", ""), None, "the location"),
        (GOLD.replace("[10, 20, 30, 40]</box>", "[30, 20, 10, 40]</box>"), None, "the location"),
        (GOLD.replace("[10, 20, 30, 40]</box>", "10, 20, 30, 40</box>"), None, "the location"),
        (GOLD, "direct", "reasoning stands before"),
        (GOLD.partition("</think>")[2], "reason", "no reasoning"),
        (GEMEX.replace("[5, 6, 7, 8]", "[5, 6, 7]"), None, "boxes can't be read"),
    ],
)
def test_strict_reading_refuses_other_layouts(text: str, mode: str | None, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        parse_answer(text, N1000, strict=True, mode=mode)  # type: ignore[arg-type]


# (completion, answer, regions, what is said to have been mended)
BENT = [
    (f"```xml\n{GOLD}\n```", "Yes", ONE, []),
    (GOLD.replace("think>", "THINK>").replace("<answer>", "< Answer >"), "Yes", ONE, ["capitals"]),
    (GOLD.replace("<think>", ""), "Yes", ONE, ["<think> was missing"]),
    (GOLD.replace("</think>", ""), "Yes", ONE, ["</think> was missing"]),
    (GOLD.replace("<think>", "").replace("</think>", ""), "Yes", ONE, ["<think> tags were missing"]),
    (GOLD.replace("<response>", "").replace("</response>", ""), "Yes", ONE, []),
    (GOLD.replace("</answer>", ""), "Yes", ONE, ["</answer> was missing"]),
    (GOLD.replace("<answer>", "").replace("</answer>", ""), "Yes", ONE, ["<answer> tags were missing"]),
    (GOLD.replace("</location></response>", ""), "Yes", ONE, ["</location> was missing"]),
    (GOLD.replace("<location>", "").replace("</location>", ""), "Yes", ONE, ["<location> tags were missing"]),
    (GOLD.replace("<answer>Yes", "<answer>Yes</answer><answer>No"), "Yes", ONE, ["several answers"]),
    (GOLD.replace("Yes</answer>", f"Yes</answer><location>{PLACE}</location>"), "Yes", ONE, []),
    (GOLD.replace("[10, 20, 30, 40]</box>", "(10, 20), (30, 40)</box>"), "Yes", ONE, []),
    (GOLD.replace("[10, 20, 30, 40]</box>", "10 20 30 40</box>"), "Yes", ONE, []),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[30, 40, 10, 20]</box>"), "Yes", ONE, ["corners were swapped"]),
    (GOLD.replace(PLACE, PLACE * 2), "Yes", ONE, ["given twice"]),
    (GOLD.replace("</ref>", "</ref>: "), "Yes", ONE, []),
    (GOLD.replace("<ref>left base</ref>", ""), "Yes", [(UNNAMED, ONE[0][1])], ["had no name"]),
    (GOLD.replace("<ref>left base</ref>", "<ref> </ref>"), "Yes", [(UNNAMED, ONE[0][1])], []),
    (GOLD.replace("<box>[10, 20, 30, 40]</box>", ""), "Yes", [], []),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[10, 20, 30]</box>"), "Yes", [], ["four coordinates", "no readable box"]),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[10, 20, 30, 4"), "Yes", [], ["four coordinates"]),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[10, 20, 3000, 40]</box>"), "Yes", [], ["far outside the picture"]),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[10, 20, 10, 40]</box>"), "Yes", [], ["no area"]),
    (GOLD.replace("[10, 20, 30, 40]</box>", "[-50, 20, 30, 40]</box>"), "Yes",
     [("left base", (0, 20, 30, 40))], ["clipped"]),
    (GOLD.replace(PLACE, '[{"bbox_2d": [10, 20, 30, 40], "label": "left base"}]'), "Yes", ONE, []),
    (GOLD.replace(PLACE, '{"box": ["10", 20, 30, 40], "ref": "left base"}'), "Yes", ONE, ["numbers in quotes"]),
    (GOLD.replace(PLACE, '[{"label": "left base"}]'), "Yes", [], ["a box was left out"]),
    (GOLD.replace(PLACE, "none"), "Yes", [], []),
    (GOLD.replace(PLACE, "<ref>lungs</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>"), "Yes",
     [("lungs", (1, 2, 3, 4)), ("lungs", (5, 6, 7, 8))], []),
    (GOLD.replace(PLACE, "<ref>a</ref><ref>b</ref><box>[1, 2, 3, 4]</box><box>[5, 6, 7, 8]</box>"), "Yes",
     [("a", (1, 2, 3, 4)), ("b", (5, 6, 7, 8))], []),
    ("Yes.", "Yes.", [], ["<answer> tags were missing; the text"]),
    ("<think>Pale.</think> No effusion.", "No effusion.", [], ["<answer> tags were missing; the text"]),
    ("It is wide.\n**Final Answer:** B", "B", [], ["the line that names the answer"]),
    ('{"answer": ["A", "C"], "location": [{"bbox": [10, 20, 30, 40], "label": "left base"}]}', "A, C", ONE, ["JSON"]),
    ('```json\n{"reasoning": "Pale.", "answer": "Yes", "location": []}\n```', "Yes", [], ["JSON"]),
    ("On the whole, the answer is:\n\nB", "B", [], ["the line that names the answer"]),
    ("The heart (region [1, 2, 3, 4]).\n**Answer:** Yes\n**Location:** left base [10, 20, 30, 40]", "Yes", ONE,
     ["<location> tags were missing"]),
    (GOLD.replace(PLACE, "left base (region [10, 20, 30, 40])"), "Yes", ONE, []),
    (GOLD.replace("box>", "bbox>"), "Yes", ONE, ["own tags"]),
    ("<answer>Yes</answer><|object_ref_start|>left base<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|>",
     "Yes", ONE, ["own tags", "<location> tags were missing"]),
    ('<answer>Yes</answer>```json\n[{"label": "left base", "bbox_2d": [10, 20, 30, 40]}]```', "Yes", ONE,
     ["<location> tags were missing"]),
    ("<answer>Yes</answer> That is all (see [1]).", "Yes", [], []),
    ("<answer>Yes</answer><think>Hm.</think>", "Yes", [], ["stood before the reasoning"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answer", "regions", "repairs"), BENT)
def test_bent_layouts_are_read_and_what_was_mended_is_said(
    text: str, answer: str, regions: list[tuple[str, tuple[float, ...]]], repairs: list[str]
) -> None:
    said = parse_answer(text, N1000)
    assert (said.answer, places(said)) == (answer, regions)
    for repair in repairs:
        assert any(repair in each for each in said.repairs), said.repairs
    if not repairs and "<box>[10" in text:
        assert said.repairs == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("<think>It is", "ends within its reasoning"),
        ("<think>The <answer>Yes</answer> is</think>", "there is no <answer>"),
        ("<think>a</think>", "there is no <answer>"),
        ("<think>a</think><answer> </answer>", "the answer is empty"),
        ('<think>a</think><answer>{"bbox": [1, 2, 3, 4]}</answer>', "a place and no answer in words"),
        ('<answer>{"absent": true}</answer>', "a place and no answer in words"),
        ("no tags " * 400, "there is no <answer>"),
        (f"<answer>{'long ' * 5000}</answer>", "more than 20,000 characters"),
    ],
)
def test_what_holds_no_answer_is_refused(text: str, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        parse_answer(text, N1000)


@pytest.mark.parametrize(
    ("prose", "name"),
    [
        ("The left lower lung zone (region [1, 2, 3, 4]) is hazy.", "left lower lung zone"),
        ("It is hazy at the base of the left lung (region [1, 2, 3, 4]).", "base of the left lung"),
        ("Both are seen, in the heart [1, 2, 3, 4]", "heart"),
        ("Compare its apex: [1, 2, 3, 4]", "apex"),
        ("It lies here (region [1, 2, 3, 4]).", "here"),
        ("[1, 2, 3, 4]", UNNAMED),
        ("It is in (region [1, 2, 3, 4]).", UNNAMED),
        ("a b c d e f g h i j k (region [1, 2, 3, 4])", "d e f g h i j k"),
    ],
)
def test_mentions_are_called_as_the_reasoning_calls_them(prose: str, name: str) -> None:
    said = parse_answer(f"<think>{prose}</think><answer>Yes</answer>", N1000)
    assert [(ref, box.xyxy) for ref, box in said.mentions] == [(name, (1, 2, 3, 4))]


def test_a_mention_of_a_final_region_is_called_as_that_region() -> None:
    said = parse_answer(GOLD.replace("The left base (", "It ("), N1000)
    assert said.mentions == said.regions


def test_numbers_are_read_in_the_order_of_the_space() -> None:
    yx = Space.norm1000("yx")
    said = parse_answer(GOLD, yx)
    assert said.regions[0][1] == said.mentions[0][1] == Box(20, 10, 40, 30, yx)
    assert said == parse_answer(GOLD, yx, strict=True)


def test_a_reasoning_that_names_what_is_no_box_is_told() -> None:
    said = parse_answer("<think>There [1, 2, 3000, 4].</think><answer>Yes</answer>", N1000)
    assert said.repairs == ("the reasoning names a place that is no box in the picture",)


def test_regions_are_bounded() -> None:
    many = "".join(f"<ref>r{n}</ref><box>[{n}, 0, 100, 100]</box>" for n in range(50))
    said = parse_answer(f"<answer>Yes</answer><location>{many}</location>", N1000)
    assert len(said.regions) == MAX_BOXES
    assert "more than 32 regions were given; the first were taken" in said.repairs


numbers = st.integers(0, 1000)
words = st.text("abcXYZ ,.;:()'é\n", min_size=1, max_size=40).filter(str.strip)


@st.composite
def completions(draw: st.DrawFn) -> tuple[str, str, list[Box], list[str], Space]:
    space = draw(st.sampled_from([N1000, Space.norm1000("yx"), Space.pixels(640, 480), Space.unit()]))
    boxes, refs = [], []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.floats(0, 0.8)), draw(st.floats(0, 0.8))
        x2, y2 = draw(st.floats(x1 + 0.1, 1)), draw(st.floats(y1 + 0.1, 1))
        boxes.append(Box(x1, y1, x2, y2, Space.unit()).to(space))
        refs.append(" ".join(draw(words).split()))
    answer = draw(words).strip()
    written = [written_order([f"{each:.12g}" for each in written_box(box, space).xyxy], space) for box in boxes]
    thought = " ".join(f"{ref} (region [{', '.join(four)}])" for ref, four in zip(refs, written, strict=True))
    return format_response(answer, boxes, refs, space, reasoning=thought), answer, boxes, refs, space


@settings(max_examples=80)
@given(completions())
def test_the_canonical_completion_is_read_back(drawn: tuple[str, str, list[Box], list[str], Space]) -> None:
    text, answer, boxes, refs, space = drawn
    strict, said = parse_answer(text, space, strict=True), parse_answer(text, space)
    expected = list(zip(refs, [written_box(box, space) for box in boxes], strict=True))
    assert strict.answer == said.answer == answer
    assert list(strict.regions) == expected
    assert list(said.regions) == list(dict.fromkeys(expected))
    assert [box for _, box in said.mentions] == list(dict.fromkeys(box for _, box in expected))
    rewarded = read_response(text, space)
    assert (rewarded.answer, rewarded.boxes) == (strict.answer, tuple(box for _, box in strict.regions))


PIECES = [
    *(
        f"<{end}{tag}>"
        for tag in ("think", "answer", "response", "location", "reason", "ref", "box")
        for end in ("", "/")
    ),
    *(
        "[1, 2, 3, 4]",
        "[[1,2,3,4],[5,6,7,8]]",
        "(1,2),(3,4)",
        "Yes",
        "A, C",
        '{"answer": "B"',
        "}",
        "[",
        "NaN",
        "1e999",
    ),
    *("9" * 400, "%", " ", "\n", "left lung", "Answer: ", "```", "\x00", "\ud800", "é"),
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=25).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    for space in (N1000, Space.norm1000("yx")):
        try:
            said = parse_answer(text, space)
        except ParseError:
            continue
        assert said.answer.strip()
        assert all(box == box.clipped() for _, box in (*said.regions, *said.mentions))
        try:
            strict = parse_answer(text, space, strict=True)
        except ParseError:
            continue
        assert strict.answer == said.answer


@pytest.mark.parametrize(
    "hostile",
    [
        *("<answer>" * 100_000, "<" * 500_000, "[1, 2, 3, 4] " * 50_000, "<box>[1, 2, 3, 4]" * 30_000, "{" * 300_000),
        *("<ref>" * 100_000, "answer:" * 100_000, "[" * 200_000 + "<answer>", "```" * 200_000, "a " * 300_000),
    ],
    ids=range(10),
)
def test_hostile_texts_are_done_with_soon(hostile: str) -> None:
    """A reading whose time grows with the square of these would go on for minutes."""
    for frame in ("{}", "<answer>Yes</answer><location>{}</location>", "<think>{}</think><answer>Yes</answer>"):
        with contextlib.suppress(ParseError):
            assert parse_answer(frame.replace("{}", hostile), N1000).answer

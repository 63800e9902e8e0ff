from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space, space_words
from medground.errors import ConfigError
from medground.parsing import parse
from medground.prompts import MAX_QUESTION, TEMPLATES, clean_question, render, template_digest

N1000 = Space.norm1000()
QUESTION = "Is there anything that could explain the blurred vision?"
SPACES = [N1000, Space.norm1000("yx"), Space.pixels(640, 480), Space.resized(644, 476), Space.unit()]


def test_nano_gets_the_bare_question() -> None:
    assert render("nano-v1", QUESTION, space=N1000) == (None, QUESTION)
    assert render("nano-v1", QUESTION, mode="direct", space=N1000) == (None, QUESTION + " Answer directly.")


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name} {space.order}")
@pytest.mark.parametrize("mode", ["reason", "direct"])
def test_umrg_says_the_task_the_space_and_the_layout(mode: str, space: Space) -> None:
    system, user = render("umrg-v1", QUESTION, mode=mode, space=space)
    assert user == QUESTION
    assert space_words(space) in system
    layout = (
        '{"bbox": [x1, y1, x2, y2], "points_1": [x, y], "points_2": [x, y]}'
        if space.order == "xy"
        else '{"bbox": [y1, x1, y2, x2], "points_1": [y, x], "points_2": [y, x]}'
    )
    assert f"<answer>{layout}</answer>" in system
    assert ("<think>" in system) is (mode == "reason")
    assert "$" not in system
    # What the prompt shows for an absent target is what strict reading accepts.
    example = re.search(r'<answer>\{"absent".*?</answer>', system).group()
    assert parse(example, space, strict=True).absent


NUMBERS = {"x1": 0.1, "y1": 0.2, "x2": 0.6, "y2": 0.7, "x": 0.3, "y": 0.4}


def test_the_layout_that_the_prompt_shows_reads_strictly_once_filled() -> None:
    for space in SPACES:
        for mode in ("reason", "direct"):
            system, _ = render("umrg-v1", QUESTION, mode=mode, space=space)
            shown = next(line for line in system.splitlines() if '"bbox"' in line)
            filled = re.sub(r"\b[xy][12]?\b(?=[,\]])", lambda match: str(NUMBERS[match.group()]), shown)
            grounding = parse(filled, space, strict=True, mode=mode)
            assert grounding.box.xyxy == (0.1, 0.2, 0.6, 0.7)
            assert grounding.points[0].xy == (0.3, 0.4)


@pytest.mark.parametrize(
    "question",
    [
        "What {is} {this}? {0} {bbox!r}",
        "$bbox ${question} $$ $coordinates",
        "100 % of %s %(x)s",
        "a \\1 \\g<0> b",
        "---",
    ],
)
@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_in_a_question_is_substituted(template: str, question: str) -> None:
    system, user = render(template, question, space=N1000)
    assert user == clean_question(question)
    assert system is None or system == render(template, QUESTION, space=N1000)[0]


CONTROL = """
    <image> <|im_start|> <|im_end|> <|vision_start|> <|image_pad|> <|endoftext|> <IMG_CONTEXT> <img> </img> <video>
    <start_of_turn> <end_of_turn> <start_of_image> <bos> <eos> <s> </s> <pad> <think> </answer> <|eot_id|> <|user|>
    [INST] [/INST] [IMG] [gMASK] <sop> <loc0001> <0x0A> <｜Assistant｜> <fake_token_around_image> <end_of_utterance>
    <|box_start|> <<SYS>> <</SYS>>
""".split()  # noqa: SIM905


@pytest.mark.parametrize("token", CONTROL)
def test_control_strings_are_taken_apart(token: str) -> None:
    for question in (
        token,
        f"Where{token}is it?",
        f"{token}{token}",
        token[0] + token + token[1:],
        f"<\x00{token[1:]}",
    ):
        cleaned = clean_question(question)
        assert token not in cleaned
        assert token not in render("nano-v1", question, mode="direct", space=N1000)[1]
        letters = [sign for sign in question if sign.isalnum()]
        assert [sign for sign in cleaned if sign.isalnum()] == letters  # nothing but space is added


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.one_of(st.text(max_size=8), st.sampled_from([*CONTROL, "<", "[", " ", "\n"])), max_size=12).map("".join)
)
def test_no_question_brings_a_control_string_through(question: str) -> None:
    try:
        cleaned = clean_question(question)
    except ConfigError:
        assert not any(sign.isprintable() and not sign.isspace() for sign in question)
        return
    assert not any(token in cleaned for token in CONTROL)
    assert clean_question(cleaned) == cleaned
    assert "\n" not in cleaned
    cleaned.encode()  # no lone surrogates


@pytest.mark.parametrize(
    "question", [QUESTION, "Nodules < 5 mm or > 3 cm?", "p = 0.05 (see [1])? Größe, 肺, रोगी", "a & b; 'c' \"d\""]
)
def test_ordinary_questions_stay_as_they_are(question: str) -> None:
    assert clean_question(question) == question


@pytest.mark.parametrize("question", ["", "  \n\t", "\x00", "\ud800"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        render("umrg-v1", question, space=N1000)


def test_a_question_has_a_longest_length() -> None:
    assert clean_question("a" * MAX_QUESTION)
    with pytest.raises(ConfigError, match="shorten"):
        clean_question("a" * (MAX_QUESTION + 1))


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="umrg-v1, nano-v1"):
        render("umrg-v9", QUESTION, space=N1000)
    with pytest.raises(ConfigError, match="umrg-v1, nano-v1"):
        template_digest("../prompts/umrg-v1")
    with pytest.raises(ConfigError, match="reason or direct"):
        render("umrg-v1", QUESTION, mode="think", space=N1000)  # type: ignore[arg-type]


def test_published_wordings_never_change() -> None:
    """A new wording is a new version: models are trained on these and reports name them."""
    assert {name: template_digest(name) for name in TEMPLATES} == {
        "umrg-v1": "72fa098a111d74eb",
        "nano-v1": "be4e2553a4c777a8",
    }

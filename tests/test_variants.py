"""Variants of rows: the picture, the mask, the box, the points and the facts move together."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from drawn import ellipse, paint
from hypothesis import given
from hypothesis import strategies as st

from medground import taxonomy
from medground.data.grammar import Grammar
from medground.data.rows import Picture, Row
from medground.data.sentences import load_sentences
from medground.errors import ConfigError, TruthError
from medground.evaluate.paraphrase import paraphrase
from medground.evaluate.variants import VARIANTS, vary_row
from medground.images import MedicalImage
from medground.masks import box_of, key_points
from medground.rewards.evidence import Facts

SIZE = (120, 90)
TURNS = ("rotate_5", "rotate_15", "rotate_90")
LEVELS = ("contrast_50", "contrast_150", "darker", "brighter", "jpeg_20", "noise_10")


def drawn(
    centre: tuple[float, float] = (30.0, 40.0), axes: tuple[float, float] = (14.0, 9.0), **fields: object
) -> tuple[Row, MedicalImage, np.ndarray]:
    """Return a row about a bright ellipse, its picture and its mask."""
    mask = ellipse(SIZE[1], SIZE[0], centre[1], centre[0], axes[1], axes[0])
    image = MedicalImage.from_array(paint(mask))
    grey = image.rgb[..., 0]
    row = Row(
        id="one",
        question="Where does the bowel wall bulge?",
        image=Picture(path="a.png"),
        mask=Picture.of_mask(mask),
        box=box_of(mask).xyxy,
        points=tuple(point.xy for point in key_points(mask)),
        image_size=SIZE,
        reasoning="It lies in the middle left.",
        category="colon polyp",
        modality="endoscopy",
        facts=Facts.measure(mask, grey).to_dict(),
    )
    return row.model_copy(update=fields), image, mask


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"paraphrase"}))
@given(x=st.floats(25, 95), y=st.floats(20, 70))
def test_the_truth_stays_true_of_what_is_shown(name, x, y):
    row, image, mask = drawn((x, y))
    varied = vary_row(name, row, image, mask)
    assert varied.row.image_size == varied.image.size
    assert varied.mask.shape == varied.image.rgb.shape[:2]
    assert varied.row.truth().box.iou(box_of(varied.mask)) > 0.999
    for point in varied.row.points:
        assert varied.mask[int(point[1]), int(point[0])]
    # The target is where it is bright: told from the pixels alone.
    seen = varied.image.rgb[..., 0].astype(float)
    assert seen[varied.mask].mean() > seen[~varied.mask].mean() + 50
    assert varied.row.facts == Facts.measure(varied.mask, varied.image.rgb[..., 0]).to_dict()
    assert (varied.row.reasoning, varied.row.mask) == ("", None)
    assert (varied.row.id, varied.row.question) == (row.id, row.question)


@pytest.mark.parametrize("name", LEVELS)
def test_levels_change_and_places_do_not(name):
    row, image, mask = drawn()
    varied = vary_row(name, row, image, mask)
    assert (varied.row.box, varied.row.points, varied.row.image_size) == (row.box, row.points, row.image_size)
    assert (varied.mask == mask).all()
    assert (varied.image.rgb != image.rgb).any()
    grey = varied.image.rgb
    if name != "jpeg_20":
        assert (grey[..., :1] == grey).all()  # a grey picture stays grey


def test_levels_are_those_that_the_name_says():
    row, image, mask = drawn()
    image = MedicalImage.from_array(image.rgb // 2 + 45)  # none of them reaches black or white
    level = {name: vary_row(name, row, image, mask).image.rgb.astype(float) for name in LEVELS}
    plain = image.rgb.astype(float)
    assert np.ptp(level["contrast_50"]) == pytest.approx(np.ptp(plain) / 2, abs=1)
    assert level["contrast_50"].mean() == pytest.approx(plain.mean(), abs=1)
    assert np.ptp(level["contrast_150"]) == pytest.approx(np.ptp(plain) * 1.5, abs=1)
    assert (plain - level["darker"]).min() == (plain - level["darker"]).max() == 40
    assert (level["brighter"] - plain).min() == (level["brighter"] - plain).max() == 40
    assert (level["noise_10"] - plain)[..., 0].std() == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("name", ["rotate_90", "crop_80"])
def test_straight_moves_lose_no_pixel(name):
    row, _, mask = drawn()
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    varied = vary_row(name, row, MedicalImage.from_array(pixels), mask)
    if name == "rotate_90":
        assert any((varied.image.rgb == np.rot90(pixels, turns)).all() for turns in (1, 3))
        assert any((varied.mask == np.rot90(mask, turns)).all() for turns in (1, 3))
    else:
        width, height = varied.image.size
        assert (width, height) == (96, 72)
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (height, width, 3))
        assert (windows[:, :, 0] == varied.image.rgb).all(axis=(2, 3, 4)).any()


def test_turning_goes_to_either_side_and_hangs_on_the_row_alone():
    row, image, mask = drawn()
    seen = {
        vary_row("rotate_90", row.model_copy(update={"id": str(number)}), image, mask).row.box for number in range(12)
    }
    assert len(seen) == 2
    for name in VARIANTS.keys() - {"paraphrase"}:
        one, two = (vary_row(name, row, image, mask) for _ in range(2))
        assert (one.image.rgb == two.image.rgb).all()
        assert one.row == two.row
    assert any(
        vary_row("rotate_15", row, image, mask, seed=seed).row.box != vary_row("rotate_15", row, image, mask).row.box
        for seed in range(1, 9)
    )


def test_numbers_on_another_ruler_move_as_pixels_do():
    row, image, mask = drawn()
    for name in ("rotate_90", "crop_80", "rotate_15"):
        here, there = (vary_row(name, each, image, mask).row for each in (row, row.to("0-1000")))
        assert there.coordinates == "pixels"
        assert there.box == pytest.approx(here.box)
        assert np.asarray(there.points) == pytest.approx(np.asarray(here.points))


def test_a_picture_of_another_size_than_its_numbers():
    row, image, mask = drawn()
    doubled = row.model_copy(update={"image_size": (240, 180), "box": tuple(2 * value for value in row.box)})
    doubled = doubled.model_copy(update={"points": tuple((2 * x, 2 * y) for x, y in row.points)})
    assert vary_row("rotate_90", doubled, image, mask).row.box == vary_row("rotate_90", row, image, mask).row.box


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("rotate_90", {"question": "Where is the one on the left?"}, "its side would be another"),
        ("rotate_90", {"category": "left lung"}, "so would that of its name"),
        ("rotate_90", {"category": "left gill"}, "and that of another project's"),
        ("rotate_90", {"question": "What is this? It lies in the middle left of the image."}, "a claim turns false"),
        ("paraphrase", {}, "the grammar didn't write it"),
        ("paraphrase", {"template": "h01"}, "nor this"),
        ("paraphrase", {"template": "h01", "modality": "sonar"}, "no words for such a picture"),
    ],
)
def test_what_would_be_wrong_is_left_out(name, fields, why):
    row, image, mask = drawn(**fields)
    assert vary_row(name, row, image, mask) is None, why


def test_a_claim_of_the_question_that_turns_false_leaves_the_row_out():
    row, image, mask = drawn((60, 45), (10.0, 3.0), question="What is this? It lies in the centre. It is elongated.")
    assert vary_row("rotate_15", row, image, mask) is not None
    said = row.model_copy(update={"question": "What is this? It is brighter than its surroundings."})
    assert vary_row("darker", said, image, mask) is not None
    faint = MedicalImage.from_array(np.where(mask, 126, 110).astype(np.uint8))
    facts = Facts.measure(mask, faint.rgb[..., 0]).to_dict()
    said = said.model_copy(update={"facts": facts})
    assert vary_row("contrast_150", said, faint, mask) is not None
    assert vary_row("contrast_50", said, faint, mask) is None


def test_a_target_without_a_mask():
    row, image, _ = drawn(mask=None)
    assert vary_row("rotate_15", row, image) is None
    for name in ("rotate_90", "crop_80", "darker"):
        varied = vary_row(name, row, image)
        assert varied.mask is None
        assert varied.row.facts is None
        x1, y1, x2, y2 = (round(value) for value in varied.row.box)
        inside = varied.image.rgb[y1:y2, x1:x2, 0].mean() - varied.image.rgb[..., 0].mean()
        assert inside > 50


def test_a_target_as_wide_as_the_picture_leaves_nothing_to_cut():
    row, image, mask = drawn((60, 45), (70.0, 60.0))
    assert vary_row("crop_80", row, image, mask) is None


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"paraphrase"}))
def test_what_is_absent_stays_absent(name):
    row, image, _ = drawn(box=None, points=(), mask=None, facts=None)
    varied = vary_row(name, row, image)
    assert varied.row.absent
    assert varied.row.truth().absent
    assert varied.row.image_size == varied.image.size


def test_of_two_parts_the_one_that_is_asked_for():
    row, image, mask = drawn((30, 40))
    other = ellipse(SIZE[1], SIZE[0], 60, 95, 10, 10)
    varied = vary_row("rotate_15", row, image, mask | other)
    alone = vary_row("rotate_15", row, image, mask)
    assert varied.row.box == alone.row.box
    assert varied.mask.sum() > alone.mask.sum()


def test_mistakes_are_told():
    row, image, mask = drawn()
    with pytest.raises(ConfigError, match=r"variant 'rotate_45' isn't known; choose one of rotate_5, "):
        vary_row("rotate_45", row, image, mask)
    with pytest.raises(TruthError, match=r"row one: a mask of shape \(120, 90\) isn't of its picture"):
        vary_row("darker", row, image, mask.T)


@pytest.mark.parametrize("held_out", [False, True])
def test_each_question_of_the_grammar_can_be_put_in_another_way(held_out):
    sentences = load_sentences()
    pool = sentences.held_out if held_out else sentences.train
    phrases = taxonomy.unseen_phrases if held_out else taxonomy.phrases
    target = taxonomy.target_of("kidney left")
    known = {text for listed in phrases(target, "CT").values() for text in listed}
    rng = random.Random(5)
    row, _, _ = drawn()
    seen = set()
    for _ in range(400):
        request = {
            "id": "1",
            "category": "kidney left",
            "modality": "CT",
            "absent": True,
            "style": rng.choice(["function", "appearance", "lay"]),
            "length": rng.choice(["short", "long"]),
            "held_out": held_out,
            "side": rng.choice([None, "on the patient's left side"]),
            "looks_in": "CT",
            "seen": [],
            "home": "the abdomen",
        }
        said = Grammar().ask(request, rng)
        fields = {name: said[name] for name in ("question", "template")}
        asked = row.model_copy(update={**fields, "modality": "CT", "style": request["style"]})
        new = paraphrase(asked, rng)
        assert new not in (None, said["question"])
        own = {text for text in known if text in said["question"]}
        assert own
        assert {text for text in known if text in new} == own
        assert ("on the patient's left side" in new) == (request["side"] is not None)
        assert "{" not in new
        seen.add(said["template"])
    assert len(seen) > len(pool) * 0.8


def test_a_paraphrase_leaves_the_answer_and_the_picture_alone():
    row, image, mask = drawn(template="h01", question="Help me locate the bulge of the bowel wall.")
    varied = vary_row("paraphrase", row, image, mask)
    assert varied.row.question != row.question
    assert "the bulge of the bowel wall" in varied.row.question
    assert varied.image is image
    changed = {"question", "mask", "reasoning"}
    assert varied.row.model_dump(exclude=changed) == row.model_dump(exclude=changed)
    assert dataclasses.replace(varied).mask is mask

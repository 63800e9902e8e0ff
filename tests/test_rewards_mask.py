"""The mask term: the frozen expert under the predicted location, against itself under the true one."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import FillingSegmenter
from drawn import ellipse, paint

from medground.coords import Space
from medground.errors import ImageError, TruthError
from medground.images import MedicalImage
from medground.rewards import Truth, gold, medground_recipe, score, score_batch
from medground.types import Box

MASK = ellipse(60, 80, 25, 30, 10, 20)
IMAGE = MedicalImage.from_array(paint(MASK))


def a_truth(**given: object) -> Truth:
    return Truth.from_mask(MASK, image=IMAGE, **given)


def answer(x1: int, y1: int, x2: int, y2: int) -> str:
    places = f'"points_1": [{x1}, {y1}], "points_2": [{x2}, {y2}]'
    return f'<think>Here.</think><answer>{{"bbox": [{x1}, {y1}, {x2}, {y2}], {places}}}</answer>'


def test_gold_earns_full_marks_although_the_expert_errs(segmenter: FillingSegmenter) -> None:
    truth = a_truth()
    filled = truth.box.area
    assert MASK.sum() < 0.9 * filled, "filling the box isn't the mask"
    for space in (truth.space, Space.norm1000()):
        there = truth.to(space)
        assert score(gold(there, "Here."), there, medground_recipe(segmenter))["mask"] == 1.0


def test_each_picture_is_encoded_once_and_each_prompt_segmented_once(segmenter: FillingSegmenter) -> None:
    other = MedicalImage.from_array(paint(~MASK))
    truths = [a_truth()] * 6 + [Truth.from_mask(MASK, image=other)] * 2
    completions = [answer(10, 15, 50, 35)] * 4 + [answer(5, 5, 20, 20), "nothing"] + [answer(10, 15, 50, 35)] * 2
    earned = score_batch(completions, truths, medground_recipe(segmenter))
    assert segmenter.encoded == 2
    assert len(segmenter.prompts) == 3 + 2
    assert [round(row["mask"], 3) for row in earned[:4]] == [round(earned[0]["mask"], 3)] * 4
    assert earned[0]["mask"] > earned[4]["mask"] > 0
    assert earned[5]["mask"] == 0


def test_it_is_the_share_of_what_the_expert_can_do(segmenter: FillingSegmenter) -> None:
    truth = a_truth()
    x1, y1, x2, y2 = (int(edge) for edge in truth.box.xyxy)
    half = np.zeros_like(MASK)
    half[y1:y2, x1 : x1 + 10] = True
    whole = np.zeros_like(MASK)
    whole[y1:y2, x1:x2] = True

    def dice(one: np.ndarray) -> float:
        return 2 * (one & MASK).sum() / (one.sum() + MASK.sum())

    earned = score(answer(x1, y1, x1 + 10, y2), truth, medground_recipe(segmenter))
    assert earned["mask"] == pytest.approx(dice(half) / dice(whole))


def test_a_box_that_the_expert_prefers_earns_no_more(segmenter: FillingSegmenter) -> None:
    truth = a_truth()
    best, x1, y1, x2, y2 = 0.0, *(int(edge) for edge in truth.box.xyxy)
    recipe = medground_recipe(segmenter)
    for inset in range(1, 5):  # a box a little inside the true one fills with less that isn't the target
        earned = score(answer(x1 + inset, y1 + inset, x2 - inset, y2 - inset), truth, recipe)
        best = max(best, earned["mask"])
        assert earned["score"] < 1
    assert best == 1.0


def test_it_is_left_out_where_it_does_not_apply(segmenter: FillingSegmenter) -> None:
    recipe = medground_recipe(segmenter)
    plain = Truth(IMAGE.space, a_truth().box, a_truth().points, image=IMAGE)
    speck = np.zeros_like(MASK)
    speck[25, 10:12] = speck[35, 70] = True  # filling the box around it draws next to nothing of it
    for truth in (plain, Truth(IMAGE.space, image=IMAGE), Truth.from_mask(MASK), Truth.from_mask(speck, image=IMAGE)):
        assert "mask" not in score(answer(10, 15, 50, 35), truth, recipe)
    assert "mask" not in score(answer(10, 15, 50, 35), a_truth(), "medground")


def test_absent_where_it_is_present_earns_nothing(segmenter: FillingSegmenter) -> None:
    said = '<think>None.</think><answer>{"absent": true}</answer>'
    assert score(said, a_truth(), medground_recipe(segmenter))["mask"] == 0


def test_pictures_are_read_from_files(segmenter: FillingSegmenter, tmp_path) -> None:
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.fromarray(IMAGE.rgb).save(path)
    truth = Truth.from_mask(MASK, image=str(path))
    assert score(gold(truth, "Here."), truth, medground_recipe(segmenter))["mask"] == 1
    with pytest.raises(ImageError, match=r"missing\.png"):
        score("", Truth.from_mask(MASK, image=str(tmp_path / "missing.png")), medground_recipe(segmenter))


def test_a_mask_of_another_size_is_refused(segmenter: FillingSegmenter) -> None:
    truth = Truth.from_mask(ellipse(30, 40, 15, 15, 5, 10), image=IMAGE)
    with pytest.raises(TruthError, match=r"40 x 30 .* 80 x 60"):
        score(answer(10, 10, 20, 20), truth, medground_recipe(segmenter))


def test_the_real_expert_tells_good_boxes_from_bad() -> None:
    pytest.importorskip("torch")
    from medground.segmenters import load_segmenter

    recipe = medground_recipe(load_segmenter("litemedsam"))
    truth = a_truth()
    x1, y1, x2, y2 = (int(edge) for edge in truth.box.xyxy)
    good, near, bad = (gold(truth, "Here."), answer(x1 - 2, y1, x2, y2 + 2), answer(60, 45, 78, 58))
    worth = [row["mask"] for row in score_batch([good, near, bad], [truth] * 3, recipe)]
    assert worth[0] == 1
    assert worth[1] > 0.9
    assert worth[2] < 0.1
    assert isinstance(truth.box, Box)

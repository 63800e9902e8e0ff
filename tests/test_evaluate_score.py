"""Figures of answers, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medground.evaluate.predictions import Prediction, Run
from medground.evaluate.score import FIGURES, Scored, figures, score_run
from medground.masks import encode_rle

ABSENT = '<answer>{"absent": true}</answer>'


def said(x1: float, y1: float, x2: float, y2: float, think: str = "", points: str = "[10, 20], [30, 20]") -> str:
    first, second = points.split("], ")
    head = f"<think>{think}</think>" if think else ""
    return f'{head}<answer>{{"bbox": [{x1}, {y1}, {x2}, {y2}], "points_1": {first}], "points_2": {second}}}</answer>'


def filled(x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    mask = np.zeros((100, 100), bool)
    mask[y1:y2, x1:x2] = True
    return encode_rle(mask)


def answered(completion: str, **changed: Any) -> Prediction:
    """A target of 40 x 20 pixels at (0, 10), its points 20 pixels apart."""
    truth = {"bbox_2d": [0, 10, 40, 30], "point_2d": [[10, 20], [30, 20]], "image_size": [100, 100]}
    given: dict[str, Any] = {
        "id": "1",
        "question": "Where?",
        "image_size": (100, 100),
        "truth": truth,
        "truth_mask": filled(0, 10, 40, 30),
        "completion": completion,
        "space": {"coordinates": "pixels", "width": 100, "height": 100},
    }
    return Prediction.model_validate(given | changed)


def test_every_name_is_there_and_no_other() -> None:
    assert tuple(figures(answered("nothing"))) == FIGURES
    assert tuple(figures(answered(ABSENT, truth={"absent": True}, truth_mask=None))) == FIGURES


def test_box_and_points_by_hand() -> None:
    # Half of the true box: IoU 1/2. Points 10 pixels off along 20: discs of radius 10 whose centres are 10 apart.
    found = figures(answered(said(0, 10, 20, 30, points="[20, 20], [40, 20]")))
    assert (found["box_iou"], found["acc_50"], found["pointing"]) == (0.5, 1.0, 0.5)
    lens = 2 * 100 * math.acos(0.5) - 5 * math.sqrt(300)
    assert found["pdice"] == pytest.approx(lens / (100 * math.pi))
    union = 2 * 100 * math.pi - lens
    assert found["pdice_paper"] == pytest.approx(2 * lens / union, abs=1e-6)
    assert found["consistency"] == 0.5
    assert (found["absence"], found["readable"], found["failed"]) == (1, 1, 0)
    assert math.isnan(found["dice"])
    assert math.isnan(found["confidence"])


def test_pdice_of_the_paper_is_measured_on_its_frame() -> None:
    wide = {"bbox_2d": [0, 5, 40, 15], "point_2d": [[10, 10], [30, 10]], "image_size": [100, 50]}
    ruler = {"coordinates": "pixels", "width": 100, "height": 50}
    # Right along x, and 10 pixels off along y of 50: on the square frame that is 168 of 840, the radius being 84.
    one = answered(
        said(0, 5, 40, 15, points="[10, 20], [30, 20]"), truth=wide, truth_mask=None, image_size=(100, 50), space=ruler
    )
    assert figures(one)["pdice_paper"] == 0
    assert figures(one)["pdice"] > 0.3


@pytest.mark.parametrize("completion", ["nothing", ABSENT])
def test_no_place_counts_nothing_where_there_is_a_target(completion: str) -> None:
    found = figures(answered(completion, masks={"box": None}))
    for name in ("box_iou", "acc_50", "pdice", "pdice_paper", "pointing", "dice", "dice_box", "absence"):
        assert found[name] == 0, name
    assert found["hd95"] == pytest.approx(math.hypot(100, 100))
    assert found["readable"] == (completion == ABSENT)
    assert (found["claims"], found["claims_true"]) == (0, 0)


def test_a_failure_counts_as_what_can_t_be_read_does_and_is_told() -> None:
    failed, unread = figures(answered("", error="no route")), figures(answered("nothing"))
    assert (failed.pop("failed"), unread.pop("failed")) == (1, 0)
    assert failed == pytest.approx(unread, nan_ok=True)
    assert failed["consistency"] == failed["readable"] == 0


def test_where_the_target_is_absent_only_absence_counts() -> None:
    right = figures(answered(ABSENT, truth={"absent": True}, truth_mask=None))
    wrong = figures(answered(said(0, 10, 40, 30), truth={"absent": True}, truth_mask=None, masks={"box": None}))
    assert (right["absence"], wrong["absence"]) == (1, 0)
    for name in ("box_iou", "acc_50", "pdice", "pointing", "dice", "hd95", "claims", "sampled_box_iou"):
        assert math.isnan(right[name]), name
        assert math.isnan(wrong[name]), name
    assert math.isnan(right["consistency"])


def test_masks_by_hand_and_the_one_that_the_segmenter_prefers() -> None:
    # Against 40 x 20: half of it (2/3), all of it (1), and one beside it (0).
    masks = {
        "points": {"rle": filled(0, 10, 20, 30), "score": 0.9},
        "box": {"rle": filled(0, 10, 40, 30), "score": 0.8},
        "both": {"rle": filled(50, 50, 60, 60), "score": 0.1},
    }
    oracle = {"rle": filled(0, 10, 40, 20), "score": 0.9}
    found = figures(answered(said(0, 10, 40, 30), masks=masks, oracle_mask=oracle))
    assert found["dice_points"] == found["dice"] == found["dice_oracle"] == pytest.approx(2 / 3)
    assert (found["dice_box"], found["dice_both"]) == (1, 0)
    assert found["hd95"] == pytest.approx(20)
    some = figures(answered(said(0, 10, 40, 30), masks={**masks, "points": None}))
    assert (some["dice_points"], some["dice"]) == (0, 1)


def test_masks_without_a_true_one_say_nothing() -> None:
    drawn = {"box": {"rle": filled(0, 10, 40, 30), "score": 0.8}}
    found = figures(answered(said(0, 10, 40, 30), truth_mask=None, masks=drawn))
    assert math.isnan(found["dice_box"])
    assert found["pointing"] == 1  # by the box


def test_claims_are_held_to_facts_or_else_to_the_place_of_the_box() -> None:
    think = "It lies in the upper left of the image. It is large and round."
    known = {"facts": {"place": ["upper left"], "size": ["small"], "shape": ["round"]}}
    one = answered(said(0, 10, 40, 30, think))
    found = figures(one.model_copy(update={"truth": one.truth | known}))
    assert (found["claims"], found["claims_true"]) == (3, 2)
    assert (figures(one)["claims"], figures(one)["claims_true"]) == (1, 1)


def test_claims_are_held_against_the_drawn_mask_too() -> None:
    think = "It lies in the upper left of the image. It is large and round."
    known = {"facts": {"place": ["upper left"], "size": ["small"], "shape": ["round"]}}
    one = answered(said(0, 10, 40, 30, think))
    one = one.model_copy(update={"truth": one.truth | known})
    names = ("held", "spoken_against", "confirmed", "confirmed_true", "refuted", "refuted_true")
    assert all(math.isnan(figures(one)[name]) for name in names)
    for drawn, counts in (
        ({"place": ["upper left"], "size": ["large"], "shape": ["oval"]}, (3, 1, 2, 1, 1, 1)),
        ({"place": ["centre"], "size": ["small"], "shape": ["oval"]}, (3, 3, 0, 0, 3, 2)),
        ({"size": ["small"]}, (1, 1, 0, 0, 1, 0)),
    ):
        found = figures(one.model_copy(update={"drawn_facts": drawn}))
        assert tuple(found[name] for name in names) == counts
    box = answered(said(0, 10, 40, 30, think), drawn_facts={"size": ["small"], "shape": ["round"]})
    found = figures(box)  # of its truth the place alone is known
    assert tuple(found[name] for name in names) == (2, 1, 0, 0, 0, 0)
    unread = answered("nothing", drawn_facts={"size": ["large"]})
    assert math.isnan(figures(unread)["confirmed"])


def test_samples_are_means_and_their_agreement_the_confidence() -> None:
    whole, half = said(0, 10, 40, 30), said(0, 10, 20, 30)
    found = figures(answered(whole, samples=[whole, half, ABSENT, "nothing"]))
    assert found["sampled_box_iou"] == pytest.approx((1 + 0.5) / 4)
    assert found["sampled_acc_50"] == 0.5
    assert found["sampled_absence"] == 0.5
    assert found["sampled_readable"] == 0.75
    assert found["confidence"] == pytest.approx(0.5 / 6)
    assert figures(answered(whole, samples=[ABSENT, ABSENT]))["confidence"] == 1
    assert figures(answered(whole, samples=["nothing", "nothing"]))["confidence"] == 0
    assert math.isnan(figures(answered(whole, samples=[whole]))["confidence"])


def test_claims_of_samples_are_counted_over_all_of_them() -> None:
    known = {"facts": {"size": ["small"], "shape": ["round"]}}
    think = "It is small and round."
    samples = [said(0, 10, 40, 30, think), said(0, 10, 40, 30, "It is large."), "nothing"]
    one = answered(said(0, 10, 40, 30), samples=samples)
    found = figures(one.model_copy(update={"truth": one.truth | known}))
    assert (found["sampled_claims"], found["sampled_claims_true"]) == (1, pytest.approx(2 / 3))
    absent = figures(answered(ABSENT, truth={"absent": True}, truth_mask=None, samples=samples))
    assert math.isnan(absent["sampled_claims"])


def test_a_run_has_columns_and_groups() -> None:
    lines = (
        answered(said(0, 10, 40, 30), about={"group": "patient 1"}),
        answered(ABSENT, image="a.png", truth={"absent": True}, truth_mask=None),
        answered("nothing", id="3"),
    )
    scored = score_run(Run("run", Path(), {}, lines))
    assert isinstance(scored, Scored)
    assert scored.groups == ["patient 1", "a.png", "3"]
    assert scored.column("box_iou") == pytest.approx([1, math.nan, 0], nan_ok=True)
    with pytest.raises(KeyError):
        scored.column("iou")

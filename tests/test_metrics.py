from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medground import metrics
from medground.coords import Space
from medground.errors import TruthError
from medground.masks import box_of, key_points
from medground.metrics import accuracy_at, cumulative_iou, dice, mean_iou, pdice, pdice_paper, pointing
from medground.types import Box, Point

SPACE = Space.pixels(100, 80)
A, HALF_A, B = Box(0, 0, 20, 20, SPACE), Box(0, 0, 20, 10, SPACE), Box(40, 0, 60, 20, SPACE)
MASK = np.zeros((80, 100), bool)
MASK[10:30, 20:60] = True
EMPTY = np.zeros((80, 100), bool)
# A fifth of the vectors that the paper's published code returned; and all, where they are at hand.
OWN = Path(__file__).parent / "data" / "umrg_vectors.jsonl"
ALL = Path(__file__).parents[2] / "shared" / "reference" / "umrg_reward_vectors.jsonl"
numbers = st.integers(0, 99)


def at(*numbers: float, space: Space = SPACE) -> list[Point]:
    return [Point(x, y, space) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def test_the_door_leads_to_everything():
    assert len(set(metrics.__all__)) == len(metrics.__all__)
    for name in metrics.__all__:
        assert getattr(metrics, name).__doc__, name


def test_importing_metrics_loads_nothing_heavy():
    heavy = ["torch", "monai", "surface_distance", "sklearn", "pycocotools", "pandas", "scipy.optimize"]
    code = f"import sys, medground.metrics; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_mean_iou_counts_failures_and_leaves_out_what_is_absent_and_said_so():
    assert mean_iou([A, HALF_A, None, B, None], [A, A, A, None, None]) == (1.5 / 4, 4, 1)
    assert math.isnan(mean_iou([], []).mean)
    with pytest.raises(ValueError, match="1 for 2"):
        mean_iou([A], [A, A])


def test_accuracy_counts_the_threshold_itself():
    ious = [1.0, 0.5, 0.49, 0.0, math.nan]
    assert accuracy_at(ious) == (0.5, 4, 1)
    assert accuracy_at(ious, 0.49).mean == 0.75
    assert accuracy_at(ious, 1.0).mean == 0.25


@pytest.mark.parametrize(
    ("ious", "threshold"), [([1.2], 0.5), ([-0.1], 0.5), ([0.5], 0), ([0.5], 50), ([0.5], math.nan)]
)
def test_accuracy_refuses(ious, threshold):
    with pytest.raises(ValueError, match=r"between 0 and 1|at most 1"):
        accuracy_at(ious, threshold)


def test_cumulative_iou_of_boxes():
    assert cumulative_iou([HALF_A, B], [A, B]) == pytest.approx((200 + 400) / (400 + 400))
    assert cumulative_iou([None, B], [A, B]) == pytest.approx(0.5)  # a miss and its area
    assert cumulative_iou([A, B], [None, B]) == pytest.approx(0.5)  # a false alarm and its area
    assert cumulative_iou([A], [B]) == 0
    assert math.isnan(cumulative_iou([None], [None]))
    assert math.isnan(cumulative_iou([], []))
    thousandths = [box.to(Space.norm1000()) for box in (HALF_A, B)]
    assert cumulative_iou(thousandths, [A, B]) == pytest.approx(0.75)  # measured on the truth's ruler


def test_no_single_box_outweighs_all_others():
    wild = Box(-1e308, -1e308, 1e308, 1e308, SPACE)
    assert cumulative_iou([wild, A], [A, A]) == pytest.approx((400 + 400) / (100 * 80 + 400))
    outside = Box(200, 200, 300, 300, SPACE)
    assert cumulative_iou([outside, A], [A, A]) == pytest.approx(0.5)


masks_of_boxes = st.tuples(numbers, numbers, numbers, numbers).map(
    lambda n: Box(min(n[0], n[2]), min(n[1], n[3]), max(n[0], n[2]) + 1, max(n[1], n[3]) + 1, Space.pixels(100, 100))
)


@settings(max_examples=40)
@given(st.lists(st.tuples(masks_of_boxes, masks_of_boxes), min_size=1, max_size=5))
def test_cumulative_iou_of_boxes_is_that_of_their_masks(rows):
    def filled(box: Box) -> np.ndarray:
        mask = np.zeros((100, 100), bool)
        mask[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
        return mask

    predicted, true = zip(*rows, strict=True)
    masks = [filled(box) for box in predicted], [filled(box) for box in true]
    found = cumulative_iou(predicted, true)
    assert found == pytest.approx(cumulative_iou(*masks))
    assert found == pytest.approx(np.logical_and(*masks).sum() / np.logical_or(*masks).sum())


@pytest.mark.parametrize(
    ("predicted", "true", "reason"),
    [
        ([A], [A, B], "1 for 2"),
        ([MASK], [MASK[1:]], "shapes"),
        ([MASK.astype(np.uint8)], [MASK], "boolean"),
        ([MASK], [A], "a mask can't"),
        ([None], [MASK], "a mask can't"),
        ([A, A], [A, A.to(Space.norm1000())], "can't be summed"),
        ([A, B.to(Space.unit())], [A, None], "can't be summed"),
    ],
)
def test_cumulative_iou_refuses(predicted, true, reason):
    with pytest.raises(ValueError, match=reason):
        cumulative_iou(predicted, true)


# --- masks and points ------------------------------------------------------------------------------------------------


def test_dice_rules():
    assert dice(MASK, MASK) == 1
    assert dice(EMPTY, MASK) == dice(MASK, EMPTY) == 0
    assert math.isnan(dice(EMPTY, EMPTY))
    with pytest.raises(ValueError, match="shapes"):
        dice(MASK, MASK.T)
    with pytest.raises(ValueError, match="boolean"):
        dice(MASK * np.uint8(255), MASK)


@settings(max_examples=40)
@given(arrays.arrays(bool, (6, 7)), arrays.arrays(bool, (6, 7)))
def test_dice_is_iou_in_other_words(predicted, true):
    found, iou = dice(predicted, true), cumulative_iou([predicted], [true])
    assert found == pytest.approx(2 * iou / (1 + iou), nan_ok=True)


def test_pointing_rules():
    inside, outside = at(25, 15), at(70, 70)
    assert pointing(inside + outside, MASK) == pointing(inside + outside, box_of(MASK)) == 0.5
    assert pointing([], MASK) == pointing([], A) == pointing(inside, EMPTY) == pointing(inside, None) == 0
    assert math.isnan(pointing([], EMPTY))
    assert math.isnan(pointing([], None))
    assert pointing(at(250, 150, space=Space.norm1000()), MASK) == 1
    assert pointing(at(-5, 15) + at(1e308, 15) + at(100, 80) + at(1e308, 1, space=Space.unit()), MASK) == 0


# --- the circles of key points ---------------------------------------------------------------------------------------


def sampled(predicted, true) -> tuple[float, float]:
    """Return true Dice and twice the IoU of two discs, counted on a fine grid."""
    places = np.stack(np.meshgrid(np.linspace(-20, 120, 1400), np.linspace(-20, 120, 1400)), -1)
    discs = []
    for first, second in (predicted, true):
        middle = np.add(first.xy, second.xy) / 2
        radius = math.dist(first.xy, second.xy) / 2
        discs.append(((places - middle) ** 2).sum(-1) <= radius**2)
    shared, either = (discs[0] & discs[1]).sum(), (discs[0] | discs[1]).sum()
    return 2 * shared / (shared + either), 2 * shared / either


@pytest.mark.parametrize(
    ("predicted", "true"),
    [
        (at(20, 20, 60, 50), at(30, 20, 70, 60)),
        (at(20, 20, 60, 50), at(10, 10, 20, 20)),
        (at(40, 40, 60, 60), at(20, 20, 80, 80)),
        (at(20, 20, 60, 20), at(61, 20, 90, 20)),
        (at(20, 20, 60, 20), at(60, 20, 20, 20)),
    ],
    ids=["crossing", "just touching", "inside", "apart", "equal"],
)
def test_discs_agree_with_counting(predicted, true):
    real, paper = sampled(predicted, true)
    assert pdice(predicted, true) == pytest.approx(real, abs=3e-3)
    assert pdice_paper(predicted, true) == pytest.approx(paper, abs=6e-3)


@settings(max_examples=60)
@given(st.tuples(*[numbers] * 4), st.tuples(*[numbers] * 4))
def test_the_papers_form_is_a_function_of_dice(predicted, true):
    found, real = at(*predicted), at(*true)
    true_dice = pdice(found, real)
    assert 0 <= true_dice <= 1
    assert true_dice == pytest.approx(pdice(found[::-1], real)) == pytest.approx(pdice(real, found))
    if found[0] != found[1] and real[0] != real[1]:
        # Twice the IoU is 2 Dice / (2 - Dice), but for the 1e-5 in its denominator.
        assert pdice_paper(found, real) == pytest.approx(2 * true_dice / (2 - true_dice), abs=1e-4)


def test_pdice_rules():
    points = list(key_points(MASK))
    one_pixel = at(5.5, 5.5, 5.5, 5.5)
    for metric, full in ((pdice, 1), (pdice_paper, 2)):
        assert metric(points, points) == pytest.approx(full)
        assert metric([], points) == metric(points, []) == metric(points[:1], points) == metric(points * 2, points) == 0
        assert math.isnan(metric([], []))
        assert metric([point.to(Space.norm1000()) for point in points], points) == pytest.approx(full)
        with pytest.raises(TruthError, match="two true key points"):
            metric(points, points[:1])
        with pytest.raises(TruthError, match="one space"):
            metric(points, [points[0], points[1].to(Space.unit())])
        for far in (1e308, 1e200, -1e61):
            assert metric(at(-far, 3, far, 3), points) == 0
        assert metric(at(1e308, 0, 0, 0, space=Space.unit()), points) == 0
    assert pdice(one_pixel, one_pixel) == 1
    assert pdice(at(6.5, 5.5, 6.5, 5.5), one_pixel) == 0


@pytest.mark.parametrize("path", [OWN, ALL], ids=["own", "all"])
def test_both_metrics_of_the_paper_agree_with_its_published_code(path):
    if not path.exists():
        pytest.skip("the published vectors aren't here")
    space = Space.pixels(840, 840)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        said, truth, expected = row["prediction"], row["ground_truth"], row["metrics"]
        found, true = ([Point(*pair, space) for pair in pairs] for pairs in (said["points"], truth["point_2d"]))
        assert pdice_paper(found, true) == pytest.approx(expected["pdice"], abs=1e-9)
        iou = metrics.box_iou(Box(*said["bbox"], space), Box(*truth["bbox_2d"], space))
        assert iou == pytest.approx(expected["iou"], abs=1e-4)
    assert len(rows) >= 50

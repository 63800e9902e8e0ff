from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import Space
from medground.metrics import absence, average_precision, box_iou, region_iou, v_score
from medground.types import Box

SPACE = Space.pixels(100, 80)
A, B, C = Box(0, 0, 20, 20, SPACE), Box(40, 0, 60, 20, SPACE), Box(0, 40, 20, 60, SPACE)
HALF_A = Box(0, 0, 20, 10, SPACE)  # IoU 0.5 with A
HUGE = Box(-1e308, -1e308, 1e308, 1e308, SPACE)
boxes = st.tuples(*[st.integers(0, 79)] * 4).map(
    lambda n: Box(min(n[0], n[2]), min(n[1], n[3]), max(n[0], n[2]) + 1, max(n[1], n[3]) + 1, SPACE)
)


# --- box IoU ---------------------------------------------------------------------------------------------------------


def test_box_iou():
    assert box_iou(A, A) == 1
    assert box_iou(HALF_A, A) == box_iou(HALF_A.to(Space.norm1000()), A) == 0.5
    assert box_iou(A, B) == box_iou(None, A) == box_iou(A, None) == 0
    assert math.isnan(box_iou(None, None))


@pytest.mark.parametrize(
    "box",
    [
        HUGE,
        Box(-1e308, 0, 1e308, 1e-308, Space.norm1000()),
        Box(1e308, 1e308, 1.1e308, 1.1e308, Space.unit()),  # infinite in pixels
        Box(1, 1, 1 + 2**-52, 2, Space.norm1000()),  # without width in pixels
    ],
)
def test_numbers_beyond_all_bounds_share_nothing(box):
    assert box_iou(box, A) == region_iou([box], [A]) == region_iou([box], [A], matching="order") == pytest.approx(0)
    assert average_precision([box], [A]) == 0


def test_areas_too_small_for_a_float_share_nothing():
    tiny = Box(0, 0, 1e-200, 1e-200, SPACE)
    assert box_iou(tiny, tiny) == region_iou([tiny], [tiny]) == 0


# --- average precision -----------------------------------------------------------------------------------------------


def coco_average_precision(predicted, true, confidences, threshold):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def rows(boxes):
        found = [(image, box) for image, box in enumerate(boxes) if box is not None]
        return [
            {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "bbox": [box.x1, box.y1, box.width, box.height],
                "area": box.area,
                "iscrowd": 0,
            }
            for number, (image, box) in enumerate(found, start=1)
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        images = [{"id": image} for image in range(len(true))]
        truth.dataset = {"images": images, "categories": [{"id": 1}], "annotations": rows(true)}
        truth.createIndex()
        found = COCO()
        said = [row | {"score": confidences[row["image_id"]]} for row in rows(predicted)]
        found.dataset = {"images": images, "categories": [{"id": 1}], "annotations": said}
        found.createIndex()
        judge = COCOeval(truth, found, "bbox")
        judge.params.iouThrs = np.array([threshold])
        judge.evaluate()
        judge.accumulate()
    return float(judge.eval["precision"][0, :, 0, 0, -1].mean())


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(12))
def test_101_points_agree_with_cocoeval(seed, threshold):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 120))

    def box(around=None):
        x, y, w, h = rng.integers([0, 0, 5, 5], [60, 50, 40, 30]) if around is None else around
        dx, dy, dw, dh = (0, 0, 0, 0) if around is None else rng.integers(-8, 9, 4)
        return (x + dx, y + dy, max(w + dw, 1), max(h + dh, 1))

    truth = [box() if rng.random() < 0.8 else None for _ in range(count)]
    said = [None if rng.random() < 0.1 else box(real) if real and rng.random() < 0.7 else box() for real in truth]
    predicted, true = (
        [None if one is None else Box(one[0], one[1], one[0] + one[2], one[1] + one[3], SPACE) for one in side]
        for side in (said, truth)
    )
    confidences = rng.permutation(count) / count  # all different, as COCO's order of equals is the file's
    ours = average_precision(predicted, true, confidences, threshold=threshold, interpolation="101")
    assert ours == pytest.approx(coco_average_precision(predicted, true, confidences, threshold), abs=1e-12)
    # The steps of recall are finer or coarser than 0.01, and both are areas under one curve.
    everything = average_precision(predicted, true, confidences, threshold=threshold)
    assert everything == pytest.approx(ours, abs=0.02 + 1 / max(1, sum(one is not None for one in true)))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_all_points_agree_with_the_definition(rows):
    """Area under the highest precision at a recall of at least r, computed threshold by threshold."""
    sklearn = pytest.importorskip("sklearn.metrics")
    true = [A if target else None for target, _, _ in rows]
    predicted = [A if right else B for _, right, _ in rows]
    confidences = [sure / 5 for _, _, sure in rows]
    targets = sum(target for target, _, _ in rows)
    ours = average_precision(predicted, true, confidences)
    if not targets:
        assert math.isnan(ours)
        return
    hits = [target and right for target, right, _ in rows]
    if not any(hits):
        assert ours == 0
        return
    precision, recall, _ = sklearn.precision_recall_curve(hits, confidences)
    recall = recall * sum(hits) / targets  # sklearn's recall is over what was proposed
    precision, recall = np.maximum.accumulate(precision[:-1])[::-1], recall[:-1][::-1]  # from the surest on
    best = [precision[recall >= step].max() for step in recall]
    assert ours == pytest.approx(float(np.sum(np.diff(recall, prepend=0) * best)))


def test_average_precision_by_hand():
    true, predicted, sure = [A, A, None, A], [A, B, A, HALF_A], [0.9, 0.8, 0.7, 0.6]
    # right, wrong, wrong, right: precision 1 up to recall 1/3, then 2/4 up to 2/3
    assert average_precision(predicted, true, sure) == pytest.approx(1 / 3 + 1 / 2 * 1 / 3)
    assert average_precision(predicted, true, sure, threshold=0.51) == pytest.approx(1 / 3)
    # recall 0, 0.01 .. 0.33 is 34 points with precision 1, up to 0.66 another 33 with 1/2
    assert average_precision(predicted, true, sure, interpolation="101") == pytest.approx((34 + 33 / 2) / 101)


def test_boxes_on_images_without_a_target_cost_precision():
    assert average_precision([A, None], [A, None], [0.5, 0.9]) == 1
    assert average_precision([A, A], [A, None], [0.5, 0.9]) == 0.5
    assert average_precision([A, A], [A, None], [0.9, 0.5]) == 1  # the wrong one is below all that are right


def test_without_confidences_it_is_precision_times_recall():
    predicted, true = [A, B, None, A, A], [A, A, A, A, None]
    assert average_precision(predicted, true) == pytest.approx(2 / 4 * 2 / 4)
    assert average_precision(predicted[::-1], true[::-1]) == average_precision(predicted, true, [0.3] * 5)


def test_failures_count_as_missed():
    assert average_precision([None, None], [A, A]) == average_precision([None], [A], interpolation="101") == 0
    assert math.isnan(average_precision([A], [None]))
    assert math.isnan(average_precision([], []))
    assert average_precision([None, A], [A, A], [math.nan, 0.2]) == 0.5  # no box, no confidence


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"true": [A]}, "one prediction, but there are 2 for 1"),
        ({"confidences": [0.5]}, "one confidence"),
        ({"confidences": [0.5, math.nan]}, "finite"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 50}, "threshold"),
        ({"interpolation": "11"}, "interpolation"),
    ],
)
def test_average_precision_refuses(options, reason):
    with pytest.raises(ValueError, match=reason):
        average_precision(**{"predicted": [A, A], "true": [A, A], **options})


# --- regions ---------------------------------------------------------------------------------------------------------

REGIONS = {
    "exact": ([A], [A], 1, 1),
    "in another order": ([B, A], [A, B], 1, 0),
    "one of two found": ([A], [A, B], 0.5, 0.5),
    "one too many": ([A, C], [A], 0.5, 0.5),
    "the wrong one first": ([C, A], [A], 0.5, 0),
    "one box said twice": ([A, A], [A, B], 0.5, 0.5),
    "graded": ([HALF_A, B], [A, B], 0.75, 0.75),
    "nothing found": ([], [A], 0, 0),
    "nothing to find": ([A], [], 0, 0),
    "neither": ([], [], math.nan, math.nan),
}


@pytest.mark.parametrize(("predicted", "true", "optimal", "order"), REGIONS.values(), ids=REGIONS)
def test_regions(predicted, true, optimal, order):
    assert region_iou(predicted, true) == pytest.approx(optimal, nan_ok=True)
    assert region_iou(predicted, true, matching="order") == pytest.approx(order, nan_ok=True)


def test_boxes_too_many_may_cost_nothing():
    assert region_iou([C, A], [A], over="true") == 1
    assert region_iou([A], [A, B], over="true") == 0.5


@given(st.lists(boxes, min_size=1, max_size=5), st.lists(boxes, min_size=1, max_size=5))
def test_optimal_matching_is_the_best_of_all(predicted, true):
    from itertools import permutations

    few, many = sorted((predicted, true), key=len)
    best = max(sum(a.iou(b) for a, b in zip(few, chosen, strict=True)) for chosen in permutations(many, len(few)))
    assert region_iou(predicted, true) == pytest.approx(best / len(many))
    assert region_iou(predicted, true) >= region_iou(predicted, true, matching="order") - 1e-12
    assert 0 <= region_iou(predicted, true) <= region_iou(predicted, true, over="true") + 1e-12 <= 1 + 1e-12


def test_v_score_leaves_out_what_has_no_regions():
    found = v_score([[A], [], [], [B, A]], [[A], [A], [], [A, B]])
    assert found == (pytest.approx(2 / 3), 3, 1)
    assert v_score([[B, A]], [[A, B]], matching="order").mean == 0
    with pytest.raises(ValueError, match="1 for 2"):
        v_score([[A]], [[A], [A]])
    with pytest.raises(ValueError, match="matching"):
        v_score([[A]], [[A]], matching="greedy")


def test_thousands_of_boxes_are_matched():
    many = [Box(x, y, x + 3, y + 3, SPACE) for x in range(70) for y in range(70)]
    assert region_iou(many, [A, B]) < 0.001
    assert region_iou([*many, A, B], [A, B], over="true") == 1


# --- absence ---------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_absence_agrees_with_sklearn(rows):
    sklearn = pytest.importorskip("sklearn.metrics")
    said, true = [row[0] for row in rows], [row[1] for row in rows]
    found = absence(said, true)
    precision, recall, f1, _ = sklearn.precision_recall_fscore_support(
        true, said, average="binary", zero_division=np.nan
    )
    assert found[:2] == pytest.approx((precision, recall), nan_ok=True)
    if any(said) or any(true):
        assert found.f1 == pytest.approx(f1, nan_ok=True)
    else:
        assert math.isnan(found.f1)
    (tn, fp), (fn, tp) = sklearn.confusion_matrix(true, said, labels=[False, True])
    assert found[3:] == (tp, fp, fn, tn)


def test_an_answer_that_could_not_be_read_does_not_say_absent():
    assert absence([False], [True]).recall == 0
    assert math.isnan(absence([False], [True]).precision)
    assert absence([], []).tn == 0
    with pytest.raises(ValueError, match="1 for 0"):
        absence([True], [])

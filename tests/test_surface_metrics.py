"""Against MONAI and against surface-distance, on random and on awkward masks."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from medground.metrics import assd, dice, hd95, surface_dice, surface_distances

SPACINGS = ((1.0, 1.0), (0.5, 2.0), (3.3, 0.45))
TOLERANCES = (0.0, 0.8, 1.7, 5.0)


def blobs(seed: int, shape: tuple[int, int], share: float) -> np.ndarray:
    """Return smooth random parts that cover about a share of the picture, borders included."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0, mode="wrap")
    return noise > np.quantile(noise, 1 - share)


def drawn(shape: tuple[int, int], *parts: tuple[slice | int, slice | int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for part in parts:
        mask[part] = True
    return mask


def disc(shape: tuple[int, int], row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


BOTH = {
    "equal discs": (disc((40, 50), 20, 25, 9), disc((40, 50), 20, 25, 9)),
    "a shifted disc": (disc((40, 50), 22, 29, 9), disc((40, 50), 20, 25, 9)),
    "far apart": (disc((40, 50), 6, 6, 4), disc((40, 50), 33, 43, 4)),
    "one in the other": (disc((40, 50), 20, 25, 4), disc((40, 50), 20, 25, 15)),
    "a ring and its disc": (disc((40, 50), 20, 25, 12) & ~disc((40, 50), 20, 25, 6), disc((40, 50), 20, 25, 12)),
    "one pixel each": (drawn((9, 9), (2, 3)), drawn((9, 9), (7, 6))),
    "one pixel in a corner": (drawn((9, 9), (0, 0)), drawn((9, 9), (slice(0, 4), slice(0, 5)))),
    "the whole picture": (np.ones((12, 17), bool), disc((12, 17), 6, 8, 4)),
    "both the whole picture": (np.ones((12, 17), bool), np.ones((12, 17), bool)),
    "touching all borders": (drawn((12, 17), (5, slice(None)), (slice(None), 8)), np.ones((12, 17), bool)),
    "lines": (drawn((20, 20), (4, slice(2, 18))), drawn((20, 20), (slice(2, 18), 4))),
    "a checkerboard": (np.indices((10, 11)).sum(axis=0) % 2 == 0, drawn((10, 11), (slice(2, 8), slice(2, 9)))),
    "pixels that touch at corners": (np.eye(9, dtype=bool), np.eye(9, dtype=bool)[::-1]),
    "several parts": (blobs(1, (40, 50), 0.2), blobs(2, (40, 50), 0.2)),
    "much of the picture": (blobs(3, (31, 64), 0.7), blobs(4, (31, 64), 0.6)),
    "few pixels": (blobs(5, (64, 31), 0.02), blobs(6, (64, 31), 0.03)),
    "one row": (drawn((1, 20), (0, slice(2, 9))), drawn((1, 20), (0, slice(5, 12)))),
    "one pixel of a picture of one": (np.ones((1, 1), bool), np.ones((1, 1), bool)),
}
CASES = [pytest.param(*masks, spacing, id=f"{name}, {spacing}") for name, masks in BOTH.items() for spacing in SPACINGS]
random_masks = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape))
)
random_spacings = st.tuples(st.floats(0.2, 5), st.floats(0.2, 5))


@pytest.fixture(scope="module")
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics")


def on_tensors(function, predicted, true, spacing=None, **options) -> float:
    import torch

    pair = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, true))
    if spacing is not None:
        options["spacing"] = list(spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of empty masks
        return float(function(*pair, include_background=True, **options))


class Reference:
    """surface-distance's numbers; the truth is its first mask."""

    def __init__(self, predicted, true, spacing) -> None:
        self.package = pytest.importorskip("surface_distance")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it imports from scipy's old places
            self.found = self.package.compute_surface_distances(true, predicted, spacing)

    def dice(self, tolerance: float) -> float:
        return self.package.compute_surface_dice_at_tolerance(self.found, tolerance)

    def hausdorff(self, percent: float) -> float:
        return self.package.compute_robust_hausdorff(self.found, percent)

    def average(self) -> float:
        true, predicted = self.package.compute_average_surface_distance(self.found)
        lengths = self.found["surfel_areas_gt"].sum(), self.found["surfel_areas_pred"].sum()
        return (true * lengths[0] + predicted * lengths[1]) / sum(lengths)


def agree_with_surface_distance(predicted, true, spacing) -> None:
    reference = Reference(predicted, true, spacing)
    for tolerance in TOLERANCES:
        ours = surface_dice(predicted, true, tolerance, spacing)
        assert ours == pytest.approx(reference.dice(tolerance), abs=1e-12)
    for percentile in (50, 95, 100):
        ours = hd95(predicted, true, spacing, percentile=percentile, elements="contour")
        assert ours == pytest.approx(reference.hausdorff(percentile), abs=1e-12)
    assert assd(predicted, true, spacing, elements="contour") == pytest.approx(reference.average(), rel=1e-12)


def agree_with_monai(monai, predicted, true, spacing) -> None:
    for percentile in (50, 95, 100):
        theirs = on_tensors(monai.compute_hausdorff_distance, predicted, true, spacing, percentile=percentile)
        assert hd95(predicted, true, spacing, percentile=percentile) == pytest.approx(theirs, rel=2e-6, abs=1e-6)
    theirs = on_tensors(monai.compute_average_surface_distance, predicted, true, spacing, symmetric=True)
    assert assd(predicted, true, spacing) == pytest.approx(theirs, rel=2e-6, abs=1e-6)
    distances = np.concatenate(surface_distances(predicted, true, spacing)[:2])
    distances = np.concatenate([distances, *surface_distances(predicted, true, spacing, elements="pixels")[:2]])
    for tolerance in TOLERANCES:
        if np.isclose(distances, tolerance, rtol=1e-6, atol=0).any():
            continue  # its distances are of 32 bits, so which side of the tolerance they fall on is chance
        for elements, subvoxels in (("pixels", False), ("contour", True)):
            theirs = on_tensors(
                monai.compute_surface_dice,
                predicted,
                true,
                spacing,
                class_thresholds=[tolerance],
                use_subvoxels=subvoxels,
            )
            assert surface_dice(predicted, true, tolerance, spacing, elements=elements) == pytest.approx(
                theirs, abs=2e-6
            )


@pytest.mark.parametrize(("predicted", "true", "spacing"), CASES)
def test_contours_agree_with_surface_distance(predicted, true, spacing):
    agree_with_surface_distance(predicted, true, spacing)


@pytest.mark.parametrize(("predicted", "true", "spacing"), CASES)
def test_pixels_and_contours_agree_with_monai(monai, predicted, true, spacing):
    agree_with_monai(monai, predicted, true, spacing)


@pytest.mark.parametrize(("predicted", "true"), BOTH.values(), ids=BOTH)
def test_dice_agrees_with_monai(monai, predicted, true):
    assert dice(predicted, true) == pytest.approx(on_tensors(monai.compute_dice, predicted, true), abs=1e-6)


@settings(max_examples=60)
@given(random_masks, random_spacings)
def test_any_masks_agree_with_surface_distance(masks, spacing):
    assume(masks[0].any() and masks[1].any())  # it raises on an empty one with NumPy 2
    agree_with_surface_distance(*masks, spacing)


@settings(max_examples=25)
@given(masks=random_masks, spacing=random_spacings)
def test_any_masks_agree_with_monai(monai, masks, spacing):
    assume(masks[0].any() and masks[1].any())
    agree_with_monai(monai, *masks, spacing)


EMPTY, DISC = np.zeros((30, 40), bool), disc((30, 40), 12, 20, 6)


@pytest.mark.parametrize(
    ("predicted", "true"), [(EMPTY, EMPTY), (EMPTY, DISC), (DISC, EMPTY)], ids=["both", "found", "true"]
)
def test_empty_masks_follow_monai(monai, predicted, true):
    both = not predicted.any() and not true.any()
    expected = math.nan if both else math.inf
    for elements in ("pixels", "contour"):
        assert hd95(predicted, true, elements=elements) == pytest.approx(expected, nan_ok=True)
        assert assd(predicted, true, elements=elements) == pytest.approx(expected, nan_ok=True)
        score = surface_dice(predicted, true, 2.0, elements=elements)
        assert score == pytest.approx(math.nan if both else 0.0, nan_ok=True)
    theirs = on_tensors(monai.compute_hausdorff_distance, predicted, true)  # its percentile of infinities is NaN
    assert theirs == pytest.approx(expected, nan_ok=True)
    theirs = on_tensors(monai.compute_average_surface_distance, predicted, true, symmetric=True)
    assert theirs == pytest.approx(expected, nan_ok=True)
    theirs = on_tensors(monai.compute_surface_dice, predicted, true, class_thresholds=[2.0])
    assert theirs == pytest.approx(math.nan if both else 0.0, nan_ok=True)


def test_a_missing_mask_can_cost_a_finite_distance():
    for metric in (hd95, assd):
        assert metric(EMPTY, DISC, (0.5, 0.5), missing="diagonal") == pytest.approx(25.0)
        assert metric(DISC, EMPTY, missing=374) == 374.0
        assert math.isnan(metric(EMPTY, EMPTY, missing="diagonal"))
        # No distance between masks that are there is larger than the diagonal.
        corners = drawn((30, 40), (0, 0)), drawn((30, 40), (29, 39))
        assert metric(*corners) < metric(EMPTY, DISC, missing="diagonal")


def test_known_distances():
    left, right = drawn((10, 30), (5, 3)), drawn((10, 30), (5, 23))
    assert hd95(left, right, (1.0, 0.5)) == assd(left, right, (1.0, 0.5)) == 10.0
    assert hd95(left.T, right.T, (1.0, 0.5)) == 20.0
    # Nine pixels of ten agree; one lies 7 mm off. The 95th percentile of ten values lies 0.55 of the way to the last.
    line = drawn((20, 20), (10, slice(0, 9)))
    assert hd95(line | drawn((20, 20), (3, 4)), line) == pytest.approx(0.55 * 7)
    assert hd95(line | drawn((20, 20), (3, 4)), line, percentile=100) == 7.0


def test_a_distance_of_exactly_the_tolerance_is_within_it():
    true = drawn((10, 10), (slice(2, 6), slice(2, 6)))
    moved = np.roll(true, 1, axis=0)
    assert surface_dice(moved, true, 0.5, (0.5, 1.0)) == 1.0
    assert surface_dice(moved, true, 0.4999, (0.5, 1.0)) < 1.0


@settings(max_examples=40)
@given(random_masks, random_spacings, st.floats(0, 10), st.sampled_from(["pixels", "contour"]))
def test_laws(masks, spacing, tolerance, elements):
    first, second = masks
    there = surface_dice(first, second, tolerance, spacing, elements=elements)
    assert there == pytest.approx(surface_dice(second, first, tolerance, spacing, elements=elements), nan_ok=True)
    assert math.isnan(there) == (not first.any() and not second.any())
    if not math.isnan(there):
        assert 0 <= there <= 1
        assert there <= surface_dice(first, second, tolerance + 1, spacing, elements=elements)
    far = hd95(first, second, spacing, elements=elements)
    assert far == pytest.approx(hd95(second, first, spacing, elements=elements), nan_ok=True)
    assert not far < 0
    if first.any():
        assert surface_dice(first, first, 0, spacing, elements=elements) == 1
        assert hd95(first, first, spacing, elements=elements) == assd(first, first, spacing, elements=elements) == 0
    # What lies around the picture plays no part, but for the penalty.
    padded = (np.pad(mask, ((3, 1), (0, 2))) for mask in masks)
    assert surface_dice(*padded, tolerance, spacing, elements=elements) == pytest.approx(there, nan_ok=True)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: surface_dice(EMPTY, EMPTY[1:], 1), "shape"),
        (lambda: surface_dice(EMPTY.astype(np.uint8), EMPTY, 1), "boolean"),
        (lambda: surface_dice(EMPTY[0], EMPTY[0], 1), "shape"),
        (lambda: surface_dice(EMPTY, EMPTY, -1), "tolerance"),
        (lambda: surface_dice(EMPTY, EMPTY, math.nan), "tolerance"),
        (lambda: surface_dice(DISC, DISC, 1, (0.0, 1.0)), "spacing"),
        (lambda: hd95(DISC, DISC, (1.0, 1.0, 1.0)), "spacing"),
        (lambda: hd95(DISC, DISC, percentile=0), "percentile"),
        (lambda: hd95(DISC, DISC, elements="surfels"), "contour"),
        (lambda: hd95(EMPTY, DISC, missing=-1.0), "missing mask"),
        (lambda: assd(EMPTY, DISC, missing=math.nan), "missing mask"),
    ],
)
def test_what_cannot_be_used_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()

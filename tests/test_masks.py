from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco
from scipy import ndimage

from medground.errors import TruthError
from medground.masks import box_of, decode_rle, encode_rle, key_points, largest_component

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))
FULL = MASKS.filter(lambda mask: mask.any())
EXAMPLES = settings(deadline=None, max_examples=150)


def disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@EXAMPLES
@given(FULL)
def test_the_box_is_the_tightest(mask: np.ndarray) -> None:
    x1, y1, x2, y2 = (int(value) for value in box_of(mask).xyxy)
    assert mask[y1:y2, x1:x2].sum() == mask.sum()
    for side in (mask[y1, x1:x2], mask[y2 - 1, x1:x2], mask[y1:y2, x1], mask[y1:y2, x2 - 1]):
        assert side.any()
    assert (box_of(mask).space.width, box_of(mask).space.height) == (mask.shape[1], mask.shape[0])


def test_the_box_of_one_pixel() -> None:
    mask = np.zeros((5, 7), bool)
    mask[3, 6] = True
    assert box_of(mask).xyxy == (6, 3, 7, 4)


@EXAMPLES
@given(FULL)
def test_key_points_lie_on_the_target_and_are_a_function_of_it(mask: np.ndarray) -> None:
    first, second = key_points(mask)
    box = box_of(mask)
    for point in (first, second):
        assert mask[int(point.y), int(point.x)]
        assert point.x % 1 == point.y % 1 == 0.5
        assert box.contains(point)
    assert key_points(np.asfortranarray(mask)) == (first, second)
    # The definition, checked the slow way: the deepest pixel, and the farthest among those at least half as deep.
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    assert depth[int(first.y), int(first.x)] == depth.max()
    deep = np.argwhere(depth >= depth.max() / 2) + 0.5
    distances = ((deep - (first.y, first.x)) ** 2).sum(axis=1)
    assert (second.x - first.x) ** 2 + (second.y - first.y) ** 2 == distances.max()


@EXAMPLES
@given(FULL, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_key_points_and_box_move_with_the_target(
    mask: np.ndarray, top: int, bottom: int, left: int, right: int
) -> None:
    moved = np.pad(mask, ((top, bottom), (left, right)))
    for here, there in zip(key_points(mask), key_points(moved), strict=True):
        assert there.xy == (here.x + left, here.y + top)
    x1, y1, x2, y2 = box_of(mask).xyxy
    assert box_of(moved).xyxy == (x1 + left, y1 + top, x2 + left, y2 + top)


def test_key_points_of_known_shapes() -> None:
    first, second = key_points(disc(41, 61, 20, 30, 15))
    assert first.xy == (30.5, 20.5)
    assert 6 <= np.hypot(second.x - first.x, second.y - first.y) <= 9  # half as deep is half the radius out
    ring = disc(41, 41, 20, 20, 18) & ~disc(41, 41, 20, 20, 8)
    for point in key_points(ring):
        assert ring[int(point.y), int(point.x)], "on the ring, not in its hole"
    one = np.zeros((4, 4), bool)
    one[1, 2] = True
    assert [point.xy for point in key_points(one)] == [(2.5, 1.5)] * 2
    # The picture's border is background: the middle of a full picture is its deepest place.
    assert key_points(np.ones((5, 5), bool))[0].xy == (2.5, 2.5)


def test_the_largest_component() -> None:
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = mask[1, 1] = True  # 8-connected: one component of two
    mask[5:8, 5:8] = True
    kept = largest_component(mask)
    assert kept.sum() == 9
    assert kept[5:8, 5:8].all()
    twins = np.zeros((3, 7), bool)
    twins[:, :2] = twins[:, 5:] = True
    assert box_of(largest_component(twins)).xyxy == (0, 0, 2, 3)  # the first in reading order
    assert not largest_component(np.zeros((3, 3), bool)).any()


@EXAMPLES
@given(MASKS)
def test_the_largest_component_is_the_largest(mask: np.ndarray) -> None:
    kept = largest_component(mask)
    assert not (kept & ~mask).any()
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert kept.sum() == max((int((labels == label).sum()) for label in range(1, count + 1)), default=0)


@EXAMPLES
@given(MASKS)
def test_run_lengths_there_and_back_and_as_pycocotools_has_them(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert (decode_rle(rle) == mask).all()
    assert decode_rle(rle).dtype == np.bool_
    assert (decode_rle({**rle, "counts": rle["counts"].encode()}) == mask).all()
    assert (coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}) == mask).all()


def test_run_lengths_of_a_large_mask() -> None:
    mask = np.random.default_rng(0).random((700, 900)) < ndimage.gaussian_filter(
        np.random.default_rng(1).random((700, 900)), 9
    )
    assert (decode_rle(encode_rle(mask)) == mask).all()
    blank = np.zeros((3000, 3000), bool)
    assert not decode_rle(encode_rle(blank)).any()
    assert decode_rle(encode_rle(~blank)).all()


def test_any_nonzero_value_is_the_target() -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    assert decode_rle(encode_rle(mask)).tolist() == [[False, True, True, True]]


@pytest.mark.parametrize(
    "rle",
    [
        None,
        [],
        {},
        {"size": [3, 3]},
        {"size": [3], "counts": "9"},
        {"size": [3, 3, 3], "counts": "9"},
        {"size": 9, "counts": "9"},
        {"size": [3.0, 3], "counts": "9"},
        {"size": ["3", 3], "counts": "9"},
        {"size": [0, 3], "counts": ""},
        {"size": [-3, -3], "counts": "9"},
        {"size": [1 << 20, 1 << 20], "counts": "9"},
        {"size": [3, 3], "counts": [4, 5]},  # uncompressed
        {"size": [3, 3], "counts": None},
        {"size": [3, 3], "counts": ""},  # the runs end before the picture does
        {"size": [3, 3], "counts": "1"},
        {"size": [3, 3], "counts": "99"},  # and after it
        {"size": [3, 3], "counts": "9P"},  # the last number is cut off
        {"size": [3, 3], "counts": "P" * 100_000},
        {"size": [3, 3], "counts": "z" * 100_000},
        {"size": [3, 3], "counts": "ü"},
        {"size": [3, 3], "counts": b"\xff"},
    ],
)
def test_what_is_not_a_run_length_encoding_is_refused(rle: object) -> None:
    with pytest.raises(TruthError, match="run-length encoding"):
        decode_rle(rle)  # type: ignore[arg-type]


@EXAMPLES
@given(st.integers(-1, 9), st.integers(-1, 9), st.one_of(st.text(max_size=12), st.binary(max_size=12)))
def test_any_counts_are_decoded_or_refused(height: int, width: int, counts: str | bytes) -> None:
    try:
        mask = decode_rle({"size": [height, width], "counts": counts})
    except TruthError:
        return
    assert mask.shape == (height, width)
    assert (decode_rle(encode_rle(mask)) == mask).all()


def test_an_empty_mask_has_no_place() -> None:
    for function in (box_of, key_points):
        with pytest.raises(TruthError, match="mask is empty"):
            function(np.zeros((4, 4), bool))


@pytest.mark.parametrize("function", [box_of, key_points, largest_component, encode_rle])
def test_a_mask_has_two_axes_and_pixels(function) -> None:
    with pytest.raises(TruthError, match="two axes"):
        function(np.zeros((4, 4, 1), bool))
    with pytest.raises(TruthError, match="no pixels"):
        function(np.zeros((0, 4), bool))

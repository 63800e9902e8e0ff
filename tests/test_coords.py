from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.coords import (
    COORDINATES,
    FAMILIES,
    NAME_PATTERNS,
    Family,
    Space,
    convert,
    decimals,
    family_for,
    layout_words,
    smart_resize,
    space_named,
    space_words,
    written_order,
)
from medground.errors import ConfigError, ImageError
from medground.types import Box, Point

SIDES = st.integers(30, 6000)
ALL_FAMILIES = sorted(
    {*FAMILIES.values(), *(family for _, family in NAME_PATTERNS)}
    | {Family(name, name, "test") for kind in COORDINATES for name in (kind, f"{kind} yx")},
    key=lambda family: family.name,
)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, st.data())
@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_pixels_to_each_family_and_back(family: Family, width: int, height: int, data: st.DataObject) -> None:
    pixels = Space.pixels(width, height)
    space = family.space(width, height)
    # Also outside the picture: conversion is linear and clips nothing.
    x, y = data.draw(st.floats(-width, 2 * width)), data.draw(st.floats(-height, 2 * height))
    assert convert(convert((x, y), pixels, space), space, pixels) == pytest.approx((x, y), rel=1e-6, abs=1e-9)
    box = Box(0.25 * width, 0.25 * height, 0.5 * width, 0.75 * height, pixels)
    assert box.to(space).to(pixels).xyxy == pytest.approx(box.xyxy, rel=1e-6)
    assert box.to(space).iou(box) == pytest.approx(1, rel=1e-6)
    assert Point(x, y, pixels).to(space).to(pixels).xy == pytest.approx((x, y), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("family", ALL_FAMILIES, ids=lambda family: family.name)
def test_edges_meet_edges_in_each_family(family: Family) -> None:
    space = family.space(1001, 333)
    assert convert((0, 0, 1001, 333), Space.pixels(1001, 333), space) == pytest.approx(
        (0, 0, space.width, space.height)
    )


def test_known_conversions() -> None:
    pixels = Space.pixels(640, 480)
    box = (64, 48, 320, 240)
    assert convert(box, pixels, FAMILIES["qwen3_vl"].space(640, 480)) == pytest.approx((100, 100, 500, 500))
    assert convert(box, pixels, Space.unit()) == pytest.approx((0.1, 0.1, 0.5, 0.5))
    # Qwen2.5-VL is shown 644 x 476.
    assert convert(box, pixels, FAMILIES["qwen2_5_vl"].space(640, 480)) == pytest.approx((64.4, 47.6, 322, 238))
    # Order is about text: the numbers in memory stay x, y.
    assert convert(box, pixels, family_for(name="gemini-3-pro").space(640, 480)) == pytest.approx((100, 100, 500, 500))


def test_convert_wants_pairs() -> None:
    with pytest.raises(ValueError, match="pairs"):
        convert((1, 2, 3), Space.unit(), Space.unit())


@pytest.mark.parametrize(("width", "height"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1), (float("inf"), 1)])
def test_a_space_has_a_size(width: float, height: float) -> None:
    with pytest.raises(ValueError, match="size"):
        Space.pixels(width, height)


def test_a_space_has_an_order() -> None:
    with pytest.raises(ValueError, match="order"):
        Space("0-1", 1, 1, "zx")  # type: ignore[arg-type]


PIXEL_BUDGETS = st.sampled_from(
    [
        (3136, 12845056),
        (3136, 1003520),
        (200704, 1003520),
        (28 * 28, 28 * 28),
        (65536, 16777216),
        (1_000_000, 1_000_001),
    ]
)


@settings(deadline=None, max_examples=500)
@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([28, 32, 14]), PIXEL_BUDGETS)
def test_smart_resize_is_the_published_rule(width: int, height: int, factor: int, budget: tuple[int, int]) -> None:
    published = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
    if max(width, height) > 200 * min(width, height):
        with pytest.raises(ValueError, match="aspect"):
            published(height, width)
        with pytest.raises(ImageError, match="200 : 1"):
            smart_resize(width, height)
        return
    low, high = budget
    ours = smart_resize(width, height, factor=factor, min_pixels=low, max_pixels=high)
    assert ours[::-1] == tuple(published(height, width, factor=factor, min_pixels=low, max_pixels=high))
    assert ours[0] % factor == ours[1] % factor == 0
    # An image that already has this size keeps it, so whoever sends the resized image knows the space.
    if low <= ours[0] * ours[1] <= high:
        assert smart_resize(*ours, factor=factor, min_pixels=low, max_pixels=high) == ours


def test_the_processor_itself_shows_the_size_that_we_expect() -> None:
    torch = pytest.importorskip("torch")
    module = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    processor = module.Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 100_000})
    for width, height in ((640, 480), (31, 400), (500, 500)):
        grid = processor(torch.zeros(3, height, width, dtype=torch.uint8), return_tensors="pt")["image_grid_thw"][0]
        space = FAMILIES["qwen2_5_vl"].space(width, height, min_pixels=3136, max_pixels=100_000)
        assert (space.width, space.height) == (14 * int(grid[2]), 14 * int(grid[1]))


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (-1, 5)])
def test_smart_resize_refuses_no_image(width: int, height: int) -> None:
    with pytest.raises(ImageError, match="nothing to see"):
        smart_resize(width, height)


@pytest.mark.parametrize("settings_", [{"factor": 0}, {"min_pixels": 0}, {"min_pixels": 10, "max_pixels": 9}])
def test_smart_resize_refuses_settings_without_a_size(settings_: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="min_pixels <= max_pixels"):
        smart_resize(100, 100, **settings_)


def test_named_spaces() -> None:
    assert space_named("pixels", 640, 480) == Space.pixels(640, 480)
    assert space_named("resized pixels", 640, 480) == Space.resized(644, 476)
    assert space_named("resized pixels", 640, 480, factor=32, max_pixels=32 * 32 * 4) == Space.resized(64, 32)
    assert space_named("0-1", 640, 480) == Space.unit()
    assert space_named("0-1000", 640, 480) == Space.norm1000()
    assert space_named("0-1000 yx", 640, 480) == Space.norm1000("yx")
    assert space_named("pixels yx", 640, 480) == Space("pixels", 640, 480, "yx")
    for wrong in ("", " yx", "0-100", "norm1000", "PIXELS", "0-1000 yx yx", "0-1000yx"):
        with pytest.raises(ConfigError, match="'0-1000'"):
            space_named(wrong, 640, 480)


def test_each_model_type_exists_in_transformers() -> None:
    mapping = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING_NAMES
    assert set(FAMILIES) <= set(mapping)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", "Qwen2-VL"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL"),
        ("qwen2.5vl:7b", "Qwen2.5-VL"),
        ("qwen2_5_vl_3b", "Qwen2.5-VL"),
        ("Qwen3-VL-8B-Instruct", "Qwen3-VL"),
        ("qwen3.5-35b-a3b", "Qwen3.5"),
        ("qwen3_5-9b", "Qwen3.5"),
        ("lingshu-medical-mllm/Lingshu-7B", "Qwen2.5-VL"),
        ("MedReasoner", "Qwen2.5-VL"),
        ("OpenGVLab/InternVL3_5-8B-HF", "InternVL"),
        ("gemini-3-pro-preview", "Gemini"),
        ("zai-org/GLM-4.5V", "GLM-V"),
    ],
)
def test_families_by_name(name: str, family: str) -> None:
    assert family_for(name=name).name == family


def test_the_type_goes_before_the_name() -> None:
    assert family_for("qwen2_5_vl", "internvl-distilled").name == "Qwen2.5-VL"
    assert family_for("some_new_type", "Qwen3-VL-8B").name == "Qwen3-VL"


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llava", None),
        (None, "gpt-5"),
        (None, None),
        ("paligemma", "paligemma2"),
        (None, "internvl-taught-by-gemini"),
        (None, "qwen3-50b"),
        (None, "qwen3-5b"),
        (None, "qwen25vl"),
    ],
)
def test_an_unknown_model_is_refused_with_the_remedy(model_type: str | None, name: str | None) -> None:
    with pytest.raises(ConfigError, match=r'"coordinates" in the folder\'s medground\.json or .* coordinates argument'):
        family_for(model_type, name)


def test_the_way_numbers_are_written() -> None:
    assert [decimals(space_named(kind, 640, 480)) for kind in COORDINATES] == [0, 0, 4, 0]
    xyxy = ["x1", "y1", "x2", "y2"]
    for order in ("xy", "yx"):
        space = Space.norm1000(order)
        assert written_order(written_order(xyxy, space), space) == xyxy
        box, point = layout_words(space)
        assert box == f"[{', '.join(written_order(xyxy, space))}]"
        assert point == f"[{', '.join(written_order(['x', 'y'], space))}]"


def test_spaces_in_words() -> None:
    assert "whole pixels of the 640 x 480 image" in space_words(Space.pixels(640, 480))
    assert "as you see it, 644 x 476" in space_words(Space.resized(644, 476))
    assert "0 at the left edge to 1 at the right" in space_words(Space.unit())
    assert "4 decimal" in space_words(Space.unit())
    thousandths = space_words(Space.norm1000("yx"))
    assert "x runs from 0 at the left edge to 1000 at the right edge" in thousandths
    assert "[y1, x1, y2, x2] (top, left, bottom, right)" in thousandths
    assert "1e+06" not in space_words(Space.pixels(1_234_567, 1_000_000))

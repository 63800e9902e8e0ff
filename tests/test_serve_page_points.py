"""Key points on the server's page, moved by mouse, finger and keys; masks follow where the segmenter takes points."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import opened
from conftest import FillingSegmenter
from serve_pages import (  # noqa: F401
    MIDDLE,
    Gated,
    Site,
    ask,
    box,
    drag,
    expect,
    load,
    mask_at,
    page,
    saved,
    scan,
    serve,
    site,
    until,
)

from medground.images import MedicalImage
from medground.segmenters import MaskPrediction, Prompt

POINTS = [[32, 21], [48, 24]]  # what `middle` answers, in a picture of 80 x 60


class AroundPoints(FillingSegmenter):
    """Takes points too: of a box, only what is near one of them."""

    def __init__(self) -> None:
        super().__init__(frozenset({"box", "points"}))

    def segment(self, embedding: MedicalImage, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        whole = super().segment(embedding, prompts)
        rows, columns = np.mgrid[: embedding.height, : embedding.width] + 0.5
        cut = []
        for prompt, one in zip(prompts, whole, strict=True):
            places = [point.to(embedding.space).xy for point in prompt.points]
            near = [np.hypot(columns - x, rows - y) < 5 for x, y in places]
            cut.append(MaskPrediction(one.mask & np.any(near, axis=0) if near else one.mask, one.score))
        return cut


@pytest.fixture
def taking_points() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, Gated(), AroundPoints())


def points(page: Any) -> list[list[int]]:
    """Where the handles of the points say that they are."""
    labels = page.locator(".handle.point:not([hidden])").evaluate_all("all => all.map((one) => one.ariaLabel)")
    assert [label.split(",")[0] for label in labels] == [f"Point {number + 1}" for number in range(len(labels))]
    return [[int(number) for number in label.split(", ")[1:]] for label in labels]


def drawn_points(page: Any) -> list[list[float]]:
    """Where the points are drawn, in pixels of the picture."""
    return page.locator("#shapes .point").evaluate_all(
        """all => all.map((one) => {
          const image = document.getElementById('image').getBoundingClientRect();
          const scale = document.getElementById('image').naturalWidth / image.width;
          const stage = document.getElementById('stage').getBoundingClientRect();
          const [x, y] = ['cx', 'cy'].map((name) => Number(one.getAttribute(name)));
          return [(x + stage.left - image.left) * scale, (y + stage.top - image.top) * scale];
        })"""
    )


def test_the_mask_follows_a_point_that_is_dragged(browser: Any, taking_points: Site, scan: Path):
    site = taking_points
    with opened(browser, site.address) as page:
        load(page, scan)
        ask(page)
        assert points(page) == POINTS
        until(lambda: mask_at(page, 32, 21) > 0)
        assert mask_at(page, 22, 28) == 0
        expect(page.locator("#accept-hint")).to_contain_text("The mask follows both.")
        drag(page, ".handle.point >> nth=0", -9, 6)
        assert np.abs(np.subtract(points(page), [[23, 27], [48, 24]])).max() <= 1
        until(lambda: np.abs(np.subtract(drawn_points(page), points(page))).max() <= 1)
        until(lambda: mask_at(page, 23, 27) > 0)
        assert mask_at(page, 32, 21) == 0
        assert mask_at(page, 48, 24) > 0  # the other point was asked for with it
        expect(page.locator("#changed")).to_be_visible()
        assert box(page) == MIDDLE
        assert site.segmenter.encoded == 1
        drag(page, ".handle.e", 5, 0)  # the points are a person's now, and stay
        until(lambda: site.segmenter.prompts[-1].box.xyxy[2] > 64)
        assert len(site.segmenter.prompts[-1].points) == 2
        assert np.abs(np.subtract(points(page), [[23, 27], [48, 24]])).max() <= 1
        page.locator("#stage").focus()
        page.keyboard.press("u")
        assert (points(page), box(page)) == (POINTS, MIDDLE)
        until(lambda: mask_at(page, 32, 21) > 0)
        expect(page.locator("#changed")).to_be_hidden()


def test_where_boxes_alone_are_taken_the_page_says_so(page: Any, site: Site, scan: Path):
    load(page, scan)
    ask(page)
    expect(page.locator("#accept-hint")).to_contain_text("The mask follows the box alone: filling takes no points.")
    asked = len(site.segmenter.prompts)
    page.locator("#stage").focus()
    page.keyboard.press("d")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#said")).to_have_text("Point 1 at 31, 21; the mask follows the box alone")
    assert points(page) == [[31, 21], [48, 24]]
    assert len(site.segmenter.prompts) == asked
    page.keyboard.press("a")
    answer = json.loads(saved(page, "json"))
    assert answer["points"] == [[31, 21], [48, 24]]
    assert answer["bbox"] == MIDDLE


def test_points_are_moved_by_keys_and_stay_in_the_box(browser: Any, taking_points: Site, scan: Path):
    with opened(browser, taking_points.address) as page:
        load(page, scan)
        ask(page)
        page.locator("#stage").focus()
        page.keyboard.press("p")
        expect(page.locator(".handle.point").first).to_be_hidden()
        expect(page.locator(".handle.nw")).to_be_visible()
        page.keyboard.press("d")  # what is moved is shown
        expect(page.locator("#show-points")).to_have_attribute("aria-pressed", "true")
        expect(page.locator(".handle.point").first).to_be_focused()
        page.keyboard.press("Shift+ArrowDown")
        page.keyboard.press("ArrowLeft")
        assert points(page) == [[31, 30], [48, 24]]  # 21 + 10 is below the box
        expect(page.locator("#said")).to_have_text("Point 1 at 31, 30")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowUp")
        assert points(page)[1] == [48, 23]
        expect(page.locator(".handle.point").nth(1)).to_have_attribute("aria-describedby", "handle-hint")
        until(lambda: [point.xy for point in taking_points.segmenter.prompts[-1].points] == [(31, 30), (48, 23)])
        page.locator(".handle.e").focus()
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowLeft")
        assert points(page) == [[31, 30]]  # the box doesn't hold the other one any more
        page.locator(".handle.point").first.focus()
        page.keyboard.press("ArrowRight")
        assert points(page) == [[32, 30]]
        page.locator(".handle.e").focus()
        page.keyboard.press("Shift+ArrowRight")
        assert points(page) == [[32, 30], [48, 23]]


def test_a_point_is_moved_by_a_finger(browser: Any, taking_points: Site, scan: Path):
    with opened(
        browser, taking_points.address, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844}
    ) as page:
        load(page, scan)
        ask(page)
        page.locator("#stage").scroll_into_view_if_needed()
        handle = page.locator(".handle.point").first
        place = handle.bounding_box()
        assert place["width"] >= 44
        scale = page.locator("#image").bounding_box()["width"] / 80
        x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        touch = page.context.new_cdp_session(page)
        for name, there in (
            ("touchStart", [{"x": x, "y": y}]),
            ("touchMove", [{"x": x - 3 * scale, "y": y + 2 * scale}]),
            ("touchMove", [{"x": x - 6 * scale, "y": y + 4 * scale}]),
            ("touchEnd", []),
        ):
            touch.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": there})
        until(lambda: np.abs(np.subtract(points(page), [[26, 25], [48, 24]])).max() <= 1)
        until(lambda: mask_at(page, 24, 27) > 0)
        assert box(page) == MIDDLE


def lies_within(outer: dict[str, float], inner: dict[str, float]) -> bool:
    return all(
        outer[at] <= inner[at] <= inner[at] + inner[side] <= outer[at] + outer[side]
        for at, side in (("x", "width"), ("y", "height"))
    )


def test_a_handle_that_has_the_focus_is_in_view(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    page.locator("#stage").focus()
    for _ in range(6):
        page.keyboard.press("+")
    for key, part in (("d", ".handle.point >> nth=0"), ("c", ".handle.nw")):
        page.keyboard.press(key)
        expect(page.locator(part)).to_be_focused()
        until(lambda part=part: lies_within(page.locator("#stage").bounding_box(), page.locator(part).bounding_box()))
    assert page.locator("#stage").evaluate("one => [one.scrollLeft, one.scrollTop]") == [0, 0]
    expect(page.locator("#shapes .point")).to_have_count(2)
    assert np.abs(np.subtract(drawn_points(page), POINTS)).max() < 0.5  # nothing slipped from its place


@pytest.mark.parametrize("part", [".handle.point >> nth=0", ".handle.se"])
def test_a_drag_ends_when_another_question_is_asked(page: Any, site: Site, scan: Path, part: str):
    load(page, scan)
    ask(page)
    place = page.locator(part).bounding_box()
    page.mouse.move(place["x"] + 14, place["y"] + 14)
    page.mouse.down()
    page.mouse.move(place["x"] + 20, place["y"] + 20)
    site.reasoner.gate.clear()
    page.keyboard.press("q")
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_have_text("thinking")
    page.mouse.move(place["x"] + 40, place["y"] + 30, steps=3)
    page.mouse.up()
    site.reasoner.gate.set()
    expect(page.locator("#verdict")).to_have_text("found")
    assert (box(page), points(page)) == (MIDDLE, POINTS)
    expect(page.locator("#changed")).to_be_hidden()

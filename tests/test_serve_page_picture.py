"""The picture on the server's page: what is drawn over it, zoom, slices, windows, and boxes that are corrected."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import opened
from serve_pages import (  # noqa: F401
    MIDDLE,
    Site,
    ask,
    box,
    dicom,
    drag,
    drawn_box,
    expect,
    load,
    mask_at,
    page,
    scan,
    serve,
    site,
    until,
    volume,
)

from medground.parsing import format_answer

# ---------------------------------------------------------------- looking


def test_layers_are_toggled_and_opacity_is_set(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    page.locator("#stage").focus()
    until(lambda: mask_at(page, 40, 22) > 0)
    faint = mask_at(page, 40, 22)
    page.locator("#opacity").fill("90")
    until(lambda: mask_at(page, 40, 22) > 2 * faint)
    page.locator("#stage").focus()
    page.keyboard.press("m")
    expect(page.locator("#show-mask")).to_have_attribute("aria-pressed", "false")
    until(lambda: mask_at(page, 40, 22) == 0)
    page.keyboard.press("b")
    expect(page.locator("#shapes .box")).to_have_count(0)
    page.keyboard.press("p")
    expect(page.locator("#shapes .point")).to_have_count(0)
    for part in ("mask", "box", "points"):
        page.locator(f"#show-{part}").click()
    expect(page.locator("#shapes .box")).to_have_count(1)
    expect(page.locator("#shapes .point")).to_have_count(2)


def test_zoom_and_pan_keep_the_box_on_its_place(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    whole = page.locator("#image").bounding_box()
    stage = page.locator("#stage").bounding_box()
    mouse = stage["x"] + stage["width"] / 2 + 90, stage["y"] + stage["height"] / 2 - 60

    def under() -> list[float]:
        place = page.locator("#image").bounding_box()
        return [(mouse[0] - place["x"]) / place["width"], (mouse[1] - place["y"]) / place["height"]]

    before = under()
    page.mouse.move(*mouse)
    page.mouse.wheel(0, -300)
    until(lambda: page.locator("#image").bounding_box()["width"] > 2 * whole["width"])
    assert under() == pytest.approx(before, abs=0.005)
    page.mouse.down()
    page.mouse.move(mouse[0] + 60, mouse[1] + 30, steps=3)
    page.mouse.up()
    assert np.abs(np.subtract(drawn_box(page), MIDDLE)).max() < 0.3
    before = page.locator("#image").bounding_box()["x"]
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: page.locator("#image").bounding_box()["x"] < before)
    page.keyboard.press("0")
    until(lambda: page.locator("#image").bounding_box() == whole)
    page.keyboard.press("z")
    until(lambda: page.locator("#image").bounding_box()["width"] > 1.2 * whole["width"])
    near = page.locator("#shapes rect.box").bounding_box()
    assert abs(near["x"] + near["width"] / 2 - stage["x"] - stage["width"] / 2) < 40
    page.keyboard.press("+")
    page.locator("#fit").click()
    until(lambda: page.locator("#image").bounding_box() == whole)
    expect(page.locator("#zoom-text")).to_have_text("100 %")


def test_slices_and_planes_are_scrolled_and_the_answer_stays_on_its_own(page: Any, site: Site, volume: Path):
    load(page, volume)
    expect(page.locator("#axis")).to_have_value("axial")
    number = int(page.locator("#slice").input_value())
    page.keyboard.press("j")
    expect(page.locator("#slice-text")).to_have_text(f"{number + 1} / 12")
    page.locator("#stage").hover()
    page.mouse.wheel(0, 100)
    expect(page.locator("#slice-text")).not_to_have_text(f"{number + 1} / 12")
    page.locator("#slice").fill("5")
    expect(page.locator("#slice-text")).to_have_text("5 / 12")
    ask(page)
    expect(page.locator("#facts")).to_contain_text("axial slice 5")
    expect(page.locator("#facts")).to_contain_text("mm")
    assert site.reasoner.asked[0].image.provenance.slice == 4
    page.locator("#stage").focus()
    page.keyboard.press("k")
    expect(page.locator("#shapes *")).to_have_count(0)
    expect(page.locator("#elsewhere")).to_contain_text("The answer is on axial slice 5.")
    page.keyboard.press("x")
    expect(page.locator("#axis")).not_to_have_value("axial")
    expect(page.locator("#image")).to_have_js_property("naturalHeight", 12)
    number, count = (int(part) for part in page.locator("#slice-text").inner_text().split(" / "))
    assert number == count // 2 + 1
    assert count in (20, 24)
    page.locator("#go-there").click()
    expect(page.locator("#slice-text")).to_have_text("5 / 12")
    expect(page.locator("#shapes .box")).to_have_count(1)


def middle_grey(page: Any) -> int:
    return page.locator("#image").evaluate(
        """image => {
          const copy = new OffscreenCanvas(1, 1).getContext('2d');
          copy.drawImage(image, -image.naturalWidth / 2, -image.naturalHeight / 2);
          return copy.getImageData(0, 0, 1, 1).data[0];
        }"""
    )


def test_the_window_is_set_by_numbers_and_by_dragging(page: Any, site: Site, dicom: Path):
    load(page, dicom)
    expect(page.locator("#source")).to_have_text("CT_small.dcm · CT · DICOM · 128 × 128")
    before = middle_grey(page)
    level, width = (page.locator(part).input_value() for part in ("#level", "#width"))
    page.locator("#level").fill("-2000")
    expect(page.locator("#window-reset")).to_have_attribute("aria-disabled", "false")
    page.locator("#level").fill("900")
    until(lambda: middle_grey(page) != before)
    page.locator("#window-reset").click()
    until(lambda: middle_grey(page) == before)
    expect(page.locator("#level")).to_have_value(level)
    page.locator("#stage").focus()
    page.keyboard.press("w")
    expect(page.locator("#window-tool")).to_have_attribute("aria-pressed", "true")
    drag(page, "#stage", 30, 20)
    assert float(page.locator("#width").input_value()) > float(width)
    assert float(page.locator("#level").input_value()) > float(level)
    ask(page)
    assert site.reasoner.asked[0].image.provenance.window[1] > float(width)
    page.locator("#stage").focus()
    page.keyboard.press("r")
    expect(page.locator("#width")).to_have_value(width)
    page.problems[:] = [problem for problem in page.problems if "422" not in problem]  # a window that showed nothing


def test_frames_are_scrolled(page: Any, site: Site):
    data = pytest.importorskip("pydicom.data")
    load(page, Path(data.get_testdata_file("SC_rgb_small_odd.dcm")))
    expect(page.locator("#series")).to_be_hidden()
    load(page, Path(data.get_testdata_file("SC_rgb_rle_2frame.dcm")))
    expect(page.locator("#slice-name")).to_have_text("Frame")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#slice-text")).to_have_text("2 / 2")
    ask(page)
    expect(page.locator("#facts")).to_contain_text("frame 2")
    assert site.reasoner.asked[0].image.provenance.frame == 1


# ---------------------------------------------------------------- correcting


def test_the_mask_follows_the_box_that_is_dragged(page: Any, site: Site, scan: Path):
    load(page, scan)
    ask(page)
    drag(page, ".handle.se", 10, 10)
    assert np.abs(np.subtract(box(page), [20, 15, 70, 40])).max() <= 1
    x1, y1, x2, y2 = (round(value) for value in drawn_box(page))
    until(lambda: f"{(x2 - x1) * (y2 - y1):,} px" in page.locator("#facts").inner_text())
    until(lambda: mask_at(page, 66, 36) > 0)
    expect(page.locator("#changed")).to_be_visible()
    expect(page.locator("#shapes .point")).to_have_count(2)
    drag(page, ".handle.w", 12, 0)
    until(lambda: page.locator("#shapes .point").count() == 2)
    drag(page, ".handle.move", -8, 5)
    assert np.abs(np.subtract(box(page), [24, 20, 62, 45])).max() <= 1
    until(lambda: mask_at(page, 66, 36) == 0)
    assert site.segmenter.encoded == 1
    page.locator("#stage").focus()
    page.keyboard.press("u")
    assert box(page) == MIDDLE
    expect(page.locator("#facts")).to_contain_text("600 px")
    expect(page.locator("#changed")).to_be_hidden()
    expect(page.locator("#shapes .point")).to_have_count(2)


def test_a_box_cannot_leave_the_picture_or_turn_inside_out(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    drag(page, ".handle.ne", 500, -500)
    assert box(page) == [20, 0, 80, 30]
    drag(page, ".handle.w", 500, 0)
    assert box(page) == [78, 0, 80, 30]
    drag(page, ".handle.move", -500, 500)
    assert box(page) == [0, 30, 2, 60]


def test_no_movement_of_any_handle_leaves_the_picture(page: Any):
    random = np.random.default_rng(0)
    names = ("move", "nw", "n", "ne", "e", "se", "s", "sw", "w")
    cases = []
    for _ in range(900):
        width, height = random.integers(2, 500, 2).tolist()
        x1, y1 = random.uniform(0, width - 1), random.uniform(0, height - 1)
        start = [x1, y1, random.uniform(x1 + 0.5, width), random.uniform(y1 + 0.5, height)]
        step = random.normal(0, 300, 2).tolist()
        cases.append([start, names[len(cases) % 9], *step, {"width": width, "height": height}])
    ends = page.evaluate(
        """async (cases) => {
          const { moved } = await import('./static/handles.js');
          return cases.map((one) => moved(...one));
        }""",
        cases,
    )
    for (start, name, _, _, size), (x1, y1, x2, y2) in zip(cases, ends, strict=True):
        assert 0 <= x1 < x2 <= size["width"] + 1e-9, (start, name)
        assert 0 <= y1 < y2 <= size["height"] + 1e-9, (start, name)
        if name == "move":
            assert [x2 - x1, y2 - y1] == pytest.approx([start[2] - start[0], start[3] - start[1]])


def test_the_box_is_corrected_by_keys(page: Any, site: Site, scan: Path):
    load(page, scan)
    ask(page)
    around = page.locator("#shapes rect.box").bounding_box()
    for name, right, low in (("nw", 0, 0), ("e", 1, 0.5), ("se", 1, 1), ("s", 0.5, 1)):
        place = page.locator(f".handle.{name}").bounding_box()
        assert place["x"] + place["width"] / 2 == pytest.approx(around["x"] + right * around["width"], abs=3)
        assert place["y"] + place["height"] / 2 == pytest.approx(around["y"] + low * around["height"], abs=3)
    page.locator("#stage").focus()
    page.keyboard.press("c")
    expect(page.locator(".handle.nw")).to_be_focused()
    expect(page.locator(".handle.nw")).to_have_attribute("aria-label", "Top left corner, 20, 15")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert box(page) == [21, 5, 60, 30]
    expect(page.locator("#facts")).to_contain_text("975 px")
    expect(page.locator("#said")).to_have_text("Box 21, 5, 60, 30")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    expect(page.locator(".handle.n")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")  # an edge moves one way only
    assert box(page) == [21, 6, 60, 30]


def test_the_box_is_corrected_by_a_finger(browser: Any, site: Site, scan: Path):
    with opened(browser, site.address, has_touch=True, viewport={"width": 390, "height": 844}) as page:
        load(page, scan)
        ask(page)
        page.locator("#stage").scroll_into_view_if_needed()
        place = page.locator(".handle.se").bounding_box()
        scale = page.locator("#image").bounding_box()["width"] / 80
        x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
        touch = page.context.new_cdp_session(page)
        for name, points in (
            ("touchStart", [{"x": x, "y": y}]),
            ("touchMove", [{"x": x + 4 * scale, "y": y + 2 * scale}]),
            ("touchMove", [{"x": x + 8 * scale, "y": y + 4 * scale}]),
            ("touchEnd", []),
        ):
            touch.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
        until(lambda: np.abs(np.subtract(box(page), [20, 15, 68, 34])).max() <= 1)
        before = page.locator("#image").bounding_box()["width"]
        place = page.locator("#stage").bounding_box()
        x, y = place["x"] + 60, place["y"] + 60
        for name, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90), ("touchEnd", None)):
            points = [] if apart is None else [{"x": x, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
            touch.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
        until(lambda: page.locator("#image").bounding_box()["width"] > 1.5 * before)


def test_while_a_mask_is_awaited_only_the_latest_box_is_kept(page: Any, site: Site, scan: Path):
    load(page, scan)
    ask(page)
    held: list[Any] = []
    page.route("**/v1/segment", lambda route: route.continue_() if held else held.append(route))
    page.locator("#stage").focus()
    page.keyboard.press("c")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    until(lambda: bool(page.title()) and len(held) == 1)
    held[0].continue_()
    expect(page.locator("#facts")).to_contain_text("510 px")
    boxes = [prompt.box.xyxy for prompt in site.segmenter.prompts[1:]]
    assert boxes == [(21, 15, 60, 30), (26, 15, 60, 30)]


def test_a_mask_that_comes_after_its_box_was_undone_is_dropped(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    held: list[Any] = []
    page.route("**/v1/segment", lambda route: route.continue_() if held else held.append(route))
    page.locator(".handle.nw").focus()
    page.keyboard.press("ArrowLeft")
    until(lambda: bool(page.title()) and len(held) == 1)
    page.keyboard.press("u")
    with page.expect_response("**/v1/segment"):
        held[0].continue_()
    page.locator(".handle.e").focus()
    page.keyboard.press("ArrowRight")  # its mask is asked for when the other one has come
    expect(page.locator("#facts")).to_contain_text("615 px")
    page.keyboard.press("u")
    expect(page.locator("#facts")).to_contain_text("600 px")
    assert box(page) == MIDDLE


def test_a_new_box_is_drawn_where_none_was_found(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(lambda request, space: format_answer(None, (), space, reasoning="Nothing."))
    with opened(browser, site.address) as page:
        load(page, scan)
        ask(page)
        expect(page.locator("#correct-button")).to_be_hidden()
        page.locator("#draw-button").click()
        drag(page, "#stage", 20, 15)
        until(lambda: page.locator("#shapes .box").count() == 1)
        assert np.abs(np.subtract(box(page), [40, 30, 60, 45])).max() <= 1
        expect(page.locator("#facts")).to_contain_text(" px · ")
        until(lambda: mask_at(page, 50, 38) > 0)
        page.locator("#stage").focus()
        page.keyboard.press("u")
        expect(page.locator("#shapes .box")).to_have_count(0)
        page.keyboard.press("n")
        page.keyboard.press("Enter")
        assert box(page) == [28, 21, 52, 39]
        expect(page.locator(".handle.nw")).to_be_focused()

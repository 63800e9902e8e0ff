"""The review page in a real browser, by keyboard."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import contrast, opened, served
from made_build import question_record, small_build, write_build
from PIL import Image

from medground.data.review import read_decisions
from medground.data.review.app import create_app
from medground.data.review.decisions import DecisionLog
from medground.data.review.records import Records

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with Playwright: pip install playwright"
)
expect = sync_api.expect
TOKEN = "a-token-of-some-length"


@pytest.fixture
def site() -> Iterator[Callable[..., str]]:
    """Serve a build on a free port of this machine and return the address."""
    with ExitStack() as stack:

        def serve(out: Path, **options: Any) -> str:
            log = stack.enter_context(DecisionLog(out / "review.jsonl"))
            app = create_app(Records(out), log, check=no_polyps, name=out.name, **options)
            return stack.enter_context(served(app))[0]

        yield serve


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return small_build(tmp_path)


@pytest.fixture
def page(browser: Any, site: Callable[..., str], out: Path) -> Iterator[Any]:
    with opened(browser, site(out)) as page:
        yield page


def no_polyps(record: Mapping[str, Any]) -> str | None:
    return "the question names the target: polyp" if "polyp" in record["question"] else None


def case(page: Any, number: int) -> None:
    """Wait for a record; the questions of the build end with its number."""
    expect(page.locator("#question")).to_contain_text(f"case {number}?")
    expect(page.locator("#layers")).not_to_have_class("loading")


def kept(out: Path) -> dict[str, tuple[str, str | None]]:
    return {
        name.split("/")[1]: (one.decision, one.reason) for name, one in read_decisions(out / "review.jsonl").items()
    }


def test_a_record_is_shown_with_its_picture(page: Any):
    case(page, 0)
    assert page.locator("#image").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [120, 90]
    expect(page.locator("#category")).to_have_text("colon polyp")
    expect(page.locator("#status")).to_have_text("undecided")
    expect(page.locator("#progress-text")).to_have_text("0 of 8 decided")
    expect(page.locator("#notice")).to_contain_text("not a medical device")
    expect(page.locator("#facts")).to_contain_text("CC0-1.0")


def test_decisions_by_key_go_on_to_the_next(page: Any, out: Path):
    case(page, 0)
    page.keyboard.press("a")
    case(page, 1)
    page.keyboard.press("r")
    expect(page.locator("#reject")).to_be_visible()
    page.keyboard.press("5")
    case(page, 2)
    page.keyboard.press("j")
    case(page, 3)
    page.keyboard.press("ArrowLeft")
    case(page, 2)
    page.keyboard.press("k")
    case(page, 1)
    expect(page.locator("#status")).to_have_text("rejected: the mask or the box is wrong")
    expect(page.locator("#progress-text")).to_have_text("2 of 8 decided")
    assert kept(out) == {"0": ("accept", None), "1": ("reject", "mask")}


def test_undo_returns_to_what_was_decided(page: Any, out: Path):
    case(page, 0)
    page.keyboard.press("a")
    case(page, 1)
    page.keyboard.press("a")
    case(page, 2)
    page.keyboard.press("u")
    case(page, 1)
    expect(page.locator("#status")).to_have_text("undecided")
    page.keyboard.press("u")
    case(page, 0)
    expect(page.locator("#progress-text")).to_have_text("0 of 8 decided")
    assert kept(out) == {}
    assert len((out / "review.jsonl").read_bytes().splitlines()) == 4


def test_keys_in_haste_decide_about_nothing_unseen(page: Any, out: Path):
    case(page, 0)
    page.route("**/api/records/1", lambda route: None)  # the next record never comes
    page.keyboard.press("a")
    expect(page.locator("#progress-text")).to_have_text("1 of 8 decided")
    for key in "aaear5":
        page.keyboard.press(key)
    page.keyboard.press("j")
    case(page, 2)
    assert kept(out) == {"0": ("accept", None)}


def test_claims_are_marked_true_or_false(page: Any):
    case(page, 0)
    page.keyboard.press("j")
    case(page, 1)
    assert page.locator("#reasoning mark.false").all_inner_texts()[0].startswith("tiny")
    assert page.locator("#reasoning mark.true").count() == 3
    expect(page.locator("#claims")).to_contain_text("✗ size: tiny")
    expect(page.locator("#claims")).to_contain_text("✓ brightness: brighter than")


def test_an_edit_is_checked_while_it_is_written(page: Any, out: Path):
    case(page, 0)
    page.keyboard.press("e")
    expect(page.locator("#edit-question")).to_be_focused()
    page.locator("#edit-question").fill("Where is the polyp?")
    expect(page.locator("#edit-check")).to_have_text("✗ the question names the target: polyp")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#edit-check")).to_contain_text("polyp")
    page.locator("#edit-question").fill("What should be taken out, case 0?")
    page.locator("#edit-reasoning").fill("It is a tiny region.")
    expect(page.locator("#edit-check")).to_have_text("✓ This can be saved.")
    expect(page.locator("#edit-marks mark.false")).to_contain_text("tiny")
    page.keyboard.press("Control+Enter")
    case(page, 1)
    page.keyboard.press("k")
    case(page, 0)
    expect(page.locator("#status")).to_have_text("accepted with edits")
    expect(page.locator("#facts")).to_contain_text("Which growth should be taken out")
    assert all("422" in problem for problem in page.problems)
    page.problems.clear()
    decision = read_decisions(out / "review.jsonl")["drawn/0/polyp"]
    assert (decision.question, decision.reasoning) == ("What should be taken out, case 0?", "It is a tiny region.")


def test_letters_in_a_text_are_no_keys_and_escape_asks_first(page: Any, out: Path):
    case(page, 0)
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" aruj?")
    page.keyboard.press("Escape")
    expect(page.locator("#edit-check")).to_contain_text("again to throw your changes away")
    expect(page.locator("#edit-question")).to_have_value(
        "Which growth should be taken out during the procedure, case 0? aruj?"
    )
    page.keyboard.press("Escape")
    expect(page.locator("#edit")).to_be_hidden()
    case(page, 0)
    page.locator("#reviewer").fill("a r a")
    page.locator("#reviewer").press("Tab")
    page.keyboard.press("a")
    case(page, 1)
    assert read_decisions(out / "review.jsonl")["drawn/0/polyp"].reviewer == "a r a"


def test_filters_choose_what_is_shown(page: Any):
    case(page, 0)
    page.locator("select[name=split]").select_option(label="train")
    page.locator("select[name=style]").select_option(label="location")
    case(page, 1)
    expect(page.locator("#position")).to_contain_text("Record 1 of 2")
    page.locator("#accept").click()
    case(page, 5)
    page.locator("[name=undecided]").check()
    expect(page.locator("#position")).to_contain_text("Record 1 of 1")
    page.keyboard.press("a")
    expect(page.locator("#said")).to_contain_text("last of these")
    page.locator("[name=undecided]").uncheck()
    page.locator("[name=undecided]").check()
    expect(page.locator("#question")).to_have_text("All of these are decided.")
    page.locator("select[name=split]").select_option(label="val")
    expect(page.locator("#question")).to_have_text("No record is like that.")
    for key in "ajkerzmu":  # nothing is there to act on, and nothing breaks
        page.keyboard.press(key)


def pixel(page: Any, x: int, y: int) -> list[int]:
    return page.locator("#mask").evaluate(
        """(canvas, [x, y]) => {
          const copy = new OffscreenCanvas(1, 1).getContext('2d');
          copy.drawImage(canvas, -x, -y);
          return Array.from(copy.getImageData(0, 0, 1, 1).data);
        }""",
        [x, y],
    )


def test_mask_and_box_lie_over_the_target_and_can_be_hidden(page: Any, out: Path):
    case(page, 0)
    inside, outside = pixel(page, 40, 30), pixel(page, 100, 80)
    assert 0 < inside[3] < 100  # a faint fill within
    assert outside[3] == 0
    assert max(pixel(page, x, 30)[3] for x in range(14, 22)) == 255  # the outline, at the left end
    x1, _, x2, _ = Records(out).read(0)["bbox"]
    drawn, shown = page.locator("#shapes .box").bounding_box(), page.locator("#image").bounding_box()
    scale = shown["width"] / 120
    assert abs(drawn["x"] + drawn["width"] / 2 - shown["x"] - scale * (x1 + x2) / 2) < 1.5
    assert abs(drawn["width"] - scale * (x2 - x1)) < 4
    assert page.locator("#shapes .point").count() == 2
    for key, part in (("m", "#mask"), ("b", "#shapes .box"), ("p", "#shapes .point >> nth=0")):
        page.keyboard.press(key)
        expect(page.locator(part)).to_have_css("visibility", "hidden")
        page.keyboard.press(key)
        expect(page.locator(part)).to_have_css("visibility", "visible")


def test_zoom_brings_the_target_near(page: Any):
    case(page, 0)
    before = page.locator("#shapes .box").bounding_box()
    page.keyboard.press("z")
    near = page.locator("#shapes .box").bounding_box()
    stage = page.locator("#stage").bounding_box()
    assert near["width"] > 1.4 * before["width"]
    assert stage["x"] <= near["x"]
    assert near["x"] + near["width"] <= stage["x"] + stage["width"]
    page.keyboard.press("z")
    assert page.locator("#shapes .box").bounding_box() == before


def test_an_absent_target_is_said_and_nothing_is_drawn(page: Any):
    page.locator("select[name=absent]").select_option(label="absent")
    case(page, 7)
    expect(page.locator("#absent")).to_be_visible()
    assert page.locator("#shapes *").count() == 0
    assert pixel(page, 40, 30)[3] == 0


def test_texts_of_the_data_stay_texts(browser: Any, site: Callable[..., str], tmp_path: Path):
    root = tmp_path / "root"
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script> It is a tiny region <b>, case 0?"
    texts = dict.fromkeys(("question", "reasoning", "category", "style", "short", "id"), evil)
    out = write_build(tmp_path / "out", root, [question_record(root, 0, **texts)])
    with opened(browser, site(out)) as page:
        case(page, 0)
        assert page.locator("#question").inner_text() == evil
        assert page.locator("#main img, #main script, #main b").count() == 1  # the picture


def test_a_missing_picture_is_said_and_the_rest_goes_on(page: Any, tmp_path: Path, out: Path):
    case(page, 0)
    (tmp_path / "root" / "images" / "2.png").unlink()
    page.keyboard.press("j")
    case(page, 1)
    page.keyboard.press("j")
    expect(page.locator("#alert")).to_contain_text("2.png")
    expect(page.locator("#question")).to_contain_text("case 2?")
    page.keyboard.press("j")
    case(page, 3)
    expect(page.locator("#alert")).to_be_hidden()
    assert all("409" in problem for problem in page.problems)
    page.problems.clear()


def test_the_token_in_the_address_opens_the_page_and_leaves_it(browser: Any, site: Callable[..., str], out: Path):
    with opened(browser, f"{site(out, token=TOKEN)}/#token={TOKEN}") as page:
        case(page, 0)
        assert TOKEN not in page.url
        page.reload()
        case(page, 0)


def test_the_token_is_asked_for(browser: Any, site: Callable[..., str], out: Path):
    with opened(browser, site(out, token=TOKEN)) as page:
        page.locator("#token-input").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-alert")).to_contain_text("isn't the token")
        page.locator("#token-input").fill(TOKEN)
        page.keyboard.press("Enter")
        case(page, 0)
        assert all("401" in problem for problem in page.problems)
        page.problems.clear()


def test_help_lists_the_keys_and_can_switch_them_off(page: Any, out: Path):
    case(page, 0)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.locator("#keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.locator("#next").click()
    case(page, 1)
    assert kept(out) == {}


def test_everything_has_a_name_and_an_order_for_a_screen_reader(page: Any):
    case(page, 0)
    tree = page.locator("body").aria_snapshot()
    for name in ("Split", "Modality", "Category", "Style", "Target", "Undecided only", "Reviewer"):
        assert f'"{name}"' in tree, name
    for button in ("Accept a", "Reject r", "Edit e", "Undo u", "Next j", "Mask m"):
        assert f'button "{button}' in tree, button
    assert "Picture of drawn/0/polyp; its target is colon polyp" in tree
    assert page.locator("html").get_attribute("lang") == "en"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_in_both_schemes(browser: Any, site: Callable[..., str], out: Path, scheme: str):
    with opened(browser, site(out), color_scheme=scheme) as page:
        case(page, 0)
        for width, height in ((390, 844), (320, 600), (1600, 1000)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            for button in ("#accept", "#reject-button", "#next"):
                place = page.locator(button).bounding_box()
                assert 0 <= place["x"] < place["x"] + place["width"] <= width
                assert place["y"] + place["height"] <= height
        assert (np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[-2, 2] > 128) == (scheme == "light")
        assert contrast(page, "#question") >= 7
        assert min(contrast(page, part) for part in ("#notice", "#accept", "#reject-button", "#facts dt")) >= 4.5

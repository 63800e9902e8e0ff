"""Claims on the server's page: what the mask confirms of the reasoning, and what it speaks against, is marked in it."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from browsing import contrast, opened
from conftest import FillingSegmenter
from serve_pages import CLAIMS, Gated, Site, ask, claiming, drag, expect, load, scan, serve, until  # noqa: F401

from medground.rewards.evidence import Facts

AGREES, AGAINST = "the mask agrees", "the mask speaks against this"
MARKS = [
    ["elongated", AGREES],
    ["darker than its surroundings", AGAINST],
    ["lower half of the image", AGAINST],
]


def marks(page: Any) -> list[list[str]]:
    """What is marked, and what a mouse is told; a screen reader hears the same behind the words."""
    told = page.locator("#reasoning .claim").evaluate_all(
        "all => all.map((one) => [one.firstChild.textContent, one.title, one.lastChild.textContent])"
    )
    assert all(heard == f" ({title})" for _, title, heard in told)
    return [[words, title] for words, title, _ in told]


@pytest.fixture
def claims(serve: Callable[..., Site]) -> Site:
    return serve(claiming)


def test_what_the_mask_confirms_and_what_it_speaks_against_is_marked_and_told(browser: Any, claims: Site, scan: Path):
    with opened(browser, claims.address) as page:
        load(page, scan)
        ask(page)
        assert marks(page) == MARKS
        assert page.locator("#reasoning").aria_snapshot() == "- paragraph: " + re.sub(
            "|".join(words for words, _ in MARKS), lambda found: f"{found[0]} ({dict(MARKS)[found[0]]}) ", CLAIMS
        )
        selected = "one => { getSelection().selectAllChildren(one); return getSelection().toString(); }"
        assert page.locator("#reasoning").evaluate(selected) == CLAIMS  # what is copied is what was said
        style = "one => getComputedStyle(one).textDecorationStyle"
        assert page.locator("#reasoning .agrees").first.evaluate(style) == "dotted"
        assert page.locator("#reasoning .speaks-against").first.evaluate(style) == "wavy"
        expect(page.locator("#marks .agrees")).to_be_visible()
        expect(page.locator("#marks .speaks-against")).to_be_visible()
        expect(page.locator("#notes li")).to_have_count(3)  # with one of the points that the segmenter couldn't use


def test_marks_and_their_notes_are_of_the_answers_mask_alone(browser: Any, claims: Site, scan: Path):
    with opened(browser, claims.address) as page:
        load(page, scan)
        ask(page)
        notes = page.locator("#notes li").all_inner_texts()
        page.locator("#stage").focus()
        page.keyboard.press("d")
        page.keyboard.press("ArrowLeft")  # the mask doesn't follow points here
        expect(page.locator("#changed")).to_be_visible()
        assert marks(page) == MARKS
        asked = len(claims.segmenter.prompts)
        drag(page, ".handle.s", 0, 20)
        until(lambda: len(claims.segmenter.prompts) > asked)
        expect(page.locator("#facts")).not_to_contain_text("600 px")  # the mask has followed
        assert marks(page) == []
        expect(page.locator("#reasoning")).to_have_text(CLAIMS)
        expect(page.locator("#marks")).to_be_hidden()
        assert page.locator("#notes li").all_inner_texts() == [note for note in notes if "filling" in note]
        page.keyboard.press("u")
        assert marks(page) == MARKS
        assert page.locator("#notes li").all_inner_texts() == notes
        ask(page, "And again?")
        drag(page, ".handle.s", 0, 5)
        assert marks(page) == []
        page.locator(".past", has_text="Where is the middle?").click()
        expect(page.locator("#asked")).to_have_text("Where is the middle?")
        assert marks(page) == MARKS


def test_marks_go_with_the_mask_that_follows_a_point(browser: Any, scan: Path):
    with ExitStack() as stack:
        site = Site(stack, Gated(claiming), FillingSegmenter(frozenset({"box", "points"})))
        page = stack.enter_context(opened(browser, site.address))
        load(page, scan)
        ask(page)
        assert marks(page) == MARKS
        drag(page, ".handle.point >> nth=0", -4, 2)
        expect(page.locator("#marks")).to_be_hidden()
        assert marks(page) == []
        expect(page.locator("#notes")).to_be_hidden()


def test_what_the_mask_cannot_tell_is_not_marked(
    browser: Any, claims: Site, scan: Path, monkeypatch: pytest.MonkeyPatch
):
    known = Facts.read({"shape": "elongated"})
    monkeypatch.setattr("medground.pipeline.drawn_facts", lambda mask, rgb: known)
    with opened(browser, claims.address) as page:
        load(page, scan)
        ask(page)
        assert marks(page) == MARKS[:1]
        expect(page.locator("#reasoning")).to_contain_text(CLAIMS.partition(", ")[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marked_words_can_be_read_in_both_schemes(browser: Any, claims: Site, scan: Path, scheme: str):
    with opened(browser, claims.address, color_scheme=scheme) as page:
        load(page, scan)
        ask(page)
        for part in ("#reasoning .agrees", "#reasoning .speaks-against"):
            assert contrast(page, part) >= 7
        for part in ("#marks", "#marks .speaks-against", "#notes"):
            assert contrast(page, part) >= 4.5

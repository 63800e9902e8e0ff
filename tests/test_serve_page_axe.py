"""The server's page before axe-core, which knows the rules of WCAG 2.2 that a program can check."""

# ruff: noqa: F811  fixtures are imported, and then named by the tests
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import opened
from serve_pages import TOKEN, Site, ask, claiming, expect, load, scan, serve, site, volume  # noqa: F401

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe-core isn't installed: pip install axe-playwright-python"
)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def wrong(page: Any) -> dict[str, list[Any]]:
    """Rule -> the elements that break it."""
    found = axe.Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response
    assert len(found["passes"]) > 10  # it has looked
    return {rule["id"]: [element["target"] for element in rule["nodes"]] for rule in found["violations"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_is_broken_where_claims_are_marked(browser: Any, serve: Any, scan: Path, scheme: str):
    with opened(browser, serve(claiming).address, reduced_motion="reduce", color_scheme=scheme) as page:
        load(page, scan)
        ask(page)
        expect(page.locator("#reasoning .claim")).to_have_count(3)
        assert wrong(page) == {}


@pytest.mark.parametrize(
    "how",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "has_touch": True}],
    ids=["light", "dark phone"],
)
def test_no_rule_is_broken(browser: Any, site: Site, volume: Path, how: dict[str, Any]):
    with opened(browser, site.address, reduced_motion="reduce", **how) as page:
        expect(page.locator("#models")).not_to_be_empty()
        assert wrong(page) == {}
        load(page, volume)
        site.reasoner.gate.clear()
        page.locator("#question").fill("Where is the middle?")
        page.locator("#question").press("Enter")
        expect(page.locator("#verdict")).to_have_text("thinking")
        assert wrong(page) == {}
        site.reasoner.gate.set()
        expect(page.locator("#verdict")).to_have_text("found")
        ask(page, "And above it?")
        page.locator("#accept").click()
        page.locator(".handle.nw").focus()
        page.get_by_role("radio", name="Answer").check()
        assert wrong(page) == {}
        page.locator("#help-button").click()
        assert wrong(page) == {}


def test_no_rule_is_broken_where_something_is(browser: Any, serve: Any, scan: Path):
    with opened(browser, serve(tokens=(TOKEN,)).address, reduced_motion="reduce") as page:
        expect(page.locator("#token-input")).to_be_focused()
        assert wrong(page) == {}
        page.locator("#token-input").fill(TOKEN)
        page.locator("#token-input").press("Enter")
        expect(page.locator("#token")).to_be_hidden()
        page.locator("#file").set_input_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no image"})
        expect(page.locator("#alert")).to_be_visible()
        assert wrong(page) == {}
        page.evaluate("document.documentElement.removeAttribute('lang')")
        assert set(wrong(page)) == {"html-has-lang"}
        page.problems.clear()

"""Draw the pictures of the page: python docs/serve_pictures.py (needs the extras demo and serve, and a Chromium)."""

from __future__ import annotations

import io
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from scipy.spatial import cKDTree

from medground._io import write_bytes
from medground.drawing import BOX, MASK, POINT
from medground.pipeline import MedGround
from medground.serve.app import create_app
from medground.serve.service import Service

IMAGES = Path(__file__).parent / "images"
MOST = 200_000
"""Bytes of a picture."""


def main() -> None:
    """Write the pictures into docs/images."""
    expect.set_options(timeout=300_000)
    with sync_playwright() as playwright:
        draw(playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]), IMAGES)


def draw(browser: Any, folder: Path) -> None:
    """Write serve-light.png, serve-dark.png and serve-phone.png from real answers to real examples."""
    service = Service(MedGround())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service), lifespan="off", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            for name, scene, how in SCENES:
                context = browser.new_context(reduced_motion="reduce", **how)
                page = context.new_page()
                page.set_default_timeout(300_000)
                page.goto(address)
                scene(page)
                write_bytes(folder / f"serve-{name}.png", _small(page.screenshot()))
                context.close()
        finally:
            server.should_exit = True
            thread.join()
            service.end()


def _answered(page: Any, example: str) -> None:
    page.locator(".example", has_text=example).first.click()
    expect(page.locator("#loading")).to_be_hidden()
    expect(page.locator("#go")).to_have_attribute("aria-disabled", "false")
    page.locator("#question").press("Enter")
    expect(page.locator("#accept")).to_be_visible()
    page.keyboard.press("Escape")


def _found(page: Any) -> None:
    _answered(page, "retina")
    page.wait_for_timeout(500)


def _corrected(page: Any) -> None:
    """Put the box around the whole kidney, and accept."""
    _answered(page, "filters blood")
    kidney = (124, 190, 194, 251)
    page.keyboard.press("c")
    for corner, (right, low) in (("nw", kidney[:2]), ("se", kidney[2:])):
        image = page.locator("#image").bounding_box()
        scale = image["width"] / page.locator("#image").evaluate("one => one.naturalWidth")
        place = page.locator(f".handle.{corner}").bounding_box()
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.mouse.down()
        page.mouse.move(image["x"] + right * scale, image["y"] + low * scale, steps=5)
        page.mouse.up()
    page.keyboard.press("a")
    expect(page.locator("#accepted")).to_be_visible()
    page.keyboard.type("kidney")
    page.wait_for_timeout(500)


def _small(picture: bytes) -> bytes:
    """Return a screenshot in as many colours as fit into the bound; those of the interface stay what they are."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    found, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
    own = np.vstack([[BOX, MASK, POINT], found[counts.argsort()[::-1][:60]]])
    # Colours are counted by the root of their pixels, so that a small bright place keeps some.
    spread = Image.fromarray(np.repeat(found, np.ceil(np.sqrt(counts)).astype(int), axis=0)[None])
    for colours in (256, 192, 144, 112):
        rest = np.reshape(spread.quantize(colours - len(own), kmeans=2).getpalette(), (-1, 3))
        palette = np.vstack([own, rest])[:colours].astype(np.uint8)
        nearest = cKDTree(palette).query(np.asarray(image).reshape(-1, 3))[1].reshape(image.height, image.width)
        small = Image.fromarray(nearest.astype(np.uint8), "P")
        small.putpalette(palette.tobytes())
        stream = io.BytesIO()
        small.save(stream, "PNG", optimize=True)
        if stream.tell() <= MOST:
            return stream.getvalue()
    raise ValueError("the picture is too large in any number of colours; take a smaller window")


SCENES: tuple[tuple[str, Callable[[Any], None], dict[str, Any]], ...] = (
    ("light", _found, {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}}),
    ("dark", _corrected, {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}}),
    (
        "phone",
        _found,
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    ),
)


if __name__ == "__main__":
    main()

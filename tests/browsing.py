"""What the tests of pages in a real browser share; the browser itself is conftest's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uvicorn


@contextmanager
def served(app: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    """Serve an application on a free port of this machine; gives its address, and the server, to stop it earlier."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """Open a page which may say nothing on the console and ask no other server; its `problems` are what it did."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    page = context.new_page()
    page.set_default_timeout(30_000)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if not _own(request.url, address) else None)
    page.problems = problems
    page.goto(address)
    yield page
    context.close()
    assert problems == [], problems  # pytest explains no assertion outside of tests


def _own(url: str, address: str) -> bool:
    return url.startswith((f"{address.partition('#')[0].rstrip('/')}/", "blob:", "data:"))


def contrast(page: Any, part: str) -> float:
    """WCAG 2's contrast ratio of a text and the nearest ground behind it."""
    colours = page.locator(part).first.evaluate(
        """start => {
          const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
          const rgb = (colour) => {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            return Array.from(canvas.getImageData(0, 0, 1, 1).data);
          };
          let ground = [0, 0, 0, 0];
          for (let at = start; at && ground[3] === 0; at = at.parentElement) {
            ground = rgb(getComputedStyle(at).backgroundColor);
          }
          return [rgb(getComputedStyle(start).color), ground];
        }"""
    )

    def luminance(colour: list[int]) -> float:
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in np.array(colour[:3]) / 255
        ]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)

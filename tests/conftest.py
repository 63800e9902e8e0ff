"""A reasoner that answers from a script, a segmenter that fills what it is pointed at, and a loopback endpoint."""

from __future__ import annotations

import ctypes
import gc
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from medground.coords import Space
from medground.errors import SegmenterError
from medground.images import MedicalImage
from medground.parsing import format_answer
from medground.reasoners import Completion, Request
from medground.segmenters import MaskPrediction, Prompt
from medground.types import Box, Point

# The same examples on every run, so that a change that passes here passes everywhere; `--hypothesis-profile=default`
# draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_configure() -> None:
    """Set the garbage collector and the allocator of the process that runs tests; those that tests start keep theirs.

    What tests import and collect is a million objects that stay: looking for garbage among them again and again takes
    a third of the time that collecting them does, and half a second in each training later. The memory of pictures'
    features is kept for the next picture: given back and asked for anew, page by page, it takes a third of a
    segmenter's time.
    """
    gc.disable()
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        trim_threshold, mmap_max = -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 512 * 2**20)


def pytest_collection_finish() -> None:
    """Look for garbage again, among what comes from now on."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let extension modules find what is theirs gone at the end; nanobind prints what isn't."""
    gc.unfreeze()


Script = Callable[[Request, Space], str]


def middle(request: Request, space: Space) -> str:
    """Answer with the middle of the picture, whatever the question."""
    box = Box(space.width * 0.25, space.height * 0.25, space.width * 0.75, space.height * 0.5, space)
    points = [Point(space.width * 0.4, space.height * 0.35, space), Point(space.width * 0.6, space.height * 0.4, space)]
    return format_answer(box, points, space, reasoning="It is in the middle." if request.mode == "reason" else None)


class ScriptedReasoner:
    def __init__(self, script: Script = middle, space: Space | None = None) -> None:
        self.name = "scripted"
        self.script = script
        self.space = space or Space.norm1000()
        self.batches: list[int] = []

    def complete(
        self,
        requests: Sequence[Request],
        *,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        self.batches.append(len(requests))
        said = []
        for request in requests:
            text = self.script(request, self.space)
            failed = text.startswith("ERROR ")
            said.append(Completion("" if failed else text, self.space, text[6:] if failed else None))
        return said

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        text = self.script(request, self.space)
        yield from (text[start : start + 7] for start in range(0, len(text), 7))

    def space_for(self, image: MedicalImage) -> Space:
        return self.space


class FillingSegmenter:
    def __init__(self, trained_prompts: frozenset[str] = frozenset({"box"})) -> None:
        self.name = "filling"
        self.trained_prompts = trained_prompts
        self.encoded = 0
        self.prompts: list[Prompt] = []

    def encode(self, image: MedicalImage) -> MedicalImage:
        self.encoded += 1
        return image

    def segment(self, embedding: MedicalImage, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        self.prompts += prompts
        predictions = []
        for prompt in prompts:
            mask = np.zeros((embedding.height, embedding.width), bool)
            if prompt.box is None and "points" not in self.trained_prompts:
                raise SegmenterError("filling knows boxes only; give a box")
            if prompt.box is not None:
                x1, y1, x2, y2 = (round(value) for value in prompt.box.to(embedding.space).xyxy)
                mask[y1:y2, x1:x2] = True
            for point in prompt.points if prompt.box is None else ():
                x, y = point.to(embedding.space).xy
                mask[int(y), int(x)] = True
            notes = ("filling knows boxes only",) if prompt.points and "points" not in self.trained_prompts else ()
            predictions.append(MaskPrediction(mask, 0.9, notes))
        return predictions


@pytest.fixture
def picture() -> MedicalImage:
    """A picture of 80 x 60 pixels with something on it."""
    rows, columns = np.mgrid[:60, :80]
    return MedicalImage.from_array((20 + 2 * columns + (rows % 7)).astype(np.uint8), "picture.png")


@pytest.fixture
def reasoner() -> ScriptedReasoner:
    return ScriptedReasoner()


@pytest.fixture
def segmenter() -> FillingSegmenter:
    return FillingSegmenter()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        time.sleep(server.delay)
        server.questions.append(json.dumps(asked["messages"][-1]))
        body = json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": server.answer}}
                ],
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class LoopbackServer(ThreadingHTTPServer):
    """A real OpenAI-compatible endpoint on this machine, which gives one answer to every question."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delay = 0.0
        self.questions: list[str] = []
        space = Space.norm1000()
        points = [Point(400, 350, space), Point(600, 400, space)]
        self.answer = format_answer(Box(250, 250, 750, 500, space), points, space, reasoning="It is in the middle.")

    @property
    def spec(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1#qwen3-vl-loopback"


@pytest.fixture
def endpoint() -> Iterator[LoopbackServer]:
    pytest.importorskip("openai")
    server = LoopbackServer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, headless; pages are tested where there is one."""
    sync_api = pytest.importorskip("playwright.sync_api")
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except sync_api.Error:
            pytest.skip(
                "no Chromium: install it (Debian: apt-get install chromium) or run: playwright install chromium"
            )
        yield browser
        browser.close()

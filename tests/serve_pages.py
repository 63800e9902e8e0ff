"""What the tests of the server's page share: servers that answer from a script, and ways to use and read the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import opened, served
from conftest import FillingSegmenter, ScriptedReasoner, middle
from PIL import Image

from medground.coords import Space
from medground.pipeline import MedGround
from medground.reasoners import Request

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
# Of the three claims the mask of `middle` confirms the first alone. Letters of two UTF-16 units come before them: the
# server counts letters.
CLAIMS = "🫀🫁 It is elongated, and darker than its surroundings. It lies in the lower half of the image."


def claiming(request: Request, space: Space) -> str:
    """Answer as `middle` does, and claim more of it."""
    return middle(request, space).replace("It is in the middle.", CLAIMS)


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


def saved(page: Any, name: str) -> bytes:
    with page.expect_download() as download:
        page.locator(f"[data-format={name}]").click()
    return Path(download.value.path()).read_bytes()

"""A server before models that answer from a script, asked without a network; and images to send to it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from conftest import FillingSegmenter, ScriptedReasoner
from fastapi.testclient import TestClient
from PIL import Image

from medground.pipeline import MedGround
from medground.serve.app import create_app
from medground.serve.limits import Limits
from medground.serve.service import Service

HOME = "http://127.0.0.1:8000"
EVENTS = {"accept": "text/event-stream"}


@contextmanager
def serving(
    reasoner: Any = None,
    segmenter: Any = None,
    *,
    tokens: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    **limits: Any,
) -> Iterator[TestClient]:
    """A client of a server; the server is its ``app_state.service``."""
    grounder = MedGround(reasoner or ScriptedReasoner(), segmenter or FillingSegmenter())
    service = Service(grounder, Limits(**limits))
    client = TestClient(create_app(service, tokens=tokens, hosts=hosts), base_url=HOME)
    client.app_state["service"] = service
    try:
        with client:  # one event loop for all of its requests
            yield client
    finally:
        service.end(seconds=10)


def service_of(client: TestClient) -> Service:
    return client.app_state["service"]


def drawn_png(number: int = 0, size: tuple[int, int] = (80, 60)) -> bytes:
    """A picture of 80 x 60 pixels unlike those of other numbers."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    stream = io.BytesIO()
    Image.fromarray(((20 + 2 * columns + rows % 7 + number) % 256).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def upload(client: TestClient, content: bytes | None = None, **more: Any) -> str:
    """Upload an image; its id."""
    answer = client.post("/v1/images", files={"file": ("Doe^Jane.png", content or drawn_png())}, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["image"]


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events, read."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found

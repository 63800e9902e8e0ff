"""The clients of `load.py`: they upload, ask, wait as long as they are told to, and note what they saw."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from load_questions import Item, likeness, said
from load_server import LONGEST

from medground.demo import CASES


@dataclass(slots=True)
class Tally:
    """What the clients saw; each list and counter is only ever added to, under the lock."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first_words: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Uploads:
    """One client's images at the server, uploaded when they are first needed and again when they were forgotten."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._ids: dict[int, str] = {}

    def id_of(self, image: int) -> str | httpx2.Response:
        """Return an image's id, or the answer that there was instead."""
        if image not in self._ids:
            case = CASES[image]
            files = {"file": ("image", case.path().read_bytes())}
            answer = self._client.post("/v1/images", files=files, data=case.reading)
            if answer.status_code != 200:
                return answer
            self._ids[image] = answer.json()["image"]
        return self._ids[image]

    def forget(self, image: int) -> None:
        """Upload it again the next time."""
        self._ids.pop(image, None)


def ask(client: httpx2.Client, uploads: Uploads, item: Item) -> tuple[int, Any, float | None, httpx2.Headers]:
    """Ask once; return the status, the answer (None where it was cut), seconds to the first word, and the headers."""
    name = uploads.id_of(item.image)
    if isinstance(name, httpx2.Response):
        return name.status_code, _read(name.content), None, name.headers
    body = {"image": name, **item.fields}
    if item.endpoint != "ground, events":
        answer = client.post(item.path, json=body)
        return answer.status_code, _read(answer.content), None, answer.headers
    started, first, text = time.monotonic(), None, ""
    with client.stream("POST", item.path, json=body, headers={"accept": "text/event-stream"}) as stream:
        if stream.status_code != 200:
            return stream.status_code, _read(stream.read()), None, stream.headers
        for piece in stream.iter_text():
            text += piece
            if first is None and "event: reasoning" in text:  # before it, comments say that the question waits
                first = time.monotonic() - started
        return 200, _last(text), first, stream.headers


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _last(text: str) -> Any:
    """Return what the last event says, where the events came to their end."""
    for block in reversed(text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if lines.get("event") in ("done", "error"):
            return json.loads(lines["data"])
    return None


def alone(url: str, items: Sequence[Item]) -> list[str]:
    """Return the answers to all questions, asked one at a time."""
    with httpx2.Client(base_url=url, timeout=LONGEST) as client:
        uploads = Uploads(client)
        answers = []
        for item in items:
            status, answer, _, _ = ask(client, uploads, item)
            if answer is None or status not in (200, 422, 502):
                raise SystemExit(f"{item.path} answered {status}: {answer}")
            answers.append(said(status, answer))
    return answers


def converse(url: str, numbers: Iterator[int], total: int, items: Sequence[Item], known: list[str], tally: Tally):
    """Be one client, until all questions are asked."""
    with httpx2.Client(base_url=url, timeout=LONGEST) as client:
        uploads = Uploads(client)
        while (number := next(numbers)) < total:
            which = number % len(items)
            end = _answered(client, uploads, items[which], known, which, tally)
            with tally.lock:
                tally.ends[end] += 1


def _answered(client: httpx2.Client, uploads: Uploads, item: Item, known: list[str], which: int, tally: Tally) -> str:
    """Ask until there is an answer; return what it was like."""
    given_up = time.monotonic() + LONGEST
    while time.monotonic() < given_up:
        started = time.monotonic()
        try:
            status, answer, first, headers = ask(client, uploads, item)
        except httpx2.TransportError as error:  # refused, or closed before the whole answer was there
            with tally.lock:
                tally.troubles[_named(error)] += 1
            time.sleep(0.5)
            continue
        if status in (404, 429, 503):
            wait = float(headers.get("retry-after", 0))
            if status != 404 and not wait:
                return "no Retry-After"
            with tally.lock:
                tally.troubles[str(status)] += 1
                tally.waited.append(wait)
            if status == 404:
                uploads.forget(item.image)
            time.sleep(wait)
            continue
        spent = time.monotonic() - started
        if answer is None:
            return "cut"
        if status == 200 and item.endpoint == "ground, events" and set(answer) == {"detail"}:
            with tally.lock:
                tally.troubles["error event"] += 1
            time.sleep(1.0)
            continue
        with tally.lock:
            tally.seconds.setdefault(item.endpoint, []).append(spent)
            if first is not None:
                tally.first_words.append(first)
        return likeness(said(status, answer), known, which)
    return "lost"


def _named(error: httpx2.TransportError) -> str:
    return {
        "ConnectError": "refused",
        "ReadError": "closed in an answer",
        "RemoteProtocolError": "closed in an answer",
        "WriteError": "closed in a request",
    }.get(type(error).__name__, type(error).__name__)

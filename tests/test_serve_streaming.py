from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from conftest import ScriptedReasoner, middle
from hypothesis import given
from hypothesis import strategies as st
from made_server import EVENTS, drawn_png, events, service_of, serving, upload

from medground.coords import Space
from medground.reasoners import Request
from medground.serve import streaming
from medground.serve.streaming import Reasoned

WAIT = 20
ANSWER = '<answer>{"bbox": [1, 2, 3, 4]}</answer>'


def read(text: str, cuts: list[int]) -> str:
    reasoned, edges = Reasoned(), sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    return "".join(reasoned.feed(text[start:end]) for start, end in pairwise(edges))


@given(
    reasoning=st.text("<>/think aswer5.é\n", max_size=40),
    opened=st.sampled_from(["<think>", " <THINK>", ""]),
    ended=st.sampled_from(["</think>", "</think>\n" + ANSWER, ANSWER, "<response>", ""]),
    cuts=st.lists(st.integers(0, 60), max_size=12),
)
def test_the_pieces_are_the_reasoning_wherever_they_are_cut(reasoning: str, opened: str, ended: str, cuts: list[int]):
    low = reasoning.lower()
    if any(tag in low for tag in ("</think>", "<answer", "<response", "<think>")):
        return
    told, whole = read(opened + reasoning + ended, cuts), reasoning.strip()
    if ended:
        assert told.strip() == whole or (told.strip() + "<") in whole + "<"
    assert whole.startswith(told.strip())
    assert "answer>" not in told.lower().replace(low, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<think>It is < 5 mm.</think>" + ANSWER, "It is < 5 mm."),
        ("It is </thin air.</think>", "It is </thin air."),
        ("No tags but " + ANSWER, "No tags but"),
        (ANSWER, ""),
        ("<think></think>" + ANSWER, ""),
        ("  <think>\n x </think> y", "x"),
    ],
)
def test_only_reasoning_is_told(text: str, told: str):
    for size in range(1, len(text) + 1):
        assert read(text, list(range(0, len(text), size))).strip() == told


def test_the_answer_comes_as_it_is_written():
    with serving() as client:
        body = {"image": upload(client), "question": "Where?"}
        answer = client.post("/v1/ground", json=body, headers=EVENTS)
        told = events(answer.text)
        assert answer.headers["content-type"].startswith("text/event-stream")
        reasoning = [data["text"] for name, data in told if name == "reasoning"]
        assert ("".join(reasoning), len(reasoning) > 1) == ("It is in the middle.", True)
        assert [name for name, _ in told if name != "reasoning"] == ["location", "mask", "done"]
        whole = dict(told)["done"]
        assert whole.pop("result")
        assert whole == client.post("/v1/ground", json=body).json()
        assert dict(told)["location"] == {"bbox": whole["bbox"], "points": whole["points"], "absent": False}
        assert dict(told)["mask"] == {"rle": whole["mask"]}


def test_direct_answers_and_absent_targets_have_fewer_events():
    with serving() as client:
        body = {"image": upload(client), "question": "Where?", "mode": "direct"}
        assert [name for name, _ in events(client.post("/v1/ground", json=body, headers=EVENTS).text)] == [
            *("location", "mask", "done"),
        ]
    absent = '<think>There is none.</think><answer>{"absent": true}</answer>'
    with serving(ScriptedReasoner(lambda request, space: absent)) as client:
        form = {"question": "Where?"}
        said = client.post("/v1/ground", files={"file": ("x", drawn_png())}, data=form, headers=EVENTS)
        told = events(said.text)
        assert "mask" not in dict(told)
        assert dict(told)["location"]["absent"] is True


def test_a_visual_question_streams_too():
    text = "<think>The base.</think><response><answer>B</answer></response>"
    with serving(ScriptedReasoner(lambda request, space: text)) as client:
        body = {"image": upload(client), "question": "What?", "choices": ["CT", "MRI"]}
        told = events(client.post("/v1/ask", json=body, headers=EVENTS).text)
        assert "".join(data["text"] for name, data in told if name == "reasoning") == "The base."
        assert dict(told)["location"] == {"regions": []}
        assert dict(told)["done"]["chosen"] == ["MRI"]


@pytest.mark.parametrize("fault", [False, True])
def test_an_error_is_the_last_event(caplog: pytest.LogCaptureFixture, fault: bool):
    def script(request: Request, space: Space) -> str:
        if fault:
            raise RuntimeError("about Jane Doe")
        return "<think>Hm, Jane Doe.</think>I can't tell."

    with serving(ScriptedReasoner(script)) as client:
        body = {"image": upload(client), "question": "Is Jane Doe ill?"}
        told = events(client.post("/v1/ground", json=body, headers=EVENTS).text)
        assert told[-1][0] == "error"
        assert ("a fault of medground's" in told[-1][1]["detail"]) == fault
        assert "Jane" not in json.dumps(told[-1]) + caplog.text
        assert client.post("/v1/segment", json={"image": body["image"], "box": [1, 2, 3, 4]}).status_code == 200


def test_before_the_stream_errors_have_their_status():
    with serving() as client:
        for body, status in (({"question": "Where?", "image": "x"}, 404), ({"question": ""}, 422)):
            assert client.post("/v1/ground", json=body, headers=EVENTS).status_code == status


# --------------------------------------------------------------------------------------------------- clients that leave


class Endless(ScriptedReasoner):
    """Writes until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(self.wait)
        self.started, self.stopped, self.open = threading.Event(), threading.Event(), threading.Event()

    def wait(self, request: Request, space: Space) -> str:
        self.started.set()
        assert self.open.wait(WAIT)
        return middle(request, space)

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        self.started.set()
        try:
            while not self.open.wait(0.01):
                yield "and so on "
        finally:
            self.stopped.set()


async def leave(app: Any, body: dict[str, Any], headers: dict[str, str], until: threading.Event) -> list[Any]:
    """Ask, and go away once `until` is set; what was sent by then."""
    sent: list[Any] = []
    content = json.dumps(body).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/ground",
        "raw_path": b"/v1/ground",
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ],
    }
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        while not until.is_set():
            await asyncio.sleep(0.01)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(app(scope, receive, send), WAIT)
    return sent


def test_the_model_stops_when_its_listener_leaves():
    reasoner = Endless()
    with serving(reasoner) as client:
        body = {"image": upload(client), "question": "Where?"}
        sent = asyncio.run(leave(client.app, body, EVENTS, reasoner.started))
        assert sent[0]["status"] == 200
        assert reasoner.stopped.wait(WAIT)
        assert "medground_clients_left_total 1.0" in client.get("/metrics").text
        # The lane goes on with the next question.
        reasoner.open.set()
        assert client.post("/v1/ground", json=body).status_code == 200


def test_what_waits_is_dropped_when_its_client_leaves():
    reasoner = Endless()
    with serving(reasoner, batch=1) as client:
        body = {"image": upload(client), "question": "Where?"}
        running = threading.Thread(target=client.post, args=["/v1/ground"], kwargs={"json": body})
        running.start()
        assert reasoner.started.wait(WAIT)
        queued = threading.Event()

        def note() -> None:
            while service_of(client).reasoning.waiting == 0:
                queued.wait(0.01)
            queued.set()

        watcher = threading.Thread(target=note)
        watcher.start()
        sent = asyncio.run(leave(client.app, body, {}, queued))
        watcher.join(WAIT)
        assert sent[0]["status"] == 499
        assert service_of(client).reasoning.waiting == 0
        reasoner.open.set()
        running.join(WAIT)
        assert client.post("/v1/ground", json=body).status_code == 200
        assert reasoner.batches == [1, 1]  # what was dropped was never asked


def test_a_silent_stream_is_kept_open(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "_PING_SECONDS", 0.05)
    reasoner = Endless()
    with serving(reasoner) as client:
        body = {"image": upload(client), "question": "Where?", "mode": "direct"}
        opener = threading.Timer(0.4, reasoner.open.set)
        opener.start()
        text = client.post("/v1/ground", json=body, headers=EVENTS).text
        assert text.startswith(": waiting\n\n")
        assert events(text)[-1][0] == "error"

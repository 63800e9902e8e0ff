"""What the servers' guard does beside what tests/test_review_app.py and tests/test_serve_app.py see of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from medground import web_guard
from medground.web_guard import NO_TELEMETRY, Guard

TOKENS = ("a-token-of-some-length", "another-token-as-long")


def made(tokens: tuple[str, ...] = TOKENS) -> Guard:
    app = FastAPI(telemetry=NO_TELEMETRY)

    @app.get("/caller")
    def caller(request: Request) -> str:
        return request.state.caller

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    return Guard(app, tokens=tokens, public={"/open"}, bodies={"application/json": 100, "text/plain": 1000})


def client(guard: Guard) -> TestClient:
    return TestClient(guard, base_url="http://127.0.0.1")


def test_each_token_is_a_caller_by_header_or_cookie():
    guard = made()
    seen = []
    for token in TOKENS:
        by_header = client(guard).get("/caller", headers={"authorization": f"bearer {token}"}).json()
        cookie = guard.cookie(token).partition(";")[0]
        assert token not in cookie
        assert client(guard).get("/caller", headers={"cookie": f"other=1; {cookie}"}).json() == by_header
        assert token not in by_header
        seen.append(by_header)
    assert len({*seen, ""}) == 3
    strange = guard.cookie("no token at all").partition(";")[0]
    assert client(guard).get("/caller", headers={"cookie": strange}).status_code == 401
    assert client(made(())).get("/caller").json() == ""


def test_a_cookie_of_another_run_opens_nothing():
    cookie = made().cookie(TOKENS[0]).partition("=")[2].partition(";")[0]
    guard = made()
    name = guard.cookie(TOKENS[0]).partition("=")[0]
    assert client(guard).get("/caller", headers={"cookie": f"{name}={cookie}"}).status_code == 401


@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [
        *(("application/json", 100, 200), ("application/json", 101, 413), ("text/plain", 1000, 200)),
        *(("text/plain; charset=utf-8", 1001, 413), ("image/png", 1, 415)),
    ],
)
def test_each_kind_of_body_has_its_bound(kind: str, size: int, status: int):
    for content in (b"x" * size, iter([b"x"] * size)):
        assert client(made(())).post("/length", content=content, headers={"content-type": kind}).status_code == status


def test_a_body_without_a_kind_is_refused_unless_it_is_empty():
    guard = made(())
    assert client(guard).post("/length").json() == 0
    assert client(guard).post("/length", content=b"x").status_code == 415
    assert client(guard).post("/length", content=iter([b"x"])).status_code == 415


def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web_guard, "_IDLE_SECONDS", 0.05)
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"x", "more_body": True}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await asyncio.sleep(60)
        raise AssertionError("it was waited for")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/length",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"text/plain"), (b"content-length", b"9")],
    }
    asyncio.run(asyncio.wait_for(made(())(scope, receive, send), 20))
    assert sent[0]["status"] == 408


def test_websockets_are_closed():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(made(())({"type": "websocket"}, send, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]

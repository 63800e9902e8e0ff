"""A real HTTP server on this machine that speaks the chat-completions wire, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Answers each POST with what `reply` makes of its body; keeps what it saw."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply: Callable[[Handler, dict[str, Any]], None] = lambda handler, body: handler.say("hello")
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            if self.path != "/v1/chat/completions":
                self.send_json({"error": {"message": "no such path"}}, 404)
            else:
                self.server.reply(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def send(self, data: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def send_json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(value).encode(), "application/json", status, headers)

    def say(self, text: str | None, finish: str = "stop", usage: tuple[int, int] | None = None, **extra: Any) -> None:
        message = {"role": "assistant", "content": text} | extra
        choice = {"index": 0, "finish_reason": finish, "message": message}
        said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        if usage is not None:
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            said["usage"] = dict(zip(names, (*usage, sum(usage)), strict=True))
        self.send_json(said)

    def say_in_pieces(self, deltas: list[dict[str, str]], *, end: bool = True, wait: float = 0.0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        events: list[Any] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        if end:
            events.append({"index": 0, "delta": {}, "finish_reason": "stop"})
        for event in events:
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [event]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(wait)
        if end:
            usage = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
            self.wfile.write(f"data: {json.dumps(usage)}\n\ndata: [DONE]\n\n".encode())

    def log_message(self, *_: Any) -> None:
        pass

"""What a request must be before the page answers it: meant for this server, from this page, from who may see it."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

__all__ = ["Guard", "host_name", "is_loopback"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Server = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",  # pictures of patients stay out of the browser's files
}

_log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_name(header: str) -> str:
    """Return the host in a Host header, without its port and brackets, in small letters.

    Examples
    --------
    >>> host_name("LocalHost:8765"), host_name("[::1]:8765"), host_name("10.0.0.7")
    ('localhost', '::1', '10.0.0.7')
    """
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].rstrip(".")


class Guard:
    """An ASGI server that lets a request through to another, or answers it with the reason why not.

    - The Host header must name an address, or one of `names`: a page of another site whose name was made to lead here
      (DNS rebinding) has that site's name in it.
    - A request that changes something must come from the page itself: JSON, and with no foreign Origin.
    - With a token, all but `public` paths need it, as a bearer token or as the cookie that `cookie` makes; compared in
      constant time.
    - A body must be small. An error says what it is and where in a log, never with what values.

    Parameters
    ----------
    app : ASGI server
    names : collection of str
        Host names by which the server is known.
    token : str or None
        Without one, whoever reaches the server may use it.
    public : collection of str
        Paths that need no token: they hold nothing of the data.
    max_body : int
        Bytes.
    """

    def __init__(
        self,
        app: Server,
        *,
        names: Collection[str] = (),
        token: str | None = None,
        public: Collection[str] = (),
        max_body: int = 1 << 16,
    ) -> None:
        self._app = app
        self._names = {name.lower() for name in names} | {"localhost"}
        self._token = token
        self._public = frozenset(public)
        self._max_body = max_body
        # The cookie holds a secret of this run, not the token; its own name keeps it apart from one of another port.
        self._cookie, self._secret = f"review_{secrets.token_hex(4)}", secrets.token_urlsafe(32)

    def knows(self, token: str) -> bool:
        """Whether this is the token; true where none is needed."""
        return self._token is None or _same(token, self._token)

    def cookie(self) -> str:
        """Return the Set-Cookie header for who has shown the token."""
        return f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refused = self._refuse(scope, headers)
        body: bytes | None = b""
        if refused is None:
            body = await self._body(receive, headers)
            if body is None:
                refused = 413, f"the body is over {self._max_body:,} bytes"
        if refused is not None:
            await _say(answer, *refused)
            return
        try:
            await self._app(scope, _replay(body or b"", receive), answer)
        except Exception as error:
            # Its text may quote a question, so only its kind and place are logged.
            _log.error("%s in %s", type(error).__name__, _place(error))
            if not started:
                await _say(answer, 500, "a fault of medground's; the server's log says where")

    def _refuse(self, scope: Message, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._is_ours(host_name(hosts[0])):
            return 400, "this server isn't known by that name; use its address, or start it with that name as --host"
        if scope["method"] not in ("GET", "HEAD"):
            origins = headers.get("origin", [])
            site = headers.get("sec-fetch-site", ["same-origin"])
            if any(origin.partition("://")[2].lower() != hosts[0].lower() for origin in origins) or site != [
                "same-origin"
            ]:
                return 403, "only this server's own page may change anything"
            kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "the body must be JSON, sent as application/json"
        if scope["path"] not in self._public and not self._may(headers):
            return 401, "this server needs the token that it printed when it was started"
        return None

    def _is_ours(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _may(self, headers: dict[str, list[str]]) -> bool:
        if self._token is None:
            return True
        for said in headers.get("authorization", []):
            kind, _, token = said.partition(" ")
            if kind.lower() == "bearer" and _same(token.strip(), self._token):
                return True
        for line in headers.get("cookie", []):
            try:
                cookie = SimpleCookie(line).get(self._cookie)
            except CookieError:
                continue
            if cookie is not None and _same(cookie.value, self._secret):
                return True
        return False

    async def _body(self, receive: Receive, headers: dict[str, list[str]]) -> bytes | None:
        for said in headers.get("content-length", []):
            if not said.isdecimal() or len(said) > 12 or int(said) > self._max_body:
                return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_body:
                return None
            if not message.get("more_body"):
                return bytes(body)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _say(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"

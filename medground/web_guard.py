"""What a request must be before a server of ours answers it: meant for it, of bearable size, from who may ask."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

__all__ = ["FAULT", "MIN_TOKEN", "NO_TELEMETRY", "Guard", "host_name", "is_loopback", "place"]

MIN_TOKEN = 16
"""The shortest token, in characters, that can't be guessed."""

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

FAULT = "a fault of medground's; the server's log says where"
"""What a client is told of an error that isn't its own."""

NO_TELEMETRY: dict[str, Any] = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
"""FastAPI's own telemetry, all of it off: it would tell a collector of what was asked."""

_IDLE_SECONDS = 30.0
"""How long a request's body may make the server wait for its next piece."""

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
    - A request that changes something must come from this server's own page or from no page at all: no foreign Origin,
      and, where it has a body, a media type of `bodies`.
    - With tokens, all but `public` paths need one, as a bearer token or as the cookie that `cookie` makes; compared in
      constant time. ``request.state.caller`` tells whose it was, by a digest; it is empty where none is needed.
    - A body must be small, as announced and as it comes in, and mustn't stall. An error says what it is and where in a
      log, never with what values.

    Parameters
    ----------
    app : ASGI server
    names : collection of str
        Host names by which the server is known.
    tokens : collection of str
        Without one, whoever reaches the server may use it.
    public : collection of str
        Paths that need no token: they hold nothing of the data.
    bodies : mapping of str to int
        How many bytes a body may have, by its media type.
    """

    def __init__(
        self,
        app: Server,
        *,
        names: Collection[str] = (),
        tokens: Collection[str] = (),
        public: Collection[str] = (),
        bodies: Mapping[str, int] | None = None,
    ) -> None:
        self._app = app
        self._names = {name.lower() for name in names} | {"localhost"}
        self._tokens = tuple(tokens)
        self._public = frozenset(public)
        self._bodies = dict(bodies or {"application/json": 1 << 16})
        # A cookie holds a secret of this run, not the token; its own name keeps it apart from one of another port.
        self._cookie = f"medground_{secrets.token_hex(4)}"
        self._secrets = tuple(secrets.token_urlsafe(32) for _ in self._tokens)

    def knows(self, token: str) -> bool:
        """Whether this is a token; true where none is needed."""
        return not self._tokens or _which(token, self._tokens) is not None

    def cookie(self, token: str) -> str:
        """Return the Set-Cookie header for who has shown this token."""
        which = _which(token, self._tokens)
        secret = secrets.token_urlsafe(32) if which is None else self._secrets[which]
        return f"{self._cookie}={secret}; Path=/; HttpOnly; SameSite=Strict"

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
        if refused is not None:
            await _say(answer, *refused)
            return
        try:
            await self._app(scope, _bounded(receive, self._limit(headers)), answer)
        except Exception as error:
            # Its text may quote a question, so only its kind and place are logged.
            _log.error("%s in %s", type(error).__name__, place(error))
            if not started:
                await _say(answer, 500, FAULT)

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
            lengths = headers.get("content-length", [])
            if (lengths and lengths != ["0"]) or "transfer-encoding" in headers or "content-type" in headers:
                limit = self._limit(headers)
                if not limit:
                    return 415, f"the body must be of type {' or '.join(self._bodies)}"
                if any(not said.isdecimal() or len(said) > 12 or int(said) > limit for said in lengths):
                    return 413, f"the body is over {limit:,} bytes"
        caller = self._caller(headers)
        if caller is None and scope["path"] not in self._public:
            return 401, "this server needs the token that it printed when it was started"
        scope.setdefault("state", {})["caller"] = caller or ""
        return None

    def _limit(self, headers: dict[str, list[str]]) -> int:
        kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
        return self._bodies.get(kind, 0)

    def _is_ours(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    def _caller(self, headers: dict[str, list[str]]) -> str | None:
        """Return whose request it is, empty where nobody needs a token; None for those who lack it."""
        if not self._tokens:
            return ""
        which = None
        for said in headers.get("authorization", []):
            kind, _, token = said.partition(" ")
            if kind.lower() == "bearer":
                which = _which(token.strip(), self._tokens)
        for line in headers.get("cookie", []) if which is None else ():
            try:
                cookie = SimpleCookie(line).get(self._cookie)
            except CookieError:
                continue
            if cookie is not None and which is None:
                which = _which(cookie.value, self._secrets)
        return None if which is None else hashlib.sha256(self._secrets[which].encode()).hexdigest()[:16]


def _which(said: str, known: Collection[str]) -> int | None:
    """Return which of the known secrets this is; each of them is looked at, in constant time."""
    given = said.encode("utf-8", "surrogatepass")
    same = [hmac.compare_digest(given, secret.encode("utf-8", "surrogatepass")) for secret in known]
    return same.index(True) if any(same) else None


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that raises an answer to the client where a body grows over its limit, or stalls."""
    from starlette.exceptions import HTTPException

    count, more = 0, True
    closing = {"connection": "close"}  # else the server would go on reading what never ends

    async def bounded() -> Message:
        nonlocal count, more
        try:
            async with asyncio.timeout(_IDLE_SECONDS if more else None):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "the rest of the body didn't come; send it again", headers=closing) from None
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            more = bool(message.get("more_body"))
            if count > limit:
                raise HTTPException(413, f"the body is over {limit:,} bytes", headers=closing)
        return message

    return bounded


async def _say(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def place(error: BaseException) -> str:
    """Return the file and line in which an error was raised, which a log may hold."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"

"""Serve the page: bind, check who may, run."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medground.data.review.decisions import DecisionLog
from medground.data.review.records import Records
from medground.errors import ConfigError, MissingExtraError
from medground.web_guard import MIN_TOKEN, is_loopback
from medground.web_listen import address, listen

__all__ = ["serve"]


def serve(
    out: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: str | None = None,
    reviewer: str = "",
    check: Callable[[Mapping[str, Any]], str | None] | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the review page of a build until it is interrupted.

    The page shows each question record of ``OUT/ask`` with its picture; what people decide is appended to
    ``OUT/review.jsonl``. Nothing of the data is written to a log, and the page asks nothing of any other server.

    Parameters
    ----------
    out : path
        The folder of the build.
    host : str
        Address or name to listen on. Any but this machine's own (127.0.0.1, ::1, localhost) demands a token. There is
        no encryption: between machines, use a tunnel.
    port : int
        0 takes a free one.
    token : str, optional
        At least 16 characters; a random one is made where one is needed and none given.
    reviewer : str
        What the page calls its user at first.
    check : callable, optional
        Tells why an edited record can't be in the set, or None; `medground.data.gates.refuse` by default.
    ready : callable, optional
        Is given the page's address, with the token in its fragment, which browsers don't send.

    Raises
    ------
    ConfigError
        The build can't be read, another review is writing there, or the address can't be listened on.
    MissingExtraError
        FastAPI or uvicorn isn't installed.
    """
    try:
        import uvicorn

        from medground.data.review.app import create_app
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", extra="serve", purpose="the review page") from error
    if token is not None and len(token) < MIN_TOKEN:
        raise ConfigError(
            f"--token: {len(token)} characters can be guessed; give at least {MIN_TOKEN}, or leave it out"
        )
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    if check is None:
        from medground.data.gates import refuse as check
    records = Records(out)
    with DecisionLog(Path(out) / "review.jsonl") as log, listen(host, port) as listener:
        app = create_app(
            records,
            log,
            check=check,
            name=Path(out).resolve().name,
            token=token,
            hosts={host, socket.gethostname(), socket.getfqdn()} if not is_loopback(host) else (),
            reviewer=reviewer,
        )
        # Access logs hold what was asked for; errors are logged by the guard, without their values.
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="error",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        if ready is not None:
            ready(address(host, listener.getsockname()[1], token))
        with contextlib.suppress(KeyboardInterrupt):  # the way to stop it
            uvicorn.Server(config).run(sockets=[listener])

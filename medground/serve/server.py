"""Serve: load the models, bind, run, and end in order."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from medground.errors import ConfigError, MissingExtraError
from medground.serve.limits import Limits
from medground.web_guard import MIN_TOKEN, is_loopback
from medground.web_listen import address, listen

if TYPE_CHECKING:
    from medground.pipeline import MedGround

__all__ = ["serve"]


def serve(
    grounder: MedGround,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    tokens: Sequence[str] = (),
    limits: Limits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page and the API until it is interrupted.

    Models are loaded first, so that what is wrong with them shows at once. On the way out, what runs is finished, what
    waits gets 503, and uploads are forgotten; nothing was ever written to a disk.

    Parameters
    ----------
    grounder : MedGround
        Give it ``embeddings`` for as many images as are asked about at a time.
    host : str
        Address or name to listen on. Any but this machine's own (127.0.0.1, ::1, localhost) demands a token. There is
        no encryption: between machines, use a tunnel or a proxy.
    port : int
        0 takes a free one.
    tokens : sequence of str
        At least 16 characters each; one for each user, whose uploads are then apart. A random one is made where one is
        needed and none given.
    limits : Limits, optional
    ready : callable, optional
        Is given the page's address, with the first token in its fragment, which browsers don't send.

    Raises
    ------
    ConfigError
        A token is too short, or the address can't be listened on.
    MissingExtraError
        FastAPI, uvicorn or another package of the extra isn't installed.
    ReasonerError, SegmenterError
        A model can't be loaded.
    """
    try:
        import python_multipart  # noqa: F401
        import uvicorn

        from medground.serve.app import create_app
        from medground.serve.connections import Connection
        from medground.serve.service import Service
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", extra="serve", purpose="the server") from error
    for token in tokens:
        if len(token) < MIN_TOKEN:
            raise ConfigError(
                f"--token: {len(token)} characters can be guessed; give at least {MIN_TOKEN}, or leave it out"
            )
    if not tokens and not is_loopback(host):
        tokens = (secrets.token_urlsafe(24),)
    with listen(host, port) as listener:
        grounder.reasoner, grounder.segmenter  # noqa: B018  loaded now
        service = Service(grounder, limits)
        hosts = {host, socket.gethostname(), socket.getfqdn()} if not is_loopback(host) else ()
        config = uvicorn.Config(
            create_app(service, tokens=tokens, hosts=hosts),
            http=Connection,  # h11 bounds headers
            access_log=False,  # ours holds no path and no query
            log_level="error",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=256,
            timeout_graceful_shutdown=30,
        )

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                service.close()  # first, so that those who wait are told and their connections end
                await super().shutdown(sockets)

        if ready is not None:
            ready(address(host, listener.getsockname()[1], tokens[0] if tokens else None))
        try:
            with contextlib.suppress(KeyboardInterrupt):  # the way to stop it
                Server(config).run(sockets=[listener])
        finally:
            service.end()

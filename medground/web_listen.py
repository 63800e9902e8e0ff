"""Where a server of ours listens, and how its page is reached there."""

from __future__ import annotations

import socket

from medground.errors import ConfigError

__all__ = ["address", "listen"]


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    Raises
    ------
    ConfigError
        When the address can't be listened on.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port: {port} is no port; give 1 to 65535, or 0 for a free one")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host: can't listen on {host}: {error.strerror or error}; give an address") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"can't listen on {host}, port {port}: {error.strerror or error}; give another --port"
        ) from error
    return listener


def address(host: str, port: int, token: str | None) -> str:
    """Return where to open a page, with the token in the fragment, which browsers don't send.

    Examples
    --------
    >>> address("127.0.0.1", 8000, None), address("::1", 8000, "secret")
    ('http://127.0.0.1:8000/', 'http://[::1]:8000/#token=secret')
    """
    if host in ("0.0.0.0", "::"):  # noqa: S104  only named here, to say how to reach it
        host = socket.gethostname()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"#token={token}" if token else "")

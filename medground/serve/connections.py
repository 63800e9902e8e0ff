"""HTTP connections that don't stay open when nothing is asked over them."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["IDLE_SECONDS", "Connection"]

IDLE_SECONDS = 15.0
"""How long a request's first lines may take to come in, and what is left of a body whose request is answered."""


class Connection(H11Protocol):
    """uvicorn's own, which waits for a request without end: few idle clients would lock everybody else out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at it from time to time."""
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._look, self)

    def _look(self, before: Any) -> None:
        if self.transport.is_closing():
            return
        answered = self.cycle is None or self.cycle.response_complete
        if answered and before is (self.cycle or self):  # and it was so when it was last looked at
            self.transport.abort()
            return
        self.loop.call_later(IDLE_SECONDS, self._look, (self.cycle or self) if answered else None)

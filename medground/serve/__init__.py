"""The server: a page and an HTTP API in front of one `MedGround`."""

from __future__ import annotations

from medground.serve.limits import Limits
from medground.serve.server import serve

__all__ = ["Limits", "serve"]

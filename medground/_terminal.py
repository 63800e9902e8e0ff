"""What commands show on a terminal: text that can't steer it, a sign of work, and options that several read alike."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterator
from typing import Any

from medground.errors import ConfigError

__all__ = ["as_text", "plain", "window", "working"]


def plain(text: str) -> str:
    """Return text without the control characters by which a model or a file name could steer a terminal."""
    return "".join(
        sign if sign in "\n\t" or unicodedata.category(sign) not in ("Cc", "Cf", "Cs") else "\ufffd" for sign in text
    ).strip()


def as_text(words: str) -> Any:
    """Return words as rich shows them: plain, with no markup read in them."""
    from rich.text import Text

    return Text(plain(words))


@contextlib.contextmanager
def working(what: str, quiet: bool = False) -> Iterator[None]:
    """Say on a terminal that something is under way, for as long as this lasts."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def window(text: str | None) -> tuple[float, float] | None:
    """Read CENTRE,WIDTH of an option.

    Raises
    ------
    ConfigError
        When it is something else.

    Examples
    --------
    >>> window("-600,1500")
    (-600.0, 1500.0)
    """
    if text is None:
        return None
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--window {text!r} isn't CENTRE,WIDTH; write it like --window=40,400") from None
    return centre, width

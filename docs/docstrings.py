"""From a NumPy docstring to Markdown that GitHub renders, formulas included."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.M)
_BLOCK = re.compile(r"^\.\. math::[ ]?(.*)\n((?:[ ]{4}.*\n|\n(?=[ ]{4}))*)", re.M)
_ARXIV = re.compile(r"arXiv\s(\d{4}\.\d{5})")
_CITED = re.compile(r"\(([^()]*\b(?:[12]\d{3}|arXiv\s\d{4}\.\d{5}))\)|Source:\s+([\w-]+)")
_SOURCE = re.compile(r"\s*Source:\s+[^.]+\.")
_SAME = re.compile(r"^Parameters, errors: .*\n?", re.M)


@dataclass(frozen=True)
class Doc:
    """A function's documentation, as Markdown.

    Parameters
    ----------
    text : str
        Everything before the first heading, without "Return" at its start.
    hacking : str or None
        The sentences after "Hacking:" in the notes.
    sources : tuple of str
        The papers that the text cites.
    """

    text: str
    hacking: str | None
    sources: tuple[str, ...]


def read(thing: Any) -> Doc:
    """Read the docstring of a function."""
    raw = inspect.getdoc(thing)
    if not raw:
        raise ValueError(f"{thing!r} has no docstring")
    first, *rest = _HEADING.split(raw)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    _, found, hacking = sections.get("Notes", "").partition("Hacking:")
    sources = dict.fromkeys(" ".join((one or other).split()) for one, other in _CITED.findall(first))
    return Doc(
        text=markdown(_opened(_SAME.sub("", _SOURCE.sub("", first)).removeprefix("Return "))),
        hacking=_opened(markdown(hacking)) if found else None,
        sources=tuple(linked(source) for source in sources),
    )


def notes(thing: Any) -> str:
    """Return a docstring's notes as Markdown, without what "Hacking:" says."""
    _, _, said = str(inspect.getdoc(thing)).partition("Notes\n-----\n")
    return markdown(said.partition("\n\nExamples\n---")[0].partition("Hacking:")[0])


def _opened(text: str) -> str:
    return text[:1].upper() + text[1:]


def markdown(text: str) -> str:
    r"""Turn a docstring's marks into Markdown's.

    Examples
    --------
    >>> print(markdown("With :math:`p^*` and ``<think>``, see `score`.\n\n.. math:: a = \\frac12\n\nEnd."))
    With $`p^*`$ and `<think>`, see `score`.
    <BLANKLINE>
    ```math
    a = \frac12
    ```
    <BLANKLINE>
    End.
    """

    def block(match: re.Match[str]) -> str:
        formula = match[1] or dedent(match[2]).strip()
        return f"```math\n{formula}\n```\n" + "\n" * match[2].endswith("\n\n")

    text = _BLOCK.sub(block, text.strip() + "\n")
    formulas: list[str] = []

    def kept(match: re.Match[str]) -> str:
        formulas.append(match[1])
        return f"\0{len(formulas) - 1}\0"

    text = re.sub(r":math:`([^`]+)`", kept, text)
    text = text.replace("``", "`") if "```" not in text else re.sub(r"(?<!`)``(?!`)", "`", text)
    return linked(re.sub(r"\0(\d+)\0", lambda match: f"$`{formulas[int(match[1])]}`$", text)).strip()


def linked(text: str) -> str:
    """Link the arXiv numbers of a text.

    Examples
    --------
    >>> linked("DAPO, arXiv 2503.14476")
    'DAPO, [arXiv 2503.14476](https://arxiv.org/abs/2503.14476)'
    """
    return _ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)

"""A report's page: tables as HTML, and the template with its parts, style and script in one file."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from medground import RESEARCH_USE
from medground.evaluate.cells import Cell, Column, Table, number

__all__ = ["Part", "figure_html", "page", "table_html"]

_HERE = Path(__file__).parent
_BROAD = 12
"""Columns that fit on a sheet of paper upright."""


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page.

    Parameters
    ----------
    name : str
        Its anchor.
    short : str
        What the list of sections calls it.
    title, content : str
        The latter HTML.
    tables : tuple of Table
        Those in it, for the Markdown file.
    """

    name: str
    short: str
    title: str
    content: str
    tables: tuple[Table, ...] = ()


def table_html(table: Table) -> str:
    """Return a table as HTML: each figure over its interval; the best of several models in bold."""
    heads = "".join(_head(column) for column in table.columns)
    corner = f"<th scope=col>{html.escape(table.corner)}</th>"
    groups = ""
    if any(column.group for column in table.columns):
        spans = [(name, len(list(each))) for name, each in groupby(table.columns, lambda column: column.group)]
        cells = "".join(
            f"<th scope=colgroup colspan={count}><span>{html.escape(name)}</span></th>"
            if name
            else f"<td colspan={count}></td>"
            for name, count in spans
        )
        groups = f"<tr class=groups><th></th>{cells}</tr>"
    best = _best(table)
    kinds = "scroll broad" if len(table.columns) > _BROAD else "scroll"
    body = []
    kind = table.lines[0].kind if table.lines else ""
    for at, line in enumerate(table.lines):
        names = [line.kind, *(["first"] if line.kind != kind and line.kind != "total" else [])]
        kind = line.kind
        cells = "".join(
            _cell(value, column, (at, place) in best)
            for place, (value, column) in enumerate(zip(line.cells, table.columns, strict=True))
        )
        told = " ".join(filter(None, names))
        body.append(f'<tr class="{told}"><th scope=row>{html.escape(line.name)}</th>{cells}</tr>')
    return (
        f'<div class="{kinds}" tabindex=0 role=region aria-label="{html.escape(table.title)}"><table>'
        f"<caption class=unseen>{html.escape(table.title)}</caption>"
        f"<thead>{groups}<tr>{corner}{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def figure_html(found: Cell) -> str:
    """Return a figure with its interval as HTML for a sentence.

    Examples
    --------
    >>> figure_html(Cell(0.5, 0.4, 0.6, 9)), figure_html(Cell(0.5, 0.5, 0.5, 1)), figure_html(Cell(0, 0, 0, 0))
    ('<b>0.50</b> (95 % interval 0.40 to 0.60)', '<b>0.50</b>', '–')
    """
    if not found.n:
        return "–"
    interval = f" (95 % interval {found.low:.2f} to {found.high:.2f})" if found.low < found.high else ""
    return f"<b>{found.value:.2f}</b>{interval}"


def _head(column: Column) -> str:
    title = html.escape(column.title)
    if not column.told:
        return f"<th scope=col>{title}</th>"
    return f'<th scope=col><abbr title="{html.escape(column.told)}">{title}</abbr></th>'


def _cell(value: Cell | str | int, column: Column, best: bool) -> str:
    if isinstance(value, int):
        return f"<td>{value:,}</td>"
    if isinstance(value, str):
        return f"<td>{html.escape(value)}</td>"
    if math.isnan(value.value):
        return "<td class=none>–</td>"
    middle = number(value.value, column)
    low, high = number(value.low, column), number(value.high, column)
    told = f"{low} to {high}" if column.signed else f"{low}–{high}"
    interval = f"<span class=ci>{told}</span>" if value.low < value.high else ""
    # A difference whose interval leaves out 0 is one to look at.
    kind = " class=best" if best else " class=sure" if column.signed and (value.low > 0 or value.high < 0) else ""
    return f"<td{kind}>{middle}{interval}</td>"


def _best(table: Table) -> set[tuple[int, int]]:
    models = [at for at, line in enumerate(table.lines) if line.kind == "model"]
    if len(models) < 2:
        return set()
    found = set()
    for place in range(len(table.columns)):
        values = [(each.value, at) for at in models if isinstance(each := table.lines[at].cells[place], Cell)]
        known = [each for each in values if not math.isnan(each[0])]
        if known:
            found |= {(at, place) for value, at in known if value == max(known)[0]}
    return found


def page(title: str, lead: str, parts: Sequence[Part]) -> str:
    """Return the page; `lead` is HTML. Its policy lets run and colour it what is in it, and nothing else."""
    style, script = ((_HERE / f"report.{ending}").read_text(encoding="utf-8") for ending in ("css", "js"))
    body = "\n".join(
        f'<section id="{part.name}" aria-labelledby="{part.name}-title"><h2 id="{part.name}-title">'
        f"{html.escape(part.title)}</h2>{part.content}</section>"
        for part in parts
    )
    filled = {
        "title": html.escape(title),
        "lead": lead,
        "notice": html.escape(RESEARCH_USE),
        "nav": "".join(f'<a href="#{part.name}">{html.escape(part.short)}</a>' for part in parts),
        "body": body,
        "style": style,
        "script": script,
        "style-hash": _digest(style),
        "script-hash": _digest(script),
    }
    template = (_HERE / "report.html").read_text(encoding="utf-8")
    return re.sub(rf"\{{({'|'.join(filled)})\}}", lambda match: filled[match[1]], template)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

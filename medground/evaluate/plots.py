"""Plots of a report as inline SVG: text stays text, colours are the page's, so they follow light, dark and print.

A plot is drawn for one width in CSS pixels and shown at that width at most, so its text has the size of the page's.
Each is drawn twice, for a wide screen and for a phone; the page shows one of them.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["NARROW", "WIDE", "Dot", "DotRow", "Series", "bars", "both", "dots", "legend", "lines"]

WIDE, NARROW = 680, 340
"""Of a plot on a wide screen and on a phone, in CSS pixels."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 10, 44
_ROW, _TALL_ROW, _LABEL, _COUNT, _STEP = 24, 42, 200, 52, 6


@dataclass(frozen=True, slots=True)
class Series:
    """A line.

    Parameters
    ----------
    name : str
    look : str
        A class of the page's style: ``s0`` to ``s5`` for models, ``b0`` to ``b3`` for baselines, ``oracle``, ``guide``.
    points : sequence of (x, y)
        From left to right.
    note : str
        What the legend says beside the name.
    shape : {"line", "dot", "square"}
        How it is drawn, and shown in the legend; baselines' dots are diamonds.
    """

    name: str
    look: str
    points: Sequence[tuple[float, float]] = ()
    note: str = ""
    shape: Literal["line", "dot", "square"] = "line"


@dataclass(frozen=True, slots=True)
class Dot:
    """A value on a row, with its interval (NaN where it has none)."""

    look: str
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class DotRow:
    """A row of a dot plot: its name, how many rows of data it is of, and its dots, of which the first is on top."""

    name: str
    n: int
    dots: tuple[Dot, ...]


def both(draw: Callable[[int], str], *, wide: int = WIDE) -> str:
    """Return a plot in two widths, each in a box of its class; `draw` takes the width in CSS pixels."""
    return f"<div class=wide>{draw(wide)}</div><div class=narrow>{draw(NARROW)}</div>"


def lines(series: Sequence[Series], *, across: str, up: str, alt: str, width: int, diagonal: bool = False) -> str:
    """Return lines, from 0 to 1 both ways.

    Parameters
    ----------
    series : sequence of Series
        The last one is drawn on top.
    across, up : str
        What the axes are.
    alt : str
        What the plot shows, for those who can't see it.
    width : int
        CSS pixels.
    diagonal : bool
        Whether the line of equality is drawn.
    """
    height = round(width * (0.56 if width > NARROW else 0.86))
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x(value: float) -> float:
        return round(_LEFT + value * (right - _LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - value * (bottom - _TOP), 1)

    parts = []
    for tick in range(6):
        at = tick / 5
        parts.append(f'<path class=grid d="M{_LEFT} {y(at)}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(at) + 4}" text-anchor=end>{_tick(at)}</text>')
        parts.append(f'<text x="{x(at)}" y="{bottom + 18}" text-anchor=middle>{_tick(at)}</text>')
    parts.append(f'<path class=axis d="M{_LEFT} {bottom}H{right}"/>')
    if diagonal:
        parts.append(f'<path class="line guide" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    for one in series:
        places = [(x(across_), y(up_)) for across_, up_ in one.points]
        if one.shape == "dot":
            parts += [f'<circle class="dot {one.look}" cx="{a}" cy="{b}" r="4"/>' for a, b in places]
        elif places:
            path = "L".join(f"{a} {b}" for a, b in places)
            parts.append(f'<path class="line {one.look}" d="M{path}"/>')
    middle = (bottom + _TOP) / 2
    parts.append(_name((_LEFT + right) / 2, height - 6, across))
    parts.append(_name(12, middle, up, f' transform="rotate(-90 12 {middle})"'))
    return _svg(width, height, alt, parts)


def dots(rows: Sequence[DotRow], *, across: str, alt: str, width: int, low: float = 0.0, high: float = 1.0) -> str:
    """Return a dot plot: rows down, values from `low` to `high` across, intervals as whiskers.

    Parameters
    ----------
    rows : sequence of DotRow
    across : str
        What the axis is.
    alt : str
        What the plot shows, for those who can't see it.
    width : int
        CSS pixels; on a narrow plot names stand above their dots.
    low, high : float
        The ends of the axis. A line is drawn at 0 where it lies between.
    """
    wide = width > NARROW
    left, row = (_LABEL, _ROW) if wide else (8, _TALL_ROW)
    right = width - (_COUNT if wide else 10)
    height = 22 + row * len(rows) + 40
    bottom = height - 40

    def x(value: float) -> float:
        return round(left + (min(max(value, low), high) - low) / (high - low) * (right - left), 1)

    parts = []
    for tick in range(6):
        at = low + tick / 5 * (high - low)
        parts.append(f'<path class=grid d="M{x(at)} 14V{bottom}"/>')
        parts.append(f'<text x="{x(at)}" y="{bottom + 16}" text-anchor=middle>{_tick(at)}</text>')
    if low < 0 < high:
        parts.append(f'<path class=axis d="M{x(0)} 14V{bottom}"/>')
    for number, one in enumerate(rows):
        y = 22 + row * number + (row / 2 if wide else row - 12)
        name = html.escape(one.name)
        if wide:
            parts.append(f'<text class=label x="{left - 14}" y="{y + 4}" text-anchor=end>{name}</text>')
            parts.append(f'<text x="{width - 2}" y="{y + 4}" text-anchor=end>{one.n}</text>')
        else:
            parts.append(f'<text class=label x="{left}" y="{y - 12}">{name}</text>')
            parts.append(f'<text x="{right}" y="{y - 12}" text-anchor=end>{one.n}</text>')
        for dot, up in reversed(list(zip(one.dots, _dodged(one.dots), strict=True))):
            if math.isnan(dot.value):
                continue
            if not math.isnan(dot.low):
                parts.append(f'<path class="whisker {dot.look}" d="M{x(dot.low)} {y + up}H{x(dot.high)}"/>')
            parts.append(_mark(dot.look, x(dot.value), y + up))
    if wide:
        parts.append(f'<text x="{width - 2}" y="10" text-anchor=end>rows</text>')
    parts.append(_name((left + right) / 2, height - 6, across))
    return _svg(width, height, alt, parts)


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, str, int]]]], *, alt: str, width: int) -> str:
    """Return bars of equal length, each cut into shares.

    Parameters
    ----------
    rows : sequence of (name, parts)
        Of a part its name, its look (``f0`` to ``f8``) and its count.
    alt : str
        What the plot shows, for those who can't see it.
    width : int
        CSS pixels.
    """
    row = 44
    parts = []
    for number, (name, shares) in enumerate(rows):
        top = row * number
        parts.append(f'<text class=label x="0" y="{top + 13}">{html.escape(name)}</text>')
        whole, at = max(1, sum(count for *_, count in shares)), 0
        for title, look, count in shares:
            left, right = (round(end / whole * width, 1) for end in (at, at + count))
            at += count
            told = html.escape(f"{title}: {count:,}, {count / whole:.1%}")
            parts.append(
                f'<rect class="bar {look}" x="{left}" y="{top + 19}" width="{max(right - left - 1, 0):.1f}" '
                f'height="18"><title>{told}</title></rect>'
            )
    return _svg(width, row * len(rows), alt, parts)


def _dodged(dots: Sequence[Dot]) -> list[float]:
    """Return how far each dot stands from its row's middle, so that no interval hides another."""
    count = sum(not math.isnan(dot.low) for dot in dots)
    places = iter(range(count))
    return [0.0 if math.isnan(dot.low) else _STEP * (next(places) - (count - 1) / 2) for dot in dots]


def legend(series: Sequence[Series], *, across: bool = False) -> str:
    """Return what the lines are called, as HTML; beside each other where `across`."""
    kind = "legend across" if across else "legend"
    return f'<ul class="{kind}">{"".join(map(_named, series))}</ul>'


def _named(one: Series) -> str:
    swatch = {
        "line": f'<path class="line {one.look}" d="M1 6H25"/>',
        "dot": _mark(one.look, 13, 6),
        "square": f'<rect class="bar {one.look}" x="8" y="0" width="12" height="12"/>',
    }[one.shape]
    note = f" <span>{html.escape(one.note)}</span>" if one.note else ""
    return (
        f'<li><svg viewBox="0 0 26 12" width="26" height="12" aria-hidden=true>{swatch}</svg>'
        f"{html.escape(one.name)}{note}</li>"
    )


def _mark(look: str, x: float, y: float) -> str:
    """Models are dots and blind baselines diamonds, so that no colour is needed to tell them apart."""
    if look.startswith("b"):
        return f'<path class="mark {look}" d="M{x} {y - 5}l5 5l-5 5l-5 -5z"/>'
    return f'<circle class="dot {look}" cx="{x}" cy="{y}" r="4.5"/>'


def _name(x: float, y: float, told: str, more: str = "") -> str:
    return f'<text class=name x="{x}" y="{y}" text-anchor=middle{more}>{html.escape(told)}</text>'


def _tick(value: float) -> str:
    return f"{value:.2g}".replace("-", "−") if abs(value) > 1e-9 else "0"


def _svg(width: int, height: int, alt: str, parts: Sequence[str]) -> str:
    told = html.escape(alt)
    return (
        f'<svg class=plot viewBox="0 0 {width} {height}" width="{width}" height="{height}" role=img '
        f'aria-label="{told}"><title>{told}</title>{"".join(parts)}</svg>'
    )

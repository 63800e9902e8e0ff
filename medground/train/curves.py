"""A run's log, and the page that shows it: one file without a script, which asks nothing of any network.

``OUT/log.jsonl`` has one JSON object a line, each with ``step``. A line of training has the trainer's figures by their
names beside it, a line of a check on validation rows has them under ``checkup``, and what a run was warned of is under
``notice``. A figure that isn't finite is null there and named under ``not_finite``.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from medground._io import make_folder, write_text
from medground.errors import ConfigError

__all__ = ["RunLog", "series", "write_page"]

MOST_GRIDS = 8
"""Grids of pictures on a page; of more, these are taken evenly, with the first and the last."""

_MOST_POINTS = 300
_GRID_WIDTH = 1400
_ABOUT = ("step", "epoch", "seconds", "notice", "checkup", "not_finite")


class RunLog:
    """``log.jsonl`` of a run's folder: lines are added at its end, whole, and no step stands there twice.

    Parameters
    ----------
    folder : path
        The run's folder; made when the first line is written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = RunLog(folder)
    ...     for step in (10, 20, 30):
    ...         log.add(step, loss=1 / step)
    ...     log.cut(20)  # the run was killed after step 30, and goes on from its checkpoint of step 20
    ...     log.add(30, loss=float("nan"))
    ...     [(line["step"], line["loss"]) for line in log.read()]
    [(10, 0.1), (20, 0.05), (30, None)]
    """

    def __init__(self, folder: str | Path) -> None:
        self.file = Path(folder) / "log.jsonl"

    def add(self, step: int, **values: Any) -> None:
        """Write a line.

        Raises
        ------
        ConfigError
            When it can't be written.
        """
        finite, bad = _finite(values)
        line = {"step": step, **finite} | ({"not_finite": sorted(bad)} if bad else {})
        make_folder(self.file.parent)
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise ConfigError(f"can't write {self.file}: {error.strerror or error}; free it or make room") from error

    def read(self) -> list[dict[str, Any]]:
        """Return all lines; a last one that a crash left half written is left out.

        Raises
        ------
        ConfigError
            When another line isn't a JSON object with a step.
        """
        if not self.file.is_file():
            return []
        lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        found = []
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
                if not isinstance(line.get("step"), int):
                    raise ValueError("without a step")
            except (ValueError, AttributeError) as error:
                if number == len(lines):
                    break
                raise ConfigError(f"{self.file}: line {number} isn't one of a run's log; remove it") from error
            found.append(line)
        return found

    def seconds(self) -> float:
        """Return how long the run's processes trained, up to the last line of each, checks included.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = RunLog(folder)
        ...     for step, since in ((10, 60.0), (20, 120.0), (30, 45.0)):  # another process from step 20 on
        ...         log.add(step, seconds=since)
        ...     log.seconds()
        165.0
        """
        spent = [float(line["seconds"]) for line in self.read() if "seconds" in line]
        ends = [now for now, then in zip(spent, [*spent[1:], 0.0], strict=True) if then < now]
        return sum(ends)

    def cut(self, step: int) -> None:
        """Forget all that is later than a step, from which the run is gone on with, and a half-written last line."""
        if self.file.is_file():
            kept = [line for line in self.read() if line["step"] <= step]
            write_text(self.file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def _finite(values: Mapping[str, Any], path: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the values with null for what isn't finite, and the names of what wasn't."""
    finite: dict[str, Any] = {}
    bad: list[str] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            finite[name], inner = _finite(value, f"{path}{name}.")
            bad += inner
        elif isinstance(value, float) and not math.isfinite(value):
            finite[name] = None
            bad.append(f"{path}{name}")
        else:
            finite[name] = value
    return finite, bad


def series(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return what a log has to plot: sections of curves, each a list of (step, value).

    Parameters
    ----------
    lines : sequence of dict
        As `RunLog.read` returns them.

    Returns
    -------
    dict of str to (dict of str to list)
        In the order of a page. Values that aren't numbers, or aren't finite, are left out; so are empty sections.

    Examples
    --------
    >>> series([{"step": 1, "loss": 0.5, "medground/box": 0.3}, {"step": 1, "checkup": {"box_iou": 0.25}}])
    ... # doctest: +NORMALIZE_WHITESPACE
    {'Validation': {'box_iou': [(1, 0.25)]}, 'Loss': {'loss': [(1, 0.5)]},
     'Reward by term': {'medground/box': [(1, 0.3)]}}
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {name: {} for name in [*dict(_SECTIONS), _OTHER]}
    for line in lines:
        for name, value in _flat(line.get("checkup") or {}):
            if name.rpartition("/")[2] != "rows":
                found["Validation"].setdefault(name, []).append((line["step"], value))
        for name, value in _flat({name: value for name, value in line.items() if name not in _ABOUT}):
            section = next((title for title, pattern in _SECTIONS if re.fullmatch(pattern, name)), _OTHER)
            found[section].setdefault(name, []).append((line["step"], value))
    return {title: curves for title, curves in found.items() if curves}


_OTHER = "Other figures"
_SECTIONS = (
    ("Validation", r"eval_.*"),
    ("Loss", r"loss|places|words|answers|.*_loss|mean_token_accuracy"),
    ("Reward", r"reward|reward_std|frac_reward_zero_std|rewards/.*"),
    ("Reward by term", r"(?!completions/|clip_ratio/|sampling/|profiling/|tools/)[\w.-]+/[\w.-]+"),
    ("Distance from the start", r"kl|entropy|clip_ratio/region_mean"),
    ("Length", r"completions/(?:mean_length|max_length|clipped_ratio|mean_terminated_length)"),
    ("Optimiser", r"learning_rate|grad_norm|step_time"),
)


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{path}{name}", float(value)


def write_page(folder: str | Path, *, title: str = "") -> Path:
    """Write ``curves.html`` of a run's folder: its curves, what it was warned of, and its pictures over time.

    The page is one file of plain HTML with inline SVG and embedded JPEG pictures; it follows the reader's choice of
    light or dark, and fits a phone.

    Parameters
    ----------
    folder : path
        Has ``log.jsonl``, and ``eval/step-NNNNNN.png`` or ``eval/visual-NNNNNN.png`` where checks were made.
    title : str
        The folder's name where it is empty.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ConfigError
        When there is nothing to show, or the page can't be written.
    """
    folder = Path(folder)
    lines = RunLog(folder).read()
    if not lines:
        raise ConfigError(f"{folder}: has no log.jsonl with a line; give the folder of a run that has begun")
    title = title or folder.resolve().name
    steps = max(line["step"] for line in lines)
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{steps} steps. Research use only, never a medical device.</p>"]
    notices = [line for line in lines if line.get("notice")]
    if notices:
        told = "".join(f"<li>step {line['step']}: {html.escape(str(line['notice']))}</li>" for line in notices)
        parts.append(f"<h2>What was noticed</h2><ul>{told}</ul>")
    others = ""
    for section, curves in series(lines).items():
        charts = "".join(_chart(name, curve) for name, curve in curves.items())
        if section == _OTHER:
            others = f"<details><summary>{section}</summary><div class=charts>{charts}</div></details>"
        else:
            parts.append(f"<h2>{section}</h2><div class=charts>{charts}</div>")
    for stem, what in (("step", "validation rows"), ("visual", "visual questions")):
        parts += _pictures(folder, stem, what)
    parts.append(others)
    page = folder / "curves.html"
    filled = {"title": html.escape(title), "body": "\n".join(parts)}
    write_text(page, re.sub(r"\{(title|body)\}", lambda match: filled[match[1]], _PAGE))
    return page


def _pictures(folder: Path, stem: str, what: str) -> list[str]:
    grids = sorted(folder.glob(f"eval/{stem}-*.png"))
    if not grids:
        return []
    last = len(grids) - 1
    picked = sorted({round(at * last / max(1, MOST_GRIDS - 1)) for at in range(MOST_GRIDS)}) if last else [0]
    parts = [f"<h2>The same {what} over time</h2><p>Orange box: answered; white box: true.</p>"]
    for at in picked:
        # A grid that can't be read is no reason to be without curves; the page says so in its place.
        step = int(re.sub(r"\D", "", grids[at].stem) or 0)
        shown = "<p>this picture can't be read</p>"
        with contextlib.suppress(OSError, ValueError, SyntaxError):
            shown = f'<img alt="answers at step {step}" src="data:image/jpeg;base64,{_jpeg(grids[at])}">'
        parts.append(f"<details{' open' * (at == last)}><summary>step {step}</summary>{shown}</details>")
    return parts


def _jpeg(file: Path) -> str:
    with Image.open(file) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_GRID_WIDTH, 8 * _GRID_WIDTH), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


def _chart(name: str, curve: Sequence[tuple[int, float]]) -> str:
    """Return one curve as an SVG; the axes say the first and last step and the least and greatest value."""
    points = _thinned(curve)
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    across, up = (last - first) or 1, (high - low) or 1
    places = [
        (60 + 252 * (step - first) / across, 94 - 84 * ((value - low) / up if high > low else 0.5))
        for step, value in points
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    ends = f"{_told(points[0][1])} at step {first}, {_told(points[-1][1])} at step {last}"
    label = html.escape(f"{name}: {ends}; {_told(low)} to {_told(high)}")
    line = f'<polyline points="{path}"/>' if len(points) > 1 else ""
    dot = f'<circle cx="{places[-1][0]:.1f}" cy="{places[-1][1]:.1f}" r="3"/>'
    levels = ((high, 14), (low, 97)) if high > low else ((low, 55),)
    marks = "".join(f'<text x="54" y="{y}" text-anchor="end">{_told(value)}</text>' for value, y in levels)
    return (
        f"<figure><figcaption><b>{html.escape(name)}</b> <span>{_told(points[-1][1])}</span></figcaption>"
        f'<svg viewBox="0 0 320 116" role="img" aria-label="{label}"><title>{label}</title>'
        f'<path class=axis d="M60 97H312"/>{line}{dot}{marks}'
        f'<text x="60" y="111">{first}</text><text x="312" y="111" text-anchor="end">{last}</text></svg></figure>'
    )


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return a curve of at most `_MOST_POINTS`: means of neighbours, the last point as it is."""
    each = -(-len(curve) // _MOST_POINTS)
    if each == 1:
        return list(curve)
    groups = [curve[at : at + each] for at in range(0, len(curve) - 1, each)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups] + [curve[-1]]


def _told(value: float) -> str:
    """Return a number in few characters.

    Examples
    --------
    >>> _told(0.0), _told(0.123456), _told(12345.6), _told(1e-6)
    ('0', '0.123', '12300', '1e-06')
    """
    short = f"{value:.3g}"
    return f"{float(short):.0f}" if "e+" in short and abs(value) < 1e7 else short


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --quiet: #59636e; --line: #0b62a8; --rule: #c9d1d9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --quiet: #9aa4af; --line: #56b4e9; --rule: #3a424c; }
}
body { margin: 0 auto; padding: 1rem; max-width: 1500px; color: var(--ink); background: var(--paper);
  font: 16px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .6rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(260px, 100%), 1fr)); gap: .8rem; }
figure { margin: 0; padding: .5rem .6rem; border: 1px solid var(--rule); border-radius: 6px; }
figcaption { display: flex; justify-content: space-between; gap: .5rem; font-size: .9rem; }
figcaption span { font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--quiet); font-size: 10px; }
polyline { fill: none; stroke: var(--line); stroke-width: 1.6; stroke-linejoin: round; }
circle { fill: var(--line); } .axis { stroke: var(--rule); }
summary { cursor: pointer; padding: .4rem 0; } img { max-width: 100%; height: auto; }
</style>
</head>
<body>
{body}
</body>
</html>
"""

"""The pictures of docs/results.md: curves of trainings, differences with their intervals, answers over time."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from plotting import LOOKS, STYLE
from result_arms import BASE, BOTH_TASKS, FEW, GAIN, by_itself

from medground.data.pixels import open_image
from medground.data.rows import Row
from medground.data.schema import read_rows
from medground.drawing import BOX, contact_sheet, png
from medground.images import MedicalImage

ROWS, CHECKS = 4, 5
"""Of the picture of answers over time: samples down, checks across, at most."""

TILE = 190
"""Longest side of one of its pictures."""

_CHECKED = {"box_iou": "box IoU", "box_iou_categories": "macro IoU", "dice": "Dice"}
_TRUE = (255, 255, 255)


def plots(told: dict[str, Any]) -> dict[str, bytes]:
    """Return the PNG files that the figures (`result_runs.gathered`) allow, by name."""
    found = {
        "validation": _validation(told["curves"], _ours(told["curves"], few=False)),
        "few-labels": _validation(told["curves"], _ours(told["curves"], few=True)),
        "terms": _terms(told["terms"]),
        "visual-terms": _terms(told["visual"]["terms"]) if told["visual"] else None,
        "differences": _differences(told["arms"]),
    }
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def _ours(curves: dict[str, Any], *, few: bool) -> list[str]:
    return [name for name in curves if name not in BOTH_TASKS and (name in FEW) is few]


def _figure(columns: int, rows: int, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(4.1 * columns, height * rows), layout="constrained", facecolor="white")


def _png(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110, metadata={"Software": None})
    return written.getvalue()


def _validation(curves: dict[str, Any], arms: Sequence[str]) -> bytes | None:
    """Draw the checks on validation rows against the time of training."""
    arms = [name for name in arms if len(curves[name]["steps"]) > 1]
    shown = [measure for measure in _CHECKED if any(measure in curves[name] for name in arms)]
    if not shown:
        return None
    import matplotlib

    alike = len({curves[name]["rows"] for name in arms}) == 1
    named = {name: name if alike else f"{name} ({curves[name]['rows']} rows)" for name in arms}
    with matplotlib.rc_context(STYLE):
        figure = _figure(len(shown), 1, 3.2)
        for axes, measure in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for name, look in zip(arms, cycle(LOOKS), strict=False):
                if measure in curves[name]:
                    values = np.array(curves[name][measure], np.float64)  # None, where there was no figure, is NaN
                    hours = np.array(curves[name]["seconds"]) / 3600
                    axes.plot(hours, values, **look, label=named[name], marker="o", markersize=3)
            axes.set_xlabel("hours of training")
            axes.set_title(f"{_CHECKED[measure]} on validation rows", fontsize=9)
        lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        figure.legend(handles=list(lines.values()), loc="outside lower left", ncols=4, fontsize=8)
        return _png(figure)


def _terms(terms: dict[str, Any]) -> bytes | None:
    """Draw what each term of the reward earned in training, one panel an arm."""
    if not terms:
        return None
    import matplotlib

    columns = min(2, len(terms))
    rows = -(-len(terms) // columns)
    with matplotlib.rc_context(STYLE):
        figure = _figure(columns, rows, 3.0)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, curves) in zip(panels, terms.items(), strict=False):
            for (term, curve), look in zip(curves.items(), cycle(LOOKS), strict=False):
                steps, values = zip(*curve, strict=True)
                axes.plot(steps, values, **look, label=term.partition("/")[2])
            axes.set_title(name, fontsize=9)
            axes.set_xlabel("step")
            axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        for axes in panels[len(terms) :]:
            axes.set_axis_off()
        return _png(figure)


def _differences(arms: dict[str, Any]) -> bytes | None:
    """Draw how far each arm is from supervision continued, with the intervals; fresh weights would be off the scale."""
    names = [
        name
        for name in arms
        if not by_itself(name)
        and name != "untrained"
        and any("against" in each for each in arms[name]["modes"].values())
    ]
    if not names:
        return None
    import matplotlib

    measures = {"box_iou": "box IoU", "dice": "Dice"}
    told = {"reason": "with reasoning", "direct": "without reasoning"}
    looks = {"reason": (-0.13, LOOKS[0]["color"], "o"), "direct": (0.13, LOOKS[1]["color"], "s")}
    modes = [mode for mode in looks if any("against" in arms[name]["modes"].get(mode, {}) for name in names)]
    with matplotlib.rc_context(STYLE):
        figure = _figure(len(measures), 1, 1.1 + 0.42 * len(names))
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axes, (measure, title) in zip(panels, measures.items(), strict=True):
            axes.axvline(0, color="#7f7f7f", linewidth=0.8)
            axes.axvline(GAIN, color="#7f7f7f", linewidth=0.8, linestyle=":")
            for at, name in enumerate(names):
                for mode in modes:
                    by, colour, marker = looks[mode]
                    value, low, high, _ = arms[name]["modes"].get(mode, {}).get("against", {}).get(measure, [None] * 4)
                    if value is None:
                        continue
                    axes.plot([low, high], [at + by] * 2, color=colour, linewidth=1.4)
                    axes.plot([value], [at + by], color=colour, marker=marker, markersize=4, linewidth=0)
            axes.set_xlabel(f"{title} less that of {BASE}")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.5, -0.5)
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=looks[mode][1], marker=looks[mode][2], markersize=4, label=told[mode])
            for mode in modes
        ]
        figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=8)
        return _png(figure)


# -- the same samples over time ---------------------------------------------------------------------------------------


def over_time(arm: Path, rows_file: Path | None) -> tuple[bytes, dict[str, Any]] | None:
    """Draw an arm's answers to the same validation rows, one line a row and one column a check.

    Pictures that anyone may hand on (CC0) are shown, no others.

    Parameters
    ----------
    arm : path
        The folder of its training.
    rows_file : path or None
        The validation rows; those that the run names, where they still lie there, by default.

    Returns
    -------
    (bytes, dict) or None
        The PNG, and what it shows. None without checks, rows, or pictures that may be shown.
    """
    found = sorted(arm.glob("eval/step-*.json"))
    if not found:
        return None
    settings = json.loads((arm / "run.json").read_bytes())["settings"]
    rows_file = rows_file or Path(settings["data"]["val"] or "")
    if not rows_file.exists() or rows_file == Path():
        return None
    checks = [json.loads(file.read_bytes()) for file in _evenly(found, CHECKS)]
    asked = {each["id"] for each in checks[-1]["each"]}
    free = [row for row in read_rows(rows_file) if row.id in asked and row.licence.startswith("CC0") and not row.absent]
    rows = _varied(free)[:ROWS]
    if not rows:
        return None
    root = Path(settings["data"]["root"] or (rows_file if rows_file.is_dir() else rows_file.parent))
    tiles = []
    for row in rows:
        image = open_image(row.image, root)
        for check in checks:
            each = next((one for one in check["each"] if one["id"] == row.id), None)
            tiles.append((_tile(row, image, each), _caption(check["step"], each)))
    sheet = contact_sheet(tiles, columns=len(checks), width=TILE, lines=1)
    return png(sheet), {
        "steps": [check["step"] for check in checks],
        "sources": sorted({row.source for row in rows}),
    }


def _varied(rows: Sequence[Row]) -> list[Row]:
    """Return rows with the first of each source, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for row in sorted(rows, key=lambda row: row.id):
        turns.append((seen[row.source], row.source, row))
        seen[row.source] += 1
    return [row for *_, row in sorted(turns, key=lambda turn: turn[:2])]


def _evenly(things: Sequence[Any], most: int) -> list[Any]:
    places = sorted({round(at) for at in np.linspace(0, len(things) - 1, min(most, len(things)))})
    return [things[place] for place in places]


def _caption(step: int, each: dict[str, Any] | None) -> str:
    iou = None if each is None else each["figures"].get("box_iou")
    return f"step {step}" + ("" if iou is None else f": {iou:.2f}")


def _tile(row: Row, image: MedicalImage, each: dict[str, Any] | None) -> Image.Image:
    """Draw the true box in white and the answered one in orange, in the size in which it is shown."""
    share = TILE / max(image.size)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    canvas = Image.fromarray(image.rgb).resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(canvas)
    true = row.truth().box
    said = None if each is None else each["bbox"]
    for corners, colour in ((None if true is None else true.to(image.space).xyxy, _TRUE), (said, BOX)):
        if corners is not None:
            x1, y1, x2, y2 = (value * share for value in corners)
            for line, ink in ((4, "black"), (2, colour)):
                pen.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=ink, width=line)
    return canvas


def arm_folder(folders: Sequence[Path], name: str | None) -> Path | None:
    """Return the folder of an arm's training, the first of its seeds; None where it has none."""
    wanted = re.compile(rf"{re.escape(name or '')}(@\d+)?")
    for folder in folders:
        for place in sorted(folder.iterdir()):
            if wanted.fullmatch(place.name) and (place / "run.json").is_file():
                return place
    return None

"""Small line plots as SVG files that come out the same on every run, and digests of what they show."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#8b5a9f", "#56b4e9", "#e69f00", "#000000", "#7f7f7f")
_DASHES = ("-", "--", ":", "-.")
LOOKS = tuple({"color": _COLOURS[at % 8], "linestyle": _DASHES[(at + at // 8) % 4]} for at in range(16))
"""Of lines: told apart with any colour vision (Okabe and Ito), and without colours."""

STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "medground",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
}
"""What matplotlib is told of every plot in the documents."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Parameters
    ----------
    across : str
        What x is.
    x : sequence of float
    lines : mapping of str to sequence of float
        For each name as many values as `x` has, NaN where there is none.
    logarithmic : bool
        Whether x is drawn so.
    """

    across: str
    x: Sequence[float]
    lines: dict[str, Sequence[float]]
    logarithmic: bool = False

    @classmethod
    def of(
        cls,
        across: str,
        x: npt.ArrayLike,
        lines: dict[str, Callable[[float], float]],
        *,
        logarithmic: bool = False,
    ) -> Panel:
        """Return the panel of some functions of x."""
        at = [float(each) for each in np.asarray(x)]
        return cls(across, at, {name: [float(f(each)) for each in at] for name, f in lines.items()}, logarithmic)


@dataclass(frozen=True)
class Plot:
    """One picture: what it shows in a sentence, for those who can't see it, and its panels."""

    alt: str
    panels: tuple[Panel, ...]

    def digest(self) -> str:
        """Return a digest of all that is drawn, values to 4 decimals: SVG files differ with matplotlib's version."""
        said = []
        for panel in self.panels:
            said.append(f"{panel.across} {panel.logarithmic}")
            for name, values in {"x": panel.x, **panel.lines}.items():
                said.append(f"{name} " + " ".join(f"{round(value, 4) + 0.0:.4f}" for value in values))
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]

    def svg(self) -> bytes:
        """Draw it."""
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context(STYLE):
            width = 4.1 if len(self.panels) == 1 else 3.4 * len(self.panels)
            figure = Figure(figsize=(width, 2.6), layout="constrained", facecolor="white")
            axes = figure.subplots(1, len(self.panels), sharey=True, squeeze=False)[0]
            names = dict.fromkeys(name for panel in self.panels for name in panel.lines)
            looks = dict(zip(names, LOOKS[: len(names)], strict=True))
            for each, panel in zip(axes, self.panels, strict=True):
                _draw(each, panel, looks)
            if len(looks) > 1:
                lines = {line.get_label(): line for each in axes for line in each.lines}
                figure.legend(handles=[lines[name] for name in looks], loc="outside upper left", ncols=4, fontsize=8)
            axes[0].set_ylabel("worth")
            written = io.BytesIO()
            figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
        # A hundredth of a point is finer than any screen; matplotlib ends lines of path data with spaces.
        short = re.sub(rb"(\d\.\d\d)\d+", rb"\1", written.getvalue())
        return b"\n".join(line.rstrip() for line in short.splitlines()) + b"\n"


def _draw(axes: Any, panel: Panel, looks: dict[str, dict[str, str]]) -> None:
    counts = len(panel.x) <= 20
    for name, values in panel.lines.items():
        axes.plot(panel.x, values, **looks[name], label=name, marker="o" if counts else None, markersize=3.5)
    top = max(float(np.nanmax(values)) for values in panel.lines.values())
    axes.set_ylim(-0.03, max(1.03, top * 1.03))
    axes.set_xlabel(panel.across)
    if counts:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.logarithmic:
        axes.set_xscale("log", base=2)
        low, high = np.log2(panel.x[0]), np.log2(panel.x[-1])
        ticks = [2.0**power for power in range(int(np.ceil(low)), int(np.floor(high)) + 1)]
        axes.set_xticks(ticks, [str(Fraction(tick)) for tick in ticks])
        axes.minorticks_off()

"""What no model at all scores, so that nobody is fooled by a task that is flat; and what a perfect box would.

A baseline stands where a reasoner stands, but is told the row: its category, and for the oracle its truth.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from medground.coords import Space
from medground.data.rows import Row
from medground.errors import ConfigError
from medground.images import MedicalImage
from medground.parsing import format_answer
from medground.reasoners import Completion
from medground.types import Box, Point

__all__ = ["BASELINES", "Baseline", "load_baseline"]

BASELINES = {
    "whole-image": "the whole picture",
    "centre": "the middle half of each side of the picture",
    "category-prior": "the mean box of the category's training rows, as shares of the picture",
    "random": "a box with corners drawn at random, the same for each row in every run",
    "oracle": "the true box, and absence told rightly: what is left is the segmenter's",
}
"""What each baseline answers, by name; a report prints these words."""

_Edges = tuple[float, float, float, float]
_MIDDLE: _Edges = (0.25, 0.25, 0.75, 0.75)


class Baseline:
    """Answers that come from no model, in the form of a reasoner's.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    place : callable
        Takes a row to a box as shares of its picture (x1, y1, x2, y2), or to None for a target said to be absent.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = Row(id="1", question="Where?", image=Picture(path="a.png"), image_size=(80, 40), box=(10, 20, 30, 40))
    >>> image = MedicalImage.from_array(np.zeros((40, 80), np.uint8))
    >>> load_baseline("centre").answer(row, image).text
    '<answer>{"bbox": [20, 10, 60, 30], "points_1": [30, 20], "points_2": [50, 20]}</answer>'
    """

    def __init__(self, name: str, place: Callable[[Row], _Edges | None]) -> None:
        self.name = name
        self._place = place

    def describe(self) -> dict[str, str]:
        """Return what decides the answers, for a report."""
        return {"name": self.name, "baseline": BASELINES[self.name]}

    def answer(self, row: Row, image: MedicalImage) -> Completion:
        """Return the answer about a row, in the picture's pixels: no reasoning, and points on the box's long axis.

        The oracle gives the true points where they are known.
        """
        space = image.space
        edges = self._place(row)
        if edges is None:
            return Completion(format_answer(None, (), space), space)
        box = Box(*edges, Space.unit()).to(space)
        points = row.truth().points if self.name == "oracle" else ()
        return Completion(format_answer(box, [p.to(space) for p in points] or _along(box), space), space)


def load_baseline(name: str, training: Iterable[Row] = ()) -> Baseline:
    """Return a baseline by name.

    Parameters
    ----------
    name : str
        One of `BASELINES`.
    training : iterable of Row
        For ``"category-prior"``: rows that aren't measured. A category without any gets the mean of all.

    Raises
    ------
    ConfigError
        When the name isn't known, or the prior has no training rows with a box.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name!r} isn't known; choose one of {', '.join(BASELINES)}")
    if name == "category-prior":
        means = _means(training)
        if not means:
            raise ConfigError("the category prior needs training rows with boxes; name the data set's training split")
        return Baseline(name, lambda row: means.get(row.category, means[""]))
    fixed: dict[str, Callable[[Row], _Edges | None]] = {
        "whole-image": lambda _: (0.0, 0.0, 1.0, 1.0),
        "centre": lambda _: _MIDDLE,
        "random": _random,
        "oracle": _true,
    }
    return Baseline(name, fixed[name])


def _means(rows: Iterable[Row]) -> Mapping[str, _Edges]:
    """Return each category's mean box as shares of the picture, and under "" the mean of all."""
    found: dict[str, list[_Edges]] = defaultdict(list)
    for row in rows:
        edges = _true(row)
        if edges is not None:
            for name in {row.category, ""}:
                found[name].append(edges)
    return {name: _edges(np.mean(edges, axis=0)) for name, edges in found.items()}


def _true(row: Row) -> _Edges | None:
    box = row.truth().box
    return None if box is None else box.to(Space.unit()).xyxy


def _random(row: Row) -> _Edges:
    chance = random.Random(row.id)  # noqa: S311 - a baseline, not a secret
    across, down = (sorted((chance.random(), chance.random())) for _ in range(2))
    return across[0], down[0], across[1], down[1]


def _edges(values: Iterable[float]) -> _Edges:
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2


def _along(box: Box) -> list[Point]:
    """Return the places at a quarter and three quarters of a box's long axis."""
    x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
    across, down = (box.width / 4, 0.0) if box.width >= box.height else (0.0, box.height / 4)
    return [Point(x - across, y - down, box.space), Point(x + across, y + down, box.space)]

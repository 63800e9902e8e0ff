"""The target that docs/rewards.md scores answers against, and answers to it, right and wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.images import MedicalImage
from medground.rewards import umrg
from medground.rewards.evidence import Facts, claims
from medground.rewards.truth import read_truth
from medground.segmenters import MaskPrediction, Prompt
from medground.types import Box, Mask, Point

SPACE = Space.pixels(840, 840)
"""The paper's frame, so that its terms and ours can be drawn on one axis."""

TRUTH = {"bbox_2d": [340, 360, 500, 480], "point_2d": [[380, 420], [460, 420]]}
"""The target of all plots: a box of 160 x 120 pixels in the middle, and two points 80 pixels apart."""

ANSWER = {"bbox": TRUTH["bbox_2d"], "points_1": TRUTH["point_2d"][0], "points_2": TRUTH["point_2d"][1]}
"""The right answer to it."""

CLAIMS = {
    "place": "It lies in the centre of the image.",
    "size": "It is small.",
    "brightness": "It is brighter than its surroundings.",
    "shape": "It is oval.",
    "parts": "It is in one piece.",
}
"""A sentence for each facet, true of the target."""

FALSE_CLAIMS = {
    "place": "It lies in the upper left of the image.",
    "size": "It is large.",
    "brightness": "It is darker than its surroundings.",
    "shape": "It is elongated.",
    "parts": "It has two parts.",
}
"""A sentence for each facet, false of it."""

FACTS = Facts.read({claim.facet: claim.value for claim in claims(" ".join(CLAIMS.values()))})

PRESENT = read_truth(TRUTH)


def _ring() -> Mask:
    y, x = np.mgrid[:840, :840] + 0.5
    return np.asarray((np.hypot(x - 420, y - 420) < 150) & (np.hypot(x - 420, y - 420) > 80))


RING = _ring()
"""A ring of 150 pixels' radius with a hole of 80 pixels' radius, in the middle of the picture."""

WHOLE = Box(0, 0, 840, 840, SPACE)


def moved(right: float, down: float = 0.0) -> Box:
    """Return the true box, moved."""
    x1, y1, x2, y2 = TRUTH["bbox_2d"]
    return Box(x1 + right, y1 + down, x2 + right, y2 + down, SPACE)


def scaled(factor: float) -> Box:
    """Return the true box with its sides `factor` times as long, about the same centre."""
    return Box(420 - 80 * factor, 420 - 60 * factor, 420 + 80 * factor, 420 + 60 * factor, SPACE)


def circles(apart: float, ratio: float = 1.0) -> list[Point]:
    """Return two points whose circle lies `apart` true radii to the right and is `ratio` times as large."""
    return [Point(420 + 40 * (apart - ratio), 420, SPACE), Point(420 + 40 * (apart + ratio), 420, SPACE)]


def written(**said: Any) -> str:
    """Return the right answer with some of it changed, after a reasoning that says nothing."""
    return f"<think>.</think><answer>{json.dumps(ANSWER | said)}</answer>"


def hard(**said: Any) -> dict[str, float]:
    """Return the terms of the paper's hard reward for the right answer with some of it changed."""
    return umrg.hard([written(**said)], [PRESENT])[0]


def base(**said: Any) -> dict[str, float]:
    """Return the terms of the paper's base reward for the right answer with some of it changed."""
    return umrg.base([written(**said)], [PRESENT])[0]


class Filling:
    """An expert without a model, for its plot alone: it fills the box."""

    name = "filling"
    trained_prompts = frozenset({"box"})

    def encode(self, image: MedicalImage) -> MedicalImage:
        """Return the image: there is nothing to encode."""
        return image

    def segment(self, image: MedicalImage, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Return each box as a mask."""
        return [MaskPrediction(filled(prompt.box, image.space), 1.0) for prompt in prompts if prompt.box]


def _grid(space: Space) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    y, x = np.mgrid[: int(space.height), : int(space.width)] + 0.5
    return x, y


def filled(inside: Box, space: Space) -> Mask:
    """Return a box as a mask of a picture of a space's size in pixels."""
    (x, y), (x1, y1, x2, y2) = _grid(space), inside.to(space).xyxy
    return np.asarray((x1 <= x) & (x < x2) & (y1 <= y) & (y < y2))


def ellipse(inside: Box, space: Space) -> Mask:
    """Return the ellipse that the sides of a box touch, as a mask of a picture of a space's size in pixels."""
    (x, y), (x1, y1, x2, y2) = _grid(space), inside.to(space).xyxy
    return np.asarray(((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 < 1)

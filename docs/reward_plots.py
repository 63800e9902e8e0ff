"""What each reward term is worth over its input: the plots of docs/rewards.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from plotting import Panel, Plot
from reward_scene import (
    CLAIMS,
    FACTS,
    FALSE_CLAIMS,
    PRESENT,
    RING,
    SPACE,
    TRUTH,
    Filling,
    base,
    circles,
    ellipse,
    filled,
    hard,
    moved,
    scaled,
)

from medground.coords import Space
from medground.images import MedicalImage
from medground.masks import box_of
from medground.metrics import dice
from medground.rewards import umrg_terms
from medground.rewards.box import box
from medground.rewards.evidence import evidence, honesty
from medground.rewards.guards import length, repetition
from medground.rewards.layout import Reading
from medground.rewards.mask import mask
from medground.rewards.points import points_dice, points_inside
from medground.rewards.thinkvg import ExtraMentions, consistency, grounding
from medground.rewards.thinkvg_reading import read_response
from medground.types import Box, Mask, Point

__all__ = ["plots"]

_SHIFT = np.linspace(-340, 340, 137)
_SCALE = 2.0 ** np.linspace(-3, 2.25, 106)


def _box_plot(alt: str, lines: dict[str, Callable[[Box], float]]) -> Plot:
    def over(place: Callable[[float], Box]) -> dict[str, Callable[[float], float]]:
        return {name: lambda x, term=term: term(place(x)) for name, term in lines.items()}

    return Plot(
        alt,
        (
            Panel.of("shift of the box to the right, pixels", _SHIFT, over(moved)),
            Panel.of("size of the box, times the true", _SCALE, over(scaled), logarithmic=True),
        ),
    )


def _paper_box(term: str) -> Callable[[Box], float]:
    return lambda placed: hard(bbox=list(placed.xyxy))[term]


def _mask_plot() -> Plot:
    small = Space.pixels(210, 210)
    image = MedicalImage.from_array(np.zeros((210, 210), np.uint8))
    organ = ellipse(moved(0), small)
    truth = replace(PRESENT, mask=organ, image=image)

    def lines(boxes: list[Box]) -> dict[str, list[float]]:
        worth = mask([Reading("", each, (), 1.0) for each in boxes], [truth] * len(boxes), Filling())
        return {
            "mask": [float(each or 0.0) for each in worth],
            "Dice of the expert's mask": [dice(filled(each, small), organ) for each in boxes],
        }

    return Plot(
        "The mask term and the Dice of the expert's mask against the shift and the size of the predicted box. The "
        "target is an ellipse and this expert fills the box, so its best Dice is below 1. The term is 1 at the true "
        "box, and stays 1 where a smaller box suits the expert better.",
        (
            Panel("shift of the box to the right, pixels", list(_SHIFT), lines([moved(x) for x in _SHIFT])),
            Panel("size of the box, times the true", list(_SCALE), lines([scaled(x) for x in _SCALE]), True),
        ),
    )


def _points_plot(alt: str, lines: dict[str, Callable[[Sequence[Point]], float]]) -> Plot:
    def over(place: Callable[[float], Sequence[Point]]) -> dict[str, Callable[[float], float]]:
        return {name: lambda x, term=term: term(place(x)) for name, term in lines.items()}

    return Plot(
        alt,
        (
            Panel.of("distance of the circles, radii", np.linspace(0, 2.5, 101), over(circles)),
            Panel.of("radius, times the true", np.linspace(0, 3, 121), over(lambda ratio: circles(0, ratio))),
        ),
    )


def _paper_points(term: str) -> Callable[[Sequence[Point]], float]:
    return lambda points: hard(points_1=list(points[0].xy), points_2=list(points[1].xy))[term]


def _own_plots() -> dict[str, Plot]:
    sentence = "The target lies in the upper left of the image and it is small and round. "
    ring_box = box_of(RING)

    def walked(target: Mask | None) -> Callable[[float], float]:
        return lambda x: points_inside([Point(x, 420, SPACE)], ring_box, target)

    return {
        "box": _box_plot(
            "The box term, plain IoU and the paper's bbox_iou against the shift and the size of the predicted box. "
            "Where the boxes no longer meet, the box term still falls with the distance; the others are flat.",
            {
                "box": lambda placed: box(placed, moved(0)),
                "IoU": lambda placed: placed.iou(moved(0)),
                "umrg bbox_iou": _paper_box("bbox_iou"),
            },
        ),
        "points_dice": _points_plot(
            "points_dice, the paper's pDice and the paper's term against the distance and the size of the predicted "
            "circle. Ours is 1 for the true circle alone; the paper's pDice is 2 there and its term is 1 over a wide "
            "range.",
            {
                "points_dice": lambda points: points_dice(points, circles(0)),
                "paper's pDice": lambda points: umrg_terms.pdice_paper(
                    [point.xy for point in points], [point.xy for point in circles(0)]
                ),
                "umrg points_dice": _paper_points("points_dice"),
            },
        ),
        "points_inside": Plot(
            "A point that walks through a ring from left to right. With the mask it is worth 1 on the ring, 0 in its "
            "hole; with the box alone it is worth 1 in the hole as well.",
            (
                Panel.of(
                    "place of the point from left to right, pixels",
                    np.linspace(220, 620, 201),
                    {"mask known": walked(RING), "box alone": walked(None)},
                ),
            ),
        ),
        "mask": _mask_plot(),
        "length": Plot(
            "The length term against the completion's characters: 1 up to 4,000, then a straight line to 0 at 8,000.",
            (Panel.of("characters", np.linspace(0, 10_000, 101), {"length": lambda n: length("x" * int(n))}),),
        ),
        "repetition": Plot(
            "The repetition term against the number of copies of one sentence, and of sentences that differ. Copies "
            "take it down from the second on; sentences that differ stay at 1.",
            (
                Panel.of(
                    "sentences",
                    range(1, 16),
                    {
                        "copies of one": lambda n: repetition(sentence * int(n)),
                        "all different": lambda n: repetition(
                            " ".join(sentence.replace(" ", f"{k} ") for k in range(int(n)))
                        ),
                    },
                ),
            ),
        ),
    }


def _turned(degrees: float) -> list[Point]:
    x, y = 40 * math.cos(math.radians(degrees)), 40 * math.sin(math.radians(degrees))
    return [Point(420 - x, 420 - y, SPACE), Point(420 + x, 420 + y, SPACE)]


def _base(box_shift: float = 0.0, point_shift: float = 0.0) -> dict[str, float]:
    points = {f"points_{n}": [x + point_shift, y] for n, (x, y) in enumerate(TRUTH["point_2d"], 1)}
    return base(bbox=list(moved(box_shift).xyxy), **points)


def _umrg_plots() -> dict[str, Plot]:
    degrees = np.linspace(0, 90, 91)
    return {
        "umrg-shaping": Plot(
            "The shaping curves. The logarithm rises from 0.1 at 0 to 1 at 1, steeply at first. The sigmoid falls from "
            "1 at distance 0 to 0.1 at distance 2, fastest at its centre: 1, or 0.5 for the scale term.",
            (
                Panel.of("overlap or cosine", np.linspace(0, 1, 101), {"log_shaped": umrg_terms.log_shaped}),
                Panel.of(
                    "distance",
                    np.linspace(0, 2, 101),
                    {
                        "exp_shaped, c = 1": umrg_terms.exp_shaped,
                        "exp_shaped, c = 0.5": lambda v: umrg_terms.exp_shaped(v, c=0.5),
                    },
                ),
            ),
        ),
        "umrg-bbox_iou": _box_plot(
            "bbox_iou and plain IoU against the shift and the size of the predicted box. Where the boxes don't meet, "
            "the term is flat, and above 0.",
            {"bbox_iou": _paper_box("bbox_iou"), "IoU": lambda placed: placed.iou(moved(0))},
        ),
        "umrg-bbox_align": _box_plot(
            "bbox_align against the shift and the size of the predicted box. It falls slowly.",
            {"bbox_align": _paper_box("bbox_align")},
        ),
        "umrg-bbox_scale": _box_plot(
            "bbox_scale against the shift and the size of the predicted box. The shift costs only what the validities "
            "take; the size costs most of the term from about half and twice the true one on.",
            {"bbox_scale": _paper_box("bbox_scale")},
        ),
        "umrg-points_dice": _points_plot(
            "points_dice of the paper and the true Dice of the circles against the distance and the size of the "
            "predicted circle. The paper's stays at 1 over a wide range of both.",
            {
                "umrg points_dice": _paper_points("points_dice"),
                "true Dice": lambda points: points_dice(points, circles(0)),
            },
        ),
        "umrg-points_align": _points_plot(
            "points_align against the distance and the size of the predicted circle. It stays high over the whole "
            "range, even for two points on one place (radius 0).",
            {"points_align": _paper_points("points_align")},
        ),
        "umrg-points_angle": Plot(
            "points_angle against the angle between the lines through the predicted and the true points: 1 at 0 "
            "degrees, falling to 0.1 at 90.",
            (
                Panel.of(
                    "angle between the lines, degrees",
                    degrees,
                    {"points_angle": lambda angle: _paper_points("points_angle")(_turned(angle))},
                ),
            ),
        ),
        "umrg-base": Plot(
            "The 0/1 terms of umrg-base: bbox_iou and bbox_align against the shift of the box, points_align against "
            "the shift of both points. Each is a step.",
            (
                Panel.of(
                    "shift of the box to the right, pixels",
                    np.linspace(-130, 130, 261),
                    {name: lambda x, name=name: _base(x)[name] for name in ("bbox_iou", "bbox_align")},
                ),
                Panel.of(
                    "shift of both points to the right, pixels",
                    np.linspace(-130, 130, 261),
                    {"points_align": lambda x: _base(0, x)["points_align"]},
                ),
            ),
        ),
    }


def _reasoning_plots() -> dict[str, Plot]:
    def told(true: float, false: float) -> str:
        right, wrong = list(CLAIMS.values()), list(FALSE_CLAIMS.values())
        return " ".join(right[: int(true)] + wrong[len(wrong) - int(false) :])

    def earned(true: float, false: int) -> float:
        return evidence(told(true, false), FACTS) if true + false <= len(CLAIMS) else math.nan

    return {
        "evidence": Plot(
            "The evidence term against the number of facets told truly. Each earns a quarter, up to four, and each "
            "told falsely takes a quarter off.",
            (
                Panel.of(
                    "facets told truly",
                    range(len(CLAIMS) + 1),
                    {f"{false} told falsely": lambda true, false=false: earned(true, false) for false in range(3)},
                ),
            ),
        ),
        "honesty": Plot(
            "The honesty term against the number of facets told falsely: 1 for silence, half less for each.",
            (
                Panel.of(
                    "facets told falsely",
                    range(len(CLAIMS) + 1),
                    {"honesty": lambda false: honesty(told(0, false), FACTS)},
                ),
            ),
        ),
    }


def _thinkvg_plots() -> dict[str, Plot]:
    def graded(x: float) -> float:
        return grounding([moved(x)], [moved(0)])

    def counted(count: float) -> float:
        return grounding([moved(200 * k) for k in range(int(count))], [moved(0), moved(200)])

    def named(count: float, extra: ExtraMentions) -> float:
        said = " ".join(f"region {[20 * k, 20, 20 * k + 15, 40]}" for k in range(int(count)))
        place = "<location><ref>base</ref><box>[0, 20, 15, 40]</box></location>"
        text = f"<think>Here {said}</think><response><answer>Yes</answer>{place}</response>"
        return consistency(read_response(text, SPACE), extra_mentions=extra)

    return {
        "thinkvg-grounding": Plot(
            "The grounding term against the shift of a box, graded and with a threshold of 0.5, and against the number "
            "of predicted boxes where two are true: 0 for any other number than two.",
            (
                Panel.of(
                    "shift of the box to the right, pixels",
                    _SHIFT,
                    {
                        "graded": graded,
                        "threshold 0.5": lambda x: grounding([moved(x)], [moved(0)], threshold=0.5),
                    },
                ),
                Panel.of("boxes given, two are true", range(5), {"graded": counted}),
            ),
        ),
        "thinkvg-consistency": Plot(
            "The consistency term against the number of regions named in the reasoning, where the first is the one "
            "final box: 1 for it alone, then a half, a third and so on; with extra mentions ignored it stays 1.",
            (
                Panel.of(
                    "regions named, one is final",
                    range(9),
                    {
                        "counted (default)": lambda count: named(count, "counted"),
                        "extra mentions ignored": lambda count: named(count, "ignored"),
                    },
                ),
            ),
        ),
    }


def plots() -> dict[str, Plot]:
    """Return each plot by its file's name."""
    return _own_plots() | _reasoning_plots() | _umrg_plots() | _thinkvg_plots()

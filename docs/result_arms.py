"""The arms of nano's experiments by the names of their folders, what is measured of them, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass

from medground.evaluate.cells import Measure
from medground.evaluate.tables import MEASURES

ABLATION = {
    "untrained": "fresh weights",
    "nano-v0": "nano v0, which knew other questions on these masks",
    "sft": "supervised start",
    "sft-continued": "the start, supervised for as long again",
    "grpo-umrg-base": "the start, then GRPO with `umrg-base`",
    "grpo-umrg-soft": "the start, then GRPO with `umrg-soft`",
    "grpo-umrg-hard": "the start, then GRPO with `umrg-hard`",
    "grpo-medground": "the start, then GRPO with `medground`",
    "grpo-medground-number": "the start, then GRPO with `medground`, credit by number",
}
"""What each arm of recipes/nano_ablation.sh is, in the order of the tables."""

FEW = {
    "eighth": "supervised on an eighth of the labels",
    "eighth-continued": "then supervised on the same eighth for as long again",
    "eighth-grpo": "then GRPO on the other rows, whose labels only reward",
    "all": "supervised on all labels, for as many steps as `eighth-continued` has in all",
}
"""The arms of recipes/nano_few_labels.sh."""

BASE = "sft-continued"
"""What the arms are held against: the same compute without reinforcement."""

HALF = ("eighth", "all")
"""Between these two lies the distance of which half is to be closed."""

MODES = {"reason": "test-reason", "direct": "test-direct"}
"""Modes of asking, and the folder of an arm in which its answers lie."""

GREEDY: dict[str, Measure] = {
    **{name: MEASURES[name] for name in ("box_iou", "box_iou_categories", "dice")},
    "dice_categories": Measure("Macro Dice", "Mean of the categories' mean Dice.", "dice", over="category"),
    **{name: MEASURES[name] for name in ("pdice", "pointing", "claims", "absence", "readable")},
}
"""Of the greedy answers, by name."""

SAMPLED: dict[str, Measure] = {
    "sampled_box_iou": Measure("Box IoU", "", "sampled_box_iou"),
    "sampled_box_iou_categories": Measure("Macro IoU", "", "sampled_box_iou", over="category"),
    "sampled_pdice": Measure("pDice", "", "sampled_pdice"),
    "sampled_claims": Measure("Claims true", "", "sampled_claims_true", bottom="sampled_claims"),
    "sampled_absence": Measure("Presence", "", "sampled_absence", over="absent"),
    "sampled_readable": Measure("Readable", "", "sampled_readable"),
}
"""The same of the sampled answers; no masks are drawn for those."""


@dataclass(frozen=True)
class Target:
    """What was aimed at for the model that is handed out: the mean of a figure, asked with reasoning."""

    measure: str
    title: str
    least: float


TARGETS = (
    Target("box_iou", "Box IoU", 0.75),
    Target("box_iou_categories", "Macro IoU", 0.50),
    Target("dice", "Dice", 0.78),
    Target("claims", "Claims true", 0.95),
)

GAIN = 0.02
"""By so much, of box IoU or Dice, GRPO is to beat `BASE`, the interval excluding 0."""

CLOSED = 0.5
"""So much of the distance from an eighth of the labels to all is to be closed."""


def few_base(name: str) -> str:
    """Return what an arm of the experiment with few labels is held against."""
    return "eighth" if name == "eighth-continued" else "eighth-continued"


def title(name: str) -> str:
    """Return an arm's sentence; its folder's name where none is known."""
    return {**ABLATION, **FEW}.get(name, f"`{name}`")

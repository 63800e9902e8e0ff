"""The arms of nano's experiments by the names of their folders, what is measured of them, and what was aimed at."""

from __future__ import annotations

from dataclasses import dataclass

from medground.evaluate.cells import Measure
from medground.evaluate.tables import MEASURES
from medground.evaluate.vqa.tables import MEASURES as VISUAL_MEASURES
from medground.evaluate.vqa.tables import PARTING

ABLATION = {
    "untrained": "fresh weights",
    "sft": "supervised start",
    "sft-continued": "the start, supervised for as long again",
    "grpo-umrg-base": "the start, then GRPO with `umrg-base`",
    "grpo-umrg-soft": "the start, then GRPO with `umrg-soft`",
    "grpo-umrg-hard": "the start, then GRPO with `umrg-hard`",
    "grpo-medground": "the start, then GRPO with `medground`",
    "grpo-medground-number": "the start, then GRPO with `medground`, credit by number",
    "grpo-medground-part": (
        "the start, then GRPO with `medground`, credit by number and claim (from nano v3 on with `thinkvg` on visual "
        "questions, too)"
    ),
}
"""What each arm of recipes/nano_ablation.sh, nano_v2.sh and nano_v3.sh is, in the order of the tables."""

PHASES = {
    "words": "both tasks before a tower that stays, from nano v1 with tokens for visual answers",
    "first": "`words`, then supervised on grounding",
    "second": "`first`, supervised further",
    "named": "`second`, then with targets by name and more organs",
    "both": "`named`, then both tasks before a tower that stays: what `sft` is here",
    "answers": "nano v2, then more visual questions before a tower that stays",
    "settled": "`answers`, then fewer of them: what `sft` is here",
}
"""What leads to the start of recipes/nano_v2.sh and nano_v3.sh."""

FEW = {
    "eighth": "supervised on an eighth of the labels",
    "eighth-continued": "then supervised on the same eighth for as long again",
    "eighth-grpo": "then GRPO on the other rows, whose labels only reward",
    "all": "supervised on all labels, for as many steps as `eighth-continued` has in all",
}
"""The arms of recipes/nano_few_labels.sh."""

THREE_WAY = {
    "sft-all": "supervised on all visual questions",
    "sft-eighth": "supervised on one eighth of them, drawn evenly",
    "grpo-eighth": "then GRPO on the same eighth",
    "sft-eighth-continued": "instead of GRPO supervised on the same eighth for as many seconds as that took",
}
"""The arms of recipes/nano_vqa_three_way.sh."""

WHOLE = "sft-all"
STARTED = (WHOLE, "sft-eighth")
"""Those that begin from the experiment's start; the others begin from the last of these."""

BLIND = {
    "frequent-answer": "the most frequent answer to questions of a type and style",
    "random-answer": "an answer drawn at random",
    "text-only": "a naive Bayes classifier of the words, which doesn't see the picture",
}
"""The baselines of that experiment."""

PAIRS = (
    ("grpo-eighth", "sft-eighth"),
    ("grpo-eighth", "sft-eighth-continued"),
    ("grpo-eighth", WHOLE),
    ("sft-eighth", WHOLE),
    ("sft-eighth-continued", WHOLE),
    ("grpo-eighth", "text-only"),
    (WHOLE, "text-only"),
)
"""What is held against what there, the first less the second."""

COMES_TO = 0.02
"""No further below may the interval of a difference reach, for the one to come to the other."""

BOTH_TASKS = ("joint", "grounding-alone")
"""One model for both tasks, unless another arm is chosen, and one for grounding alone (recipes/nano_both_tasks.sh)."""

PAID = 0.01
"""So much, of a figure of grounding, may the model for both tasks be below the one for grounding alone."""

VISUAL_TEST = "test"
"""The folder of an arm in which its answers to visual questions lie."""

BASE = "sft-continued"
"""What the arms are held against: the same compute without reinforcement."""

HALF = ("eighth", "all")
"""Between these two lies the distance of which half is to be closed."""

MODES = {"reason": "test-reason", "direct": "test-direct"}
"""Modes of asking, and the folder of an arm in which its answers lie."""

ASKED = {"reason": "with reasoning", "direct": "without reasoning"}
"""The same in words."""

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

ANSWERS: dict[str, Measure] = {
    name: VISUAL_MEASURES[name] for name in ("closed", "single", "multi", "open", "types", "sampled")
}
"""Of answers to visual questions, by name."""

REGIONS: dict[str, Measure] = {
    **{name: VISUAL_MEASURES[name] for name in ("v_score", "located", "agreement")},
    **PARTING,
    "readable": VISUAL_MEASURES["readable"],
}
"""Of their regions, and how far the two go together."""


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


def by_itself(name: str) -> bool:
    """Return whether an arm has a section of its own, and no place in the ablation."""
    return name in FEW or name in BOTH_TASKS


def few_base(name: str) -> str:
    """Return what an arm of the experiment with few labels is held against."""
    return "eighth" if name == "eighth-continued" else "eighth-continued"


def title(name: str) -> str:
    """Return an arm's sentence; its folder's name where none is known."""
    return {**ABLATION, **PHASES, **FEW, **THREE_WAY, **BLIND}.get(name, f"`{name}`")

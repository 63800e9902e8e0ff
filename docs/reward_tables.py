"""The tables of docs/rewards.md: every number is what the code returns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from reward_scene import (
    ANSWER,
    FACTS,
    FALSE_CLAIMS,
    PRESENT,
    RING,
    SPACE,
    TRUTH,
    Filling,
    circles,
    ellipse,
    hard,
    moved,
)

from medground.errors import TruthError
from medground.images import MedicalImage
from medground.masks import box_of
from medground.rewards import RECIPES, Recipe, gold, medground_recipe, read_truth, score, umrg
from medground.rewards.evidence import WORDS
from medground.rewards.guards import length
from medground.rewards.judges import JudgeItem, OfflineJudge
from medground.rewards.layout import layout
from medground.rewards.points import points_dice, points_inside
from medground.rewards.thinkvg import layout_kept
from medground.rewards.thinkvg_reading import read_response
from medground.rewards.umrg_terms import area_valid, pdice_paper, position_valid, spread_valid
from medground.types import Point

THINK = "<think>A pale oval.</think>"
RIGHT = f"<answer>{json.dumps(ANSWER)}</answer>"
ABSENT = '<answer>{"absent": true}</answer>'


def number(value: float) -> str:
    """Write a number with at most three decimals."""
    return f"{round(value, 3) + 0.0:g}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Write a table in Markdown; numbers as `number` does."""
    lines = [list(head), ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|") if isinstance(value, str) else number(value)


def code(text: str) -> str:
    """Mark a text as code."""
    return f"`{text}`"


# --- recipes ---------------------------------------------------------------------------------------------------------


def recipes() -> str:
    """Return the recipes, with their terms and weights."""

    def weights(recipe: Recipe) -> str:
        return ", ".join(f"`{name}` {number(weight)}" for name, weight in recipe.weights.items())

    def full(recipe: Recipe) -> float:
        return sum(recipe.weights.values()) if recipe.total == "sum" else 1

    return table(
        ["recipe", "terms and weights", "score", "full marks"],
        [
            [code(name), weights(recipe), {"sum": "weighted sum", "mean": "weighted mean"}[recipe.total], full(recipe)]
            for name, recipe in RECIPES.items()
        ],
    )


def weights() -> str:
    """Return the weights of ``medground``, and each term's share of the score on the kinds of rows."""
    known = replace(
        PRESENT,
        facts=FACTS,
        mask=ellipse(moved(0), SPACE),
        image=MedicalImage.from_array(np.zeros((840, 840), np.uint8)),
    )
    kinds = {
        "all known, with a segmenter": (known, medground_recipe(Filling())),
        "all known": (known, RECIPES["medground"]),
        "box and points alone": (PRESENT, RECIPES["medground"]),
        "absent": (read_truth({"absent": True}), RECIPES["medground"]),
        "direct mode": (read_truth({**TRUTH, "mode": "direct"}), RECIPES["medground"]),
    }
    own = RECIPES["medground"].weights
    shares = []
    for truth, recipe in kinds.values():
        earned = score(gold(truth, "A pale oval."), truth, recipe)
        there = {name: weight for name, weight in own.items() if name in earned}
        shares.append({name: weight / sum(there.values()) for name, weight in there.items()})
    rows = [
        [
            f"[{code(name)}](#{name})",
            weight,
            *(f"{round(100 * share[name], 1):g} %" if name in share else "" for share in shares),
        ]
        for name, weight in own.items()
    ]
    return table(["term", "weight", *kinds], rows)


# --- terms of medground ----------------------------------------------------------------------------------------------


def layouts() -> str:
    """Return what the format term is worth for some layouts."""
    cases = {
        "`<think>`, then `<answer>`": THINK + RIGHT,
        "text before, between or after the blocks": f"Sure! {THINK}{RIGHT}",
        "no `<think>` block": RIGHT,
        "an empty `<think>` block": f"<think> </think>{RIGHT}",
        "text, and no `<think>` block": f"Sure! {RIGHT}",
        "two answers": THINK + RIGHT + RIGHT,
        "JSON in single quotes": THINK + RIGHT.replace('"', "'"),
        "one key more": THINK + RIGHT.replace("{", '{"sure": 1, '),
        "a box that leaves the picture": THINK + RIGHT.replace("340", "-340", 1),
        '`{"absent": true}`': THINK + ABSENT,
    }
    read = {name: layout(text, SPACE) for name, text in cases.items()}
    return table(
        ["layout", "format"],
        [[name, "can't be read: 0 on all terms" if got is None else got.format] for name, got in read.items()],
    )


def absences() -> str:
    """Return what "absent" and a location are worth where the target is there and where it isn't."""
    there, gone = TRUTH, {"absent": True}

    def cell(answer: str, truth: Mapping[str, Any]) -> str:
        earned = score(THINK + answer, truth)
        return f"absence {number(earned['absence'])}, score {number(earned['score'])}"

    return table(
        ["answer", "the target is there", "the target is absent"],
        [
            ["the right location", cell(RIGHT, there), "there is none"],
            ["another location", cell(_misses(), there), cell(_misses(), gone)],
            ['`{"absent": true}`', cell(ABSENT, there), cell(ABSENT, gone)],
        ],
    )


def _misses() -> str:
    said = {"bbox": [0, 0, 160, 120], "points_1": [40, 60], "points_2": [120, 60]}
    return f"<answer>{json.dumps(said)}</answer>"


def words() -> str:
    """Return the words that can be claimed."""
    return table(["facet", "words"], [[facet, ", ".join(named)] for facet, named in WORDS.items()])


# --- terms of the paper ----------------------------------------------------------------------------------------------


def thoughts() -> str:
    """Return what the paper's format_think is worth."""
    cases = [RIGHT, "<think> </think>", "<think>.</think>", f"Sure! {THINK}"]
    shown = {RIGHT: "`<answer>...</answer>` alone"}
    return table(
        ["completion", "format_think"], [[shown.get(text, code(text)), umrg.format_think(text)] for text in cases]
    )


def answers() -> str:
    """Return what the paper's format_seg is worth."""
    points = '"points_1": [1, 2], "points_2": [3, 4]'
    cases = [
        "{bbox}",
        '{"bbox": [1, 2, 3, 4]}',
        f'{{"bbox": [1, 2, 3], {points}}}',
        f'{{"bbox": [1, 2, 3, 4], {points}}}',
        f'{{"bbox": [9, 9, -5, 0], {points}}}',
    ]
    rows = [[code(text), umrg.format_seg(f"<answer>{text}</answer>")] for text in cases]
    return table(["answer", "format_seg"], [["no `<answer>` block", umrg.format_seg("")], *rows])


def validities() -> str:
    """Return the validities of the paper's terms."""
    true, points = TRUTH["bbox_2d"], TRUTH["point_2d"]
    inside, outside = [400, 400], [100, 100]
    twice, near = [0, 0, 160, 240], [[0, 0], [6, 8]]
    return table(
        ["validity", "of", "where", "is"],
        [
            ["position", "box terms", "both true points are in the predicted box", position_valid(points, true)],
            ["", "", "one is", position_valid([inside, outside], true)],
            ["", "", "none is", position_valid([outside, outside], true)],
            ["area", "box terms", "the area is above half and below twice the true one", area_valid(true, true)],
            ["", "", "it isn't", area_valid(twice, true)],
            ["position", "point terms", "the same, of the predicted points in the true box", "as above"],
            ["spread", "point terms", "the predicted points are more than 10 px apart", spread_valid(points)],
            ["", "", "they aren't", spread_valid(near)],
        ],
    )


# --- terms of thinkvg ------------------------------------------------------------------------------------------------


def verdicts() -> str:
    """Return what the offline judge says of some answers."""
    choices = {"A": "left lung", "B": "right lung", "C": "heart"}
    asked = "Which regions are abnormal?"
    cases = [
        JudgeItem(asked, "single_choice", choices, "B", "B: right lung"),
        JudgeItem(asked, "single_choice", choices, "B", "The right lung."),
        JudgeItem(asked, "single_choice", choices, "B", "A, B, C"),
        JudgeItem(asked, "multi_choice", choices, "A, C", "C and A"),
        JudgeItem(asked, "multi_choice", choices, "A, C", "A"),
        JudgeItem("Is the heart enlarged?", "closed", None, "Yes", "Yes, it is."),
        JudgeItem("Is the heart enlarged?", "closed", None, "Yes", "Yes or no"),
        JudgeItem("What is seen?", "open", None, "Cardiomegaly", "The heart is enlarged"),
        JudgeItem("What is seen?", "open", None, "Left effusion", "Left effusion, enlarged heart"),
        JudgeItem("What is seen?", "open", None, "Left pleural effusion", "Right pleural effusion"),
        JudgeItem("What is seen?", "open", None, "Left pleural effusion", "What is seen?"),
    ]
    verdicts = OfflineJudge().judge(cases)
    return table(
        ["question type", "true answer", "answer", "semantic"],
        [
            [item.question_type.replace("_", " "), item.true_answer, item.answer, verdict or 0.0]
            for item, verdict in zip(cases, verdicts, strict=True)
        ],
    )


def responses() -> str:
    """Return what ThinkVG's format is worth."""
    place = "<location><ref>base</ref><box>[10, 20, 30, 40]</box></location>"
    whole = f"<response><answer>Yes</answer>{place}</response>"
    cases = {
        "all four parts": f"{THINK}{whole}",
        "no `<think>` tags": f"A pale oval. {whole}",
        "no `<response>`": f"{THINK}<answer>Yes</answer>{place}",
        "boxes without `<ref>`": f"{THINK}{whole.replace('<ref>base</ref>', '')}",
        "the answer alone": "<answer>Yes</answer>",
        "an empty answer": f"{THINK}{whole.replace('Yes', '')}",
        "two answers": f"{THINK}<response><answer>Yes</answer><answer>No</answer>{place}</response>",
    }
    return table(
        ["layout", "format"], [[name, layout_kept(read_response(text, SPACE))] for name, text in cases.items()]
    )


# --- faults ----------------------------------------------------------------------------------------------------------


def faults() -> str:
    """Return the faults that the paper's recipes keep, beside what ``medground`` does."""
    first, second = (tuple(point) for point in TRUTH["point_2d"])
    same = circles(0)
    two_thirds = circles(0, 0.5**0.5)
    near, far = (TRUTH["bbox_2d"][2] + gap for gap in (10, 180))

    def at(x: float) -> dict[str, Any]:
        return {"bbox": [x, 360, x + 160, 480]}

    def ours(answer: str, truth: Mapping[str, Any] = TRUTH, think: str = THINK) -> dict[str, float]:
        return score(think + answer, truth)

    def paper(completion: str, recipe: str = "umrg-soft") -> float:
        return score(completion, TRUTH, recipe)["score"]

    centre = Point(420, 420, SPACE)
    ring = box_of(RING)
    base = umrg.base([f"{THINK}{RIGHT}"], [PRESENT])[0]
    dead = base["bbox_iou"] + base["bbox_align"]
    false = f"<think>{' '.join(FALSE_CLAIMS.values())}</think>"
    told = {**TRUTH, "facts": FACTS.to_dict()}
    longer = f"<think>{'x' * 20_000}</think>{RIGHT}"
    rows = [
        [
            "pDice divides by the union, not by the sum of areas: the same circles",
            f"pDice {number(pdice_paper((first, second), (first, second)))}",
            f"`points_dice` {number(points_dice(same, same))}",
        ],
        [
            f"circles of true Dice {number(points_dice(two_thirds, same))} have full marks already",
            f"`points_dice` {number(_paper_points(two_thirds))}",
            f"`points_dice` {number(points_dice(two_thirds, same))}",
        ],
        [
            "a box that misses by 10 px, and one that misses by 180 px",
            f"`bbox_iou` {number(hard(**at(near))['bbox_iou'])} and {number(hard(**at(far))['bbox_iou'])}",
            f"`box` {number(ours(_answer(**at(near)))['box'])} and {number(ours(_answer(**at(far)))['box'])}",
        ],
        [
            "a point in the hole of a ring",
            f"position validity {number(position_valid([centre.xy], ring.xyxy))}",
            f"`points_inside` {number(points_inside([centre], ring, RING))}",
        ],
        [
            "the true location with four false claims in the reasoning",
            f"score {number(paper(false + RIGHT))} of 4",
            f"score {number(ours(RIGHT, told, false)['score'])} of 1",
        ],
        [
            "two answers, the first of them right",
            f"score {number(paper(THINK + RIGHT + _misses()))} of 4",
            f"score {number(ours(RIGHT + _misses())['score'])} of 1",
        ],
        [
            "`<think>` with 20,000 times the letter x",
            f"score {number(paper(longer))} of 4",
            f"`length` {number(length(longer))}, score {number(score(longer, TRUTH)['score'])} of 1",
        ],
        [
            "a target that isn't in the picture",
            _refused(),
            f"score {number(ours(ABSENT, {'absent': True})['score'])} of 1",
        ],
        [
            "`umrg-base`: a swallowed exception switches two terms off (mended, since it can't be meant)",
            f"a perfect answer has {number(sum(base.values()) - dead)} as published, {number(sum(base.values()))} here",
            f"score {number(ours(RIGHT)['score'])} of 1",
        ],
    ]
    return table(["fault", "paper's recipe", "`medground`"], rows)


def _answer(**said: Any) -> str:
    return f"<answer>{json.dumps(ANSWER | said)}</answer>"


def _paper_points(points: Sequence[Point]) -> float:
    return hard(points_1=list(points[0].xy), points_2=list(points[1].xy))["points_dice"]


def _refused() -> str:
    try:
        score(THINK + ABSENT, {"absent": True}, "umrg-soft")
    except TruthError:
        return "no such answer: TruthError"
    raise AssertionError("the paper's recipes took an absent target")

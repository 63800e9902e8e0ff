"""What scoring costs: completions a second on one core, next to peers, and a hostile megabyte.

    python benchmarks/rewards.py [--count 2000] [--rounds 5] [--size 1000000] [--json]

The completions are drawn here by a seed: about 70 words of reasoning and an answer near the truth; a tenth in single
quotes and a seventh broken in the ways that models break them. Truths are dicts, read on each call as a trainer's
columns are; those of ``medground`` come with the facts of a drawn ellipse. The peers score the same completions in the
same run, in turns: the grounding answer by shapely (decode the JSON after the same tags, box IoU, Dice of two 64-gons
for the circles), which is the usual way to write such a reward and does less; and TRL's ``think_format_reward``, one
regular expression, which does far less. A peer that isn't installed is left out. Times are medians of the rounds; with
other work on the machine only ratios mean something. The hostile completions have --size characters each; a recipe's
time is for one of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from medground.rewards import RECIPES, Facts, score_batch

console = Console(width=120, highlight=False)
Row = dict[str, Any]

SENTENCES = (
    "The question asks for the structure that carries visual signals out of the eye.",
    "I first look at the whole picture and compare its two halves.",
    "There is a bright, round area in the {zone} of the image.",
    "Its margin is well defined and it is brighter than the tissue around it.",
    "The vessels converge on it, which speaks for the optic disc rather than the macula.",
    "It is small, and about as wide as it is high.",
    "Nothing of the kind is seen on the other side.",
    "The remaining field is homogeneous, without a second region of the same density.",
    "The target therefore lies in the {zone}, and one region answers the question.",
)
ZONES = ("upper left", "upper right", "lower left", "lower right", "centre", "left half", "right third")
PLACES = ("left lower lung zone", "right upper lung zone", "cardiac silhouette", "left costophrenic angle")


def _reasoning(chance: random.Random) -> str:
    return " ".join(chance.sample(SENTENCES, 6)).format(zone=chance.choice(ZONES))


def _near(values: Sequence[int], chance: random.Random, top: int) -> list[int]:
    return [min(max(round(value + chance.gauss(0, 15)), 0), top) for value in values]


def _broken(text: str, chance: random.Random) -> str:
    kind = chance.randrange(7)
    if kind == 0:
        return text[: len(text) * 9 // 10]
    if kind == 1:
        return text.replace("</think>", "")
    if kind == 2:
        return text.replace("<answer>", "").replace("</answer>", "")
    if kind == 3:
        return text.replace("points_1", "point")
    if kind == 4:
        return text.replace("], ", ", 7], ", 1)
    if kind == 5:
        return text + text
    return "I cannot see any abnormality."


def grounding_rows(count: int, seed: int = 0) -> tuple[list[str], list[Row]]:
    """Return completions and truths of the grounding recipes."""
    chance = random.Random(seed)  # noqa: S311
    rows, columns = np.mgrid[:84, :84]
    completions, truths = [], []
    for index in range(count):
        w, h = chance.randrange(60, 400), chance.randrange(60, 400)
        x, y = chance.randrange(0, 840 - w), chance.randrange(0, 840 - h)
        box, points = [x, y, x + w, y + h], [[x + w // 4, y + h // 2], [x + 3 * w // 4, y + h // 2]]
        ellipse = ((columns * 10 - x - w / 2) / w) ** 2 + ((rows * 10 - y - h / 2) / h) ** 2 <= 0.25
        facts = Facts.measure(ellipse, np.where(ellipse, 160, 90).astype(np.uint8))
        truths.append({"bbox_2d": box, "point_2d": points, "facts": facts.to_dict()})
        said = {"bbox": _near(box, chance, 840)}
        said |= {f"points_{number}": _near(point, chance, 840) for number, point in enumerate(points, 1)}
        location = json.dumps(said)
        text = f"<think>{_reasoning(chance)}</think>\n<answer>{location}</answer>"
        if index % 10 == 3:
            text = text.replace('"', "'")
        completions.append(_broken(text, chance) if index % 7 == 5 else text)
    return completions, truths


def vqa_rows(count: int, seed: int = 0) -> tuple[list[str], list[Row]]:
    """Return completions and truths of the ``thinkvg`` recipe: the four types of question in turn."""
    chance = random.Random(seed)  # noqa: S311
    choices = {"A": "pleural effusion", "B": "pneumothorax", "C": "cardiomegaly", "D": "no finding"}
    asked: list[tuple[str, str, str, dict[str, str] | None]] = [
        ("open", "opacity in the left lower lung zone", "an opacity of the left lower zone", None),
        ("closed", "Yes", "yes", None),
        ("single_choice", "A", "B", choices),
        ("multi_choice", "A, C", "C, A", choices),
    ]
    completions, truths = [], []
    for index in range(count):
        kind, answer, other, offered = asked[index % 4]
        boxes = []
        for _ in range(1 + index % 2):
            x, y = chance.randrange(0, 120), chance.randrange(0, 120)
            boxes.append([x, y, x + chance.randrange(20, 100), y + chance.randrange(20, 100)])
        truth: Row = {"question_type": kind, "answer": answer, "boxes": boxes, "image_size": [224, 224]}
        truths.append(truth | ({"choices": offered} if offered else {}))
        places = "".join(
            f"<ref>{place}</ref><box>{_near(box, chance, 224)}</box>" for place, box in zip(PLACES, boxes, strict=False)
        )
        named = " ".join(f"The {place} (region {box}) looks denser." for place, box in zip(PLACES, boxes, strict=False))
        text = (
            f"<think>{_reasoning(chance)} {named}</think><response><answer>{other if index % 3 else answer}</answer>"
            f"<location>{places}</location></response>"
        )
        completions.append(_broken(text, chance) if index % 7 == 5 else text)
    return completions, truths


def hostile(size: int) -> dict[str, str]:
    """Return completions of about `size` characters by what is hostile about them."""
    right = '{"bbox": [100, 100, 300, 200], "points_1": [150, 150], "points_2": [250, 150]}'

    def many(text: str) -> str:
        return text * (size // len(text) + 1)

    def thought(text: str) -> str:
        return f"<think>{text}</think><answer>{right}</answer>"

    def answered(text: str) -> str:
        return f"<think>A bright oval.</think><answer>{text}</answer>"

    def response(answer: str, location: str, think: str = "A bright oval.") -> str:
        inside = f"<answer>{answer}</answer><location>{location}</location>"
        return f"<think>{think}</think><response>{inside}</response>"

    pairs = "".join(f"<ref>lung {n}</ref><box>[{n % 200}, 10, {n % 200 + 9}, 40]</box>" for n in range(size // 45))
    boxes = ", ".join(f"[{n % 200}, 10, {n % 200 + 9}, 40]" for n in range(size // 19))
    return {
        "braces": many("{"),
        "braces in the answer": answered(many("{")),
        "nested objects": answered(many('{"bbox":') + "1" + many("}")),
        "nested lists": answered('{"bbox": ' + many("[")),
        "empty braces": many("{}"),
        "braces closed first": many("}{"),
        "opened thoughts": many("<think>"),
        "closed thoughts": f"<think>{many('</think>')}<answer>{right}</answer>",
        "thoughts and gaps": f"<think>{many('</think>' + ' ' * 99)}</answer>",
        "opened answers": many("<answer>"),
        "answers": many(f"<answer>{right}</answer>"),
        "tags inside tags": many("<think><answer>") + many("</answer></think>"),
        "half tags": many("<thin"),
        "angles": many("<"),
        "responses": many("<response><answer>yes</answer></response>"),
        "opened boxes": many("<box>["),
        "blank thought": thought(many(" ")),
        "blank answer": answered(many(" \n")),
        "blank lines": thought(many("a\n\n")),
        "a long number": answered(right.replace("300", many("9"))),
        "a long fraction": answered(right.replace("300", "3." + many("0"))),
        "a long exponent": answered(right.replace("300", "3e" + many("9"))),
        "digits": many("1"),
        "minus signs": thought(many("-")),
        "unicode digits": answered(right.replace("300", many("\u0663"))),
        "unicode": thought(many("\u0130\u1e9e\U0001f9e0\u202e\u0301")),
        "lone surrogates": thought(many("\ud800")),
        "nulls": many("\0"),
        "boxes": answered(f"[{boxes}]"),
        "many keys": answered('{"bbox": [1, 2, 3, 4], ' + many('"bbox": [1, 2, 3, 4], ') + '"a": 1}'),
        "quotes": answered(many("'")),
        "backslashes": answered('{"' + many("\\")),
        "one word": thought(many("a")),
        "a word again": thought(many("bright ")),
        "a sentence again": thought(many("It lies in the upper left and is bright, small and round. ")),
        "not": thought(many("not ")),
        "and or": thought(many("left or right and ")),
        "new words": thought(" ".join(f"w{n}x" for n in range(size // 8))),
        "full stops": thought(many(". ")),
        "true then long": thought("It is bright. " + many("The vessels converge on it from each side. ")),
        "regions named": response("yes", "", many("left lung (region [10, 20, 30, 40]) ")),
        "regions opened": response("yes", "", many("(region [10, ")),
        "located": response("yes", pairs),
        "located in a list": response("yes", f"<box>[{boxes}]</box>"),
        "references": response("yes", many("<ref>lung</ref>")),
        "a long worded answer": response(many("opacity of the left lower lung zone "), ""),
        "letters": response(many("A, B, C, "), ""),
    }


def shapely_peer() -> Callable[[Sequence[str], Sequence[Row]], list[float]]:
    """Return the usual reward of IoU and circle Dice, written with shapely."""
    import re

    import shapely

    block = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)

    def circle(first: list[float], second: list[float]) -> Any:
        return shapely.Point((first[0] + second[0]) / 2, (first[1] + second[1]) / 2).buffer(
            math.dist(first, second) / 2, quad_segs=16
        )

    def one(text: str, truth: Row) -> float:
        try:
            found = block.search(text)
            if found is None:
                return 0.0
            said = json.loads(found.group(1).replace("'", '"'))
            box, true = shapely.box(*said["bbox"]), shapely.box(*truth["bbox_2d"])
            ours, theirs = circle(said["points_1"], said["points_2"]), circle(*truth["point_2d"])
            iou = box.intersection(true).area / box.union(true).area
            return iou + 2 * ours.intersection(theirs).area / (ours.area + theirs.area)
        except (ValueError, TypeError, KeyError, ZeroDivisionError):
            return 0.0

    return lambda texts, truths: [one(text, truth) for text, truth in zip(texts, truths, strict=True)]


def trl_peer() -> Callable[[Sequence[str], Sequence[Row]], list[float]]:
    """Return TRL's own reward of the thinking's format."""
    from trl.rewards import think_format_reward

    def peer(texts: Sequence[str], truths: Sequence[Row]) -> list[float]:
        told: list[float] = think_format_reward([[{"content": text}] for text in texts])
        return told

    return peer


def peers() -> dict[str, Callable[[Sequence[str], Sequence[Row]], list[float]]]:
    """Return the peers that are installed."""
    found = {}
    for name, load in (("shapely", shapely_peer), ("trl think_format_reward", trl_peer)):
        try:
            found[name] = load()
        except ImportError:
            console.print(f"{name} isn't installed and left out")
    return found


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def throughput(count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return completions a second of each recipe and peer, and the recipes' ratios to the peers."""
    grounding, vqa = grounding_rows(count), vqa_rows(count)
    paper = grounding[0], [{name: row[name] for name in ("bbox_2d", "point_2d")} for row in grounding[1]]
    runs: dict[str, Callable[[], Any]] = {}
    for name in RECIPES:
        texts, truths = {"medground": grounding, "thinkvg": vqa}.get(name, paper)
        runs[name] = lambda name=name, texts=texts, truths=truths: score_batch(texts, truths, name)
    for name, peer in peers().items():
        runs[name] = lambda peer=peer: peer(*paper)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in track(range(rounds + 1), description="rounds", console=Console(stderr=True)):
        for name, run in runs.items():
            taken = seconds(run)
            if turn:  # the first round warms up
                times[name].append(taken)
    rate = {name: count / median(values) for name, values in times.items()}
    others = [name for name in rate if name not in RECIPES]
    return {name: {"a second": rate[name]} | {f"x {peer}": rate[name] / rate[peer] for peer in others} for name in rate}


def megabyte(size: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds that each recipe needs for one hostile completion, the best of three."""
    texts = hostile(size)
    grounding, vqa = grounding_rows(1)[1], vqa_rows(1)[1]

    def best(text: str, recipe: str) -> float:
        truths = vqa if recipe == "thinkvg" else grounding
        return min(1000 * seconds(lambda: score_batch([text], truths, recipe)) for _ in range(3))

    return {
        kind: {recipe: best(text, recipe) for recipe in RECIPES}
        for kind, text in track(texts.items(), description="hostile", console=Console(stderr=True))
    }


def table(rows: dict[str, dict[str, float]], corner: str, digits: int) -> Iterator[str]:
    """Give a Markdown table; a column that a row lacks stays empty."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    yield f"| {corner} | " + " | ".join(columns) + " |"
    yield "| --- " * (len(columns) + 1) + "|"
    for title, row in rows.items():
        cells = [f"{row[name]:,.{digits if row[name] < 1000 else 0}f}" if name in row else "" for name in columns]
        yield f"| {title} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "throughput": throughput(options.count, options.rounds),
        "hostile": megabyte(options.size),
    }
    slowest = {recipe: max(row[recipe] for row in figures["hostile"].values()) for recipe in RECIPES}
    figures["hostile"]["**slowest**"] = slowest
    if options.json:
        console.print_json(json.dumps(figures))
        return
    console.print(f"{figures['machine']}; {options.count} completions, medians of {options.rounds} rounds.\n")
    console.print("\n".join(table(figures["throughput"], "recipe or peer", 2)))
    console.print(f"\nMilliseconds for {options.size:,} hostile characters:\n")
    console.print("\n".join(table(figures["hostile"], "hostile by", 1)))


if __name__ == "__main__":
    main()

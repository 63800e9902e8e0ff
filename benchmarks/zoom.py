"""Does zoom pay? Dice of LiteMedSAM with and without it, by size of the box and by category.

    python benchmarks/zoom.py --data DIR [--split val] [--settings 2 3 3:128] [--boxes ROWS.jsonl] [--out FILE.md]

DIR holds ``manifest.jsonl`` (``id``, ``image``, ``mask``, ``category``, ``split``) with image and mask files. A mask
with several components stands for its largest. Boxes are the true ones, the true ones with each edge moved by a
seeded normal of 10 % and 20 % of the box's side, and those of a predictions file (``id``, ``bbox`` [x1, y1, x2, y2] in
source pixels). A setting is a crop's side over the box's longest side, and after a colon the least side of a crop in
pixels. Each is compared with no zoom on the same boxes; intervals are 95 % bootstrap intervals of the mean difference
over targets.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from medground.errors import SegmenterError
from medground.images import MedicalImage, load_image
from medground.masks import box_of, largest_component
from medground.metrics import bootstrap_interval, dice
from medground.segmenters import Prompt, Segmenter, load_segmenter
from medground.segmenters.zoom import Zoom
from medground.types import Box, Mask

BINS = ((0.0, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 1.01))
console = Console(width=160, highlight=False)


def targets(data: Path, split: str) -> Iterator[tuple[dict[str, Any], MedicalImage, Mask]]:
    rows = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    chosen = [row for row in rows if row["split"] == split]
    for row in track(chosen, description="targets", console=Console(stderr=True)):
        image = load_image(data / row["image"])
        mask = largest_component(np.asarray(Image.open(data / row["mask"])) > 0)
        if mask.any():
            yield row, image, mask


def extent(box: Box) -> float:
    """Return the box's share of the picture's width or height, whichever is larger."""
    return max(box.width / box.space.width, box.height / box.space.height)


def moved(box: Box, amount: float, rng: np.random.Generator) -> Box:
    """Return the box with each edge moved by a normal of `amount` times the side, inside the picture."""
    for _ in range(100):
        steps = rng.normal(0, amount, 4) * (box.width, box.height, box.width, box.height)
        x1, y1, x2, y2 = np.asarray(box.xyxy) + steps
        if x2 - x1 >= 2 and y2 - y1 >= 2:
            try:
                return Box(float(x1), float(y1), float(x2), float(y2), box.space).clipped()
            except ValueError:
                continue
    return box


def table(rows: list[dict[str, Any]], settings: list[str], kind: str, group: Callable[[dict[str, Any]], str]) -> str:
    rng = np.random.default_rng(0)
    lines = [
        f"| {kind} boxes | n | box IoU | no zoom | " + " | ".join(settings) + " |",
        "| --- " * (4 + len(settings)) + "|",
    ]
    rows = [row for row in rows if row["kind"] == kind]
    for name in [*sorted({group(row) for row in rows}), "all"]:
        members = [row for row in rows if name in ("all", group(row))]
        whole = np.array([row["none"] for row in members])
        cells = [name, str(len(members)), f"{np.mean([row['iou'] for row in members]):.2f}", f"{whole.mean():.3f}"]
        for setting in settings:
            difference = np.array([row[setting] for row in members]) - whole
            low, high = bootstrap_interval(difference, seed=rng)
            cells.append(f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bin_of(row: dict[str, Any]) -> str:
    low, high = next(pair for pair in BINS if pair[0] <= row["extent"] < pair[1])
    return f"{low:.2f} to {min(high, 1):.2f}"


def answers(segmenter: Segmenter, embedding: Any, box: Box, truth: Mask) -> float:
    try:
        [prediction] = segmenter.segment(embedding, [Prompt(box)])
    except SegmenterError:  # a predicted box outside the picture finds nothing
        return 0.0
    return dice(prediction.mask, truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--boxes", type=Path, help="predicted boxes, one JSON object a line")
    parser.add_argument("--settings", nargs="+", default=["2", "3", "3:128"], metavar="FACTOR[:SMALLEST]")
    parser.add_argument("--sources", nargs="+", help="only these collections")
    parser.add_argument(
        "--only-below", type=float, default=1.01, help="only true boxes of a smaller share of the image"
    )
    parser.add_argument("--limit", type=int, help="only so many targets, drawn by a fixed seed")
    parser.add_argument("--rows", type=Path, help="write each target's figures there, one JSON object a line")
    parser.add_argument("--out", type=Path, help="write the tables there (Markdown)")
    options = parser.parse_args()

    whole = load_segmenter("litemedsam")
    # below=1 zooms on every box that is smaller than the picture, so that the table shows where it stops paying.
    zooms = {}
    for setting in options.settings:
        factor, _, smallest = setting.partition(":")
        zooms[f"x{setting}"] = Zoom(whole, factor=float(factor), below=1.0, smallest=int(smallest or 32))
    predicted = {}
    if options.boxes:
        lines = options.boxes.read_text().splitlines()
        predicted = {row["id"]: row["bbox"] for row in map(json.loads, lines) if row.get("bbox")}

    rows = []
    chosen = [
        (row, image, mask)
        for row, image, mask in targets(options.data, options.split)
        if (not options.sources or row["source"] in options.sources) and extent(box_of(mask)) < options.only_below
    ]
    if options.limit:
        chosen = [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))[: options.limit]]
    for row, image, mask in track(chosen, description="segmenting", console=Console(stderr=True)):
        true = box_of(mask)
        rng = np.random.default_rng(zlib.crc32(row["id"].encode()))  # the same boxes whatever else is measured
        boxes = {"true": true, "10 % moved": moved(true, 0.1, rng), "20 % moved": moved(true, 0.2, rng)}
        if predicted:
            boxes = {"predicted": Box(*predicted[row["id"]], true.space)} if row["id"] in predicted else {}
        embedding = whole.encode(image)
        for kind, box in boxes.items():
            found = {"none": answers(whole, embedding, box, mask)}
            for name, zoom in zooms.items():
                zoomed = zoom.encode(image)
                zoomed.parts[(0, 0, image.width, image.height)] = embedding  # encoded already
                found[name] = answers(zoom, zoomed, box, mask)
            about = {"id": row["id"], "category": row["category"], "source": row["source"], "kind": kind}
            rows.append({**about, "extent": extent(box), "iou": true.iou(box), **found})
        if options.rows:
            options.rows.write_text("".join(json.dumps(line) + "\n" for line in rows))

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    parts = [
        f"LiteMedSAM, {len(chosen)} targets of split {options.split}; mean Dice without zoom, then the "
        "change with a crop of so many times the box's longest side."
    ]
    for group, title in ((bin_of, "by box side / image side"), (lambda row: row["source"], "by collection")):
        parts += [f"## {title}", *(table(rows, list(zooms), kind, group) for kind in kinds)]
    report = "\n\n".join(parts) + "\n"
    console.print(report, markup=False, soft_wrap=True)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()

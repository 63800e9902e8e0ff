"""Accuracy of grounding on a split of a folder of masks, beside what no model at all would score.

    python benchmarks/grounding.py --masks MASKS --split test --reasoner nano --out OUT

Writes OUT/METHOD.jsonl (one line a sample, appended as it goes: run it again to go on), OUT/table.md and
OUT/summary.json. Methods: `model`; `centre` (a box in the picture's centre, of the mean size of all training targets);
`category` (the mean box of the category's training targets); `oracle` (the true box, for what the segmenter adds).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medground.coords import Space
from medground.data.build import build_samples
from medground.data.open_masks import Target, load_mask, read_open_masks
from medground.errors import MedgroundError
from medground.images import load_image
from medground.masks import box_of
from medground.metrics import bootstrap_interval, dice, pointing
from medground.pipeline import MedGround
from medground.segmenters import Prompt
from medground.types import Box, Sample

METHODS = ("model", "centre", "category", "oracle")
MEASURES = ("box_iou", "pointing", "dice")


def prior_boxes(training: Iterable[Target]) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
    """Return the centre box of mean size, and each category's mean box, as fractions of the picture."""
    boxes = defaultdict(list)
    for target in training:
        boxes[target.category].append(box_of(load_mask(target)).to(Space.unit()).xyxy)
    everything = np.concatenate([np.array(found) for found in boxes.values()])
    width, height = (everything[:, 2:] - everything[:, :2]).mean(axis=0)
    centre = (0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2)
    return centre, {category: tuple(np.mean(found, axis=0)) for category, found in boxes.items()}


def answer_by_box(grounder: MedGround, choose: Callable[[Sample], Box], samples: Sequence[Sample]) -> Iterable[dict]:
    """Yield rows for boxes that come from no model."""
    for sample in samples:
        image = load_image(sample.image)
        box = choose(sample)
        mask = grounder.segment(image, Prompt(box=box)).mask
        yield {"bbox": list(box.xyxy), "points": [], "mask": mask, "reasoning": "", "error": None}


def answer_by_model(grounder: MedGround, samples: Sequence[Sample], mode: str) -> Iterable[dict]:
    """Yield rows of the model's own answers; a failure has an error, and scores 0."""
    pairs = ((sample.image, sample.question) for sample in samples)
    for result in grounder.ground_each(pairs, mode=mode, batch_size=16):
        if isinstance(result, MedgroundError) or result.box is None:
            why = str(result) if isinstance(result, MedgroundError) else "said to be absent"
            yield {"bbox": None, "points": [], "mask": None, "reasoning": "", "error": why}
        else:
            yield {
                "bbox": list(result.box.xyxy),
                "points": [list(point.xy) for point in result.points],
                "mask": result.mask,
                "reasoning": result.reasoning,
                "error": None,
                "found": result,
            }


def score(sample: Sample, target: Target, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's line in the file."""
    true = load_mask(target)
    found = row.pop("found", None)
    mask = row.pop("mask")
    box = Box(*row["bbox"], sample.box.space) if row["bbox"] else None
    return {
        "id": sample.id,
        **row,
        "box_iou": box.iou(sample.box) if box else 0.0,
        "pointing": pointing(found.points, true) if found else 0.0,
        "dice": dice(mask, true) if mask is not None else 0.0,
    }


def run(
    method: str, grounder: MedGround, chosen: argparse.Namespace, samples: list[Sample], targets: dict[str, Target]
) -> None:
    """Append what is missing of one method."""
    path = chosen.out / f"{method}.jsonl"
    done = {json.loads(line)["id"] for line in path.read_text().splitlines()} if path.exists() else set()
    rest = [sample for sample in samples if sample.id not in done]
    if not rest:
        return
    if method == "model":
        rows = answer_by_model(grounder, rest, chosen.mode)
    else:
        centre, categories = prior_boxes(read_open_masks(chosen.masks, "train"))

        def choose(sample: Sample) -> Box:
            if method == "oracle":
                return sample.box
            return Box(*(centre if method == "centre" else categories[sample.meta["category"]]), Space.unit()).to(
                sample.box.space
            )

        rows = answer_by_box(grounder, choose, rest)
    with path.open("a", encoding="utf-8") as stream:
        for number, (sample, row) in enumerate(zip(rest, rows, strict=True), start=1):
            stream.write(json.dumps(score(sample, targets[sample.id], row)) + "\n")
            stream.flush()
            if number % 50 == 0:
                sys.stderr.write(f"{method}: {number}/{len(rest)}\n")


def table(out: Path, samples: list[Sample]) -> tuple[str, dict[str, Any]]:
    """Return the Markdown table and the summary of all methods that have run."""
    rows = {
        method: {row["id"]: row for row in map(json.loads, (out / f"{method}.jsonl").read_text().splitlines())}
        for method in METHODS
        if (out / f"{method}.jsonl").exists()
    }
    kinds: dict[str, list[Sample]] = {"all samples": samples}
    for sample in sorted(samples, key=lambda sample: (sample.meta["modality"], sample.meta["category"])):
        kinds.setdefault(f"{sample.meta['category']} ({sample.meta['modality']})", []).append(sample)
    summary: dict[str, Any] = {}
    lines = [
        "| target | n | box IoU | pointing | Dice | centre box IoU / Dice | category's mean box | true box's Dice |",
        "| --- | ---: | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for name, members in kinds.items():
        groups = [sample.meta["group"] for sample in members]
        summary[name] = {"n": len(members)}
        for method, found in rows.items():
            for measure in MEASURES:
                values = [found[sample.id][measure] for sample in members]
                mean, interval = float(np.mean(values)), bootstrap_interval(values, groups)
                summary[name].setdefault(method, {})[measure] = [round(v, 4) for v in (mean, *interval)]
        lines.append(_line(name, summary[name]))
    categories = [value for key, value in summary.items() if key != "all samples"]
    for method in rows:
        summary["all samples"][method]["mean over targets"] = {
            measure: round(float(np.mean([one[method][measure][0] for one in categories])), 4) for measure in MEASURES
        }
    if "model" in rows:
        summary["all samples"]["failures"] = sum(row["error"] is not None for row in rows["model"].values())
    return "\n".join(lines) + "\n", summary


def _line(name: str, found: dict[str, Any]) -> str:
    def with_interval(method: str, measure: str) -> str:
        if method not in found:
            return "-"
        mean, low, high = found[method][measure]
        return f"{mean:.2f} ({low:.2f}-{high:.2f})"

    def pair(method: str) -> str:
        return f"{found[method]['box_iou'][0]:.2f} / {found[method]['dice'][0]:.2f}" if method in found else "-"

    cells = [with_interval("model", measure) for measure in MEASURES]
    oracle = f"{found['oracle']['dice'][0]:.2f}" if "oracle" in found else "-"
    return f"| {name} | {found['n']} | {' | '.join(cells)} | {pair('centre')} | {pair('category')} | {oracle} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True, help="folder with manifest.jsonl, images/ and masks/")
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--reasoner", default="nano")
    parser.add_argument("--segmenter", default="litemedsam")
    parser.add_argument("--mode", choices=("reason", "direct"), default="reason")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated: model, centre, category, oracle")
    parser.add_argument("--most", type=int, help="the first so many samples only, for a trial")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    targets = read_open_masks(chosen.masks, chosen.split)
    samples = list(build_samples(targets))[: chosen.most]
    chosen.out.mkdir(parents=True, exist_ok=True)
    # Every image's embedding is kept (4 MB each), because all methods prompt the same segmenter with other boxes.
    grounder = MedGround(chosen.reasoner, chosen.segmenter, device=chosen.device, embeddings=len(samples))
    for method in chosen.methods.split(","):
        run(method, grounder, chosen, samples, {target.id: target for target in targets})
    text, summary = table(chosen.out, samples)
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    (chosen.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()

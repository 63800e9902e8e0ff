"""What generating in training mode costs a reward: nano's sampled completions with its tower in either mode.

    python benchmarks/tower_mode.py --masks MASKS [--pictures 24] [--samples 4]

GRPO trainers generate with the model in training mode, where the tower's batch normalisation uses the statistics of the
batch, and that is one picture several times over. Same pictures, questions and seeds in both modes.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from statistics import mean

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from transformers import AutoModelForImageTextToText, AutoProcessor

from medground import reasoners
from medground.adapters import score_rows
from medground.coords import Space
from medground.data.build import build_samples
from medground.data.open_masks import read_open_masks
from medground.prompts import render
from medground.types import Sample

NANO = Path(reasoners.__file__).parent / "nano"
console = Console(width=120, highlight=False)


def completions(model: torch.nn.Module, processor: object, sample: Sample, count: int) -> list[str]:
    _, asked = render("nano-v1", sample.question, space=Space.norm1000())
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True)
    picture = Image.open(sample.image).convert("RGB")
    inputs = processor(images=[picture] * count, text=[text] * count, return_tensors="pt", padding=True)
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=160, do_sample=True, temperature=1.0)
    return processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    chosen = parser.parse_args()
    targets = read_open_masks(chosen.masks, "test")
    random.Random(0).shuffle(targets)  # noqa: S311
    samples = list(build_samples(targets[: chosen.pictures]))
    processor = AutoProcessor.from_pretrained(NANO)
    for name in ("evaluation", "training"):
        model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
        model.train(name == "training")
        torch.manual_seed(0)
        earned = []
        for sample in track(samples, name, console=Console(stderr=True), transient=True):
            said = completions(model, processor, sample, chosen.samples)
            earned += score_rows(said, {"ground_truth": [sample] * len(said)}, "medground", coordinates="0-1000")
        terms = "  ".join(f"{term} {mean(row[term] for row in earned):.3f}" for term in ("score", "box", "format"))
        console.print(f"tower in {name} mode: {terms}  ({len(earned)} completions)")


if __name__ == "__main__":
    main()

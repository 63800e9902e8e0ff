"""Visual questions of all types about drawn pictures with two bright growths, for training and measuring."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from drawn import ellipse, paint
from PIL import Image

from medground.data.layouts.vqa import export_vqa_rows
from medground.data.rows import Picture
from medground.data.vqa_rows import Region, VqaRow
from medground.masks import box_of

SIZE = (96, 72)


def draw_questions(folder: Path, count: int = 10, *, split: str = "train", seed: int = 0) -> list[VqaRow]:
    """Draw pictures into a folder; return a question about each: open, closed, single, multi, and one of nothing."""
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    return [_row(rng, folder, number, split) for number in range(count)]


def _row(rng: random.Random, folder: Path, number: int, split: str) -> VqaRow:
    width, height = SIZE
    masks = [
        ellipse(height, width, rng.uniform(20, 50), column + rng.uniform(-6, 6), rng.uniform(8, 14), rng.uniform(8, 14))
        for column in (24, 72)
    ]
    path = f"images/{split}-visual{number}.png"
    Image.fromarray(paint(np.logical_or(*masks))).save(folder / path)
    boxes = [tuple(round(value) for value in box_of(mask).xyxy) for mask in masks]
    names = ("growth beside the fold", "growth on the wall")
    said = [f"the {name} (region [{', '.join(map(str, box))}])" for name, box in zip(names, boxes, strict=True)]
    regions = tuple(Region(ref=name, box=box) for name, box in zip(names, boxes, strict=True))
    one: dict[str, Any] = {"thinking": f"What is meant is {said[0]}.", "regions": regions[:1]}
    both: dict[str, Any] = {"thinking": f"There are {said[0]} and {said[1]}.", "regions": regions}
    kinds: list[dict[str, Any]] = [
        {"question": "What would be removed here?", "question_type": "open", "answer": "The two growths", **both},
        {"question": "Is a growth seen?", "question_type": "closed", "answer": "Yes", **one},
        {
            "question": "What stands beside the fold?",
            "question_type": "single_choice",
            "choices": ("a vessel", "a growth", "a scar"),
            "answer": "B",
            **one,
        },
        {
            "question": "Which are seen?",
            "question_type": "multi_choice",
            "choices": ("growth beside the fold", "stent", "growth on the wall"),
            "answer": "A, C",
            **both,
        },
        {"question": "Is a stent seen?", "question_type": "closed", "answer": "No", "thinking": "No metal is seen."},
    ]
    return VqaRow(
        id=f"{split}-visual{number}",
        image=Picture(path=path),
        image_size=SIZE,
        source="drawn",
        modality="endoscopy",
        group=f"patient {number // 2}",
        split=split,
        **kinds[number % len(kinds)],
    )


def save_questions(folder: Path, count: int = 10) -> Path:
    """Write vqa-train.parquet, vqa-val.parquet and vqa-test.parquet; return the folder."""
    for seed, (split, rows) in enumerate((("train", count), ("val", 5), ("test", count))):
        export_vqa_rows(draw_questions(folder, rows, split=split, seed=seed), folder / f"vqa-{split}.parquet")
    return folder

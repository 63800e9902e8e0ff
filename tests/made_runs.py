"""Runs as `medground eval` writes them, over drawn pictures, with answers that a test chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drawn import ellipse, paint
from PIL import Image

from medground.coords import Space
from medground.evaluate.predictions import Prediction, Run, read_run, ruler_of
from medground.evaluate.score import Scored, score_run
from medground.masks import box_of, encode_rle, key_points
from medground.parsing import format_answer
from medground.rewards import Facts
from medground.types import Box, Mask, Point

WIDTH, HEIGHT = 120, 90
PIXELS = Space.pixels(WIDTH, HEIGHT)
KINDS = (
    ("colon polyp", "neoplasm", "endoscopy"),
    ("fetal head", "obstetric", "ultrasound"),
    ("spleen", "abdomen", "CT"),
)

Answer = Callable[["Drawn"], str]


class Drawn:
    """A row: its number, its target (None where it is absent), and what is known of it."""

    def __init__(self, number: int, *, absent: bool = False) -> None:
        self.number = number
        self.category, self.group, self.modality = KINDS[number % len(KINDS)]
        chance = np.random.default_rng(number)
        row, column = chance.uniform(30, 60), chance.uniform(35, 85)
        self.target: Mask = ellipse(HEIGHT, WIDTH, row, column, *chance.uniform((8, 12), (18, 26)))
        self.mask: Mask | None = None if absent else self.target

    @property
    def box(self) -> Box:
        return box_of(self.target)

    def moved(self, share: float, *, reasoning: str | None = None) -> str:
        """Answer with the true box, moved to the right by a share of its width."""
        box, points = self.box, key_points(self.target)
        by = share * box.width
        there = Box(box.x1 + by, box.y1, box.x2 + by, box.y2, PIXELS)
        return format_answer(
            there,
            [Point(p.x + by, p.y, PIXELS) for p in points],
            PIXELS,
            reasoning=self.truly if reasoning is None else reasoning,
        )

    @property
    def truly(self) -> str:
        """A reasoning whose claims are true."""
        facts = Facts.measure(self.target).to_dict()
        return f"It is {facts['size'][0]} and {facts['shape'][0]}."


def drawn(count: int = 12, absent: Sequence[int] = ()) -> list[Drawn]:
    return [Drawn(number, absent=number in absent) for number in range(count)]


def save_pictures(rows: Sequence[Drawn], root: Path) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        Image.fromarray(paint(row.target)).save(root / "images" / f"{row.number}.png")
    return root


def predicted(row: Drawn, completion: str, *, fill: bool = True, **more: Any) -> Prediction:
    """Write a line; `fill` draws the ellipse in the answered box as its mask."""
    truth: dict[str, Any] = {"absent": True, "image_size": [WIDTH, HEIGHT]}
    if row.mask is not None:
        truth = {
            "bbox_2d": list(row.box.xyxy),
            "point_2d": [list(point.xy) for point in key_points(row.mask)],
            "image_size": [WIDTH, HEIGHT],
            "facts": Facts.measure(row.mask).to_dict(),
        }
    about = {"source": "drawn" if row.number % 2 else "other", "category": row.category, "supercategory": row.group}
    about |= {"modality": row.modality, "group": f"patient {row.number // 2}", "split": "test", "style": "lay"}
    given: dict[str, Any] = {
        "id": f"row {row.number:03}",
        "question": f"Where is it, case {row.number}?",
        "image": f"images/{row.number}.png",
        "image_size": (WIDTH, HEIGHT),
        "about": about | {"template": "t", "absent": row.mask is None},
        "truth": truth,
        "truth_mask": None if row.mask is None else encode_rle(row.mask),
        "completion": completion,
        "space": ruler_of(PIXELS),
    }
    line = Prediction.model_validate(given | more)
    box = None if line.answer is None else line.answer.box
    if not fill or row.mask is None or "masks" in more:
        return line
    filled = None
    if box is not None:
        shown = np.zeros((HEIGHT, WIDTH), bool)
        x1, y1, x2, y2 = (round(value) for value in box.xyxy)
        shown[y1:y2, x1:x2] = True
        filled = {"rle": encode_rle(shown & ellipse(HEIGHT, WIDTH, *_middle(box))), "score": 0.9}
    return Prediction.model_validate(line.model_dump() | {"masks": {"box": filled}})


def _middle(box: Box) -> tuple[float, float, float, float]:
    return (box.y1 + box.y2) / 2, (box.x1 + box.x2) / 2, box.height / 2, box.width / 2


def save_run(
    folder: Path, rows: Sequence[Drawn], answer: Answer, *, info: dict[str, Any] | None = None, **more: Any
) -> Path:
    """Write a run's folder; the reasoner's name is the folder's unless `info` says another."""
    folder.mkdir(parents=True)
    lines = [predicted(row, answer(row), **more) for row in rows]
    settings = {"reasoner": {"name": folder.name}, "segmenter": {"name": "filler"}, "mode": "reason", "split": "test"}
    settings |= {"variant": "", "samples": 0, "data": {"rows": len(rows), "digest": "0123456789abcdef"}}
    (folder / "run.json").write_text(json.dumps(settings | (info or {})))
    (folder / "predictions.jsonl").write_text("".join(f"{line.model_dump_json()}\n" for line in lines))
    return folder


def scored(folder: Path, rows: Sequence[Drawn], answer: Answer, **more: Any) -> Scored:
    return score_run(read_run(save_run(folder, rows, answer, **more)))


def scored_of(lines: Sequence[Prediction], **info: Any) -> Scored:
    """Score lines without a folder."""
    return score_run(Run("run", Path("run"), {"reasoner": {"name": "model"}, **info}, tuple(lines)))


ABSENT = '<answer>{"absent": true}</answer>'

"""A small set of drawn rows in parquet, and a tiny model with nano's own tokenizer, for tests of training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
from drawn import ellipse, paint
from PIL import Image

import medground.reasoners
from medground._io import write_json
from medground.data.rows import Picture, Row
from medground.data.schema import write_rows
from medground.masks import box_of, key_points
from medground.rewards.evidence import Facts

NANO = Path(medground.reasoners.__file__).parent / "nano"
SIZE = (96, 72)


def draw_rows(folder: Path, count: int = 12, *, split: str = "train", seed: int = 0) -> list[Row]:
    """Draw pictures with one bright target each into a folder; every fifth row asks for what isn't there."""
    rng = random.Random(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        width, height = SIZE
        mask = ellipse(height, width, rng.uniform(22, 50), rng.uniform(25, 70), rng.uniform(8, 16), rng.uniform(8, 18))
        picture = f"images/{split}{number}.png"
        pixels = paint(mask)
        Image.fromarray(pixels).save(folder / picture)
        absent = number % 5 == 4
        facts = Facts.measure(mask, pixels[..., 0])
        row: dict[str, Any] = {"box": None}
        if not absent:
            row = {
                "box": box_of(mask).xyxy,
                "points": tuple(point.xy for point in key_points(mask)),
                "mask": Picture.of_mask(mask),
                "facts": facts.to_dict(),
            }
        rows.append(
            Row(
                id=f"{split}{number}",
                question=f"Which growth number {number} would be removed here?",
                image=Picture(path=picture),
                image_size=SIZE,
                reasoning="Nothing of the kind is seen." if absent else "A bright growth is seen on the wall.",
                category="colon polyp",
                modality="endoscopy",
                source="drawn",
                split=split,
                **row,
            )
        )
    return rows


def write_data(folder: Path, count: int = 12) -> Path:
    """Write train.parquet and val.parquet; return the folder."""
    write_rows(draw_rows(folder, count), folder / "train.parquet")
    write_rows(draw_rows(folder, 3, split="val", seed=1), folder / "val.parquet")
    return folder


def tiny_nano(folder: Path, seed: int = 0) -> Path:
    """Save a tiny random model of nano's architecture, with its real tokenizer and template, that sees 64 pixels."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(NANO)
    side = {"height": 64, "width": 64}
    processor.image_processor.size = processor.image_processor.crop_size = side
    config = AutoConfig.from_pretrained(NANO)
    small = {"embed_dims": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    config.vision_config.model_args = small
    config.vision_config.hidden_size = 32
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    for name, value in (text | {"num_attention_heads": 2, "num_key_value_heads": 2, "layer_types": None}).items():
        setattr(config.text_config, name, value)
    config.text_config.layer_types = ["full_attention"] * 2
    config.image_seq_length = 4
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_json(folder / "medground.json", {"name": "tiny", "coordinates": "0-1000", "template": "nano-v1"})
    return folder


def settings(model: Path, data: Path, out: Path, kind: str = "sft", **more: Any) -> dict[str, Any]:
    """Return a small run's page as a dict."""
    return {
        "name": "small",
        "kind": kind,
        "model": str(model),
        "out": str(out),
        "rate": 1e-3,
        "schedule": "linear",
        "bf16": False,
        "log_every": 1,
        "eval_every": 1000,
        "data": {"train": str(data / "train.parquet")},
        **more,
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of tensors that differ."""
    return {name for name, value in before.items() if not np.array_equal(value.numpy(), after[name].numpy())}

"""Drawn pictures and masks in the open-masks layout: small stand-ins for a folder of real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DARK, BRIGHT = 50, 200
"""Grey levels of the background and of the targets."""


def ellipse(
    height: int, width: int, row: float, column: float, down: float, across: float, degrees: float = 0.0
) -> np.ndarray:
    """Draw a mask; `down` and `across` are the half axes before it is turned."""
    rows, columns = np.mgrid[:height, :width]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    y, x = rows - row, columns - column
    return ((x * cosine + y * sine) / across) ** 2 + ((y * cosine - x * sine) / down) ** 2 <= 1


def paint(*masks: np.ndarray) -> np.ndarray:
    """Paint masks bright on dark, RGB."""
    grey = np.full(masks[0].shape, DARK, np.uint8)
    for mask in masks:
        grey[mask] = BRIGHT
    return np.repeat(grey[:, :, None], 3, axis=2)


def add_target(
    root: Path, stem: str, mask: np.ndarray, rgb: np.ndarray | None = None, *, category: str = "colon polyp", **row: Any
) -> dict[str, Any]:
    """Write one target's mask (and its picture, the first time) and return its row."""
    row = {"source": "drawn", "modality": "endoscopy", "split": "train", "group": stem, **row}
    image = Path("images", row["source"], f"{stem}.png")
    file = Path("masks", row["source"], f"{stem}__{category.replace(' ', '-')}.png")
    for path in (image, file):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    if not (root / image).exists():
        Image.fromarray(paint(mask) if rgb is None else rgb).save(root / image)
    Image.fromarray(mask).save(root / file)
    return {
        "id": f"{row['source']}/{stem}/{category.replace(' ', '-')}",
        "image": image.as_posix(),
        "mask": file.as_posix(),
        "width": mask.shape[1],
        "height": mask.shape[0],
        "category": category,
        "dataset": "Drawn",
        "license": "CC0-1.0",
        "tier": "A",
        **row,
    }


def write_manifest(root: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the manifest and return the folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


def small_folder(root: Path) -> Path:
    """Draw a folder with all that matters to the builders.

    Two pictures of polyps (one of them with a hole, one in two parts), a chest picture with both lungs and one with the
    left one alone (both of a collection whose sides are the patient's), a brain with both putamina, a brain with one;
    an optic disc to validate on, and a breast mass and a pair to test on.
    """
    rows = [add_target(root, "a", ellipse(96, 128, 30, 40, 14, 20))]
    parts = ellipse(100, 90, 60, 60, 16, 16) | ellipse(100, 90, 10, 10, 5, 5)
    rows.append(add_target(root, "b", parts & ~ellipse(100, 90, 60, 60, 5, 5), source="kvasir_seg"))
    left, right = ellipse(120, 120, 60, 85, 35, 18), ellipse(120, 120, 60, 35, 35, 18)  # the patient's left is right
    chest = {"source": "cxr_mc_sz", "modality": "X-ray"}
    rows.append(add_target(root, "both", left, paint(left, right), category="left lung", **chest))
    rows.append(add_target(root, "both", right, category="right lung", **chest))
    rows.append(add_target(root, "one", left, category="left lung", **chest))
    brain = {"source": "voxelmorph_t1", "modality": "MRI"}
    up, low = ellipse(110, 100, 30, 52, 12, 14), ellipse(110, 100, 80, 48, 12, 14)
    rows.append(add_target(root, "slice", up, paint(up, low), category="left putamen", **brain))
    rows.append(add_target(root, "slice", low, category="right putamen", **brain))
    rows.append(add_target(root, "lone", up, category="left putamen", **brain))
    eye = {"source": "drishti", "modality": "fundus", "split": "val"}
    rows.append(add_target(root, "eye", ellipse(80, 80, 40, 50, 9, 8), category="optic disc", **eye))
    breast = {"source": "busi", "modality": "ultrasound", "split": "test"}
    rows.append(add_target(root, "c", ellipse(70, 90, 35, 20, 10, 16), category="benign breast tumor", **breast))
    brain["split"] = "test"
    west, east = ellipse(100, 110, 50, 30, 12, 10), ellipse(100, 110, 55, 80, 12, 10)
    rows.append(add_target(root, "pair", west, paint(west, east), category="left putamen", **brain))
    rows.append(add_target(root, "pair", east, category="right putamen", **brain))
    return write_manifest(root, rows)

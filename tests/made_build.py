"""A small build with drawn pictures, up to its question records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from drawn import ellipse, paint
from PIL import Image

from medground.data.stages import run_stage
from medground.masks import box_of, encode_rle, key_points
from medground.rewards import Facts

TRUE = "It is a {size} {shape} region, brighter than its surroundings. "
FALSE = "It is a tiny region, darker than its surroundings."


def question_record(root: Path, number: int, *, absent: bool = False, **changes: Any) -> dict[str, Any]:
    """Draw a picture under the root and return a question record about what is bright in it."""
    mask = ellipse(90, 120, 30 + 3 * number % 30, 40 + 7 * number % 40, 14, 20)
    image = Path("images", f"{number}.png")
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(paint(mask)).save(root / image)
    facts = Facts.measure(mask, np.asarray(paint(mask)[:, :, 0])).to_dict()
    reasoning = TRUE.format(size=facts["size"][0], shape=facts["shape"][0]) + (FALSE if number % 2 else "")
    record = {
        "id": f"drawn/{number}/polyp",
        "picture": f"drawn/{number}",
        "image": image.as_posix(),
        "width": 120,
        "height": 90,
        "category": "colon polyp",
        "modality": "endoscopy" if number % 3 else "MRI",
        "source": "drawn",
        "licence": "CC0-1.0",
        "tier": "A",
        "group": f"patient-{number}",
        "split": ("train", "train", "val", "test")[number % 4],
        "mask": encode_rle(mask),
        "bbox": list(box_of(mask).xyxy),
        "points": [list(point.xy) for point in key_points(mask)],
        "parts": 1,
        "share": float(mask.mean()),
        "origin": {},
        "attributes": {"zone": "upper left"},
        "facts": facts,
        "short": "A bright bump.",
        "long": "A bright bump on the wall of the bowel.",
        "described_by": "grammar-v1",
        "question": f"Which growth should be taken out during the procedure, case {number}?",
        "reasoning": reasoning,
        "absent": False,
        "style": ("function", "location")[number % 2],
        "length": "short",
        "template": "removal",
        "asked_by": "grammar-v1",
        "healthy": False,
    }
    if absent:
        record |= {"absent": True, "bbox": None, "points": [], "mask": None, "facts": {}, "reasoning": "None is there."}
    return record | changes


def write_build(out: Path, root: Path, records: list[dict[str, Any]], *, shard: int = 3) -> Path:
    """Write the records as the stage that asks, and return the build's folder."""
    shards = [records[start : start + shard] for start in range(0, len(records), shard)]
    run_stage("ask", shards, list, out, settings={"seed": 1}, about={"root": str(root)}, workers=1, restart=True)
    return out


def small_build(folder: Path, count: int = 8) -> Path:
    """Build some records, the last of them absent."""
    root = folder / "root"
    records = [question_record(root, number, absent=number == count - 1) for number in range(count)]
    return write_build(folder / "out", root, records)

"""Rows as a build makes them, of drawn pictures: right in every respect, so that a test can plant one fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn import small_folder
from PIL import Image

from medground.data.attributes import measure
from medground.data.open_masks import load_mask, load_picture, read_open_masks
from medground.data.schema import Picture, Row, write_rows
from medground.masks import box_of, key_points
from medground.rewards import Facts
from medground.taxonomy import phrases, target_of


def made_rows(root: Path) -> list[Row]:
    """Draw `small_folder` and return a row for each of its targets, and an absent one."""
    rows = []
    for target in read_open_masks(small_folder(root)):
        mask = load_mask(target)
        grey = np.asarray(load_picture(target).convert("L"))
        seen, entity = measure(mask, grey), target_of(target.category)
        side = next((word for word in ("left", "right") if word in target.category.split()), "")
        rows.append(
            Row(
                id=target.id,
                question=f"Where is {phrases(entity, target.modality)['function'][0]}{side and f', on the {side}'}?",
                image=Picture(path=target.image.relative_to(root).as_posix()),
                mask=Picture.of_mask(mask),
                box=box_of(mask).xyxy,
                points=tuple(point.xy for point in key_points(mask)),
                image_size=(target.width, target.height),
                reasoning=(
                    f"It lies in the {seen.zone} of the image. It is {seen.size} and {seen.shape}, and it is "
                    f"{seen.brightness} its surroundings."
                ),
                category=target.category,
                supercategory=entity.supercategory,
                modality=target.modality,
                source=target.source,
                licence="CC0-1.0",
                group=target.group,
                split=target.split,
                style="function",
                template=f"where-{target.split}",
                healthy=entity.healthy,
                facts=Facts.measure(mask, grey).to_dict(),
            )
        )
    lone = rows[0].model_copy(
        update={
            "id": "absent",
            "question": "Where are old red blood cells broken down?",
            "category": "spleen",
            "supercategory": "abdomen",
            "style": "lay",
            "reasoning": "The picture shows the gut's inside, and no such organ.",
        }
    )
    nowhere = {"box": None, "points": (), "mask": None, "facts": None, "healthy": None}
    return [*rows, lone.model_copy(update=nowhere)]


def save_rows(rows: list[Row], folder: Path) -> Path:
    """Write the rows into a parquet file for each split and return the folder."""
    for split in ("train", "val", "test"):
        write_rows([row for row in rows if row.split == split], folder / f"{split}.parquet")
    return folder


def noise(seed: int, height: int = 60, width: int = 80) -> Image.Image:
    """Draw a picture that is like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

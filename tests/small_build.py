"""A small folder of masks from several collections, and builds of it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from drawn import add_target, ellipse, write_manifest

from medground.data.clean import clean

COLLECTIONS = {
    # Collection: modality and the categories of each of its pictures.
    "trunks": ("CT", ("liver", "spleen", "kidney left", "kidney right", "urinary bladder")),
    "brains": ("MRI", ("left putamen", "right putamen", "brain stem", "glioma")),
    "hearts": ("MRI", ("left ventricle cavity",)),
    "chests": ("X-ray", ("left lung", "right lung")),
    "eyes": ("fundus", ("optic disc", "optic cup")),
    "bowels": ("endoscopy", ("colon polyp",)),
    "breasts": ("ultrasound", ("benign breast tumor",)),
    "wombs": ("ultrasound", ("fetal head",)),
}


def write_masks(root: Path, pictures: int = 9) -> Path:
    """Draw `pictures` pictures of each collection; of nine, six are in train, one in val and two in test."""
    rows = []
    for source, (modality, categories) in COLLECTIONS.items():
        for number in range(pictures):
            rng = random.Random(f"{source}/{number}")
            masks = [
                ellipse(
                    96,
                    128,
                    row=rng.uniform(16, 80),
                    column=(index + 0.5) * 128 / len(categories) + rng.uniform(-3, 3),
                    down=rng.uniform(4, 14),
                    across=rng.uniform(4, 8),
                )
                for index in range(len(categories))
            ]
            grey = np.random.default_rng(number).normal(90, 6, (96, 128))
            for mask in masks:
                grey[mask] += rng.choice((-50, 0, 70))
            rgb = np.repeat(grey.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
            split = ("train", "train", "test", "train", "train", "val", "train", "train", "test")[number % 9]
            for category, mask in zip(categories, masks, strict=True):
                rows.append(
                    add_target(
                        root,
                        f"{source}{number}",
                        mask,
                        rgb,
                        category=category,
                        source=source,
                        modality=modality,
                        split=split,
                        group=f"{source}/{number}",
                    )
                )
    write_manifest(root, rows)
    return root


def cleaned(folder: Path, pictures: int = 9) -> Path:
    """Draw masks, clean them, and return the build's folder."""
    clean([write_masks(folder / "masks", pictures)], folder / "out", workers=1)
    return folder / "out"

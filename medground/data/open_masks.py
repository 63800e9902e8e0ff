"""Read a folder of images with pixel masks that a ``manifest.jsonl`` describes (the open-masks layout)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medground.errors import ConfigError, TruthError
from medground.masks import largest_component
from medground.types import Mask

__all__ = ["Split", "Target", "load_mask", "read_open_masks"]

Split = Literal["train", "val", "test"]


class Target(BaseModel):
    """One target of one image, as a line of the manifest gives it.

    Parameters
    ----------
    id : str
        ``source/image-stem/category``, unique.
    image, mask : Path
        RGB picture and 1-bit mask of the same size, absolute.
    width, height : int
        Size in pixels.
    modality, category, source, dataset, license, tier, group, split : str
        As the manifest has them; `group` is the patient, and never lies in two splits.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    image: Path
    mask: Path
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    modality: str
    category: str
    source: str
    dataset: str = ""
    license: str = ""
    tier: str = ""
    group: str
    split: Split


def read_open_masks(root: str | Path, split: Split | None = None) -> list[Target]:
    """Read the manifest of a folder of masks.

    Parameters
    ----------
    root : path
        The folder that holds ``manifest.jsonl``, ``images/`` and ``masks/``.
    split : {"train", "val", "test"}, optional
        Keep these rows alone.

    Returns
    -------
    list of Target
        In the manifest's order, paths absolute.

    Raises
    ------
    ConfigError
        When the manifest is missing or a row can't be read; names the line and the field.
    """
    root = Path(root)
    manifest = root / "manifest.jsonl"
    if not manifest.is_file():
        raise ConfigError(f"{manifest}: no such file; give the folder that holds manifest.jsonl, images/ and masks/")
    targets: list[Target] = []
    splits: dict[str, str] = {}
    for number, line in enumerate(manifest.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = Target.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the line"
            raise ConfigError(f"{manifest}:{number}: {field}: {first['msg']}") from error
        if splits.setdefault(row.group, row.split) != row.split:
            raise ConfigError(f"{manifest}:{number}: patient group {row.group!r} is in two splits; keep it in one")
        if split in (None, row.split):
            targets.append(row.model_copy(update={"image": root / row.image, "mask": root / row.mask}))
    return targets


def load_mask(target: Target) -> Mask:
    """Return a target's mask, its largest component alone: one box is the answer to one question.

    Returns
    -------
    bool array, shape (height, width)

    Raises
    ------
    TruthError
        When the mask can't be read, is empty, or isn't of the image's size.
    """
    try:
        with Image.open(target.mask) as picture:
            mask: Mask = np.asarray(picture.convert("L")) > 0
    except OSError as error:
        raise TruthError(
            f"{target.mask}: the mask can't be read ({error}); restore the file or drop the row"
        ) from error
    if mask.shape != (target.height, target.width):
        raise TruthError(f"{target.mask}: {mask.shape[::-1]} isn't the manifest's size {(target.width, target.height)}")
    if not mask.any():
        raise TruthError(f"{target.mask}: the mask is empty; drop the row")
    return largest_component(mask)

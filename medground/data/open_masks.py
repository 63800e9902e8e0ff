"""Read a folder of images with pixel masks that a ``manifest.jsonl`` describes (the open-masks layout)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from medground.errors import ConfigError, TruthError, first_mistake
from medground.masks import largest_component
from medground.types import Mask

__all__ = ["Split", "Target", "load_mask", "load_picture", "read_open_masks"]

Split = Literal["train", "val", "test"]


def _inside(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("must lead from the folder to a file in it")
    return path


Inside = Annotated[Path, AfterValidator(_inside)]


class Target(BaseModel):
    """One target of one image, as a line of the manifest gives it.

    Parameters
    ----------
    id : str
        ``source/image-stem/category``, unique.
    image, mask : Path
        RGB picture and 1-bit mask of the same size. Relative in the manifest; `read_open_masks` puts the folder before.
    width, height : int
        Size in pixels.
    modality, category, source, dataset, license, tier, group, split : str
        As the manifest has them; `group` is the patient, and never lies in two splits.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    image: Inside
    mask: Inside
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
        In the manifest's order, paths under `root`.

    Raises
    ------
    ConfigError
        When the manifest is missing, a row can't be read, an id comes twice or a patient is in two splits; names the
        line and the field.
    """
    root = Path(root)
    manifest = root / "manifest.jsonl"
    if not manifest.is_file():
        raise ConfigError(f"{manifest}: no such file; give the folder that holds manifest.jsonl, images/ and masks/")
    try:
        lines = manifest.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{manifest}: can't be read ({error}); it must be JSON lines in UTF-8") from error
    targets: list[Target] = []
    splits: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = Target.model_validate_json(line)
        except ValidationError as error:
            field, _, reason = first_mistake(error)
            raise ConfigError(f"{manifest}:{number}: {field or 'the line'}: {reason}; mend or drop the row") from error
        if seen.setdefault(row.id, number) != number:
            raise ConfigError(
                f"{manifest}:{number}: id: {row.id!r} is that of line {seen[row.id]} too; keep one of them"
            )
        if splits.setdefault(row.group, row.split) != row.split:
            raise ConfigError(
                f"{manifest}:{number}: split: patient group {row.group!r} is in two splits; keep it in one"
            )
        if split in (None, row.split):
            targets.append(row.model_copy(update={"image": root / row.image, "mask": root / row.mask}))
    return targets


def load_picture(target: Target) -> Image.Image:
    """Return a target's picture, RGB.

    Raises
    ------
    TruthError
        When the picture can't be read or isn't of the size that the manifest says.
    """
    return _load(target, target.image, "image", "RGB")


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
    mask: Mask = np.asarray(_load(target, target.mask, "mask", "L")) > 0
    if not mask.any():
        raise TruthError(f"{target.mask}: the mask is empty; drop the row")
    return largest_component(mask)


def _load(target: Target, path: Path, what: str, mode: str) -> Image.Image:
    try:
        with Image.open(path) as picture:
            size = picture.size  # from the header: nothing of another size is decoded
            if size == (target.width, target.height):
                return picture.convert(mode)
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise TruthError(f"{path}: the {what} can't be read ({error}); restore the file or drop the row") from error
    raise TruthError(
        f"{path}: {size[0]} x {size[1]} isn't the manifest's size {target.width} x {target.height}; mend the row"
    )

"""Pictures and slices with their masks, as the files hold them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground._io import make_folder, write_bytes
from medground.data.jobs import Job, MaskFile, Named, Origin, PictureJob, VolumeJob, slug
from medground.data.volumes import SliceChoice, Unnamed, read_slices
from medground.errors import TruthError
from medground.images import MedicalImage, load_image
from medground.types import Mask

__all__ = ["Made", "Shown", "name_of", "of_picture", "of_volume"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as records name it: its id, its path from the root, (width, height), and where in a volume it lies."""

    picture: str
    image: str
    size: tuple[int, int]
    origin: Origin
    place: Mapping[str, Any]


Made = Iterator[tuple[Shown, Named, Mask | None]]


def name_of(job: Job) -> str:
    """Return the id of a picture, or what the ids of a volume's slices begin with."""
    return job.picture if isinstance(job, PictureJob) else f"{job.origin.source}/{job.case}"


def of_picture(job: PictureJob, root: str, out: str) -> Made:
    """Give the masks of a picture, each with its name; None in place of a mask for a label without a name.

    Raises
    ------
    ImageError, TruthError
        When the picture or a mask can't be read, or they differ in size.
    """
    path = Path(job.image)
    image = load_image(path)
    origin = image.provenance
    # Pillow, and so every viewer and trainer, shows such a file as we do.
    plain = origin.format in ("png", "jpeg", "bmp") and origin.bits <= 8 and origin.window is None and not origin.notes
    if not plain:
        path = _write(image, Path(out, "images", f"{job.picture}.png"))
    shown = Shown(job.picture, _from(root, path), image.size, job.origin, {})
    for file in job.masks:
        values = _read_mask(file, image.size, job.image)
        for named in file.targets:
            mask = np.isin(values, named.values) if named.values else values != 0
            if mask.any() or not named.values:  # a label picture needn't hold every label
                yield shown, named, mask
        known = {value for named in file.targets for value in named.values}
        for value in sorted(set(np.unique(values).tolist()) - known - {0}) if known else ():
            yield shown, Named(f"{job.picture}/value {value}", ""), None


def of_volume(job: VolumeJob, root: str, out: str, choice: SliceChoice) -> Made:
    """Give the masks of a volume's chosen slices, which are written to ``OUT/images``; see `of_picture`."""
    name = name_of(job)
    for found in read_slices(job, choice):
        if isinstance(found, Unnamed):
            yield Shown(name, "", (0, 0), job.origin, {}), Named(f"{name}/label {found.label}", ""), None
            continue
        path = _write(found.image, Path(out, "images", name, f"{found.name}.png"))
        shown = Shown(f"{name}/{found.name}", _from(root, path), found.image.size, job.origin, found.origin)
        for category, mask in found.masks.items():
            yield shown, Named(f"{name}/{slug(category)}/{found.name}", category), mask


def _read_mask(file: MaskFile, size: tuple[int, int], image: str) -> npt.NDArray[Any]:
    """Return a mask's values, shape (height, width); 0 is background."""
    try:
        with Image.open(file.path) as picture:
            found, kind, mode = picture.size, picture.format, picture.mode
            if found == size:  # from the header: nothing of another size is decoded
                values = np.asarray(picture)
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        reason = " ".join(str(error).split())[:120]
        raise TruthError(f"{file.path}: the mask can't be read ({reason}); save it as PNG") from error
    if found != size:
        raise TruthError(
            f"{file.path}: {found[0]} x {found[1]} pixels aren't the {size[0]} x {size[1]} of {image}; mend one of them"
        )
    if any(named.values for named in file.targets):
        if values.ndim > 2 or kind == "JPEG":
            raise TruthError(f"{file.path}: values are asked of a mask in {mode} {kind}; save one grey channel as PNG")
        return np.rint(values).astype(np.int32) if values.dtype.kind == "f" else values
    if values.ndim > 2:
        values = values[..., : -1 if mode[-1] in "Aa" else None].max(axis=-1)
    return values >= 128 if kind == "JPEG" else values  # JPEG leaves low values around edges


def _write(image: MedicalImage, path: Path) -> Path:
    rgb = image.rgb
    grey = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    stream = io.BytesIO()
    Image.fromarray(rgb[..., 0] if grey else rgb).save(stream, "PNG")
    make_folder(path.parent)
    write_bytes(path, stream.getvalue())
    return path


def _from(root: str, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()

"""What there is to clean: pictures and volumes with their masks, as a source lists them; nothing is decoded yet."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from medground.errors import first_mistake
from medground.image_files import Axis

__all__ = ["Job", "MaskFile", "Named", "Origin", "PictureJob", "Source", "VolumeJob", "mistake_in", "slug"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What all targets of a picture or a volume share.

    Parameters
    ----------
    modality, source, licence, tier : str
    group : str
        The patient; unique among all sources.
    split : {"train", "val", "test", ""}
        Empty where the source leaves it to us.
    """

    modality: str
    source: str
    licence: str
    tier: str
    group: str
    split: str


@dataclass(frozen=True, slots=True)
class Named:
    """A target in a mask: the pixels of some values, or all that aren't 0 where it names none."""

    id: str
    category: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask of one target, or a label picture of several."""

    path: str
    targets: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class PictureJob:
    """A picture with its masks; `picture` is its id, the paths are absolute."""

    picture: str
    image: str
    masks: tuple[MaskFile, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class VolumeJob:
    """A volume with its labels: two NIfTI files, or a folder with a DICOM series and a DICOM-SEG.

    Parameters
    ----------
    case : str
        Unique in its source.
    kind : {"nifti", "dicom-seg"}
    image, labels : str
        Absolute paths.
    names : tuple of (str, str)
        Categories by the label's value, or by the segment's label or number; labels of one category are one target.
    axis : {"axial", "coronal", "sagittal"} or None
        Which way a NIfTI volume is cut; None as `load_image` would.
    frame : int or None
        Which volume of a NIfTI image of four axes.
    """

    case: str
    kind: Literal["nifti", "dicom-seg"]
    image: str
    labels: str
    names: tuple[tuple[str, str], ...]
    axis: Axis | None
    frame: int | None
    origin: Origin


Job = PictureJob | VolumeJob


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of pictures or volumes.

    Parameters
    ----------
    root : Path
        Absolute; all files lie in it.
    jobs : tuple of Job
    """

    root: Path
    jobs: tuple[Job, ...]

    def digest(self) -> str:
        """Return a digest of the jobs, which doesn't depend on where the folder lies."""
        found = hashlib.sha256()
        for job in self.jobs:
            said = json.dumps(asdict(job), sort_keys=True).replace(json.dumps(f"{self.root.as_posix()}/")[1:-1], "")
            found.update(said.encode())
        return found.hexdigest()[:16]


def slug(category: str) -> str:
    """Return a target's name as it stands in ids.

    Examples
    --------
    >>> slug("left kidney / cyst")
    'left-kidney-cyst'
    """
    return re.sub(r"[\s/]+", "-", category.strip())


def mistake_in(error: ValidationError) -> str:
    """Return the first mistake that pydantic found, in words, and the field that it is in."""
    field, kind, reason = first_mistake(error)
    said = {"missing": "is missing", "extra_forbidden": "isn't known here"}.get(kind, reason)
    return f"{field}: {said}" if field else said

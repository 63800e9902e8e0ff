"""Slices of labelled volumes: NIfTI label volumes, and DICOM-SEG with its source series.

A slice and its masks are in the picture that `load_image` shows: the same orientation, the same window.
"""

from __future__ import annotations

import gzip
import itertools
import math
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from medground.data.jobs import VolumeJob
from medground.errors import ConfigError, ImageError, MissingExtraError, TruthError
from medground.image_files import MAX_BYTES
from medground.images import MedicalImage, load_image
from medground.types import Mask

__all__ = ["Slice", "SliceChoice", "Unnamed", "by_category", "read_slices", "spacing_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SliceChoice:
    """Which slices of a volume are asked about, for each label by itself.

    Parameters
    ----------
    every : int
        0: the slice on which the label is largest (the first of equals), and no other. Else each `every`-th slice with
        the label, counted from that one.
    most : int or None
        At most so many, the largest ones; None for no bound.
    apart : int
        At least so many slices from one to the next.
    """

    every: int = 0
    most: int | None = None
    apart: int = 1

    def __post_init__(self) -> None:
        if self.every < 0 or self.apart < 1 or (self.most is not None and self.most < 1):
            raise ConfigError(f"{self} chooses no slices; every is 0 or more, most and apart are 1 or more")

    def of(self, areas: Sequence[int]) -> list[int]:
        """Return the indices of the chosen slices, ascending.

        Parameters
        ----------
        areas : sequence of int
            The label's pixels on each slice.

        Examples
        --------
        >>> areas = [0, 5, 9, 8, 7, 0, 2, 0]
        >>> SliceChoice().of(areas), SliceChoice(every=2).of(areas), SliceChoice(every=1, most=2, apart=2).of(areas)
        ([2], [2, 4, 6], [2, 4])
        """
        if not any(areas):
            return []
        largest = max(range(len(areas)), key=areas.__getitem__)
        if not self.every:
            return [largest]
        chosen: list[int] = []
        for index in sorted(range(largest % self.every, len(areas), self.every), key=lambda index: -areas[index]):
            if not areas[index] or len(chosen) == self.most:
                break
            if all(abs(index - other) >= self.apart for other in chosen):
                chosen.append(index)
        return sorted(chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A slice that was chosen for one label or more.

    Parameters
    ----------
    name : str
        Tells it from others of the volume: ``"axial-0012"``.
    image : MedicalImage
    masks : dict of str to bool array, shape (height, width)
        By category, of the labels that chose it.
    origin : dict
        Where it lies in the volume.
    """

    name: str
    image: MedicalImage
    masks: dict[str, Mask]
    origin: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A label that has no name, and so no targets."""

    label: str


def read_slices(job: VolumeJob, choice: SliceChoice) -> Iterator[Slice | Unnamed]:
    """Read the slices of a volume that the choice falls on, in their order; then the labels that have no name.

    Raises
    ------
    TruthError
        When the labels can't be read or don't lie on the image's grid; names the file and the remedy.
    ImageError
        When the image can't be read.
    MissingExtraError
        When support for the format isn't installed.
    """
    if job.kind == "nifti":
        yield from _of_nifti(job, choice)
        return
    from medground.data.dicom_seg import of_dicom

    yield from of_dicom(job, choice)


# -- NIfTI ------------------------------------------------------------------------------------------------------------


def _of_nifti(job: VolumeJob, choice: SliceChoice) -> Iterator[Slice | Unnamed]:
    from medground.nifti_reader import PLANES

    values = by_category((int(value), name) for value, name in job.names)
    with _unpacked(Path(job.image)) as file:
        axis = load_image(file, axis=job.axis, frame=job.frame).provenance.axis
        cut, across, down = PLANES[axis or "axial"]
        labels = np.moveaxis(_labels(job), (cut, across, down), (0, 2, 1))
        areas = _areas(labels)
        wanted = {
            name: choice.of(np.sum([areas[value] for value in values[name] if value in areas], axis=0).tolist())
            for name in values
            if any(value in areas for value in values[name])
        }
        for index in sorted({index for indices in wanted.values() for index in indices}):
            image = load_image(file, axis=axis, slice=index, frame=job.frame)
            plane = labels[index, ::-1, ::-1]
            masks = {name: np.isin(plane, values[name]) for name, indices in wanted.items() if index in indices}
            origin: dict[str, Any] = {"axis": axis, "slice": index}
            if job.frame is not None:
                origin["frame"] = job.frame
            yield Slice(f"{axis}-{index:04d}", image, masks, origin | spacing_of(image))
    known = {value for name in values for value in values[name]}
    yield from (Unnamed(str(value)) for value in sorted(areas) if value not in known)


def by_category(names: Iterable[tuple[T, str]]) -> dict[str, list[T]]:
    """Return the values of each category, in their order."""
    found: dict[str, list[T]] = {}
    for value, name in names:
        found.setdefault(name, []).append(value)
    return found


def _areas(labels: npt.NDArray[Any]) -> dict[int, npt.NDArray[np.int64]]:
    """Return the pixels of each label on each slice along the first axis; the background's left out."""
    found: dict[int, npt.NDArray[np.int64]] = {}
    for index, plane in enumerate(labels):
        if plane.any():
            for value, count in zip(*np.unique(plane, return_counts=True), strict=True):
                found.setdefault(int(value), np.zeros(len(labels), np.int64))[index] = count
    found.pop(0, None)
    return found


def _labels(job: VolumeJob) -> npt.NDArray[Any]:
    """Return the labels in canonical orientation, after checking that they lie on the image's grid."""
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError("nibabel", extra="nifti", purpose="reading NIfTI files") from None
    try:
        image, stored = nibabel.load(job.image), nibabel.load(job.labels)
        if math.prod(stored.shape) * 8 > MAX_BYTES * 4:
            raise TruthError(f"{job.labels}: {math.prod(stored.shape):,} voxels are too many; cut the volume")
        values = np.asanyarray(stored.dataobj)
        values = values.reshape((*values.shape, 1, 1)[:3] if math.prod(values.shape[3:]) == 1 else values.shape)
        shape, affine = (*image.shape, 1, 1)[:3], np.asarray(image.affine)
        mine = np.asarray(stored.affine)
        if values.ndim != 3:
            raise TruthError(f"{job.labels}: has {values.shape[3]} volumes; save one volume of labels")
        if not np.isfinite([affine, mine]).all():
            raise TruthError(f"{job.labels}: it or {job.image} states no readable orientation; save them again")
        image_way, way = nibabel.io_orientation(affine), nibabel.io_orientation(mine)
        grid = affine @ nibabel.orientations.inv_ornt_aff(image_way, shape)
        own = mine @ nibabel.orientations.inv_ornt_aff(way, values.shape)
        canonical: npt.NDArray[Any] = nibabel.apply_orientation(values, way)
        sides = tuple(np.asarray(shape)[np.argsort(image_way[:, 0])].tolist())
    except TruthError:
        raise
    except Exception as error:  # damaged headers and streams make nibabel, gzip and zlib raise whatever they like
        reason = " ".join(str(error).split())[:120]
        raise TruthError(f"{job.labels}: can't be read as labels of {job.image} ({reason}); export it again") from error
    # Half a voxel at the corners: headers are written in single precision, and by tools that round differently.
    corners = np.array(list(itertools.product(*((0, side - 1) for side in sides), (1,)))).T
    apart = np.sqrt((((grid - own) @ corners)[:3] ** 2).sum(0)).max()
    if canonical.shape != sides or apart > 0.5 * np.sqrt((grid[:3, :3] ** 2).sum(0)).min():
        raise TruthError(f"{job.labels}: doesn't lie on the grid of {job.image}; resample the labels onto it")
    if canonical.dtype.kind not in "iub":
        whole = np.rint(canonical)
        if not np.array_equal(whole, canonical):
            raise TruthError(f"{job.labels}: holds values that aren't whole numbers; save labels, not probabilities")
        canonical = whole.astype(np.int32)
    return canonical


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Give a NIfTI file unpacked, so that reading many slices unpacks it but once."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise ImageError(f"{path}: can't be opened ({error.strerror or error}); check the path") from error
    if not packed:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="medground-") as folder:
        plain = Path(folder, path.name.removesuffix(".gz"))
        try:
            with gzip.open(path) as source, plain.open("wb") as target:
                left = MAX_BYTES
                while chunk := source.read(1 << 20):
                    left -= len(chunk)
                    if left < 0:
                        raise ImageError(f"{path}: unpacks to more than {MAX_BYTES:,} bytes; cut the volume")
                    target.write(chunk)
        except (OSError, EOFError, zlib.error) as error:
            raise ImageError(f"{path}: is damaged or truncated; copy or export it again") from error
        yield plain


def spacing_of(image: MedicalImage) -> dict[str, Any]:
    """Return the distances between rows and between columns as a field of an origin, where they are known."""
    spacing = image.provenance.spacing_mm
    return {} if spacing is None else {"spacing_mm": [round(side, 6) for side in spacing]}

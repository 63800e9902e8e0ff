"""A picture's place in its file's voxel grid, and label volumes on that grid.

Voxels are counted as the file counts them, (i, j, k) from 0, and a place with whole numbers is a voxel's centre. What
is no NIfTI counts columns, rows and frames.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from medground.errors import ImageError
from medground.image_files import Axis, ReadOptions
from medground.images import MedicalImage
from medground.nifti_reader import PLANES
from medground.serve.fields import ViewFields
from medground.serve.images import Upload, as_file
from medground.types import Box, Point, Result

__all__ = ["Grid", "grid_of"]

_MAX_VOXELS = 1 << 28
_FRAMES = ((1, 0, 0), (0, 1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The voxels of a file.

    Parameters
    ----------
    shape : (int, int, int)
    affine : float array, shape (4, 4)
        From voxels to millimetres, RAS+.
    orientation : int array, shape (3, 2), or None
        Per axis of the file: its canonical axis (0 right, 1 anterior, 2 superior), and 1 or -1 for its direction; None
        for what is no NIfTI.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    orientation: npt.NDArray[np.int64] | None

    def view_through(self, voxel: list[float], axis: Axis | None = None) -> ViewFields:
        """Return the slice or frame that a voxel lies on: across the file's last axis unless one is named."""
        if self.orientation is None:
            return ViewFields(frame=max(0, round(voxel[2])))
        canonical = int(self.orientation[2][0]) if axis is None else PLANES[axis][0]
        [own] = np.flatnonzero(self.orientation[:, 0] == canonical)
        axis = next(name for name, (cut, _, _) in PLANES.items() if cut == canonical)
        index = round(voxel[int(own)])
        if self.orientation[own][1] < 0:
            index = self.shape[int(own)] - 1 - index
        return ViewFields(axis=axis, slice=max(0, index))

    def point(self, voxel: list[float], picture: MedicalImage) -> Point | None:
        """Return where a voxel's centre lies in a picture; None where it isn't on its slice."""
        matrix = _matrix(picture)
        flat = np.flatnonzero(~matrix[:, :2].any(axis=1))
        if len(flat) and abs(voxel[int(flat[0])] - matrix[int(flat[0]), 2]) > 0.5:
            return None
        column, row = np.linalg.lstsq(matrix[:, :2], np.asarray(voxel) - matrix[:, 2], rcond=None)[0]
        return Point(float(column) + 0.5, float(row) + 0.5, picture.space).clipped()

    def box(self, roi: list[float], picture: MedicalImage) -> Box | None:
        """Return a region of interest [i, i, j, j, k, k], or [i, i, j, j], as a box; None where it has no area."""
        if len(roi) not in (4, 6):
            return None
        # In the picture a region reaches from edge to edge of its voxels.
        low, high = np.minimum(roi[::2], roi[1::2]) - 0.5, np.maximum(roi[::2], roi[1::2]) + 0.5
        matrix = _matrix(picture)[: len(low)]
        corners = [np.linalg.lstsq(matrix[:, :2], corner - matrix[:, 2], rcond=None)[0] + 0.5 for corner in (low, high)]
        (x1, y1), (x2, y2) = np.minimum(*corners), np.maximum(*corners)
        try:
            return Box(float(x1), float(y1), float(x2), float(y2), picture.space).clipped()
        except ValueError:
            return None

    def labels(self, result: Result) -> npt.NDArray[np.uint8]:
        """Return a volume that is 1 where a result's mask is, shape as the file's."""
        volume = np.zeros(self.shape, np.uint8)
        if result.mask is not None and result.provenance is not None:
            rows, columns = np.nonzero(result.mask)
            where = np.asarray(_placed(result.provenance)) @ np.stack([columns, rows, np.ones_like(rows)])
            volume[tuple(where)] = 1
        return volume

    def file(self, volume: npt.NDArray[np.uint8], extension: str) -> bytes:
        """Return a label volume as a NIfTI (``.nii``, ``.nii.gz``) or NRRD (``.nrrd``) file."""
        if extension == ".nrrd":
            return _nrrd(volume, self.affine)
        import nibabel

        written: bytes = nibabel.Nifti1Image(volume, self.affine).to_bytes()
        return gzip.compress(written, compresslevel=1, mtime=0) if extension == ".nii.gz" else written


def grid_of(upload: Upload) -> Grid:
    """Return the voxel grid of an upload; raises ImageError where no label volume can be made on it."""
    usual = upload.usual
    voxels = usual.width * usual.height * (usual.slices or usual.frames or 1)
    if voxels > _MAX_VOXELS:
        raise ImageError(f"the image has {voxels:,} voxels, above the limit of {_MAX_VOXELS:,}; crop it")
    if usual.format != "nifti":
        down, across = usual.spacing_mm or (1.0, 1.0)
        # Rows run to the patient's back and columns to the left, as viewers lay out what states nothing.
        return Grid((usual.width, usual.height, usual.frames or 1), np.diag([-across, -down, 1.0, 1.0]), None)
    from nibabel import nifti1, nifti2

    from medground.nifti_reader import _read_header

    with as_file(upload.content) as path, path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=plain) if packed else plain)
        options = ReadOptions(path, None, None, None, None, usual.width * usual.height, len(upload.content))
        header = _read_header(options, file)
        file.seek(0)
        newer = (540).to_bytes(4, "little") in ((first := file.read(4)), first[::-1])
        file.seek(0)
        raw = (nifti2.Nifti2Header if newer else nifti1.Nifti1Header).from_fileobj(file)
    affine = np.asarray(raw.get_best_affine(), np.float64)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise ImageError("the image's affine places its voxels nowhere, or all on one plane; convert it again")
    return Grid(header.shape, affine, header.orientation)


def _matrix(picture: MedicalImage) -> npt.NDArray[np.float64]:
    return np.asarray(_placed(picture.provenance), np.float64)


def _placed(provenance: Any) -> tuple[tuple[int, ...], ...]:
    return provenance.pixel_to_voxel or (*_FRAMES, (0, 0, provenance.frame or 0))


def _nrrd(volume: npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]) -> bytes:
    """Return a volume as an attached-header NRRD 4 file (teem.sourceforge.net/nrrd/format.html)."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    directions = " ".join(f"({','.join(f'{value:.9g}' for value in lps[:, axis])})" for axis in range(3))
    header = (
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, volume.shape))}\nspace directions: {directions}\n"
        "kinds: domain domain domain\nencoding: raw\n"
        f"space origin: ({','.join(f'{value:.9g}' for value in lps[:, 3])})\n\n"
    )
    stream = BytesIO(header.encode())
    stream.seek(0, 2)
    stream.write(np.asfortranarray(volume).tobytes(order="F"))
    return stream.getvalue()

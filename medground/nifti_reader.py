"""NIfTI through nibabel: one slice of one volume, in the closest canonical orientation, as radiologists look at it.

The canonical axes are x to the patient's right, y to anterior, z to superior (RAS+). Oblique volumes aren't resampled:
each axis of the file counts as the patient axis that it is closest to.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from medground.errors import ImageError, MissingExtraError
from medground.image_files import Axis, ReadOptions
from medground.images import MedicalImage, Provenance, Voxels, finish
from medground.windowing import apply_window, robust_window

__all__ = ["PLANES", "read_nifti"]

# Per plane: the canonical axis that it cuts, and those along the picture's columns and rows. Both of these run
# backwards in the picture: from the patient's right or front to left or back, and from front or top to back or bottom.
PLANES: dict[Axis, tuple[int, int, int]] = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}
_ORIENTATION: dict[Axis, str] = {
    "axial": "patient's right on the left, anterior up",
    "coronal": "patient's right on the left, superior up",
    "sagittal": "anterior on the left, superior up",
}
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
_DAMAGED = "is a NIfTI that is damaged or truncated; copy or export it again"
_SAMPLES = 1 << 21


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header says, checked."""

    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    orientation: npt.NDArray[np.int64]
    """Per axis of the file: its canonical axis, and 1 or -1 for its direction."""
    sizes: tuple[float, float, float]
    """Voxel size along the canonical axes in millimetres."""
    scale: tuple[float, float]
    display: tuple[float, float] | None
    """The window of cal_min and cal_max."""
    notes: tuple[str, ...]

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in np.argsort(self.orientation[:, 0]))


def read_nifti(options: ReadOptions) -> MedicalImage:
    """Cut one slice from a NIfTI file; see `medground.images.load_image`."""
    try:
        from nibabel.orientations import apply_orientation
    except ImportError:
        raise MissingExtraError("nibabel", extra="nifti", purpose="reading NIfTI files") from None
    try:
        with options.path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            file = cast("IO[bytes]", gzip.GzipFile(fileobj=plain) if packed else plain)
            header = _read_header(options, file)
            axis = options.axis or _acquired(header)
            cut, across, down = PLANES[axis]
            width, height, slices = (header.canonical_shape[way] for way in (across, down, cut))
            options.check_pixels(width, height)
            options.choose(f"{axis} slice", options.slice, slices)
            frame = options.choose("frame", options.frame, header.volumes)
            each = math.prod(header.shape) * header.dtype.itemsize
            options.check_bytes(header.offset + header.volumes * each, "unpacks to" if packed else "announces")
            file.seek(header.offset + frame * each)
            data = file.read(each)
            file.read(1)  # at its end, gzip compares its checksum
    except ImageError:
        raise
    except Exception as error:  # damaged headers and streams make nibabel, gzip and zlib raise whatever they like
        raise options.error(_DAMAGED) from error
    if len(data) < each:
        raise options.error(_DAMAGED)

    stored = np.frombuffer(data, header.dtype).reshape(header.shape, order="F")
    volume = np.moveaxis(apply_orientation(stored, header.orientation), (cut, across, down), (0, 2, 1))
    index = options.choose(f"{axis} slice", options.slice, slices, _median_slice(header, volume))
    rgb, window = _to_8_bits(options, header, volume, volume[index, ::-1, ::-1])
    squares = math.isclose(header.sizes[down], header.sizes[across], rel_tol=1e-3)
    provenance = Provenance(
        options.path.name,
        "nifti",
        width=width,
        height=height,
        bits=header.dtype.itemsize * 8 // max(1, len(header.dtype.names or ())),
        spacing_mm=(header.sizes[down], header.sizes[across]),
        frame=frame if header.volumes > 1 else None,
        frames=header.volumes if header.volumes > 1 else None,
        axis=axis,
        slice=index,
        slices=slices,
        window=window,
        orientation=_ORIENTATION[axis],
        pixel_to_voxel=_pixel_to_voxel(header, axis, index),
        notes=header.notes if squares else (*header.notes, "pixels aren't square; the picture is kept as stored"),
    )
    return finish(options, rgb, provenance)


def _read_header(options: ReadOptions, file: IO[bytes]) -> _Header:
    from nibabel import nifti1, nifti2
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import io_orientation

    first = file.read(4)
    file.seek(0)
    nifti_2 = (540).to_bytes(4, "little") in (first, first[::-1])
    raw = (nifti2.Nifti2Header if nifti_2 else nifti1.Nifti1Header).from_fileobj(file)
    if bytes(raw["magic"])[:2] == b"ni":
        raise options.error("is one half of a NIfTI pair (.hdr and .img); save the volume as one .nii.gz")
    shape = tuple(int(side) for side in raw.get_data_shape())
    if not shape or min(shape) < 1:
        raise options.error("is a NIfTI without voxels; export it again")
    dtype = raw.get_data_dtype()
    if dtype.kind not in "iufV" or (dtype.kind == "V" and (dtype.names or ())[:3] != ("R", "G", "B")):
        raise options.error(f"is a NIfTI of {dtype} values, which have no picture; save their magnitude")

    notes = []
    if not (raw["sform_code"] or raw["qform_code"]):
        notes.append("it states no orientation, so NIfTI's default is taken (first axis to the patient's left)")
    affine = raw.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        if len(shape) > 2:
            notes.append(
                "its orientation can't be read, so NIfTI's default is taken (first axis to the patient's left)"
            )
        zooms = [float(zoom) if 0 < zoom < 1e6 else 1.0 for zoom in raw["pixdim"][1:4]]
        affine = np.diag([-zooms[0], zooms[1], zooms[2], 1.0])
    orientation = io_orientation(affine).astype(int)
    try:
        unit = _MILLIMETRES.get(raw.get_xyzt_units()[0], 1.0)
    except KeyError:
        unit = 1.0
    sizes = [0.0, 0.0, 0.0]
    for canonical, size in zip(orientation[:, 0], voxel_sizes(affine), strict=True):
        sizes[canonical] = float(size) * unit
    slope, intercept = raw.get_slope_inter()
    low, high = float(raw["cal_min"]), float(raw["cal_max"])
    return _Header(
        shape=cast("tuple[int, int, int]", (*shape, 1, 1)[:3]),
        volumes=math.prod(shape[3:]),
        dtype=dtype,
        offset=int(raw["vox_offset"]),
        orientation=orientation,
        sizes=(sizes[0], sizes[1], sizes[2]),
        scale=(1.0 if slope is None else slope, 0.0 if intercept is None else intercept),
        display=((low + high) / 2, high - low) if low < high and math.isfinite(high - low) else None,
        notes=tuple(notes),
    )


def _acquired(header: _Header) -> Axis:
    """Return the plane in which a volume was acquired: across its single slice or its thickest slices, else axial."""
    single = [axis for axis, (cut, _, _) in PLANES.items() if header.canonical_shape[cut] == 1]
    if len(single) == 1:
        return single[0]
    for axis, (cut, across, down) in PLANES.items():
        if header.sizes[cut] >= 2 * max(header.sizes[across], header.sizes[down]):
            return axis
    return "axial"


def _values(header: _Header, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return grey values in the file's units; of colours, their mean."""
    if header.dtype.names:
        mean: npt.NDArray[Any] = np.mean([voxels[name] for name in header.dtype.names[:3]], axis=0)
        return mean
    slope, intercept = header.scale
    values: npt.NDArray[Any] = voxels if header.scale == (1.0, 0.0) else voxels.astype(np.float64) * slope + intercept
    return values


def _median_slice(header: _Header, volume: npt.NDArray[Any]) -> int:
    """Return the median slice, along the first axis, of the voxels that stand out from the background.

    They are those above a tenth of the way between the robust window's ends. Every slice is looked at, its voxels
    thinned out evenly where the volume is large.
    """
    step = max(1, math.ceil(math.sqrt(volume.size / _SAMPLES)))
    values = _values(header, volume[:, ::step, ::step])
    window = robust_window(values)
    if window is None:
        return int(volume.shape[0] // 2)
    with np.errstate(invalid="ignore"):
        counts = (values > window[0] - 0.4 * window[1]).sum(axis=(1, 2)).cumsum()
    return int(np.searchsorted(counts, counts[-1] / 2)) if counts[-1] else int(volume.shape[0] // 2)


def _to_8_bits(
    options: ReadOptions, header: _Header, volume: npt.NDArray[Any], plane: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None]:
    if header.dtype.names:
        options.refuse_window()
        return np.stack([plane[name] for name in header.dtype.names[:3]], axis=-1), None
    step = max(1, math.ceil((volume.size / _SAMPLES) ** (1 / 3)))
    robust = robust_window(_values(header, volume[::step, ::step, ::step])) or robust_window(_values(header, plane))
    values = _values(header, plane)
    if robust is None or robust_window(values) is None:  # one value everywhere, which `finish` refuses
        return np.zeros(plane.shape, np.uint8), None
    if options.window:
        return options.asked_window(values, robust), options.window
    if header.display is not None and np.ptp(shown := apply_window(values, header.display)):
        return shown, header.display
    return apply_window(values, robust), robust


def _pixel_to_voxel(header: _Header, axis: Axis, index: int) -> Voxels:
    """Return the matrix that takes (column, row, 1) of the slice to the file's own (i, j, k)."""
    cut, across, down = PLANES[axis]
    shape = header.canonical_shape
    canonical = {cut: (0, 0, index), across: (-1, 0, shape[across] - 1), down: (0, -1, shape[down] - 1)}
    rows = []
    for side, (way, direction) in zip(header.shape, header.orientation, strict=True):
        column, row, start = canonical[int(way)]
        rows.append((column, row, start) if direction > 0 else (-column, -row, side - 1 - start))
    return rows[0], rows[1], rows[2]

"""Image files in: PNG, JPEG, TIFF, BMP, DICOM and NIfTI become RGB uint8, with an account of each pixel's origin.

What a file is, its first bytes say; its name is never asked. Size and pixel count are read from headers and bounded
before any pixel is decoded. Nothing downstream of this module sees a file format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.errors import ImageError
from medground.image_files import MAX_BYTES, MAX_PIXELS, Axis, Format, ReadOptions, kind_of, quiet

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Axis", "MedicalImage", "Provenance", "load_image"]

Voxels = tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a picture came from: enough to find its pixels again in the source, and nothing about the patient.

    Parameters
    ----------
    file_name : str
        The file's name without its folder.
    format : {"png", "jpeg", "tiff", "bmp", "dicom", "nifti", "array"}
    width, height : int
        Of the picture, in pixels.
    bits : int
        Stored bits per sample in the source.
    spacing_mm : (float, float) or None
        Distance between rows and between columns in millimetres (DICOM's order: vertical first).
    frame, frames : int or None
        The frame that was read, counted from 0, and how many there are; for a NIfTI of four axes, the volume.
    axis : {"axial", "coronal", "sagittal"} or None
        The plane that was cut from a NIfTI volume.
    slice, slices : int or None
        The slice that was cut, counted from 0 at the patient's feet, back or left, and how many there are.
    window : (float, float) or None
        Centre and width, in the source's units, of the window that made 8 bits of its values; None where none was
        needed.
    orientation : str or None
        Which way is up in a slice of a NIfTI volume, in words.
    pixel_to_voxel : 3 x 3 tuple of int, or None
        Takes ``(column, row, 1)`` of the picture to the voxel ``(i, j, k)`` as the NIfTI file counts its array.
    study_uid, series_uid, sop_uid, sop_class_uid : str or None
        The identifiers of the DICOM object.
    notes : tuple of str
        What a user should know about how the picture was made.
    """

    file_name: str
    format: Format
    width: int
    height: int
    bits: int = 8
    spacing_mm: tuple[float, float] | None = None
    frame: int | None = None
    frames: int | None = None
    axis: Axis | None = None
    slice: int | None = None
    slices: int | None = None
    window: tuple[float, float] | None = None
    orientation: str | None = None
    pixel_to_voxel: Voxels | None = None
    study_uid: str | None = None
    series_uid: str | None = None
    sop_uid: str | None = None
    sop_class_uid: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class MedicalImage:
    """One picture as models see it, with its origin.

    Parameters
    ----------
    rgb : uint8 array, shape (height, width, 3)
        C-contiguous and not writeable. Grey sources have three equal channels.
    provenance : Provenance
    """

    rgb: npt.NDArray[np.uint8]
    provenance: Provenance

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return (self.width, self.height)

    @property
    def space(self) -> Space:
        """The space of the picture's own pixels, in which results are given."""
        return Space.pixels(self.width, self.height)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.uint8], file_name: str = "array") -> MedicalImage:
        """Wrap pixels that are in memory already.

        Parameters
        ----------
        array : uint8 array, shape (height, width) or (height, width, 3)
            Grey or RGB; copied.
        file_name : str
            What messages and provenance call it.

        Raises
        ------
        ImageError
            When the array has another type or shape, or no pixels.

        Examples
        --------
        >>> image = MedicalImage.from_array(np.eye(4, 6, dtype=np.uint8))
        >>> image.size, image.rgb.shape, image.provenance.format
        ((6, 4), (4, 6, 3), 'array')
        """
        array = np.asarray(array)
        if array.dtype != np.uint8:
            raise ImageError(f"{file_name} holds {array.dtype} values; scale them to 0..255 and convert to uint8")
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
            raise ImageError(f"{file_name} has shape {array.shape}; give (height, width) or (height, width, 3)")
        return cls(_frozen(array), Provenance(file_name, "array", int(array.shape[1]), int(array.shape[0])))


def load_image(
    path: str | Path,
    *,
    frame: int | None = None,
    axis: Axis | None = None,
    slice: int | None = None,
    window: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> MedicalImage:
    """Read one picture from a file.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, TIFF, BMP, DICOM (with or without preamble and extension) or NIfTI (.nii, .nii.gz).
    frame : int, optional
        Which frame of a multi-frame DICOM, page of a TIFF or volume of a NIfTI of four axes, counted from 0; the first
        by default.
    axis : {"axial", "coronal", "sagittal"}, optional
        Which plane to cut from a NIfTI volume. By default the plane in which it was acquired (across slices at least
        twice as thick as the pixels are wide, or across a single slice), and axial where that can't be told.
    slice : int, optional
        Which slice, counted from 0 at the patient's feet (axial), back (coronal) or left (sagittal). By default the
        median slice of the content: half of the voxels that stand out from the background lie on each side.
    window : (centre, width), optional
        In the source's units (HU for CT), for grey images; overrides what the file says.
    max_pixels, max_bytes : int
        Bounds, checked before decoding: pixels of the picture; bytes of the file, and of what it unpacks to.

    Returns
    -------
    MedicalImage
        RGB uint8 and provenance.

    Raises
    ------
    ImageError
        One sentence that names the file and the remedy: missing, empty, truncated, corrupt, too large, of another
        type, without pixels, or with one value everywhere.
    MissingExtraError
        When DICOM or NIfTI support isn't installed.

    Notes
    -----
    8-bit values stay as they are, turned as EXIF says; transparency is laid on black. Deeper grey values go through a
    window: `window`, else the file's own (DICOM's VOI LUT or first window, NIfTI's cal_min and cal_max), else from the
    0.5th to the 99.5th percentile of the frame or volume; `Provenance.window` says which. Deeper colours keep their
    high 8 bits. Non-square pixels are kept as stored, with a note. NIfTI slices are shown as radiologists do: the
    patient's right on the left of axial and coronal slices, the nose on the left of sagittal ones, anterior or superior
    up.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = Path(folder.name, "scan.png")
    >>> Image.linear_gradient("L").save(file)
    >>> image = load_image(file)
    >>> image.size, image.provenance.format, image.provenance.bits
    ((256, 256), 'png', 8)
    >>> folder.cleanup()
    """
    options = ReadOptions(Path(path), frame, axis, slice, window, max_pixels, max_bytes).checked()
    kind = kind_of(options)
    if kind != "nifti" and (axis is not None or slice is not None):
        raise options.error(f"is a {kind.upper()}, and axis and slice are for NIfTI volumes; leave them out")
    with quiet():
        if kind == "dicom":
            from medground.dicom_reader import read_dicom

            return read_dicom(options)
        if kind == "nifti":
            from medground.nifti_reader import read_nifti

            return read_nifti(options)
        from medground.raster_reader import read_raster

        return read_raster(options, kind)


def finish(options: ReadOptions, rgb: npt.NDArray[np.uint8], provenance: Provenance) -> MedicalImage:
    """Return what a reader read; raise when all pixels are the same."""
    if (rgb == rgb[0, 0]).all():
        which = "" if (provenance.frames or 1) * (provenance.slices or 1) == 1 else " in this frame or slice"
        raise options.error(
            f"shows one single value everywhere{which}, so there is nothing to find; choose another picture"
        )
    return MedicalImage(_frozen(rgb), provenance)


def _frozen(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a contiguous RGB copy that can't be written to."""
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[:, :, None], 3, axis=2)
    else:
        rgb = np.array(rgb, dtype=np.uint8, order="C", copy=True)
    rgb.flags.writeable = False
    return rgb

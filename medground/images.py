"""Image files in: PNG, JPEG, TIFF, BMP, DICOM and NIfTI become RGB uint8, with an account of where each pixel came from.

What a file is, its first bytes say; its name is never asked. Size and pixel count are read from headers and bounded
before any pixel is decoded. Nothing downstream of this module sees a file format.
"""

from __future__ import annotations

import gzip
import logging
import math
import operator
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from medground.coords import Space
from medground.errors import ImageError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Axis", "MedicalImage", "Provenance", "load_image"]

Axis = Literal["axial", "coronal", "sagittal"]
Format = Literal["png", "jpeg", "tiff", "bmp", "dicom", "nifti", "array"]

MAX_PIXELS = 1 << 26
"""The default bound on width times height: 67 million pixels, more than any detector in clinical use."""

MAX_BYTES = 1 << 30
"""The default bound on a file's size, packed and unpacked: 1 GiB."""


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
    pixel_to_voxel: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]] | None = None
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


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the caller of `load_image` asked for, checked; the readers' one argument."""

    path: Path
    frame: int | None
    axis: Axis | None
    slice: int | None
    window: tuple[float, float] | None
    max_pixels: int
    max_bytes: int

    def error(self, problem: str) -> ImageError:
        """Return the error whose sentence starts with the file's name."""
        return ImageError(f"{_label(self.path)} {problem}")

    def check_pixels(self, width: int, height: int) -> None:
        """Raise unless a picture of this size is within bounds."""
        if width < 1 or height < 1:
            raise self.error(f"is {width} x {height} pixels in its header, so it holds no picture; export it again")
        if width * height > self.max_pixels:
            raise self.error(
                f"is {width} x {height} pixels, above the limit of {self.max_pixels:,}; "
                "crop or shrink it, or raise max_pixels"
            )

    def check_bytes(self, count: int, what: str) -> None:
        """Raise unless so many bytes are within bounds."""
        if count > self.max_bytes:
            raise self.error(
                f"{what} {count:,} bytes, above the limit of {self.max_bytes:,}; raise max_bytes to read it"
            )

    def choose(self, name: str, wanted: int | None, count: int, default: int = 0) -> int:
        """Return the index that was asked for (`name` says of what), or `default`; raise when there is no such one."""
        if wanted is None:
            return default
        if not 0 <= wanted < count:
            valid = f"0 to {count - 1}" if count > 1 else "only 0"
            raise self.error(f"has no {name} {wanted}: valid is {valid}")
        return wanted

    def finish(self, rgb: npt.NDArray[np.uint8], provenance: Provenance) -> MedicalImage:
        """Return the picture; raise when all of its pixels are the same."""
        if (rgb == rgb[0, 0]).all():
            which = "" if (provenance.frames or 1) * (provenance.slices or 1) == 1 else " in this frame or slice"
            raise self.error(
                f"shows one single value everywhere{which}, so there is nothing to find; choose another picture"
            )
        return MedicalImage(_frozen(rgb), provenance)


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
    options = ReadOptions(
        path=Path(path),
        frame=_index(frame, "frame"),
        axis=axis,
        slice=_index(slice, "slice"),
        window=_window(window),
        max_pixels=max_pixels,
        max_bytes=max_bytes,
    )
    if axis not in (None, "axial", "coronal", "sagittal"):
        raise ImageError(f"axis {axis!r} isn't known; choose axial, coronal or sagittal")
    kind = _kind(options)
    if kind != "nifti" and (axis is not None or slice is not None):
        raise options.error(f"is {_ARTICLES[kind]}, and axis and slice are for NIfTI volumes; leave them out")
    with quiet():
        if kind == "dicom":
            from medground.dicom_reader import read_dicom

            return read_dicom(options)
        if kind == "nifti":
            from medground.nifti_reader import read_nifti

            return read_nifti(options)
        from medground.raster_reader import read_raster

        return read_raster(options, kind)


_ARTICLES = {"png": "a PNG", "jpeg": "a JPEG", "tiff": "a TIFF", "bmp": "a BMP", "dicom": "a DICOM", "nifti": "a NIfTI"}

_MAGIC: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
}


def _kind(options: ReadOptions) -> Format:
    """Tell a file's format from its first bytes, after checking that it is a file of bearable size."""
    try:
        found = options.path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise options.error("is a folder; name one image file in it")
        if not stat.S_ISREG(found.st_mode):
            raise options.error("isn't a regular file; save the image to a file first")
        if not found.st_size:
            raise options.error("is empty; export or download it again")
        options.check_bytes(found.st_size, "has")
        with options.path.open("rb") as file:
            head = file.read(540)
    except FileNotFoundError:
        raise options.error("doesn't exist; check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise options.error(f"can't be opened ({reason}); check the path and its permissions") from error
    if head[128:132] == b"DICM":  # before TIFF: a DICOM's preamble may hold a TIFF header
        return "dicom"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(options.path) as packed:
                head = packed.read(540)
        except (OSError, EOFError, ValueError, ArithmeticError) as error:
            raise options.error(f"is gzip-compressed and damaged ({error}); copy or download it again") from error
        except Exception as error:  # zlib.error has no closer public base
            raise options.error("is gzip-compressed and damaged; copy or download it again") from error
        if not _is_nifti(head):
            raise options.error("is gzip-compressed but holds no NIfTI; unpack it and try again")
    if _is_nifti(head):
        return "nifti"
    # A data set without preamble starts with an element of group 0002 or 0008, in either byte order.
    if head[:2] in (b"\x08\0", b"\x02\0", b"\0\x08", b"\0\x02") and len(head) >= 16:
        return "dicom"
    raise options.error("isn't a PNG, JPEG, TIFF, BMP, DICOM or NIfTI file; convert it to one of them")


def _is_nifti(head: bytes) -> bool:
    """Whether these are the first bytes of a NIfTI-1 or NIfTI-2 header: its own length first, then the magic word."""
    size = {head[:4], head[:4][::-1]}
    return ((348).to_bytes(4, "little") in size and head[344:347] in (b"n+1", b"ni1")) or (
        (540).to_bytes(4, "little") in size and head[4:7] in (b"n+2", b"ni2")
    )


def _index(value: SupportsIndex | None, name: str) -> int | None:
    try:
        return None if value is None else operator.index(value)
    except TypeError:
        raise ImageError(f"{name} must be a whole number counted from 0, not {value!r}") from None


def _window(window: Any) -> tuple[float, float] | None:
    if window is None:
        return None
    try:
        centre, width = (float(value) for value in window)
    except (TypeError, ValueError):
        raise ImageError(f"window must be two numbers, centre and width, not {window!r}") from None
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        raise ImageError(f"window needs a finite centre and a width above 0, not {centre:g} and {width:g}")
    return centre, width


def _label(path: Path) -> str:
    """Return the path as messages show it: on one line, whatever is in it."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _frozen(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a contiguous RGB copy that can't be written to."""
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[:, :, None], 3, axis=2)
    else:
        rgb = np.array(rgb, dtype=np.uint8, order="C", copy=True)
    rgb.flags.writeable = False
    return rgb


# What decoders would tell a terminal or a log may quote patient fields, so they are silenced while they run. Both kinds
# of silence are process-wide state, hence the lock.
_LOUD = (
    "PIL.Image", "PIL.ImageFile", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "nibabel.global", "pydicom",
    "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "pylibjpeg", "pylibjpeg.utils", "libjpeg", "openjpeg",
    "openjpeg.utils", "openjpeg._openjpeg", "rle",
)  # fmt: skip
_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log records of the decoding libraries from everybody while the block runs."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logger for logger in map(logging.getLogger, _LOUD) if not logger.disabled]
        try:
            for logger in loggers:
                logger.disabled = True
            yield
        finally:
            for logger in loggers:
                logger.disabled = False

"""Before decoding: what a file is, what was asked of it, and whether it is within bounds."""

from __future__ import annotations

import gzip
import logging
import math
import operator
import stat
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from medground.errors import ImageError
from medground.windowing import apply_window

__all__ = ["MAX_BYTES", "MAX_PIXELS", "Axis", "Format", "ReadOptions", "kind_of", "quiet"]

Axis = Literal["axial", "coronal", "sagittal"]
Format = Literal["png", "jpeg", "tiff", "bmp", "dicom", "nifti", "array"]

MAX_PIXELS = 1 << 26
"""The default bound on width times height: 67 million pixels, more than any detector in clinical use."""

MAX_BYTES = 1 << 30
"""The default bound on a file's size, packed and unpacked: 1 GiB."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the caller of `load_image` asked for; the readers' one argument."""

    path: Path
    frame: int | None
    axis: Axis | None
    slice: int | None
    window: tuple[float, float] | None
    max_pixels: int
    max_bytes: int

    def checked(self) -> ReadOptions:
        """Return the same with plain numbers; raise where an option isn't what it should be."""
        if self.axis not in (None, "axial", "coronal", "sagittal"):
            raise ImageError(f"axis {self.axis!r} isn't known; choose axial, coronal or sagittal")
        return replace(
            self,
            frame=_index(self.frame, "frame"),
            slice=_index(self.slice, "slice"),
            window=_window(self.window),
        )

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

    def refuse_window(self) -> None:
        """Raise if a window was asked for, of a picture in colour."""
        if self.window:
            raise self.error("is in colour, and a window is for grey values; leave it out")

    def asked_window(self, values: npt.NDArray[Any], usual: tuple[float, float]) -> npt.NDArray[np.uint8]:
        """Return grey values through the window that was asked for; raise when that shows nothing."""
        window = self.window or usual
        grey = apply_window(values, window)
        if np.ptp(grey) == 0:
            raise self.error(
                f"shows nothing through a window of centre {window[0]:g} and width {window[1]:g}; "
                f"try {usual[0]:.4g} and {usual[1]:.4g}"
            )
        return grey


_MAGIC: dict[bytes, Format] = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
}


def kind_of(options: ReadOptions) -> Format:
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
        except (OSError, EOFError, zlib.error) as error:
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


# What decoders would tell a terminal or a log may quote patient fields, so they are silenced while they run. Both kinds
# of silence are process-wide state, hence the lock.
_LOUD = (
    "PIL.Image", "PIL.ImageFile", "PIL.PngImagePlugin", "PIL.TiffImagePlugin", "nibabel.global", "pydicom",
    "pydicom.pixels.decoders.base", "pydicom.pixels.encoders.base", "pydicom.pixels.utils", "pylibjpeg",
    "pylibjpeg.utils", "libjpeg", "openjpeg", "openjpeg.utils", "openjpeg._openjpeg", "rle", "highdicom.base",
    "highdicom.color", "highdicom.frame", "highdicom.image", "highdicom.io", "highdicom.ko.sop", "highdicom.legacy.sop",
    "highdicom.pr.content", "highdicom.pr.sop", "highdicom.sc.sop", "highdicom.seg.sop", "highdicom.spatial",
    "highdicom.sr.coding", "highdicom.sr.content", "highdicom.sr.sop", "highdicom.sr.templates", "highdicom.uid",
    "dicomweb_client.web", "dicomweb_client.session_utils", "urllib3.connection", "urllib3.connectionpool",
    "urllib3.response", "urllib3.util.retry", "retrying",
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

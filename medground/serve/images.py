"""Uploads, kept in memory for a while under random names, and the pictures that are cut from them."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground.errors import ImageError
from medground.image_files import Axis, ReadOptions, quiet
from medground.images import MedicalImage, Provenance, load_image
from medground.nifti_reader import PLANES
from medground.serve.limits import Limits

__all__ = ["Images", "UnknownImageError", "Upload", "View", "as_file"]

_MODALITY = re.compile(r"[A-Z]{2,16}")


class UnknownImageError(Exception):
    """There is no such upload, or no longer, or it is another caller's."""


@dataclass(frozen=True, slots=True)
class View:
    """Which picture of an upload is meant; as `load_image` takes it."""

    frame: int | None = None
    axis: Axis | None = None
    slice: int | None = None
    window: tuple[float, float] | None = None

    def over(self, usual: View) -> View:
        """Return this view, with what it leaves open taken from another one."""
        turned = self.axis is not None and self.axis != usual.axis
        return View(
            usual.frame if self.frame is None else self.frame,
            usual.axis if self.axis is None else self.axis,
            # The number of a slice means another place in another plane.
            self.slice if turned or self.slice is not None else usual.slice,
            usual.window if self.window is None else self.window,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A file that a client sent.

    Parameters
    ----------
    id : str
        Random; whoever knows it and has the caller's token may ask about the file.
    caller : str
        Whose it is, as the guard tells it.
    content : bytes
    view : View
        Which picture of it is meant unless a request says so.
    usual : Provenance
        Of that picture.
    modality : str or None
        What a DICOM says.
    """

    id: str
    caller: str
    content: bytes
    view: View
    usual: Provenance
    modality: str | None


class Images:
    """Uploads by id; safe to use from several threads.

    Parameters
    ----------
    limits : Limits
    clock : callable
        Seconds, from any start.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._uploads: OrderedDict[str, tuple[float, Upload]] = OrderedDict()
        self._views: OrderedDict[tuple[str, View], MedicalImage] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()

    def __len__(self) -> int:
        return len(self._uploads)

    @property
    def held_bytes(self) -> int:
        """Bytes of all uploads and of the pictures that are kept decoded."""
        with self._lock:
            uploads = sum(len(upload.content) for _, upload in self._uploads.values())
            return uploads + sum(image.rgb.nbytes for image in self._views.values())

    def read(self, content: bytes, view: View) -> MedicalImage:
        """Return a picture of a file's content.

        Raises
        ------
        ImageError
            As `load_image` does; the sentence speaks of "the image" and names no file.
        """
        # One at a time: decoders take turns in any case, and each needs several times the picture's size in memory.
        with self._decoding, as_file(content) as path:
            try:
                image = load_image(
                    path,
                    **dataclasses.asdict(view),
                    max_pixels=self._limits.pixels,
                    max_bytes=self._limits.upload_bytes,
                )
            except ImageError as error:
                raise ImageError(str(error).replace(str(path), "the image")) from None
        return dataclasses.replace(image, provenance=dataclasses.replace(image.provenance, file_name="upload"))

    def add(self, content: bytes, view: View, caller: str) -> Upload:
        """Read a file once and keep it; raises ImageError where it can't be read."""
        image = self.read(content, view)
        modality = self._modality(content) if image.provenance.format == "dicom" else None
        upload = Upload(secrets.token_urlsafe(24), caller, content, view, image.provenance, modality)
        with self._lock:
            self._uploads[upload.id] = self._clock(), upload
            self._keep(upload.id, view, image)
            self._tidy()
        return upload

    def get(self, name: str, caller: str) -> Upload:
        """Return an upload of this caller's, which counts as a use; raises UnknownImageError."""
        with self._lock:
            self._tidy()
            _, upload = self._uploads.get(name, (0.0, None))
            if upload is None or upload.caller != caller:
                raise UnknownImageError
            self._uploads[name] = self._clock(), upload
            self._uploads.move_to_end(name)
            return upload

    def by_series(self, series_uid: str, caller: str) -> Upload | None:
        """Return the latest upload of a DICOM series."""
        with self._lock:
            for name, (_, upload) in reversed(self._uploads.items()):
                if upload.caller == caller and upload.usual.series_uid == series_uid and series_uid:
                    return self._uploads[name][1]
        return None

    def touch(self, name: str) -> None:
        """Count a use of an upload, where it is still known."""
        with self._lock:
            if name in self._uploads:
                self._uploads[name] = self._clock(), self._uploads[name][1]
                self._uploads.move_to_end(name)

    def picture(self, upload: Upload, view: View) -> MedicalImage:
        """Return a picture of an upload; raises ImageError where the view asks for what it doesn't have."""
        wanted = view.over(upload.view)
        with self._lock:
            known = self._views.get((upload.id, wanted))
            if known is not None:
                self._views.move_to_end((upload.id, wanted))
                return known
        image = self.read(upload.content, wanted)
        with self._lock:
            if upload.id in self._uploads:
                self._keep(upload.id, wanted, image)
        return image

    def forget(self, name: str, caller: str) -> None:
        """Forget an upload; raises UnknownImageError."""
        self.get(name, caller)
        with self._lock:
            self._drop(name)

    def tidy(self) -> None:
        """Forget what wasn't used for too long; done by whatever else is done here too."""
        with self._lock:
            self._tidy()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._uploads.clear()
            self._views.clear()

    def describe(self, upload: Upload) -> dict[str, Any]:
        """Return what a client is told of its upload."""
        usual = upload.usual
        window = usual.window
        return {
            "image": upload.id,
            "width": usual.width,
            "height": usual.height,
            "kind": usual.format,
            "frames": usual.frames or 1,
            "frame": usual.frame or 0,
            "axes": _axes(usual),
            "axis": usual.axis,
            "slice": usual.slice,
            "window": window,
            # The source's own range isn't known without reading all of it: three widths either side of the usual
            # centre show everything that the usual window clips.
            "window_range": None if window is None else [window[0] - 3 * window[1], window[0] + 3 * window[1]],
            "modality": upload.modality,
            "spacing_mm": usual.spacing_mm,
            "notes": list(usual.notes),
        }

    def _modality(self, content: bytes) -> str | None:
        from medground.dicom_reader import _read

        with self._decoding, as_file(content) as path, quiet():
            options = ReadOptions(path, None, None, None, None, self._limits.pixels, self._limits.upload_bytes)
            said = str(_read(options, stop_before_pixels=True).get("Modality", ""))
        return said if _MODALITY.fullmatch(said) else None

    def _keep(self, name: str, view: View, image: MedicalImage) -> None:
        self._views[name, view] = image
        held = sum(kept.rgb.nbytes for kept in self._views.values())
        while held > self._limits.view_bytes and len(self._views) > 1:
            held -= self._views.popitem(last=False)[1].rgb.nbytes

    def _tidy(self) -> None:
        oldest = self._clock() - self._limits.image_seconds
        held = sum(len(upload.content) for _, upload in self._uploads.values())
        for name, (used, upload) in list(self._uploads.items()):  # the least recently used first
            full = len(self._uploads) > self._limits.images or held > self._limits.image_bytes
            if used >= oldest and (not full or len(self._uploads) == 1):
                break
            held -= len(upload.content)
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._uploads.pop(name, None)
        for key in [key for key in self._views if key[0] == name]:
            del self._views[key]


def _axes(usual: Provenance) -> dict[str, int] | None:
    if usual.axis is None or usual.slices is None:
        return None
    sides = dict(zip(PLANES[usual.axis], (usual.slices, usual.width, usual.height), strict=True))
    return {axis: sides[cut] for axis, (cut, _, _) in PLANES.items()}


@contextmanager
def as_file(content: bytes) -> Iterator[Path]:
    """Give content a path while the block runs, for readers that need one; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("upload"), "wb") as file:
            file.write(content)
            file.flush()
            yield Path(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.TemporaryDirectory(prefix="medground-") as folder:  # only its owner can look into it
        path = Path(folder, "upload")
        path.write_bytes(content)
        yield path

"""A folder of DICOM files de-identified into another: whole files or none, under new names, resumable."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medground._io import alone, make_folder, write_bytes, write_json
from medground.dicom.deid import PROFILE, Deidentifier
from medground.errors import ConfigError, ImageError
from medground.image_files import _label

__all__ = ["DeidProgress", "deid_folder", "read_key"]


@dataclass(frozen=True, slots=True)
class DeidProgress:
    """How far a folder is.

    Parameters
    ----------
    total : int
        Files in it.
    found : int
        Those that were written before, by an earlier run or as another copy.
    written, refused : int
    """

    total: int
    found: int = 0
    written: int = 0
    refused: int = 0


def deid_folder(
    source: str | Path,
    out: str | Path,
    *,
    key: str | Path | None = None,
    retain_device: bool = False,
    modified_dates: bool = False,
    allow_burned_in: bool = False,
    on_file: Callable[[DeidProgress, str | None], None] | None = None,
) -> DeidProgress:
    """De-identify every DICOM picture of a folder, its folders included.

    Parameters
    ----------
    source : str or Path
    out : str or Path
        Gets ``STUDY/SERIES/INSTANCE.dcm``, named by the new UIDs, and ``deid.json``, which says what was done. A run
        that was interrupted is continued by the same call.
    key : str or Path or None
        File of the key, made where it isn't there; ``out`` with ``.key`` behind its name by default. Folders that are
        done with one key fit together.
    retain_device, modified_dates, allow_burned_in
        As `Deidentifier` takes them.
    on_file : callable or None
        Told of the progress after each file, and why it was refused (None where it wasn't).

    Returns
    -------
    DeidProgress

    Raises
    ------
    ConfigError
        A folder or the key can't be used, or `out` was written with other options or another key.
    """
    start, end = Path(source), Path(out)
    if not start.is_dir():
        raise ConfigError(f"{start} isn't a folder; name the folder that holds the DICOM files")
    inner, outer = end.resolve(), start.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ConfigError(f"{end} and {start} lie in one another; choose a folder elsewhere for what is written")
    key_file = end.with_name(f"{end.name}.key") if key is None else Path(key)
    if key_file.resolve().is_relative_to(inner) or key_file.resolve().is_relative_to(outer):
        raise ConfigError(f"{key_file} lies among the pictures; keep the key apart from them")
    make_folder(end)
    with alone(end):
        secret = read_key(key_file)
        options = {
            "retain_device": retain_device, "modified_dates": modified_dates, "allow_burned_in": allow_burned_in,
        }  # fmt: skip
        _same(end / "deid.json", {"profile": PROFILE, "key": _fingerprint(secret), **options})
        work = Deidentifier(secret, **options)
        files = list(_files(start))
        there = {path.stem: path for path in end.rglob("*.dcm")}
        seen: set[str] = set()
        progress = DeidProgress(len(files))
        for file in files:
            refusal = None
            try:
                status = _one(work, file, end, there, seen)
            except ImageError as error:
                status, refusal = "refused", str(error)
            progress = dataclasses.replace(progress, **{status: getattr(progress, status) + 1})
            if on_file is not None:
                on_file(progress, refusal)
    return progress


def read_key(path: Path) -> bytes:
    """Return the key of a file, which is made, readable by its owner alone, where it isn't there."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"can't write the key {path}: {error.strerror or error}; choose another place") from error
    else:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) < 32:
        raise ConfigError(f"{path} isn't a key: 64 hexadecimal digits; restore it, or name a new file")
    return key


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if (path := Path(parent, name)).is_file():
                yield path


def _one(work: Deidentifier, file: Path, out: Path, there: dict[str, Path], seen: set[str]) -> str:
    uid = work.target_uid(file)
    if uid in there and uid not in seen:
        seen.add(uid)
        return "found"
    content, dataset = work.deidentify(file)
    if uid in seen:
        if there[uid].read_bytes() == content:
            return "found"
        raise ImageError(f"{_label(file)} has the SOPInstanceUID of another file of the folder; keep one of them")
    path = make_folder(out / dataset.StudyInstanceUID / dataset.SeriesInstanceUID) / f"{uid}.dcm"
    write_bytes(path, content)
    seen.add(uid)
    there[uid] = path
    return "written"


def _fingerprint(key: bytes) -> str:
    return hmac.digest(key, b"fingerprint", hashlib.sha256).hex()[:16]


def _same(path: Path, done: dict[str, object]) -> None:
    if not path.exists():
        if any(path.parent.iterdir()):
            raise ConfigError(f"{path.parent} holds something else; choose an empty folder")
        write_json(path, done)
        return
    try:
        earlier = json.loads(path.read_bytes())
    except (OSError, ValueError):
        earlier = None
    if earlier != done:
        raise ConfigError(
            f"{path.parent} was written with other options or another key (deid.json); give the same, or another folder"
        )

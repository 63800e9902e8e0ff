"""Files written whole or not at all, lines appended and read again, folders held against other runs, and digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medground.errors import ConfigError

__all__ = ["IMAGE_ENDINGS", "alone", "make_folder", "read_lines", "sha256", "write_bytes", "write_json", "write_text"]

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".nii", ".nii.gz")
"""How files that count as images are named where only names can tell; reading one never asks its name."""


def write_bytes(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Raises
    ------
    ConfigError
        When the file can't be written there.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}; choose another folder") from error
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise ConfigError(f"can't write {path}: {error.strerror or error}; free it or choose another") from error
        raise


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text; see `write_bytes`."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write one JSON value, indented, without NaN; see `write_bytes`."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_lines(path: Path) -> Iterator[tuple[int, tuple[int, int], dict[str, Any]]]:
    """Yield the JSON objects of a file that lines are appended to: number (from 1), span of bytes, and the object.

    A last line that a kill left half-written is left out; whoever appends cuts the file after the last span first.

    Raises
    ------
    ConfigError
        When the file can't be read, or another line isn't a JSON object.
    """
    end = 0
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            for number, line in enumerate(stream, 1):
                start, end = end, end + len(line)
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    if end >= size:  # a run that is still going on may have written more since
                        return
                    raise ConfigError(f"{path}:{number} is damaged; remove that line")
                yield number, (start, end), row
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}; restore it or choose another") from error


def make_folder(path: str | Path) -> Path:
    """Make a folder with its parents, unless it is there.

    Raises
    ------
    ConfigError
        When it can't be made, or a file has its name.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"can't make the folder {folder}: {error.strerror or error}; choose another") from error
    return folder


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    # The one way to read the mask is to set it; temporary files are private, results are as readable as any file.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other runs; the system lets go of it even when this process is killed."""
    try:
        import fcntl
    except ImportError:  # Windows: no such lock on folders; two runs at once are then the user's to avoid
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"another run is writing to {folder}; wait for it or choose another folder") from error
        yield
    finally:
        os.close(handle)

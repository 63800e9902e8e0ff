"""Files written whole or not at all, lines of JSON read, folders held against other runs and settings, and digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medground.errors import ConfigError

__all__ = [
    "IMAGE_ENDINGS",
    "alone",
    "hold_settings",
    "json_lines",
    "make_folder",
    "read_lines",
    "sha256",
    "write_bytes",
    "write_json",
    "write_text",
]

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


def json_lines(path: Path, longest: int = 1 << 26) -> Iterator[tuple[int, dict[str, Any]]]:
    r"""Yield the number (from 1) and the JSON object of each line that somebody else wrote; empty ones are passed over.

    Parameters
    ----------
    path : Path
        In UTF-8, with a byte order mark or without.
    longest : int
        Bytes of the longest line that is read.

    Raises
    ------
    ConfigError
        When the file can't be read, or a line isn't a JSON object or is longer.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "rows.jsonl")
    ...     _ = file.write_text('{"id": 1}\n\n{"id": 2}')
    ...     list(json_lines(file))
    [(1, {'id': 1}), (3, {'id': 2})]
    """
    try:
        with path.open("rb") as stream:
            number = 0
            while line := stream.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    raise ConfigError(
                        f"{path}:{number}: the line is longer than {longest:,} bytes; split it, or give another file"
                    )
                if line.strip():
                    yield number, _object(line, number, path)
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}; check the path") from error


def _object(line: bytes, number: int, path: Path) -> dict[str, Any]:
    reason = ""
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(f"{path}:{number}: the line isn't UTF-8 text; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        row, reason = None, f" ({error.msg} at column {error.colno})"
    except (ValueError, RecursionError):  # digits or brackets without end
        row = None
    if not isinstance(row, dict):
        raise ConfigError(f"{path}:{number}: the line isn't a JSON object{reason}; mend it")
    return row


def hold_settings(path: Path, settings: Mapping[str, Any], what: str, *, free: str = "") -> None:
    """Write the settings of a new run, or hold a run that is to go on against those that it was begun with.

    Parameters
    ----------
    path : Path
        The settings' file, in the run's folder.
    settings : mapping
        Of names to what JSON can hold.
    what : str
        What the folder holds, such as ``"batch"``.
    free : str
        A group of settings that may change; it is kept as it was at the beginning.

    Raises
    ------
    ConfigError
        When another setting differs, or the file can't be read; names the setting.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "batch.json")
    ...     hold_settings(file, {"model": "nano"}, "batch")
    ...     hold_settings(file, {"model": "nano"}, "batch")
    ...     try:
    ...         hold_settings(file, {"model": "other"}, "batch")
    ...     except ConfigError as error:
    ...         print(str(error).removeprefix(folder))
     holds a batch with model 'nano', not 'other'; use the same setting to go on, or another folder
    """
    settings = json.loads(json.dumps(settings, allow_nan=False))
    if not path.exists():
        write_json(path, settings)
        return
    try:
        earlier = json.loads(path.read_bytes())
        if not isinstance(earlier, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} can't be read, so this {what} can't go on; choose another folder") from error
    before, now = _flat(earlier), _flat(settings)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name) and not (free and name.startswith(f"{free}.")):
            raise ConfigError(
                f"{path.parent} holds a {what} with {name} {before.get(name)!r}, not {now.get(name)!r}; "
                "use the same setting to go on, or another folder"
            )


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(settings, dict):
        return {prefix.removesuffix("."): settings}
    return {name: each for key, value in settings.items() for name, each in _flat(value, f"{prefix}{key}.").items()}


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

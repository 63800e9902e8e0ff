"""The pixels of rows: a picture and a mask, from a file or from bytes, bounded before anything is decoded."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medground.data.rows import Picture, Row
from medground.data.schema import parquet_files, read_rows
from medground.errors import ImageError, TruthError
from medground.image_files import MAX_BYTES, MAX_PIXELS, ReadOptions, kind_of, quiet
from medground.images import MedicalImage, load_image
from medground.types import Mask

__all__ = ["Source", "open_image", "open_mask", "rows_at"]

Source = str | Path | Iterable[str | Path] | Iterable[Row]
"""A parquet file, a folder of them, several of either, or rows."""

_BYTES = "the embedded picture"


def rows_at(source: Source, root: str | Path | None = None) -> Iterator[tuple[Row, Path]]:
    """Yield rows with the folder at which their relative paths start.

    Parameters
    ----------
    source : path, paths or iterable of Row
    root : path, optional
        That folder; each file's own by default, for rows the current one.

    Raises
    ------
    ConfigError, TruthError
        See `medground.data.schema.read_rows`.
    """
    given: Iterable[str | Path | Row] = [source] if isinstance(source, str | Path) else source
    for each in given:
        if isinstance(each, Row):
            yield each, Path(root or ".")
            continue
        for file in parquet_files(each):
            home = file.parent if root is None else Path(root)
            for row in read_rows(file):
                yield row, home


def open_image(picture: Picture, root: str | Path = ".") -> MedicalImage:
    """Return a row's picture, read as `medground.images.load_image` reads a file.

    Parameters
    ----------
    picture : Picture
    root : path
        The folder at which a relative path starts.

    Raises
    ------
    TruthError
        When it can't be read, is too large, or has one value everywhere; names the file and the remedy.
    """
    try:
        with _as_file(picture, root) as path:
            return load_image(path)
    except ImageError as error:
        raise TruthError(_named(error, picture)) from error


def open_mask(picture: Picture, root: str | Path = ".", *, size: tuple[int, int] | None = None) -> Mask:
    """Return a row's mask, True where it isn't black.

    Parameters
    ----------
    picture : Picture
        Of a raster file, such as a 1-bit PNG.
    root : path
        The folder at which a relative path starts.
    size : (width, height), optional
        What the mask's header must say; a mask of another size isn't decoded.

    Returns
    -------
    bool array, shape (height, width)

    Raises
    ------
    TruthError
        When it can't be read, is too large or of another size; names the file and the remedy.

    Examples
    --------
    >>> open_mask(Picture.of_mask(np.eye(3, dtype=bool)), size=(3, 3)).sum()
    np.int64(3)
    >>> open_mask(Picture.of_mask(np.eye(3, dtype=bool)), size=(4, 3))
    Traceback (most recent call last):
        ...
    medground.errors.TruthError: the embedded picture is 3 x 3, and the picture 4 x 3; give the mask of this picture
    """
    path = picture.file(root) if picture.data is None else Path(picture.path or _BYTES)
    options = ReadOptions(path, None, None, None, None, MAX_PIXELS, MAX_BYTES)
    try:
        if picture.data is not None:
            options.check_bytes(len(picture.data), "has")
            return _decoded(options, io.BytesIO(picture.data), size)
        kind_of(options)
        return _decoded(options, path, size)
    except ImageError as error:
        raise TruthError(str(error)) from error


def _decoded(options: ReadOptions, content: Path | io.BytesIO, size: tuple[int, int] | None) -> Mask:
    guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # check_pixels stands in for Pillow's own bound
    try:
        with quiet(), Image.open(content, formats=("PNG", "JPEG", "TIFF", "BMP")) as picture:
            width, height = picture.size
            options.check_pixels(width, height)
            if size is not None and (width, height) != size:
                raise options.error(
                    f"is {width} x {height}, and the picture {size[0]} x {size[1]}; give the mask of this picture"
                )
            mask: Mask = np.asarray(picture.convert("L")) > 0
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise options.error("isn't a PNG, JPEG, TIFF or BMP file; give the mask as a PNG") from error
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise options.error("is damaged or truncated; restore it or drop the row") from error
    finally:
        Image.MAX_IMAGE_PIXELS = guard
    return mask


@contextmanager
def _as_file(picture: Picture, root: str | Path) -> Iterator[Path]:
    """Give the picture as a file: readers of all formats take files, so bytes go the same way."""
    if picture.data is None:
        yield picture.file(root)
        return
    with tempfile.TemporaryDirectory(prefix="medground-") as folder:
        path = Path(folder, _BYTES)
        path.write_bytes(picture.data)
        yield path


def _named(error: ImageError, picture: Picture) -> str:
    """Return the message with the name that the row gives the picture, and not the folder that it passed through."""
    message = str(error)
    if picture.data is None:
        return message
    before, found, after = message.partition(_BYTES)
    return f"{picture.path or _BYTES}{after}" if found else before

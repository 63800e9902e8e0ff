"""PNG, JPEG, TIFF and BMP through Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medground.errors import ImageError
from medground.image_files import Format, ReadOptions
from medground.images import MedicalImage, Provenance, finish
from medground.windowing import apply_window, robust_window

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["read_raster"]

_EXIF_ORIENTATION = 274
_TIFF_BITS, _TIFF_PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0
_PNG_BITS_OFFSET = 24


def read_raster(options: ReadOptions, kind: Format) -> MedicalImage:
    """Read a picture, or one page of a TIFF; see `medground.images.load_image`."""
    from PIL import Image

    # Pillow's own guard against large pictures neither knows our max_pixels nor names the file; ours stands in for it.
    guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(options.path, formats=(kind.upper(),)) as picture:
            options.check_pixels(*picture.size)
            frames = int(getattr(picture, "n_frames", 1))
            frame = options.choose("frame", options.frame, frames)
            if frame:
                picture.seek(frame)
                options.check_pixels(*picture.size)
            bits = _bits(options, picture, kind)
            # Pillow reads these 16-bit and float TIFFs as they are, though it inverts the 8-bit ones.
            inverted = (
                kind == "tiff" and picture.mode in ("I;16", "F") and _tag(picture, _TIFF_PHOTOMETRIC) == _MIN_IS_WHITE
            )
            picture.load()
            picture, notes = _upright(picture)
    except ImageError:
        raise
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        reason = " ".join(str(error).split())
        said = f" ({reason[:120]})" if reason and not reason.startswith("cannot identify") else ""
        raise options.error(
            f"is a {kind.upper()} that is damaged, truncated or of a rare kind{said}; "
            "export it again as an 8 or 16 bit PNG"
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = guard
    rgb, window, more = _to_rgb(options, picture, inverted)
    provenance = Provenance(
        options.path.name,
        kind,
        width=rgb.shape[1],
        height=rgb.shape[0],
        bits=bits,
        frame=frame if frames > 1 else None,
        frames=frames if frames > 1 else None,
        window=window,
        notes=(*notes, *more),
    )
    return finish(options, rgb, provenance)


def _tag(picture: Picture, tag: int) -> Any:
    return getattr(picture, "tag_v2", {}).get(tag)


def _bits(options: ReadOptions, picture: Picture, kind: Format) -> int:
    if kind == "png":
        with options.path.open("rb") as file:
            return file.read(_PNG_BITS_OFFSET + 1)[_PNG_BITS_OFFSET]
    if kind == "tiff" and (bits := _tag(picture, _TIFF_BITS)):
        return int(bits[0])
    return 1 if picture.mode == "1" else 8


def _upright(picture: Picture) -> tuple[Picture, tuple[str, ...]]:
    """Turn a picture as its EXIF orientation says. Pillow has done so already for TIFF."""
    from PIL import ImageOps

    if picture.format == "TIFF":
        return picture, ()
    try:
        if picture.getexif().get(_EXIF_ORIENTATION, 1) not in range(2, 9):
            return picture.copy(), ()
        return ImageOps.exif_transpose(picture), ("turned as its EXIF orientation says",)
    except Exception:  # damaged EXIF data must not cost the picture
        return picture.copy(), ("its EXIF data can't be read, so it is shown as stored",)


def _to_rgb(
    options: ReadOptions, picture: Picture, inverted: bool
) -> tuple[npt.NDArray[np.uint8], tuple[float, float] | None, tuple[str, ...]]:
    """Return the pixels, the window that was applied, and notes."""
    grey = picture.mode in ("1", "L") and not picture.has_transparency_data
    if picture.mode[0] in "IF" or (grey and options.window):
        values = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
        robust = robust_window(values)
        window = options.window or robust
        if robust is None or window is None:  # one value everywhere, which `finish` refuses
            return np.zeros(values.shape, np.uint8), None, ()
        grey8 = options.asked_window(values, robust) if options.window else apply_window(values, window)
        return (255 - grey8 if inverted else grey8), window, (("white is 0 in it; inverted",) if inverted else ())
    options.refuse_window()
    if picture.has_transparency_data:
        from PIL import Image

        rgba = picture.convert("RGBA")
        laid = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
        return np.asarray(laid.convert("RGB")), None, ("transparency laid on black",)
    try:
        return np.asarray(picture.convert("RGB")), None, ()
    except ValueError as error:
        raise options.error(f"has colours of kind {picture.mode}, which can't be read; save it as RGB") from error

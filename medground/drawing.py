"""Pictures of results: the mask as a tint with a contour, the box, the two key points; and files of them.

Everything is drawn on the source picture at its own size; pictures too small to see anything on are enlarged by a
whole factor first. Colours are of the Okabe-Ito palette, which stays distinct in every common colour vision, and each
line has a dark rim, so that it shows on white and on black.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from medground._io import IMAGE_ENDINGS, make_folder, write_bytes, write_json
from medground.images import MedicalImage
from medground.pipeline import ImageLike, as_image
from medground.types import Box, LocatedRegion, Mask, Point, Reply, Result

__all__ = [
    "BOX",
    "MASK",
    "POINT",
    "REGIONS",
    "SavedFiles",
    "SavedReply",
    "contact_sheet",
    "draw",
    "draw_regions",
    "overlay",
    "png",
    "save_reply",
    "save_result",
]

MASK = (86, 180, 233)
"""Sky blue."""
BOX = (230, 159, 0)
"""Orange."""
POINT = (240, 228, 66)
"""Yellow."""
REGIONS = (BOX, MASK, (0, 158, 115), POINT, (213, 94, 0), (204, 121, 167), (0, 114, 178))
"""Of the regions of a reply, one after the other: orange, sky blue, green, yellow, vermilion, purple, blue."""
_RIM = (0, 0, 0)
_SMALL = 512
_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def overlay(image: ImageLike, result: Result, *, tint: float = 0.35) -> Image.Image:
    """Return the picture with a result drawn on it.

    Parameters
    ----------
    image : MedicalImage, path or uint8 array
        The picture that `result` is about.
    result : Result
    tint : float, 0 to 1
        How much of the mask's colour covers the picture.

    Returns
    -------
    PIL.Image.Image
        RGB, as large as the source; where its longest side is under 512, enlarged by a whole factor to at least that.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.types import Box, Grounding
    >>> space = Space.pixels(64, 64)
    >>> said = Grounding("", (Box(10, 10, 30, 40, space),), (), space)
    >>> overlay(np.zeros((64, 64), np.uint8), Result(said, None, "a model", "none")).size
    (512, 512)
    """
    return draw(as_image(image), boxes=result.grounding.boxes, points=result.points, mask=result.mask, tint=tint)


def draw(
    image: MedicalImage,
    *,
    boxes: Sequence[Box] = (),
    points: Sequence[Point] = (),
    mask: Mask | None = None,
    tint: float = 0.35,
) -> Image.Image:
    """Return the picture with boxes, points (in any space of it) and a mask drawn on it; see `overlay`."""
    canvas, factor, line = _canvas(image)
    canvas = _masked(canvas, image, mask, factor, MASK, tint, line)
    pen = ImageDraw.Draw(canvas)
    for box in boxes:
        _outline(pen, box.to(image.space), factor, BOX, line)
    radius = max(4, round(max(canvas.size) / 110))
    for point in points:
        x, y = (value * factor for value in point.to(image.space).xy)
        for size, colour in ((radius, _RIM), (radius - max(1, line // 2), POINT), (max(1, radius // 3), _RIM)):
            pen.ellipse((x - size - 0.5, y - size - 0.5, x + size - 0.5, y + size - 0.5), fill=colour)
    return canvas


def draw_regions(image: ImageLike, regions: Sequence[LocatedRegion], *, tint: float = 0.35) -> Image.Image:
    """Return the picture with regions drawn on it, each in a colour and with a number, and their names below.

    Parameters
    ----------
    image : MedicalImage, path or uint8 array
        The picture that the regions are about.
    regions : sequence of LocatedRegion
        Colours come again after as many as there are in `REGIONS`; numbers don't.
    tint : float, 0 to 1
        How much of a mask's colour covers the picture.

    Returns
    -------
    PIL.Image.Image
        RGB. The picture is at the top left, as large as `overlay` makes it; the legend below it is left out where there
        are no regions.

    Examples
    --------
    >>> from medground.coords import Space
    >>> heart = LocatedRegion("heart", Box(10, 10, 30, 40, Space.pixels(64, 64)))
    >>> picture = draw_regions(np.zeros((64, 64), np.uint8), [heart])
    >>> picture.width, picture.height > 512
    (512, True)
    """
    image = as_image(image)
    canvas, factor, line = _canvas(image)
    colours = [REGIONS[index % len(REGIONS)] for index in range(len(regions))]
    for region, colour in zip(regions, colours, strict=True):
        canvas = _masked(canvas, image, region.mask, factor, colour, tint, line)
    pen = ImageDraw.Draw(canvas)
    for region, colour in zip(regions, colours, strict=True):
        _outline(pen, region.box.to(image.space), factor, colour, line)
    size = max(14, round(max(canvas.size) / 36))
    font = ImageFont.load_default(size)
    for number, (region, colour) in enumerate(zip(regions, colours, strict=True), 1):
        x1, y1, *_ = (round(value * factor) for value in region.box.to(image.space).xyxy)
        _tag(pen, (x1, y1), str(number), colour, font, size, canvas.size)
    return _with_legend(canvas, [region.ref for region in regions], colours, font, size) if regions else canvas


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, str]],
    *,
    columns: int = 3,
    width: int = 360,
    lines: int = 3,
    background: str = "white",
) -> Image.Image:
    """Return captioned pictures in rows, each shrunk or enlarged to fit a square tile.

    Parameters
    ----------
    tiles : sequence of (PIL.Image.Image, str)
        Pictures with their captions, which are wrapped; a line break in a caption stays one.
    columns : int
        Tiles in a row.
    width : int
        Of a tile, in pixels.
    lines : int
        Of a caption, at most; room is left for as many as the longest one needs.
    background : str
        A colour name that PIL knows; captions are black on light and white on dark grounds.
    """
    if not tiles or columns < 1 or width < 40:
        raise ValueError("a contact sheet needs at least one tile, one column and tiles of 40 pixels")
    columns = min(columns, len(tiles))
    gap, size = max(4, width // 40), max(11, width // 24)
    font = ImageFont.load_default(size)
    captions = [_wrapped(text, font, width)[:lines] for _, text in tiles]
    caption = max(3, *map(len, captions)) * (size + 4)
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (width + caption + 2 * gap) + gap), background)
    ground = sheet.getpixel((0, 0))
    ink = "black" if sum(ground if isinstance(ground, tuple) else (0,)) > 384 else "white"
    pen = ImageDraw.Draw(sheet)
    for index, (picture, _) in enumerate(tiles):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap + row * (width + caption + 2 * gap)
        ratio = width / max(picture.size)
        fitted = picture.convert("RGB").resize(
            (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))), Image.Resampling.LANCZOS
        )
        sheet.paste(fitted, (left + (width - fitted.width) // 2, top + (width - fitted.height) // 2))
        for line, words in enumerate(captions[index]):
            pen.text((left, top + width + gap + line * (size + 4)), words, fill=ink, font=font)
    return sheet


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """Where `save_result` wrote; `mask` is None when the result has none."""

    overlay: Path
    json: Path
    mask: Path | None


def save_result(result: Result, image: ImageLike, folder: str | Path, *, stem: str | None = None) -> SavedFiles:
    """Write a result's overlay (PNG), mask (PNG, 0 and 255, size of the source) and JSON, each whole or not at all.

    Parameters
    ----------
    result : Result
    image : MedicalImage, path or uint8 array
        The picture that `result` is about. A path is read without options, so give the loaded image where a frame,
        slice or window was chosen.
    folder : str or Path
        Made when it isn't there.
    stem : str or None
        What file names start with; the image's file name without its ending by default.

    Returns
    -------
    SavedFiles

    Raises
    ------
    ConfigError
        When the files can't be written there.
    """
    image = as_image(image)
    out = make_folder(folder)
    name = _stem(image.provenance.file_name) if stem is None else stem
    pictured, told, masked = (out / f"{name}.{ending}" for ending in ("overlay.png", "json", "mask.png"))
    write_bytes(pictured, png(overlay(image, result)))
    if result.mask is None:
        masked.unlink(missing_ok=True)  # an earlier result's mask must not stand beside this one's JSON
    else:
        write_bytes(masked, png(Image.fromarray(result.mask.astype(np.uint8) * 255)))
    write_json(told, result.to_dict())
    return SavedFiles(pictured, told, None if result.mask is None else masked)


@dataclass(frozen=True, slots=True)
class SavedReply:
    """Where `save_reply` wrote; `masks` are those of the regions that have one."""

    overlay: Path
    json: Path
    masks: tuple[Path, ...]


def save_reply(reply: Reply, image: ImageLike, folder: str | Path, *, stem: str | None = None) -> SavedReply:
    """Write a reply's regions on the picture with a legend, a mask for each region, and JSON; see `save_result`.

    Files are ``STEM.reply.png``, ``STEM.reply.json`` and ``STEM.reply.1.mask.png`` with the number that the region has
    in the legend.

    Raises
    ------
    ConfigError
        When the files can't be written there.
    """
    image = as_image(image)
    out = make_folder(folder)
    name = f"{_stem(image.provenance.file_name) if stem is None else stem}.reply"
    pictured, told = out / f"{name}.png", out / f"{name}.json"
    write_bytes(pictured, png(draw_regions(image, reply.regions)))
    masks = {
        out / f"{name}.{number}.mask.png": region.mask
        for number, region in enumerate(reply.regions, 1)
        if region.mask is not None
    }
    for file in out.glob(f"{escape(name)}.*.mask.png"):
        if file not in masks and file.name.removeprefix(f"{name}.").removesuffix(".mask.png").isdecimal():
            file.unlink()  # an earlier reply's mask must not stand beside this one's JSON
    for file, mask in masks.items():
        write_bytes(file, png(Image.fromarray(mask.astype(np.uint8) * 255)))
    write_json(told, reply.to_dict())
    return SavedReply(pictured, told, tuple(masks))


def png(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _canvas(image: MedicalImage) -> tuple[Image.Image, int, int]:
    """Return the picture to draw on, by which factor it is enlarged, and the width of lines on it."""
    factor = max(1, math.ceil(_SMALL / max(image.size)))
    canvas = Image.fromarray(image.rgb)
    if factor > 1:
        canvas = canvas.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    return canvas, factor, max(2, round(max(canvas.size) / 300))


def _outline(pen: ImageDraw.ImageDraw, box: Box, factor: int, colour: tuple[int, int, int], line: int) -> None:
    x1, y1, x2, y2 = (value * factor for value in box.xyxy)
    # PIL counts the last pixel in, so the edge at x2 is drawn on the pixel before it.
    corners = (round(x1), round(y1), max(round(x2) - 1, round(x1)), max(round(y2) - 1, round(y1)))
    pen.rectangle(_grown(corners, 1), outline=_RIM, width=line + 2)
    pen.rectangle(corners, outline=colour, width=line)


def _tag(
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    number: str,
    colour: tuple[int, int, int],
    font: _Font,
    size: int,
    within: tuple[int, int],
) -> None:
    """Draw a number on its colour, at a corner or as near to it as the picture has room."""
    width, height = round(font.getlength(number)) + size // 2, size + 4
    x, y = max(0, min(corner[0], within[0] - width)), max(0, min(corner[1], within[1] - height))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour, outline=_RIM)
    pen.text((x + width / 2, y + height / 2), number, fill=_ink(colour), font=font, anchor="mm")


def _with_legend(
    canvas: Image.Image, names: Sequence[str], colours: Sequence[tuple[int, int, int]], font: _Font, size: int
) -> Image.Image:
    row, left = round(1.4 * size) + 4, 3 * size  # room for what hangs below a line
    width = max(canvas.width, 12 * size)
    entries = [_wrapped(name, font, width - left - size // 2)[:4] for name in names]
    sheet = Image.new("RGB", (width, canvas.height + row * sum(map(len, entries)) + 8), "white")
    sheet.paste(canvas, (0, 0))
    pen = ImageDraw.Draw(sheet)
    top = canvas.height + 4
    for number, (lines, colour) in enumerate(zip(entries, colours, strict=True), 1):
        _tag(pen, (size // 2, top), str(number), colour, font, size, sheet.size)
        for at, words in enumerate(lines):
            pen.text((left, top + at * row + 1), words, fill="black", font=font)
        top += row * len(lines)
    return sheet


def _ink(colour: tuple[int, int, int]) -> str:
    return "black" if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 120 else "white"


def _masked(
    canvas: Image.Image,
    image: MedicalImage,
    mask: Mask | None,
    factor: int,
    colour: tuple[int, int, int],
    tint: float,
    line: int,
) -> Image.Image:
    if mask is not None and mask.shape != image.rgb.shape[:2]:
        raise ValueError(f"the mask's shape {mask.shape} isn't the picture's {image.rgb.shape[:2]}")
    if mask is None or not mask.any():
        return canvas
    return _tinted(canvas, np.repeat(np.repeat(mask, factor, 0), factor, 1), colour, tint, line)


def _tinted(canvas: Image.Image, mask: Mask, ink: tuple[int, int, int], tint: float, line: int) -> Image.Image:
    from scipy import ndimage

    pixels = np.asarray(canvas).astype(np.float32)
    colour = np.array(ink, np.float32)
    pixels[mask] = pixels[mask] * (1 - tint) + colour * tint
    # Inside the mask, so that the contour never hides what lies next to the target; its rim lies outside.
    inner = mask & ~ndimage.minimum_filter(mask, size=2 * line + 1, mode="constant", cval=False)
    rim = ndimage.maximum_filter(mask, size=3) & ~mask
    pixels[inner] = colour
    pixels[rim] = _RIM
    drawn: npt.NDArray[np.uint8] = pixels.round().astype(np.uint8)
    return Image.fromarray(drawn)


def _grown(corners: tuple[int, int, int, int], by: int) -> tuple[int, int, int, int]:
    return corners[0] - by, corners[1] - by, corners[2] + by, corners[3] + by


def _wrapped(text: str, font: _Font, width: int) -> list[str]:
    lines: list[str] = []
    for paragraph in text.splitlines():
        for number, word in enumerate(paragraph.split()):
            if number and font.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
                continue
            lines.append(word)
            while font.getlength(lines[-1]) > width and len(lines[-1]) > 1:  # ids have no blanks to break at
                fits = max(1, int(len(lines[-1]) * width / font.getlength(lines[-1])) - 1)
                lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def _stem(file_name: str) -> str:
    # Only known endings: DICOM files are often named by a UID, whose last number isn't one.
    endings = sorted(IMAGE_ENDINGS, key=len, reverse=True)
    plain = next((file_name[: -len(end)] for end in endings if file_name.lower().endswith(end)), file_name)
    return re.sub(r"[^\w.-]+", "_", plain).strip("._") or "result"

"""Coordinate spaces, and the table of which model family speaks which.

Every space here is the same picture under another ruler: its left edge is 0 and its right edge is ``width``; its top
edge is 0 and its bottom edge is ``height``. Edges, not pixel centres, so a box around the whole picture is
``[0, 0, width, height]`` in each of them and conversion is a plain ratio, exact both ways up to rounding.
A space also says in which order its numbers are *written* (``xy`` or ``yx``); in memory the order is always x, y.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from medground.errors import ConfigError, ImageError

__all__ = [
    "COORDINATES",
    "FAMILIES",
    "NAME_PATTERNS",
    "Family",
    "Order",
    "Space",
    "convert",
    "decimals",
    "family_for",
    "layout_words",
    "smart_resize",
    "space_named",
    "space_words",
    "written_order",
]

Order = Literal["xy", "yx"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Space:
    """A ruler laid over one picture.

    Parameters
    ----------
    name : str
        What the ruler is called, such as ``"pixels"``, ``"resized pixels"``, ``"0-1"`` or ``"0-1000"``.
    width, height : float
        The coordinate of the right and of the bottom edge; both above 0.
    order : {"xy", "yx"}
        The order in which a model writes the numbers of a point or a box.

    Examples
    --------
    >>> source = Space.pixels(640, 480)
    >>> convert([320, 120], source, Space.norm1000())
    (500.0, 250.0)
    """

    name: str
    width: float
    height: float
    order: Order = "xy"

    def __post_init__(self) -> None:
        if not (0 < self.width < 1e9 and 0 < self.height < 1e9):
            raise ValueError(f"a coordinate space needs a positive, finite size, not {self.width} x {self.height}")
        if self.order not in ("xy", "yx"):
            raise ValueError(f"order must be 'xy' or 'yx', not {self.order!r}")

    @classmethod
    def pixels(cls, width: float, height: float) -> Space:
        """Pixels of the source image, the space of every result that leaves medground."""
        return cls("pixels", width, height)

    @classmethod
    def resized(cls, width: float, height: float) -> Space:
        """Pixels of the resized image that the model was shown (Qwen2.5-VL)."""
        return cls("resized pixels", width, height)

    @classmethod
    def unit(cls) -> Space:
        """Fractions of the picture, 0 to 1."""
        return cls("0-1", 1.0, 1.0)

    @classmethod
    def norm1000(cls, order: Order = "xy") -> Space:
        """Thousandths of the picture, 0 to 1000 (Qwen2-VL, Qwen3-VL, InternVL, nano; Gemini writes yx)."""
        return cls("0-1000", 1000.0, 1000.0, order)


def convert(values: Sequence[float], source: Space, target: Space) -> tuple[float, ...]:
    """Convert alternating x, y values between two spaces of the same picture.

    Parameters
    ----------
    values : sequence of float, even length
        ``x, y, x, y, ...`` in `source`; a box is ``x1, y1, x2, y2``.
    source, target : Space
        Spaces of the same picture. Their ``order`` plays no part: it is about text, and values here are x, y.

    Returns
    -------
    tuple of float
        The same places in `target`.
    """
    if len(values) % 2:
        raise ValueError(f"x, y values come in pairs; {len(values)} is odd")
    # Multiply before dividing: whole numbers then stay whole (120 of 480 is 250 of 1000, not 250.00000000000003).
    extents = ((target.width, source.width), (target.height, source.height))
    return tuple(float(value) * extents[index % 2][0] / extents[index % 2][1] for index, value in enumerate(values))


COORDINATES = ("pixels", "resized pixels", "0-1", "0-1000")
"""What a ``coordinates`` setting may say; ``" yx"`` after it means that y is written before x."""

_FACTOR, _MIN_PIXELS, _MAX_PIXELS = 28, 56 * 56, 16384 * 28 * 28  # Qwen2.5-VL's published preprocessor settings


def smart_resize(
    width: int, height: int, *, factor: int = _FACTOR, min_pixels: int = _MIN_PIXELS, max_pixels: int = _MAX_PIXELS
) -> tuple[int, int]:
    """Return the size to which Qwen2.5-VL's processor resizes an image, by the published rule.

    Both sides become the nearest multiple of `factor`; when their product leaves ``[min_pixels, max_pixels]``, both
    are scaled alike first and then rounded towards that range.

    Parameters
    ----------
    width, height : int
        The image's size in pixels; note the order, transformers' own function takes the height first.
    factor : int
        Patch size times merge size: 28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL.
    min_pixels, max_pixels : int
        The processor's ``size["shortest_edge"]`` and ``size["longest_edge"]``, which are areas in spite of the names.

    Returns
    -------
    tuple of int
        ``(width, height)`` of the resized image.

    Raises
    ------
    ImageError
        When one side is more than 200 times the other.
    ConfigError
        When the settings allow no size.

    Examples
    --------
    >>> smart_resize(1920, 1080, max_pixels=1280 * 28 * 28)
    (1316, 728)
    """
    if width < 1 or height < 1:
        raise ImageError(f"an image of {width} x {height} pixels has nothing to see")
    if max(width, height) > 200 * min(width, height):
        raise ImageError(
            f"the image's {width} x {height} pixels are longer than 200 : 1; crop it to the part that matters"
        )
    if factor < 1 or not 0 < min_pixels <= max_pixels:
        raise ConfigError(
            f"factor {factor}, min_pixels {min_pixels}, max_pixels {max_pixels}: factor must be at least 1 and "
            "0 < min_pixels <= max_pixels"
        )
    across, down = round(width / factor) * factor, round(height / factor) * factor
    if across * down > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        across = max(factor, math.floor(width / shrink / factor) * factor)
        down = max(factor, math.floor(height / shrink / factor) * factor)
    elif across * down < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        across = math.ceil(width * grow / factor) * factor
        down = math.ceil(height * grow / factor) * factor
    return across, down


def space_named(
    coordinates: str,
    width: int,
    height: int,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    factor: int | None = None,
) -> Space:
    """Return the space that a ``coordinates`` setting names, for an image of `width` x `height` pixels.

    Parameters
    ----------
    coordinates : str
        One of `COORDINATES`, with ``" yx"`` after it when y is written first.
    width, height : int
        Size of the image that the model is asked about, in pixels.
    min_pixels, max_pixels, factor : int, optional
        For ``"resized pixels"``: see `smart_resize`; Qwen2.5-VL's published settings where None.

    Raises
    ------
    ConfigError
        When `coordinates` names no space.

    Examples
    --------
    >>> space_named("0-1000 yx", 640, 480)
    Space(name='0-1000', width=1000.0, height=1000.0, order='yx')
    """
    kind = coordinates.removesuffix(" yx")
    if kind == "pixels":
        space = Space.pixels(width, height)
    elif kind == "resized pixels":
        space = Space.resized(
            *smart_resize(
                width,
                height,
                factor=_FACTOR if factor is None else factor,
                min_pixels=_MIN_PIXELS if min_pixels is None else min_pixels,
                max_pixels=_MAX_PIXELS if max_pixels is None else max_pixels,
            )
        )
    elif kind == "0-1":
        space = Space.unit()
    elif kind == "0-1000":
        space = Space.norm1000()
    else:
        known = ", ".join(repr(name) for name in COORDINATES)
        raise ConfigError(
            f"coordinates {coordinates!r} isn't known; say one of {known}, with ' yx' added where y comes first"
        )
    return space if kind == coordinates else replace(space, order="yx")


@dataclass(frozen=True, slots=True)
class Family:
    """Models that were trained to write coordinates in the same way.

    Parameters
    ----------
    name : str
        What its makers call it.
    coordinates : str
        A setting that `space_named` knows.
    source : str
        Where its makers, or the code that they publish, say so.

    Examples
    --------
    >>> FAMILIES["qwen2_5_vl"].space(640, 480)
    Space(name='resized pixels', width=644, height=476, order='xy')
    """

    name: str
    coordinates: str
    source: str

    def space(
        self,
        width: int,
        height: int,
        *,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        factor: int | None = None,
    ) -> Space:
        """Return the space for an image of `width` x `height` pixels; the rest as in `space_named`."""
        return space_named(self.coordinates, width, height, min_pixels=min_pixels, max_pixels=max_pixels, factor=factor)


_QWEN2 = Family("Qwen2-VL", "0-1000", "arXiv 2409.12191")
_QWEN25 = Family("Qwen2.5-VL", "resized pixels", "arXiv 2502.13923; QwenLM/Qwen3-VL issue 940")
_QWEN3 = Family("Qwen3-VL", "0-1000", "QwenLM/Qwen3-VL, README; its issues 1623 and 1741")
_QWEN35 = Family("Qwen3.5", "0-1000", "QwenLM/Qwen3.8-Flash-Next issue 4")
_INTERNVL = Family("InternVL", "0-1000", "internvl.readthedocs.io, chat data format: grounding")
_GLM = Family("GLM-V", "0-1000", "zai-org/GLM-V, skills/glmv-grounding")
_GEMINI = Family("Gemini", "0-1000 yx", "ai.google.dev, image understanding: box_2d is [ymin, xmin, ymax, xmax]")
_NANO = Family("nano", "0-1000", "the embedded model; trained here")

FAMILIES: dict[str, Family] = {
    "fast_vlm": _NANO,
    "glm46v": _GLM,
    "glm4v": _GLM,
    "glm4v_moe": _GLM,
    "internvl": _INTERNVL,
    "qwen2_5_vl": _QWEN25,
    "qwen2_vl": _QWEN2,
    "qwen3_5": _QWEN35,
    "qwen3_5_moe": _QWEN35,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
}
"""Hugging Face ``config.model_type`` -> family.

Left out on purpose, so that the user has to say: families whose makers publish no convention for plain numbers
(Gemma 3, Mistral 3, SmolVLM), whose training used another ruler than a ratio of the whole picture (LLaVA-1.5: fractions
of the picture padded to a square), or that write location tokens, not numbers (PaliGemma, Florence-2, Kosmos-2).
"""

NAME_PATTERNS: tuple[tuple[str, Family], ...] = (
    (r"qwen-?2-?vl", _QWEN2),
    (r"qwen-?2[.p-]5-?vl", _QWEN25),
    (r"lingshu", _QWEN25),
    (r"medreasoner", _QWEN25),
    (r"qwen-?3-?vl", _QWEN3),
    (r"qwen-?3[.p]5|qwen-?3-5-", _QWEN35),
    (r"intern-?vl", _INTERNVL),
    (r"glm-?4[.p-][156]v", _GLM),
    (r"gemini", _GEMINI),
)
"""Regular expression over a model name in lower case, ``-`` for ``_`` -> family; endpoints tell no model type."""


def family_for(model_type: str | None = None, name: str | None = None) -> Family:
    """Return the family of a model, by its type or else by its name.

    Parameters
    ----------
    model_type : str, optional
        ``config.model_type`` of a Hugging Face model; decides alone when the table has it.
    name : str, optional
        The model's name, such as an endpoint's ``Qwen2.5-VL-7B-Instruct``.

    Raises
    ------
    ConfigError
        When neither tells the family, or the name fits families that differ: a guess would put boxes in wrong places.

    Examples
    --------
    >>> family_for("qwen3_vl").coordinates
    '0-1000'
    >>> family_for(name="lingshu-medical-mllm/Lingshu-7B").name
    'Qwen2.5-VL'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    plain = (name or "").lower().replace("_", "-")
    found = [family for pattern, family in NAME_PATTERNS if re.search(pattern, plain)]
    if len({family.coordinates for family in found}) == 1:
        return found[0]
    called = " and ".join(f"{what} {value!r}" for what, value in (("type", model_type), ("name", name)) if value)
    trouble = f"fits {' and '.join(family.name for family in found)}" if found else "isn't in the table of families"
    raise ConfigError(
        f'in which coordinates does the model answer? Its {called or "type"} {trouble}: say it with "coordinates" in '
        f"the folder's medground.json or with the coordinates argument ({', '.join(COORDINATES)}; ' yx' added where y "
        "comes first)"
    )


def decimals(space: Space) -> int:
    """Return how many decimal places a space's numbers are written with: 4 in 0-1, none elsewhere."""
    return 4 if max(space.width, space.height) <= 1 else 0


def written_order(values: Sequence[_T], space: Space) -> list[_T]:
    """Turn x, y, x, y into the order that `space` is written in, or back; nothing else in medground swaps.

    Examples
    --------
    >>> written_order(["x1", "y1", "x2", "y2"], Space.norm1000("yx"))
    ['y1', 'x1', 'y2', 'x2']
    """
    return [values[index ^ 1] for index in range(len(values))] if space.order == "yx" else list(values)


def layout_words(space: Space) -> tuple[str, str]:
    """Return how a box and a point are written in a space.

    Examples
    --------
    >>> layout_words(Space.norm1000("yx"))
    ('[y1, x1, y2, x2]', '[y, x]')
    """
    return ("[x1, y1, x2, y2]", "[x, y]") if space.order == "xy" else ("[y1, x1, y2, x2]", "[y, x]")


def space_words(space: Space) -> str:
    """Return a space in words, for a prompt: its ruler, its number format and its order.

    Examples
    --------
    >>> print(space_words(Space.pixels(640, 480)))
    Coordinates are whole pixels of the 640 x 480 image: x runs from 0 at the left edge to 640 at the right edge, \
y from 0 at the top edge to 480 at the bottom edge. Write a box as [x1, y1, x2, y2] (left, top, right, bottom) and a \
point as [x, y].
    """
    ruler = {
        "pixels": f"whole pixels of the {space.width:.12g} x {space.height:.12g} image",
        "resized pixels": f"whole pixels of the image as you see it, {space.width:.12g} x {space.height:.12g}",
        "0-1": "fractions of the image with 4 decimal places",
        "0-1000": "whole thousandths of the image",
    }.get(space.name, "whole numbers")
    box, point = layout_words(space)
    sides = "left, top, right, bottom" if space.order == "xy" else "top, left, bottom, right"
    return (
        f"Coordinates are {ruler}: x runs from 0 at the left edge to {space.width:.12g} at the right edge, y from 0 at "
        f"the top edge to {space.height:.12g} at the bottom edge. "
        f"Write a box as {box} ({sides}) and a point as {point}."
    )

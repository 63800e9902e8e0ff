"""Coordinate spaces, and the table of which model family speaks which.

Every space here is the same picture under another ruler: its left edge is 0 and its right edge is ``width``; its top
edge is 0 and its bottom edge is ``height``. Edges, not pixel centres, so a box around the whole picture is
``[0, 0, width, height]`` in each of them and conversion is a plain ratio, exact both ways up to rounding.
A space also says in which order its numbers are *written* (``xy`` or ``yx``); in memory the order is always x, y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Order", "Space", "convert", "decimals", "layout_words", "space_words"]

Order = Literal["xy", "yx"]


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


def decimals(space: Space) -> int:
    """Return how many decimal places a space is written with: 0, or 4 where its whole extent is a few units."""
    return 4 if min(space.width, space.height) <= 10 and space.name == "0-1" else 0


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
        f"the top edge to {space.height:.12g} at the bottom edge. Write a box as {box} ({sides}) and a point as {point}."
    )

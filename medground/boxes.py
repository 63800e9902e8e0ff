"""Points and boxes: places in a picture, each with the ruler that its numbers are read on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medground.coords import Space, convert

__all__ = ["Box", "Point"]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a picture.

    Parameters
    ----------
    x, y : float
        Finite; the origin is the top left corner of the picture.
    space : Space
        The ruler that x and y are read on.
    """

    x: float
    y: float
    space: Space

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y)):
            raise ValueError(f"a point needs finite coordinates, not ({self.x}, {self.y})")

    def to(self, space: Space) -> Point:
        """Return the same place in another space of the same picture."""
        if space == self.space:  # exact, and conversion need not be
            return self
        x, y = convert((self.x, self.y), self.space, space)
        return Point(x, y, space)

    def clipped(self) -> Point:
        """Return the nearest place inside the picture."""
        return Point(min(max(self.x, 0.0), self.space.width), min(max(self.y, 0.0), self.space.height), self.space)

    @property
    def xy(self) -> tuple[float, float]:
        """``(x, y)``."""
        return (self.x, self.y)


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box, edges (not pixel centres), XYXY.

    Parameters
    ----------
    x1, y1, x2, y2 : float
        Finite, ``x1 < x2`` and ``y1 < y2``. May reach outside the picture; see `clipped`.
    space : Space
        The ruler that the numbers are read on.

    Examples
    --------
    >>> box = Box(64, 48, 320, 240, Space.pixels(640, 480))
    >>> box.to(Space.norm1000()).xyxy
    (100.0, 100.0, 500.0, 500.0)
    """

    x1: float
    y1: float
    x2: float
    y2: float
    space: Space

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self.xyxy):
            raise ValueError(f"a box needs finite coordinates, not {list(self.xyxy)}")
        if not (self.x1 < self.x2 and self.y1 < self.y2):
            raise ValueError(f"a box needs x1 < x2 and y1 < y2, not {list(self.xyxy)}")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """``(x1, y1, x2, y2)``."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def width(self) -> float:
        """Width in the box's own space."""
        return self.x2 - self.x1

    @property
    def height(self) -> float:
        """Height in the box's own space."""
        return self.y2 - self.y1

    @property
    def area(self) -> float:
        """Area in the box's own space."""
        return self.width * self.height

    def to(self, space: Space) -> Box:
        """Return the same box in another space of the same picture."""
        if space == self.space:
            return self
        x1, y1, x2, y2 = convert(self.xyxy, self.space, space)
        return Box(x1, y1, x2, y2, space)

    def clipped(self) -> Box:
        """Return the part of the box that lies inside the picture; raises ValueError when none does."""
        return Box(
            min(max(self.x1, 0.0), self.space.width),
            min(max(self.y1, 0.0), self.space.height),
            min(max(self.x2, 0.0), self.space.width),
            min(max(self.y2, 0.0), self.space.height),
            self.space,
        )

    def contains(self, point: Point) -> bool:
        """Whether `point`, given in any space of the same picture, lies in the box, edges included."""
        here = point.to(self.space)
        return self.x1 <= here.x <= self.x2 and self.y1 <= here.y <= self.y2

    def iou(self, other: Box) -> float:
        """Intersection over union with a box in any space of the same picture; 0 to 1.

        Examples
        --------
        >>> space = Space.pixels(100, 100)
        >>> Box(0, 0, 10, 10, space).iou(Box(0, 0, 10, 20, space))
        0.5
        """
        there = other.to(self.space)
        across = min(self.x2, there.x2) - max(self.x1, there.x1)
        down = min(self.y2, there.y2) - max(self.y1, there.y1)
        if across <= 0 or down <= 0:
            return 0.0
        shared = across * down
        union = self.area + there.area - shared
        return shared / union if union > 0 else 0.0  # areas too small for a float

"""From a reasoner's ruler to the picture's pixels, and from places to what a segmenter is asked."""

from __future__ import annotations

import dataclasses

from medground.coords import Space
from medground.errors import ParseError
from medground.segmenters import Prompt
from medground.types import Box, Grounding

__all__ = ["in_source_pixels", "prompts_for"]


def in_source_pixels(said: Grounding, space: Space) -> tuple[Grounding, list[str]]:
    """Return a grounding on the picture's own ruler, clipped to the picture, and notes on what was changed.

    Parameters
    ----------
    said : Grounding
        In any space of the picture.
    space : Space
        The picture's pixels.

    Raises
    ------
    ParseError
        When the grounding gave places, and none of them lies in the picture.

    Examples
    --------
    >>> said = Grounding("", (Box(900, 0, 1100, 500, Space.norm1000()),), (), Space.norm1000())
    >>> here, notes = in_source_pixels(said, Space.pixels(640, 480))
    >>> here.box == Box(576, 0, 640, 240, here.space)
    True
    >>> notes
    ['the box reached outside the picture and was clipped to it']
    """
    there = said.to(space)
    notes = [f"reading the answer: {repair}" for repair in said.repairs]
    inside = [box for box in there.boxes if _touches(box)]
    boxes = tuple(box.clipped() for box in inside)
    points = tuple(point.clipped() for point in there.points)
    if len(boxes) < len(there.boxes):
        if not boxes:
            what = "box lies" if len(there.boxes) == 1 else "boxes lie"
            raise ParseError(
                f"the reasoner's {what} outside the picture; its numbers may be in another space than {said.space.name}"
            )
        notes.append(f"{len(there.boxes) - len(boxes)} of {len(there.boxes)} boxes lay outside the picture")
    if boxes != tuple(inside):
        notes.append("the box reached outside the picture and was clipped to it")
    if points != there.points:
        notes.append("a key point lay outside the picture and was moved to its edge")
    return dataclasses.replace(there, boxes=boxes, points=points), notes


def prompts_for(said: Grounding) -> list[Prompt]:
    """Return what a segmenter is asked about a grounding: one prompt for each region; none without a place."""
    if not said.boxes:
        return [Prompt(points=said.points)] if said.points else []
    if len(said.boxes) == 1:
        return [Prompt(said.boxes[0], said.points)]
    # Of several regions, each gets the points that lie on it.
    return [Prompt(box, tuple(point for point in said.points if box.contains(point))) for box in said.boxes]


def _touches(box: Box) -> bool:
    return box.x1 < box.space.width and box.y1 < box.space.height and box.x2 > 0 and box.y2 > 0

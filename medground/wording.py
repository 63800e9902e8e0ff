"""A result in words, for people."""

from __future__ import annotations

from medground.types import Result

__all__ = ["describe"]


def describe(result: Result) -> list[tuple[str, str]]:
    """Return what a result says, as (label, words) in reading order; the reasoning apart.

    Sizes and areas are in millimetres too where the image file gives the pixel spacing.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.types import Box, Grounding
    >>> space = Space.pixels(64, 48)
    >>> result = Result(Grounding("", (Box(10, 10, 30, 40, space),), (), space), None, "a model", "none")
    >>> dict(describe(result))["box"]
    'x 10.0 to 30.0, y 10.0 to 40.0  (20 x 30 px)'
    """
    space, source = result.grounding.space, result.provenance
    spacing = source.spacing_mm if source is not None else None
    facts = []
    if result.grounding.answer:
        facts.append(("answer", result.grounding.answer))
    if result.grounding.absent:
        facts.append(("location", "the target isn't in the image"))
    for box in result.grounding.boxes:
        size = f"{box.width:.0f} x {box.height:.0f} px"
        if spacing is not None:
            size += f", {box.width * spacing[1]:.1f} x {box.height * spacing[0]:.1f} mm"
        corners = f"x {box.x1:.1f} to {box.x2:.1f}, y {box.y1:.1f} to {box.y2:.1f}"
        facts.append(("box", f"{corners}  ({size})"))
    if result.points:
        facts.append(("points", "  ".join(f"({point.x:.1f}, {point.y:.1f})" for point in result.points)))
    if result.mask is not None:
        count = int(result.mask.sum())
        area = f"{count:,} px, {count / result.mask.size:.1%} of the image"
        if spacing is not None:
            area += f", {count * spacing[0] * spacing[1]:.0f} mm²"
        facts.append(("mask", area))
    picture = f"{space.width:g} x {space.height:g} px, origin top left"
    if source is not None:
        picture = f"{source.file_name}, {picture}"
        if source.slice is not None:
            picture += f", {source.axis} slice {source.slice} of 0 to {(source.slices or 1) - 1}"
        if source.frame is not None and (source.frames or 1) > 1:
            picture += f", frame {source.frame} of 0 to {(source.frames or 1) - 1}"
    facts.append(("image", picture))
    times = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items())
    facts.append(("models", f"{result.reasoner} + {result.segmenter}  ({times})"))
    facts += [("note", note) for note in (*result.notes, *(source.notes if source is not None else ()))]
    return facts

"""A result in words, for people."""

from __future__ import annotations

from medground.coords import Space
from medground.images import Provenance
from medground.types import Box, Mask, Reply, Result

__all__ = ["describe", "describe_reply"]


def describe(result: Result) -> list[tuple[str, str]]:
    """Return what a result says, as (label, words) in reading order; the reasoning apart.

    Sizes and areas are in millimetres too where the image file gives the pixel spacing.

    Examples
    --------
    >>> from medground.types import Grounding
    >>> space = Space.pixels(64, 48)
    >>> result = Result(Grounding("", (Box(10, 10, 30, 40, space),), (), space), None, "a model", "none")
    >>> dict(describe(result))["box"]
    'x 10.0 to 30.0, y 10.0 to 40.0  (20 x 30 px)'
    """
    space, source = result.grounding.space, result.provenance
    facts = []
    if result.grounding.answer:
        facts.append(("answer", result.grounding.answer))
    if result.grounding.absent:
        facts.append(("location", "the target isn't in the image"))
    facts += [("box", _box_words(box, source)) for box in result.grounding.boxes]
    if result.points:
        facts.append(("points", "  ".join(f"({point.x:.1f}, {point.y:.1f})" for point in result.points)))
    if result.mask is not None:
        facts.append(("mask", _area_words(result.mask, source)))
    models = (result.reasoner, result.segmenter)
    return facts + _source_words(space, source, models, result.seconds, result.notes)


def describe_reply(reply: Reply) -> list[tuple[str, str]]:
    """Return what a reply says, as `describe` does for a result; regions are numbered as later questions may call them.

    Examples
    --------
    >>> from medground.types import LocatedRegion
    >>> space = Space.pixels(64, 48)
    >>> heart = LocatedRegion("heart", Box(10, 10, 30, 40, space))
    >>> reply = Reply("B", "single_choice", space, chosen=("heart",), regions=(heart,))
    >>> describe_reply(reply)[:2]
    [('answer', 'B: heart'), ('region 1', 'heart: x 10.0 to 30.0, y 10.0 to 40.0  (20 x 30 px)')]
    """
    letters = reply.answer.split(", ")
    answer = reply.answer
    if reply.chosen and len(letters) == len(reply.chosen):
        answer = "; ".join(f"{letter}: {text}" for letter, text in zip(letters, reply.chosen, strict=True))
    facts = [("answer", answer)]
    for number, region in enumerate(reply.regions, 1):
        words = f"{region.ref}: {_box_words(region.box, reply.provenance)}"
        if region.mask is not None:
            words += f"; mask {_area_words(region.mask, reply.provenance)}"
        facts.append((f"region {number}", words))
    models = (reply.reasoner, reply.segmenter)
    return facts + _source_words(reply.space, reply.provenance, models, reply.seconds, reply.notes)


def _box_words(box: Box, source: Provenance | None) -> str:
    size = f"{box.width:.0f} x {box.height:.0f} px"
    if source is not None and (spacing := source.spacing_mm) is not None:
        size += f", {box.width * spacing[1]:.1f} x {box.height * spacing[0]:.1f} mm"
    return f"x {box.x1:.1f} to {box.x2:.1f}, y {box.y1:.1f} to {box.y2:.1f}  ({size})"


def _area_words(mask: Mask, source: Provenance | None) -> str:
    count = int(mask.sum())
    area = f"{count:,} px, {count / mask.size:.1%} of the image"
    if source is not None and (spacing := source.spacing_mm) is not None:
        area += f", {count * spacing[0] * spacing[1]:.0f} mm²"
    return area


def _source_words(
    space: Space, source: Provenance | None, models: tuple[str, str], seconds: dict[str, float], notes: tuple[str, ...]
) -> list[tuple[str, str]]:
    picture = f"{space.width:g} x {space.height:g} px, origin top left"
    if source is not None:
        picture = f"{source.file_name}, {picture}"
        if source.slice is not None:
            picture += f", {source.axis} slice {source.slice} of 0 to {(source.slices or 1) - 1}"
        if source.frame is not None and (source.frames or 1) > 1:
            picture += f", frame {source.frame} of 0 to {(source.frames or 1) - 1}"
    times = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in seconds.items())
    return [
        ("image", picture),
        ("models", f"{models[0]} + {models[1]}  ({times})"),
        *(("note", note) for note in (*notes, *(source.notes if source is not None else ()))),
    ]

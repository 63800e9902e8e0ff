"""From a completion's text to a `Grounding`, and from a location to the text that says it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from medground.coords import Space, decimals
from medground.errors import ParseError
from medground.types import Box, Grounding, Point

__all__ = ["format_answer", "parse"]


def parse(text: str, space: Space, *, strict: bool = False) -> Grounding:
    """Read a completion."""
    match = re.search(r"<answer>(.*?)</answer>", text, re.S)
    if match is None:
        raise ParseError("the completion has no <answer>...</answer> block")
    think = re.search(r"<think>(.*?)</think>", text, re.S)
    reasoning = think.group(1).strip() if think else ""
    try:
        said = json.loads(match.group(1))
        if said.get("absent"):
            return Grounding(reasoning, (), (), space, absent=True)
        swap = slice(None, None, -1) if space.order == "yx" else slice(None)
        box = [*said["bbox"][:2][swap], *said["bbox"][2:][swap]]
        points = tuple(Point(*said[key][swap], space) for key in ("points_1", "points_2") if key in said)
        return Grounding(reasoning, (Box(*box, space),), points, space)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParseError(f"the answer can't be read: {error}") from error


def format_answer(box: Box, points: Sequence[Point], space: Space, *, reasoning: str | None = None) -> str:
    """Return the canonical completion for a location; the inverse of `parse`."""
    digits = decimals(space)

    def numbers(values: Sequence[float]) -> list[float]:
        rounded = [round(value, digits) if digits else round(value) for value in values]
        if space.order == "yx":
            rounded = [rounded[index ^ 1] for index in range(len(rounded))]
        return rounded

    answer = {"bbox": numbers(box.to(space).xyxy)}
    answer |= {f"points_{index}": numbers(point.to(space).xy) for index, point in enumerate(points, 1)}
    think = "" if reasoning is None else f"<think>{reasoning}</think>"
    return f"{think}<answer>{json.dumps(answer)}</answer>"

"""Questions that follow another one: which regions a row takes as found before.

A `VqaRow` has no field of its own for them, so they are agreed to be ``other["earlier"]``: a list of
``{"ref": name, "box": [x1, y1, x2, y2]}``, the boxes in pixels of a picture of the row's ``image_size``, whatever the
row's ``coordinates`` are, x first. The ref is what the prompt may call the region, and never gives the answer away.
"""

from __future__ import annotations

from typing import Any

from medground.coords import Space
from medground.data.vqa_rows import VqaRow
from medground.errors import TruthError
from medground.types import Box

__all__ = ["earlier_of"]


def earlier_of(row: VqaRow) -> tuple[tuple[str, Box], ...]:
    """Return the earlier regions of a row, each with its name, in source pixels; none where it follows no question.

    Raises
    ------
    TruthError
        When ``other["earlier"]`` isn't such a list, or a box lies outside the picture; names the row.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = VqaRow(id="1", question="Is it round?", question_type="closed", answer="Yes", image=Picture(path="a.png"),
    ...              image_size=(64, 48), other={"earlier": [{"ref": "liver", "box": [1, 2, 30, 40]}]})
    >>> [(name, box.xyxy) for name, box in earlier_of(row)]
    [('liver', (1.0, 2.0, 30.0, 40.0))]
    """
    said = row.other.get("earlier", [])
    space = Space.pixels(*row.image_size)
    if not isinstance(said, list):
        raise TruthError(f"row {row.id}: other, earlier: expected a list of {{ref, box}}")
    return tuple(_region(row, each, space) for each in said)


def _region(row: VqaRow, said: Any, space: Space) -> tuple[str, Box]:
    try:
        name, (x1, y1, x2, y2) = said["ref"], said["box"]
        box = Box(float(x1), float(y1), float(x2), float(y2), space)
        if not isinstance(name, str) or not name.strip() or box.clipped() != box:
            raise ValueError("no name, or a box outside the picture")
    except (KeyError, TypeError, ValueError) as error:
        raise TruthError(
            f"row {row.id}: other, earlier: expected ref, a name, and box, [x1, y1, x2, y2] in pixels of the picture"
        ) from error
    return name, box

"""What can be wrong with one row of a data set, seen from the row and its pixels alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medground.coords import Space, decimals, space_named
from medground.data.columns import pictures_of
from medground.data.pixels import open_image, open_mask
from medground.data.rows import Picture, Row
from medground.errors import ConfigError, TruthError
from medground.images import MedicalImage
from medground.masks import box_of, largest_component
from medground.rewards import gold, score
from medground.rewards.evidence import Facts, claims, holds
from medground.taxonomy import leaks, target_of
from medground.taxonomy.wording import first_term
from medground.types import Box, Mask, Point

__all__ = ["TOLERANCE", "Finding", "check_row"]

TOLERANCE = 1.0
"""Pixels by which an edge of a box may miss the mask's: rounding, and the two ways to count the last pixel."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a row, or worth a look.

    Parameters
    ----------
    file : str
        The file of the row; empty for rows that came from none.
    row : int
        Its number in the file, from 0.
    id : str
        Its id, where it could be read.
    field : str
        What is wrong, by the name that `medground.data.schema.Row` gives it.
    kind : str
        Which check found it; one of `medground.data.validate.KINDS`.
    problem, remedy : str
        What is wrong, and what to do; neither quotes the question, the reasoning or the patient.
    note : bool
        Whether the row can stay as it is.
    other : dict
        More to find it by, as JSON can hold it: the row that it clashes with, a distance.
    """

    file: str
    row: int
    id: str
    field: str
    kind: str
    problem: str
    remedy: str
    note: bool = False
    other: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """One line: file, row and id, field, problem and remedy."""
        called = f" ({self.id})" if self.id else ""
        where = f"{self.file}: row {self.row}{called}" if self.file else f"row {self.row}{called}"
        return f"{where}: {self.field}: {self.problem}; {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def check_row(
    row: Row,
    root: str | Path = ".",
    *,
    file: str = "",
    number: int = 0,
    tolerance: float = TOLERANCE,
    image: Callable[[Picture, str | Path], MedicalImage] = open_image,
) -> Iterator[Finding]:
    """Yield what is wrong with a row.

    Parameters
    ----------
    row : Row
    root : path
        The folder at which relative paths start.
    file, number : str, int
        Where the row stands, for the findings.
    tolerance : float
        See `TOLERANCE`; a unit of the row's coordinates where that is more.
    image : callable
        Opens the picture; one that remembers the last picture saves reading it again for the next row.

    Examples
    --------
    >>> row = Row(id="7", question="Where is the left kidney?", image=Picture(path="none.png"), box=(9, 9, 5, 20),
    ...           image_size=(64, 48), category="kidney left")
    >>> for found in check_row(row):
    ...     print(found)
    row 0 (7): question: names its target with 'kidney'; ask without the name
    row 0 (7): image: none.png doesn't exist; check the path
    row 0 (7): box: has no area, or its corners are swapped; write x1 < x2 and y1 < y2
    row 0 (7): points: there are none, so no answer earns full marks; add medground.masks.key_points of the mask
    """

    def finding(field: str, kind: str, problem: str, remedy: str, *, note: bool = False) -> Finding:
        return Finding(file, number, row.id, field, kind, problem, remedy, note)

    yield from _question(row, finding)
    picture, mask = None, None
    try:
        picture = image(row.image, root)
    except TruthError as error:
        yield _told(finding, "image", "image", error)
    if picture is not None and picture.size != row.image_size:
        yield finding(
            "image_size",
            "image size",
            f"says {_by(row.image_size)}, and the picture is {_by(picture.size)}",
            "write the picture's own size, and the box and points on it",
        )
    size = row.image_size if picture is None else picture.size
    if row.mask is not None:
        try:
            mask = open_mask(row.mask, root, size=size)
        except TruthError as error:
            yield _told(finding, "mask", "mask", error)
        else:
            if not mask.any():
                yield finding("mask", "mask", "is empty", "restore it, or mark the target absent")
                mask = None
    wrong = [*_place(row, mask, tolerance, finding)]
    yield from wrong
    if row.absent:
        yield from _absent(row, root, finding)
    if any(not each.note for each in wrong):
        return  # what the words and the answer are held against isn't known
    said = [*_words(row, mask, picture, finding)]
    yield from said
    yield from _gold(row, {each.kind for each in said if not each.note}, finding)


Make = Callable[..., Finding]


def _told(finding: Make, field: str, kind: str, error: TruthError) -> Finding:
    problem, _, remedy = str(error).rpartition("; ")
    return finding(field, kind, problem or remedy, remedy if problem else "mend or drop the row")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _question(row: Row, finding: Make) -> Iterator[Finding]:
    if not row.category:
        yield finding(
            "category", "category", "is empty, so a leak can't be told", "name what the question is about", note=True
        )
        return
    try:
        word = leaks(row.question, target_of(row.category))
    except ConfigError:
        word = first_term(row.question, (row.category,))
        yield finding(
            "category",
            "category",
            f"{row.category!r} isn't in the taxonomy, so a leak is told by that name alone",
            "add it to an entity of medground/taxonomy/targets to check its synonyms too",
            note=True,
        )
    if word:
        yield finding("question", "leak", f"names its target with {word!r}", "ask without the name")


def _place(row: Row, mask: Mask | None, tolerance: float, finding: Make) -> Iterator[Finding]:
    """Check the box and the points against the picture's edges and the mask."""
    if row.box is None:
        return
    space = space_named(row.coordinates, *row.image_size)
    x1, y1, x2, y2 = row.box
    edges = f"{space.width:g} x {space.height:g} in {space.name} coordinates"
    box = None
    if not (x1 < x2 and y1 < y2):
        yield finding("box", "box", "has no area, or its corners are swapped", "write x1 < x2 and y1 < y2")
    elif not (x1 >= 0 and y1 >= 0 and x2 <= space.width and y2 <= space.height):
        yield finding(
            "box",
            "box",
            f"{_listed(row.box)} reaches outside the picture, {edges}",
            "mend the box, image_size or coordinates",
        )
    else:
        box = Box(x1, y1, x2, y2, space)
    if not row.points:
        yield finding(
            "points",
            "no points",
            "there are none, so no answer earns full marks",
            "add medground.masks.key_points of the mask",
            note=True,
        )
    for index, (x, y) in enumerate(row.points):
        point = Point(x, y, space)
        if not (0 <= x <= space.width and 0 <= y <= space.height):
            problem = f"{_listed((x, y))} lies outside the picture, {edges}"
            yield finding(f"points.{index}", "points", problem, "mend the point, image_size or coordinates")
        elif mask is not None and not _on(point, mask):
            problem = f"{_listed((x, y))} lies off the mask"
            yield finding(f"points.{index}", "points", problem, "take medground.masks.key_points of the mask")
        elif mask is None and box is not None and not box.contains(point):
            problem = f"{_listed((x, y))} lies outside the box {_listed(row.box)}"
            yield finding(f"points.{index}", "points", problem, "mend the point or the box")
    if mask is not None and box is not None:
        yield from _around(box, mask, tolerance, finding)


def _around(box: Box, mask: Mask, tolerance: float, finding: Make) -> Iterator[Finding]:
    """Check that a box is that of the mask, or of its largest part."""
    height, width = mask.shape
    here = box.to(Space.pixels(width, height))
    unit = 10.0 ** -decimals(box.space)  # what a number is rounded to
    slack = max(tolerance, tolerance * unit * width / box.space.width, tolerance * unit * height / box.space.height)

    def fits(other: Box) -> bool:
        return all(abs(a - b) <= slack for a, b in zip(here.xyxy, other.xyxy, strict=True))

    whole = box_of(mask)
    if fits(whole):
        return
    if fits(box_of(largest_component(mask))):
        yield finding(
            "mask",
            "parts",
            "has parts outside the box, which is that of its largest part",
            "leave the largest part alone in the mask, if the question is about it",
            note=True,
        )
        return
    yield finding(
        "box",
        "box off mask",
        f"is {_listed(here.xyxy)} in the mask's pixels, and the mask's own is {_listed(whole.xyxy)}",
        "take medground.masks.box_of the mask, or mend the mask",
    )


def _on(point: Point, mask: Mask) -> bool:
    """Whether a point is on the mask, or was before it was rounded to whole numbers."""
    height, width = mask.shape
    unit = 10.0 ** -decimals(point.space) / 2
    across, down = unit * width / point.space.width, unit * height / point.space.height
    x, y = point.to(Space.pixels(width, height)).xy
    columns = slice(max(int(x - across), 0), min(int(x + across), width - 1) + 1)
    rows = slice(max(int(y - down), 0), min(int(y + down), height - 1) + 1)
    return bool(mask[min(rows.start, height - 1) : rows.stop, min(columns.start, width - 1) : columns.stop].any())


def _listed(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _absent(row: Row, root: str | Path, finding: Make) -> Iterator[Finding]:
    """Check that an absent target has nothing that a present one has; reading drops its mask, but keeps the file's."""
    if row.facts:
        problem = "says what is true of a target that is absent"
        yield finding("facts", "absent", problem, "leave the facts out, or give the target's box")
    masks = (row.other.get("kept") or {}).get("masks") or {}
    for each in pictures_of(masks.get("file"), "masks"):
        try:
            drawn = open_mask(each, root)
        except TruthError as error:
            yield _told(finding, "mask", "mask", error)
            continue
        if drawn.any():
            yield finding(
                "mask",
                "absent",
                "shows a target, and the answer says that it is absent",
                "leave the mask out, or give the target's box",
            )


def _words(row: Row, mask: Mask | None, picture: MedicalImage | None, finding: Make) -> Iterator[Finding]:
    """Check the facts against the pixels, and what the reasoning claims against either."""
    if row.box is None:
        return
    known = measured = None
    if row.facts is not None:
        try:
            known = Facts.read(row.facts)
        except TruthError as error:
            yield _told(finding, "facts", "facts", error)
            return
    if mask is not None and picture is not None and mask.shape == picture.rgb.shape[:2]:
        measured = Facts.measure(mask, np.asarray(Image.fromarray(picture.rgb).convert("L")))
    if known is not None and measured is not None:
        yield from _compared(known, measured, finding)
    facts = measured or known or Facts.of_box(Box(*row.box, space_named(row.coordinates, *row.image_size)))
    false = [claim for claim in claims(row.reasoning) if holds(claim, facts) is False]
    if false:
        told = ", ".join(f"{claim.facet} {claim.value!r} (at {claim.start})" for claim in false)
        true = "; ".join(f"{name}: {', '.join(facts.to_dict()[name])}" for name in _facets(false))
        yield finding("reasoning", "claim", f"claims {told}, and true is {true}", "mend the sentence or drop the row")


def _facets(found: list[Any]) -> list[str]:
    return list(dict.fromkeys(claim.facet for claim in found))


def _compared(known: Facts, measured: Facts, finding: Make) -> Iterator[Finding]:
    for facet, words in known.to_dict().items():
        seen = measured.accepted.get(facet)
        beyond = [word for word in words if seen is not None and word not in seen]
        if beyond and seen is not None:
            told = f"{', '.join(repr(word) for word in beyond)} isn't true of the mask: {', '.join(sorted(seen))} is"
            # Some words right and some wrong may come of another resolution; none right is another target.
            yield finding(
                f"facts.{facet}",
                "facts",
                told,
                "measure the facts again: medground.rewards.Facts.measure",
                note=len(beyond) < len(words),
            )


def _gold(row: Row, wrong: set[str], finding: Make) -> Iterator[Finding]:
    """Check that the row's own answer earns full marks; what other findings explain isn't told again."""
    if wrong & {"facts"} or not (row.absent or row.points):
        return
    try:
        truth = row.truth() if row.reasoning else replace(row.truth(), mode="direct")
    except TruthError as error:
        yield _told(finding, "ground_truth", "gold", error)
        return
    earned = score(gold(truth, row.reasoning), truth)
    explained = {"score", *(("honesty", "evidence") if "claim" in wrong else ())}
    short = {name: worth for name, worth in earned.items() if name not in explained and worth < 1 - 1e-9}
    if short:
        told = ", ".join(f"{name} {worth:.2f}" for name, worth in short.items())
        remedy = "say in the reasoning what the facts know of the target" if "evidence" in short else "mend the row"
        yield finding("reasoning", "gold", f"the row's own answer doesn't earn full marks ({told})", remedy)

"""A row seen anew: another view of its picture, with the box, the points and the claims measured again."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medground import taxonomy
from medground.coords import Space, convert, space_named
from medground.data.attributes import Attributes, measure
from medground.data.grammar import by_grammar
from medground.data.questions import FACETS, reason
from medground.data.rows import Row
from medground.data.traces import present_trace
from medground.errors import ConfigError
from medground.images import MedicalImage
from medground.masks import box_of, key_points, largest_component
from medground.rewards.evidence import Facts, claims, holds
from medground.train.augment import View, choose_view, show, show_mask
from medground.types import Mask

__all__ = ["Trace", "by_name", "drop_words", "keeps_its_side", "plain_trace", "stays_true", "vary"]

Trace = Callable[[Row, random.Random, Attributes | None], str]
"""Writes a row's reasoning, of what is measured."""

LEAST_IN_SIGHT = 0.6
"""Share of the target that a view must keep; with less of it, the question would be about a rest."""

MEASURED_SIDE = 512
"""The longer side, in pixels, at which a view's mask is measured."""

NAMED = (
    "Where is the {name}?",
    "Find the {name}.",
    "Show me the {name}.",
    "Point to the {name}.",
    "Where do you see the {name}?",
    "Which region is the {name}?",
)
"""Questions that name their target."""

_TRIES = 20
_LEAST_WORDS = 3
_PATIENT_SIDE = re.compile(r"on the patient's (left|right) side")
_SIDED = re.compile(r"\b(left|right|upper|lower|above|below|top|bottom)\b", re.IGNORECASE)
_MIRRORED = {"left of": "right of", "right of": "left of"}


def drop_words(question: str, share: float, rng: random.Random) -> str:
    """Return a question less some of its words; those that tell sides apart stay, and so do at least three.

    Examples
    --------
    >>> drop_words("Where is the gland beside the left kidney?", 0.5, random.Random(1))
    'is the left kidney?'
    """
    words = question.split()
    kept = [word for word in words if _SIDED.search(word) or rng.random() >= share]
    return " ".join(kept) if len(kept) >= _LEAST_WORDS else question


def by_name(row: Row, rng: random.Random) -> str:
    """Return a question that asks for a row's target by its name, as the data set's own questions never do.

    Which one of a pair is meant is told as the row tells it. A category that isn't in the taxonomy is its own name.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> side = {"side": "on the patient's left side"}
    >>> row = Row(id="1", question="Where is urine made?", image=Picture(path="a.png"), image_size=(8, 8),
    ...           category="kidney left", box=(1, 1, 4, 4), other={"attributes": side})
    >>> by_name(row, random.Random(2)), by_name(row, random.Random(3))
    ("Where is the kidney on the patient's left side?", 'Where do you see the left kidney?')
    """
    side = (row.other.get("attributes") or {}).get("side") or ""
    try:
        name = taxonomy.target_of(row.category).name
    except ConfigError:  # another project's category
        name = row.category
    patient = _PATIENT_SIDE.fullmatch(side)
    if patient and rng.random() < 0.5:
        name, side = f"{patient[1]} {name}", ""
    return rng.choice(NAMED).format(name=f"{name} {side}".strip())


def plain_trace(row: Row, rng: random.Random, seen: Attributes | None = None, *, omit: float = 0.0) -> str:
    """Return a row's reasoning in the fewest words: what is meant, and what was measured of it.

    A small model learns these two sentences in minutes, and the grammar's hundreds of wordings in hours.

    Parameters
    ----------
    row : Row
        Of the offline grammar; another's own reasoning is returned as it is.
    rng : random.Random
    seen : Attributes, optional
        What is measured of the target; the row's own where None.
    omit : float
        Leave out place, size, shape and brightness with this chance each. What a trace claims is then a choice, which
        rewards can teach: a model that has only met full accounts claims all four, sure of them or not.
    """
    attributes = row.other.get("attributes") or {}
    if not by_grammar(row.other, "asked_by") or not (row.absent or attributes):
        return row.reasoning
    target = taxonomy.target_of(row.category)
    if row.absent:
        return f"{target.fact} It is nowhere in this picture."
    if seen is None:
        seen = Attributes(*(attributes[name] for name in ("zone", "size", "brightness", "shape")))
    left_out = frozenset(name for name in FACETS if rng.random() < omit) if omit else None
    return reason(rng, target, seen, side=attributes.get("side"), omit=left_out)


def vary(
    row: Row,
    image: MedicalImage,
    mask: Mask | None,
    rng: random.Random,
    *,
    most: int = 1280,
    trace: Trace | None = None,
) -> tuple[Row, MedicalImage]:
    """Return a row and its picture under a view drawn at random.

    The reasoning of rows that the offline grammar wrote is written again from what is measured of the view. Any other
    stays, unless a claim of it (or of the question) would become false: then brightness and contrast alone change.
    Where a side is spoken of, the picture is neither mirrored nor turned.

    Parameters
    ----------
    row : Row
    image : MedicalImage
        The row's picture.
    mask : bool array, shape (height, width), or None
        The target; without one (or where it is absent) the view shows the picture as it lies.
    rng : random.Random
        The only source of chance.
    most : int
        The longer side of the new picture, in pixels, is at most this.
    trace : callable, optional
        Writes the reasoning in place of the grammar, such as `plain_trace`: takes a row, `rng`, and what is measured of
        the view (None: what the row says).
    """
    if trace:
        row = row.model_copy(update={"reasoning": trace(row, rng, None)})
    picture = Image.fromarray(image.rgb)
    if mask is not None and row.box is not None:
        for _ in range(_TRIES):
            view = choose_view(rng, row.source, _unit_box(row))
            if (view.mirrored or view.turns) and keeps_its_side(row):
                continue
            if (found := _under(row, picture, mask, view, rng, most, trace)) is not None:
                return found
    view = View(gain=rng.uniform(0.75, 1.25), offset=rng.uniform(-25, 25))
    shown = MedicalImage.from_array(show(picture, view, picture.size), file_name=image.provenance.file_name)
    if mask is not None and not stays_true(row, _facts(image.rgb, mask), _facts(shown.rgb, mask)):
        return row, image
    return row, shown


def _unit_box(row: Row) -> tuple[float, ...]:
    return convert(row.box or (0, 0, 1, 1), space_named(row.coordinates, *row.image_size), Space.unit())


def keeps_its_side(row: Row) -> bool:
    """Whether a row's question or target is about one side, so that turning or mirroring would make it wrong."""
    attributes = row.other.get("attributes") or {}
    try:
        named = taxonomy.side_of(row.category) is not None
    except ConfigError:  # another project's category
        named = _SIDED.search(row.category) is not None
    return bool(named or attributes.get("side") or _SIDED.search(row.question))


def _facts(pixels: npt.NDArray[np.uint8], mask: Mask) -> Facts:
    return Facts.measure(mask, np.asarray(Image.fromarray(pixels).convert("L")))


def _under(
    row: Row, picture: Image.Image, mask: Mask, view: View, rng: random.Random, most: int, trace: Trace | None
) -> tuple[Row, MedicalImage] | None:
    """Return what a view makes of a row, or None where the target is out of sight or the text would be wrong."""
    size = _size_of(view, picture.size, most)
    seen = show_mask(mask, view, _within(size, MEASURED_SIDE))
    whole = mask.mean() / ((view.crop[2] - view.crop[0]) * (view.crop[3] - view.crop[1]))
    if not seen.any() or seen.mean() < LEAST_IN_SIGHT * whole:
        return None
    if not _is_whole(row, mask):  # the answer is one part of it
        seen = largest_component(seen)
    pixels = show(picture, view, size)
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize(seen.shape[::-1]))
    facts = Facts.measure(seen, grey)
    reasoning = row.reasoning and _reasoning(row, view, seen, grey, facts, rng, trace)
    before = _facts(np.asarray(picture), mask)
    new = row.model_copy(update={"reasoning": reasoning})
    if reasoning is None or not stays_true(new, before, facts):
        return None
    box, points, space = box_of(seen), key_points(seen), Space.pixels(*size)
    moved = {
        "box": box.to(space).xyxy,
        "points": tuple(point.to(space).xy for point in points),
        "image_size": size,
        "coordinates": "pixels",
        "facts": facts.to_dict(),
        "mask": None,
    }
    name = row.image.path or "picture"
    return new.model_copy(update=moved), MedicalImage.from_array(pixels, file_name=name)


def _is_whole(row: Row, mask: Mask) -> bool:
    """Whether the row's box is around all of its mask."""
    own = convert(row.box or (), space_named(row.coordinates, *row.image_size), Space.pixels(*mask.shape[::-1]))
    return all(abs(one - other) <= 1.5 for one, other in zip(own, box_of(mask).xyxy, strict=True))


def _size_of(view: View, size: tuple[int, int], most: int) -> tuple[int, int]:
    width, height = size[::-1] if view.turns % 2 else size
    left, top, right, bottom = view.crop
    return _within((max(16, round(width * (right - left))), max(16, round(height * (bottom - top)))), most)


def _within(size: tuple[int, int], most: int) -> tuple[int, int]:
    shrink = min(1.0, most / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))


def stays_true(row: Row, before: Facts, now: Facts) -> bool:
    """Whether no claim of a row's question or reasoning that was true, or that couldn't be told, is false now."""
    said = (*claims(row.question), *claims(row.reasoning))
    return not any(holds(claim, now) is False and holds(claim, before) is not False for claim in said)


def _reasoning(
    row: Row,
    view: View,
    mask: Mask,
    grey: npt.NDArray[np.uint8],
    facts: Facts,
    rng: random.Random,
    trace: Trace | None,
) -> str | None:
    """Return the reasoning about a view: written again where the grammar wrote it, else as it stands."""
    if trace:
        return trace(row, rng, measure(mask, grey))
    attributes = row.other.get("attributes")
    if not attributes or not by_grammar(row.other, "asked_by"):
        return row.reasoning
    seen = measure(mask, grey)
    told = {"zone": seen.zone, "size": seen.size, "brightness": seen.brightness, "shape": seen.shape}
    request: dict[str, Any] = {
        "id": row.id,
        "category": row.category,
        "modality": row.modality,
        "looks_in": row.modality,
        "style": row.style,
        "side": attributes.get("side"),
        "facts": facts.to_dict(),
        "attributes": {**attributes, **told, **_relations(attributes, view)},
    }
    try:
        return present_trace(request, "", rng)
    except ConfigError:  # no wording of the grammar is wholly true of this view; another one is drawn
        return None


def _relations(attributes: dict[str, Any], view: View) -> dict[str, Any]:
    """Return where a target's partner and neighbours lie in a view; nothing is said of them where it is turned."""
    partner, neighbours = attributes.get("partner"), attributes.get("neighbours") or []
    if view.turns:
        return {"partner": None, "neighbours": []}
    if not view.mirrored:
        return {"partner": partner, "neighbours": neighbours}

    def mirrored(each: dict[str, Any]) -> dict[str, Any]:
        return {**each, "relation": _MIRRORED.get(each["relation"], each["relation"])}

    return {"partner": partner and mirrored(partner), "neighbours": [mirrored(each) for each in neighbours]}

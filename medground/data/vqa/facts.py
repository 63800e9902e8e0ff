"""What is true of a target, or of two of them: an aspect, its value, and the measurement that shows it.

A value is told where the measurement is clear: what lies near the border between two values has none, so that
nobody is asked to tell 1.02 % from 1 %.
"""

from __future__ import annotations

from collections.abc import Iterator

from medground.data.attributes import CONTRAST, ELONGATED, LARGE, ROUND, SMALL, TINY
from medground.data.describe import BLURRED, SHARP
from medground.data.vqa.scene import Scene, Thing

__all__ = ["BOTH", "COVERS", "Fact", "comparisons", "cup_to_disc", "facts", "percent"]

Fact = tuple[str, str]
"""A value, and the sentence that says what was measured."""

COVERS = (0.5, 1, 2, 5, 10, 15, 20, 30, 40, 50)
"""Percents of the picture's area above which a target may be asked to be."""

BOTH = "both alike"
"""The value of a comparison that neither of two wins."""

_MIDDLE = 0.03  # of a side: as close as that to the middle is neither left nor right
_THIRD = 0.02
_CLEAR = 1.15  # a ratio of two lengths or areas that is seen without measuring
_RATIOS = (0.4, 0.5, 0.6, 0.7)


def percent(share: float) -> str:
    """Return a share of one in percent, with two digits where it is small.

    Examples
    --------
    >>> percent(0.0123), percent(0.3456)
    ('1.2 %', '35 %')
    """
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def facts(thing: Thing, scene: Scene) -> dict[str, Fact]:
    """Return the aspects of a target that are clear, each with its value and what was measured.

    Aspects: ``place`` (nine fields), ``across`` and ``down`` (halves), ``size`` (four classes), ``over 5`` and so on
    (more or less than 5 % of the picture), ``bright``, ``shape``, ``look`` (shape and brightness), ``edge``, ``lie``
    (wider or higher), ``border`` (whether it reaches an edge of the picture).

    Examples
    --------
    >>> seen = {"x": 0.2, "y": 0.8, "share": 0.02, "contrast": 40.0, "axis_ratio": 0.9, "steepness": 3.0,
    ...         "extent": [30, 31], "zone": "lower left"}
    >>> polyp = Thing("colon polyp", "colon polyp", (5, 65, 35, 96), seen)
    >>> scene = Scene("a.png", 100, 100, "endoscopy", "", "", "", "", (polyp,), frozenset(), frozenset(), "")
    >>> found = facts(polyp, scene)
    >>> found["place"][0], found["bright"][0], found["edge"], "lie" in found
    ('lower left', 'brighter', ('sharp', 'The grey levels change abruptly along the outline.'), False)
    """
    said = dict(_places(thing, scene))
    said |= dict(_sizes(thing))
    said |= dict(_looks(thing))
    return said


def _places(thing: Thing, scene: Scene) -> Iterator[tuple[str, Fact]]:
    x, y = thing.seen["x"], thing.seen["y"]
    centre = f"The centre is at {percent(x)} of the width and {percent(y)} of the height."
    if all(abs(value - third) >= _THIRD for value in (x, y) for third in (1 / 3, 2 / 3)):
        yield "place", (thing.seen["zone"], centre)
    if abs(x - 0.5) >= _MIDDLE:
        yield "across", ("left half" if x < 0.5 else "right half", f"The centre is at {percent(x)} of the width.")
    if abs(y - 0.5) >= _MIDDLE:
        yield "down", ("upper half" if y < 0.5 else "lower half", f"The centre is at {percent(y)} of the height.")
    x1, y1, x2, y2 = thing.box
    rooms = {
        "left": x1 / scene.width,
        "upper": y1 / scene.height,
        "right": (scene.width - x2) / scene.width,
        "lower": (scene.height - y2) / scene.height,
    }
    nearest = min(rooms, key=lambda side: rooms[side])
    if min(x1, y1, scene.width - x2, scene.height - y2) <= 0:
        yield "border", ("reached", f"The outline meets the {nearest} edge of the image.")
    elif rooms[nearest] >= _MIDDLE:
        room = f"The nearest edge of the image, the {nearest} one, is {percent(rooms[nearest])} of the side away."
        yield "border", ("clear", room)


def _sizes(thing: Thing) -> Iterator[tuple[str, Fact]]:
    share = thing.seen["share"]
    said = f"The area is {percent(share)} of the image."
    if all(not 1 / _CLEAR < share / bound < _CLEAR for bound in (TINY, SMALL, LARGE)):
        names = ("less than 1 %", "1 to 4 %", "4 to 15 %", "more than 15 %")
        yield "size", (names[sum(share > bound for bound in (TINY, SMALL, LARGE))], said)
    for bound in COVERS:
        if not 1 / _CLEAR < 100 * share / bound < _CLEAR:
            yield f"over {bound:g}", ("more" if 100 * share > bound else "less", said)
    width, height = thing.seen["extent"]
    if max(width, height) >= _CLEAR * min(width, height):
        value = "wider than high" if width > height else "higher than wide"
        yield "lie", (value, f"The box is {width} pixels wide and {height} high.")


def _looks(thing: Thing) -> Iterator[tuple[str, Fact]]:
    contrast, ratio, steepness = (thing.seen[name] for name in ("contrast", "axis_ratio", "steepness"))
    bright = shape = None
    if abs(contrast) >= 1.25 * CONTRAST:
        side, word = ("above", "brighter") if contrast > 0 else ("below", "darker")
        bright = word, f"The mean grey level is {abs(contrast):.0f} {side} that of the surroundings."
    elif abs(contrast) <= 0.75 * CONTRAST:
        bright = "about as bright", "The mean grey level is close to that of the surroundings."
    if ratio >= ROUND + 0.04 or ratio <= ELONGATED - 0.04 or ELONGATED + 0.04 <= ratio <= ROUND - 0.04:
        value = "round" if ratio > ROUND else "elongated" if ratio < ELONGATED else "oval"
        shape = value, f"The short axis is {percent(ratio)} of the long one."
    if bright:
        yield "bright", bright
    if shape:
        yield "shape", shape
    if bright and shape:
        yield "look", (f"{shape[0]} and {bright[0]}", f"{shape[1]} {bright[1]}")
    if steepness >= 1.1 * SHARP:
        yield "edge", ("sharp", "The grey levels change abruptly along the outline.")
    elif steepness <= 0.95 * BLURRED:
        yield "edge", ("blurred", "The grey levels fade gradually across the outline.")


def comparisons(one: Thing, other: Thing, scene: Scene) -> dict[str, Fact]:
    """Return which of two targets has more of something, by the aspect: the name of one, or `BOTH`.

    Aspects: ``area``, ``taller``, ``wider``, ``higher`` (whose upper end is), ``lower`` (whose lower end is) and
    ``left`` (whose centre is).
    """
    found: dict[str, Fact] = {}
    for aspect, what in (("area", "area"), ("taller", "height"), ("wider", "width")):
        a, b = (_measured(each, aspect) for each in (one, other))
        said = [f"{percent(value)} of the image" if aspect == "area" else f"{value:g} pixels" for value in (a, b)]
        sentence = f"The {what} is {said[0]} for the {one.name} and {said[1]} for the {other.name}."
        if max(a, b) >= _CLEAR * min(a, b):
            found[aspect] = (one.name if a > b else other.name), sentence
        elif max(a, b) <= 1.05 * min(a, b):
            found[aspect] = BOTH, sentence
    ends = {
        "higher": (one.box[1], other.box[1], scene.height, "The upper end is at row {} for the {} and {} for the {}."),
        "lower": (-one.box[3], -other.box[3], scene.height, "The lower end is at row {} for the {} and {} for the {}."),
        "left": (one.seen["x"], other.seen["x"], 1, "The centre is at {} of the width for the {} and {} for the {}."),
    }
    for aspect, (a, b, scale, sentence) in ends.items():
        if abs(a - b) >= _MIDDLE * scale:
            said = [percent(value) if aspect == "left" else str(abs(value)) for value in (a, b)]
            told = sentence.format(said[0], one.name, said[1], other.name)
            found[aspect] = (one.name if a < b else other.name), told
    return found


def _measured(thing: Thing, aspect: str) -> float:
    return float(thing.seen["share"] if aspect == "area" else thing.seen["extent"][aspect == "taller"])


def cup_to_disc(cup: Thing, disc: Thing) -> dict[str, Fact]:
    """Return whether the vertical cup-to-disc ratio is above 0.4, 0.5, 0.6 and 0.7, where that is clear."""
    ratio = cup.seen["extent"][1] / disc.seen["extent"][1]
    said = f"The cup is {percent(ratio)} as high as the disc."
    return {
        f"{bound:g}": ("above" if ratio > bound else "below", said) for bound in _RATIOS if abs(ratio - bound) >= 0.02
    }

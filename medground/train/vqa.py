"""Visual questions as trainers take them: asked, answered on a model's ruler, and seen anew with all their boxes."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from medground.answers import chosen
from medground.coords import Space
from medground.data.grammar import by_grammar
from medground.data.vqa.earlier import earlier_of
from medground.data.vqa_rows import Region, VqaRow
from medground.images import MedicalImage
from medground.parsing import written_box
from medground.prompts import Mode
from medground.prompts.vqa import Visual
from medground.reasoners import Request
from medground.rewards.thinkvg_reading import REGION, read_box
from medground.train.augment import View, show
from medground.types import Box

__all__ = ["in_another_order", "plain_thinking", "question_of", "seen_anew", "told_by", "written_for"]

FARTHEST = 1.35
"""How many times as far a picture is shown at most."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_BARE = re.compile(r"[A-Z](?:, [A-Z])*")
# A capital that stands alone may be a choice's letter; "A" at the start of a sentence is likelier an article.
_LETTER = re.compile(r"\b(?:[B-Z]\b(?!-)|A\b(?=\s?[,;:.)]))")
# "All of the above", "both A and C", "the former": choices that speak of others by their place.
_PLACED = re.compile(
    r"\b(?:above|below|former|latter|first|second|last|[A-Z] (?:and|or) [A-Z])\b|\b(?:all|none|neither|both) of\b", re.I
)

_OF_THE_FRAME = re.compile(
    r"%|\b(?:parts?|edges?|borders?|corners?|halves|half|thirds?|quadrants?|fields?|upper|lower|middle|top|bottom|"
    r"cent(?:re|er|ral)\w*|on the (?:left|right)|width|height|pixels?|cover\w*|shares?|sizes?|tiny|small|medium|large|"
    r"big|where)\b",
    re.I,
)
_OF_LIGHT = re.compile(
    r"\b(?:bright|dark|light|pale|dim|black|white|gr[ae]y|intens|dens|opa|lucen|contrast|echo|hyper|hypo|iso)\w*", re.I
)


def question_of(row: VqaRow, image: MedicalImage, mode: Mode) -> Request:
    """Return a row's question as reasoners take it."""
    return Request(image, row.question, mode, Visual(row.question_type, row.choices, earlier_of(row)))


def written_for(row: VqaRow, space: Space) -> VqaRow:
    """Return a row on the ruler of a model: its truth and its completion are then in the model's own numbers.

    Parameters
    ----------
    row : VqaRow
    space : Space
        Of the model's answer, such as pixels of the picture that it was shown.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = VqaRow(id="1", question="Is it pale?", question_type="closed", answer="Yes", image_size=(400, 200),
    ...              thinking="It is (region [40, 20, 80, 50]).", image=Picture(path="a.png"))
    >>> written_for(row, Space("resized pixels", 200, 100)).thinking
    'It is (region [20, 10, 40, 25]).'
    """
    order = "" if space.order == "xy" else " yx"
    if "pixels" not in space.name:
        return row.to(f"{space.name}{order}")
    # Pixels of whatever size the picture was shown in are those of a picture of that size.
    size = round(space.width), round(space.height)
    if row.image_size != size or row.coordinates.removesuffix(" yx") != "pixels":
        # Earlier regions, which are in pixels of the former size, have been asked about by now.
        row = row.to("0-1").model_copy(update={"image_size": size})
    return row.to(f"pixels{order}")


def told_by(row: VqaRow, mode: Mode) -> str:
    """Return the completion that is taught, on the row's own ruler; asked to answer directly, without the thinking."""
    return (row if mode == "reason" else row.model_copy(update={"thinking": ""})).completion()


def plain_thinking(row: VqaRow) -> VqaRow:
    """Return a row with the sentences of its thinking that name a region, or with the first where none does.

    What was measured of a region and what that makes of each choice is computing, which a small model learns far later
    than to look and answer. A thinking that the offline grammar didn't write stays as it is.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = VqaRow(id="1", question="Is it pale?", question_type="closed", answer="Yes", image_size=(400, 200),
    ...              thinking="I look at the heart (region [40, 20, 80, 50]). Its grey level is 9 above. Hence yes.",
    ...              image=Picture(path="a.png"), other={"thought_by": "grammar-v1"})
    >>> plain_thinking(row).thinking
    'I look at the heart (region [40, 20, 80, 50]).'
    """
    if not by_grammar(row.other, "thought_by"):
        return row
    sentences = _SENTENCE_END.split(row.thinking)
    kept = [each for each in sentences if REGION.search(each)] or sentences[:1]
    return row.model_copy(update={"thinking": " ".join(kept)})


def seen_anew(row: VqaRow, image: MedicalImage, rng: random.Random, *, most: int = 1280) -> tuple[VqaRow, MedicalImage]:
    """Return a row and its picture under a view drawn at random; the answer stays right.

    The picture is shown from farther away, moved, brighter or darker, and all regions (earlier ones too) and mentions
    move with it. Nothing is cut off, because a question may be about what no box tells; nothing is mirrored or turned,
    because sides would be wrong, and no shape is changed. Where a word could tell a place in the picture or a size, it
    stays as it lies, and where one could tell a brightness, as it is: such words are taken at their sight, also where
    they mean something else. Choices are shown in another order, unless something speaks of them by their letters or
    their places.

    Parameters
    ----------
    row : VqaRow
    image : MedicalImage
        The row's picture.
    rng : random.Random
        The only source of chance.
    most : int
        The longer side of the new picture, in pixels, is at most this.

    Returns
    -------
    tuple of VqaRow and MedicalImage
        The row on the ruler ``0-1``, of the new picture, rounded as completions are; or on its own where it stays as
        it lies.
    """
    row = in_another_order(row, rng)
    words = " ".join((row.question, row.answer, row.reason, REGION.sub("", row.thinking), *row.choices))
    if _OF_LIGHT.search(words):
        return row, image
    view, size = View(gain=rng.uniform(0.75, 1.25), offset=rng.uniform(-25, 25)), image.size
    if not _OF_THE_FRAME.search(words):
        view = replace(view, crop=_window(rng))
        left, top, right, bottom = view.crop
        size = _within((round(image.width * (right - left)), round(image.height * (bottom - top))), most)
        row = _moved(row, view, size)
    shown = show(Image.fromarray(image.rgb), view, size)
    return row, MedicalImage.from_array(shown, file_name=image.provenance.file_name)


def in_another_order(row: VqaRow, rng: random.Random) -> VqaRow:
    """Return a row with its choices in an order drawn at random, and the answer's letters changed with them.

    So are letters in its texts where the choice's own words follow ("That makes it B, liver"); where a letter stands
    otherwise, or a choice speaks of others by their places, the order stays.

    Examples
    --------
    >>> from medground.data.rows import Picture
    >>> row = VqaRow(id="1", question="Which is it?", question_type="single_choice", choices=("heart", "liver"),
    ...              answer="B", image=Picture(path="a.png"), image_size=(8, 8))
    >>> new = in_another_order(row, random.Random(1))
    >>> new.choices, new.answer
    (('liver', 'heart'), 'A')
    """
    offered = row.offered or {}
    letters = chosen(row.answer, offered) if offered else None
    if letters is None or not _BARE.fullmatch(row.answer) or any(map(_PLACED.search, row.choices)):
        return row
    order = list(offered)
    rng.shuffle(order)
    new = {old: chr(ord("A") + place) for place, old in enumerate(order)}
    texts = [_relettered(text, offered, new) for text in (row.question, row.thinking, row.reason)]
    if None in texts:
        return row
    changes = dict(zip(("question", "thinking", "reason"), texts, strict=True))
    answer = ", ".join(sorted(new[letter] for letter in letters))
    return row.model_copy(update={**changes, "choices": tuple(offered[old] for old in order), "answer": answer})


def _relettered(text: str, offered: Mapping[str, str], new: Mapping[str, str]) -> str | None:
    """Return a text with a choice's letter changed where its own words follow; None where a letter stands otherwise."""
    said = "|".join(rf"{letter}(?=[,:] {re.escape(words)})" for letter, words in offered.items())
    own = re.compile(rf"\b(?:{said})")
    if _LETTER.search(own.sub("", text)):
        return None
    return own.sub(lambda found: new[found[0]], text)


def _window(rng: random.Random) -> tuple[float, float, float, float]:
    """Return a window that holds the whole picture, as shares of it: left, top, right, bottom."""
    side = rng.uniform(1.0, FARTHEST)
    left, top = rng.uniform(1 - side, 0.0), rng.uniform(1 - side, 0.0)
    return left, top, left + side, top + side


def _moved(row: VqaRow, view: View, size: tuple[int, int]) -> VqaRow:
    """Return a row on the ruler 0-1 of a view: a region and its mention have the same numbers, rounded once."""
    earlier = [(name, box.to(Space.unit())) for name, box in earlier_of(row)]
    row = row.to("0-1")
    unit, pixels = Space.unit(), Space.pixels(*size)
    left, top, right, bottom = view.crop

    def moved(box: Box) -> Box:
        across, down = right - left, bottom - top
        x1, y1, x2, y2 = box.xyxy
        there = Box((x1 - left) / across, (y1 - top) / down, (x2 - left) / across, (y2 - top) / down, unit)
        return written_box(there, unit)

    def mention(found: re.Match[str]) -> str:
        box = read_box([float(number) for number in found[1].split(",")], unit)
        if box is None:
            return found[0]
        near = written_box(box, unit).xyxy
        return f"[{', '.join(f'{value:.12g}' for value in regions.get(near, moved(box)).xyxy)}]"

    own = [Box(*region.box, unit) for region in row.regions]
    regions = {written_box(box, unit).xyxy: moved(box) for box in own}
    changes: dict[str, Any] = {
        "regions": tuple(
            Region(ref=region.ref, box=moved(box).xyxy) for region, box in zip(row.regions, own, strict=True)
        ),
        "thinking": REGION.sub(mention, row.thinking),
        "image_size": size,
    }
    if earlier:
        told = [{"ref": name, "box": list(moved(box).to(pixels).xyxy)} for name, box in earlier]
        changes["other"] = {**row.other, "earlier": told}
    return row.model_copy(update=changes)


def _within(size: tuple[int, int], most: int) -> tuple[int, int]:
    shrink = min(1.0, most / max(size))
    return max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink))

"""Cases of a report as HTML: the picture with truth and answer over it, the question, the reasoning with its claims."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from medground.data.pixels import open_image
from medground.data.rows import Picture
from medground.drawing import MASK
from medground.errors import TruthError
from medground.evaluate.cases import FATES, TAGS, Case, choose, pieces
from medground.evaluate.markup import Part
from medground.evaluate.planning import given_rows
from medground.evaluate.predictions import Answered, Prediction
from medground.evaluate.roles import Shown
from medground.masks import decode_rle
from medground.rewards.evidence import Facts
from medground.types import Box, Grounding, Mask, Point

__all__ = ["Pictures", "Where", "card", "embedded", "rectangle", "section"]

LONGEST = 448
"""Pixels of the longer side of an embedded picture, at most."""

_QUALITY = 80
_TRUE = (255, 255, 255)
_SHOWN = {"box_iou": "box IoU", "dice": "Dice", "pdice": "pDice", "pointing": "points on target"}


@dataclass(frozen=True, slots=True)
class Where:
    """Where the pictures of cases are, and which of them may be shown; see `medground.evaluate.report.build_report`."""

    data: Path | None = None
    root: Path | None = None
    pictures: bool = True
    sources: Collection[str] | None = None


class Pictures:
    """The pictures of a data set, as JPEG of bounded size.

    Parameters
    ----------
    where : Where
    ids : collection of str
        The rows that are going to be shown.
    """

    def __init__(self, where: Where, ids: Collection[str]) -> None:
        self.sources, self._root = where.sources, where.root
        self._rows: dict[str, tuple[Picture, Path]] = {}
        if where.data is not None:
            found = given_rows(where.data, where.root)
            self._rows = {row.id: (row.image, home) for row, home in found if row.id in ids}

    def jpeg(self, prediction: Answered) -> bytes:
        """Return a row's picture.

        Raises
        ------
        TruthError
            When it can't be shown; says why.
        """
        source = str(prediction.about.get("source", ""))
        if self.sources is not None and source not in self.sources:
            raise TruthError(f"pictures of {source or 'an unknown source'} aren't shown here")
        picture, home = self._rows.get(prediction.id, (None, self._root))
        if picture is None:
            if prediction.image is None or home is None:
                raise TruthError("its file isn't known; give the data (--data) or its root (--root)")
            picture = Picture(path=prediction.image)
        name = Path(picture.path or prediction.id).name  # a page that is handed on names no folder of this machine
        try:
            image = open_image(picture, home or ".")
        except TruthError as error:
            raise TruthError(f"{name} can't be read; give the data (--data) or its root (--root)") from error
        if image.size != prediction.image_size:
            raise TruthError(f"{name} isn't of the size that was asked about; give the run's own data")
        small = Image.fromarray(image.rgb)
        small.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=_QUALITY, optimize=True)
        return stream.getvalue()


def card(case: Case, model: str, pictures: Pictures | None) -> str:
    """Return a case as HTML.

    Parameters
    ----------
    case : Case
    model : str
        Whose answer it is.
    pictures : Pictures or None
        Without, truth and answer are drawn on an empty ground.
    """
    one, about = case.prediction, case.prediction.about
    said, true = one.answer, one.right
    kinds = {name: str(about.get(name) or "unknown") for name in ("modality", "category", "source")}
    tags = "".join(f"<span class=tag>{TAGS[name]}</span>" for name in case.tags)
    bad = "" if case.fate == "right" else f'<span class="tag bad">{html.escape(FATES[case.fate])}</span>'
    values = "".join(
        f"<div><dt>{title}</dt><dd>{case.figures[name]:.2f}</dd></div>"
        for name, title in _SHOWN.items()
        if not math.isnan(case.figures.get(name, math.nan))
    )
    if true.absent:
        told = "rightly said to be absent" if case.fate == "right" else "isn't in the picture"
        values = f"<div><dt>target</dt><dd>{told}</dd></div>"
    attributes = {"model": model, "kind": " | ".join((*case.tags, case.fate)), **kinds}
    data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in attributes.items() if name != "source")
    where = " · ".join(html.escape(value) for value in (kinds["modality"], kinds["category"], kinds["source"]))
    return (
        f"<article class=case {data}>{_figure(one, said, pictures)}<div class=told>"
        f"<p class=tags>{tags}{bad}</p><p class=where>{where}</p>"
        f"<h3>{html.escape(one.question)}</h3><dl class=values>{values}</dl>"
        f"{_reasoning(one, said)}"
        f"<details><summary>Answer as written</summary><pre>{html.escape(one.completion or one.error or '')}</pre>"
        f"<p class=where>{html.escape(one.id)} · {html.escape(model)}</p></details></div></article>"
    )


def _reasoning(one: Prediction, said: Grounding | None) -> str:
    if one.error is not None:
        return f"<p class=why>{html.escape(one.error)}</p>"
    if said is None:
        return "<p class=why>No location could be read from this answer.</p>"
    if not said.reasoning:
        return "<p class=why>Answered without reasoning.</p>"
    # As figures are: without facts the place alone is checked, by the box.
    known = one.right.facts or (Facts.of_box(one.right.box) if one.right.box else None)
    told = []
    for each in pieces(said.reasoning, known):
        text = html.escape(each.text)
        if each.claim is None or each.holds is None:
            told.append(text)
            continue
        verdict = "true" if each.holds else "false"
        said_of = html.escape(f"{each.claim.facet}: {each.claim.value}")
        told.append(
            f'<mark class={verdict} title="{said_of}, {verdict}">{text}<span class=unseen> ({verdict})</span></mark>'
        )
    return f"<p class=reasoning>{''.join(told)}</p>"


def _figure(one: Prediction, said: Grounding | None, pictures: Pictures | None) -> str:
    width, height = one.image_size
    shown, note = "", ""
    if pictures is not None:
        try:
            shown = embedded("picture", pictures.jpeg(one), "jpeg", _alt(one, said))
            for name, rle, colour in (("truth", one.truth_mask, _TRUE), ("answer", _drawn(one), MASK)):
                if rle is not None:
                    shown += embedded(f"mask {name}", _overlay(decode_rle(rle), colour), "png", "")
        except TruthError as error:
            note = f"<figcaption>No picture: {html.escape(str(error))}</figcaption>"
    boxes, points = ((), ()) if said is None else (said.boxes, said.points)
    true = one.right
    scale = max(width, height) / 100
    shapes = [
        *(rectangle(box, "truth") for box in ((true.box,) if true.box else ())),
        *(_ring(point, "truth", scale) for point in true.points),
        *(rectangle(box, "answer") for box in boxes),
        *(_ring(point, "answer", scale) for point in points),
    ]
    label = "" if shown else f' role=img aria-label="{html.escape(_alt(one, said))}"'
    empty = "" if shown else " empty"
    return (
        f'<figure class="picture{empty}">{shown}'
        f'<svg class=shapes viewBox="0 0 {width} {height}"{label}>{"".join(shapes)}</svg>{note}</figure>'
    )


def embedded(kind: str, content: bytes, form: str, alt: str) -> str:
    """Return a picture of a class, with its bytes in it."""
    data = base64.b64encode(content).decode()
    return f'<img class="{kind}" alt="{html.escape(alt)}" src="data:image/{form};base64,{data}">'


def _drawn(one: Prediction) -> dict[str, Any] | None:
    there = [each for each in one.masks.values() if each is not None]
    return max(there, key=lambda each: each["score"])["rle"] if there else None


def _overlay(mask: Mask, colour: tuple[int, int, int]) -> bytes:
    """Return a mask as a small PNG: its inside tinted, its outline full, nothing elsewhere."""
    height, width = mask.shape
    ratio = min(1.0, LONGEST / max(height, width)) * (2 if max(height, width) <= LONGEST else 1)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    seen = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    inner = ndimage.minimum_filter(seen, size=3 if max(size) <= LONGEST else 5, mode="constant", cval=False)
    level = np.where(seen & ~inner, 2, seen).astype(np.uint8)
    picture = Image.fromarray(level, "P")
    picture.putpalette([*colour, *colour, *colour])
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=bytes((0, 60 if colour != _TRUE else 0, 255)), bits=2, optimize=True)
    return stream.getvalue()


def rectangle(box: Box, kind: str) -> str:
    """Return a box in the picture's pixels as SVG; `kind` is ``"truth"`` or ``"answer"``."""
    x, y = (f"{value:.4g}" for value in (box.x1, box.y1))
    place = f'x="{x}" y="{y}" width="{box.width:.4g}" height="{box.height:.4g}"'
    return f'<rect class=rim {place}/><rect class="box {kind}" {place}/>'


def _ring(point: Point, kind: str, scale: float) -> str:
    place = f'cx="{point.x:.4g}" cy="{point.y:.4g}"'
    return f'<circle class="point {kind}" {place} r="{scale * (1.6 if kind == "truth" else 1.1):.3g}"/>'


def _alt(one: Prediction, said: Grounding | None) -> str:
    def corners(boxes: Sequence[Box]) -> str:
        return ", ".join(f"x {box.x1:.0f} to {box.x2:.0f}, y {box.y1:.0f} to {box.y2:.0f}" for box in boxes)

    true = one.right.box
    answered = corners(said.boxes) if said is not None and said.boxes else "none"
    kind = str(one.about.get("modality") or "picture")
    return f"{kind}; true box {corners([true]) if true else 'none'}; answered box {answered}"


# -- the section ------------------------------------------------------------------------------------------------------

MOST_MODELS = 4
"""Models whose cases are shown, at most: a page with more is too heavy for a phone."""

_LAYERS = {"truth": "truth (dashed)", "answer": "answer (orange)", "masks": "masks"}


def section(shown: Shown, where: Where) -> Part:
    """Return the cases of the first models, with their filters."""
    models = shown.models[:MOST_MODELS]
    chosen = [(entry, case) for entry in models for case in choose(entry.scored)]
    pictures = Pictures(where, {case.prediction.id for _, case in chosen}) if where.pictures else None
    cards = "".join(card(case, entry.name, pictures) for entry, case in chosen)
    there = {name for _, case in chosen for name in (*case.tags, case.fate)}
    kinds = [(name, told) for name, told in {**TAGS, **FATES}.items() if name in there]
    selects = [
        _select("model", [(entry.name, entry.name) for entry in models]) if len(models) > 1 else "",
        _select("kind", kinds),
    ]
    for name in ("modality", "category"):
        values = sorted({str(case.prediction.about.get(name) or "unknown") for _, case in chosen})
        selects.append(_select(name, [(value, value) for value in values]))
    layers = "".join(
        f'<label><input type=checkbox data-layer="{name}" checked> {told}</label>'
        for name, told in _LAYERS.items()
        if pictures is not None or name != "masks"
    )
    content = (
        f"<p class=note>{_note(where, len(shown.models))}</p>"
        f"<form id=tools class=tools hidden aria-label='Which cases to show'>{''.join(selects)}"
        f"<fieldset><legend class=unseen>What is drawn</legend>{layers}</fieldset><output id=shown></output></form>"
        f"<div id=gallery class=cases>{cards}</div><p><button type=button id=more hidden>Show more</button></p>"
    )
    return Part("cases", "Cases", "Cases", content)


def _note(where: Where, models: int) -> str:
    told = [
        "Of each model the best and the worst answers, those about the median, of each category the one in its middle, "
        "and some of each way to fail: chosen by rule, not by hand. Claims in the reasoning are marked "
        "<mark class=true>true</mark> or <mark class=false>false</mark> by the target's pixels."
    ]
    if not where.pictures:
        told.append("The data set's pictures aren't shown here; truth and answer are drawn on an empty ground.")
    elif where.sources is not None:
        told.append(f"Only pictures of {html.escape(', '.join(sorted(where.sources)))} are shown.")
    if models > MOST_MODELS:
        told.append(f"Those of the first {MOST_MODELS} models are here.")
    return " ".join(told)


def _select(name: str, options: Sequence[tuple[str, str]]) -> str:
    told = "".join(f'<option value="{html.escape(value)}">{html.escape(said)}</option>' for value, said in options)
    return (
        f"<label>{name.capitalize()} <select name={name} autocomplete=off><option value=''>all</option>{told}</select>"
        "</label>"
    )

"""Cases of a report on visual questions: the picture with true and located regions, the question, what was answered."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping

from medground.errors import TruthError
from medground.evaluate.gallery import Pictures, Where, embedded, rectangle
from medground.evaluate.markup import Part
from medground.evaluate.vqa.predictions import VisualPrediction
from medground.evaluate.vqa.tables import TYPES, VisualEntry
from medground.vqa_metrics import RIGHT

__all__ = ["section"]

_FATES = {
    "right": "right",
    "right_elsewhere": "right answer, wrong regions",
    "wrong_there": "wrong answer, right regions",
    "wrong": "wrong",
    "unread": "can't be read",
}


def section(entry: VisualEntry, where: Where) -> Part:
    """Return cases of one model: of each type of question the first one, by its id, of each way to end."""
    chosen: dict[tuple[str, str], tuple[VisualPrediction, Mapping[str, float]]] = {}
    for one, figures in zip(entry.scored.predictions, entry.scored.figures, strict=True):
        chosen.setdefault((one.question_type, _fate(figures)), (one, figures))
    ordered = [chosen[kind, fate] for kind in TYPES for fate in _FATES if (kind, fate) in chosen]
    pictures = Pictures(where, {one.id for one, _ in ordered}) if where.pictures else None
    cards = "".join(_card(one, figures, pictures) for one, figures in ordered)
    note = (
        f"Answers of {html.escape(entry.name)}: of each type of question the first, by its id, that is right, right "
        "with wrong regions, wrong with right regions, wrong, or can't be read. White, dashed: the true regions; "
        "orange: the located ones."
    )
    return Part("cases", "Cases", "Cases", f"<p class=note>{note}</p><div class=cases>{cards}</div>")


def _fate(figures: Mapping[str, float]) -> str:
    if not figures["readable"]:
        return "unread"
    parted = next((name for name in ("right_elsewhere", "wrong_there") if figures[name] == 1), None)
    return parted or ("right" if figures["worth"] >= RIGHT else "wrong")


def _card(one: VisualPrediction, figures: Mapping[str, float], pictures: Pictures | None) -> str:
    fate = _fate(figures)
    bad = "" if fate == "right" else f'<span class="tag bad">{html.escape(_FATES[fate])}</span>'
    kinds = (TYPES[one.question_type], *(str(one.about.get(name) or "unknown") for name in ("modality", "source")))
    offered = "".join(f"<li>{chr(ord('A') + at)}: {html.escape(text)}</li>" for at, text in enumerate(one.choices))
    said = one.answer
    told = [("true answer", one.right.answer), ("answered", "–" if said is None else said.answer)]
    if not math.isnan(figures["v_score"]):
        told.append(("V-score", f"{figures['v_score']:.2f}"))
    values = "".join(f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in told)
    why = html.escape(one.error or (said.reasoning if said else "") or "Answered without reasoning.")
    return (
        f"<article class=case>{_figure(one, pictures)}<div class=told><p class=tags>{bad}</p>"
        f"<p class=where>{html.escape(' · '.join(kinds))}</p><h3>{html.escape(one.question)}</h3>"
        f"{f'<ul>{offered}</ul>' if offered else ''}<dl class=values>{values}</dl><p class=reasoning>{why}</p>"
        f"<details><summary>Answer as written</summary><pre>{html.escape(one.completion)}</pre>"
        f"<p class=where>{html.escape(one.id)}</p></details></div></article>"
    )


def _figure(one: VisualPrediction, pictures: Pictures | None) -> str:
    said = () if one.answer is None else one.answer.boxes or ()
    alt = f"{len(one.right.boxes)} true and {len(said)} located regions"
    shown, note = "", ""
    if pictures is not None:
        try:
            shown = embedded("picture", pictures.jpeg(one), "jpeg", alt)
        except TruthError as error:
            note = f"<figcaption>No picture: {html.escape(str(error))}</figcaption>"
    shapes = [
        *(rectangle(box.to(one.pixels), "truth") for box in one.right.boxes),
        *(rectangle(box.to(one.pixels), "answer") for box in said),
    ]
    label, empty = ("", "") if shown else (f' role=img aria-label="{alt}"', " empty")
    width, height = one.image_size
    return (
        f'<figure class="picture{empty}">{shown}'
        f'<svg class=shapes viewBox="0 0 {width} {height}"{label}>{"".join(shapes)}</svg>{note}</figure>'
    )

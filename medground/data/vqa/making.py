"""From drafts to rows: each is written out in full, and kept when the rewards give its own completion full marks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from medground.data.rows import Picture
from medground.data.vqa.blocks import Draft
from medground.data.vqa.scene import Thing
from medground.data.vqa.thinking import reason_of
from medground.data.vqa_rows import Region, VqaRow
from medground.errors import TruthError
from medground.rewards import score

__all__ = ["GRAMMAR", "RULERS", "lacking", "row_of"]

RULERS = ("pixels", "0-1000")
"""On which a row's completion must earn full marks: two boxes that differ may be one when they are rounded."""

GRAMMAR = "grammar-v1"
"""What wrote a thinking that no model did."""


def row_of(draft: Draft, number: int, thinking: str, by: str = GRAMMAR) -> VqaRow:
    """Return a draft as a row.

    ``other`` holds ``kind`` and ``subject`` (what is asked for, and of what), ``block`` (the same for questions in the
    same words), ``thought_by``, and for a question that follows another one ``earlier``; see
    `medground.data.vqa.earlier`.

    Parameters
    ----------
    draft : Draft
    number : int
        Which question about its picture this is, from 1.
    thinking : str
        See `medground.data.vqa.thinking.thinking_of`.
    by : str
        What wrote it.

    Raises
    ------
    TruthError
        When it can't be a row; names it.
    """
    scene, item = draft.item.scene, draft.item
    other: dict[str, Any] = {"kind": draft.kind, "subject": draft.subject, "block": draft.block, "thought_by": by}
    if item.earlier:
        other["earlier"] = [{"ref": name, "box": list(thing.box)} for name, thing in _known(draft)]
    try:
        return VqaRow(
            id=f"{scene.picture}#{number}",
            question=draft.question,
            question_type=draft.question_type,
            choices=draft.choices,
            answer=draft.answer,
            reason=reason_of(draft),
            thinking=thinking,
            regions=tuple(
                Region(ref=thing.name, box=(thing.box[0], thing.box[1], thing.box[2], thing.box[3]))
                for thing in (item.things if draft.shown else ())
            ),
            image=Picture(path=scene.picture),
            image_size=(scene.width, scene.height),
            modality=scene.modality,
            source=scene.source,
            licence=scene.licence,
            group=scene.group,
            split=scene.split,
            style=draft.kind,
            template=f"{draft.kind}/{draft.question_type}",
            other=other,
        )
    except ValidationError as error:
        raise TruthError(f"{scene.picture}: no row can be made of it: {error.errors()[0]['msg']}") from error


def _known(draft: Draft) -> Iterator[tuple[str, Thing]]:
    """Yield the earlier regions with what they are called: what is asked for isn't said."""
    hidden = draft.kind == "identify"
    for number, thing in enumerate(draft.item.earlier, 1):
        yield (f"region {number}" if hidden else thing.name), thing


def lacking(row: VqaRow) -> str:
    """Return which term of the ``thinkvg`` rewards a row's own completion falls short of, and on which of `RULERS`.

    Examples
    --------
    >>> row = VqaRow(id="1", question="Is it pale?", question_type="closed", answer="Yes", image_size=(400, 200),
    ...              thinking="It is.", regions=[Region(ref="base", box=(40, 20, 80, 50))], image=Picture(path="a.png"))
    >>> lacking(row)
    'consistency, pixels'
    """
    for ruler in RULERS:
        shown = row.to(ruler)
        for name, value in score(shown.completion(), shown.truth(), "thinkvg").items():
            if value < 1 - 1e-9:
                return f"{name}, {ruler}"
    return ""

"""Our own layout of visual questions: a column for each field of `VqaRow`, for parquet.

``images`` is a list of one struct of ``bytes`` and ``path``, as for grounding; ``choices`` are the texts of A,
B, ...; ``regions`` are structs of ``ref`` and ``box``; ``other`` is JSON. ``ground_truth`` is the JSON that rewards
read, for trainers that hand columns to them; it is written and never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medground.data.columns import pictures_of
from medground.data.fields import FieldError
from medground.data.layouts._vqa import PROVENANCE, Defaults, fields_of, made, text_of
from medground.data.vqa_rows import VqaRow

__all__ = ["COLUMNS", "record_of", "row_of"]

_TEXTS = ("question", "answer", "reason", "thinking")
COLUMNS = (
    *_TEXTS,
    *("id", "question_type", "choices", "regions", "images", "image_size", "coordinates", "other", "ground_truth"),
    *PROVENANCE,
)
_NAMES = {"boxes": "regions", "refs": "regions"}


def row_of(record: Mapping[str, Any], defaults: Defaults) -> VqaRow:
    """Return the row of a record; raises FieldError, which names the column."""
    extra = {name: text_of(record, name) for name in PROVENANCE} | {"other": _other(text_of(record, "other"))}
    fields = fields_of({**record, "extra_info": extra}, COLUMNS, defaults)
    fields |= {name: text_of(record, name) for name in _TEXTS} | {"question_type": record.get("question_type")}
    images = pictures_of(record.get("images"), "images")
    if len(images) != 1:
        raise FieldError("images", f"has {len(images)} pictures; a question is about one")
    regions = record.get("regions") or []
    if not isinstance(regions, list) or not all(isinstance(each, dict) for each in regions):
        raise FieldError("regions", "expected structs of ref and box")
    fields["image"] = images[0]
    refs = [text_of(each, "ref") for each in regions]
    return made(
        fields, fields["answer"], [each.get("box") for each in regions], refs, record.get("choices") or None, _NAMES
    )


def _other(text: str) -> Any:
    try:
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise FieldError("other", f"isn't JSON ({error})") from None


def record_of(row: VqaRow, _: str = "") -> dict[str, Any]:
    """Return the record of a row, its numbers exact; raises FieldError when `VqaRow.other` holds what JSON can't."""
    free = {name: value for name, value in row.other.items() if name != "columns"}
    try:
        other = json.dumps(free, ensure_ascii=False, allow_nan=False) if free else ""
    except (TypeError, ValueError) as error:
        raise FieldError("other", f"can't be written as JSON ({error}); leave it out") from None
    return {
        "id": row.id,
        "question": row.question,
        "question_type": row.question_type,
        "choices": list(row.choices),
        "answer": row.answer,
        "reason": row.reason,
        "thinking": row.thinking,
        "regions": [{"ref": region.ref, "box": list(region.box)} for region in row.regions],
        "images": [{"bytes": row.image.data, "path": row.image.path}],
        "image_size": list(row.image_size),
        "coordinates": row.coordinates,
        **{name: getattr(row, name) for name in PROVENANCE},
        "other": other,
        "ground_truth": row.ground_truth(),
        **(row.other.get("columns") or {}),
    }

"""GEMeX's rows (arXiv 2411.16778), for questions and for training, and our columns beside its own.

*Questions*, as its test rows are: ``question``, ``choices`` (``[A: ..., B: ...]``), ``type``, ``answer`` (a text, a
letter or letters), ``reason``, ``visual_regions``, ``visual_locations``. *Training*: a conversation whose answer is
``<answer> ... <reason> ... <location> [[x1, y1, x2, y2], ...]``, asked by the question with ``<choices>: [A: ..., B:
...]`` in it. How the release wraps the conversation, names the picture and spells the type isn't known to us: ``image``
and ``conversations`` (of ``from`` and ``value``, as LLaVA's trainers read them) and ThinkVG's names of types are
written; ``image_path``, and ``question`` and ``response`` in place of the conversation, are read as well.

Training has no place for names of regions and for the type of a question: both stand in columns of ours. ``id``,
``image_size``, ``coordinates`` and ``extra_info`` (JSON) are ours in both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from medground.data.fields import FieldError
from medground.data.layouts._vqa import (
    TYPES,
    Defaults,
    asked,
    boxes_of,
    fields_of,
    made,
    own_columns,
    split_question,
    text_of,
    written_boxes,
    written_choices,
)
from medground.data.vqa_rows import VqaRow

__all__ = ["COLUMNS", "TRAINING", "answer_of", "record_of", "row_of", "training_record_of", "training_row_of"]

COLUMNS = ("question", "choices", "type", "answer", "reason", "visual_regions", "visual_locations", "image_path")
TRAINING = ("image", "conversations", "question_type")

_IMAGE = "<image>"
_ALSO = ("image", "question_type", "image_path", "question", "response", "type")
_NAMES = {
    **{"boxes": "visual_locations", "regions": "visual_locations", "refs": "visual_regions"},
    **{"question_type": "type", "image": "image_path"},
}
_SAID = dict.fromkeys(("answer", "boxes", "regions", "reason"), "conversations")
_MARK = re.compile("<(/?)(answer|reason|location)>")


# --- questions -------------------------------------------------------------------------------------------------------


def row_of(record: Mapping[str, Any], defaults: Defaults) -> VqaRow:
    """Return the row of a question's record; raises FieldError, which names the column."""
    fields = fields_of(record, (*COLUMNS, "image", "question_type"), defaults)
    fields["question"], choices = split_question(text_of(record, "question"))
    fields["question_type"] = record.get("type", record.get("question_type"))
    fields["image"] = {"path": text_of(record, "image_path", "image")}
    fields["reason"] = text_of(record, "reason")
    places = record.get("visual_locations")
    if isinstance(places, str):
        places = boxes_of(places, "visual_locations")
    names = record.get("visual_regions")
    if isinstance(names, str) and places and len(several := names.split(",")) == len(places):
        names = several
    return made(fields, record.get("answer"), places, names, record.get("choices") or list(choices) or None, _NAMES)


def record_of(row: VqaRow, image_path: str) -> dict[str, Any]:
    """Return the record of a row as a question, its numbers exact."""
    return {
        **(row.other.get("columns") or {}),
        "question": row.question,
        "choices": written_choices(row),
        "type": TYPES[row.question_type],
        "answer": row.answer,
        "reason": row.reason,
        "visual_regions": [region.ref for region in row.regions],
        "visual_locations": written_boxes(row),
        "image_path": image_path,
        **own_columns(row, "thinking"),
    }


# --- training --------------------------------------------------------------------------------------------------------


def training_row_of(record: Mapping[str, Any], defaults: Defaults) -> VqaRow:
    """Return the row of a conversation's record; raises FieldError, which names the column."""
    fields = fields_of(record, (*TRAINING, *_ALSO), defaults)
    question, said = _turns(record)
    fields["question"], choices = split_question(question.replace(_IMAGE, "", 1))
    fields["question_type"] = record.get("question_type", record.get("type"))
    fields["image"] = {"path": text_of(record, "image", "image_path")}
    answer, fields["reason"], boxes = answer_of(said)
    return made(fields, answer, boxes, fields.get("refs"), list(choices) or None, _SAID)


def _turns(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return what is asked and what is answered."""
    turns = record.get("conversations")
    if turns is None:
        return text_of(record, "question"), text_of(record, "response")
    whole = isinstance(turns, list) and len(turns) == 2 and all(isinstance(turn, dict) for turn in turns)
    if not whole or [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise FieldError("conversations", "expected one turn from human and one from gpt; split longer ones into rows")
    if not all(isinstance(turn.get("value"), str) for turn in turns):
        raise FieldError("conversations", "has a turn whose value isn't text")
    return turns[0]["value"], turns[1]["value"]


def answer_of(text: str) -> tuple[str, str, list[list[float]]]:
    """Return the answer, the reason and the boxes of GEMeX's tagged answer; closing tags may be there or not.

    Raises
    ------
    FieldError
        When a part is there twice, or the answer isn't there.

    Examples
    --------
    >>> answer_of("<answer> Yes <reason> The base is pale. <location> [[1, 2, 3, 4]]")
    ('Yes', 'The base is pale.', [[1.0, 2.0, 3.0, 4.0]])
    """
    marks = list(_MARK.finditer(text))
    parts: dict[str, str] = {}
    for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)], strict=False):
        if mark[1]:
            continue
        if mark[2] in parts:
            raise FieldError("conversations", f"has <{mark[2]}> twice; write it once")
        parts[mark[2]] = text[mark.end() : end].strip()
    if "answer" not in parts:
        raise FieldError("conversations", "has no <answer> in what is answered; write <answer> ... <reason> ...")
    return parts["answer"], parts.get("reason", ""), boxes_of(parts.get("location", ""), "conversations")


def training_record_of(row: VqaRow, image_path: str) -> dict[str, Any]:
    """Return the record of a row as a conversation, its numbers exact."""
    said = f"<answer> {row.answer} <reason> {row.reason} <location> {json.dumps(written_boxes(row))}"
    return {
        **(row.other.get("columns") or {}),
        "image": image_path,
        "conversations": [{"from": "human", "value": f"{_IMAGE}\n{asked(row)}"}, {"from": "gpt", "value": said}],
        "question_type": TYPES[row.question_type],
        **own_columns(row, "thinking", "refs"),
    }

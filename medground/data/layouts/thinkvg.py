"""ThinkVG's rows (GEMeX-ThinkVG, arXiv 2506.17939): the columns of its release, and ours beside them.

``question`` (with the choices in it), ``question_type``, ``image_path``, ``thinkVG`` (reasoning prose with mentions of
regions) and ``response``, of ``<answer>...</answer>`` and ``<location><ref>...</ref><box>[x1, y1, x2, y2]</box>
</location>``. How the release writes several boxes isn't known to us: pairs, lists in one ``<box>`` and names before
their boxes are read; pairs of one name and one box are written. The release doesn't say its frame either, so our
``image_size`` and ``coordinates`` stand beside, and ``id`` and ``extra_info`` (JSON) hold what it has no column for.
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
)
from medground.data.vqa_rows import UNNAMED, VqaRow
from medground.tolerant import MAX_ANSWER

__all__ = ["COLUMNS", "location_of", "record_of", "row_of"]

COLUMNS = ("question", "question_type", "image_path", "thinkVG", "response")

_NAMES = {
    "answer": "response",
    "boxes": "response",
    "regions": "response",
    "thinking": "thinkVG",
    "image": "image_path",
}
_ANSWER = re.compile("<answer>(.*?)</answer>", re.S)
_LOCATION = re.compile("<location>(.*?)</location>", re.S)
_PART = re.compile("<(ref|box)>(.*?)</\\1>", re.S)


def row_of(record: Mapping[str, Any], defaults: Defaults) -> VqaRow:
    """Return the row of a record; raises FieldError, which names the column."""
    fields = fields_of(record, (*COLUMNS, "choices"), defaults)
    fields["question"], choices = split_question(text_of(record, "question"))
    fields["question_type"] = record.get("question_type")
    fields["image"] = {"path": text_of(record, "image_path")}
    fields["thinking"] = text_of(record, "thinkVG").strip().removeprefix("<think>").removesuffix("</think>")
    response = text_of(record, "response")
    if len(response) > MAX_ANSWER:
        raise FieldError("response", f"is longer than {MAX_ANSWER:,} characters, beyond which nothing is read; mend it")
    answers = _ANSWER.findall(response)
    if len(answers) != 1:
        raise FieldError("response", f"has {len(answers)} of <answer>...</answer>; write one")
    boxes, refs = location_of(response)
    return made(fields, answers[0], boxes, refs, record.get("choices") or list(choices) or None, _NAMES)


def location_of(response: str) -> tuple[list[list[float]], list[str]]:
    """Return the boxes of a response and a name for each, however several are written.

    A name belongs to the boxes that follow it up to the next name; several names in a row are told off one by one, the
    last to what is left.

    Raises
    ------
    FieldError
        When the location can't be read.

    Examples
    --------
    >>> location_of("<location><ref>lungs</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box></location>")
    ([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], ['lungs', 'lungs'])
    """
    opened = (response.count("<location>"), response.count("</location>"))
    found = _LOCATION.search(response)
    if opened not in ((0, 0), (1, 1)) or (found is None) is (opened[0] == 1):
        raise FieldError("response", f"opens {opened[0]} and closes {opened[1]} locations; write one, or none")
    inside = found[1] if found else ""
    if beyond := _PART.sub("", inside).strip(" \t\r\n,;"):
        if "<" in beyond or _PART.search(inside):
            raise FieldError("response", "has more in its location than <ref>...</ref> and <box>...</box>; mend it")
        inside = f"<box>{inside}</box>"
    boxes: list[list[float]] = []
    refs: list[str] = []
    waiting: list[str] = []
    last = UNNAMED
    for tag, text in _PART.findall(inside):
        if tag == "ref":
            waiting.append(text.strip() or UNNAMED)
            continue
        for box in boxes_of(text, "response"):
            last = waiting.pop(0) if waiting else last
            boxes.append(box)
            refs.append(last)
    if waiting:
        raise FieldError("response", f"names {len(waiting)} more regions than it boxes; box them or leave them out")
    return boxes, refs


def record_of(row: VqaRow, image_path: str) -> dict[str, Any]:
    """Return the record of a row, its numbers exact."""
    places = "".join(
        f"<ref>{region.ref}</ref><box>{json.dumps(box)}</box>"
        for region, box in zip(row.regions, written_boxes(row), strict=True)
    )
    location = f"<location>{places}</location>" if places else ""
    return {
        **(row.other.get("columns") or {}),
        "question": asked(row),
        "question_type": TYPES[row.question_type],
        "image_path": image_path,
        "thinkVG": row.thinking,
        "response": f"<response><answer>{row.answer}</answer>{location}</response>",
        **own_columns(row, "reason"),
    }

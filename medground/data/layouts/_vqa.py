"""What the layouts of visual questions share: columns of ours beside theirs, choices in questions, lists of boxes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from medground.data.fields import FieldError, plain
from medground.data.rows import whole
from medground.data.vqa_rows import UNNAMED, VqaRow
from medground.errors import TruthError, first_mistake
from medground.rewards.vqa_truth import choices_of, read_vqa_truth

__all__ = [
    "OWN",
    "PROVENANCE",
    "TYPES",
    "Defaults",
    "asked",
    "boxes_of",
    "checked",
    "cleared",
    "fields_of",
    "made",
    "own_columns",
    "split_question",
    "text_of",
    "written_boxes",
    "written_choices",
]

Defaults = Mapping[str, Any]
"""What a row is where its record doesn't say: ``id``, ``split``, ``image_size``, ``coordinates``."""

TYPES = {
    "open": "open_ended_questions",
    "closed": "closed_ended_questions",
    "single_choice": "single_choice_questions",
    "multi_choice": "multi_choice_questions",
}
"""What ThinkVG calls the types of questions."""

PROVENANCE = ("modality", "source", "licence", "group", "split", "style", "template")
OWN = ("id", "image_size", "coordinates", "extra_info")
"""Our columns beside another layout's: the frame in the open, since rewards read it there, the rest as JSON."""

_FOUR = re.compile(r"\[([^\[\]]*)\]")


# --- reading ---------------------------------------------------------------------------------------------------------


def fields_of(record: Mapping[str, Any], columns: Sequence[str], defaults: Defaults) -> dict[str, Any]:
    """Return the fields of a row that our own columns say, and in ``other`` the columns that nobody knows."""
    extra = _extra(record.get("extra_info"))
    fields: dict[str, Any] = {
        name: extra[name] for name in (*PROVENANCE, "reason", "thinking", "refs") if name in extra
    }
    other = extra.get("other") or {}
    if not isinstance(other, dict):
        raise FieldError("extra_info, other", "expected an object")
    unknown = {name: value for name, value in record.items() if name not in (*columns, *OWN) and value is not None}
    fields["other"] = {**other, **({"columns": unknown} if unknown else {})}
    for name in ("id", "split", "image_size", "coordinates"):
        said = (value for value in (fields.get(name), record.get(name), defaults.get(name)) if value not in (None, ""))
        fields[name] = next(said, "")
    if not fields["image_size"]:
        raise FieldError(
            "image_size",
            "isn't said; give image_size=(width, height) in pixels of the picture that the boxes were measured on "
            "(the boxes of GEMeX fit 224 x 224)",
        )
    fields["id"] = str(fields["id"])
    return fields


def _extra(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            raise FieldError("extra_info", f"isn't JSON ({error})") from None
    if not isinstance(value, dict | None):
        raise FieldError("extra_info", "expected an object, or its JSON")
    return value or {}


def text_of(record: Mapping[str, Any], name: str, *others: str) -> str:
    """Return the text of a column, the first of several that is there; empty when none is.

    Examples
    --------
    >>> text_of({"image": "7.png"}, "image_path", "image"), text_of({}, "reason")
    ('7.png', '')
    """
    for each in (name, *others):
        if (value := record.get(each)) is not None:
            if not isinstance(value, str):
                raise FieldError(each, f"expected text, not {type(value).__name__}")
            return value
    return ""


def split_question(question: str) -> tuple[str, tuple[str, ...]]:
    """Return a question without the choices that GEMeX writes into it, and their texts.

    Examples
    --------
    >>> split_question("Which side? <choices>: [A: left, B: right]")
    ('Which side?', ('left', 'right'))
    """
    question = question.strip()
    found = choices_of(question)
    if found is None:
        return question, ()
    start, end = question.index("<choices>"), question.rindex("]")
    return f"{question[:start].rstrip()} {question[end + 1 :].lstrip()}".strip(), tuple(found.values())


def boxes_of(text: str, field: str) -> list[list[float]]:
    """Return the boxes of a text, in whichever way several are written.

    Read are ``[x1, y1, x2, y2]``, a list of such, such one after the other, with commas, semicolons or blanks between
    or nothing, and four numbers (eight, twelve ...) in one bracket or none. Round brackets are taken for square ones.

    Examples
    --------
    >>> boxes_of("[1, 2, 3, 4]; [5, 6, 7, 8.5]", "box"), boxes_of("[[1, 2, 3, 4]]", "box"), boxes_of("[]", "box")
    ([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.5]], [[1.0, 2.0, 3.0, 4.0]], [])
    """
    text = text.replace("(", "[").replace(")", "]")
    groups, between = _FOUR.findall(text), _FOUR.sub(" ", text)
    if not groups:
        groups, between = [text], ""
    boxes: list[list[float]] = []
    for group in groups:
        numbers = group.replace(",", " ").split()
        try:
            values = [float(number) for number in numbers]
        except ValueError:
            raise FieldError(field, "holds what isn't a number; write [x1, y1, x2, y2] for each box") from None
        if len(values) % 4:
            raise FieldError(field, f"has a box of {len(values)} numbers; write [x1, y1, x2, y2] for each box")
        boxes += [values[index : index + 4] for index in range(0, len(values), 4)]
    if between.strip(" \t\r\n,;[]"):
        raise FieldError(field, "has words between boxes; write [x1, y1, x2, y2] for each box")
    return boxes


def made(
    fields: Mapping[str, Any], answer: Any, boxes: Any, refs: Any, choices: Any, columns: Mapping[str, str]
) -> VqaRow:
    """Return the row of these fields, its answer, boxes, names and choices read as the rewards read them.

    A box that leaves the picture by at most a tenth is clipped. One name is the name of all boxes; where there are
    others than boxes, the names together are. `columns` says where the file has a field that it calls otherwise.

    Raises
    ------
    FieldError
        Names the column.
    """
    try:
        return _made(fields, answer, boxes, refs, choices)
    except FieldError as error:
        raise FieldError(columns.get(error.field, error.field), error.problem) from None


def _made(fields: Mapping[str, Any], answer: Any, boxes: Any, refs: Any, choices: Any) -> VqaRow:
    seen: dict[str, Any] = {"answer": answer, "boxes": boxes, "refs": refs, "choices": choices}
    seen |= {name: fields[name] for name in ("question_type", "image_size", "coordinates")}
    try:
        truth = read_vqa_truth(seen)
    except TruthError as error:
        field, _, problem = str(error).removeprefix("truth, ").partition(": ")
        raise FieldError(field, problem) from None
    names = list(truth.refs)
    if len(names) != len(truth.boxes):
        names = [", ".join(names) or UNNAMED] * len(truth.boxes)
    regions = [{"ref": ref.strip() or UNNAMED, "box": box.xyxy} for ref, box in zip(names, truth.boxes, strict=True)]
    offered = truth.choices or {}
    if list(offered) != [chr(ord("A") + index) for index in range(len(offered))]:
        raise FieldError("choices", f"have the letters {', '.join(offered)}; write A, B, ... in order")
    known = {name: value for name, value in fields.items() if name != "refs"}
    known |= {"question_type": truth.question_type, "answer": truth.answer, "regions": regions}
    try:
        return VqaRow.model_validate({**known, "choices": tuple(offered.values())})
    except ValidationError as error:
        where, _, said = first_mistake(error)
        field, _, problem = (where, "", said) if where else said.partition(": ")
        raise FieldError(field, problem + "; mend or drop the row") from None


# --- writing ---------------------------------------------------------------------------------------------------------


def own_columns(row: VqaRow, *further: str) -> dict[str, Any]:
    """Return our columns of a row: what the layout holds no place for is JSON in ``extra_info``."""
    extra: dict[str, Any] = {name: getattr(row, name) for name in (*PROVENANCE, *further) if name != "refs"}
    if "refs" in further:
        extra["refs"] = [region.ref for region in row.regions]
    extra["other"] = {name: value for name, value in row.other.items() if name != "columns"}
    try:
        said = json.dumps({name: value for name, value in extra.items() if value}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FieldError("other", f"can't be written as JSON ({error}); leave it out") from None
    size = list(row.image_size)
    return {"id": row.id, "image_size": size, "coordinates": row.coordinates, "extra_info": said}


def written_boxes(row: VqaRow) -> list[list[float]]:
    """Return the regions' boxes as JSON holds them."""
    return [whole(region.box) for region in row.regions]


def written_choices(row: VqaRow) -> str | None:
    """Return the choices as GEMeX writes them; None when there are none."""
    offered = row.offered
    return f"[{', '.join(f'{letter}: {text}' for letter, text in offered.items())}]" if offered else None


def asked(row: VqaRow) -> str:
    """Return the question with its choices in it."""
    choices = written_choices(row)
    return f"{row.question} <choices>: {choices}" if choices else row.question


def checked(row: VqaRow, again: VqaRow) -> None:
    """Raise FieldError when a row isn't what is read of its own record: its texts hold the layout's own marks."""
    for name in ("question", "choices", "answer", "reason", "thinking", "regions", "image_size", "coordinates"):
        if getattr(row, name) != getattr(again, name):
            raise FieldError(name, "holds marks of the layout, and wouldn't be read as it is written; reword it")


def cleared(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record in Python's own types, without the columns that are null."""
    return {name: value for name, value in plain(record).items() if value is not None}

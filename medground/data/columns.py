"""Rows to and from the columns of U-MRG's published parquet layout (MedReasoner), which is verl's with masks.

``data_source``, ``prompt`` (role, content), ``images``, ``masks``, ``ability``, ``reward_model`` (style, ground_truth:
a JSON string with bbox_2d and point_2d) and ``extra_info``. What a file says in another way than `record_of` would, or
beyond the layout, goes into `Row.other` and comes back from there, unless the field that it is about was changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import ValidationError

from medground.data.fields import FieldError, are_numbers, make_row, mapping_of, plain
from medground.data.rows import Picture, Row
from medground.errors import TruthError
from medground.masks import decode_rle
from medground.rewards.truth import FRAME

__all__ = ["COLUMNS", "KEYS", "FieldError", "pictures_of", "record_of", "row_of"]

COLUMNS = ("data_source", "prompt", "images", "masks", "ability", "reward_model", "extra_info")
"""The layout's columns."""

KEYS = {
    "id": "id",
    "supercategory": "supercategory",
    "category": "category",
    "modality": "modality",
    "health": "healthy",
    "short": "short",
    "long": "long",
    "think": "reasoning",
    "image_size": "image_size",
    "coordinates": "coordinates",
    "group": "group",
    "licence": "licence",
    "source": "source",
    "split": "split",
    "style": "style",
    "template": "template",
    "facts": "facts",
    "other": "other",
}
"""Keys of ``extra_info`` and the fields of `Row` that they hold."""

_IMAGE = "<image>"
_LEAD = re.compile(r"(?:\s|<image>)*")
_HEALTHY = {"healthy": True, "normal": True, "unhealthy": False, "abnormal": False, "diseased": False}
_TRUTH = ("bbox_2d", "point_2d", "absent", "image_size", "coordinates", "facts", "mask")
_RESERVED = ("columns", "extra_info", "kept")


# --- reading ---------------------------------------------------------------------------------------------------------


def row_of(record: Mapping[str, Any], *, name: str = "row", split: str = "") -> Row:
    """Return the row that a record of the layout says.

    Parameters
    ----------
    record : mapping
        Column to value, as pyarrow, pandas or datasets give it (images as dicts of bytes and path).
    name : str
        The row's id where the record has none.
    split : str
        The row's split where the record says none, such as from the file's name.

    Raises
    ------
    FieldError
        Names the column.
    """
    record = plain(record)
    extra = mapping_of(record.get("extra_info"), "extra_info")
    model = mapping_of(record.get("reward_model"), "reward_model")
    if "ground_truth" not in model:
        raise FieldError("reward_model.ground_truth", "is missing; give a JSON string with bbox_2d and point_2d")
    truth = _truth(model["ground_truth"])
    images = pictures_of(record.get("images"), "images")
    if not images:
        raise FieldError("images", "is empty; give the picture's path or bytes")
    masks = pictures_of(record.get("masks"), "masks") or _inline_mask(truth)
    fields: dict[str, Any] = {"image": images[0], "mask": masks[0] if masks and "absent" not in truth else None}
    fields["question"] = _question(record.get("prompt"))[2]
    for key, field in KEYS.items():
        reader: Callable[[Any, str], Any] = _READ.get(key, _text)
        fields[field] = reader(extra.get(key), f"extra_info.{key}")
    fields |= {"box": truth.get("bbox_2d"), "points": tuple((x, y) for x, y in truth.get("point_2d") or ())}
    for key, default in (("image_size", FRAME), ("coordinates", "pixels")):
        fields[key] = _agreed(key, fields[key], truth.get(key), default)
    if fields["facts"] is None:
        fields["facts"] = truth.get("facts")
    fields["id"] = fields["id"] or name
    fields["split"] = fields["split"] or split
    row = make_row(fields)
    other = dict(row.other)
    if unknown := {column: value for column, value in record.items() if column not in COLUMNS}:
        other["columns"] = unknown
    if unknown := {key: value for key, value in extra.items() if key not in KEYS}:
        other["extra_info"] = unknown
    if kept := _kept(row, record, extra):
        other["kept"] = kept
    return row.model_copy(update={"other": other}) if other != row.other else row


def _kept(row: Row, record: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record writes otherwise than `record_of` does: ``usual`` is what that would write."""
    usual = record_of(row)
    kept: dict[str, Any] = {}
    if list(record) != list(COLUMNS):
        kept["columns"] = list(record)
    if list(extra) != list(KEYS) or record.get("extra_info") is None:
        kept["keys"] = list(extra)
        kept["made"] = {key: value for key, value in usual["extra_info"].items() if key not in extra and value}
    for column in ("data_source", "prompt", "images", "masks", "ability", "reward_model"):
        if column in record and record[column] != usual[column]:
            kept[column] = {"usual": usual[column], "file": record[column]}
    for key in KEYS:
        if key in extra and not _same(extra[key], usual["extra_info"][key]):
            kept.setdefault("values", {})[key] = {"usual": usual["extra_info"][key], "file": extra[key]}
    return kept


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _question(prompt: Any) -> tuple[int, str, str, str]:
    """Return which message asks, what stands before the question in it, the question, and what stands after it."""
    if not isinstance(prompt, list) or not all(isinstance(each, dict) for each in prompt):
        raise FieldError("prompt", "expected a list of messages with role and content")
    users = [index for index, each in enumerate(prompt) if each.get("role") == "user"]
    if not users:
        raise FieldError("prompt", "has no message of the user; one must hold the question")
    content = prompt[users[-1]].get("content")
    if not isinstance(content, str):
        raise FieldError("prompt", "the user's content isn't text; import conversational rows with the layout trl")
    lead = _LEAD.match(content)[0]  # type: ignore[index]  # it matches the empty text
    question = content[len(lead) :].rstrip()
    return users[-1], lead, question, content[len(lead) + len(question) :]


def _truth(value: Any) -> dict[str, Any]:
    column = "reward_model.ground_truth"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise FieldError(column, f"isn't JSON ({error}); write an object with bbox_2d and point_2d") from None
    if not isinstance(value, dict):
        raise FieldError(column, "expected a JSON object with bbox_2d and point_2d")
    truth = {name: each for name, each in value.items() if each is not None}
    if truth.pop("absent", False):
        if truth.get("bbox_2d") or truth.get("point_2d"):
            raise FieldError(f"{column}, absent", "an absent target has no box and no points; leave out either")
        return {**{name: truth[name] for name in truth if name not in ("bbox_2d", "point_2d")}, "absent": True}
    if not are_numbers(truth.get("bbox_2d"), 4):
        raise FieldError(f"{column}, bbox_2d", 'expected [x1, y1, x2, y2], four finite numbers, or "absent": true')
    points = truth.get("point_2d") or []
    if not (isinstance(points, list) and len(points) in (0, 2) and all(are_numbers(each, 2) for each in points)):
        raise FieldError(f"{column}, point_2d", "expected [[x, y], [x, y]], finite numbers, or nothing")
    return truth


def _agreed(key: str, outer: Any, inner: Any, default: Any) -> Any:
    """Return what the row says of its ruler, in either of the places where it may say it."""
    if inner is not None and key == "image_size":
        inner = _size(inner, "reward_model.ground_truth, image_size")
    if outer and inner and outer != inner:
        raise FieldError(key, f"extra_info says {outer} and ground_truth says {inner}; make them agree")
    return outer or inner or default


def _size(value: Any, field: str) -> tuple[int, int] | None:
    if value is None:
        return None
    if not are_numbers(value, 2) or any(side != int(side) for side in value):
        raise FieldError(field, "expected [width, height], two whole numbers of pixels")
    return int(value[0]), int(value[1])


def _text(value: Any, field: str) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list | bytes):
        raise FieldError(field, f"expected text, not {type(value).__name__}")
    return str(value)


def _split(value: Any, field: str) -> str:
    name = _text(value, field)
    return {"validation": "val", "dev": "val"}.get(name, name)


def _healthy(value: Any, _: str) -> bool | None:
    if isinstance(value, str):
        return _HEALTHY.get(value.strip().lower())
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


def _object(value: Any, field: str) -> dict[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise FieldError(field, f"isn't JSON ({error})") from None
    if value is not None and not isinstance(value, dict):
        raise FieldError(field, "expected a JSON object")
    return value


def _other(value: Any, field: str) -> dict[str, Any]:
    return {name: each for name, each in (_object(value, field) or {}).items() if name not in _RESERVED}


_READ: dict[str, Callable[[Any, str], Any]] = {
    "health": _healthy,
    "image_size": _size,
    "split": _split,
    "facts": _object,
    "other": _other,
}


def pictures_of(value: Any, field: str = "images") -> list[Picture]:
    """Return the pictures of a column: a list of structs, paths, bytes, run lengths or nested lists; or one of them."""
    if value is None:
        return []
    many = isinstance(value, list) and not _is_array(value)
    return [_picture(each, field) for each in (value if many else [value])]


def _is_array(value: list[Any]) -> bool:
    """Whether this is one mask, row by row, and not a list of pictures."""
    return bool(value) and isinstance(value[0], list) and not (value[0] and isinstance(value[0][0], list))


def _picture(value: Any, field: str) -> Picture:
    try:
        if isinstance(value, dict) and "counts" in value:
            return Picture.of_mask(decode_rle(value))
        if isinstance(value, dict):
            return Picture(path=value.get("path") or None, data=value.get("bytes") or None)
        if isinstance(value, str):
            return Picture(path=value)
        if isinstance(value, bytes):
            return Picture(data=value)
        if isinstance(value, list):
            drawn = np.asarray(value)
            if drawn.ndim == 2 and drawn.size and drawn.dtype.kind in "biuf":
                return Picture.of_mask(drawn != 0)
    except (TruthError, ValueError) as error:
        reason = "has neither a path nor bytes" if isinstance(error, ValidationError) else str(error)
        raise FieldError(field, reason) from None
    raise FieldError(field, "expected a path, bytes, a struct of both, or for a mask its rows or run lengths")


def _inline_mask(truth: Mapping[str, Any]) -> list[Picture]:
    return [_picture(truth["mask"], "reward_model.ground_truth, mask")] if truth.get("mask") else []


# --- writing ---------------------------------------------------------------------------------------------------------


def record_of(row: Row, *, split: str = "", change: Callable[[Picture, bool], Picture] | None = None) -> dict[str, Any]:
    """Return the layout's record of a row; the inverse of `row_of`.

    Parameters
    ----------
    row : Row
    split : str
        The split that is told elsewhere, by the file's name: what was read so isn't written into the record.
    change : callable, optional
        Is given each picture and whether it is a mask, and returns the one to write: embedded, or with another path.

    Raises
    ------
    FieldError
        When `Row.other` holds what JSON can't.
    """
    kept = row.other.get("kept") or {}
    model = {"style": "rule", "ground_truth": row.ground_truth()}
    prompt = [{"role": "user", "content": _IMAGE + row.question}]
    record: dict[str, Any] = {
        "data_source": _as_kept("umrg", kept.get("data_source")),
        "prompt": _as_kept(prompt, kept.get("prompt"), lambda file: _asking(row.question, file)),
        "images": _written_pictures(row.image, kept.get("images"), change, mask=False),
        "masks": _written_pictures(row.mask, kept.get("masks"), change, mask=True),
        "ability": _as_kept("grounding", kept.get("ability")),
        "reward_model": _as_kept(model, kept.get("reward_model"), lambda file: _answering(model, file)),
        "extra_info": _written_extra(row, kept, split) or None,
    }
    record |= row.other.get("columns") or {}
    if "columns" not in kept:
        return record
    return _ordered(record, kept["columns"], lambda column: column in ("data_source", "ability") or not record[column])


def _as_kept(usual: Any, kept: Mapping[str, Any] | None, changed: Callable[[Any], Any] | None = None) -> Any:
    """Return a value as the file wrote it, unless the row was changed since."""
    if kept is None:
        return usual
    if kept["usual"] == usual:
        return kept["file"]
    return changed(kept["file"]) if changed else usual


def _ordered(values: Mapping[str, Any], found: Iterable[str], dispensable: Callable[[str], bool]) -> dict[str, Any]:
    """Return the values in the file's order, then those that the file hadn't and that say something."""
    ordered = {name: values[name] for name in found if name in values}
    return ordered | {name: value for name, value in values.items() if name not in ordered and not dispensable(name)}


def _asking(question: str, file: list[dict[str, Any]]) -> list[dict[str, Any]]:
    index, lead, _, tail = _question(file)
    content = lead + question + tail
    return [{**message, "content": content} if at == index else message for at, message in enumerate(file)]


def _answering(model: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    usual = json.loads(model["ground_truth"])
    beyond = {name: each for name, each in _truth(file["ground_truth"]).items() if name not in _TRUTH}
    truth = usual | beyond if isinstance(file["ground_truth"], dict) else json.dumps(usual | beyond)
    return {**file, "ground_truth": truth}


def _written_pictures(
    own: Picture | None,
    kept: Mapping[str, Any] | None,
    change: Callable[[Picture, bool], Picture] | None,
    *,
    mask: bool,
) -> Any:
    def written(pictures: list[Picture]) -> list[dict[str, Any]]:
        changed = [change(each, mask) for each in pictures] if change else pictures
        return [{"bytes": each.data, "path": each.path} for each in changed]

    first = [own] if own else []
    if kept is None:
        return written(first)
    usual = [{"bytes": each.data, "path": each.path} for each in first]
    if kept["usual"] == usual and not change:
        return kept["file"]
    return written(first + pictures_of(kept["file"], "")[1:])


def _written_extra(row: Row, kept: Mapping[str, Any], split: str) -> dict[str, Any]:
    free = {name: value for name, value in row.other.items() if name not in _RESERVED}
    values: dict[str, Any] = {key: getattr(row, field) for key, field in KEYS.items()}
    values["image_size"] = list(row.image_size)
    values["facts"] = None if row.facts is None else json.dumps(row.facts)
    try:
        values["other"] = json.dumps(free, allow_nan=False) if free else None
    except (TypeError, ValueError) as error:
        raise FieldError("other", f"can't be written as JSON ({error}); leave it out") from None
    for key, each in (kept.get("values") or {}).items():
        values[key] = _as_kept(values[key], each)
    values |= row.other.get("extra_info") or {}
    if "keys" not in kept:
        return values
    made = dict(kept["made"])
    if made.get("split") != split:
        made.pop("split", None)
    return _ordered(values, kept["keys"], lambda key: not values[key] or made.get(key) == values[key])

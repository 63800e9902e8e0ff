"""ms-swift's grounding layout, JSON Lines (its documentation, "Custom dataset", version 4.6).

A row is ``{"messages": [...], "images": [path], "objects": {"ref": [...], "bbox": [...], "bbox_type": "real"}}``. Each
``<bbox>`` in the messages stands for the next of ``objects.bbox``, [x1, y1, x2, y2] or, for a point, [x, y]; each
``<ref-object>`` for the next of ``objects.ref``. Numbers are pixels of the picture (``"real"``) or fractions of it
(``"norm1"``); ms-swift converts them to what the model speaks.

The rest of a row is no part of the layout and stands in columns of its own (``ground_truth``, ``question``, ``mask``,
``extra_info``), which ms-swift gives to reward functions and otherwise ignores. Not held: pictures that aren't files;
values that JSON can't hold are left out and told. ms-swift looks for relative paths where it runs, or in
``ROOT_IMAGE_DIR``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from medground._io import json_lines
from medground.coords import Space, convert, space_named
from medground.data.fields import FieldError, are_numbers, mapping_of
from medground.data.layouts._shared import (
    IMAGE,
    Files,
    Notes,
    OnBad,
    OnNote,
    asked,
    bare,
    columns_of,
    extra_of,
    known_size,
    mask_of,
    on_ruler,
    pictures,
    read_each,
    row_from,
    write_lines,
)
from medground.data.rows import Row
from medground.errors import ConfigError, TruthError

__all__ = ["ANSWER", "export_rows", "import_rows"]

ANSWER = '<answer>{"bbox": <bbox>, "points_1": <bbox>, "points_2": <bbox>}</answer>'
"""What the model is taught to answer: the layout that medground's prompts ask for and its rewards read.

Families whose template writes a box as plain numbers in brackets then answer in that JSON: Qwen2.5-VL and Qwen3-VL do
with ``QWENVL_BBOX_FORMAT=new``. For the grounding tokens of a family use ``"<ref-object><bbox>"``.
"""

_TOKENS = re.compile("<ref-object>|<bbox>")
_MEDIA = (IMAGE, "<ref-object>", "<bbox>", "<video>", "<audio>")
_OWN = ("messages", "images", "objects", "ground_truth", "question", "mask", "extra_info")


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    copy_images: bool = False,
    coordinates: str | None = None,
    bbox_type: Literal["real", "norm1"] = "real",
    answer: str = ANSWER,
    template: str | None = None,
    on_note: OnNote = None,
) -> int:
    """Write rows; see `medground.data.layouts.export_rows` for what isn't said here.

    Parameters
    ----------
    bbox_type : {"real", "norm1"}
        Pixels of a picture of the row's size, or fractions of it. Where files have another size than their rows say,
        only fractions are right.
    answer : str
        The answer's text: the first ``<bbox>`` is the box, then come the points, as far as the row has them;
        ``<ref-object>`` is the category.
    template : str, optional
        A name in `medground.prompts.TEMPLATES` to ask by, for the ruler that the numbers of the model will be on: give
        that as `coordinates`. Without it the bare question is asked.
    """
    if bbox_type not in ("real", "norm1"):
        raise ConfigError(f"layout swift: bbox_type {bbox_type!r} isn't 'real' or 'norm1'")
    notes, files = Notes("swift", on_note), Files(path.parent, root, copy=copy_images)

    def written() -> Iterator[dict[str, Any]]:
        for row in on_ruler(rows, coordinates):
            try:
                yield _line(row, files, notes, bbox_type, answer, template)
            except (FieldError, TruthError) as error:
                raise TruthError(f"row {row.id}: {error}") from error

    count = write_lines(written(), path)
    notes.tell()
    return count


def _line(row: Row, files: Files, notes: Notes, bbox_type: str, answer: str, template: str | None) -> dict[str, Any]:
    shown = pictures(row)
    messages = asked(row, len(shown), template)
    for text, what in ((row.question, "question"), (row.reasoning, "reasoning"), (row.category, "category")):
        if token := next((token for token in _MEDIA if token in text), None):
            raise TruthError(f"{what}: holds {token}, which ms-swift would replace; take it out")
    boxes = _boxes(row, bbox_type)
    said = answer if boxes else '<answer>{"absent": true}</answer>'
    if said.count("<bbox>") > len(boxes) > 0 and answer == ANSWER:
        said = '<answer>{"bbox": <bbox>}</answer>'
        notes.add("no key points, so the model is taught a box alone")
    used = min(said.count("<bbox>"), len(boxes))
    if used < len(boxes):
        notes.add("the answer has no place for the key points; they are in ground_truth alone")
    refs = [row.category] * said.count("<ref-object>")
    think = f"<think>{row.reasoning}</think>" if row.reasoning.strip() else ""
    return {
        "messages": [*messages, {"role": "assistant", "content": think + said}],
        "images": [files.image(each) for each in shown],
        "objects": {"ref": refs, "bbox": boxes[:used], "bbox_type": bbox_type},
        "ground_truth": row.ground_truth(),
        "question": row.question,
        "mask": files.mask(row.mask),
        "extra_info": extra_of(row, notes),
        **columns_of(row, _OWN, notes),
    }


def _boxes(row: Row, bbox_type: str) -> list[list[float]]:
    own = space_named(row.coordinates, *row.image_size)
    drawn = Space.unit() if bbox_type == "norm1" else Space.pixels(*row.image_size)
    places: Sequence[Sequence[float]] = [row.box, *row.points] if row.box else []
    return [[_plain(value) for value in convert(place, own, drawn)] for place in places]


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value


def import_rows(path: Path, *, split: str = "", on_bad: OnBad = None) -> Iterator[Row]:
    """Read rows, ours or anybody's whose answer is one box, with two points or none.

    The user's last message asks (``<ref-object>`` in it is replaced by its words) and the assistant's answer; the
    category is ``objects.ref`` where that has one entry. The picture's size is read from the file where the row has no
    ``extra_info`` that says it.

    Parameters
    ----------
    split : str
        The split of rows that don't say one.
    """

    def read(line: dict[str, Any], name: str) -> Row:
        return _row(line, name, split, path.parent)

    return read_each(path, json_lines(path), read, on_bad)


def _row(line: dict[str, Any], name: str, split: str, home: Path) -> Row:
    prompt, found, refs = _conversation(line)
    extra = mapping_of(line.get("extra_info"), "extra_info")
    if len(refs) == 1:
        extra = {"category": refs[0], **extra}
    objects = mapping_of(line.get("objects"), "objects")
    norm = objects.get("bbox_type") == "norm1"
    images = line.get("images") or ([line["image"]] if line.get("image") else [])
    images = [images] if isinstance(images, str | dict) else images
    if objects.get("image_id") and any(each != 0 for each in _listed(objects, "image_id")):
        raise FieldError("objects.image_id", "the answer isn't in the first picture; put that one first")
    record = {
        "prompt": prompt,
        "images": images,
        "masks": mask_of(line.get("mask")),
        "extra_info": extra,
        **{column: value for column, value in line.items() if column not in (*_OWN, "image")},
    }
    truth = line.get("ground_truth")
    if truth is not None:
        row = row_from({**record, "reward_model": {"ground_truth": truth}}, name, split)
        usual = _boxes(row, "norm1" if norm else "real")[: len(found) or None]
        if found == usual or (row.absent and not found):
            return row
        size = list(row.image_size)
        extra = {**extra, "coordinates": None, "image_size": None, "facts": None}
    else:
        size = known_size(
            extra.get("image_size"), home / (str(images[0]) if images and isinstance(images[0], str) else "")
        )
    said: dict[str, Any] = {"image_size": size, "coordinates": "0-1" if norm else "pixels"}
    said |= {"bbox_2d": found[0], "point_2d": found[1:]} if found else {"absent": True}
    return row_from({**record, "extra_info": extra, "reward_model": {"ground_truth": said}}, name, split)


def _conversation(line: dict[str, Any]) -> tuple[list[dict[str, Any]], list[list[float]], list[str]]:
    """Return the messages that ask, the box and the points of the answer, and the words for the target."""
    messages = line.get("messages")
    if not isinstance(messages, list) or not all(
        isinstance(each, dict) and isinstance(each.get("content"), str) for each in messages
    ):
        raise FieldError("messages", "expected a list of messages with role and content, as text")
    objects = mapping_of(line.get("objects"), "objects")
    refs, boxes = _listed(objects, "ref"), _listed(objects, "bbox")
    if not all(isinstance(ref, str) for ref in refs):
        raise FieldError("objects.ref", "expected a list of words")
    next_ref, next_box = iter(refs), iter(boxes)
    prompt, found = [], []
    for message in messages:
        answers = message.get("role") == "assistant"

        def filled(token: re.Match[str], answers: bool = answers) -> str:
            if token[0] == "<ref-object>":
                return next(next_ref, token[0])
            box = next(next_box, None)
            if box is not None and not answers:
                raise FieldError("messages", "asks about a box instead of for one; drop the row")
            if box is not None:
                found.append(box)
            return token[0]

        prompt.append({**message, "content": _TOKENS.sub(filled, message["content"])})
    if prompt and prompt[-1].get("role") == "assistant":
        prompt.pop()
    boxed = [box for box in found if are_numbers(box, 4)]
    points = [box for box in found if are_numbers(box, 2)]
    if len(boxed) + len(points) != len(found) or len(boxed) > 1 or len(points) not in (0, 2) or (points and not boxed):
        raise FieldError(
            "objects.bbox",
            f"the answer has {len(boxed)} boxes and {len(points)} points; a row has one box, and two points or none",
        )
    if boxed and (boxed[0][0] > boxed[0][2] or boxed[0][1] > boxed[0][3]):  # ms-swift swaps such corners too
        x1, y1, x2, y2 = boxed[0]
        boxed = [[min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]]
    return bare(prompt, line.get("question")), boxed + points, refs


def _listed(objects: dict[str, Any], key: str) -> list[Any]:
    value = objects.get(key) or []
    if not isinstance(value, list):
        raise FieldError(f"objects.{key}", "expected a list")
    return value

"""COCO's detection layout: one JSON document of images, annotations and categories, masks as run lengths.

Boxes are [x, y, width, height] in pixels, counted from the top left edge; ``area`` is the mask's, in pixels as
pycocotools has it. An annotation's key ``medground`` holds the question, the reasoning and the rest of the row. A
question whose target isn't in the picture can't be an annotation, which has a box: those stand under the document's key
``absent``.

Not held: a mask's file name, system messages and further images of a prompt, pictures that aren't files; values that
JSON can't hold are left out and told. Readers of COCO hold the whole document in memory, and so does `import_rows`;
`export_rows` holds the list of pictures and the absent targets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from medground._io import make_folder, write_bytes
from medground.coords import Space, convert, space_named
from medground.data.fields import FieldError, are_numbers, mapping_of
from medground.data.layouts._shared import (
    Files,
    Notes,
    OnBad,
    OnNote,
    columns_of,
    extra_of,
    on_ruler,
    pictures,
    read_each,
    row_from,
)
from medground.data.rows import Picture, Row
from medground.errors import ConfigError, TruthError
from medground.masks import decode_rle, encode_rle
from medground.types import Mask

__all__ = ["export_rows", "import_rows"]

_MAX_PIXELS = 1 << 28


def export_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    root: str | Path | None = None,
    copy_images: bool = False,
    coordinates: str | None = None,
    on_note: OnNote = None,
) -> int:
    """Write rows; see `medground.data.layouts.export_rows`. Masks are read, and must have the picture's size."""
    document = _Document(Files(path.parent, root, copy=copy_images), Notes("coco", on_note))

    def chunks() -> Iterator[bytes]:
        yield b'{"annotations": ['
        separator = b"\n"
        for row in on_ruler(rows, coordinates):
            try:
                annotation = document.annotation(row)
            except (FieldError, TruthError) as error:
                raise TruthError(f"row {row.id}: {error}") from error
            if annotation is not None:
                yield separator + _json(annotation)
                separator = b",\n"
        yield b"\n]"
        for key, values in document.lists().items():
            yield f',\n"{key}": ['.encode() + b",\n".join(map(_json, values)) + b"]"
        yield b"}\n"

    make_folder(path.parent)
    write_bytes(path, chunks())
    document.notes.tell()
    return document.count


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


class _Document:
    def __init__(self, files: Files, notes: Notes) -> None:
        self.files, self.notes = files, notes
        self.images: dict[str, dict[str, Any]] = {}
        self.categories: dict[str, dict[str, Any]] = {}
        self.absent: list[dict[str, Any]] = []
        self.count = 0

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is known when the last annotation is written."""
        found = {"images": list(self.images.values()), "categories": list(self.categories.values())}
        return found | ({"absent": self.absent} if self.absent else {})

    def annotation(self, row: Row) -> dict[str, Any] | None:
        """Return a row's annotation, or None for one whose target is absent."""
        self.count += 1
        width, height = row.image_size
        name = self.files.image(row.image)
        image = self.images.setdefault(
            name, {"id": len(self.images) + 1, "file_name": name, "width": width, "height": height}
        )
        if (image["width"], image["height"]) != (width, height):
            raise TruthError(
                f"image_size: {width} x {height}, but an earlier row says {image['width']} x {image['height']} of "
                "the same picture; make them agree"
            )
        category = self.categories.setdefault(
            row.category, {"id": len(self.categories) + 1, "name": row.category, "supercategory": row.supercategory}
        )
        if len(pictures(row)) > 1 or "prompt" in (row.other.get("kept") or {}):
            self.notes.add("further images or the prompt around the question are left out")
        annotation = {
            "id": self.count,
            "image_id": image["id"],
            "category_id": category["id"],
            "medground": {
                "question": row.question,
                "reasoning": row.reasoning,
                "ground_truth": row.ground_truth(),
                "extra_info": extra_of(row, self.notes),
                "columns": columns_of(row, (), self.notes),
            },
        }
        if row.box is None:
            self.absent.append(annotation)
            return None
        box = _xywh(row)
        annotation |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        if row.mask is None:
            self.notes.add("no mask, so there is no segmentation and the area is the box's")
            return annotation
        mask = row.mask.mask(self.files.start)
        if mask.shape != (height, width):
            raise TruthError(
                f"mask: {mask.shape[1]} x {mask.shape[0]} isn't the picture's size, {width} x {height}; resize it"
            )
        return annotation | {"area": int(mask.sum()), "segmentation": encode_rle(mask)}


def _xywh(row: Row) -> list[float]:
    assert row.box is not None  # noqa: S101 - for the type checker
    own = space_named(row.coordinates, *row.image_size)
    x1, y1, x2, y2 = convert(row.box, own, Space.pixels(*row.image_size))
    return [int(value) if value == int(value) else value for value in (x1, y1, x2 - x1, y2 - y1)]


def import_rows(
    path: Path, *, images: str = "", question: str | None = None, split: str = "", on_bad: OnBad = None
) -> Iterator[Row]:
    """Read the annotations of a document, ours or anybody's, and then the absent targets.

    A box or mask that was edited in another tool counts, and the key points and facts of the row are then dropped.
    Segmentations may be run lengths, compressed or not, or polygons.

    Parameters
    ----------
    images : str
        Folder of the pictures, where ``file_name`` doesn't start at the document's own.
    question : str, optional
        What to ask where an annotation has no question; ``{category}`` in it is replaced by the category's name.
    split : str
        The split of rows that don't say one.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror or error}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: isn't JSON ({error}); is it a COCO document?") from error
    lists: dict[str, list[dict[str, Any]]] = {}
    for key in ("images", "annotations", "categories", "absent"):
        found = document.get(key, [] if key == "absent" else None) if isinstance(document, dict) else None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise ConfigError(f"{path}: {key}: expected a list of objects; is it a COCO document?")
        lists[key] = found
    known = {_key(each.get("id")): each for each in lists["images"]}
    names = {_key(each.get("id")): each for each in lists["categories"]}

    def read(annotation: dict[str, Any], _: str) -> Row:
        return _row(annotation, known, names, images, question, split, path.stem)

    numbered = ((each.get("id"), each) for each in lists["annotations"] + lists["absent"])
    return read_each(path, numbered, read, on_bad, unit=" annotation ")


def _row(
    annotation: dict[str, Any],
    images: dict[Any, dict[str, Any]],
    categories: dict[Any, dict[str, Any]],
    folder: str,
    question: str | None,
    split: str,
    stem: str,
) -> Row:
    image = images.get(_key(annotation.get("image_id")))
    if image is None:
        raise FieldError("image_id", "is none of the images; mend or drop the annotation")
    category = categories.get(_key(annotation.get("category_id")), {})
    said = mapping_of(annotation.get("medground"), "medground")
    name = str(category.get("name") or "")
    asked = said.get("question") or (question and question.replace("{category}", name))
    if not asked:
        raise FieldError(
            "medground.question", 'is missing; give what to ask, such as question="Where is the {category}?"'
        )
    mask = _mask(annotation, image) if annotation.get("segmentation") else None
    size = [image.get("width"), image.get("height")]
    record = {
        "prompt": [{"role": "user", "content": f"<image>{asked}"}],
        "images": [str(Path(folder, str(image.get("file_name") or "")).as_posix())],
        "masks": [] if mask is None else [{"bytes": Picture.of_mask(mask).data}],
        "extra_info": {
            "category": name,
            "supercategory": category.get("supercategory") or "",
            "think": said.get("reasoning"),
            "image_size": size,
            **mapping_of(said.get("extra_info"), "medground.extra_info"),
        },
        **mapping_of(said.get("columns"), "medground.columns"),
    }
    stored = said.get("ground_truth")
    row_name = f"{stem}/{annotation.get('id')}"
    box = annotation.get("bbox")
    if stored is not None:
        row = row_from({**record, "reward_model": {"ground_truth": stored}}, row_name, split)
        if row.absent or box == _xywh(row):
            return row
    if not isinstance(box, list) or not are_numbers(box, 4):
        raise FieldError("bbox", "expected [x, y, width, height], four numbers of pixels")
    x, y, width, height = box
    truth = {"bbox_2d": [x, y, x + width, y + height], "image_size": size}
    ruler = {"coordinates": None, "image_size": None, "facts": None}
    record["extra_info"] |= ruler
    return row_from({**record, "reward_model": {"ground_truth": truth}}, row_name, split)


def _key(value: Any) -> int | str | None:
    return value if isinstance(value, int | str) else None


def _mask(annotation: dict[str, Any], image: dict[str, Any]) -> Mask:
    """Return the mask of a segmentation: run lengths, compressed or not, or polygons."""
    from pycocotools import mask as coco

    given = annotation["segmentation"]
    try:
        height, width = int(image["height"]), int(image["width"])
        if not 0 < height * width <= _MAX_PIXELS:
            raise ValueError("the picture's size isn't positive, or over 268 million pixels")
        if isinstance(given, dict) and isinstance(given["counts"], list):
            if list(given["size"]) != [height, width] or sum(given["counts"]) != height * width:
                raise ValueError("the runs don't fill the picture")
            given = coco.frPyObjects(given, height, width)
        elif isinstance(given, list):
            given = coco.merge(coco.frPyObjects(given, height, width))
        drawn = decode_rle(given)
    except Exception as error:  # pycocotools raises whatever it stumbles over
        raise FieldError("segmentation", f"can't be read ({error}); mend or drop the annotation") from None
    if drawn.shape != (height, width):
        raise FieldError(
            "segmentation", f"{drawn.shape[1]} x {drawn.shape[0]} isn't the picture's size, {width} x {height}; mend it"
        )
    return drawn

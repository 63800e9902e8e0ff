"""Answers as files: a picture, JSON, COCO, DICOM."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.concurrency import run_in_threadpool

from medground import RESEARCH_USE
from medground.drawing import overlay, png
from medground.errors import MedgroundError
from medground.image_files import quiet
from medground.images import MedicalImage
from medground.masks import box_of, decode_rle, encode_rle
from medground.serve.fields import ExportFields, FileKind
from medground.serve.images import Upload, as_file
from medground.serve.reading import body_schema, read_fields
from medground.serve.service import Service
from medground.serve.waiting import Caller, Serving, box_in, find_upload, picture_of, points_in
from medground.types import Grounding, Result

__all__ = ["coco", "dicom_file", "router"]

router = APIRouter(tags=["answers"])

_FILES = {
    "png": ("medground.png", "image/png"),
    "json": ("medground.json", "application/json"),
    "coco": ("medground.coco.json", "application/json"),
    "dicom-seg": ("medground.seg.dcm", "application/dicom"),
    "dicom-sr": ("medground.sr.dcm", "application/dicom"),
}


@router.post("/v1/export/{kind}", response_class=Response, openapi_extra=body_schema(ExportFields, form=False))
async def export(kind: FileKind, request: Request, service: Serving, caller: Caller) -> Response:
    """Write an answer, perhaps corrected, as a file. DICOM objects need an image that was a DICOM."""
    fields, _ = await read_fields(request, ExportFields)
    image = await picture_of(service, caller, fields, fields.image)
    source = find_upload(service.images, fields.image, caller)
    result = await run_in_threadpool(result_of, service, fields, image)
    content = await run_in_threadpool(_file, kind, fields, image, result, source)
    name, media_type = _FILES[kind]
    return Response(content, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'})


def result_of(service: Service, fields: ExportFields, image: MedicalImage) -> Result:
    """Return what a client says as the result that it was, or was made into."""
    box, points = box_in(image, fields.box), points_in(image, fields.points)
    mask = None
    if fields.mask is not None:
        if fields.mask.size != [image.height, image.width]:
            raise HTTPException(422, f"mask.size: isn't that of the picture, [{image.height}, {image.width}]")
        mask = decode_rle(fields.mask.model_dump())
    said = Grounding(fields.reasoning, () if box is None else (box,), points, image.space)
    segmenter = service.grounder.segmenter
    named = "none" if segmenter is None else segmenter.name
    return Result(said, mask, service.grounder.reasoner.name, named, provenance=image.provenance)


def _file(kind: FileKind, fields: ExportFields, image: MedicalImage, result: Result, source: Upload) -> bytes:
    if kind == "png":
        return png(overlay(image, result))
    if kind == "json":
        return _json({**result.to_dict(), "question": fields.question, "label": fields.label, "notice": RESEARCH_USE})
    if kind == "coco":
        return _json(coco(result, fields.label or "target"))
    return dicom_file(kind, result, source, fields.label)


def coco(result: Result, label: str) -> dict[str, Any]:
    """Return a result as a COCO data set of one picture: XYWH box, compressed run lengths, key points.

    Examples
    --------
    >>> from medground.coords import Space
    >>> from medground.types import Box
    >>> space = Space.pixels(64, 48)
    >>> said = Grounding("", (Box(4, 6, 20, 16, space),), (), space)
    >>> coco(Result(said, None, "nano", "none"), "polyp")["annotations"][0]["bbox"]
    [4, 6, 16, 10]
    """
    space = result.grounding.space
    annotation: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0}
    box = result.box
    if box is None and result.mask is not None and result.mask.any():
        box = box_of(result.mask)
    if box is not None:
        x1, y1, x2, y2 = box.xyxy
        annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": box.area}
    if result.mask is not None:
        annotation |= {"segmentation": encode_rle(result.mask), "area": int(result.mask.sum())}
    category: dict[str, Any] = {"id": 1, "name": label, "supercategory": ""}
    if result.points:
        category |= {"keypoints": [f"point {number + 1}" for number in range(len(result.points))], "skeleton": []}
    annotation["keypoints"] = [value for point in result.points for value in (point.x, point.y, 2)]
    annotation["num_keypoints"] = len(result.points)
    return {
        "info": {"description": f"medground: {RESEARCH_USE}"},
        "images": [{"id": 1, "file_name": "upload", "width": int(space.width), "height": int(space.height)}],
        "categories": [category],
        "annotations": [annotation] if box is not None else [],
    }


def dicom_file(kind: FileKind, result: Result, source: Upload, label: str) -> bytes:
    """Return a result as a DICOM-SEG or SR on its source; answers 422 where there is none to be made."""
    from medground.dicom import make_dicom

    if source.usual.format != "dicom":
        raise HTTPException(422, "image: DICOM objects can only be made for a DICOM image; take another format")
    with as_file(source.content) as path:
        try:
            seg, sr = make_dicom(result, path, target=label or None)
        except MedgroundError as error:
            raise type(error)(str(error).replace(str(path), "the image").replace(path.name, "the image")) from None
    made = seg if kind == "dicom-seg" else sr
    if made is None:
        raise HTTPException(422, "mask: it is missing or empty, so there is nothing for a DICOM-SEG")
    stream = BytesIO()
    with quiet():
        made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"

"""MONAI Label's wire, as its plugins for 3D Slicer and OHIF speak it (MONAI Label 0.8): sessions, and inference.

Two models are offered: ``medground`` takes a question from the options that the plugins let people edit, and the
segmenter takes points and a region of interest. Answers are label volumes on the grid of the image. There is no data
store: an image is one that was opened as a session or uploaded, and is named by its id or, for DICOM, by the UID of its
series.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from medground import RESEARCH_USE, __version__
from medground.image_files import Axis
from medground.images import MedicalImage
from medground.prompts import MAX_QUESTION, Mode
from medground.segmenters import Prompt
from medground.serve.answer_routes import question_of
from medground.serve.export_routes import dicom_file
from medground.serve.fields import GroundFields, Index, Number, ViewFields
from medground.serve.image_routes import keep
from medground.serve.images import Upload, View
from medground.serve.reading import BINARY, form_schema, read_form
from medground.serve.service import Service
from medground.serve.volumes import Grid, grid_of
from medground.serve.waiting import Caller, Serving, answered, find_upload, picture_of
from medground.types import Grounding, Result

__all__ = ["router"]

router = APIRouter(tags=["MONAI Label"])

MODEL = "medground"
LABEL = "target"
Voxel = Annotated[list[Number], Field(min_length=3, max_length=3)]


class InferFields(BaseModel):
    """The ``params`` of a request; others that plugins send are of no use here."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    question: Annotated[str, Field(max_length=MAX_QUESTION)] = ""
    mode: Mode = "reason"
    axis: Axis | Literal[""] = ""
    slice: Annotated[int, Field(ge=-1, le=1 << 20)] | None = None
    frame: Index | None = None
    foreground: Annotated[list[Voxel], Field(max_length=64)] = []
    background: Annotated[list[Voxel], Field(max_length=64)] = []
    roi: Annotated[list[Number], Field(max_length=6)] = []
    label: Annotated[str, Field(max_length=64)] = ""
    result_extension: Literal[".nii.gz", ".nii", ".nrrd"] = ".nii.gz"


@router.get("/info/")
def info(service: Serving) -> dict[str, Any]:
    """Describe the models as the plugins expect it."""
    segmenter = service.grounder.segmenter
    models: dict[str, Any] = {
        MODEL: {
            "type": "segmentation",
            "labels": [LABEL],
            "dimension": 2,
            "description": "Answers a question about one slice; write it into the option 'question'",
            "config": {"question": "", "axis": "", "slice": -1, "mode": "reason"},
        }
    }
    if segmenter is not None:
        models[segmenter.name] = {
            "type": "deepgrow",
            "labels": [LABEL],
            "dimension": 2,
            "description": "Segments what a region of interest or points show on one slice",
            "config": {},
        }
    return {
        "name": "medground",
        "description": RESEARCH_USE,
        "version": __version__,
        "labels": [LABEL],
        "models": models,
        "trainers": {},
        "strategies": {},
        "scoring": {},
        "train_stats": {},
        "datastore": {},
    }


@router.get("/auth/")
def auth(request: Request) -> dict[str, bool]:
    """Say whether a token is needed."""
    return {"enabled": request.app.state.tokens}


@router.post("/auth/token")
def auth_token(request: Request, password: Annotated[str, Form(max_length=500)] = "") -> dict[str, str]:
    """Take the token as a password, whatever the user's name, as the plugins ask people for one."""
    if not request.app.state.knows(password):
        raise HTTPException(401, "that isn't a token of this server; its password is the token")
    return {"access_token": password, "token_type": "bearer"}


@router.get("/auth/token/valid")
def auth_valid() -> dict[str, bool]:
    """Answer whoever showed a token that is known."""
    return {"valid": True}


@router.put("/session/", openapi_extra=form_schema(files=BINARY))
async def open_session(request: Request, service: Serving, caller: Caller) -> dict[str, Any]:
    """Keep the one file of the form's field ``files``; the session's id is the image's."""
    _, content = await read_form(request, "files")
    if content is None:
        raise HTTPException(422, "files: send the image in this field of the form")
    upload = await run_in_threadpool(keep, service.images, content, View(), caller)
    return {"session_id": upload.id, "session_info": _session(upload.id)}


@router.get("/session/{session}")
def look_at_session(session: str, service: Serving, caller: Caller) -> dict[str, Any]:
    """Say whether a session is still known."""
    return _session(find_upload(service.images, session, caller).id)


@router.delete("/session/{session}")
def end_session(session: str, service: Serving, caller: Caller) -> dict[str, Any]:
    """Forget a session's image."""
    told = _session(find_upload(service.images, session, caller).id)
    service.images.forget(session, caller)
    return told


@router.post(
    "/infer/{model}",
    response_class=Response,
    openapi_extra=form_schema(params=InferFields.model_json_schema(), file=BINARY),
)
async def infer(
    model: str,
    request: Request,
    service: Serving,
    caller: Caller,
    image: str = "",
    session_id: str = "",
    output: Literal["image", "json", "all", "dicom_seg"] | None = None,
) -> Response:
    """Answer for one slice: a label volume on the image's grid, and what was found as ``params``."""
    form, content = await read_form(request)
    fields = InferFields.model_validate_json(form.get("params") or "{}")
    named = service.grounder.segmenter
    if model != MODEL and (named is None or model != named.name):
        raise HTTPException(404, "there is no such model; GET /info/ lists them")
    if content is not None:
        upload = await run_in_threadpool(keep, service.images, content, View(), caller)
    else:
        upload = service.images.by_series(image, caller) or find_upload(service.images, session_id or image, caller)
    grid = await run_in_threadpool(grid_of, upload)
    view = _view(fields, grid)
    picture = await picture_of(service, caller, view, upload.id)
    if model == MODEL:
        result = await _ask(request, service, caller, upload, fields, view)
    else:
        result = await _point(request, service, fields, grid, picture)
    return await run_in_threadpool(_response, result, grid, upload, fields, output)


def _session(name: str) -> dict[str, Any]:
    return {"name": name, "image": name}


def _view(fields: InferFields, grid: Grid) -> ViewFields:
    shown = fields.foreground or fields.background
    if shown:
        return grid.view_through(shown[-1], fields.axis or None)
    if len(fields.roi) == 6:
        low, high = fields.roi[::2], fields.roi[1::2]
        return grid.view_through([(one + two) / 2 for one, two in zip(low, high, strict=True)], fields.axis or None)
    where = None if fields.slice is None or fields.slice < 0 else fields.slice
    if grid.orientation is None:
        return ViewFields(frame=fields.frame if where is None else where)
    return ViewFields(axis=fields.axis or None, slice=where, frame=fields.frame)


async def _ask(
    request: Request, service: Service, caller: str, upload: Upload, fields: InferFields, view: ViewFields
) -> Result:
    if not fields.question.strip():
        raise HTTPException(422, "question: write what to look for into the model's option 'question'")
    asked = GroundFields(image=upload.id, question=fields.question, mode=fields.mode, **view.model_dump())
    question = await run_in_threadpool(question_of, service, caller, asked, None)
    result: Result = await answered(request, service.ground(question))
    return result


async def _point(request: Request, service: Service, fields: InferFields, grid: Grid, picture: MedicalImage) -> Result:
    points = tuple(place for voxel in fields.foreground if (place := grid.point(voxel, picture)) is not None)
    box = grid.box(fields.roi, picture) if fields.roi else None
    if box is None and not points:
        raise HTTPException(422, "roi: give a region of interest or points in 'foreground' that lie on one slice")
    prediction = await answered(request, service.segment(picture, Prompt(box, points)))
    notes = [*prediction.notes, *(["background points aren't used"] if fields.background else [])]
    said = Grounding("", () if box is None else (box,), points, picture.space)
    named = service.grounder.segmenter_name
    return Result(said, prediction.mask, "none", named, tuple(notes), provenance=picture.provenance)


def _response(result: Result, grid: Grid, upload: Upload, fields: InferFields, output: str | None) -> Response:
    label = fields.label or LABEL
    if output == "dicom_seg":
        content = dicom_file("dicom-seg", result, upload, label)
        return Response(content, media_type="application/dicom")
    told = {name: value for name, value in result.to_dict().items() if name != "mask"}
    told |= {"label_names": {label: 1}, "research_use": RESEARCH_USE}
    if output == "json" or result.mask is None:
        return JSONResponse(told)
    volume = grid.file(grid.labels(result), fields.result_extension)
    if output == "image":
        return Response(volume, media_type="application/octet-stream")
    boundary = secrets.token_hex(16)
    edge = f"--{boundary}".encode()
    lines = (
        edge,
        b'Content-Disposition: form-data; name="params"',
        b"Content-Type: application/json",
        b"",
        json.dumps(told, allow_nan=False).encode(),
        edge,
        f'Content-Disposition: form-data; name="image"; filename="medground{fields.result_extension}"'.encode(),
        b"Content-Type: application/octet-stream",
        b"",
        volume,
        edge + b"--",
        b"",
    )
    return Response(b"\r\n".join(lines), media_type=f"multipart/form-data; boundary={boundary}")

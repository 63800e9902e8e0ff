"""Uploads and examples: in, looked at, forgotten."""

from __future__ import annotations

import io
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from medground.demo import CASES, Case
from medground.errors import ImageError, MedgroundError
from medground.serve.fields import ViewFields
from medground.serve.images import Images, Upload, View
from medground.serve.reading import body_schema, read_form
from medground.serve.service import Service
from medground.serve.waiting import Caller, Serving, find_upload, picture_of, refusal

__all__ = ["keep", "router"]

router = APIRouter(tags=["images"])


@router.post("/v1/images", openapi_extra=body_schema(ViewFields, json=False))
async def upload(request: Request, service: Serving, caller: Caller) -> dict[str, Any]:
    """Keep an image for a while: PNG, JPEG, TIFF, BMP, DICOM or NIfTI, as the field ``file`` of a form."""
    fields, content = await read_form(request)
    view = ViewFields.model_validate(fields).view()
    if content is None:
        raise HTTPException(422, "file: send the image in this field of the form")
    return await run_in_threadpool(_add, service, content, view, caller)


@router.get("/v1/images/{image}/view.png", response_class=Response)
async def view(
    image: str,
    service: Serving,
    caller: Caller,
    frame: str | None = None,
    slice: str | None = None,
    axis: str | None = None,
    window: str | None = None,
) -> Response:
    """Return the picture as the models see it: RGB PNG. ``window`` is ``centre,width``."""
    given = {"frame": frame, "slice": slice, "axis": axis, "window": window}
    fields = ViewFields.model_validate({name: value for name, value in given.items() if value})
    picture = await picture_of(service, caller, fields, image)
    return await run_in_threadpool(_png, picture.rgb)


@router.delete("/v1/images/{image}", status_code=204)
async def forget(image: str, service: Serving, caller: Caller) -> None:
    """Forget an upload now."""
    find_upload(service.images, image, caller)
    service.images.forget(image, caller)


@router.get("/v1/examples")
def examples() -> list[dict[str, str]]:
    """List real images that installed packages carry, with a question for each."""
    return [
        {
            "id": name,
            "title": case.title,
            "question": case.question,
            "credit": case.credit,
            "licence": LICENCES[case.package],
        }
        for name, case in _installed().items()
    ]


@router.post("/v1/examples/{example}")
async def take_example(example: str, service: Serving, caller: Caller) -> dict[str, Any]:
    """Open an example as if it had been uploaded."""
    case = _installed().get(example)
    if case is None:
        raise HTTPException(404, "there is no such example; GET /v1/examples lists them")
    return await run_in_threadpool(_add, service, case.path().read_bytes(), View(**case.reading), caller)


LICENCES = {
    "skimage": "CC0",
    "nilearn": "free to use, copy, modify and distribute with its copyright notice (McConnell Brain Imaging Centre)",
    "pydicom": "MIT, as pydicom",
}


def _installed() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for number, case in enumerate(CASES, 1):
        try:
            case.path()
        except MedgroundError:
            continue
        found[f"{case.package}-{number}"] = case
    return found


def keep(images: Images, content: bytes, view: View, caller: str) -> Upload:
    """Keep an upload; answers 413, 415 or 422 where it or the view is at fault."""
    try:
        return images.add(content, view, caller)
    except ImageError as error:
        raise refusal(images, content, view, error) from None


def _add(service: Service, content: bytes, view: View, caller: str) -> dict[str, Any]:
    return service.images.describe(keep(service.images, content, view, caller))


def _png(rgb: Any) -> Response:
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", compress_level=1)
    return Response(stream.getvalue(), media_type="image/png")

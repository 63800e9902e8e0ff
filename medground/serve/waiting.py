"""Waiting for a lane's answer as long as the client does."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from medground.errors import ImageError
from medground.images import MedicalImage
from medground.serve.fields import ViewFields
from medground.serve.images import Images, UnknownImageError, Upload, View
from medground.serve.lane import Work
from medground.serve.service import Service
from medground.types import Box, Point

__all__ = [
    "Caller",
    "LeftError",
    "Serving",
    "answered",
    "box_in",
    "find_picture",
    "find_upload",
    "picture_of",
    "points_in",
]


class LeftError(Exception):
    """The client went away."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> str:
    caller: str = request.state.caller
    return caller


Serving = Annotated[Service, Depends(_service)]
Caller = Annotated[str, Depends(_caller)]


async def answered(request: Request, work: Work) -> Any:
    """Return a work's answer; where the client goes away first, drop the work and raise LeftError."""
    answer = asyncio.wrap_future(work.answer)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            request.app.state.service.metrics.left.inc()
            raise LeftError
        return answer.result()
    finally:
        gone.cancel()
        work.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def find_upload(images: Images, name: str, caller: str) -> Upload:
    """Return an upload; answers 404 where it isn't known, or no longer."""
    try:
        return images.get(name, caller)
    except UnknownImageError:
        raise HTTPException(404, "this image isn't known, or was forgotten; upload it again") from None


async def picture_of(
    service: Service, caller: str, fields: ViewFields, name: str | None, content: bytes | None = None
) -> MedicalImage:
    """Return the picture that a request is about: of an upload, or of the file that came with it."""
    return await run_in_threadpool(find_picture, service, caller, fields, name, content)


def find_picture(
    service: Service, caller: str, fields: ViewFields, name: str | None, content: bytes | None = None
) -> MedicalImage:
    """Return the same, in this thread."""
    if (name is None) == (content is None):
        raise HTTPException(422, "image: give the id of an upload, or send a form with a file")
    if content is not None:
        return read_first(service.images, content, fields.view())
    upload = find_upload(service.images, name or "", caller)
    try:
        return service.images.picture(upload, fields.view())
    except ImageError as error:  # the upload itself was read before, so what the fields ask for is at fault
        raise HTTPException(422, str(error)) from None


def read_first(images: Images, content: bytes, view: View) -> MedicalImage:
    """Read a file that wasn't read before; answers 413 or 415 where it is at fault, and 422 where the view is."""
    try:
        return images.read(content, view)
    except ImageError as error:
        raise refusal(images, content, view, error) from None


def refusal(images: Images, content: bytes, view: View, error: ImageError) -> HTTPException:
    """Return what tells whether a file is too large, no image, or lacks what the view asks for."""
    status = 415 if view == View() else 422
    if status == 422:
        try:
            images.read(content, View())
        except ImageError as own:
            status, error = 415, own
    return HTTPException(413 if "above the limit" in str(error) else status, str(error))


def box_in(image: MedicalImage, corners: list[float] | None) -> Box | None:
    """Return a client's box, clipped to the picture; answers 422 where it has no area there."""
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    try:
        return Box(x1, y1, x2, y2, image.space).clipped()
    except ValueError:
        raise HTTPException(
            422, f"the box has no area in the picture: give x1 < x2 and y1 < y2 within {image.width} x {image.height}"
        ) from None


def points_in(image: MedicalImage, places: list[list[float]]) -> tuple[Point, ...]:
    """Return a client's points, moved into the picture."""
    return tuple(Point(x, y, image.space).clipped() for x, y in places)

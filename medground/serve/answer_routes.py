"""Questions and prompts about an image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from medground import RESEARCH_USE, __version__
from medground.asking import visual_of
from medground.images import MedicalImage
from medground.masks import encode_rle
from medground.segmenters import MaskPrediction, Prompt
from medground.serve.fields import AskFields, GroundFields, SegmentFields
from medground.serve.reading import body_schema, read_fields
from medground.serve.service import Question, Service, checked
from medground.serve.streaming import streamed, wants_events
from medground.serve.waiting import Caller, Serving, answered, box_in, find_picture, picture_of, points_in
from medground.types import Box, LocatedRegion

__all__ = ["question_of", "router"]

router = APIRouter(tags=["answers"])


@router.get("/v1/models")
def models(service: Serving) -> dict[str, Any]:
    """Say which models answer, the prompts that masks are drawn from, and whether where-questions may have regions."""
    segmenter = service.grounder.segmenter
    return {
        "reasoner": service.grounder.reasoner.name,
        "segmenter": "none" if segmenter is None else segmenter.name,
        "prompts": [] if segmenter is None else sorted(segmenter.trained_prompts),
        "follows_regions": service.follows_regions,
        "version": __version__,
        "research_use": RESEARCH_USE,
    }


@router.post("/v1/ground", openapi_extra=body_schema(GroundFields))
async def ground(request: Request, service: Serving, caller: Caller) -> Response:
    """Answer where something is: reasoning, a box, two key points and a mask, in source pixels.

    With ``Accept: text/event-stream`` the reasoning comes as it is written: events ``reasoning``, ``location``,
    ``mask``, and ``done`` or ``error``.
    """
    fields, content = await read_fields(request, GroundFields)
    question = await run_in_threadpool(question_of, service, caller, fields, content)
    if wants_events(request):
        return streamed(service, question)
    result = await answered(request, service.ground(question))
    return JSONResponse(await run_in_threadpool(result.to_dict))


@router.post("/v1/ask", openapi_extra=body_schema(AskFields))
async def ask(request: Request, service: Serving, caller: Caller) -> Response:
    """Answer a visual question: in words, yes or no, or by letters of choices, with the regions that it rests on.

    Events as for ``/v1/ground``; ``location`` then holds the regions.
    """
    fields, content = await read_fields(request, AskFields)
    question = await run_in_threadpool(question_of, service, caller, fields, content)
    if wants_events(request):
        return streamed(service, question)
    reply = await answered(request, service.ask(question))
    return JSONResponse(await run_in_threadpool(reply.to_dict))


@router.post("/v1/segment", openapi_extra=body_schema(SegmentFields, form=False))
async def segment(request: Request, service: Serving, caller: Caller) -> Response:
    """Draw the mask of what a box, points, or both point at, without a question."""
    fields, _ = await read_fields(request, SegmentFields)
    image = await picture_of(service, caller, fields, fields.image)
    box, points = box_in(image, fields.box), points_in(image, fields.points)
    if box is None and not points:
        raise HTTPException(422, "box: give a box or at least one point")
    prediction = await answered(request, service.segment(image, Prompt(box, points)))
    return JSONResponse(await run_in_threadpool(_told, prediction))


def question_of(service: Service, caller: str, fields: GroundFields | AskFields, content: bytes | None) -> Question:
    """Return a request's question, checked; reads the picture, so not for the event loop."""
    text = checked(fields.question)
    image = find_picture(service, caller, fields, fields.image, content)
    limit = None if fields.max_new_tokens is None else min(fields.max_new_tokens, service.limits.new_tokens)
    asked = Question(image, text, fields.mode, fields.temperature, limit)
    if isinstance(fields, GroundFields):
        asked = replace(asked, region=box_in(image, fields.region))
        checked(service.said(asked))  # the region's words may make it too long
        return asked
    earlier = [LocatedRegion(one.ref, _there(image, one.box), None) for one in fields.earlier]
    return replace(asked, visual=visual_of(fields.choices, fields.question_type, earlier))


def _there(image: MedicalImage, corners: list[float]) -> Box:
    box = box_in(image, corners)
    assert box is not None  # noqa: S101  for the type checker: there are corners
    return box


def _told(prediction: MaskPrediction) -> dict[str, Any]:
    return {
        "mask": encode_rle(prediction.mask),
        "score": prediction.score if math.isfinite(prediction.score) else None,
        "notes": list(prediction.notes),
    }

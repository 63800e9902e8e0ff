"""Questions and prompts about an image."""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from medground import RESEARCH_USE, __version__
from medground.masks import encode_rle
from medground.segmenters import MaskPrediction, Prompt
from medground.serve.fields import GroundFields, SegmentFields
from medground.serve.reading import body_schema, read_fields
from medground.serve.service import Question, Service, checked
from medground.serve.streaming import streamed, wants_events
from medground.serve.waiting import Caller, Serving, answered, box_in, picture_of, points_in

__all__ = ["router"]

router = APIRouter(tags=["answers"])


@router.get("/v1/models")
def models(service: Serving) -> dict[str, Any]:
    """Say which models answer."""
    segmenter = service.grounder.segmenter
    return {
        "reasoner": service.grounder.reasoner.name,
        "segmenter": "none" if segmenter is None else segmenter.name,
        "prompts": [] if segmenter is None else sorted(segmenter.trained_prompts),
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
    question = await question_of(service, caller, fields, content)
    if wants_events(request):
        return streamed(service, question)
    result = await answered(request, service.ground(question))
    return JSONResponse(await run_in_threadpool(result.to_dict))


@router.post("/v1/segment", openapi_extra=body_schema(SegmentFields, form=False))
async def segment(request: Request, service: Serving, caller: Caller) -> Response:
    """Draw the mask of what a box, points, or both point at, without a question."""
    fields, _ = await read_fields(request, SegmentFields)
    image = await picture_of(service, caller, fields, fields.image, None)
    box, points = box_in(image, fields.box), points_in(image, fields.points)
    if box is None and not points:
        raise HTTPException(422, "box: give a box or at least one point")
    prediction = await answered(request, service.segment(image, Prompt(box, points)))
    return JSONResponse(await run_in_threadpool(_told, prediction))


async def question_of(service: Service, caller: str, fields: GroundFields, content: bytes | None) -> Question:
    """Return a request's question, checked."""
    text = checked(fields.question)
    image = await picture_of(service, caller, fields, fields.image, content)
    return Question(
        image,
        text,
        fields.mode,
        fields.temperature,
        None if fields.max_new_tokens is None else min(fields.max_new_tokens, service.limits.new_tokens),
        box_in(image, fields.region),
    )


def _told(prediction: MaskPrediction) -> dict[str, Any]:
    return {
        "mask": encode_rle(prediction.mask),
        "score": prediction.score if math.isfinite(prediction.score) else None,
        "notes": list(prediction.notes),
    }

"""The page's server: records and pictures by number, and decisions about them."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medground import RESEARCH_USE
from medground.data.review.decisions import REASONS, Decision, DecisionLog
from medground.data.review.records import Records
from medground.errors import ConfigError, MedgroundError, first_mistake
from medground.pages import page_files
from medground.prompts import MAX_QUESTION, clean_question
from medground.rewards import Facts
from medground.rewards.evidence import claims, holds
from medground.rewards.statements import MAX_READ
from medground.web_guard import NO_TELEMETRY, Guard

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

__all__ = ["Check", "create_app"]

Check = Callable[[Mapping[str, Any]], str | None]
"""Tells why a record can't be in the set, or None."""

SESSION = "/api/session"
DECIDED = ("accept", "edit", "reject")
_TOLD = (
    *("category", "modality", "source", "licence", "tier", "split", "style", "length", "template", "asked_by"),
    *("described_by", "healthy", "absent", "bbox", "points", "width", "height", "parts", "share", "short", "long"),
    *("attributes", "facts", "origin"),
)


class Texts(BaseModel):
    """The texts that a person may change."""

    model_config = ConfigDict(extra="forbid")

    question: Annotated[str, Field(max_length=MAX_QUESTION)]
    reasoning: Annotated[str, Field(max_length=MAX_READ)]


class Said(BaseModel):
    """A decision as the page sends it."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    decision: Literal["accept", "edit", "reject", "undo"]
    question: Annotated[str, Field(max_length=MAX_QUESTION)] | None = None
    reasoning: Annotated[str, Field(max_length=MAX_READ)] | None = None
    reason: Annotated[str, Field(max_length=40)] | None = None
    reviewer: Annotated[str, Field(max_length=80)] = ""


class Token(BaseModel):
    """What opens the page on a server that isn't this machine's alone."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=500)]


def create_app(
    records: Records,
    log: DecisionLog,
    *,
    check: Check | None = None,
    name: str = "",
    token: str | None = None,
    hosts: Collection[str] = (),
    reviewer: str = "",
) -> Guard:
    """Return the page's server, an ASGI application.

    Parameters
    ----------
    records : Records
    log : DecisionLog
    check : callable, optional
        Refuses an edited record by returning why.
    name : str
        The build's, for the page's title.
    token : str or None
        Needed for all but the empty page where it is given.
    hosts : collection of str
        Host names by which the server is known, beside localhost and addresses.
    reviewer : str
        What the page calls its user at first.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=cast("TelemetryConfig", NO_TELEMETRY))
    files = page_files(Path(__file__).parent)
    files[""] = files.pop("page.html")
    guard = Guard(
        app, names=hosts, tokens=() if token is None else (token,), public={SESSION, *(f"/{file}" for file in files)}
    )

    for file, (content, kind) in files.items():
        app.add_api_route(f"/{file}", _page(content, kind), methods=["GET"], response_model=None)

    @app.exception_handler(RequestValidationError)
    def _bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # its "input" may be a question: only the field and the rule are told
        return JSONResponse({"detail": f"{'.'.join(map(str, first['loc'][1:])) or 'body'}: {first['msg']}"}, 422)

    @app.exception_handler(MedgroundError)
    def _cannot(request: Request, error: MedgroundError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.post(SESSION)
    def session(said: Token, response: Response) -> dict[str, bool]:
        if not guard.knows(said.token):
            raise HTTPException(401, "that isn't the token that the server printed when it was started")
        response.headers["set-cookie"] = guard.cookie(said.token)
        return {"welcome": True}

    @app.get("/api/build")
    def build() -> dict[str, Any]:
        return {
            "name": name,
            "total": len(records),
            "decided": sum(_status(records, log, index) in DECIDED for index in range(len(records))),
            "choices": records.choices(),
            "reasons": REASONS,
            "reviewer": reviewer,
            "notice": RESEARCH_USE,
        }

    @app.get("/api/records")
    def find(
        split: str | None = None,
        modality: str | None = None,
        category: str | None = None,
        style: str | None = None,
        absent: Literal["absent", "present"] | None = None,
        undecided: bool = False,
    ) -> dict[str, Any]:
        given = {"split": split, "modality": modality, "category": category, "style": style, "absent": absent}
        found = list(records.find({name: value for name, value in given.items() if value is not None}))
        open_ = [index for index in found if _status(records, log, index) not in DECIDED]
        return {"records": open_ if undecided else found, "matching": len(found), "undecided": len(open_)}

    @app.get("/api/records/{index}")
    def record(index: int) -> dict[str, Any]:
        return _view(records, log, _known(records, index))

    @app.get("/api/records/{index}/image", response_model=None)
    def picture(index: int) -> Response:
        # Decoded and encoded again: the page shows what models are shown, and no field of the file travels on.
        image = records.picture(_known(records, index))
        return _png(Image.fromarray(image.rgb), compress_level=1)

    @app.get("/api/records/{index}/mask", response_model=None)
    def mask(index: int) -> Response:
        found = records.mask(_known(records, index))
        if found is None:
            return Response(status_code=204)
        image = Image.fromarray(found.astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
        return _png(image, transparency=0)

    @app.post("/api/records/{index}/check")
    def try_texts(index: int, texts: Texts) -> dict[str, Any]:
        own = records.read(_known(records, index))
        _, refused = _edited(own, texts.question, texts.reasoning, check)
        return {"refused": refused, **_marks(texts.reasoning, own)}

    @app.post("/api/records/{index}/decision")
    def decide(index: int, said: Said) -> dict[str, Any]:
        own = records.read(_known(records, index))
        if said.digest != records.digest(index):
            raise HTTPException(409, "this record has changed since the page showed it; load it again")
        given = said.model_dump(exclude_none=True)
        if said.decision == "edit":
            texts, refused = _edited(own, said.question or "", said.reasoning or "", check)
            if refused:
                raise HTTPException(422, refused)
            given |= texts
        try:
            decision = Decision(id=own["id"], **given)
        except ValidationError as error:
            raise HTTPException(422, first_mistake(error).reason) from None
        log.append(decision)
        return _view(records, log, index)

    return guard


def _page(content: bytes, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind)


def _png(image: Image.Image, **options: Any) -> Response:
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return Response(stream.getvalue(), media_type="image/png")


def _known(records: Records, index: int) -> int:
    if not 0 <= index < len(records):
        raise HTTPException(404, f"there is no such record; they are numbered from 0 to {len(records) - 1}")
    return index


def _status(records: Records, log: DecisionLog, index: int) -> str:
    decision = log.of(records.names[index])
    if decision is None:
        return "undecided"
    return decision.decision if decision.digest == records.digest(index) else "stale"


def _edited(
    own: Mapping[str, Any], question: str, reasoning: str, check: Check | None
) -> tuple[dict[str, str], str | None]:
    """Return the texts as they would be kept, and why they can't be."""
    try:
        texts = {"question": clean_question(question), "reasoning": reasoning.strip()}
        before = {"question": clean_question(own["question"]), "reasoning": str(own.get("reasoning", "")).strip()}
    except ConfigError as error:
        return {}, str(error)
    if not texts["reasoning"]:
        return texts, "the reasoning is empty; say what can be seen, or reject the record"
    if texts == before:
        return texts, "nothing was changed; accept the record as it is"
    return texts, check({**own, **texts}) if check else None


def _marks(reasoning: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of a reasoning, and the reasoning cut at them; claims never overlap."""
    facts = Facts.read(own.get("facts") or {})
    found = sorted(claims(reasoning), key=lambda claim: claim.start)
    marks: list[dict[str, Any]] = []
    pieces: list[dict[str, Any]] = []
    end = 0
    for claim in found:
        said = reasoning[claim.start : claim.end]
        mark = {"facet": claim.facet, "value": claim.value, "text": said, "holds": holds(claim, facts)}
        marks.append(mark)
        pieces += [{"text": reasoning[end : claim.start]}, mark]
        end = claim.end
    return {"claims": marks, "pieces": [*pieces, {"text": reasoning[end:]}]}


def _view(records: Records, log: DecisionLog, index: int) -> dict[str, Any]:
    own = records.read(index)
    status = _status(records, log, index)
    decision = log.of(own["id"])
    shown = decision if status == "edit" and decision is not None else None
    question = own["question"] if shown is None else shown.question
    reasoning = str(own.get("reasoning", "") if shown is None else shown.reasoning)
    return {
        "index": index,
        "id": own["id"],
        "digest": records.digest(index),
        "status": status,
        "decision": None if decision is None else decision.model_dump(mode="json", exclude={"id", "digest"}),
        "question": question,
        "reasoning": reasoning,
        "original": {"question": own["question"], "reasoning": own.get("reasoning", "")},
        "record": {name: own[name] for name in _TOLD if own.get(name) not in (None, "", [], {})},
        "mask": own.get("mask") is not None,
        **_marks(reasoning, own),
    }

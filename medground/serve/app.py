"""The application: routes, errors as sentences, and what is counted and logged of each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from medground import RESEARCH_USE, __version__
from medground.errors import MedgroundError, ReasonerError
from medground.pages import page_files
from medground.serve import answer_routes, api_page, export_routes, image_routes, job_routes, monai
from medground.serve.job_routes import Jobs
from medground.serve.lane import BusyError, ClosingError
from medground.serve.reading import FORM_BYTES, hold_room
from medground.serve.service import Service
from medground.serve.waiting import LeftError, Serving
from medground.web_guard import FAULT, NO_TELEMETRY, Guard, Message, Receive, Send, Server

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

__all__ = ["create_app"]

_log = logging.getLogger("medground.serve.access")


class Problem(BaseModel):
    """What is wrong with a request, or with the server, in a sentence."""

    detail: str


def create_app(service: Service, *, tokens: Collection[str] = (), hosts: Collection[str] = ()) -> Server:
    """Return the server, an ASGI application.

    Parameters
    ----------
    service : Service
        Closed by whoever made it.
    tokens : collection of str
        One of them is needed for all but the empty page and ``/healthz``; without any, whoever reaches the server may
        use it. Uploads belong to the token that they came with.
    hosts : collection of str
        Host names by which the server is known, beside localhost and addresses.
    """
    problems: dict[int | str, dict[str, Any]] = {"4XX": {"model": Problem}, "5XX": {"model": Problem}}
    app = FastAPI(
        title="medground",
        version=__version__,
        description=RESEARCH_USE,
        docs_url=None,
        redoc_url=None,
        responses=problems,
        telemetry=cast("TelemetryConfig", NO_TELEMETRY),
    )
    app.state.service = service
    app.state.jobs = Jobs(service)
    app.state.tokens = bool(tokens)
    for routes in (image_routes, answer_routes, export_routes, job_routes, monai, api_page):
        app.include_router(routes.router, dependencies=[Depends(hold_room)], responses=problems)

    files = page_files(Path(__file__).parent)
    public = {"/healthz", "/auth/", "/auth/token"}
    for name, (content, kind) in files.items():
        path = "/" if name == "page.html" else f"/static/{name}"
        public.add(path)
        app.add_api_route(path, _file(content, kind), methods=["GET"], response_model=None, include_in_schema=False)
    bodies = {
        "application/json": service.limits.json_bytes,
        "multipart/form-data": service.limits.upload_bytes + FORM_BYTES,
        "application/x-www-form-urlencoded": 1 << 12,  # MONAI Label's login
    }
    guard = Guard(app, names=hosts, tokens=tokens, public=public, bodies=bodies)
    app.state.knows = guard.knows

    @app.get("/healthz", tags=["server"])
    def health(service: Serving) -> dict[str, str]:
        """Say whether the server takes requests; 503 while it shuts down."""
        if service.closing:
            raise ClosingError
        return {"status": "ok"}

    @app.get("/metrics", tags=["server"], response_class=Response)
    def metrics(service: Serving) -> Response:
        """Return figures for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    _tell_errors(app)
    return _counted(guard, service)


def _file(content: bytes, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind)


def _tell_errors(app: FastAPI) -> None:
    def told(error: Any) -> JSONResponse:
        first = error.errors()[0]  # its "input" may be a question: only the field and the rule are told
        loc = first["loc"][1:] if isinstance(error, RequestValidationError) else first["loc"]
        return JSONResponse({"detail": f"{'.'.join(map(str, loc)) or 'body'}: {first['msg']}"}, 422)

    @app.exception_handler(RequestValidationError)
    async def _bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return told(error)

    @app.exception_handler(ValidationError)
    async def _bad_fields(request: Request, error: ValidationError) -> JSONResponse:
        return told(error)

    @app.exception_handler(MedgroundError)
    async def _cannot(request: Request, error: MedgroundError) -> JSONResponse:
        # A model that doesn't answer isn't the client's fault; all else is about what it sent.
        return JSONResponse({"detail": str(error)}, 502 if isinstance(error, ReasonerError) else 422)

    @app.exception_handler(BusyError)
    async def _busy(request: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 429, headers={"retry-after": str(error.seconds)})

    @app.exception_handler(ClosingError)
    async def _closing(request: Request, error: ClosingError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, headers={"retry-after": "10"})

    @app.exception_handler(Exception)
    async def _fault(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": FAULT}, 500)  # the guard logs its kind and place

    @app.exception_handler(LeftError)
    async def _left(request: Request, error: LeftError) -> Response:
        return Response(status_code=499)  # nobody reads it; the log and the figures do


def _counted(app: Server, service: Service) -> Server:
    """Return the server with each request counted and logged by its route, never by what was asked."""

    async def counted(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "(none)")
            method = scope["method"] if scope["method"] in _METHODS else "(other)"
            service.metrics.requests.labels(method, route, str(status)).inc()
            service.metrics.seconds.labels(route).observe(seconds)
            _log.info("%s %s %d %.3f s", method, route, status, seconds)

    return counted


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})

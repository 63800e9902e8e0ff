"""An answer as it is written: server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event

from medground.errors import MedgroundError
from medground.serve.lane import ClosingError, Work
from medground.serve.service import Question, Service
from medground.types import Reply, Result
from medground.web_guard import FAULT, place

__all__ = ["Reasoned", "detail_of", "streamed", "wants_events"]

_ENDS = ("</think>", "<answer", "<response")
_PING_SECONDS = 15.0

_log = logging.getLogger(__name__)

Event = tuple[str, dict[str, Any]]


class Reasoned:
    """What of a completion's pieces is reasoning; a piece that may be the start of a tag waits for the next.

    Examples
    --------
    >>> reasoned = Reasoned()
    >>> [reasoned.feed(piece) for piece in ("<thi", "nk>The disc", " is <5 mm.</th", "ink><answer>{}")]
    ['', 'The disc', ' is <5 mm.', '']
    """

    def __init__(self) -> None:
        self._held = ""
        self._begun = self._ended = False

    def feed(self, piece: str) -> str:
        """Return what is known to be reasoning now and wasn't before."""
        if self._ended:
            return ""
        text, self._held = self._held + piece, ""
        if not self._begun:
            text = text.lstrip()
            if "<think>".startswith(text.lower()[:7]) and len(text) < 7:
                self._held = text
                return ""
            self._begun = True
            if text[:7].lower() == "<think>":
                text = text[7:].lstrip()
        low = text.lower()
        ends = [at for at in map(low.find, _ENDS) if at >= 0]
        if ends:
            self._ended = True
            return text[: min(ends)].rstrip()
        open_ = low.rfind("<", max(0, len(low) - 10))
        if open_ >= 0 and any(end.startswith(low[open_:]) for end in _ENDS):
            text, self._held = text[:open_], text[open_:]
        return text


def wants_events(request: Request) -> bool:
    """Whether a client asked for events."""
    return "text/event-stream" in request.headers.get("accept", "").lower()


def streamed(service: Service, question: Question) -> EventSourceResponse:
    """Return a question's answer as events; when the client goes away, the model stops at its next word."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Event] = asyncio.Queue()

    def emit(name: str, data: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(events.put_nowait, (name, data))

    def run(questions: list[Question]) -> list[None]:
        _write(service, questions[0], work, emit)
        return [None]

    work = Work(run, question)
    service.reasoning.add(work)
    return EventSourceResponse(_events(service, work, events), headers={"x-accel-buffering": "no"})


def _write(service: Service, question: Question, work: Work, emit: Callable[[str, dict[str, Any]], None]) -> None:
    """Run in the lane's thread."""
    reasoned = Reasoned()
    # Where nobody listens any more, leaving the generator behind closes it, which stops the model.
    for piece in service.write(question):
        if work.gone.is_set():
            return
        if not isinstance(piece, str):
            for event in _told(piece):
                emit(*event)
        elif question.mode == "reason" and (text := reasoned.feed(piece)):
            emit("reasoning", {"text": text})


def _told(result: Result | Reply) -> Iterator[Event]:
    said = result.to_dict()
    if isinstance(result, Result):
        yield "location", {name: said[name] for name in ("bbox", "points", "absent")}
        if said["mask"] is not None:
            yield "mask", {"rle": said["mask"]}
    else:
        yield "location", {"regions": [{"ref": one["ref"], "box": one["box"]} for one in said["regions"]]}
    yield "done", {**said, "result": secrets.token_urlsafe(12)}


async def _events(service: Service, work: Work, events: asyncio.Queue[Event]) -> AsyncIterator[bytes]:
    answer = asyncio.wrap_future(work.answer)
    # What is emitted is queued before the answer is done, so an empty queue then is the end.
    answer.add_done_callback(lambda _: events.put_nowait(("", {})))
    try:
        while True:
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    name, data = await events.get()
            except TimeoutError:
                yield format_sse_event(comment="waiting")
                continue
            if not name:
                break
            yield format_sse_event(event=name, data_str=json.dumps(data, allow_nan=False))
        error = answer.exception()
        if error is not None:
            if not isinstance(error, MedgroundError | ClosingError):
                _log.error("%s in %s", type(error).__name__, place(error))
            yield format_sse_event(event="error", data_str=json.dumps({"detail": detail_of(error)}))
    finally:
        if not answer.done():
            service.metrics.left.inc()
        work.cancel()


def detail_of(error: BaseException) -> str:
    """Return what a client may be told of an error."""
    if isinstance(error, MedgroundError | ClosingError):
        return str(error)
    return FAULT

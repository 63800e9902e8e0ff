"""Many questions at once: answered when nobody waits, and fetched later."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from medground.errors import MedgroundError
from medground.serve.answer_routes import question_of
from medground.serve.fields import GroundFields, JobFields
from medground.serve.lane import BusyError, ClosingError, Work
from medground.serve.reading import body_schema, read_fields
from medground.serve.service import Question, Service, checked
from medground.serve.streaming import detail_of
from medground.serve.waiting import Caller, find_upload
from medground.web_guard import place

__all__ = ["Job", "Jobs", "router"]

router = APIRouter(tags=["jobs"])
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job:
    """Questions of one caller, and what was answered so far."""

    caller: str
    items: list[GroundFields]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    works: list[Work] = field(default_factory=list)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    ended: float | None = None

    def told(self) -> dict[str, Any]:
        """Return what a client is told of it; results in the order of the items, as far as there are any."""
        done = dict(self.results)
        return {
            "job": self.id,
            "status": "done" if len(done) == len(self.items) else "running",
            "done": len(done),
            "total": len(self.items),
            "results": [done[index] for index in sorted(done)],
        }

    def cancel(self) -> None:
        """Drop what waits."""
        for work in self.works:
            work.cancel()


class Jobs:
    """The jobs of a server; those that ended first are forgotten first.

    Parameters
    ----------
    service : Service
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        service.tidied.append(self.tidy)

    def tidy(self) -> None:
        """Forget jobs that ended as long ago as uploads are kept."""
        oldest = time.monotonic() - self._service.limits.image_seconds
        with self._lock:
            for name, job in list(self._jobs.items()):
                if job.ended is not None and job.ended < oldest:
                    del self._jobs[name]

    def start(self, caller: str, items: list[GroundFields]) -> Job:
        """Check and queue a job's items."""
        limits, images = self._service.limits, self._service.images
        if len(items) > limits.job_items:
            raise HTTPException(422, f"items: {len(items)} are more than the {limits.job_items} of one job; part them")
        for index, item in enumerate(items):
            if item.image is None:
                raise HTTPException(422, f"items.{index}.image: give the id of an upload")
            find_upload(images, item.image, caller)
            checked(item.question)
        job = Job(caller, items)
        with self._lock:
            self._make_room()
            self._jobs[job.id] = job
        job.works = [
            Work(
                self._answer, (job, index), key=("job", item.mode, item.temperature, item.max_new_tokens), patient=True
            )
            for index, item in enumerate(items)
        ]
        try:
            for index, work in enumerate(job.works):
                work.answer.add_done_callback(partial(self._note, job, index))
                self._service.reasoning.add(work)
        except ClosingError:
            self.forget(job.id, caller)
            raise
        return job

    def get(self, name: str, caller: str) -> Job:
        """Return a job of this caller's."""
        with self._lock:
            job = self._jobs.get(name)
        if job is None or job.caller != caller:
            raise HTTPException(404, "this job isn't known, or was forgotten")
        return job

    def forget(self, name: str, caller: str) -> None:
        """Cancel a job and forget it."""
        job = self.get(name, caller)
        job.cancel()
        with self._lock:
            self._jobs.pop(name, None)

    def _make_room(self) -> None:
        for name, job in list(self._jobs.items()):
            if len(self._jobs) < self._service.limits.jobs:
                return
            if job.ended is not None:
                del self._jobs[name]
        if len(self._jobs) >= self._service.limits.jobs:
            raise BusyError(60)

    def _answer(self, entries: list[tuple[Job, int]]) -> Iterator[Any]:
        """Run in the lane's thread."""
        asked: list[Question | MedgroundError | HTTPException] = []
        for job, index in entries:
            for item in job.items:  # those of a long job are in use until it ends
                self._service.images.touch(item.image or "")
            try:
                asked.append(question_of(self._service, job.caller, job.items[index], None))
            except (MedgroundError, HTTPException) as error:
                asked.append(error)
        questions = [question for question in asked if isinstance(question, Question)]
        answers = iter(self._service.answer(questions) if questions else ())
        for question in asked:
            answer = next(answers) if isinstance(question, Question) else question
            yield answer if isinstance(answer, Exception) else answer.to_dict()

    def _note(self, job: Job, index: int, answer: Any) -> None:
        if answer.cancelled():
            return
        job.results[index] = self._told(index, answer)
        if len(job.results) == len(job.items):
            job.ended = time.monotonic()

    def _told(self, index: int, answer: Any) -> dict[str, Any]:
        error = answer.exception()
        if error is None:
            return {"item": index, "result": answer.result()}
        if not isinstance(error, HTTPException | MedgroundError | ClosingError):
            _log.error("%s in %s", type(error).__name__, place(error))
        told = error.detail if isinstance(error, HTTPException) else detail_of(error)
        return {"item": index, "detail": told}


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


@router.post("/v1/jobs", status_code=202, openapi_extra=body_schema(JobFields, form=False))
async def start(request: Request, caller: Caller) -> dict[str, Any]:
    """Ask many questions about uploads, each as for ``/v1/ground``; GET the job for the answers."""
    fields, _ = await read_fields(request, JobFields)
    job = await run_in_threadpool(_jobs(request).start, caller, fields.items)
    return {"job": job.id, "total": len(job.items)}


@router.get("/v1/jobs/{job}")
async def look(job: str, request: Request, caller: Caller) -> dict[str, Any]:
    """Tell how far a job is; each of its results holds ``item`` and ``result``, or ``detail`` where it failed."""
    return await run_in_threadpool(_jobs(request).get(job, caller).told)


@router.delete("/v1/jobs/{job}", status_code=204)
async def cancel(job: str, request: Request, caller: Caller) -> None:
    """Drop what of a job waits, and forget its answers."""
    _jobs(request).forget(job, caller)

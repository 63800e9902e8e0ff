from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import ScriptedReasoner, middle
from fastapi.testclient import TestClient
from made_server import drawn_png, service_of, serving, upload

from medground.coords import Space
from medground.reasoners import Request

WAIT = 20


class Held(ScriptedReasoner):
    """Answers once it is let; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(self.wait)
        self.asked, self.open, self.questions = threading.Semaphore(0), threading.Event(), []

    def wait(self, request: Request, space: Space) -> str:
        self.questions.append(request.question)
        self.asked.release()
        assert self.open.wait(WAIT)
        return "no place" if "nothing" in request.question else middle(request, space)


def finished(client: TestClient, job: str) -> dict[str, Any]:
    for _ in range(WAIT * 50):
        told = client.get(f"/v1/jobs/{job}").json()
        if told["status"] == "done":
            return told
        time.sleep(0.02)
    raise AssertionError("the job never ended")


def items(name: str, *questions: str) -> dict[str, Any]:
    return {"items": [{"image": name, "question": question} for question in questions]}


def test_a_job_answers_all_of_its_items_in_order():
    with serving() as client:
        name = upload(client)
        alone = client.post("/v1/ground", json={"image": name, "question": "Where 0?"}).json()
        body = items(name, *(f"Where {number}?" for number in range(11)))
        body["items"][3]["mode"] = "direct"
        body["items"][5]["frame"] = 4
        answer = client.post("/v1/jobs", json=body)
        assert (answer.status_code, answer.json()["total"]) == (202, 11)
        told = finished(client, answer.json()["job"])
        assert [one["item"] for one in told["results"]] == list(range(11))
        assert told["results"][0]["result"] == alone
        assert told["results"][3]["result"]["reasoning"] == ""
        assert "no frame 4" in told["results"][5]["detail"]
        assert (told["done"], told["total"]) == (11, 11)


def test_whoever_waits_goes_before_a_job():
    reasoner = Held()
    with serving(reasoner, batch=2) as client, ThreadPoolExecutor(1) as pool:
        name = upload(client)
        job = client.post("/v1/jobs", json=items(name, *"abcdef")).json()["job"]
        assert reasoner.asked.acquire(timeout=WAIT)
        soon = pool.submit(client.post, "/v1/ground", json={"image": name, "question": "soon"})
        while service_of(client).reasoning.waiting < 5:
            time.sleep(0.01)
        reasoner.open.set()
        assert soon.result(WAIT).status_code == 200
        finished(client, job)
        assert "soon" in reasoner.questions[:3]
        assert max(reasoner.batches) <= 2


def test_a_cancelled_job_is_dropped_and_forgotten():
    reasoner = Held()
    with serving(reasoner, batch=1) as client:
        name = upload(client)
        job = client.post("/v1/jobs", json=items(name, *"abcdef")).json()["job"]
        assert reasoner.asked.acquire(timeout=WAIT)
        assert client.get(f"/v1/jobs/{job}").json()["status"] == "running"
        assert client.delete(f"/v1/jobs/{job}").status_code == 204
        assert service_of(client).reasoning.waiting == 0
        assert client.get(f"/v1/jobs/{job}").status_code == 404
        assert client.delete(f"/v1/jobs/{job}").status_code == 404
        reasoner.open.set()
        assert client.post("/v1/ground", json={"image": name, "question": "next"}).status_code == 200
        assert reasoner.questions == ["a", "next"]


def test_what_fails_is_an_item_of_its_own():
    reasoner = Held()
    reasoner.open.set()
    with serving(reasoner) as client:
        kept, gone = upload(client), upload(client, drawn_png(1))
        reasoner.open.clear()
        body = {
            "items": [
                {"image": name, "question": text}
                for name, text in ((kept, "first"), (kept, "nothing"), (gone, "gone"), (kept, "last"))
            ]
        }
        job = client.post("/v1/jobs", json=body).json()["job"]
        assert reasoner.asked.acquire(timeout=WAIT)
        client.delete(f"/v1/images/{gone}")
        reasoner.open.set()
        results = finished(client, job)["results"]
        assert ["result" in one for one in results] in ([True, False, False, True], [True, False, True, True])
        assert results[1]["detail"]


def test_a_closing_server_ends_its_jobs():
    reasoner = Held()
    with serving(reasoner, batch=1) as client:
        job = client.post("/v1/jobs", json=items(upload(client), *"abc")).json()["job"]
        assert reasoner.asked.acquire(timeout=WAIT)
        service_of(client).close()
        reasoner.open.set()
        told = finished(client, job)
        assert "result" in told["results"][0]
        assert all("shutting down" in one["detail"] for one in told["results"][1:])


def test_jobs_are_bounded():
    reasoner = Held()
    with serving(reasoner, jobs=2, job_items=3) as client:
        name = upload(client)
        many = client.post("/v1/jobs", json=items(name, *"abcd"))
        assert (many.status_code, "more than the 3" in many.json()["detail"]) == (422, True)
        first, _ = (client.post("/v1/jobs", json=items(name, "a")).json()["job"] for _ in range(2))
        full = client.post("/v1/jobs", json=items(name, "a"))
        assert (full.status_code, "retry-after" in full.headers) == (429, True)
        reasoner.open.set()
        finished(client, first)
        assert client.post("/v1/jobs", json=items(name, "a")).status_code == 202  # in the ended one's place
        assert client.get(f"/v1/jobs/{first}").status_code == 404


def test_ended_jobs_are_forgotten_as_uploads_are():
    with serving(image_seconds=1.0) as client:
        job = client.post("/v1/jobs", json=items(upload(client), "a")).json()["job"]
        for _ in range(WAIT * 50):
            if client.get(f"/v1/jobs/{job}").status_code == 404:
                return
            time.sleep(0.05)
    raise AssertionError("the job is still there")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"items": []}, 422, "items"),
        ({}, 422, "items"),
        ({"items": [{"question": "Where?"}]}, 422, "items.0.image"),
        ({"items": [{"image": "unknown", "question": "Where?"}]}, 404, "upload it again"),
        ({"items": [{"image": "unknown"}]}, 422, "items.0.question"),
    ],
)
def test_jobs_that_cannot_be_done_are_refused(body: dict[str, Any], status: int, said: str):
    with serving() as client:
        answer = client.post("/v1/jobs", json=body)
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True)

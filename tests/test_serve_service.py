"""What answers behind the routes: batches, a queue that is bounded, earlier regions, and an end in order."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import FillingSegmenter, Script, ScriptedReasoner, middle
from made_server import EVENTS, drawn_png, events, service_of, serving, upload

from medground.coords import Space
from medground.masks import decode_rle
from medground.parsing import format_answer
from medground.prompts import MAX_QUESTION
from medground.reasoners import Request
from medground.rewards.thinkvg_reading import format_response
from medground.types import Box, Point

WAIT = 20


class Held(ScriptedReasoner):
    """Answers once it is let; says when it was asked."""

    def __init__(self, answer: Script = middle) -> None:
        super().__init__(self.wait)
        self.answer = answer
        self.asked, self.open = threading.Semaphore(0), threading.Event()

    def wait(self, request: Request, space: Space) -> str:
        self.asked.release()
        assert self.open.wait(WAIT)
        return self.answer(request, space)


def test_an_earlier_region_is_said_in_the_reasoners_coordinates():
    asked: list[str] = []

    def script(request: Request, space: Space) -> str:
        asked.append(request.question)
        return middle(request, space)

    with serving(ScriptedReasoner(script, Space.norm1000("yx"))) as client:
        body = {"image": upload(client), "question": "What lies beside it?", "region": [8, 6, 40, 30]}
        assert client.post("/v1/ground", json=body).status_code == 200
        assert asked == ["What lies beside it? (region found before: [100, 100, 500, 500])"]
        wide = {**body, "region": [8, 6, 4000, 30]}
        assert client.post("/v1/ground", json=wide).status_code == 200
        assert asked[1].endswith("[100, 100, 500, 1000])")  # y first
        long = client.post("/v1/ground", json={**body, "question": "W" * MAX_QUESTION})
        assert (long.status_code, len(asked)) == (422, 2)


@pytest.mark.parametrize("template", ["nano-v1", "umrg-v1"])
def test_a_model_that_learned_bare_questions_is_told_of_no_region(template: str):
    asked: list[str] = []

    def script(request: Request, space: Space) -> str:
        asked.append(request.question)
        return middle(request, space)

    reasoner = ScriptedReasoner(script)
    reasoner.template = template
    bare = template == "nano-v1"
    with serving(reasoner) as client:
        assert client.get("/v1/models").json()["follows_regions"] is not bare
        body = {"image": upload(client), "question": "What lies beside it?", "region": [8, 6, 40, 30]}
        answers = [client.post("/v1/ground", json=body).json()]
        answers += [events(client.post("/v1/ground", json=body, headers=EVENTS).text)[-1][1]]
        assert [text == body["question"] for text in asked] == [bare] * 2
        told = [any("the region wasn't told" in note for note in answer["notes"]) for answer in answers]
        assert told == [bare] * 2
        body.pop("region")
        assert not any("region" in note for note in client.post("/v1/ground", json=body).json()["notes"])


def test_questions_on_one_image_encode_it_once():
    segmenter = FillingSegmenter()
    with serving(segmenter=segmenter) as client:
        name = upload(client)
        for question in ("Where?", "Where else?"):
            client.post("/v1/ground", json={"image": name, "question": question})
        said = client.post("/v1/segment", json={"image": name, "box": [1, 2, 11, 22]}).json()
        assert segmenter.encoded == 1
        assert (int(decode_rle(said["mask"]).sum()), said["score"], said["notes"]) == (200, 0.9, [])


def test_what_comes_while_the_model_is_busy_goes_in_one_batch():
    reasoner = Held()
    with serving(reasoner, batch=8) as client, ThreadPoolExecutor(8) as pool:
        names = [upload(client, drawn_png(number)) for number in range(7)]
        first = pool.submit(client.post, "/v1/ground", json={"image": names[0], "question": "Where?"})
        assert reasoner.asked.acquire(timeout=WAIT)
        rest = [
            pool.submit(client.post, "/v1/ground", json={"image": name, "question": "Where?"}) for name in names[1:]
        ]
        _until(lambda: service_of(client).reasoning.waiting == 6)
        reasoner.open.set()
        assert all(answer.result(WAIT).status_code == 200 for answer in (first, *rest))
        assert reasoner.batches == [1, 6]


def test_visual_questions_go_in_one_batch_too_and_one_that_fails_fails_alone():
    def script(request: Request, space: Space) -> str:
        number = int(request.question.split()[-1])
        if number in (2, 3):
            return "ERROR it is down" if number == 2 else middle(request, space)  # no answer in words
        box = Box(number, 0, number + 10, 10, space)
        return format_response(f"number {number}", [box], ["it"], space, reasoning="Seen.")

    reasoner = Held(script)
    with serving(reasoner, batch=8) as client, ThreadPoolExecutor(8) as pool:
        names = [upload(client, drawn_png(number)) for number in range(6)]

        def one(number: int) -> Any:
            return client.post("/v1/ask", json={"image": names[number], "question": f"What is it? {number}"})

        first = pool.submit(one, 0)
        assert reasoner.asked.acquire(timeout=WAIT)
        rest = [pool.submit(one, number) for number in range(1, 6)]
        other = pool.submit(client.post, "/v1/ground", json={"image": names[0], "question": "Where is 3"})
        _until(lambda: service_of(client).reasoning.waiting == 6)
        reasoner.open.set()
        answers = [answer.result(WAIT) for answer in (first, *rest)]
        assert [answer.status_code for answer in answers] == [200, 200, 502, 422, 200, 200]
        for number in (0, 1, 4, 5):
            said = answers[number].json()
            box = said["regions"][0]["box"]
            assert (said["answer"], box[0]) == (f"number {number}", pytest.approx(number * 0.08, abs=0.01))
        assert "it is down" in answers[2].json()["detail"]
        assert sorted(reasoner.batches) == [1, 1, 5]
        assert other.result(WAIT).status_code == 200


def test_answers_are_not_swapped_between_clients():
    def script(request: Request, space: Space) -> str:
        number = int(request.question.split()[-1])
        assert int(request.image.rgb[0, 0, 0]) == 20 + number  # the image that the question was about
        points = [Point(number + 4, 4, space), Point(number + 6, 6, space)]
        return format_answer(Box(number, 0, number + 10, 10, space), points, space, reasoning=f"number {number}")

    with serving(ScriptedReasoner(script, Space.pixels(80, 60)), queue=64) as client, ThreadPoolExecutor(16) as pool:

        def one(number: int) -> bool:
            name = upload(client, drawn_png(number))
            said = client.post("/v1/ground", json={"image": name, "question": f"Where is {number}"}).json()
            return said["bbox"] == [number, 0, number + 10, 10] and said["reasoning"] == f"number {number}"

        assert all(pool.map(one, range(40)))


def test_a_full_queue_is_said_with_a_time():
    reasoner = Held()
    with serving(reasoner, queue=2, batch=1) as client, ThreadPoolExecutor(4) as pool:
        body = {"image": upload(client), "question": "Where?"}
        busy = [pool.submit(client.post, "/v1/ground", json=body)]
        assert reasoner.asked.acquire(timeout=WAIT)
        busy += [pool.submit(client.post, "/v1/ground", json=body) for _ in range(2)]
        _until(lambda: service_of(client).reasoning.waiting == 2)
        answer = client.post("/v1/ground", json=body)
        assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True)
        # A box that is dragged has a queue of its own.
        assert client.post("/v1/segment", json={"image": body["image"], "box": [1, 2, 3, 4]}).status_code == 200
        reasoner.open.set()
        assert [one.result(WAIT).status_code for one in busy] == [200, 200, 200]


def test_shutting_down_finishes_what_runs_and_tells_the_rest():
    reasoner = Held()
    with serving(reasoner, batch=1) as client, ThreadPoolExecutor(4) as pool:
        body = {"image": upload(client), "question": "Where?"}
        running = pool.submit(client.post, "/v1/ground", json=body)
        assert reasoner.asked.acquire(timeout=WAIT)
        waiting = pool.submit(client.post, "/v1/ground", json=body)
        _until(lambda: service_of(client).reasoning.waiting == 1)
        assert client.get("/healthz").status_code == 200
        service_of(client).close()
        assert waiting.result(WAIT).status_code == 503
        assert "shutting down" in waiting.result().json()["detail"]
        for late in (client.post("/v1/ground", json=body), client.get("/healthz")):
            assert (late.status_code, "retry-after" in late.headers) == (503, True)
        reasoner.open.set()
        assert running.result(WAIT).status_code == 200


def _until(true: Any) -> None:
    """Wait for a state of another thread."""
    for _ in range(WAIT * 100):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from conftest import FillingSegmenter, Script, ScriptedReasoner, middle
from fastapi.testclient import TestClient
from made_server import EVENTS, HOME, drawn_png, events, service_of, serving, upload

from medground.coords import Space
from medground.masks import decode_rle
from medground.parsing import format_answer
from medground.prompts import MAX_QUESTION
from medground.reasoners import Request
from medground.rewards.thinkvg_reading import format_response
from medground.types import Box, Point

TOKENS = ("a-token-of-some-length", "another-token-as-long")
BEARER = [{"authorization": f"Bearer {token}"} for token in TOKENS]
WAIT = 20


@pytest.fixture
def client() -> Iterator[TestClient]:
    with serving() as client:
        yield client


@pytest.fixture
def locked() -> Iterator[TestClient]:
    with serving(tokens=TOKENS, hosts=("grounds.example.org",)) as client:
        yield client


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


# --------------------------------------------------------------------------------------------------- answers


def test_a_question_is_answered_in_source_pixels(client: TestClient):
    said = client.post("/v1/ground", json={"image": upload(client), "question": "Where?"}).json()
    assert (said["bbox"], said["reasoning"], said["width"], said["height"]) == (
        *([20, 15, 60, 30], "It is in the middle.", 80, 60),
    )
    mask = decode_rle(said["mask"])
    assert mask.shape == (60, 80)
    assert (np.argwhere(mask).min(0).tolist(), np.argwhere(mask).max(0).tolist()) == ([15, 20], [29, 59])
    assert said["source"]["file_name"] == "upload"


def test_a_form_carries_image_and_question_at_once(client: TestClient):
    files = {"file": ("Doe^Jane.png", drawn_png())}
    answer = client.post("/v1/ground", files=files, data={"question": "Where?", "mode": "direct"})
    assert (answer.json()["bbox"], answer.json()["reasoning"], "Doe" in answer.text) == ([20, 15, 60, 30], "", False)
    assert len(service_of(client).images) == 0


def test_an_earlier_region_is_said_in_the_reasoners_coordinates(client: TestClient):
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


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [("ERROR the endpoint answers 500", 502, "the endpoint answers 500"), ("I can't tell.", 422, "no")],
)
def test_a_model_that_does_not_answer_is_said(text: str, status: int, said: str):
    with serving(ScriptedReasoner(lambda request, space: text)) as client:
        answer = client.post("/v1/ground", json={"image": upload(client), "question": "Where?"})
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True)


VISUAL = "<think>The base (region [100, 0, 500, 1000])</think><response><answer>B</answer></response>"


def test_a_visual_question_is_answered_by_a_choice():
    with serving(ScriptedReasoner(lambda request, space: VISUAL)) as client:
        body = {"image": upload(client), "question": "What is it?", "choices": ["CT", "MRI"]}
        said = client.post("/v1/ask", json=body).json()
        assert (said["answer"], said["chosen"], said["question_type"]) == ("B", ["MRI"], "single_choice")
        form = {"question": "What is it?", "choices": '["CT", "MRI"]'}
        assert client.post("/v1/ask", files={"file": ("x", drawn_png())}, data=form).json()["chosen"] == ["MRI"]


def test_earlier_regions_are_named_to_the_model():
    seen: list[Any] = []

    def script(request: Request, space: Space) -> str:
        seen.append(request.visual)
        return VISUAL

    with serving(ScriptedReasoner(script)) as client:
        earlier = [{"ref": "heart", "box": [8, 6, 40, 300]}]
        body = {"image": upload(client), "question": "Is it enlarged?", "earlier": earlier}
        assert client.post("/v1/ask", json=body).status_code == 200
        [(ref, box)] = seen[0].earlier
        assert (ref, box.xyxy, box.space) == ("heart", (8, 6, 40, 60), Space.pixels(80, 60))


BAD = [
    ("/v1/ground", {}, "question"),
    ("/v1/ground", {"question": "Where?"}, "image"),
    ("/v1/ground", {"question": "  \n"}, "empty"),
    ("/v1/ground", {"question": "x" * 4001}, "question"),
    ("/v1/ground", {"question": "Where?", "mode": "shout"}, "mode"),
    ("/v1/ground", {"question": "Where?", "temperature": 1e9}, "temperature"),
    ("/v1/ground", {"question": "Where?", "region": [1, 2, 3]}, "region"),
    ("/v1/ground", {"question": "Where?", "region": [30, 2, 3, 5]}, "box has no area"),
    ("/v1/ground", {"question": "Where?", "region": [100, 100, 110, 110]}, "box has no area"),
    ("/v1/ground", {"question": "Where?", "path": "/etc/passwd"}, "path"),
    ("/v1/ground", {"question": "Where?", "frame": 3}, "no frame 3"),
    ("/v1/ask", {"question": "What?", "choices": ["one", "one"]}, "two choices are the same"),
    ("/v1/ask", {"question": "What?", "choices": ["x"] * 27}, "choices"),
    ("/v1/ask", {"question": "What?", "earlier": [{"ref": "a"}]}, "earlier.0.box"),
    ("/v1/segment", {}, "box"),
    ("/v1/segment", {"points": [[1, 2]]}, "boxes only"),
    ("/v1/segment", {"box": [1, 2, 1, 2]}, "box has no area"),
    ("/v1/segment", {"box": [1e308, -1e308, 1e308, 1e308]}, "box has no area"),
]


@pytest.mark.parametrize(("path", "body", "said"), BAD, ids=[f"{path[4:]}-{said}" for path, _, said in BAD])
def test_bad_fields_are_refused_in_a_sentence(client: TestClient, path: str, body: dict[str, Any], said: str):
    if body != {"question": "Where?"}:
        body = {"image": upload(client), **body}
    answer = client.post(path, json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
    assert "Where?" not in answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"question": NaN}', b'{"image": "\\ud800"}']
)
def test_bodies_that_are_no_json_objects_are_refused(client: TestClient, body: bytes):
    for path in ("/v1/ground", "/v1/ask", "/v1/segment", "/v1/jobs", "/v1/export/png"):
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, bool(answer.json()["detail"])) == (422, True)


def test_an_image_that_is_not_known_is_said(client: TestClient):
    for path, more in (
        ("ground", {"question": "Where?"}),
        ("ask", {"question": "?"}),
        ("segment", {"box": [0, 0, 9, 9]}),
    ):
        for name in ("unknown", "../../etc/passwd", "", "x" * 200):
            answer = client.post(f"/v1/{path}", json={"image": name, **more})
            assert (answer.status_code, "upload it again" in answer.json()["detail"]) == (404, True)


def test_a_fault_is_logged_without_its_values(caplog: pytest.LogCaptureFixture):
    def broken(request: Request, space: Space) -> str:
        raise RuntimeError(f"can't answer {request.question}")

    with serving(ScriptedReasoner(broken)) as client:
        client = TestClient(client.app, base_url=HOME, raise_server_exceptions=False)
        answer = client.post("/v1/ground", json={"image": upload(client), "question": "Is Jane Doe ill?"})
    assert (answer.status_code, "a fault of medground's" in answer.json()["detail"]) == (500, True)
    assert "Jane" not in answer.text
    assert "RuntimeError in test_serve_app.py" in caplog.text
    assert "Jane" not in caplog.text


# --------------------------------------------------------------------------------------------------- who may


ROUTES = [
    *("/v1/models", "/v1/examples", "/v1/images/x/view.png", "/metrics", "/docs", "/openapi.json", "/info/"),
    *("/v1/jobs/x", "/session/x", "/auth/token/valid", "/nothing"),
]


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_told_without_a_token(locked: TestClient, path: str):
    for wrong in ("Bearer wrong", f"Bearer {TOKENS[0]}x", f"Basic {TOKENS[0]}", "Bearer \u00e4", "Bearer ", ""):
        answer = locked.get(path, headers={"authorization": wrong.encode("latin-1")})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert locked.get(path).status_code == 401
    assert locked.get(path, headers=BEARER[1]).status_code in (200, 404)


def test_nothing_is_done_without_a_token(locked: TestClient):
    assert locked.post("/v1/images", files={"file": ("x", drawn_png())}).status_code == 401
    for path in ("ground", "ask", "segment", "export/png", "jobs"):
        assert locked.post(f"/v1/{path}", json={}).status_code == 401
    assert locked.put("/session/", files={"files": ("x", drawn_png())}).status_code == 401
    assert len(service_of(locked).images) == 0


def test_the_page_and_its_health_are_open(locked: TestClient):
    page = locked.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert locked.get("/static/base.css").status_code == 200
    assert locked.get("/healthz").json() == {"status": "ok"}
    for path in (
        "/static/app.py",
        "/static/page.html",
        "/static/..%2fapp.py",
        "/static/../app.py",
        "/static/",
        "/app.py",
    ):
        assert locked.get(path, headers=BEARER[0]).status_code == 404


def test_images_and_jobs_belong_to_the_token_that_they_came_with(locked: TestClient):
    name = upload(locked, headers=BEARER[0])
    job = locked.post("/v1/jobs", json={"items": [{"image": name, "question": "?"}]}, headers=BEARER[0]).json()["job"]
    for headers, status in ((BEARER[0], 200), (BEARER[1], 404)):
        assert locked.get(f"/v1/images/{name}/view.png", headers=headers).status_code == status
        body = {"image": name, "question": "Where?"}
        assert locked.post("/v1/ground", json=body, headers=headers).status_code == status
        assert locked.post("/v1/export/json", json={"image": name}, headers=headers).status_code == status
        assert locked.get(f"/session/{name}", headers=headers).status_code == status
        assert locked.get(f"/v1/jobs/{job}", headers=headers).status_code == status
    for path in (f"/v1/images/{name}", f"/v1/jobs/{job}", f"/session/{name}"):
        assert locked.delete(path, headers=BEARER[1]).status_code == 404
    assert locked.post("/v1/jobs", json={"items": [body]}, headers=BEARER[1]).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("10.1.2.3", 200)),
        *(("grounds.example.org:80", 200), ("evil.example", 400), ("localhost.evil.example", 400), ("", 400)),
    ],
)
def test_other_names_do_not_lead_here(locked: TestClient, host: str, status: int):
    assert locked.get("/healthz", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": HOME}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/xml"}, 415),
    ],
)
def test_other_sites_cannot_ask(client: TestClient, headers: dict[str, str], status: int):
    body = json.dumps({"image": upload(client), "question": "Where?"})
    headers = {"content-type": "application/json", **headers}
    answer = client.post("/v1/ground", content=body, headers=headers)
    assert answer.status_code == status
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_preflight_is_not_answered(client: TestClient):
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = client.options("/v1/ground", headers=asked)
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_bodies_are_bounded_as_announced_and_as_they_come():
    with serving(upload_bytes=1000, json_bytes=500) as client:

        def chunks(boundary: bytes) -> Iterator[bytes]:
            yield b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            yield from (b"x" * 65536 for _ in range(20))

        form = {"content-type": "multipart/form-data; boundary=edge"}
        assert client.post("/v1/images", content=chunks(b"edge"), headers=form).status_code == 413
        assert client.post("/v1/images", files={"file": ("x", b"x" * (1 << 21))}).status_code == 413
        assert client.post("/v1/ground", json={"question": "x" * 600}).status_code == 413
        for length in ("-1", "x", "9" * 5000):
            lying = {"content-type": "application/json", "content-length": length}
            assert client.post("/v1/ground", content=b"{}", headers=lying).status_code == 413
        assert service_of(client).room._left == 2 * service_of(client).room._most  # all of it was given back


def test_uploads_at_once_are_bounded():
    with serving(upload_bytes=1000) as client:
        room = service_of(client).room
        with room.taken(None), room.taken(None):
            answer = client.post("/v1/images", files={"file": ("x", drawn_png())})
            assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
        assert client.post("/v1/images", files={"file": ("x", drawn_png())}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/page.css", "/healthz", "/v1/models", "/docs", "/nothing"])
def test_every_answer_is_closed_to_other_sites(client: TestClient, path: str):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["cross-origin-resource-policy"] == "same-origin"


# --------------------------------------------------------------------------------------------------- told and counted


def test_the_log_holds_routes_and_nothing_that_was_asked(client: TestClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    name = upload(client)
    client.get(f"/v1/images/{name}/view.png?window=77,78")
    client.post("/v1/ground", json={"image": name, "question": "Is Jane Doe ill?"})
    client.post(f"/infer/Jane?image={name}", data={"params": "{}"}, files={"file": ("Doe.png", drawn_png())})
    client.get("/Jane/Doe?q=Jane")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("medground")]
    assert [line.rpartition(" ")[0].rpartition(" ")[0] for line in ours] == [
        "POST /v1/images 200",
        "GET /v1/images/{image}/view.png 200",
        "POST /v1/ground 200",
        "POST /infer/{model} 404",
        "GET (none) 404",
    ]
    for secret in ("Jane", "Doe", name, "77"):
        assert secret not in "\n".join(ours)


def test_figures_count_what_was_done(client: TestClient):
    name = upload(client)
    for _ in range(3):
        client.post("/v1/ground", json={"image": name, "question": "Is Jane Doe ill?"})
    client.request("BREW", "/v1/coffee")
    figures = client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    lines = figures.text.splitlines()
    assert 'medground_requests_total{method="POST",route="/v1/ground",status="200"} 3.0' in lines
    assert 'medground_requests_total{method="(other)",route="(none)",status="404"} 1.0' in lines
    assert "medground_batch_size_count 3.0" in lines
    assert "medground_images 1.0" in lines
    assert 'medground_queue{lane="reasoner"} 0.0' in lines
    assert "Jane" not in figures.text
    assert name not in figures.text


def test_models_are_named(client: TestClient):
    said = client.get("/v1/models").json()
    assert (said["reasoner"], said["segmenter"], said["prompts"]) == ("scripted", "filling", ["box"])
    assert "not a medical device" in said["research_use"]


def test_the_api_is_documented_without_other_servers(client: TestClient):
    page = client.get("/docs").text
    api = client.get("/openapi.json").json()
    for path in api["paths"]:
        assert path in page
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http://").split("<body>")[0]
    body = api["paths"]["/v1/ground"]["post"]["requestBody"]["content"]
    assert {"application/json", "multipart/form-data"} == set(body)
    assert "file" in body["multipart/form-data"]["schema"]["properties"]


def _until(true: Any) -> None:
    """Wait for a state of another thread."""
    for _ in range(WAIT * 100):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")

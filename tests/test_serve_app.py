from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ScriptedReasoner
from fastapi.testclient import TestClient
from made_server import HOME, drawn_png, service_of, serving, upload

from medground.coords import Space
from medground.masks import decode_rle
from medground.reasoners import Request

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

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from drawn import BRIGHT, DARK
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from made_build import question_record, small_build, write_build
from PIL import Image

from medground.data.review import read_decisions, serve
from medground.data.review.app import _marks, create_app
from medground.data.review.decisions import DecisionLog
from medground.data.review.records import Records
from medground.data.stages import read_parts
from medground.errors import ConfigError
from medground.masks import decode_rle

HOME = "http://127.0.0.1:8765"
TOKEN = "a-token-of-some-length"
TEXTS = {"question": "Which growth is it?", "reasoning": "It is a large region."}


def no_polyps(record: Mapping[str, Any]) -> str | None:
    return "the question names the target: polyp" if "polyp" in record["question"] else None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return small_build(tmp_path)


@pytest.fixture
def log(out: Path) -> Iterator[DecisionLog]:
    with DecisionLog(out / "review.jsonl") as log:
        yield log


@pytest.fixture
def client(out: Path, log: DecisionLog) -> TestClient:
    return TestClient(create_app(Records(out), log, check=no_polyps, name="drawn"), base_url=HOME)


@pytest.fixture
def locked(out: Path, log: DecisionLog) -> TestClient:
    return TestClient(create_app(Records(out), log, token=TOKEN, hosts={"Review.example.org"}), base_url=HOME)


def view(client: TestClient, index: int) -> dict[str, Any]:
    return client.get(f"/api/records/{index}").json()


def decide(client: TestClient, index: int, kind: str, **more: Any) -> Any:
    return client.post(
        f"/api/records/{index}/decision", json={"decision": kind, "digest": view(client, index)["digest"], **more}
    )


# --------------------------------------------------------------------------------------------------- what is shown


def test_a_record_is_told_as_it_is(client: TestClient, out: Path):
    record = list(read_parts(out / "ask"))[1]
    shown = view(client, 1)
    assert (shown["question"], shown["reasoning"], shown["id"]) == (
        record["question"],
        record["reasoning"],
        record["id"],
    )
    assert (shown["status"], shown["decision"], shown["mask"]) == ("undecided", None, True)
    for name in ("bbox", "points", "category", "modality", "facts", "width", "height"):
        assert shown["record"][name] == record[name]


def test_the_reasoning_is_cut_at_its_claims(client: TestClient):
    shown = view(client, 1)  # says "tiny" and "darker", which the pixels refute
    assert "".join(piece["text"] for piece in shown["pieces"]) == shown["reasoning"]
    verdicts = {(claim["facet"], claim["value"]): claim["holds"] for claim in shown["claims"]}
    assert verdicts[("brightness", "brighter than")] is True
    assert verdicts[("brightness", "darker than")] is False
    assert verdicts[("size", "tiny")] is False
    assert [piece for piece in shown["pieces"] if "facet" in piece] == shown["claims"]
    assert {claim["text"] for claim in shown["claims"]} >= {"tiny", "darker than its surroundings"}


def test_cuts_are_right_behind_characters_that_javascript_counts_twice(client: TestClient):
    texts = {"question": "Which?", "reasoning": "🩻🫀 So: it is a tiny region."}
    pieces = client.post("/api/records/0/check", json=texts).json()["pieces"]
    assert [(piece["text"], piece.get("holds")) for piece in pieces] == [
        *(("🩻🫀 So: it is a ", None), ("tiny", False), (" region.", None))
    ]


WORDS = (
    *("it", "is", "a", "small", "round", "tiny", "large", "region", "lesion", "in the", "upper left", "of the image"),
    *(
        ".",
        ":",
        ",",
        "and",
        "darker",
        "brighter",
        "than its surroundings",
        "one",
        "two parts",
        "there are",
        "size",
        "🩻\n",
    ),
)


@given(words=st.lists(st.sampled_from(WORDS), max_size=30))
@settings(max_examples=300)
def test_the_pieces_are_the_reasoning(words: list[str]):
    reasoning = " ".join(words)
    marks = _marks(reasoning, {"facts": {"size": "small"}})
    assert "".join(piece["text"] for piece in marks["pieces"]) == reasoning


def test_facts_that_are_not_known_are_neither_true_nor_false(client: TestClient):
    texts = {"question": "Which?", "reasoning": "It is a tiny region."}
    assert client.post("/api/records/7/check", json=texts).json()["claims"][0]["holds"] is None


def test_the_picture_and_the_mask_are_those_of_the_record(client: TestClient, out: Path):
    record = list(read_parts(out / "ask"))[2]
    answer = client.get("/api/records/2/image")
    picture, drawn = np.asarray(Image.open(io.BytesIO(answer.content))), decode_rle(record["mask"])
    assert answer.headers["content-type"] == "image/png"
    assert picture.shape == (90, 120, 3)
    assert (picture[:, :, 0] == np.where(drawn, BRIGHT, DARK)).all()
    mask = Image.open(io.BytesIO(client.get("/api/records/2/mask").content)).convert("RGBA")
    assert (np.asarray(mask)[:, :, 3] == np.where(drawn, 255, 0)).all()


def test_an_absent_target_has_no_mask(client: TestClient):
    assert client.get("/api/records/7/mask").status_code == 204
    assert view(client, 7)["record"]["absent"] is True
    assert "bbox" not in view(client, 7)["record"]


def test_fields_of_the_picture_file_do_not_travel_on(client: TestClient, tmp_path: Path):
    from PIL.PngImagePlugin import PngInfo

    file = tmp_path / "root" / "images" / "0.png"
    info = PngInfo()
    info.add_text("PatientName", "Doe^Jane")
    Image.open(file).copy().save(file, pnginfo=info)
    assert b"Doe^Jane" in file.read_bytes()
    answer = client.get("/api/records/0/image")
    assert (answer.status_code, b"Doe^Jane" in answer.content) == (200, False)


def test_a_picture_that_is_gone_is_said(client: TestClient, tmp_path: Path):
    (tmp_path / "root" / "images" / "0.png").unlink()
    answer = client.get("/api/records/0/image")
    assert answer.status_code == 409
    assert "0.png" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"split": "val"}, [2, 6]),
        ({"modality": "MRI"}, [0, 3, 6]),
        ({"style": "location", "split": "train"}, [1, 5]),
        ({"absent": "absent"}, [7]),
        ({"category": "colon polyp", "absent": "present", "split": "test"}, [3]),
        ({"category": "nothing"}, []),
        ({"undecided": "true"}, [0, 1, 3, 4, 5, 6, 7]),
        ({"undecided": "true", "split": "val"}, [6]),
    ],
)
def test_records_are_filtered(client: TestClient, asked: dict[str, str], found: list[int]):
    assert decide(client, 2, "accept").status_code == 200
    assert client.get("/api/records", params=asked).json()["records"] == found


def test_progress_is_counted(client: TestClient):
    for index, kind, more in ((0, "accept", {}), (1, "reject", {"reason": "leak"}), (2, "accept", {}), (2, "undo", {})):
        assert decide(client, index, kind, **more).status_code == 200
    build = client.get("/api/build").json()
    assert (build["decided"], build["total"], build["name"]) == (2, 8, "drawn")
    assert "not a medical device" in build["notice"]
    found = client.get("/api/records", params={"split": "train"}).json()
    assert (found["matching"], found["undecided"]) == (4, 2)


# --------------------------------------------------------------------------------------------------- decisions


def test_decisions_are_kept_in_the_build(client: TestClient, out: Path):
    assert decide(client, 0, "accept", reviewer="R. Viewer").json()["status"] == "accept"
    assert decide(client, 1, "reject", reason="mask").json()["decision"]["reason"] == "mask"
    edited = decide(client, 2, "edit", **TEXTS).json()
    assert (edited["status"], edited["question"], edited["original"]["question"][:12]) == (
        *("edit", TEXTS["question"], "Which growth"),
    )
    kept = read_decisions(out / "review.jsonl")
    assert [(one.id, one.decision, one.reviewer) for one in kept.values()] == [
        ("drawn/0/polyp", "accept", "R. Viewer"),
        ("drawn/1/polyp", "reject", ""),
        ("drawn/2/polyp", "edit", ""),
    ]
    assert kept["drawn/2/polyp"].reasoning == TEXTS["reasoning"]


def test_an_undo_is_a_line_of_its_own(client: TestClient, out: Path):
    decide(client, 0, "accept")
    decide(client, 0, "reject", reason="other")
    assert decide(client, 0, "undo").json()["status"] == "accept"
    assert decide(client, 0, "undo").json()["status"] == "undecided"
    assert (decide(client, 0, "undo").status_code, len((out / "review.jsonl").read_bytes().splitlines())) == (409, 4)


def test_an_edit_that_the_gates_refuse_is_not_kept(client: TestClient, out: Path):
    leak = {**TEXTS, "question": "Where is the polyp?"}
    assert client.post("/api/records/0/check", json=leak).json()["refused"] == "the question names the target: polyp"
    answer = decide(client, 0, "edit", **leak)
    assert (answer.status_code, answer.json()["detail"]) == (422, "the question names the target: polyp")
    assert client.post("/api/records/0/check", json=TEXTS).json()["refused"] is None
    assert read_decisions(out / "review.jsonl") == {}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"question": " \n "}, "the question is empty"),
        ({"reasoning": " "}, "the reasoning is empty"),
        ({}, "nothing was changed"),
        ({"question": "x" * 4001}, "question"),
        ({"question": None}, "empty"),
        ({"reasoning": "x" * 8001}, "reasoning"),
    ],
)
def test_texts_that_cannot_be_kept_are_refused(client: TestClient, out: Path, texts: dict[str, Any], said: str):
    shown = view(client, 0)
    answer = decide(client, 0, "edit", **{"question": shown["question"], "reasoning": shown["reasoning"], **texts})
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert (out / "review.jsonl").read_bytes() == b""


def test_an_edited_question_is_cleaned_as_prompts_are(client: TestClient, out: Path):
    decide(client, 0, "edit", question=" Which\n<image> is it? ", reasoning=TEXTS["reasoning"] + "\n")
    kept = read_decisions(out / "review.jsonl")["drawn/0/polyp"]
    assert (kept.question, kept.reasoning) == ("Which < image> is it?", TEXTS["reasoning"])


def test_a_decision_about_another_version_is_refused(client: TestClient):
    answer = client.post("/api/records/0/decision", json={"decision": "accept", "digest": "0" * 16})
    assert (answer.status_code, "has changed" in answer.json()["detail"]) == (409, True)


def test_a_decision_before_a_rebuild_is_reported_as_stale(tmp_path: Path):
    root, out = tmp_path / "root", tmp_path / "out"
    for number, tier in enumerate("AB"):
        write_build(out, root, [question_record(root, 0, tier=tier)])
        with DecisionLog(out / "review.jsonl") as log:
            client = TestClient(create_app(Records(out), log), base_url=HOME)
            assert view(client, 0)["status"] == ("undecided", "stale")[number]
            assert client.get("/api/records?undecided=true").json()["records"] == [0]
            assert decide(client, 0, "accept").json()["status"] == "accept"


BAD_BODIES = {
    "no JSON": b"{",
    "no object": b"[]",
    "no decision": b"{}",
    "unknown decision": b'{"digest": "0123456789abcdef", "decision": "like"}',
    "an id of its own": b'{"digest": "0123456789abcdef", "decision": "accept", "id": "x"}',
    "a path": b'{"digest": "0123456789abcdef", "decision": "accept", "image": "/etc/passwd"}',
    "no digest": b'{"digest": "../../x", "decision": "accept"}',
    "half a character": b'{"digest": "0123456789abcdef", "decision": "accept", "reviewer": "\\ud800"}',
    "NaN": b'{"digest": NaN, "decision": "accept"}',
    "not UTF-8": b'{"digest": "0123456789abcdef", "decision": "accept", "reviewer": "\xff"}',
    "deep": b"[" * 60000,
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_bodies_are_refused(client: TestClient, out: Path, body: bytes):
    answer = client.post("/api/records/0/decision", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]
    assert (out / "review.jsonl").read_bytes() == b""


def test_a_rejection_needs_a_reason_that_is_known(client: TestClient):
    assert "has a reason" in decide(client, 0, "reject").json()["detail"]
    assert "unknown reason" in decide(client, 0, "reject", reason="mood").json()["detail"]
    assert decide(client, 0, "accept", reason="leak").status_code == 422


def test_a_refusal_does_not_repeat_what_was_sent(client: TestClient):
    answer = decide(client, 0, "accept", secret="Doe^Jane")
    assert (answer.status_code, "Doe" in answer.text) == (422, False)


# --------------------------------------------------------------------------------------------------- who may


@pytest.mark.parametrize(
    "path", ["/api/build", "/api/records", "/api/records/0", "/api/records/0/image", "/api/records/0/mask"]
)
def test_nothing_of_the_data_is_seen_without_the_token(locked: TestClient, path: str):
    assert locked.get(path).status_code == 401
    for wrong in ("Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00e4", ""):
        assert locked.get(path, headers={"authorization": wrong.encode("latin-1")}).status_code == 401
    for wrong in ("review=1", f"token={TOKEN}", "=;;=", 'x="'):
        assert locked.get(path, headers={"cookie": wrong}).status_code == 401
    assert locked.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_nothing_is_decided_without_the_token(locked: TestClient, out: Path):
    body = {"decision": "accept", "digest": "0" * 16}
    assert locked.post("/api/records/0/decision", json=body).status_code == 401
    assert (out / "review.jsonl").read_bytes() == b""


def test_the_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(locked: TestClient):
    assert locked.get("/").status_code == 200
    assert locked.post("/api/session", json={"token": "wrong"}).status_code == 401
    answer = locked.post("/api/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert locked.get("/api/records/0/image").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:8765", 200),
        ("LOCALHOST", 200),
        ("[::1]:8765", 200),
        ("10.1.2.3", 200),  # whoever typed an address isn't led here by a name
        ("review.example.org:80", 200),
        ("evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example:8765", 400),
        ("review.example.org.evil.example", 400),
        ("", 400),
        ("localhost@evil.example", 400),
    ],
)
def test_the_host_must_be_this_server(locked: TestClient, host: str, status: int):
    headers = {"host": host, "authorization": f"Bearer {TOKEN}"}
    assert locked.get("/api/build", headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": HOME}, 200),
        ({"origin": HOME, "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_other_sites_cannot_decide(client: TestClient, headers: dict[str, str], status: int):
    body = json.dumps({"decision": "accept", "digest": view(client, 0)["digest"]})
    headers = {"content-type": "application/json", **headers}
    assert client.post("/api/records/0/decision", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        *("/api/records/8", "/api/records/-1", "/api/records/99999999999999999999", "/api/records/8/image"),
        *("/api/records/..%2f..%2fetc%2fpasswd", "/api/records/../../etc/passwd/image", "/api/records/0/..%2fimage"),
        *("/api/records/drawn%2f0%2fpolyp", "/..%2f..%2freview.jsonl", "/review.jsonl", "/ask/part-00000.jsonl"),
        *("/page.py", "/%2e%2e/app.py", "/docs", "/openapi.json", "/api/records/0/image/../../../x", "//etc/passwd"),
        "/api/records/" + "9" * 5000,
    ],
)
def test_no_path_leads_elsewhere(client: TestClient, path: str):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text


def test_a_body_is_bounded(client: TestClient):
    headers = {"content-type": "application/json"}
    big = b" " * 70000

    def chunks() -> Iterator[bytes]:
        yield from (b" " * 7000 for _ in range(10))

    assert client.post("/api/records/0/decision", content=big, headers=headers).status_code == 413
    assert client.post("/api/records/0/decision", content=chunks(), headers=headers).status_code == 413
    for length in ("-1", "x", "9" * 5000):
        lying = {**headers, "content-length": length}
        assert client.post("/api/records/0/decision", content=b"{}", headers=lying).status_code == 413


@pytest.mark.parametrize("path", ["/", "/page.css", "/picture.js", "/api/build", "/api/records/0/image", "/nothing"])
def test_every_answer_is_closed_to_other_sites(client: TestClient, path: str):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_a_fault_is_logged_without_its_values(out: Path, log: DecisionLog, caplog: pytest.LogCaptureFixture):
    def broken(record: Mapping[str, Any]) -> str | None:
        raise RuntimeError(f"can't judge {record['question']}")

    client = TestClient(create_app(Records(out), log, check=broken), base_url=HOME)
    answer = client.post("/api/records/0/check", json=TEXTS)
    assert (answer.status_code, TEXTS["question"] in answer.text) == (500, False)
    assert "RuntimeError in test_review_app.py" in caplog.text
    assert TEXTS["question"] not in caplog.text


# --------------------------------------------------------------------------------------------------- serving

SERVE = """
import sys
from medground.data.review import serve
serve(sys.argv[1], host=sys.argv[2], port=0, ready=lambda url: print(url, flush=True))
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_the_server_says_where_it_is_and_logs_nothing(out: Path, host: str):
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(out), host],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    try:
        url, _, token = process.stdout.readline().strip().partition("#token=")
        port = int(url.rstrip("/").rpartition(":")[2])
        assert bool(token) == (host != "127.0.0.1")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/api/records/0/image").status_code == (401 if token else 200)
            question = client.get("/api/records/0", headers=headers).json()["question"]
            assert client.get("/api/records/77?q=secret", headers=headers).status_code == 404
            leak = {**TEXTS, "question": "Where is the colon polyp?"}
            said = client.post("/api/records/0/check", json=leak, headers=headers).json()["refused"]
            assert said.startswith("the question names its target")  # the gates are the default
        with socket.create_connection(("127.0.0.1", port)) as raw:  # no HTTP at all
            raw.sendall(b"Doe^Jane secret\r\n\r\n")
            raw.recv(1000)
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=20)[0]
    assert question.startswith("Which growth")
    assert (rest, process.returncode) == ("", 0)


def test_a_token_that_can_be_guessed_is_refused(out: Path):
    with pytest.raises(ConfigError, match="--token: 6 characters"):
        serve(out, token="secret")


@pytest.mark.parametrize(("host", "port", "said"), [("127.0.0.1", 70000, "--port"), ("nowhere.invalid", 0, "--host")])
def test_an_address_that_cannot_be_listened_on_is_said(out: Path, host: str, port: int, said: str):
    with pytest.raises(ConfigError, match=said):
        serve(out, host=host, port=port)


def test_a_port_that_is_taken_is_said(out: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="give another --port"):
        serve(out, port=taken.getsockname()[1])

"""A real server process, of bounded memory, is sent what was made to harm it: it answers each time, never with a fault.

A hang shows as the client's own time limit. Nothing of what was sent may be in the server's log.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_hostile import BOMB, HOSTILE, PLAIN, dicom, png
from made_server import drawn_png
from scripted_server import Running, running

LIMITS = {"upload_bytes": 16 << 20, "pixels": 1 << 22, "image_bytes": 64 << 20, "images": 16}
ROOM = 640
"""Megabytes of address space, threads' stacks included, past which the server's requests for memory fail."""
SECRETS = ("Doe", "7731", "passwd", "whisper", "upload^")
NAME = "Doe^Jane-7731.png"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=LIMITS, room=ROOM) as server:
        with httpx2.Client(base_url=server.url, timeout=60) as client:
            for content in PLAIN.values():  # readers are imported by the first file of their kind
                assert _send(client, content())[0] == 200
        before = server.memory("VmHWM")
        yield server
        log = server.log()
        assert not [secret for secret in SECRETS if secret in log], log
        assert " 500 " not in log, log
        assert server.memory("VmHWM") - before < BOMB  # at its peak
        assert server.end() == 0, server.log()


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        yield client


def _send(client: httpx2.Client, content: bytes, name: str = NAME) -> tuple[int, dict[str, Any]]:
    answer = client.post("/v1/images", files={"file": (name, content)})
    said = answer.json()
    if answer.status_code != 200:
        detail = said["detail"]
        assert answer.status_code in (413, 415, 422), answer.text
        assert isinstance(detail, str)
        assert "\n" not in detail
        assert not [secret for secret in (*SECRETS, "/proc", "/tmp") if secret in detail], detail
    return answer.status_code, said


def _use(client: httpx2.Client, told: dict[str, Any]) -> None:
    """Do everything with an upload that was taken; each is answered or refused in a sentence."""
    name, width, height = told["image"], told["width"], told["height"]
    box = [0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]
    answers = [client.get(f"/v1/images/{name}/view.png")]
    asked = client.post("/v1/ground", json={"image": name, "question": "whisper 3"})
    answers.append(asked)
    mask = asked.json()["mask"] if asked.status_code == 200 else None
    for kind in ("dicom-seg", "dicom-sr", "json", "coco", "png"):
        body = {"image": name, "box": box, "mask": mask, "question": "whisper", "label": "upload^"}
        answers.append(client.post(f"/v1/export/{kind}", json=body))
    answers += [
        client.post(f"/infer/medground?image={name}&output={output}", files={"params": (None, params)})
        for output, params in (("all", '{"question": "whisper"}'), ("dicom_seg", '{"question": "whisper"}'))
    ]
    roi = json.dumps({"roi": [0, 5, 0, 5, 0, 0], "foreground": [[3, 3, 0]]})
    answers.append(client.post(f"/infer/filling?image={name}", files={"params": (None, roi)}))
    assert client.delete(f"/v1/images/{name}").status_code == 204
    for answer in answers:
        assert answer.status_code in (200, 413, 415, 422), f"{answer.request.url.path}: {answer.text}"
    assert answers[0].headers["content-type"] == "image/png"


@pytest.mark.parametrize("name", HOSTILE)
def test_what_was_made_to_harm_is_read_or_refused(client: httpx2.Client, name: str) -> None:
    make, expected = HOSTILE[name]
    status, told = _send(client, make())
    assert status in expected, told
    if status == 200:
        _use(client, told)


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_that_was_cut_or_changed_is_read_or_refused(client: httpx2.Client, name: str) -> None:
    whole, chance = PLAIN[name](), random.Random(name)
    assert _send(client, whole[:-1])[0] in (200, 415)
    assert [_send(client, whole[: int(part * len(whole))])[0] for part in (0.02, 0.2)] == [415, 415]
    used = 0
    for _ in range(12):
        data = bytearray(whole)
        reach = min(len(data), chance.choice([200, 700, 1500, len(data)]))
        for _ in range(chance.choice([1, 2, 8])):
            data[chance.randrange(reach)] = chance.choice([0, 255, chance.randrange(256)])
        status, told = _send(client, bytes(data))
        if status == 200 and used < 2:
            used += 1
            _use(client, told)


@pytest.mark.parametrize("name", PLAIN)
def test_the_content_tells_what_a_file_is_not_its_name(client: httpx2.Client, name: str) -> None:
    kinds = set()
    for ending in (".dcm", ".png", ".nii.gz", "", "/../../etc/passwd", "\x00.png", ".exe"):
        status, told = _send(client, PLAIN[name](), f"Doe{ending}")
        assert status == 200, told
        kinds.add(told["kind"])
    assert len(kinds) == 1


@given(content=st.binary(max_size=400), start=st.sampled_from([b"", *(make()[:400] for make in PLAIN.values())]))
@settings(max_examples=60)
def test_any_bytes_are_refused_in_a_sentence(client: httpx2.Client, content: bytes, start: bytes) -> None:
    status, told = _send(client, start + content)
    assert status in (200, 413, 415), told


# ----------------------------------------------------------------------------------------------------- forms


def _part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


FILE = _part("file", drawn_png(), '; filename="Doe^Jane.png"')
END = b"--edge--\r\n"
KIND = "multipart/form-data; boundary=edge"
FORMS: dict[str, tuple[str, bytes, tuple[int, ...]]] = {
    "whole": (KIND, FILE + END, (200,)),
    "no end": (KIND, FILE, (200, 415, 422)),
    "cut in the file": (KIND, FILE[:120], (200, 415, 422)),
    "cut in a header": (KIND, FILE[:30], (415, 422)),
    "no boundary": ("multipart/form-data", FILE + END, (422,)),
    "another boundary": ("multipart/form-data; boundary=other", FILE + END, (415, 422)),
    "a long boundary": (f"multipart/form-data; boundary={'x' * 4000}", FILE + END, (422,)),
    "nothing": (KIND, b"", (415, 422)),
    "no field": (KIND, END, (415, 422)),
    "an empty file": (KIND, _part("file", b"", '; filename=""') + END, (415,)),
    "a file without a name": (KIND, _part("file", drawn_png()) + END, (422,)),
    "two files": (KIND, FILE + FILE + END, (422,)),
    "a file by a path": (KIND, _part("file", drawn_png(), '; filename="../../etc/passwd"') + END, (200,)),
    "another field for it": (KIND, _part("path", b"/etc/passwd") + END, (422,)),
    "a field twice": (KIND, _part("frame", b"0") * 2 + FILE + END, (422,)),
    "50 fields": (KIND, b"".join(_part(f"a{n}", b"") for n in range(50)) + FILE + END, (422,)),
    "a field without a name": (KIND, b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + FILE + END, (422,)),
    "a huge field": (KIND, _part("frame", b"1" * (1 << 20)) + FILE + END, (422,)),
    "a huge number": (KIND, _part("frame", b"9" * 5000) + FILE + END, (422,)),
    "a field too huge": (KIND, _part("frame", b"1" * (1 << 21)) + FILE + END, (422,)),
    "a huge name": (KIND, _part("a" * 100_000, b"") + FILE + END, (422,)),
    "a deep window": (KIND, _part("window", b"[" * 500_000) + FILE + END, (422,)),
    "a window of NaN": (KIND, _part("window", b"NaN, Infinity") + FILE + END, (422,)),
    "a window too small to divide by": (KIND, _part("window", b"1e308, 1e-320") + FILE + END, (200, 422)),
    "a window without end": (KIND, _part("window", b"-1e308, 1e308") + FILE + END, (200, 422)),
    "bytes that are no text": (KIND, _part("axis", b"\xff\xfe\x00") + FILE + END, (422,)),
    "a charset that isn't": (f"{KIND}; charset=whisper", FILE + END, (415,)),
    "a charset that is no text": (f"{KIND}; charset=zlib", FILE + END, (415,)),
    "a charset that fails": (f"{KIND}; charset=idna", _part("axis", b"\xff" * 70) + FILE + END, (415,)),
    "a charset that fails otherwise": (f"{KIND}; charset=punycode", _part("axis", b"\xff-\xff") + FILE + END, (415,)),
    "over the limit": (KIND, _part("file", bytes(18 << 20), '; filename="x"') + END, (413,)),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_are_read_or_refused(client: httpx2.Client, name: str) -> None:
    kind, body, expected = FORMS[name]
    answer = client.post("/v1/images", content=body, headers={"content-type": kind})
    assert answer.status_code in expected, answer.text
    assert "Doe" not in answer.text


@pytest.mark.parametrize(
    ("charset", "question"),
    [("unicode_escape", rb"whisper \ud800"), ("utf-7", b"whisper +2AA-"), ("utf-16", b"\0\xd8")],
)
@pytest.mark.parametrize("path", ["/v1/ground", "/v1/ask"])
def test_half_a_character_is_no_fault(client: httpx2.Client, path: str, charset: str, question: bytes) -> None:
    """Some charsets make text of which no UTF-8 can be made."""
    body = _part("question", question) + FILE + END
    for accept in ("application/json", "text/event-stream"):
        headers = {"content-type": f"{KIND}; charset={charset}", "accept": accept}
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 415, answer.text


def test_a_body_that_grows_past_what_it_announced_or_may_be_is_cut_off(client: httpx2.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield _part("file", b"", '; filename="x"')[:-2]
        while True:
            yield bytes(1 << 20)

    try:
        answer = client.post("/v1/images", content=endless(), headers={"content-type": KIND})
        assert answer.status_code == 413
    except (httpx2.WriteError, httpx2.ReadError):  # it was told while it went on writing
        pass
    plain = HTTPConnection("127.0.0.1", client.base_url.port or 0, timeout=60)
    plain.request("POST", "/v1/images", headers={"content-type": KIND, "content-length": str(10**11)})
    assert plain.getresponse().status == 413
    plain.close()


JSON = {
    "deep": b'{"image": ' + b"[" * 200_000,
    "a huge number": b'{"image": "a", "question": "whisper", "max_new_tokens": ' + b"9" * 5000 + b"}",
    "a huge power": b'{"image": "a", "question": "whisper", "temperature": 1e99999}',
    "NaN": b'{"image": "a", "question": "whisper", "temperature": NaN}',
    "half a character": b'{"image": "a", "question": "whisper \\ud800"}',
    "a null character": b'{"image": "a\\u0000", "question": "whisper \\u0000"}',
    "no text": b"\xff\xfe{\x00}\x00",
    "twice": b'{"image": "a", "image": "b", "question": "whisper"}',
    "many keys": json.dumps({f"k{n}": n for n in range(20_000)}).encode(),
    "many choices": json.dumps({"image": "a", "question": "whisper", "choices": ["x"] * 100_000}).encode(),
    "an array": b"[]",
    "nothing": b"",
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("path", ["/v1/ground", "/v1/ask", "/v1/segment", "/v1/export/json", "/v1/jobs"])
def test_json_that_means_harm_is_refused(client: httpx2.Client, path: str, name: str) -> None:
    answer = client.post(path, content=JSON[name], headers={"content-type": "application/json"})
    assert answer.status_code in (404, 422), answer.text
    assert "whisper" not in answer.text


RUNS = [
    {"size": [1 << 20, 1 << 20], "counts": "0"},
    {"size": [60, 80], "counts": ""},
    {"size": [60, 80], "counts": "~" * 1000},
    {"size": [60, 80], "counts": "\u0000\u00ff\u2603"},
    {"size": [60, 80], "counts": "o" * 4_000_000},
    {"size": [60, 80], "counts": "0" * 4_000_000},
    {"size": [60, 80], "counts": "PPPPPPPPPPPPPPPPPPPPP0"},
    {"size": [0, 0], "counts": ""},
]


@pytest.mark.parametrize("runs", RUNS, ids=range(len(RUNS)))
def test_run_lengths_that_lie_are_refused(client: httpx2.Client, runs: dict[str, Any]) -> None:
    _, told = _send(client, drawn_png())
    for kind in ("json", "png"):
        answer = client.post(f"/v1/export/{kind}", json={"image": told["image"], "mask": runs})
        assert answer.status_code == 422, answer.text


def test_many_bombs_at_once_stay_within_bounds(client: httpx2.Client, server: Running) -> None:
    names = ["png of 60,000 x 60,000", "nifti.gz of zeros", "dicom that is deflated and unpacks", "tiff that unpacks"]
    made = [HOSTILE[name][0]() for name in names]
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda number: _send(client, made[number % 4])[0], range(16)))
    assert set(ends) <= {200, 413, 415}
    assert client.get("/healthz").status_code == 200
    assert server.process.poll() is None


def test_lying_headers_are_refused_by_their_header_alone() -> None:
    """What is over the limits is refused from a few hundred bytes: the files above are as small as they say."""
    assert len(png(60_000, 60_000)) < 100
    assert struct.unpack("<H", dicom(Rows=65_535)[dicom(Rows=65_535).index(b"\x28\0\x10\0US") + 8 :][:2]) == (65_535,)

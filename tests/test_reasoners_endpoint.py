"""A real HTTP server on this machine that speaks the chat-completions wire, and misbehaves on demand."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openai")

from loopback import Handler, Server

from medground.coords import Space
from medground.errors import ConfigError, MissingExtraError, ReasonerError
from medground.images import MedicalImage
from medground.reasoners import Request, load_reasoner
from medground.reasoners.endpoint import EndpointReasoner

KEY = "sk-very-secret-key"
QUESTION = "Which part worries the surgeon most?"
ANSWER = '<think>The dark round part.</think><answer>{"bbox": [1, 2, 3, 4]}</answer>'


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.reply = lambda handler, body: handler.say(ANSWER)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEDGROUND_API_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


def picture(width: int = 40, height: int = 30, seed: int = 0) -> MedicalImage:
    rng = np.random.default_rng(seed)
    return MedicalImage.from_array(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), file_name="smith^anna.png")


def reasoner(server: Server, model: str = "Qwen/Qwen3-VL-4B-Instruct", **options: Any) -> EndpointReasoner:
    options = {"api_key": KEY, "timeout": 5.0, "max_retries": 1} | options
    return EndpointReasoner(f"{server.url}#{model}", **options)


def sent_image(body: dict[str, Any]) -> Image.Image:
    url = body["messages"][-1]["content"][0]["image_url"]["url"]
    kind, data = url.split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def failure(reasoner: EndpointReasoner, image: MedicalImage | None = None) -> str:
    """Ask once, and return the error after checking that it gives nothing away."""
    image = image or picture()
    (answer,) = reasoner.complete([Request(image, QUESTION)])
    assert answer.text == ""
    assert answer.error is not None
    for secret in (KEY, QUESTION, "surgeon", "base64", "smith", "echo"):
        assert secret not in answer.error
    assert "\n" not in answer.error
    return answer.error


def echo_error(status: int, **headers: str) -> Callable[[Handler, dict[str, Any]], None]:
    """An error whose text repeats question and key, as some servers do."""
    message = f"echo {QUESTION} {KEY}"

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_json({"error": {"message": message, "type": "x"}}, status, headers)

    return reply


def test_load_reasoner_reaches_the_server(server: Server) -> None:
    loaded = load_reasoner(f"{server.url}#Qwen/Qwen3-VL-4B-Instruct")
    (answer,) = loaded.complete([Request(picture(), QUESTION)], temperature=0.5, max_new_tokens=77, seed=3)
    assert (answer.text, answer.space, answer.error) == (ANSWER, Space.norm1000(), None)
    assert loaded.name == "Qwen/Qwen3-VL-4B-Instruct"
    (body,) = server.bodies
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == (loaded.name, 0.5, 77, 3)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"][1] == {"type": "text", "text": QUESTION}
    assert "thousandths" in body["messages"][0]["content"]
    assert server.headers[0]["authorization"] == "Bearer none"
    assert loaded.complete([]) == []


@pytest.mark.parametrize("size", [(640, 480), (481, 333), (30, 200), (2000, 1500)])
def test_the_image_arrives_in_the_size_that_the_space_says(server: Server, size: tuple[int, int]) -> None:
    image = picture(*size)
    absolute = reasoner(server, "Qwen2.5-VL-7B-Instruct", max_pixels=200_000)
    (answer,) = absolute.complete([Request(image, QUESTION)])
    arrived = sent_image(server.bodies[-1])
    assert answer.space == absolute.space_for(image) == Space.resized(*arrived.size)
    assert arrived.width % 28 == arrived.height % 28 == 0
    assert arrived.width * arrived.height <= 200_000
    assert f"{arrived.width} x {arrived.height}" in server.bodies[-1]["messages"][0]["content"]

    other = reasoner(server, "my-model", coordinates="pixels yx", max_pixels=200_000)
    (answer,) = other.complete([Request(image, QUESTION)])
    arrived = sent_image(server.bodies[-1])
    assert answer.space == Space("resized pixels", *arrived.size, order="yx")
    assert arrived.width * arrived.height <= 200_000
    assert arrived.size == size or arrived.width * arrived.height > 190_000


def test_a_small_image_arrives_unchanged_and_bare(server: Server) -> None:
    image = picture()
    assert reasoner(server).complete([Request(image, QUESTION)])[0].error is None
    arrived = sent_image(server.bodies[0])
    assert np.array_equal(np.asarray(arrived), image.rgb)
    assert arrived.info == {}
    assert "smith" not in json.dumps(server.bodies[0])


def test_qwens_own_processor_leaves_the_sent_image_as_it_is(server: Server) -> None:
    processing = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    asked = reasoner(server, "Qwen2.5-VL-7B-Instruct")
    for size in [(640, 480), (481, 333), (30, 200), (2000, 1500), (8, 8)]:
        space = asked.space_for(picture(*size))
        made = processing.smart_resize(int(space.height), int(space.width), max_pixels=12845056)
        assert made == (space.height, space.width)


def test_order_is_kept_and_concurrency_is_bounded(server: Server) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        number = int(body["messages"][-1]["content"][1]["text"].split()[-1])
        time.sleep(0.05 if number % 2 else 0.15)
        handler.say(f"answer {number}")

    server.reply = reply
    asked = reasoner(server, max_concurrency=3)
    answers = asked.complete([Request(picture(seed=number), f"question {number}") for number in range(9)])
    assert [answer.text for answer in answers] == [f"answer {number}" for number in range(9)]
    assert server.most_under_way == 3


def test_the_bound_holds_over_several_callers(server: Server) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.1)
        handler.say(ANSWER)

    server.reply = reply
    asked = reasoner(server, max_concurrency=2)
    callers = [threading.Thread(target=asked.complete, args=([Request(picture(), QUESTION)] * 2,)) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(server.bodies) == 6
    assert server.most_under_way == 2


def test_one_failure_leaves_the_others_alone(server: Server) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if "bad" in body["messages"][-1]["content"][1]["text"]:
            echo_error(400)(handler, body)
        else:
            handler.say(ANSWER)

    server.reply = reply
    questions = ["good one", "bad one", " ", "good two"]
    answers = reasoner(server).complete([Request(picture(), question) for question in questions])
    assert [answer.text for answer in answers] == [ANSWER, "", "", ANSWER]
    assert "HTTP 400" in (answers[1].error or "")
    assert "question is empty" in (answers[2].error or "")


def test_a_busy_server_is_asked_again_when_it_says(server: Server) -> None:
    times: list[float] = []

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            echo_error(429, **{"Retry-After": "0.9"})(handler, body)
        else:
            handler.say(ANSWER)

    server.reply = reply
    (answer,) = reasoner(server).complete([Request(picture(), QUESTION)])
    assert answer.text == ANSWER
    assert len(times) == 2
    assert times[1] - times[0] >= 0.85  # without the header the client waits at most half a second


@pytest.mark.parametrize(
    ("status", "tries", "message"),
    [
        (500, 2, r"failed in 2 tries \(HTTP 500\)"),
        (429, 2, r"was busy, or the quota is used up, in 2 tries \(HTTP 429\)"),
        (401, 1, r"doesn't accept the API key: set MEDGROUND_API_KEY \(HTTP 401\)"),
        (403, 1, r"doesn't let this API key use the model"),
        (404, 1, r"knows no model 'Qwen/Qwen3-VL-4B-Instruct'"),
        (413, 1, r"lower max_pixels"),
        (422, 1, r"does Qwen/Qwen3-VL-4B-Instruct read images"),
        (418, 1, r"HTTP 418"),
    ],
)
def test_refusals_are_one_sentence(server: Server, status: int, tries: int, message: str) -> None:
    server.reply = echo_error(status)
    assert re.search(message, failure(reasoner(server)))
    assert len(server.bodies) == tries
    with pytest.raises(ReasonerError, match=message):
        list(reasoner(server).stream(Request(picture(), QUESTION)))


def test_a_wrong_path_is_told(server: Server) -> None:
    lost = EndpointReasoner(f"{server.url}/v2#qwen3-vl", api_key=KEY, max_retries=0)
    assert "check the address" in failure(lost)


def test_a_silent_server_times_out(server: Server) -> None:
    release = threading.Event()
    server.reply = lambda handler, body: (release.wait(5), handler.say(ANSWER))[1]
    start = time.monotonic()
    assert "gave no answer within 0.3 s, in 1 try" in failure(reasoner(server, timeout=0.3, max_retries=0))
    assert time.monotonic() - start < 3
    release.set()


def test_an_absent_server_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lost = EndpointReasoner(f"http://127.0.0.1:{port}/v1#qwen3-vl", api_key=KEY, max_retries=0)
    assert "can't be reached" in failure(lost)


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [',
        b"[]",
        b'"hello"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": [{"index": 0}]}',
        b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
        b"<html>hello</html>",
    ],
)
def test_what_is_no_chat_completion_is_told(server: Server, data: bytes) -> None:
    kind = "text/html" if data.startswith(b"<") else "application/json"
    server.reply = lambda handler, body: handler.send(data, kind)
    assert "isn't a chat completion" in failure(reasoner(server, max_retries=0))


def test_an_empty_answer_is_an_error(server: Server) -> None:
    server.reply = lambda handler, body: handler.say(None, finish="content_filter")
    assert failure(reasoner(server)).endswith("gave no text: its content filter stepped in")
    server.reply = lambda handler, body: handler.say("", finish=f"echo {QUESTION}")
    assert failure(reasoner(server)).endswith("gave no text")


def test_redirects_are_not_followed(server: Server) -> None:
    with Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        target = {"Location": f"{other.url}/chat/completions"}
        server.reply = lambda handler, body: handler.send_json({}, 307, target)
        assert "redirects elsewhere" in failure(reasoner(server))
        assert other.bodies == []
        other.shutdown()


def test_streams_give_the_text_as_it_comes(server: Server) -> None:
    pieces = ["<think>The dark ", "round part.</think>", "", '<answer>{"bbox": [1, 2, 3, 4]}</answer>']
    server.reply = lambda handler, body: handler.say_in_pieces([{"content": piece} for piece in pieces], wait=0.3)
    stream = reasoner(server).stream(Request(picture(), QUESTION), max_new_tokens=5)
    assert next(stream) == pieces[0]
    assert server.under_way == 1  # before the server has said it all
    assert "".join(stream) == ANSWER.removeprefix(pieces[0])
    assert server.bodies[0]["stream"] is True
    assert server.bodies[0]["max_tokens"] == 5


def test_a_stream_that_breaks_off_is_an_error(server: Server) -> None:
    server.reply = lambda handler, body: handler.say_in_pieces([{"content": "half"}], end=False)
    got = []
    with pytest.raises(ReasonerError, match="broke off"):
        got.extend(reasoner(server).stream(Request(picture(), QUESTION)))

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        error = json.dumps({"error": {"message": f"echo {QUESTION}"}})
        handler.send(f"data: {error}\n\n".encode(), "text/event-stream")

    server.reply = reply
    with pytest.raises(ReasonerError, match="midway") as caught:
        list(reasoner(server).stream(Request(picture(), QUESTION)))
    assert QUESTION not in str(caught.value)
    server.reply = lambda handler, body: handler.send(b"data: {oops\n\n", "text/event-stream")
    with pytest.raises(ReasonerError, match="isn't a chat completion"):
        list(reasoner(server).stream(Request(picture(), QUESTION)))


def test_a_closed_stream_frees_its_slot(server: Server) -> None:
    server.reply = lambda handler, body: handler.say_in_pieces([{"content": "word "}] * 100, wait=0.02)
    asked = reasoner(server, max_concurrency=1)
    stream = asked.stream(Request(picture(), QUESTION))
    next(stream)
    stream.close()
    server.reply = lambda handler, body: handler.say(ANSWER)
    assert asked.complete([Request(picture(), QUESTION)])[0].text == ANSWER


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_took_apart_is_put_back(server: Server, field: str) -> None:
    server.reply = lambda handler, body: handler.say("<answer>{}</answer>", **{field: "It is round."})
    asked = reasoner(server)
    expected = "<think>It is round.</think><answer>{}</answer>"
    assert asked.complete([Request(picture(), QUESTION)])[0].text == expected
    deltas = [{field: "It is "}, {field: "round."}, {"content": "<answer>"}, {"content": "{}</answer>"}]
    server.reply = lambda handler, body: handler.say_in_pieces(deltas)
    assert "".join(asked.stream(Request(picture(), QUESTION))) == expected
    server.reply = lambda handler, body: handler.say(None, finish="length", **{field: "It is"})
    assert asked.complete([Request(picture(), QUESTION)])[0].text == "<think>It is"


def test_servers_that_know_no_max_tokens_get_the_newer_field(server: Server) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if "max_tokens" in body:
            handler.send_json({"error": {"message": "no", "param": "max_tokens"}}, 400)
        elif body["temperature"] != 1:
            handler.send_json({"error": {"message": "no", "param": "temperature"}}, 400)
        else:
            handler.say(str(body["max_completion_tokens"]))

    server.reply = reply
    asked = reasoner(server)
    assert asked.complete([Request(picture(), QUESTION)], temperature=1.0, max_new_tokens=9)[0].text == "9"
    assert asked.complete([Request(picture(), QUESTION)], temperature=1.0, max_new_tokens=8)[0].text == "8"
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False]
    assert "refuses the temperature" in failure(asked)


def test_logs_hold_no_question_no_image_and_no_key(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    import openai  # its loggers exist from here on

    names = [name for name in logging.root.manager.loggerDict if name.startswith(("openai", "http"))]
    assert f"{openai.__name__}._base_client" in names
    with caplog.at_level(logging.DEBUG):
        for name in names:
            caplog.set_level(logging.DEBUG, name)
        asked = reasoner(server)
        assert asked.complete([Request(picture(), QUESTION)])[0].text == ANSWER
        server.reply = echo_error(500)
        failure(asked)
    assert caplog.records
    url = server.bodies[0]["messages"][-1]["content"][0]["image_url"]["url"]
    for record in caplog.records:
        shown = record.getMessage() + repr(record.args)
        for secret in (KEY, QUESTION, url[30:60]):
            assert secret not in shown


def test_keys_come_from_the_argument_or_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def used(**options: Any) -> str:
        EndpointReasoner(f"{server.url}#qwen3-vl", **options).complete([Request(picture(), QUESTION)])
        return server.headers[-1]["authorization"]

    assert used() == "Bearer none"
    monkeypatch.setenv("OPENAI_API_KEY", "second")
    monkeypatch.setenv("OPENAI_ORG_ID", "my-organisation")
    assert used() == "Bearer second"
    monkeypatch.setenv("MEDGROUND_API_KEY", " first\n")
    assert used() == "Bearer first"
    assert used(api_key="given") == "Bearer given"
    assert "openai-organization" not in server.headers[-1]
    with pytest.raises(ReasonerError, match="no HTTP header") as caught:
        used(api_key="sk-ö")
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("https://host/v1", "which model"),
        ("https:///v1#m", "isn't a URL"),
        ("https://host:99999/v1#m", "isn't a URL"),
        ("https://me:sk-very-secret-key@host/v1#m", "holds a user or a query"),
        ("https://host/v1?key=sk-very-secret-key#m", "holds a user or a query"),
        ("http://example.org/v1#qwen3-vl", "unencrypted"),
        ("https://example.org/v1#qwen3-vl", "needs an API key"),
    ],
)
def test_addresses_that_cannot_be_used(spec: str, message: str) -> None:
    with pytest.raises(ReasonerError, match=message) as caught:
        load_reasoner(spec)
    assert KEY not in str(caught.value)


def test_unencrypted_hosts_are_a_choice_and_this_machine_needs_none() -> None:
    EndpointReasoner("http://example.org/v1#qwen3-vl", api_key="none", allow_insecure=True)
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        EndpointReasoner(f"http://{host}/v1#qwen3-vl")


def test_settings_are_checked(server: Server) -> None:
    with pytest.raises(ConfigError, match="in which coordinates"):
        reasoner(server, "gpt-9")
    for options, message in [
        ({"coordinates": "inches"}, "inches"),
        ({"template": "umrg-v9"}, "umrg-v9"),
        ({"timeout": 0}, "timeout"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_pixels": 0}, "max_pixels"),
        ({"max_retries": -1}, "max_retries"),
    ]:
        with pytest.raises((ConfigError, ReasonerError), match=message):
            reasoner(server, **options)
    with pytest.raises(ConfigError, match="temperature"):
        reasoner(server).complete([Request(picture(), QUESTION)], temperature=float("nan"))
    with pytest.raises(ReasonerError, match="adapter"):
        load_reasoner(f"{server.url}#qwen3-vl", adapter="mine")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medground\[remote\]'"):
        load_reasoner("http://localhost/v1#qwen3-vl")


def test_the_report_of_a_reasoner_holds_no_key(server: Server) -> None:
    report = reasoner(server, template="umrg-v1").describe()
    assert report["endpoint"] == server.url
    assert report["coordinates"] == "0-1000"
    assert KEY not in json.dumps(report)

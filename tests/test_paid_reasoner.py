"""A service that charges: a real HTTP server on this machine, a cap, a pace, and a ledger that must add up."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")

from loopback import Handler, Server

from medground.data.ledger import CostError
from medground.data.rows import Picture, Row
from medground.errors import ConfigError, ReasonerError
from medground.evaluate.paid import PaidReasoner
from medground.evaluate.predictions import read_run
from medground.evaluate.run import evaluate
from medground.images import MedicalImage
from medground.reasoners import Request

ANSWER = '<think>It is there.</think><answer>{"bbox": [100, 100, 500, 500]}</answer>'
PRICES = (1000.0, 10_000.0)
"""Of a million tokens: an answer of 500 in and 50 out costs 1."""


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEDGROUND_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        server.reply = lambda handler, body: handler.say(ANSWER, usage=(500, 50))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def paid(server: Server, folder: Path, **options: Any) -> PaidReasoner:
    options = {"prices": PRICES, "max_retries": 0, "timeout": 5.0} | options
    return PaidReasoner(f"{server.url}#qwen3-vl-large", folder, **options)


def requests(count: int) -> list[Request]:
    image = MedicalImage.from_array(np.arange(48, dtype=np.uint8).reshape(6, 8))
    return [Request(image, f"Where is number {number}?") for number in range(count)]


def rows(count: int) -> list[Row]:
    pictures = [Picture.of_mask(np.roll(np.eye(16, dtype=bool), number, axis=0)) for number in range(count)]
    fields = {"image_size": (16, 16), "box": (1, 1, 4, 4), "split": "test"}
    return [
        Row(id=f"{number:02}", question=f"Where is number {number}?", image=picture, **fields)
        for number, picture in enumerate(pictures)
    ]


def test_answers_are_kept_and_counted(server, tmp_path):
    reasoner = paid(server, tmp_path)
    said = reasoner.complete(requests(3), max_new_tokens=50)
    assert [each.text for each in said] == [ANSWER] * 3
    spent = reasoner.spent()
    assert (spent.requests, spent.input_tokens, spent.output_tokens, spent.open) == (3, 1500, 150, 0)
    assert spent.cost == pytest.approx(3.0)
    again = paid(server, tmp_path).complete(requests(4), max_new_tokens=50)
    assert [each.text for each in again] == [ANSWER] * 4
    assert len(server.bodies) == 4  # three of them were there
    kept = [json.loads(file.read_text()) for file in tmp_path.glob("answers/*/*.json")]
    assert {each["text"] for each in kept} == {ANSWER}
    assert "number" not in "".join(map(json.dumps, kept))  # no question is written down


@pytest.mark.parametrize(
    "changed",
    [
        {"temperature": 0.5},
        {"max_new_tokens": 49},
        {"seed": 1},
    ],
)
def test_what_decides_an_answer_decides_whether_it_is_asked_for_again(server, tmp_path, changed):
    reasoner = paid(server, tmp_path)
    for _ in range(2):
        reasoner.complete(requests(1), **({"max_new_tokens": 50} | changed))
    reasoner.complete(requests(1), max_new_tokens=50)
    assert len(server.bodies) == 2


def test_samples_of_one_request_are_bought_one_by_one(server, tmp_path):
    [request] = requests(1)
    server.reply = lambda handler, body: handler.say(f"{body.get('seed')} {len(server.bodies)}", usage=(1, 1))
    said = paid(server, tmp_path).complete([request] * 3, temperature=1.0, seed=5)
    assert sorted(each.text.split()[0] for each in said) == ["5", "6", "7"]
    plain = paid(server, tmp_path).complete([request] * 3, temperature=1.0)
    assert len({each.text for each in plain}) == 3
    assert paid(server, tmp_path).complete([request] * 3, temperature=1.0, seed=5) == said
    assert len(server.bodies) == 6


def test_a_run_that_reaches_its_cap_stops_and_goes_on_with_another(server, tmp_path):
    run, account = tmp_path / "run", tmp_path / "account"
    options = {"split": "test", "batch": 1, "max_new_tokens": 50}
    with pytest.raises(CostError, match=r"max_cost 6 is reached: .* raise max_cost and run again"):
        evaluate(rows(12), run, reasoner=paid(server, account, max_cost=6.0, max_concurrency=2), **options)
    before = read_run(run).predictions
    assert len(before) == 4  # the first chunk is written; what the second one paid for is on the account
    assert all(each.error is None and each.completion == ANSWER for each in before)
    asked = len(server.bodies)
    assert len(before) < asked <= 6
    evaluate(rows(12), run, reasoner=paid(server, account, max_cost=50.0), **options)
    after = read_run(run).predictions
    assert [each.completion for each in after] == [ANSWER] * 12
    assert len(server.bodies) == 12  # none was paid for twice, also of the chunk that the cap cut
    assert paid(server, account).spent().cost == pytest.approx(12.0)


def test_the_cap_holds_however_many_are_under_way(server, tmp_path):
    def slowly(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.05)
        handler.say(ANSWER, usage=(500, 50))

    server.reply = slowly
    reasoner = paid(server, tmp_path, max_cost=4.5, max_concurrency=16)
    with pytest.raises(CostError):
        reasoner.complete(requests(16), max_new_tokens=50)
    assert reasoner.spent().cost <= 4.5
    assert len(server.bodies) <= 4
    assert len(list(tmp_path.glob("answers/*/*.json"))) == len(server.bodies)  # those under way ended first


def test_requests_start_evenly_within_the_minute(server, tmp_path):
    reasoner = paid(server, tmp_path, per_minute=600, max_concurrency=8)
    started = time.monotonic()
    reasoner.complete(requests(5), max_new_tokens=50)
    assert time.monotonic() - started >= 0.4  # a floor, so that a slow machine can't fail it


def test_a_refused_request_costs_nothing_and_others_go_on(server, tmp_path):
    def sometimes(handler: Handler, body: dict[str, Any]) -> None:
        if "number 1" in json.dumps(body):
            handler.send_json({"error": {"message": "no"}}, 400)
        else:
            handler.say(ANSWER, usage=(500, 50))

    server.reply = sometimes
    reasoner = paid(server, tmp_path)
    said = reasoner.complete(requests(3), max_new_tokens=50)
    assert [each.error is None for each in said] == [True, False, True]
    assert reasoner.spent().cost == pytest.approx(2.0)


def test_a_busy_server_is_asked_again_and_counted_once(server, tmp_path):
    def busy_first(handler: Handler, body: dict[str, Any]) -> None:
        if len(server.bodies) == 1:
            handler.send_json({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
        else:
            handler.say(ANSWER, usage=(500, 50))

    server.reply = busy_first
    reasoner = paid(server, tmp_path, max_retries=2)
    assert reasoner.complete(requests(1), max_new_tokens=50)[0].text == ANSWER
    assert reasoner.spent().requests == 1


def test_an_empty_answer_is_paid_and_told(server, tmp_path):
    server.reply = lambda handler, body: handler.say("", finish="length", usage=(500, 50))
    reasoner = paid(server, tmp_path)
    for _ in range(2):
        [said] = reasoner.complete(requests(1), max_new_tokens=50)
        assert said.error == "qwen3-vl-large gave no text within max_new_tokens"
    assert len(server.bodies) == 1
    assert reasoner.spent().cost == pytest.approx(1.0)


def test_a_stream_is_paid_for_too(server, tmp_path):
    reasoner = paid(server, tmp_path, max_cost=1.5)
    [request] = requests(1)
    assert list(reasoner.stream(request, max_new_tokens=50)) == [ANSWER]
    assert reasoner.complete([request], max_new_tokens=50)[0].text == ANSWER
    with pytest.raises(CostError):
        list(reasoner.stream(requests(2)[1], max_new_tokens=50))
    server.reply = lambda handler, body: handler.send_json({"error": {"message": "no"}}, 400)
    with pytest.raises(ReasonerError, match="refused the request"):
        list(paid(server, tmp_path).stream(requests(2)[1]))


def test_a_damaged_account_ends_the_run_instead_of_failing_each_row(server, tmp_path):
    reasoner = paid(server, tmp_path)
    reasoner.complete(requests(1), max_new_tokens=50)
    [file] = tmp_path.glob("answers/*/*.json")
    file.write_text("{")
    with pytest.raises(ConfigError, match="delete it to ask again"):
        reasoner.complete(requests(2), max_new_tokens=50)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"prices": None, "max_cost": 1.0}, "max_cost needs prices"),
        ({"max_cost": -1.0}, "max_cost must be 0 or above"),
        ({"prices": (1.0,)}, "prices must be two numbers"),
        ({"per_minute": 0.0}, "per_minute must be above 0"),
    ],
)
def test_settings_that_cannot_be_used(server, tmp_path, options, why):
    with pytest.raises(ConfigError, match=why):
        paid(server, tmp_path, **options)

"""Thinking by a model behind a real HTTP server on this machine, which misbehaves on demand."""

from __future__ import annotations

import json
import threading

import pytest

pytest.importorskip("openai")

from loopback import Server

from medground.data.vqa.blocks import Draft
from medground.data.vqa.making import lacking, row_of
from medground.data.vqa.pools import Item
from medground.data.vqa.scene import Scene, Thing
from medground.data.vqa.writing import Thinker, object_to_thinking
from medground.errors import ReasonerError

LUNGS = (Thing("left lung", "lung", (120, 20, 180, 90), {}), Thing("right lung", "lung", (20, 20, 90, 80), {}))
SCENE = Scene(
    "smith^anna.png", 200, 100, "X-ray", "secret-collection", "CC0", "patient-7", "train", LUNGS,
    frozenset({"lung"}), frozenset(), "",
)  # fmt: skip
GOOD = (
    "The question asks which of the two is larger, so both have to be looked at. The left lung (region "
    "[120, 20, 180, 90]) reaches further down than the right lung (region [20, 20, 90, 80]), and so the left one is it."
)


def draft(**changes):
    item = Item(SCENE, LUNGS, "left lung", "The height is 70 pixels for the left lung and 60 for the right lung.")
    fields = {"question": "Which is taller?", "choices": ("left lung", "right lung"), "answer": "A", "item": item}
    return Draft("single_choice", "compare taller", "lungs", **{**fields, **changes})


@pytest.fixture
def server(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDGROUND_API_KEY", "sk-very-secret-key")
    with Server() as server:
        server.reply = lambda handler, body: handler.say(json.dumps({"thinking": GOOD}), usage=(100, 50))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def thinker(server, folder, **options):
    return Thinker(f"{server.url}#writer-70b", folder / "thoughts", **{"timeout": 5.0, "max_retries": 0, **options})


def test_thinking_that_is_kept_and_asked_for_once(server, tmp_path):
    written = thinker(server, tmp_path).write_all([draft(), draft()])
    assert written == [GOOD, GOOD]
    assert thinker(server, tmp_path).write(draft()) == GOOD
    assert len(server.bodies) <= 2  # two at once may both ask; the later run finds it
    row = row_of(draft(), 1, GOOD, thinker(server, tmp_path).name)
    assert lacking(row) == ""
    assert row.other["thought_by"].startswith("writer-70b") or "writer-70b" in row.other["thought_by"]


def test_what_leaves_the_machine(server, tmp_path):
    thinker(server, tmp_path).write(draft())
    (body,) = server.bodies
    sent = json.dumps(body)
    assert not any(secret in sent for secret in ("smith", "secret-collection", "patient-7", "image_url"))
    told = json.loads(body["messages"][1]["content"])
    assert told["regions"] == ["left lung ([120, 20, 180, 90])", "right lung ([20, 20, 90, 80])"]
    assert told["choices"] == {"A": "left lung", "B": "right lung"}
    assert told["answer"] == "A"
    assert "[visual location: left lung ([120, 20, 180, 90]), right lung" in told["sentences"][0]


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("Too short.", "2 words"),
        (GOOD.replace("[20, 20, 90, 80]", "[20, 20, 90, 81]"), "boxes a region that isn't one"),
        (GOOD.replace(" (region [20, 20, 90, 80])", ""), "doesn't name right lung"),
        (GOOD + " See [900, 900, 950, 950].", "boxes a region that isn't one"),
        (GOOD + " </think>", "'<'"),
        (GOOD + " The report says so.", "the report"),
    ],
)
def test_objections(text, objection):
    assert objection in object_to_thinking(draft(), text)
    assert object_to_thinking(draft(), GOOD) == ""


def test_a_question_without_a_place_has_no_box():
    nowhere = draft(shown=False)
    assert "boxes a region" in object_to_thinking(nowhere, GOOD)
    plain = "What is asked for would lie in another part of the body than the one that this picture shows, so it is no."
    assert object_to_thinking(nowhere, plain) == ""


def test_the_model_is_told_what_is_wrong_and_tries_again(server, tmp_path):
    replies = ["no JSON at all", json.dumps({"thinking": "short"}), json.dumps({"thinking": GOOD})]
    server.reply = lambda handler, body: handler.say(replies.pop(0))
    assert thinker(server, tmp_path).write(draft()) == GOOD
    said = [body["messages"][-1]["content"] for body in server.bodies[1:]]
    assert "holds no JSON object" in said[0]
    assert "it has 1 words" in said[1]


def test_a_model_that_never_gets_it_right_leaves_it_to_the_grammar(server, tmp_path):
    server.reply = lambda handler, body: handler.say(json.dumps({"thinking": "short"}))
    assert thinker(server, tmp_path, tries=2).write(draft()) is None
    assert len(server.bodies) == 2


def test_a_server_that_fails(server, tmp_path):
    server.reply = lambda handler, body: handler.send_json({"error": {"message": "broken"}}, 500)
    with pytest.raises(ReasonerError):
        thinker(server, tmp_path).write_all([draft()])

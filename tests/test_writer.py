"""The words of a build by a model behind a real HTTP server on this machine, which misbehaves on demand."""

from __future__ import annotations

import base64
import io
import json
import logging
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("openai")

from drawn import ellipse
from loopback import Handler, Server

from medground import taxonomy
from medground.data.briefing import instructions, object_to_description, object_to_question, tidy
from medground.data.describe import describe, measure_picture
from medground.data.gates import refuse
from medground.data.grammar import Grammar, Words
from medground.data.ledger import CostError, Ledger, Spent
from medground.data.stages import StageError, read_parts, run_stage
from medground.data.writer import Writer
from medground.errors import ConfigError, MissingExtraError, ReasonerError, TruthError
from medground.masks import box_of, encode_rle, key_points

KEY = "sk-very-secret-key"
SECRETS = ("secret-collection", "patient-7", "smith^anna", "picture-of-anna", "ID-0815")

Record = dict[str, Any]


def drawn_record(number: int = 0, category: str = "kidney left", image: str = "smith^anna.png") -> Record:
    """A measured record; another number is another target."""
    grey = np.random.default_rng(0).normal(80, 6, (120, 160)).clip(0, 255).astype(np.uint8)
    mask = ellipse(120, 160, 30 + number % 20, 40 - number % 7, 12, 18)
    grey[mask] = 190
    record = {
        "id": f"ID-0815/{number}",
        "picture": "picture-of-anna",
        "image": image,
        "width": 160,
        "height": 120,
        "category": category,
        "modality": "CT",
        "source": "secret-collection",
        "licence": "CC0",
        "tier": "A",
        "group": "patient-7",
        "split": "train",
        "mask": encode_rle(mask),
        "bbox": list(box_of(mask).xyxy),
        "points": [list(point.xy) for point in key_points(mask)],
        "parts": 1,
        "share": float(mask.mean()),
        "origin": {},
    }
    (measured,) = measure_picture([record], grey)
    return measured


def wanted(record: Record, **other: Any) -> Record:
    """What the third stage asks for."""
    request = {
        **record,
        "absent": False,
        "style": "function",
        "length": "short",
        "held_out": False,
        "side": record["attributes"]["side"],
        "looks_in": "CT",
        "seen": ["kidney"],
        "home": None,
    }
    return {**request, **other}


def brief(body: dict[str, Any]) -> dict[str, Any]:
    """What the model is told, as it would read it."""
    said = body["messages"][1]["content"]
    text = said if isinstance(said, str) else said[1]["text"]
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return found


def good(body: dict[str, Any]) -> dict[str, str]:
    """What a good model writes; it knows the prompt alone."""
    told = brief(body)
    name, seen, side = told["target"]["name"], told.get("measured", {}), told.get("which one", "")
    if "short" in body["messages"][0]["content"]:
        looks = f"It is {seen['size']} and {seen['shape']}, and {seen['brightness']}."
        long = f"This is the {name}, which matters in daily practice. It lies {seen['place']}. {looks} "
        return {
            "short": f"the {name} {seen['place']}, {seen['size']} and {seen['shape']}",
            "long": long + "Disease of it is common, so that a reader looks at it on every occasion.",
        }
    question = f"Where is {told['idea'][0]}{f', the one {side}' if side else ''}?"
    start = f"What is meant is the {name}. {told['target']['fact']}"
    if seen:
        end = f"It lies {seen['place']}. It is {seen['size']} and {seen['shape']}. It is {seen['brightness']}."
    else:
        home = told.get("found in", "a micrograph")
        end = f"The picture shows {told['shown'][0]}, and one would look in {home}. So it is absent here."
    return {"question": question, "reasoning": f"{start} {end}"}


def well(handler: Handler, body: dict[str, Any], usage: tuple[int, int] | None = (1000, 200)) -> None:
    handler.say(json.dumps(good(body)), usage=usage)


def in_turn(*replies: str | None) -> Callable[[Handler, dict[str, Any]], None]:
    """Say these, then write well."""
    left = list(replies)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if left:
            handler.say(left.pop(0), usage=(1000, 200))
        else:
            well(handler, body)

    return reply


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDGROUND_API_KEY", KEY)
    with Server() as server:
        server.reply = well
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def writer(server: Server, folder: Path, **options: Any) -> Writer:
    options = {"timeout": 5.0, "max_retries": 0} | options
    return Writer(f"{server.url}#writer-70b", folder / "cache", **options)


def rng(seed: int = 0) -> random.Random:
    return random.Random(seed)


# ---- what is asked, and what comes of it ----


def test_a_description(server: Server, tmp_path: Path) -> None:
    record = drawn_record()
    said = writer(server, tmp_path).describe(record)
    assert said == good(server.bodies[0])
    assert object_to_description(record, said) is None
    (body,) = server.bodies
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"] == instructions("describe")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("writer-70b", 0.8, 1024)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["short", "long"]
    assert schema["additionalProperties"] is False
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("style", taxonomy.STYLES)
@pytest.mark.parametrize("length", ["short", "long"])
def test_a_question(server: Server, tmp_path: Path, style: str, length: str) -> None:
    request = wanted(drawn_record(), style=style, length=length)
    said = writer(server, tmp_path).ask(request, rng())
    told = brief(server.bodies[0])
    assert refuse({**request, **said}) is None
    assert len(told["idea"]) == (1 if length == "short" else 2)
    assert told["idea"][0] in taxonomy.phrases(taxonomy.target_of("kidney left"), "CT")[style]
    assert set(told["forbidden"]) == set(taxonomy.target_of("kidney left").terms)
    assert ("patient" in told["asker"]) is (style == "lay")


def test_a_held_out_question_starts_from_held_out_words(server: Server, tmp_path: Path) -> None:
    for seed in range(5):
        writer(server, tmp_path).ask(wanted(drawn_record(), held_out=True), rng(seed))
        writer(server, tmp_path).ask(wanted(drawn_record()), rng(seed))
    unseen, seen = server.bodies[::2], server.bodies[1::2]
    assert {brief(body)["idea"][0] for body in unseen} <= set(taxonomy.target_of("kidney left").unseen.function)
    assert not {brief(body)["asker"] for body in unseen} & {brief(body)["asker"] for body in seen}


def test_a_question_about_what_is_absent(server: Server, tmp_path: Path) -> None:
    request = wanted(drawn_record(), absent=True, category="spleen", side=None, home="the upper abdomen")
    said = writer(server, tmp_path).ask(request, rng())
    assert refuse({**request, **said}) is None
    told = brief(server.bodies[0])
    assert "measured" not in told
    assert (told["shown"], told["found in"]) == (["kidney"], "the upper abdomen")
    assert server.bodies[0]["messages"][0]["content"] == instructions("absent")


def test_it_keeps_the_protocol_and_travels_without_the_key(server: Server, tmp_path: Path) -> None:
    words: Words = writer(server, tmp_path, fallback=Grammar(), temperature=0.3, seed=4, tries=2, max_new_tokens=700)
    packed = pickle.dumps(words)
    assert KEY.encode() not in packed
    again = pickle.loads(packed)  # noqa: S301 - our own
    assert again.name == words.name
    assert again.name.startswith("writer-70b writer-v1-")
    record = drawn_record()
    assert again.describe(record) == words.describe(record)
    assert len(server.bodies) == 1
    assert len({writer(server, tmp_path, **each).name for each in ({}, {"temperature": 0.1}, {"seed": 1})}) == 3


def test_no_name_of_a_file_or_a_patient_and_no_id_leaves(server: Server, tmp_path: Path) -> None:
    Image.fromarray(np.arange(120 * 160, dtype=np.uint16).reshape(120, 160).astype(np.uint8)).save(
        tmp_path / "smith^anna.png"
    )
    asked = writer(server, tmp_path, shown="outline", root=tmp_path)
    asked.describe(drawn_record())
    asked.ask(wanted(drawn_record()), rng())
    sent = json.dumps(server.bodies) + json.dumps(server.headers)
    assert not [secret for secret in SECRETS if secret in sent]


def sent_picture(body: dict[str, Any]) -> Image.Image:
    kind, data = body["messages"][1]["content"][0]["image_url"]["url"].split(",", 1)
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def test_the_picture_goes_along_plain_or_outlined(server: Server, tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (120, 160), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "smith^anna.png")
    record = drawn_record()
    writer(server, tmp_path, shown="picture", root=tmp_path).describe(record)
    plain = sent_picture(server.bodies[-1])
    assert np.array_equal(np.asarray(plain)[..., 0], grey)
    assert plain.info == {}
    outlined = writer(server, tmp_path, shown="outline", root=tmp_path, max_pixels=60_000)
    outlined.describe(record)
    colours = np.asarray(sent_picture(server.bodies[-1])).astype(int)
    assert 50_000 < colours.shape[0] * colours.shape[1] <= 60_000
    assert ((colours[..., 2] - colours[..., 0]) > 100).any()
    assert "sky-blue" in server.bodies[-1]["messages"][1]["content"][1]["text"]
    outlined.ask(wanted(record, absent=True, category="spleen", side=None, home="the abdomen"), rng())
    colours = np.asarray(sent_picture(server.bodies[-1])).astype(int)
    assert not (abs(colours[..., 2] - colours[..., 0]) > 0).any()
    # Another picture under the same name is another request.
    Image.fromarray(255 - grey).save(tmp_path / "smith^anna.png")
    count = len(server.bodies)
    outlined.describe(record)
    outlined.describe(record)
    assert len(server.bodies) == count + 1
    (tmp_path / "smith^anna.png").unlink()
    with pytest.raises(TruthError, match=r"can't be read .* restore the file"):
        outlined.describe(record)


# ---- answers that can't be used ----

BAD_FORMS = [
    ("", "holds no JSON object"),
    (None, "holds no JSON object"),
    ("The kidney is small.", "holds no JSON object"),
    ('{"short": "the kidney"', "holds no JSON object"),
    ('{"short": "the kidney"}', "long: Field required"),
    ('{"short": "the kidney", "long": 7}', "long: Input should be a valid string"),
    ('{"short": " ", "long": "It is."}', "short: Value error, is empty"),
    ("[1, 2]", "holds no JSON object"),
    ("{" * 3000, "holds no JSON object"),
    ('{"a":' * 3000, "holds no JSON object"),
    ("\ud800", "holds no JSON object"),
]


@pytest.mark.parametrize(("reply", "told"), BAD_FORMS)
def test_what_is_no_json_of_the_form_is_asked_again_with_the_mistake(
    server: Server, tmp_path: Path, reply: str | None, told: str
) -> None:
    server.reply = in_turn(reply)
    assert writer(server, tmp_path).describe(drawn_record()) == good(server.bodies[0])
    first, second = server.bodies
    assert second["messages"][:2] == first["messages"]
    assert [turn["role"] for turn in second["messages"][2:]] == ["assistant", "user"]
    assert told in second["messages"][-1]["content"]


@pytest.mark.parametrize("wrap", ["```json\n{}\n```", "Here it is:\n{}\nDone.", "<think>{{}}</think>\n{}"])
def test_json_is_found_in_what_models_write(server: Server, tmp_path: Path, wrap: str) -> None:
    server.reply = lambda handler, body: handler.say(
        wrap.replace("{{}}", '{"a": 1}').replace("{}", json.dumps(good(body)))
    )
    assert writer(server, tmp_path).describe(drawn_record()) == good(server.bodies[0])
    assert len(server.bodies) == 1


def test_the_last_object_counts(server: Server, tmp_path: Path) -> None:
    server.reply = lambda handler, body: handler.say('{"short": "a", "long": "b"} No: ' + json.dumps(good(body)))
    assert writer(server, tmp_path).describe(drawn_record()) == good(server.bodies[0])
    assert len(server.bodies) == 1


def test_a_server_that_knows_no_schema_does_without(server: Server, tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if "response_format" in body:
            handler.send_json({"error": {"message": "no", "param": "response_format"}}, 400)
        else:
            well(handler, body)

    server.reply = reply
    asked = writer(server, tmp_path)
    asked.describe_all([drawn_record(number) for number in range(3)])
    asked.describe(drawn_record(9))
    assert ["response_format" in body for body in server.bodies][-1] is False
    assert asked.spent().requests == 4


def test_an_answer_that_was_cut_is_told_so(server: Server, tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.say('{"short": "the', finish="length") if len(server.bodies) == 1 else well(handler, body)

    server.reply = reply
    writer(server, tmp_path).describe(drawn_record())
    assert "be brief" in server.bodies[1]["messages"][-1]["content"]


SHORT = "the kidney in the upper left of the image"
LONG = "This is the kidney, which filters blood all day long. It lies in the upper left of the image. "
LONG += "It is oval and small. Stones are found in it."
BAD_DESCRIPTIONS = [
    (SHORT, LONG, None, "good"),
    ("the kidney", LONG, "short' has 2 words", "too short"),
    (SHORT, "The kidney. " * 90, "long' has 180 words", "too long"),
    ("the organ in the upper left of the image", LONG, "doesn't name the target", "no name"),
    (SHORT, LONG.replace("small", "large"), "'large', read as size large; true is medium-sized or small", "false"),
    (SHORT, LONG.replace("upper left", "lower right"), "read as place lower right", "a false place"),
    (SHORT, LONG + " <image>", "the sign '<'", "a tag"),
    (SHORT, LONG + " **Bold**", "the sign '*'", "a list or bold"),
    (SHORT, LONG + " 腎", "beyond ASCII", "another script"),
    (SHORT, LONG + " The mask shows it.", "says 'mask'", "about the mask"),
]


@pytest.mark.parametrize(("short", "long", "told", "why"), BAD_DESCRIPTIONS, ids=[row[3] for row in BAD_DESCRIPTIONS])
def test_objections_to_a_description(short: str, long: str, told: str | None, why: str) -> None:
    objection = object_to_description(drawn_record(), {"short": short, "long": long})
    assert (objection is None) if told is None else (objection is not None and told in objection.told)


Q = "Where is the organ that makes urine, the one on the left side of the image?"
R = "What is meant is the kidney, as it makes urine. It lies in the upper left of the image. It is small and oval. "
R += "It is brighter than its surroundings."
BAD_QUESTIONS = [
    (Q, R, None, "good"),
    (Q.replace("left side of the image", "left side of the patient's body"), R, None, "the side in other words"),
    (Q.replace("organ that", "organ at the top of the picture that"), R, "where in the picture", "a place, otherwise"),
    ("Where is the left kidney?", R, "forbidden word 'kidney'", "the name"),
    ("Where are renal stones formed on the left side?", R, "forbidden word 'renal'", "a word of the same root"),
    ("Where is the organ that makes urine?", R, "which one is meant: on the left side", "no side"),
    (Q.replace("the organ", "the organ in the upper right of the image"), R, "where in the picture", "a place"),
    ("Urine?", R, "'question' has 1 words", "too short"),
    (Q.rstrip("?"), R, "must end with a stop", "no end"),
    (Q + " <image>", R, "the sign '<'", "a tag"),
    (Q, R.replace("the kidney", "the organ"), "doesn't name what is meant, kidney", "no name"),
    (Q, R.replace("small", "tiny"), "read as size tiny", "false"),
    (Q, R.replace("It is small and oval. ", ""), "size (small), shape (oval)", "something left out"),
    (Q, R + " The bounding box holds it.", "says 'bounding box'", "about the box"),
    (Q, "The kidney.", "'reasoning' has 2 words", "too short"),
]


@pytest.mark.parametrize(("question", "reasoning", "told", "why"), BAD_QUESTIONS, ids=[row[3] for row in BAD_QUESTIONS])
def test_objections_to_a_question(question: str, reasoning: str, told: str | None, why: str) -> None:
    objection = object_to_question(wanted(drawn_record()), {"question": question, "reasoning": reasoning})
    assert (objection is None) if told is None else (objection is not None and told in objection.told)


@pytest.mark.parametrize(
    ("reasoning", "told"),
    [
        (
            "The spleen filters blood. The picture shows the kidney. So the spleen is absent from this picture here.",
            None,
        ),
        ("The spleen filters blood. It is brighter than its surroundings. So the spleen is absent.", "describes"),
        ("The spleen is meant. It is small and oval. The picture shows the kidney. So it is absent here.", "describes"),
        ("The spleen filters blood all day long. The picture shows the kidney, and that is all of it.", "conclude"),
    ],
)
def test_objections_to_absence(reasoning: str, told: str | None) -> None:
    request = wanted(drawn_record(), absent=True, category="spleen", side=None, home="the abdomen")
    said = {"question": "Where is the organ that filters old blood cells?", "reasoning": reasoning}
    objection = object_to_question(request, said)
    assert (objection is None) if told is None else (objection is not None and told in objection.told)


def test_what_is_objected_to_is_asked_again_with_the_reason(server: Server, tmp_path: Path) -> None:
    bad = {"question": "Where is the kidney on the left side of the image?", "reasoning": R}
    server.reply = in_turn(json.dumps(bad), json.dumps({"question": Q, "reasoning": R.replace("small", "tiny")}))
    request = wanted(drawn_record())
    said = writer(server, tmp_path).ask(request, rng())
    assert refuse({**request, **said}) is None
    told = [body["messages"][-1]["content"] for body in server.bodies[1:]]
    assert "forbidden word 'kidney'" in told[0]
    assert "read as size tiny; true is medium-sized or small" in told[1]


def test_a_question_that_stays_bad_is_left_to_the_gates(server: Server, tmp_path: Path) -> None:
    bad = {"question": "Where is the kidney on the left side of the image?", "reasoning": R}
    server.reply = lambda handler, body: handler.say(json.dumps(bad))
    request = wanted(drawn_record())
    asked = writer(server, tmp_path)
    assert refuse({**request, **asked.ask(request, rng())}) == "the question names its target: 'kidney'"
    assert len(server.bodies) == 3
    asked.ask(request, rng(1))  # another attempt is another request, though the words may be the same
    assert len(server.bodies) == 6


def test_nothing_usable_is_an_error_that_quotes_nothing_and_can_be_tried_again(server: Server, tmp_path: Path) -> None:
    record = drawn_record()
    server.reply = lambda handler, body: handler.say(
        json.dumps({"short": SHORT, "long": LONG.replace("small", "large")})
    )
    asked = writer(server, tmp_path, tries=2)
    with pytest.raises(ReasonerError) as error:
        asked.describe(record)
    assert str(error.value) == (
        "ID-0815/0: writer-70b wrote nothing usable in 2 tries (the last: a claim that is false); run again to ask "
        "anew, allow more tries, or give a fallback"
    )
    assert len(server.bodies) == 2
    server.reply = well
    assert asked.describe(record) == good(server.bodies[0])


def test_the_fallback_says_that_it_wrote(server: Server, tmp_path: Path) -> None:
    record, grammar = drawn_record(), Grammar()
    server.reply = lambda handler, body: handler.say("no")
    asked = writer(server, tmp_path, tries=1, fallback=grammar)
    assert asked.describe(record) == {**grammar.describe(record), "described_by": "grammar-v1"}
    said = asked.ask(wanted(record), rng())
    assert said["asked_by"] == grammar.name
    assert refuse({**wanted(record), **said}) is None


def test_tidy() -> None:
    assert tidy(" A “naïve”\nview – 3 × 4… ") == 'A "naive" view - 3 x 4...'
    with pytest.raises(ValueError, match="is empty"):
        tidy(" \n ")


# ---- a server that fails ----


def test_a_busy_server_is_asked_again_when_it_says(server: Server, tmp_path: Path) -> None:
    times: list[float] = []

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            handler.send_json({"error": {"message": "busy"}}, 429, {"Retry-After": "0.9"})
        else:
            well(handler, body)

    server.reply = reply
    asked = writer(server, tmp_path, max_retries=1)
    asked.describe(drawn_record())
    assert len(times) == 2
    assert times[1] - times[0] >= 0.85  # without the header the client waits at most half a second
    assert asked.spent().requests == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, r"failed in 1 try \(HTTP 500\)"),
        (401, "doesn't accept the API key"),
        (429, "busy"),
        (400, "is there room"),
    ],
)
def test_failures_are_told_cost_nothing_and_quote_nothing(
    server: Server, tmp_path: Path, status: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.reply = lambda handler, body: handler.send_json({"error": {"message": f"echo kidney {KEY}"}}, status)
    asked = writer(server, tmp_path, prices=(1.0, 1.0), max_cost=1.0)
    with pytest.raises(ReasonerError, match=message) as error:
        asked.describe(drawn_record())
    assert error.value.__cause__ is None
    for text in (str(error.value), *[record.getMessage() for record in caplog.records]):
        assert not [secret for secret in (KEY, "kidney", "filters", *SECRETS) if secret in text]
    assert asked.spent() == Spent(requests=1)
    server.reply = well
    asked.describe(drawn_record())


def test_logs_hold_neither_words_nor_pixels_nor_key(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import openai  # its loggers exist from here on

    names = [name for name in logging.root.manager.loggerDict if name.startswith(("openai", "http", "medground"))]
    assert f"{openai.__name__}._base_client" in names
    Image.fromarray(np.eye(120, 160, dtype=np.uint8) * 255).save(tmp_path / "smith^anna.png")
    with caplog.at_level(logging.DEBUG):
        for name in names:
            caplog.set_level(logging.DEBUG, name)
        server.reply = in_turn("no")
        writer(server, tmp_path, shown="picture", root=tmp_path).ask(wanted(drawn_record()), rng())
    assert caplog.records
    url = server.bodies[0]["messages"][1]["content"][0]["image_url"]["url"]
    for record in caplog.records:
        shown = record.getMessage() + repr(record.args)
        assert not [secret for secret in (KEY, "urine", "kidney", url[30:60], *SECRETS) if secret in shown]


def test_a_server_that_falls_silent_is_counted_at_its_most(server: Server, tmp_path: Path) -> None:
    server.reply = lambda handler, body: time.sleep(1.0)
    asked = writer(server, tmp_path, timeout=0.2, prices=(0.0, 10.0))
    with pytest.raises(ReasonerError, match=r"gave no answer within 0.2 s"):
        asked.describe(drawn_record())
    spent = asked.spent()
    assert (spent.requests, spent.open) == (0, 1)
    assert spent.held == pytest.approx(1024 * 10 / 1e6)


def test_a_server_that_is_not_there_costs_nothing(server: Server, tmp_path: Path) -> None:
    asked = writer(server, tmp_path, prices=(1.0, 1.0))
    server.shutdown()
    server.server_close()
    with pytest.raises(ReasonerError, match="is the server up"):
        asked.describe(drawn_record())
    assert asked.spent() == Spent(requests=1)


# ---- what is kept, counted and capped ----


def test_nothing_is_asked_twice_even_by_another_run(server: Server, tmp_path: Path) -> None:
    records = [drawn_record(number) for number in range(4)]
    server.reply = in_turn("no JSON")
    said = [writer(server, tmp_path).describe(record) for record in records]
    asked = writer(server, tmp_path).ask(wanted(records[0]), rng())
    assert len(server.bodies) == 6  # one was asked again
    later = writer(server, tmp_path)
    server.reply = lambda handler, body: handler.send_json({}, 500)
    assert [later.describe(record) for record in records] == said
    assert later.ask(wanted(records[0]), rng()) == asked
    assert len(server.bodies) == 6
    assert later.spent().requests == 6
    for other in (rng(1), rng(2)):
        with pytest.raises(ReasonerError):
            later.ask(wanted(records[0]), other)


def test_a_damaged_answer_is_told(server: Server, tmp_path: Path) -> None:
    asked = writer(server, tmp_path)
    asked.describe(drawn_record())
    (path,) = (tmp_path / "cache" / "answers").glob("*/*.json")
    assert "kidney left" not in path.name
    path.write_text("{")
    with pytest.raises(ConfigError, match="delete it to ask again"):
        asked.describe(drawn_record())


def test_the_cost_is_counted_from_the_servers_count(server: Server, tmp_path: Path) -> None:
    asked = writer(server, tmp_path, prices=(2.0, 10.0))
    asked.describe(drawn_record(0))
    asked.describe(drawn_record(1))
    assert asked.spent() == Spent(2, 0, 2000, 400, pytest.approx(2 * (1000 * 2 + 200 * 10) / 1e6), 0, 0.0)
    server.reply = lambda handler, body: well(handler, body, usage=None)
    asked.describe(drawn_record(2))
    spent = asked.spent()
    assert (spent.requests, spent.estimated) == (3, 1)
    assert spent.input_tokens > 2300
    assert spent.output_tokens > 440


def test_the_cap_stops_in_time_and_raising_it_goes_on(server: Server, tmp_path: Path) -> None:
    records = [drawn_record(number) for number in range(6)]
    priced = {"prices": (0.0, 1000.0), "max_new_tokens": 1000, "concurrency": 1}  # an answer: 0.2, at most 1.0
    asked = writer(server, tmp_path, max_cost=1.5, **priced)
    with pytest.raises(CostError) as error:
        asked.describe_all(records)
    assert "max_cost 1.5 is reached: 0.6 spent on 3 requests" in str(error.value)
    assert "raise max_cost and run again" in str(error.value)
    assert len(server.bodies) == 3
    with pytest.raises(CostError):  # the cap is the folder's, not the run's
        writer(server, tmp_path, max_cost=1.5, **priced).describe_all(records)
    assert len(server.bodies) == 3
    more = writer(server, tmp_path, max_cost=5.0, **priced)
    assert [each["short"] for each in more.describe_all(records)]
    assert len(server.bodies) == 6
    assert more.spent().cost == pytest.approx(1.2)


def test_the_cap_holds_however_many_are_under_way(server: Server, tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.05)
        well(handler, body, usage=(0, 1000))

    server.reply = reply
    asked = writer(server, tmp_path, prices=(0.0, 1000.0), max_new_tokens=1000, max_cost=3.0, concurrency=8)
    with pytest.raises(CostError):
        asked.describe_all([drawn_record(number) for number in range(12)])
    assert asked.spent().cost == pytest.approx(3.0)
    assert len(server.bodies) == 3


def test_concurrency_is_bounded_and_order_kept(server: Server, tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.1)
        well(handler, body)

    server.reply = reply
    records = [drawn_record(number) for number in range(7)]
    asked = writer(server, tmp_path, concurrency=3)
    said = asked.describe_all(records)
    assert server.most_under_way == 3
    assert said == [asked.describe(record) for record in records]
    pairs = [(wanted(record), rng(number)) for number, record in enumerate(records)]
    assert asked.ask_all(pairs) == [asked.ask(wanted(record), rng(number)) for number, record in enumerate(records)]
    assert asked.describe_all([]) == []


def test_the_bound_holds_over_several_callers(server: Server, tmp_path: Path) -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.1)
        well(handler, body)

    server.reply = reply
    asked = writer(server, tmp_path, concurrency=2)
    callers = [threading.Thread(target=asked.describe, args=(drawn_record(number),)) for number in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(server.bodies) == 5
    assert server.most_under_way == 2


def test_requests_are_spaced(server: Server, tmp_path: Path) -> None:
    times: list[float] = []

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        times.append(time.monotonic())
        well(handler, body)

    server.reply = reply
    writer(server, tmp_path, per_minute=300).describe_all([drawn_record(number) for number in range(4)])
    assert times[-1] - times[0] >= 0.55  # three gaps of 0.2 s


def test_settings_are_checked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, message in [
        ({"tries": 0}, "tries"),
        ({"concurrency": 0}, "concurrency"),
        ({"per_minute": 0}, "per_minute"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"max_cost": float("nan"), "prices": (1.0, 1.0)}, "max_cost"),
        ({"prices": (-1.0, 1.0)}, "prices"),
        ({"shown": "everything", "root": "."}, "shown must be one of nothing, picture, outline"),
        ({"shown": "picture"}, "root"),
        ({"temperature": -1.0}, "temperature"),
        ({"max_retries": -1}, "max_retries"),
    ]:
        with pytest.raises(ConfigError, match=message):
            writer(server, tmp_path, **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        Writer(f"{server.url}#m", tmp_path / "file")
    with pytest.raises(ReasonerError, match="unencrypted"):
        Writer("http://example.org/v1#m", tmp_path)
    assert writer(server, tmp_path, temperature=None).describe(drawn_record())
    assert "temperature" not in server.bodies[0]
    monkeypatch.delenv("MEDGROUND_API_KEY")
    with pytest.raises(ReasonerError, match="needs an API key"):
        Writer("https://example.org/v1#m", tmp_path)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'medground\[remote\]'"):
        writer(server, tmp_path)


# ---- processes: stages, kills, the ledger ----

DESCRIBE_ALL = """
import sys, test_writer as t
from pathlib import Path
from medground.data.writer import Writer
asked = Writer(sys.argv[1], Path(sys.argv[2]), prices=(0.0, 1000.0), max_new_tokens=1000, max_retries=0)
for number in range(6):
    asked.describe(t.drawn_record(number))
"""


def test_a_kill_in_the_middle_loses_only_what_was_under_way(server: Server, tmp_path: Path) -> None:
    stuck, release = threading.Event(), threading.Event()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if len(server.bodies) == 4:
            stuck.set()
            release.wait(20)
        well(handler, body)

    server.reply = reply
    command = [sys.executable, "-c", DESCRIBE_ALL, f"{server.url}#writer-70b", str(tmp_path)]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, env=place)
    assert stuck.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    release.set()
    assert len(server.bodies) == 4
    # Its last write is cut too, as a power failure may do.
    with (tmp_path / "ledger.jsonl").open("ab") as stream:
        stream.write(b'{"end": "12')
    assert subprocess.run(command, env=place, check=False).returncode == 0
    assert len(server.bodies) == 4 + 3
    spent = Ledger(tmp_path / "ledger.jsonl").spent()
    assert (spent.requests, spent.open) == (6, 1)
    assert spent.cost == pytest.approx(6 * 0.2)
    assert spent.held == pytest.approx(1.0)
    assert len(list((tmp_path / "answers").glob("*/*.json"))) == 6
    assert not list(tmp_path.rglob("*.part"))


def test_a_stage_goes_on_where_the_cap_stopped_it(server: Server, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).normal(80, 6, (120, 160)).clip(0, 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "smith^anna.png")
    fields = ("attributes", "facts")
    records = [{k: v for k, v in drawn_record(number).items() if k not in fields} for number in range(4)]
    out = tmp_path / "out"
    run_stage(
        "clean", [[record] for record in records], list, out, settings={}, about={"root": str(tmp_path)}, workers=1
    )
    priced = {"prices": (0.0, 1000.0), "max_new_tokens": 1000}
    with pytest.raises(StageError, match=r"max_cost 1\.5 is reached"):
        describe(out, words=writer(server, tmp_path, max_cost=1.5, **priced), workers=1)
    assert len(server.bodies) == 3
    words = writer(server, tmp_path, max_cost=9.0, **priced)
    assert describe(out, words=words, workers=2).records == {"": 4}
    assert len(server.bodies) == 4
    described = list(read_parts(out / "describe"))
    assert {record["described_by"] for record in described} == {words.name}
    assert all(record["short"].startswith("the kidney in the upper left") for record in described)


def _spend(path: str, count: int) -> None:
    ledger = Ledger(Path(path))
    for _ in range(count):
        ledger.end(ledger.hold(1.0), cost=0.5, input_tokens=2, output_tokens=1)


def test_processes_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    processes = [multiprocessing.get_context("fork").Process(target=_spend, args=(str(path), 50)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert Ledger(path).spent() == Spent(200, 0, 400, 200, 100.0, 0, 0.0)


def test_a_damaged_ledger_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.end(ledger.hold(1.0), cost=0.5)
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=r"ledger.jsonl:1: damaged"):
        Ledger(path).spent()
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="was cut while in use"):
        ledger.spent()

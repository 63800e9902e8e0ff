from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_build import cleaned

from medground import taxonomy
from medground.data.ask import ask, reasons
from medground.data.describe import describe
from medground.data.gates import refuse
from medground.data.grammar import MINE, Grammar
from medground.data.plan import Quota
from medground.data.questions import HELD_OUT_FRAMES, PICTURE_WORDS, TRAIN_FRAMES
from medground.data.sentences import load_sentences, read_sentences
from medground.data.stages import read_parts
from medground.errors import ConfigError
from medground.rewards import gold, score
from medground.rewards.evidence import Facts, claims, evidence, honesty
from medground.rewards.truth import read_truth

SENTENCES = load_sentences()
REQUEST = {
    "id": "1",
    "category": "spleen",
    "modality": "CT",
    "absent": False,
    "style": "function",
    "length": "short",
    "held_out": False,
    "side": None,
    "looks_in": "CT",
    "seen": ["liver"],
    "home": None,
    "attributes": {
        "zone": "upper right",
        "size": "small",
        "brightness": "brighter than",
        "shape": "oval",
        "edge": "sharp",
        "partner": None,
        "neighbours": [{"name": "liver", "category": "liver", "relation": "right of", "id": "2"}],
    },
    "facts": {
        "place": ["upper right", "upper half", "right half"],
        "size": ["small"],
        "brightness": ["brighter than"],
        "shape": ["oval"],
        "parts": ["one"],
    },
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = cleaned(tmp_path_factory.mktemp("ask"))
    describe(out, workers=1)
    ask(out, quota=Quota(rows=400), workers=1)
    return out


@pytest.fixture(scope="module")
def records(build: Path) -> list[dict[str, Any]]:
    return list(read_parts(build / "ask"))


# -- frames -----------------------------------------------------------------------------------------------------------


def test_frames_are_many_apart_and_include_those_of_the_shipped_model() -> None:
    train, held_out = ({frame.text for frame in frames} for frames in (SENTENCES.train, SENTENCES.held_out))
    assert len(train) >= 40
    assert len(held_out) >= 15
    assert set(TRAIN_FRAMES) <= train | {"Please mark {x}."}
    assert not set(TRAIN_FRAMES) & held_out
    assert not set(HELD_OUT_FRAMES) & train
    assert not train & held_out
    for frames in (SENTENCES.train, SENTENCES.held_out):
        kinds = Counter((frame.speaker, frame.phrases) for frame in frames)
        assert set(kinds) == {(speaker, count) for speaker in ("anyone", "clinician", "patient") for count in (1, 2)}
        # Long phrases need frames in which no words follow.
        assert {(frame.speaker, frame.phrases) for frame in frames if not frame.closed} == set(kinds)
    assert not set(SENTENCES.said["side"]["train"]) & set(SENTENCES.said["side"]["held_out"])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[train.anyone", "not valid TOML"),
        ('[train.nurse]\nt1 = "Where is {x}?"', r"train\.nurse: unknown speaker"),
        ('[train.anyone]\nt1 = "Where?"', r"train\.anyone\.t1: has no \{x\}"),
        ('[train.anyone]\nt1 = "{x} or {z}?"', r"unknown slot \{z\}"),
        ('[train.anyone]\nt1 = "Is {x}?"\n[held_out.anyone]\nt1 = "Was {x}?"', "'t1' is the id of two frames"),
        ('[train.anyone]\nt1 = "Is {x}?"\n[held_out.anyone]\nh1 = "Is {x}?"', "is the text of two frames"),
        ('[verdict]\nany = ["So it is."]', "unknown part 'verdict'"),
        ('[settled]\nany = ["So it is {x}."]', r"settled\.any: unknown slot \{x\}"),
    ],
)
def test_faults_of_sentences_are_named(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        read_sentences(text)


# -- one question -----------------------------------------------------------------------------------------------------


def requests(target: taxonomy.Target, **changed: Any) -> list[dict[str, Any]]:
    modality = next(iter(target.appearance)) if isinstance(target.appearance, dict) else "CT"
    common = {"category": target.categories[0], "modality": modality, "looks_in": modality, **changed}
    return [
        {**REQUEST, **common, "style": style, "length": length, "held_out": held_out, "absent": absent, "home": home}
        for style in taxonomy.STYLES
        for length in ("short", "long")
        for held_out in (False, True)
        for absent, home in ((False, None), (True, "the head"), (True, None))
    ]


@pytest.mark.parametrize("name", list(taxonomy.load_targets()))
def test_every_entity_is_asked_for_well_and_truly_in_every_style(name: str) -> None:
    target, facts = taxonomy.load_targets()[name], Facts.read(REQUEST["facts"])
    for number, request in enumerate(requests(target, side=("on the patient's left side", None)[len(name) % 2])):
        said = Grammar().ask(request, random.Random(number))
        question, reasoning = said["question"], said["reasoning"]
        assert taxonomy.leaks(question, target) is None
        assert taxonomy.leaks(reasoning, target)
        for text in (question, reasoning):
            assert text.isascii()
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert not re.search(r"[{}$<>\[\]]|\.\.|,,| ,|,\.|\?\.|\.,| a [aeo]|  ", text), text
        assert 2 <= len(re.findall(r"[.?!](?: |$)", reasoning)) <= 6
        known = (taxonomy.unseen_phrases if request["held_out"] else taxonomy.phrases)(target, request["looks_in"])
        others = (taxonomy.phrases if request["held_out"] else taxonomy.unseen_phrases)(target, request["looks_in"])
        used = [phrase for phrases in known.values() for phrase in phrases if phrase.lower() in question.lower()]
        assert len(used) == (2 if request["length"] == "long" else 1), question
        assert any(phrase in known[request["style"]] for phrase in used)
        assert not any(phrase.lower() in question.lower() for phrases in others.values() for phrase in phrases)
        frames = {frame.id for frame in (SENTENCES.held_out if request["held_out"] else SENTENCES.train)}
        assert said["template"] in frames
        assert ("patient's left side" in question) == (request["side"] is not None)
        if request["absent"]:
            assert not claims(reasoning)
            assert "the liver" in reasoning
        else:
            assert evidence(reasoning, facts) == honesty(reasoning, facts) == 1


def test_patients_say_lay_words_and_doctors_the_others() -> None:
    speakers = {frame.id: frame.speaker for frame in SENTENCES.train}
    said = Counter()
    for number in range(300):
        style = taxonomy.STYLES[number % 5]
        template = Grammar().ask({**REQUEST, "style": style}, random.Random(number))["template"]
        said[style == "lay", speakers[template]] += 1
    assert said[True, "clinician"] == said[False, "patient"] == 0
    assert min(said[True, "patient"], said[False, "clinician"], said[True, "anyone"], said[False, "anyone"]) > 10


def test_a_style_that_has_no_phrases_is_named() -> None:
    with pytest.raises(ConfigError, match="'sacrum' has no phrase of the style 'appearance' in MRI"):
        Grammar().ask(
            {**REQUEST, "category": "sacrum", "style": "appearance", "modality": "MRI", "looks_in": "MRI"},
            random.Random(0),
        )


def test_every_modality_has_its_words() -> None:
    assert set(MINE) == set(PICTURE_WORDS) == set(taxonomy.load_modalities())


# -- the stage --------------------------------------------------------------------------------------------------------


def test_every_row_passes_the_gates_and_its_gold_earns_full_marks(build: Path, records: list[dict[str, Any]]) -> None:
    assert reasons(build) == {}
    assert len({record["id"] for record in records}) == len(records)
    for record in records:
        assert refuse(record) is None
        truth = {"absent": True} if record["absent"] else {"bbox_2d": record["bbox"], "point_2d": record["points"]}
        truth |= {"image_size": [128, 96]} | ({"facts": record["facts"]} if record["facts"] else {})
        read = read_truth(truth)
        assert score(gold(read, record["reasoning"]), read)["score"] == 1.0


def test_no_question_is_asked_twice_of_a_picture(records: list[dict[str, Any]]) -> None:
    asked = Counter((record["picture"], record["question"].lower()) for record in records)
    assert max(asked.values()) == 1


def test_validation_and_test_have_frames_and_phrases_of_their_own(records: list[dict[str, Any]]) -> None:
    train = {record["template"] for record in records if record["split"] == "train"}
    others = {record["template"] for record in records if record["split"] != "train"}
    assert train
    assert others
    assert not train & others
    assert train <= {frame.id for frame in SENTENCES.train}
    for record in records:
        target = taxonomy.target_of(record["category"])
        foreign = target.all_phrases if record["split"] != "train" else target.all_unseen_phrases
        assert not any(phrase.lower() in record["question"].lower() for phrase in foreign)


def test_records_hold_what_they_should(records: list[dict[str, Any]]) -> None:
    for record in records:
        assert record["asked_by"] == "grammar-v1"
        assert record["supercategory"] == taxonomy.target_of(record["category"]).supercategory
        assert not {"held_out", "seen", "looks_in", "home", "refused"} & set(record)
        if record["absent"]:
            assert record["bbox"] is record["mask"] is record["facts"] is record["attributes"] is None
            assert record["healthy"] is None
            assert (record["points"], record["short"], record["long"]) == ([], "", "")
            assert record["id"].startswith(f"{record['picture']}/absent/")
        else:
            assert record["mask"]["size"] == [96, 128]
            assert record["healthy"] is (taxonomy.target_of(record["category"]).kind == "structure")
    assert {record["style"] for record in records} == set(taxonomy.STYLES)
    assert {record["length"] for record in records} == {"short", "long"}


def test_a_second_build_has_the_same_bytes(build: Path, tmp_path: Path) -> None:
    again = cleaned(tmp_path)
    describe(again, workers=2)
    ask(again, quota=Quota(rows=400), workers=2)
    for stage in ("describe", "ask"):
        parts = sorted(path.name for path in (build / stage).glob("part-*.jsonl"))
        assert parts == sorted(path.name for path in (again / stage).glob("part-*.jsonl"))
        for name in parts:
            assert (build / stage / name).read_bytes() == (again / stage / name).read_bytes()
    assert (build / "plan.json").read_bytes() == (again / "plan.json").read_bytes()


def test_other_settings_are_refused(build: Path) -> None:
    with pytest.raises(ConfigError, match="rows"):
        ask(build, quota=Quota(rows=300), workers=1)
    assert json.loads((build / "plan.json").read_text())["train"]["targets"] == 102


class Leaky:
    """Names the target at each first attempt, and always where the spleen is meant."""

    name = "leaky-1"
    attempts = 2

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def describe(self, record: Mapping[str, Any]) -> dict[str, str]:
        return {"short": "", "long": ""}

    def ask(self, request: Mapping[str, Any], rng: random.Random) -> dict[str, str]:
        self.asked[request["id"]] += 1
        said = Grammar().ask(request, rng)
        if self.asked[request["id"]] == 1 or request["category"] == "spleen":
            said["question"] = f"Where is the {request['category']}?"
        return said


def test_what_a_gate_refuses_is_asked_anew_and_then_kept_aside(build: Path, tmp_path: Path) -> None:
    words = Leaky()
    (build / "describe").rename(tmp_path / "describe")
    try:
        report = ask(tmp_path, quota=Quota(rows=200), words=words, workers=1)
    finally:
        (tmp_path / "describe").rename(build / "describe")
    refused = list(read_parts(tmp_path / "ask", "refused"))
    assert report.records["refused"] == len(refused) > 0
    leaking = [record for record in refused if record["refused"] == "the question names its target: 'spleen'"]
    assert {record["category"] for record in leaking} == {"spleen"}
    assert not any(record["category"] == "spleen" for record in read_parts(tmp_path / "ask"))
    assert reasons(tmp_path)["the question names its target"] == len(leaking) > 0
    assert set(words.asked.values()) == {2}
    assert all(refuse(record) is None for record in read_parts(tmp_path / "ask"))

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import ellipse
from PIL import Image
from small_build import cleaned

from medground import taxonomy
from medground.data.describe import BLURRED, SHARP, describe, edge, measure_picture, relation
from medground.data.grammar import Grammar
from medground.data.questions import PICTURE_WORDS
from medground.data.sentences import fill, load_sentences
from medground.data.stages import StageError, read_parts, read_stage
from medground.data.traces import measured_words
from medground.errors import ConfigError, TruthError
from medground.masks import box_of, encode_rle, key_points
from medground.rewards.evidence import Facts, claims, evidence, holds, honesty


def record(mask: np.ndarray, category: str, **changed: Any) -> dict[str, Any]:
    return {
        "id": f"pic/{category}",
        "picture": "pic",
        "image": "pic.png",
        "width": mask.shape[1],
        "height": mask.shape[0],
        "category": category,
        "modality": "CT",
        "source": "totalsegmentator_ref",
        "split": "train",
        "mask": encode_rle(mask),
        "bbox": list(box_of(mask).xyxy),
        "points": [list(point.xy) for point in key_points(mask)],
        "share": float(mask.mean()),
        **changed,
    }


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = cleaned(tmp_path_factory.mktemp("describe"))
    describe(out, workers=1)
    return out


# -- measuring --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "other", "where"),
    [
        (ellipse(60, 60, 30, 15, 5, 5), ellipse(60, 60, 30, 45, 5, 5), "left of"),
        (ellipse(60, 60, 30, 45, 5, 5), ellipse(60, 60, 33, 15, 5, 5), "right of"),
        (ellipse(60, 60, 10, 30, 5, 5), ellipse(60, 60, 45, 33, 5, 5), "above"),
        (ellipse(60, 60, 45, 30, 5, 5), ellipse(60, 60, 10, 33, 5, 5), "below"),
        (ellipse(60, 60, 30, 30, 5, 5), ellipse(60, 60, 32, 30, 20, 20), "inside"),
        (ellipse(60, 60, 30, 30, 20, 20), ellipse(60, 60, 32, 30, 5, 5), "around"),
        # A ring holds what lies in its hole.
        (ellipse(60, 60, 30, 30, 20, 20) & ~ellipse(60, 60, 30, 30, 10, 10), ellipse(60, 60, 30, 30, 5, 5), "around"),
        # Half of it inside is not inside.
        (ellipse(60, 60, 30, 10, 6, 6), ellipse(60, 60, 30, 26, 16, 16), "left of"),
    ],
)
def test_relation(own: np.ndarray, other: np.ndarray, where: str) -> None:
    assert relation(own, other) == where


def test_an_edge_is_sharp_where_the_picture_is_and_blurred_where_it_is_not() -> None:
    mask = ellipse(120, 120, 60, 60, 25, 25)
    noise = np.random.default_rng(1).normal(0, 4, mask.shape)
    away = np.hypot(*(axis - 60 for axis in np.mgrid[:120, :120]))
    sharp = 80 + 90 * mask + noise
    soft = 170 - 90 / (1 + np.exp((25 - away) / 8)) + noise
    assert edge(mask, sharp) > SHARP
    assert edge(mask, soft) < SHARP
    assert edge(mask, 80 + noise) < BLURRED
    assert edge(np.ones((20, 20), bool), np.zeros((20, 20))) == 1.0


def test_pairs_and_neighbours_of_one_picture() -> None:
    grey = np.full((100, 100), 90.0)
    left, right = ellipse(100, 100, 30, 75, 8, 6), ellipse(100, 100, 32, 25, 8, 6)
    liver, spleen = ellipse(100, 100, 62, 30, 10, 10), ellipse(100, 100, 62, 80, 6, 6)
    records = [
        record(left, "kidney left"),
        record(right, "kidney right"),
        record(liver, "liver"),
        record(spleen, "spleen"),
    ]
    kidney, other, organ, _ = measure_picture(records, grey)
    seen = kidney["attributes"]
    assert seen["partner"] == {
        "id": "pic/kidney right",
        "category": "kidney right",
        "name": "kidney",
        "relation": "right of",
    }
    assert seen["side"] == "on the patient's left side"
    assert [each["category"] for each in seen["neighbours"]] == ["spleen", "liver"]
    assert [each["relation"] for each in seen["neighbours"]] == ["above", "right of"]
    assert seen["neighbours"][0]["gap"] < seen["neighbours"][1]["gap"]
    assert other["attributes"]["partner"]["relation"] == "left of"
    assert organ["attributes"]["partner"] is None
    assert organ["attributes"]["side"] is None
    assert len(organ["attributes"]["neighbours"]) == 3


@pytest.mark.parametrize(
    ("columns", "sides"),
    [
        ((25, 75), ["on the left side of the image", "on the right side of the image"]),
        ((25,), ["on the left side of the image"]),
        ((75,), ["on the right side of the image"]),
        ((50,), [None]),  # nothing tells it from a partner that may be there without a mask
    ],
)
def test_sides_are_of_the_picture_unless_those_of_the_patient_are_known(
    columns: tuple[int, ...], sides: list[str | None]
) -> None:
    categories = ("right putamen", "left putamen")
    records = [
        record(ellipse(100, 100, 50, column, 8, 6), category, source="voxelmorph_t1", modality="MRI")
        for column, category in zip(columns, categories, strict=False)
    ]
    measured = measure_picture(records, np.zeros((100, 100)))
    assert [each["attributes"]["side"] for each in measured] == sides


def test_facts_are_those_of_the_mask() -> None:
    mask = ellipse(90, 90, 15, 75, 6, 6)
    (measured,) = measure_picture([record(mask, "spleen")], 60.0 + 100 * mask)
    facts = Facts.read(measured["facts"])
    assert evidence("It is small, round, brighter than its surroundings, in the upper right of the image.", facts) == 1
    assert measured["attributes"]["extent"] == [13, 13]
    assert measured["attributes"]["brightness"] == "brighter than"


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(TruthError, match=r"pic/spleen: a mask of shape \(9, 9\).*clean again"):
        measure_picture([record(np.ones((9, 9), bool), "spleen")], np.zeros((8, 9)))


# -- words ------------------------------------------------------------------------------------------------------------

MEASURED = [
    {"zone": zone, "size": size, "brightness": brightness, "shape": shape}
    for zone in ("upper left", "upper middle", "middle right", "centre", "lower left", "lower middle")
    for size in ("tiny", "small", "medium-sized", "large")
    for brightness in ("brighter than", "darker than", "about as bright as")
    for shape in ("round", "oval", "elongated")
]


@pytest.mark.parametrize("modality", PICTURE_WORDS)
@pytest.mark.parametrize("sentence", load_sentences().said["evidence"]["any"])
def test_each_sentence_of_evidence_says_just_what_was_measured(sentence: str, modality: str) -> None:
    for number, seen in enumerate(MEASURED):
        words = measured_words({"attributes": seen, "modality": modality}, random.Random(number))
        text = fill(sentence, **words)
        found = {claim.facet: claim.value for claim in claims(text)}
        assert found == {"place": seen["zone"], **{key: seen[key] for key in ("size", "shape", "brightness")}}, text


@pytest.mark.parametrize("kind", ["sharp", "blurred", "beside", "partner"])
def test_sentences_that_cannot_be_checked_claim_nothing(kind: str) -> None:
    for sentence in load_sentences().said["evidence"][kind]:
        text = sentence.format(relation="to the left of", other="the spleen", other_start="The spleen")
        assert not claims(f"It lies there. {text}"), text


def test_every_target_is_described_truly(build: Path) -> None:
    described = list(read_parts(build / "describe"))
    assert len(described) == sum(1 for _ in read_parts(build / "clean")) == 153
    for each in described:
        facts, target = Facts.read(each["facts"]), taxonomy.target_of(each["category"])
        for text in (each["short"], each["long"]):
            assert honesty(text, facts) == 1
            assert all(holds(claim, facts) for claim in claims(text))
            assert taxonomy.leaks(text, target), "a description names its target"
            assert text.isascii()
            assert "  " not in text
            assert "{" not in text
        assert evidence(each["long"], facts) == 1
        size = re.search(r"(\d+) by (\d+) pixels|Width and height are (\d+) and (\d+)", each["long"])
        if size:
            assert [int(side) for side in size.groups() if side] == each["attributes"]["extent"]
        assert each["described_by"] == "grammar-v1"


def test_descriptions_hardly_repeat_themselves(build: Path) -> None:
    described = list(read_parts(build / "describe"))
    assert len({each["long"] for each in described}) == len(described)
    spoken = [each["long"].split() for each in described]
    grams = [tuple(words[at : at + 3]) for words in spoken for at in range(len(words) - 2)]
    assert len(set(grams)) / len(grams) > 0.3


def test_descriptions_are_a_function_of_record_and_seed(build: Path) -> None:
    first = next(iter(read_parts(build / "describe")))
    again = Grammar(0).describe(first)
    assert again == {"short": first["short"], "long": first["long"]}
    assert Grammar(1).describe(first) != again


# -- the stage --------------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing_and_another_seed_is_refused(build: Path) -> None:
    before = {path.name: path.read_bytes() for path in (build / "describe").iterdir()}
    report = describe(build, workers=1)
    assert (report.found, report.records) == (report.shards, {"": 153})
    assert {path.name: path.read_bytes() for path in (build / "describe").iterdir()} == before
    with pytest.raises(ConfigError, match="seed"):
        describe(build, seed=1, workers=1)
    assert read_stage(build / "describe")["settings"]["words"] == "grammar-v1"


def test_another_back_end_finds_the_words(build: Path, tmp_path: Path) -> None:
    class Terse:
        name = "terse-1"
        attempts = 1

        def describe(self, record: dict[str, Any]) -> dict[str, str]:
            return {"short": record["attributes"]["zone"], "long": record["category"]}

    (tmp_path / "out").mkdir()
    (build / "clean").rename(tmp_path / "out" / "clean")
    try:
        describe(tmp_path / "out", words=Terse(), workers=1)
    finally:
        (tmp_path / "out" / "clean").rename(build / "clean")
    described = next(iter(read_parts(tmp_path / "out" / "describe")))
    assert (described["described_by"], described["long"]) == ("terse-1", described["category"])


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no stage of a build"):
        describe(tmp_path, workers=1)
    out = cleaned(tmp_path, pictures=1)
    stage = json.loads((out / "clean" / "stage.json").read_text())
    Image.new("RGB", (128, 96)).save(Path(stage["root"]) / "images/eyes/eyes0.png")
    (Path(stage["root"]) / "images/hearts/hearts0.png").unlink()
    with pytest.raises(StageError, match=r"hearts0\.png.*restore the file"):
        describe(out, workers=1)

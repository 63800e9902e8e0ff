from __future__ import annotations

import json
import re
from collections import Counter, defaultdict

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("sklearn")

from small_build import cleaned
from typer.testing import CliRunner

from medground.answers import chosen, yes_or_no
from medground.cli import app
from medground.data.describe import describe
from medground.data.layouts.vqa import import_vqa_rows
from medground.data.stages import read_parts
from medground.data.vqa.build import MOST, SHARES, build_vqa
from medground.data.vqa.earlier import earlier_of
from medground.data.vqa.scene import excludes, read_scenes
from medground.errors import ConfigError, TruthError
from medground.rewards import score
from medground.rewards.thinkvg_reading import read_mentions

FULL = {"semantic": 1.0, "grounding": 1.0, "format": 1.0, "consistency": 1.0, "score": 1.0}


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    folder = cleaned(tmp_path_factory.mktemp("vqa"), pictures=18)
    describe(folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def made(described):
    return build_vqa(described, rows=450)


@pytest.fixture(scope="module")
def rows(made):
    return {name: list(import_vqa_rows(made.folder / f"{name}.parquet")) for name in made.rows}


@pytest.fixture(scope="module")
def every(rows):
    return [row for listed in rows.values() for row in listed]


def blocks(rows):
    found = defaultdict(list)
    for row in rows:
        found[row.split, row.other["block"]].append(row)
    return list(found.values())


def test_all_types_in_their_proportions_and_ids_that_are_unique(every, made):
    assert set(made.rows) == {"train", "val", "test"}
    types = Counter(row.question_type for row in every)
    assert {kind: pytest.approx(types[kind] / len(every), abs=0.08) for kind in SHARES} == SHARES
    assert len({row.id for row in every}) == len(every) > 350
    assert made.refused == {}


def test_a_right_completion_earns_full_marks_on_the_rulers_of_models(every):
    for row in every:
        for ruler in ("pixels", "0-1000"):
            assert score(row.to(ruler).completion(), row.to(ruler).truth(), "thinkvg") == FULL


def test_nothing_is_asked_of_a_picture_twice_and_no_picture_too_often(every):
    asked = Counter((row.image.path, row.question, row.choices, str(row.other.get("earlier"))) for row in every)
    assert set(asked.values()) == {1}
    assert max(Counter(row.image.path for row in every).values()) < MOST + 6  # a block can be about one picture


def test_the_thinking_names_the_final_regions_and_no_others(every):
    for row in every:
        space = row.truth().space
        boxes, strays = read_mentions(row.thinking, space)
        assert ({box.xyxy for box in boxes}, strays) == ({region.box for region in row.regions}, 0)


def test_all_boxes_are_those_of_the_build(described, every):
    true = defaultdict(set)
    for record in read_parts(described / "describe"):
        true[record["image"]].add(tuple(record["bbox"]))
    for row in every:
        picture = re.sub(r"#\d+$", "", row.id)
        assert {region.box for region in row.regions} <= true[picture]
        assert {box.xyxy for _, box in earlier_of(row)} <= true[picture]


def test_pictures_are_found_from_the_files_folder(made, every):
    for row in every[:50]:
        assert row.image.file(made.folder).is_file()


def test_splits_are_the_builds(described, every):
    splits = {record["group"]: record["split"] for record in read_parts(described / "describe")}
    assert all(splits[row.group] == row.split for row in every)


def test_a_block_asks_in_the_same_words_and_each_answer_comes_once(every):
    for block in blocks(every):
        assert len({(row.question_type, row.question, row.choices) for row in block}) == 1
        assert len({row.answer.casefold() for row in block}) == len(block) > 1
        if block[0].question_type == "single_choice":  # each of the choices is right once
            assert len(block) == len(block[0].choices)
            assert len({chosen(row.answer, row.offered) for row in block}) == len(block)
        if block[0].question_type == "closed":
            assert {yes_or_no(row.answer) for row in block} == {True, False}


def test_statements_are_true_as_often_as_false(every):
    for block in blocks(row for row in every if row.question_type == "multi_choice"):
        if len(block) == 2:
            first, second = (chosen(row.answer, row.offered) for row in block)
            assert first | second == set(block[0].offered)
            assert not first & second
        assert all(len(row.regions) for row in block)


def test_what_is_said_not_to_be_there_certainly_is_not(described, every):
    scenes = {scene.picture: scene for scene in read_scenes(described)}
    absent = [row for row in every if row.style == "shown" and row.question_type == "closed" and row.answer == "No"]
    assert absent
    for row in absent:
        scene = scenes[row.id.rpartition("#")[0]]
        assert row.regions == ()
        named = [name for name in ("liver", "spleen", "putamen", "glioma", "optic disc") if name in row.question]
        assert all(excludes(scene, name) for name in named)


def test_wrong_choices_are_wrong(described, every):
    scenes = {scene.picture: scene for scene in read_scenes(described)}
    for row in every:
        if row.style == "shown" and row.choices:
            scene, right = scenes[row.id.rpartition("#")[0]], chosen(row.answer, row.offered)
            for letter, name in row.offered.items():
                assert excludes(scene, name) is (letter not in right)
                assert (name in scene.entities) is (letter in right)


def test_names_of_earlier_regions_give_nothing_away(every):
    earlier = [row for row in every if "earlier" in row.other]
    assert earlier
    for row in earlier:
        names = [name for name, _ in earlier_of(row)]
        if row.style == "identify":
            assert names == ["region 1"]
    for block in blocks(earlier):
        assert len({tuple(name for name, _ in earlier_of(row)) for row in block}) == 1


def test_an_earlier_region_that_is_none(every):
    row = next(row for row in every if "earlier" in row.other)
    for said in ("no", [{"ref": "", "box": [1, 2, 3, 4]}], [{"ref": "a", "box": [1, 2, 3000, 4]}], [{"box": None}]):
        with pytest.raises(TruthError, match=f"row {re.escape(row.id)}: other, earlier"):
            earlier_of(row.model_copy(update={"other": {"earlier": said}}))


def test_the_same_seed_gives_the_same_bytes(described):
    folders = [described / name for name in ("one", "two", "three")]  # as deep: paths of pictures start at the file
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        build_vqa(described, folder, rows=60, seed=seed)
    for name in ("train.parquet", "val.parquet", "test.parquet", "statistics.json", "README.md"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert (folders[0] / "train.parquet").read_bytes() != (folders[2] / "train.parquet").read_bytes()


def test_the_card_says_what_was_counted(made, every):
    told = json.loads((made.folder / "statistics.json").read_text())
    card = (made.folder / "README.md").read_text()
    assert sum(told["rows"].values()) == len(every) == sum(made.rows.values())
    assert told["answers"]["yes"] * 2 == told["answers"]["closed"]
    assert f"{len(every):,} questions" in card
    assert [each["type"] for each in told["text only"]] == [each.question_type for each in made.text_only]
    assert all(f"| {each.question_type} |" in card for each in made.text_only)
    assert "not a medical device" in card.casefold()


def test_words_alone_are_right_as_often_as_chance(made):
    # The blocks see to it: a question's words are the same in all of its block, whose answers differ.
    by_type = {each.question_type: each for each in made.text_only}
    assert by_type["closed"].accuracy == by_type["closed"].chance == 0.5
    assert by_type["single_choice"].accuracy == pytest.approx(by_type["single_choice"].chance)


def test_a_folder_that_is_no_build(tmp_path):
    with pytest.raises(ConfigError, match=r"no stage of a build"):
        build_vqa(tmp_path)


def test_no_rows_at_all(described):
    with pytest.raises(ConfigError, match="rows must be 1 or more"):
        build_vqa(described, rows=0)


def test_a_record_that_lacks_a_field(described, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(described / "describe", broken / "describe")
    part = sorted((broken / "describe").glob("part-*.jsonl"))[0]
    records = [json.loads(line) for line in part.read_text().splitlines()]
    del records[0]["bbox"]
    part.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(ConfigError, match=r"describe: a record lacks a field \(KeyError\('bbox'\)\); describe again"):
        build_vqa(broken)


def test_on_the_command_line(described, tmp_path):
    done = CliRunner().invoke(app, ["data", "vqa", str(described), "--out", str(tmp_path / "out"), "--rows", "60"])
    assert done.exit_code == 0, done.output
    assert "rows (train)" in done.output
    assert (tmp_path / "out" / "README.md").is_file()


def test_prices_without_a_model(described):
    done = CliRunner().invoke(app, ["data", "vqa", str(described), "--prices", "1,2"])
    assert done.exit_code != 0

from __future__ import annotations

import io
import json
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medground.adapters.verl import compute_score
from medground.data.columns import FieldError, record_of, row_of
from medground.data.schema import Picture, Row, parquet_files, read_rows, split_of_name, write_rows
from medground.errors import ConfigError, MedgroundError, TruthError
from medground.masks import encode_rle
from medground.rewards.evidence import Facts
from medground.rewards.truth import FRAME

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ANSWER = {"bbox_2d": [10, 20, 300, 400], "point_2d": [[100, 200], [150, 250]]}


def png(mask: np.ndarray | None = None, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255 if mask is None else mask).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def published(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A record as MedReasoner's evaluation reads it: the bare question, embedded pictures, health in words."""
    record = {
        "data_source": "umrg",
        "prompt": [{"role": "user", "content": "Which part of the picture makes bile?"}],
        "images": [{"bytes": png(), "path": f"{number}.png"}],
        "masks": [{"bytes": png(mode="1"), "path": f"{number}_mask.png"}],
        "ability": "medical_grounding",
        "reward_model": {"style": "rule", "ground_truth": json.dumps(ANSWER)},
        "extra_info": {
            "id": number,
            "supercategory": "abdomen",
            "category": "liver",
            "modality": "CT",
            "health": "healthy",
            "short": "A large organ.",
            "think": "It lies at the left of the image.",
            "dataset": {"name": "somewhere", "years": [2019, 2021]},
        },
    }
    return {**record, **changes}


def info(**changes: Any) -> dict[str, Any]:
    return {"extra_info": {**published()["extra_info"], **changes}}


def answer(**said: Any) -> dict[str, Any]:
    return {"reward_model": {"style": "rule", "ground_truth": json.dumps(said)}}


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "id": "case/1",
        "question": "Which organ makes bile?",
        "image": Picture(path="images/1.png"),
        "mask": Picture(path="masks/1.png"),
        "box": (10, 20, 30.5, 40),
        "points": ((15, 25), (20.5, 30)),
        "image_size": (64, 48),
    }
    return Row(**{**fields, **changes})


def save(records: list[dict[str, Any]], path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def again(path: Path, **options: Any) -> Path:
    copy = path.with_name("again.parquet")
    write_rows(read_rows(path), copy, **options)
    return copy


def contents(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    table = pq.read_table(path)
    return table.column_names, table.to_pylist()


# --- nothing is lost --------------------------------------------------------------------------------------------------

SHAPES = {
    "published": published(),
    "picture's token before the question": published(prompt=[{"role": "user", "content": "<image>\n Where?  \n"}]),
    "system message": published(
        prompt=[{"role": "system", "content": "You locate."}, {"role": "user", "content": "<image>Where?"}]
    ),
    "earlier turns": published(
        prompt=[
            {"role": "user", "content": "<image>What?"},
            {"role": "assistant", "content": "A liver."},
            {"role": "user", "content": "Where?"},
        ]
    ),
    "several images": published(images=[{"bytes": png(), "path": None}, {"bytes": png(mode="L"), "path": "other.png"}]),
    "several masks": published(masks=[{"bytes": png(mode="1")}, {"bytes": png(mode="L")}]),
    "images as paths": published(images=["a/b.png"], masks=["a/m.png"]),
    "images as bytes": published(images=[png()], masks=[png()]),
    "mask as rows": published(masks=[np.eye(8, dtype=int).tolist()]),
    "mask not in a list": published(masks=np.eye(8, dtype=int).tolist()),
    "mask as run lengths": published(masks=[encode_rle(np.eye(8, dtype=bool))]),
    "no masks": {name: value for name, value in published().items() if name != "masks"},
    "masks null": published(masks=None),
    "no extra_info": {name: value for name, value in published().items() if name != "extra_info"},
    "extra_info null": published(extra_info=None),
    "only what must be": {
        name: value for name, value in published().items() if name in ("prompt", "images", "reward_model")
    },
    "columns in another order, and one more": dict(reversed([*published().items(), ("annotator", [{"name": "a"}])])),
    "answer as a struct": published(reward_model={"ground_truth": ANSWER}),
    "answer written otherwise": published(
        reward_model={
            "style": "rule",
            "ground_truth": '{ "point_2d": [[100.0,200],[150,250]], "bbox_2d":[10,20,300,400] }',
        }
    ),
    "answer with more in it": published(**answer(**ANSWER, label="liver", image_size=[512, 512])),
    "answer with a mask": published(masks=None, **answer(**ANSWER, mask=encode_rle(np.eye(8, dtype=bool)))),
    "absent": published(masks=None, **answer(absent=True)),
    "absent with a black mask": published(**answer(absent=True)),
    "no points": published(**answer(bbox_2d=[1, 2, 3, 4])),
    "size and coordinates": published(**info(image_size=[1000, 800], coordinates="0-1000")),
    "health unheard of": published(**info(health="post-operative")),
    "health null": published(**info(health=None, think=None)),
    "facts as a struct": published(**info(facts={"place": ["left half"]})),
    "verl's keys": published(**info(split="train", index=7, need_tools_kwargs=False)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_that_is_read_and_written_is_the_same(shape, tmp_path):
    path = save([SHAPES[shape], SHAPES[shape]], tmp_path / "set.parquet")
    assert contents(again(path)) == contents(path)


def test_a_file_of_datasets_is_the_same_and_still_holds_pictures(tmp_path):
    datasets = pytest.importorskip("datasets")
    pictures = datasets.List(datasets.Image())
    found = datasets.Dataset.from_list([published(number) for number in range(3)])
    found = found.cast_column("images", pictures).cast_column("masks", pictures)
    found.to_parquet(tmp_path / "set.parquet")
    copy = again(tmp_path / "set.parquet")
    assert contents(copy) == contents(tmp_path / "set.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(copy), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.features["images"] == pictures
    assert loaded[0]["images"][0].size == (8, 8)
    assert loaded[0]["masks"][0].mode == "1"


def test_records_of_pandas_are_read(tmp_path):
    pandas = pytest.importorskip("pandas")
    save([published(1, **info(image_size=[512, 400]))], tmp_path / "set.parquet")
    [record] = pandas.read_parquet(tmp_path / "set.parquet").to_dict("records")
    assert isinstance(record["images"], np.ndarray)
    assert row_of(record) == next(read_rows(tmp_path))


texts = st.text(max_size=8)
names = st.text("abcdefgh_", min_size=1, max_size=6).map("x_".__add__)
leaves = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | texts | st.binary(max_size=4)
values = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3), max_leaves=4)


@st.composite
def records(draw):
    record = published(
        draw(st.integers(0, 9)),
        data_source=draw(texts),
        prompt=[
            {"role": "user", "content": draw(st.sampled_from(["", "<image>", "\n <image> "])) + "Where?" + draw(texts)}
        ],
    )
    record["extra_info"] |= {"think": draw(st.none() | texts), "health": draw(st.none() | texts)}
    record["extra_info"] |= draw(st.dictionaries(names, values, max_size=3))
    record |= draw(st.dictionaries(names, values, max_size=3))
    for name in draw(st.lists(st.sampled_from(["data_source", "masks", "ability", "extra_info"]), max_size=2)):
        record.pop(name, None)
    return record


@settings(max_examples=40)
@given(records(), st.integers(1, 3))
def test_whatever_a_file_says_is_written_again(tmp_path_factory, record, count):
    path = save([record] * count, tmp_path_factory.mktemp("drawn") / "set.parquet")
    assert contents(again(path)) == contents(path)


pictures = st.builds(Picture, path=st.none() | st.sampled_from(["a.png", "b/c.png"]), data=st.binary(min_size=1))
sides = st.integers(1, 5000)
places = st.floats(0, 5000) | st.integers(0, 5000)
plain_json = st.dictionaries(names, st.recursive(st.none() | st.booleans() | texts, st.lists), max_size=2)
questions = st.text(min_size=1, max_size=12).map(str.strip).filter(lambda text: text and not text.startswith("<image>"))


@st.composite
def typed_rows(draw):
    there = draw(st.booleans())
    point = st.tuples(places, places)
    known = {name: draw(texts) for name in ("reasoning", "short", "category", "modality", "licence", "group", "style")}
    return Row(
        id=draw(st.text(min_size=1, max_size=5)),
        question=draw(questions),
        image=draw(pictures),
        mask=draw(st.none() | pictures) if there else None,
        box=draw(st.tuples(places, places, places, places)) if there else None,
        points=draw(st.just(()) | st.tuples(point, point)) if there else (),
        image_size=draw(st.tuples(sides, sides)),
        coordinates=draw(st.sampled_from(["pixels", "0-1", "0-1000", "0-1000 yx"])),
        split=draw(st.sampled_from(["train", "val", "test", ""])),
        healthy=draw(st.none() | st.booleans()),
        facts=draw(st.none() | plain_json),
        other=draw(plain_json),
        **known,
    )


@settings(max_examples=30)
@given(st.lists(typed_rows(), max_size=4))
def test_whatever_a_row_says_is_read_again(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("drawn") / "set.parquet"
    assert write_rows(rows, path) == len(rows)
    assert list(read_rows(path)) == rows


def test_a_file_of_our_own_rows_has_the_layouts_columns_whatever_the_rows_say(tmp_path):
    write_rows([row()], tmp_path / "a.parquet")
    write_rows(
        [row(box=None, points=(), mask=None, healthy=True, facts={"place": ["left half"]})], tmp_path / "b.parquet"
    )
    write_rows([], tmp_path / "c.parquet")
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in "abc"]
    assert schemas[0] == schemas[1] == schemas[2]
    assert list(read_rows(tmp_path / "c.parquet")) == []


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in "ab":
        write_rows((row(id=str(number)) for number in range(300)), tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


# --- what a row says --------------------------------------------------------------------------------------------------


def test_a_published_row_is_in_the_published_frame():
    read = row_of(published())
    assert (read.image_size, read.coordinates) == (FRAME, "pixels")
    assert (read.box, read.points) == ((10, 20, 300, 400), ((100, 200), (150, 250)))
    assert (read.id, read.category, read.healthy, read.reasoning) == (
        "0",
        "liver",
        True,
        "It lies at the left of the image.",
    )
    assert read.question == "Which part of the picture makes bile?"
    assert read.ground_truth() == json.dumps(ANSWER)


@pytest.mark.parametrize("numbers", [[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], [10, 20, 999, 999]])
def test_the_frame_is_never_guessed_from_the_numbers(numbers):
    read = row_of(published(**answer(bbox_2d=numbers)))
    assert (read.image_size, read.coordinates) == (FRAME, "pixels")


@pytest.mark.parametrize("place", ["extra_info", "ground_truth", "both"])
def test_the_ruler_is_read_wherever_it_is_said(place):
    ruler = {"image_size": [1200, 900], "coordinates": "0-1000"}
    changes = info(**ruler) if place != "ground_truth" else {}
    changes |= answer(**ANSWER, **ruler) if place != "extra_info" else {}
    read = row_of(published(**changes))
    assert (read.image_size, read.coordinates) == ((1200, 900), "0-1000")
    assert read.truth().box.to(read.truth().picture).xyxy == (12, 18, 360, 360)


def test_a_mask_is_read_in_any_form():
    drawn = np.zeros((8, 12), bool)
    drawn[2:5, 3:9] = True
    forms = [
        [{"bytes": png(drawn.astype(np.uint8) * 255, "L")}],
        [png(drawn.astype(np.uint8) * 255, "1")],
        [drawn.astype(int).tolist()],
        drawn.astype(int).tolist(),
        np.asarray(drawn),
        [encode_rle(drawn)],
    ]
    for form in forms:
        assert (row_of(published(masks=form)).mask.mask() == drawn).all()
    inline = published(masks=None, **answer(**ANSWER, mask=encode_rle(drawn)))
    assert (row_of(inline).mask.mask() == drawn).all()


def test_the_answer_holds_all_that_a_reward_sees(tmp_path):
    mask = np.zeros((48, 64), bool)
    mask[20:40, 10:30] = True
    facts = Facts.measure(mask).to_dict()
    write_rows([row(box=(10, 20, 30, 40), facts=facts)], tmp_path / "set.parquet")
    [record] = pq.read_table(tmp_path / "set.parquet").to_pylist()
    said = json.dumps({"bbox": [10, 20, 30, 40], "points_1": [15, 25], "points_2": [20.5, 30]})
    completion = f"<think>It lies on the left and is large.</think><answer>{said}</answer>"
    scores = compute_score("umrg", completion, record["reward_model"]["ground_truth"], record["extra_info"])
    assert scores["box"] == pytest.approx(1)
    assert scores["evidence"] > 0
    assert (
        compute_score("umrg", completion, row(image_size=(32, 24), box=(1, 2, 3, 4), points=()).ground_truth())["box"]
        < 0.1
    )


def test_the_answer_tells_its_ruler_unless_it_is_the_published_one():
    frame = row(image_size=FRAME, points=())
    assert json.loads(frame.ground_truth()) == {"bbox_2d": [10, 20, 30.5, 40]}
    for other in (frame.to("0-1000"), row(points=())):
        said = json.loads(other.ground_truth())
        assert (tuple(said["image_size"]), said["coordinates"]) == (other.image_size, other.coordinates)


def test_an_absent_target_is_told():
    read = row_of(published(**answer(absent=True)))
    assert (read.absent, read.box, read.points, read.mask) == (True, None, (), None)
    assert read.truth().absent
    assert json.loads(read.ground_truth()) == {"absent": True}


# --- what was changed is written changed ------------------------------------------------------------------------------


def test_a_changed_question_keeps_the_prompt_around_it():
    prompt = [{"role": "system", "content": "You locate."}, {"role": "user", "content": "<image>\nWhere?\n"}]
    read = row_of(published(prompt=prompt)).model_copy(update={"question": "Whence?"})
    assert record_of(read)["prompt"] == [prompt[0], {"role": "user", "content": "<image>\nWhence?\n"}]


def test_a_changed_box_keeps_what_else_the_answer_says():
    read = row_of(published(**answer(**ANSWER, label="liver"))).model_copy(update={"box": (1.0, 2.0, 3.0, 4.0)})
    written = json.loads(record_of(read)["reward_model"]["ground_truth"])
    assert written == {"bbox_2d": [1, 2, 3, 4], "point_2d": ANSWER["point_2d"], "label": "liver"}


def test_an_answer_that_was_a_struct_stays_one():
    read = row_of(published(reward_model={"ground_truth": {**ANSWER, "label": "liver"}}))
    written = record_of(read.model_copy(update={"box": (1.0, 2.0, 3.0, 4.0)}))["reward_model"]["ground_truth"]
    assert written == {"bbox_2d": [1, 2, 3, 4], "point_2d": ANSWER["point_2d"], "label": "liver"}


def test_facts_that_are_added_reach_the_answer_even_when_it_was_written_otherwise():
    model = {"style": "rule", "ground_truth": json.dumps(ANSWER, indent=1)}
    read = row_of(published(reward_model=model)).model_copy(update={"facts": {"place": ["left half"]}})
    record = record_of(read)
    assert json.loads(record["reward_model"]["ground_truth"])["facts"] == {"place": ["left half"]}
    assert json.loads(record["extra_info"]["facts"]) == {"place": ["left half"]}


def test_changed_words_are_not_overruled_by_the_files():
    changed = {"healthy": False, "category": "spleen", "id": "new", "licence": "CC0", "mask": None}
    again = row_of(record_of(row_of(published()).model_copy(update=changed)))
    assert {name: getattr(again, name) for name in changed} == changed


def test_a_changed_picture_keeps_the_others():
    read = row_of(SHAPES["several images"]).model_copy(update={"image": Picture(path="new.png")})
    images = record_of(read)["images"]
    assert [each["path"] for each in images] == ["new.png", "other.png"]


def test_the_split_that_a_name_told_is_written_where_the_new_name_does_not_tell_it(tmp_path):
    save([published()], tmp_path / "train-00000-of-00001.parquet")
    [read] = read_rows(tmp_path)
    assert read.split == "train"
    write_rows([read], tmp_path / "all" / "everything.parquet")
    assert [each.split for each in read_rows(tmp_path / "all")] == ["train"]
    write_rows([read], tmp_path / "train.parquet")
    assert contents(tmp_path / "train.parquet") == contents(tmp_path / "train-00000-of-00001.parquet")


# --- files and folders ------------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_order_and_by_split(tmp_path):
    for name in ("b", "a"):
        write_rows([row(id=name, split="test"), row(id=f"{name}2", split="train")], tmp_path / f"{name}.parquet")
    assert [each.id for each in read_rows(tmp_path)] == ["a", "a2", "b", "b2"]
    assert [each.id for each in read_rows(tmp_path, split="train")] == ["a2", "b2"]
    assert parquet_files(tmp_path / "a.parquet") == [tmp_path / "a.parquet"]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("test-00000-of-00001.parquet", "test"),
        ("umrg_validation.parquet", "val"),
        ("contest.parquet", ""),
        ("training.parquet", ""),
        ("data.parquet", ""),
    ],
)
def test_splits_of_names(name, split):
    assert split_of_name(name) == split


def test_rows_without_an_id_are_named_by_their_place(tmp_path):
    save([SHAPES["no extra_info"]] * 2, tmp_path / "set.parquet")
    assert [each.id for each in read_rows(tmp_path)] == ["set/0", "set/1"]


def test_pictures_are_embedded_and_decoded_by_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "image.png").write_bytes(png())
    (tmp_path / "files" / "mask.png").write_bytes(png(mode="L"))
    given_row = row(image=Picture(path="image.png"), mask=Picture(path="mask.png"))
    write_rows([given_row], tmp_path / "set.parquet", embed=True, root=tmp_path / "files")
    [read] = read_rows(tmp_path)
    assert read.image == Picture(path="files/image.png", data=png())
    assert (read.mask.mask() == np.eye(8, dtype=bool)).all()
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "set.parquet"), cache_dir=str(tmp_path / "c"))
    assert loaded["train"][0]["masks"][0].mode == "1"
    assert loaded["train"][0]["images"][0].size == (8, 8)


def test_relative_paths_follow_the_file(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(png())
    there = row(image=Picture(path="a.png"), mask=Picture(path=str(tmp_path / "pictures" / "a.png")))
    write_rows([there], tmp_path / "sets" / "set.parquet", root=tmp_path / "pictures")
    [read] = read_rows(tmp_path / "sets")
    assert read.image.path == "../pictures/a.png"
    assert read.image.read(tmp_path / "sets") == png()
    assert read.mask == there.mask
    write_rows([there], tmp_path / "sets" / "as-is.parquet")
    assert next(read_rows(tmp_path / "sets" / "as-is.parquet")) == there


def test_paths_alone_stay_paths_in_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_rows([row()], tmp_path / "set.parquet")
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "set.parquet"), cache_dir=str(tmp_path / "c"))
    assert loaded["train"][0]["images"] == [{"bytes": None, "path": "images/1.png"}]


def test_columns_that_appear_late_or_widen_are_written(tmp_path):
    def some(**columns: Any) -> list[Row]:
        return [row(other={"columns": columns}) for _ in range(300)]

    rows = [*some(), *some(weight=1), *some(weight=2.5, who={"name": "a"}), *some(who={"age": 3}), *some(weight=None)]
    assert write_rows(rows, tmp_path / "set.parquet") == 1500
    found = pq.read_table(tmp_path / "set.parquet")
    assert found["weight"].to_pylist()[::300] == [None, 1.0, 2.5, None, None]
    assert found["who"].to_pylist()[899] == {"name": "a", "age": None}
    assert pq.ParquetFile(tmp_path / "set.parquet").metadata.row_group(0).num_rows <= 256
    assert len(list(read_rows(tmp_path))) == 1500


def test_a_struct_without_fields_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"set\.parquet.*weight.*without fields"):
        write_rows([row(other={"columns": {"weight": {}}})], tmp_path / "set.parquet")


@pytest.mark.parametrize("far", [1, 400])
def test_a_column_of_two_kinds_is_refused(tmp_path, far):
    rows = [row(other={"columns": {"weight": 1}})] * far + [row(other={"columns": {"weight": "heavy"}})]
    with pytest.raises(ConfigError, match=r"set\.parquet.*weight.*type"):
        write_rows(rows, tmp_path / "set.parquet")
    assert os.listdir(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_rows([row(id="old")], tmp_path / "set.parquet")

    def breaks():
        yield from (row() for _ in range(600))
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_rows(breaks(), tmp_path / "set.parquet")
    assert [each.id for each in read_rows(tmp_path)] == ["old"]
    assert os.listdir(tmp_path) == ["set.parquet"]


def test_a_file_can_be_rewritten_from_itself(tmp_path):
    write_rows([row(id=str(number)) for number in range(500)], tmp_path / "set.parquet")
    write_rows((each.model_copy(update={"licence": "CC0"}) for each in read_rows(tmp_path)), tmp_path / "set.parquet")
    assert [(each.id, each.licence) for each in read_rows(tmp_path)] == [(str(number), "CC0") for number in range(500)]


def test_20000_rows_pass_through_in_bounded_memory(tmp_path):
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def many():
        nonlocal alive, most
        base = row(reasoning="It lies on the left. " * 40)
        for number in range(20_000):
            made = base.model_copy(update={"id": str(number)})
            weakref.finalize(made, gone).atexit = False
            alive += 1
            most = max(most, alive)
            yield made
            del made

    assert write_rows(many(), tmp_path / "set.parquet") == 20_000
    assert most <= 300
    whole = pq.read_table(tmp_path / "set.parquet").nbytes
    before, peak = pa.total_allocated_bytes(), 0
    for count, _ in enumerate(read_rows(tmp_path), start=1):  # noqa: B007
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert count == 20_000
    assert 0 < peak < whole / 10


def test_embedded_pictures_are_held_a_bounded_number_at_a_time(tmp_path, monkeypatch):
    from medground.data import parquet

    monkeypatch.setattr(parquet, "GROUP_BYTES", 10_000)
    rows = [row(id=str(number), image=Picture(data=bytes(3_000)), mask=None) for number in range(9)]
    write_rows(rows, tmp_path / "set.parquet")
    assert pq.ParquetFile(tmp_path / "set.parquet").num_row_groups == 3
    assert list(read_rows(tmp_path)) == rows


# --- bad rows ---------------------------------------------------------------------------------------------------------

BAD = [
    (published(prompt=None), "prompt"),
    (published(prompt="Where?"), "prompt"),
    (published(prompt=[{"role": "system", "content": "x"}]), "prompt: has no message of the user"),
    (published(prompt=[{"role": "user", "content": "<image>  "}]), "question"),
    (published(images=None), "images: is empty"),
    (published(images=[{"bytes": None, "path": None}]), "images: has neither"),
    (published(images=[3]), "images: expected a path"),
    (published(masks=[{"size": [2, 2], "counts": "zz"}]), "masks: "),
    (published(reward_model=None), "reward_model.ground_truth: is missing"),
    (published(reward_model={"ground_truth": "{"}), "reward_model.ground_truth: isn't JSON"),
    (published(reward_model={"ground_truth": "[" * 100_000}), "reward_model.ground_truth: isn't JSON"),
    (published(reward_model={"ground_truth": "[]"}), "reward_model.ground_truth: expected a JSON object"),
    (published(**answer()), "bbox_2d: expected"),
    (published(**answer(bbox_2d=[1, 2, 3])), "bbox_2d: expected"),
    (published(**answer(bbox_2d=[1, 2, 3, float("nan")])), "bbox_2d: expected"),
    (published(**answer(bbox_2d=[1, 2, 3, 10**400])), "bbox_2d: expected"),
    (published(**answer(bbox_2d=[1, 2, 3, True])), "bbox_2d: expected"),
    (published(**answer(bbox_2d=[1, 2, 3, 4], point_2d=[[1, 2]])), "point_2d: expected"),
    (published(**answer(absent=True, bbox_2d=[1, 2, 3, 4])), "absent: an absent target has no box"),
    (published(extra_info="x"), "extra_info: expected a struct"),
    (published(**info(image_size=[0, 5])), "image_size"),
    (published(**info(image_size="840")), "extra_info.image_size: expected [width, height]"),
    (published(**info(image_size=[840.5, 840])), "extra_info.image_size: expected [width, height]"),
    (published(**info(coordinates="inches")), "coordinates"),
    (published(**info(split="holdout")), "split"),
    (published(**info(category={"a": 1})), "extra_info.category: expected text"),
    (published(**info(facts="[1")), "extra_info.facts: isn't JSON"),
    (published(**info(other="[1]")), "extra_info.other: expected a JSON object"),
    (published(**info(image_size=[5, 5]), **answer(**ANSWER, image_size=[6, 6])), "image_size: extra_info says"),
]


@pytest.mark.parametrize(("record", "problem"), BAD, ids=[problem for _, problem in BAD])
def test_a_bad_row_is_refused_with_its_field(record, problem):
    with pytest.raises(FieldError) as caught:
        row_of(record)
    assert str(caught.value).startswith(problem) or f", {problem}" in str(caught.value)


def test_a_bad_row_is_named_by_file_and_number_or_handed_over(tmp_path):
    path = save([published(), published(**answer(bbox_2d=[1, 2])), published(2)], tmp_path / "set.parquet")
    rows = read_rows(path)
    assert next(rows).id == "0"
    with pytest.raises(TruthError, match=r"set\.parquet: row 1: reward_model\.ground_truth, bbox_2d: expected"):
        next(rows)
    bad: list[MedgroundError] = []
    assert [each.id for each in read_rows(path, on_bad=bad.append)] == ["0", "2"]
    assert len(bad) == 1


def test_errors_show_no_question_and_no_patient():
    with pytest.raises(FieldError) as caught:
        row_of(published(prompt=[{"role": "user", "content": "secret"}], **info(split="secret", group="secret")))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(row(question="secret", reasoning="secret", image=Picture(data=b"secret")))


def test_a_box_outside_the_picture_can_be_read_and_is_refused_as_a_truth():
    outside = row(box=(1, 2, 300, 40))
    with pytest.raises(TruthError, match=r"row case/1: .*bbox_2d.*outside the picture"):
        outside.truth()
    with pytest.raises(TruthError, match="swapped"):
        row(box=(30, 20, 10, 40)).truth()


@pytest.mark.parametrize(
    "wrong",
    [
        {"box": None},
        {"question": " "},
        {"question": "<image>Where?"},
        {"box": (1, 2, 3, float("inf"))},
        {"points": ((1, 2),)},
        {"id": ""},
        {"unknown": 1},
        {"image": {"path": None}},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_is_not_made(wrong):
    with pytest.raises(ValueError, match="validation error"):
        row(**wrong)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        next(read_rows(tmp_path / "none.parquet"))
    with pytest.raises(ConfigError, match=r"no \*.parquet"):
        next(read_rows(tmp_path))
    (tmp_path / "set.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ConfigError, match=r"set\.parquet: can't be read as parquet"):
        next(read_rows(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        write_rows([row()], tmp_path / "file" / "set.parquet")


def test_a_picture_that_cannot_be_embedded_names_the_row(tmp_path):
    with pytest.raises(TruthError, match=r"row case/1: images/1\.png: can't be read"):
        write_rows([row()], tmp_path / "set.parquet", embed=True)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(png())
    (tmp_path / "masks" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(TruthError, match=r"row case/1: masks/1\.png: isn't a readable mask"):
        write_rows([row()], tmp_path / "set.parquet", embed=True)


def test_what_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(TruthError, match="row case/1: other: can't be written as JSON"):
        write_rows([row(other={"picture": b"bytes"})], tmp_path / "set.parquet")

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import ellipse, paint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medground.adapters.trl import RecipeReward
from medground.data.layouts import LAYOUTS, export_rows, import_rows
from medground.data.schema import Picture, Row
from medground.errors import ConfigError, MedgroundError, TruthError
from medground.masks import box_of, encode_rle, key_points
from medground.rewards.evidence import Facts

pytest.importorskip("pyarrow")

MASK = ellipse(60, 80, 20, 30, 10, 15)
FILES = {"umrg": "rows.parquet", "verl": "rows.parquet", "swift": "rows.jsonl", "coco": "rows.json", "csv": "rows.csv"}
TEXTS = [*FILES.items(), ("trl", "rows.jsonl"), ("trl", "rows.parquet")]
KEEP_ALL = {"verl": {"masks": True, "embed": False}}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures and a mask on the disk."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("1.png", "2.png"):
        Image.fromarray(paint(MASK)).save(tmp_path / "images" / name)
    Image.fromarray(MASK).save(tmp_path / "masks" / "1.png")
    return tmp_path


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "id": "case/1",
        "question": "Which organ, the larger one, makes bile?",
        "image": Picture(path="images/1.png"),
        "mask": Picture(path="masks/1.png"),
        "box": box_of(MASK).xyxy,
        "points": tuple(point.xy for point in key_points(MASK)),
        "image_size": (80, 60),
        "reasoning": "It lies in the upper part of the image.",
        "category": "liver",
        "supercategory": "abdomen",
        "modality": "CT",
        "group": "patient 1",
        "split": "train",
        "healthy": True,
        "facts": Facts.measure(MASK).to_dict(),
    }
    return Row(**{**fields, **changes})


def absent(**changes: Any) -> Row:
    return row(**{"id": "none", "box": None, "points": (), "mask": None, "facts": None, **changes})


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def seen(one: Row, home: Path) -> dict[str, Any]:
    """What a row says, its mask as pixels and its image as content, wherever they are."""
    said = dict(one)
    said["image"] = one.image.read(home) if one.image.data or one.image.file(home).is_file() else one.image.path
    said["mask"] = one.mask and one.mask.mask(home).tolist()
    # verl's rows have a number of their own
    extra = {key: value for key, value in (one.other.get("extra_info") or {}).items() if key != "index"}
    said["other"] = {key: value for key, value in {**one.other, "extra_info": extra}.items() if value and key != "kept"}
    return said


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_rows_come_back_as_they_were(layout, name, folder):
    rows = [
        row(),
        row(id="2", image=Picture(path="images/2.png"), reasoning="", points=(), mask=None, healthy=None),
        row(id="3", box=(100.5, 250, 300, 400), points=((200, 300), (200.25, 300)), coordinates="0-1000", mask=None),
        row(id="4", other={"note": {"by": "a reader"}, "columns": {"annotator": "A", "grade": 3}}),
        row(
            id="5", other={"extra_info": {"scanner": {"tesla": 1.5}}}, short="A pale oval.", licence="CC0", style="lay"
        ),
        absent(),
    ]
    notes: list[str] = []
    told = {} if layout == "umrg" else {"on_note": notes.append}
    assert export_rows(rows, folder / name, layout, **KEEP_ALL.get(layout, {}), **told) == len(rows)
    again = sorted(import_rows(folder / name, layout), key=lambda each: [one.id for one in rows].index(each.id))
    assert len(again) == len(rows)
    for was, now in zip(rows, again, strict=True):
        expected, found = seen(was, folder), seen(now, folder)
        if layout in ("umrg", "verl", "trl"):  # a parquet column that some rows lack is null in them
            for said in (expected, found):
                said["other"].pop("columns", None)
                said["other"].pop("extra_info", None)
        if layout == "csv":
            found["other"].get("columns", {}).pop("annotator", None) if was.id != "4" else None
        assert found == expected
    fourth = next(each for each in again if each.id == "4")
    assert fourth.other["columns"]["annotator"] == "A"
    assert fourth.other["columns"]["grade"] == 3
    assert next(each for each in again if each.id == "5").other["extra_info"]["scanner"] == {"tesla": 1.5}
    assert not [note for note in notes if "no key points" not in note and "no mask" not in note]


words = st.text(max_size=8)
names = st.text("abcdef", min_size=1, max_size=5)
# <image> and the like in a question are refused where they would be replaced.
questions = st.text(min_size=1, max_size=12).map(str.strip).filter(lambda text: text and "<" not in text)
fractions = st.floats(0, 1000, allow_nan=False) | st.integers(0, 1000)


@st.composite
def drawn_rows(draw):
    there = draw(st.booleans())
    point = st.tuples(fractions, fractions)
    xs, ys = sorted(draw(point)), sorted(draw(point))
    places = {"box": None, "points": (), "facts": None}
    if there and xs[0] < xs[1] and ys[0] < ys[1]:
        places = {
            "box": (xs[0], ys[0], xs[1], ys[1]),
            "points": draw(st.just(()) | st.tuples(point, point)),
            "facts": draw(st.none() | st.dictionaries(names, st.lists(words, max_size=2), min_size=1, max_size=2)),
        }
    known = {name: draw(words) for name in ("short", "category", "modality", "licence", "group", "style", "template")}
    if "<" in known["category"]:
        known["category"] = ""
    return Row(
        id=str(draw(st.integers(0, 10**6))),
        question=draw(questions),
        image=Picture(path=draw(st.sampled_from(["a.png", "b/c d.png", "/somewhere/é,1.png"]))),
        mask=None,
        image_size=(1000, 1000),
        coordinates=draw(st.sampled_from(["pixels", "0-1000", "0-1000 yx"])),
        reasoning=draw(words.filter(lambda text: "<" not in text)),
        split=draw(st.sampled_from(["train", "val", "test", ""])),
        healthy=draw(st.none() | st.booleans()),
        other=draw(st.dictionaries(names, words, max_size=2)),
        **known,
        **places,
    )


@pytest.mark.parametrize(("layout", "name"), TEXTS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(drawn_rows(), max_size=3, unique_by=lambda each: each.id))
def test_whatever_rows_say_comes_back(tmp_path_factory, layout, name, rows):
    home = tmp_path_factory.mktemp("drawn")
    told = {} if layout == "umrg" else {"on_note": lambda _: None}
    assert export_rows(rows, home / name, layout, **KEEP_ALL.get(layout, {}), **told) == len(rows)
    again = {each.id: each for each in import_rows(home / name, layout)}
    assert len(again) == len(rows)
    for was in rows:
        expected, found = seen(was, home), seen(again[was.id], home)
        if layout == "verl":  # absolute paths, as verl opens them
            expected["image"] = os.path.abspath(home / was.image.path)
        assert found == expected


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_nothing_is_an_empty_file(layout, name, tmp_path):
    assert export_rows([], tmp_path / name, layout) == 0
    assert list(import_rows(tmp_path / name, layout)) == []


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_the_same_rows_are_the_same_bytes_and_rows_are_taken_one_by_one(layout, name, folder):
    def some():
        yield row()
        yield absent()

    for copy in ("a", "b"):
        (folder / copy).mkdir()
        export_rows(some(), folder / copy / name, layout, root=folder, **KEEP_ALL.get(layout, {}))
    assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes()


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_an_export_that_fails_leaves_the_old_file(layout, name, folder):
    export_rows([row(id="old")], folder / name, layout)
    before = sorted(os.listdir(folder))

    def breaks():
        yield row()
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        export_rows(breaks(), folder / name, layout)
    assert [each.id for each in import_rows(folder / name, layout)] == ["old"]
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_paths_follow_the_file_and_stay_relative(layout, name, folder):
    export_rows([row()], folder / "sets" / name, layout, root=folder, **KEEP_ALL.get(layout, {}))
    [again] = import_rows(folder / "sets" / name, layout)
    assert again.image.read(folder / "sets") == (folder / "images" / "1.png").read_bytes()
    assert (again.mask.mask(folder / "sets") == MASK).all()
    assert again.image.path == (str(folder / "images" / "1.png") if layout == "verl" else "../images/1.png")


@pytest.mark.parametrize(("layout", "name"), [each for each in TEXTS if each[0] not in ("umrg", "verl")])
def test_pictures_are_copied_when_asked_and_once_each(layout, name, folder):
    rows = [
        row(),
        row(id="again"),
        row(id="bytes", image=Picture(data=(folder / "images" / "1.png").read_bytes()), mask=Picture.of_mask(MASK)),
    ]
    out = folder / "out"
    export_rows(rows, out / name, layout, root=folder, copy_images=True)
    images = list((out / "images").iterdir())
    assert [image.read_bytes() for image in images] == [(folder / "images" / "1.png").read_bytes()]
    assert layout == "coco" or {mask.name for mask in (out / "masks").iterdir()} == {
        Path(each.mask.path).name for each in import_rows(out / name, layout)
    }
    again = list(import_rows(out / name, layout))
    assert {each.image.path for each in again} == {f"images/{images[0].name}"}
    assert all((each.mask.mask(out) == MASK).all() for each in again)


@pytest.mark.parametrize(("layout", "name"), [each for each in TEXTS if each[0] not in ("umrg", "verl")])
def test_a_picture_that_is_bytes_alone_is_refused_or_copied(layout, name, tmp_path):
    with pytest.raises(TruthError, match=r"row case/1: images: .*copy_images=True"):
        export_rows([row(image=Picture(data=b"x"), mask=None)], tmp_path / name, layout)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_numbers_are_written_on_the_ruler_that_is_asked_for(name, folder):
    export_rows([row()], folder / name, "trl", coordinates="0-1000")
    [again] = import_rows(folder / name, "trl")
    assert again.coordinates == "0-1000"
    assert again.truth().box.to(again.truth().picture).iou(row().truth().box) == pytest.approx(1)
    with pytest.raises(ConfigError, match="inches"):
        export_rows([row()], folder / name, "trl", coordinates="inches")


def test_further_pictures_and_system_messages_are_kept_or_told(folder):
    prompt = [
        {"role": "system", "content": "You locate."},
        {"role": "user", "content": "<image><image>Which organ makes bile?"},
    ]
    record_images = [{"bytes": None, "path": f"images/{number}.png"} for number in (1, 2)]
    from medground.data.columns import record_of, row_of

    plain = record_of(row())
    two = row_of({**plain, "prompt": prompt, "images": record_images})
    for layout, name in TEXTS:
        notes: list[str] = []
        told = {} if layout == "umrg" else {"on_note": notes.append}
        export_rows([two], folder / name, layout, **KEEP_ALL.get(layout, {}), **told)
        again = record_of(next(import_rows(folder / name, layout)))
        if layout in ("coco", "csv"):
            assert any("further images" in note for note in notes)
            assert len(again["images"]) == 1
        else:
            assert again["prompt"] == prompt
            assert len(again["images"]) == 2
            assert not notes


def test_what_json_cannot_hold_is_told(folder, caplog):
    odd = row(other={"columns": {"thumbnail": b"bytes", "grade": 1}, "extra_info": {"raw": b"bytes"}})
    for layout in ("swift", "coco", "csv"):
        notes: list[str] = []
        export_rows([odd, odd], folder / FILES[layout], layout, on_note=notes.append)
        assert any("thumbnail holds what JSON can't" in note and "2 rows" in note for note in notes)
        assert any("extra_info.raw" in note for note in notes)
        again = next(import_rows(folder / FILES[layout], layout))
        assert again.other["columns"] == {"grade": 1}
    export_rows([odd], folder / "rows.jsonl", "swift")
    assert "thumbnail" in caplog.text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_options_that_are_unknown_are_refused(layout, tmp_path):
    with pytest.raises(ConfigError, match=rf"layout {layout}: option 'colour' isn't known; there are .*root"):
        export_rows([], tmp_path / "x", layout, colour=1)
    with pytest.raises(ConfigError, match=r"option 'colour' isn't known; there are .*on_bad"):
        import_rows(tmp_path / "x", layout, colour=1)


def test_a_layout_that_is_unknown_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="layout 'yolo' isn't known; use one of umrg, verl, swift, coco, trl, csv"):
        export_rows([], tmp_path / "x", "yolo")


@pytest.mark.parametrize(("layout", "name"), TEXTS)
def test_a_file_that_is_missing_or_something_else_is_named(layout, name, tmp_path):
    with pytest.raises(ConfigError, match=name):
        list(import_rows(tmp_path / name, layout))
    (tmp_path / name).write_bytes(b"\xff\xfe{{{\x00 not \n this")
    with pytest.raises(ConfigError, match=name):
        list(import_rows(tmp_path / name, layout))


# --- verl -------------------------------------------------------------------------------------------------------------


def test_verl_gets_as_many_places_as_pictures_and_something_that_it_can_open(folder):
    datasets = pytest.importorskip("datasets")
    from medground.data.columns import row_of

    published = row_of(
        {
            "prompt": [{"role": "user", "content": "Which organ makes bile?"}],
            "images": [{"bytes": None, "path": "images/1.png"}],
            "reward_model": {"style": "rule", "ground_truth": '{"bbox_2d": [1, 2, 3, 4]}'},
        }
    )
    export_rows([row(), published], folder / "rows.parquet", "verl")
    loaded = datasets.load_dataset("parquet", data_files=str(folder / "rows.parquet"), cache_dir=str(folder / "cache"))
    for index, record in enumerate(loaded["train"]):
        assert record["prompt"][-1]["content"].count("<image>") == len(record["images"]) == 1
        assert isinstance(record["images"][0], Image.Image)
        assert record["data_source"] == "umrg"
        assert record["extra_info"]["index"] == index
        assert "masks" not in record
    export_rows([row()], folder / "rows.parquet", "verl", embed=False, on_note=lambda _: None)
    loaded = datasets.load_dataset("parquet", data_files=str(folder / "rows.parquet"), cache_dir=str(folder / "cache"))
    assert loaded["train"][0]["images"] == [str(folder / "images" / "1.png")]


def test_verl_is_told_of_masks_and_keeps_the_question_of_a_template(folder):
    notes: list[str] = []
    export_rows(
        [row()], folder / "rows.parquet", "verl", template="umrg-v1", coordinates="0-1000", on_note=notes.append
    )
    assert notes == ["verl: 1 row: the mask is left out; masks=True keeps it"]
    [again] = import_rows(folder / "rows.parquet", "verl")
    assert again.question == row().question
    assert again.coordinates == "0-1000"


# --- ms-swift ---------------------------------------------------------------------------------------------------------


def test_swift_rows_are_as_its_documentation_says(folder):
    export_rows([row(), absent()], folder / "rows.jsonl", "swift")
    first, second = read_lines(folder / "rows.jsonl")
    assert first["messages"] == [
        {"role": "user", "content": "<image>Which organ, the larger one, makes bile?"},
        {
            "role": "assistant",
            "content": "<think>It lies in the upper part of the image.</think>"
            '<answer>{"bbox": <bbox>, "points_1": <bbox>, "points_2": <bbox>}</answer>',
        },
    ]
    assert first["images"] == ["images/1.png"]
    assert first["objects"]["bbox_type"] == "real"
    assert first["objects"]["bbox"] == [list(row().box), *map(list, row().points)]
    tokens = sum(message["content"].count("<bbox>") for message in first["messages"])
    assert tokens == len(first["objects"]["bbox"])
    assert second["messages"][-1]["content"].endswith('<answer>{"absent": true}</answer>')
    assert second["objects"] == {"ref": [], "bbox": [], "bbox_type": "real"}


def test_swift_answers_may_be_its_grounding_tokens(folder):
    export_rows([row()], folder / "rows.jsonl", "swift", answer="<ref-object><bbox>", bbox_type="norm1")
    [line] = read_lines(folder / "rows.jsonl")
    assert line["objects"]["ref"] == ["liver"]
    assert line["objects"]["bbox"] == [
        pytest.approx([x / side for x, side in zip(row().box, (80, 60, 80, 60), strict=True)])
    ]
    assert next(import_rows(folder / "rows.jsonl", "swift")) == row()


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"<image>{question}"}, {"role": "assistant", "content": answer}]


SWIFT = {
    "messages": conversation("Find <ref-object>.", "<bbox>"),
    "images": ["images/1.png"],
    "objects": {"ref": ["the liver"], "bbox": [[8, 6, 40, 30]]},
}


@pytest.mark.parametrize(
    ("objects", "box", "coordinates"),
    [
        ({"bbox": [[8, 6, 40, 30]]}, (8, 6, 40, 30), "pixels"),
        ({"bbox": [[0.1, 0.1, 0.5, 0.5]], "bbox_type": "norm1"}, (0.1, 0.1, 0.5, 0.5), "0-1"),
        ({"bbox": [[40, 30, 8, 6]], "bbox_type": "real"}, (8, 6, 40, 30), "pixels"),
    ],
)
def test_swift_rows_of_others_are_read(folder, objects, box, coordinates):
    path = write_lines(folder / "rows.jsonl", {**SWIFT, "objects": {"ref": ["the liver"], **objects}})
    [read] = import_rows(path, "swift", split="test")
    assert (read.question, read.category, read.id, read.split) == ("Find the liver.", "the liver", "rows/1", "test")
    assert (read.box, read.coordinates, read.image_size) == (box, coordinates, (80, 60))


def test_swift_points_have_two_numbers(folder):
    messages = conversation("Where is <ref-object>?", "<bbox> at <bbox> and <bbox>")
    objects = {"ref": ["it"], "bbox": [[8, 6, 40, 30], [10, 10], [20, 20]]}
    [read] = import_rows(write_lines(folder / "a.jsonl", {**SWIFT, "messages": messages, "objects": objects}), "swift")
    assert read.points == ((10, 10), (20, 20))


def test_swift_numbers_that_were_edited_count(folder):
    export_rows([row()], folder / "rows.jsonl", "swift")
    [line] = read_lines(folder / "rows.jsonl")
    line["objects"]["bbox"][0] = [1, 2, 30, 40]
    [read] = import_rows(write_lines(folder / "rows.jsonl", line), "swift")
    assert read.box == (1, 2, 30, 40)
    assert read.facts is None
    assert read.category == "liver"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({}, "messages: expected"),
        (
            {**SWIFT, "messages": conversation("Where?", "<bbox><bbox>"), "objects": {"bbox": [[1, 2, 3, 4], [1, 2]]}},
            "objects.bbox: the answer has 1 boxes and 1 points",
        ),
        ({**SWIFT, "objects": {"bbox": [[1, 2, 3]]}}, "objects.bbox: the answer has"),
        ({**SWIFT, "objects": {"bbox": [[1, 2, 3, None]]}}, "objects.bbox: the answer has"),
        ({**SWIFT, "objects": {"bbox": [[1, 2, 3, 4]], "image_id": [1]}}, "image_id: the answer isn't in the first"),
        ({**SWIFT, "messages": conversation("What is at <bbox>?", "A liver.")}, "messages: asks about a box"),
        ({**SWIFT, "images": []}, "image"),
        ({**SWIFT, "images": ["images/none.png"]}, "image_size: isn't said, and none.png can't be read"),
        ({**SWIFT, "objects": {"ref": [3], "bbox": []}}, "objects.ref: expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_swift_rows_that_cannot_be_read_are_named(folder, line, problem):
    path = write_lines(folder / "rows.jsonl", SWIFT, line)
    with pytest.raises(TruthError, match=r"rows\.jsonl:2: ") as caught:
        list(import_rows(path, "swift"))
    assert problem in str(caught.value)
    bad: list[MedgroundError] = []
    assert len(list(import_rows(path, "swift", on_bad=bad.append))) == 1
    assert len(bad) == 1


@pytest.mark.parametrize("field", ["question", "reasoning", "category"])
def test_swift_would_replace_its_tokens_in_text_so_they_are_refused(folder, field):
    with pytest.raises(TruthError, match=rf"row case/1: {field}: holds <bbox>"):
        export_rows([row(**{field: "a <bbox> b"})], folder / "rows.jsonl", "swift")


def test_swift_refuses_a_type_of_box_that_it_lacks(folder):
    with pytest.raises(ConfigError, match="bbox_type 'norm1000'"):
        export_rows([row()], folder / "rows.jsonl", "swift", bbox_type="norm1000")


# --- COCO -------------------------------------------------------------------------------------------------------------


def test_coco_is_read_by_pycocotools(folder):
    from pycocotools.coco import COCO

    rows = [row(), row(id="2", image=Picture(path="images/2.png"), category="spleen"), row(id="3"), absent()]
    assert export_rows(rows, folder / "rows.json", "coco") == 4
    loaded = COCO(str(folder / "rows.json"))
    annotations = loaded.loadAnns(loaded.getAnnIds())
    assert len(annotations) == 3
    for annotation, was in zip(annotations, rows, strict=False):
        assert (loaded.annToMask(annotation).astype(bool) == MASK).all()
        assert annotation["area"] == MASK.sum()
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == was.box
        assert annotation["iscrowd"] == 0
        assert annotation["medground"]["question"] == was.question
        assert annotation["medground"]["reasoning"] == was.reasoning
    assert len(loaded.getImgIds()) == 2
    assert [each["name"] for each in loaded.loadCats(loaded.getCatIds())] == ["liver", "spleen"]
    assert loaded.loadImgs(1)[0] == {"id": 1, "file_name": "images/1.png", "width": 80, "height": 60}
    assert [each.id for each in import_rows(folder / "rows.json", "coco")] == ["case/1", "2", "3", "none"]


def coco(**annotation: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "1.png", "width": 80, "height": 60}],
        "categories": [{"id": 3, "name": "liver", "supercategory": "abdomen"}],
        "annotations": [{"id": 11, "image_id": 7, "category_id": 3, "bbox": [8, 6, 32, 24], **annotation}],
    }


def columns_first(mask: np.ndarray) -> list[int]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [1 - int(flat[-1])]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


@pytest.mark.parametrize("form", ["compressed", "uncompressed", "polygon", "none"])
def test_coco_of_others_is_read(folder, form):
    square = np.zeros((60, 80), bool)
    square[6:30, 8:40] = True
    segmentation = {
        "compressed": encode_rle(square),
        "uncompressed": {"size": [60, 80], "counts": columns_first(square)},
        "polygon": [[8, 6, 40, 6, 40, 30, 8, 30]],
        "none": None,
    }[form]
    (folder / "a.json").write_text(json.dumps(coco(segmentation=segmentation)), encoding="utf-8")
    [read] = import_rows(folder / "a.json", "coco", question="Where is the {category}?", images="images", split="val")
    assert (read.question, read.category, read.supercategory) == ("Where is the liver?", "liver", "abdomen")
    assert (read.box, read.image_size, read.split) == ((8, 6, 40, 30), (80, 60), "val")
    assert read.image.path == "images/1.png"
    assert read.id == "a/11"
    assert (read.mask is None) if form == "none" else (read.mask.mask() == square).all()


def test_coco_numbers_that_were_edited_count(folder):
    export_rows([row()], folder / "rows.json", "coco")
    document = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    document["annotations"][0]["bbox"] = [1, 2, 30, 40]
    (folder / "rows.json").write_text(json.dumps(document), encoding="utf-8")
    [read] = import_rows(folder / "rows.json", "coco")
    assert (read.box, read.points, read.facts, read.category) == ((1, 2, 31, 42), (), None, "liver")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (coco(image_id=8), "image_id: is none of the images"),
        (coco(bbox=None), "bbox: expected"),
        (coco(bbox=[1, 2, 3]), "bbox: expected"),
        (coco(segmentation={"size": [60, 80], "counts": "zz"}), "segmentation: can't be read"),
        (coco(segmentation={"size": [60, 80], "counts": [1, 2]}), "segmentation: can't be read"),
        (coco(segmentation=encode_rle(np.ones((6, 8), bool))), "segmentation: 8 x 6 isn't the picture's size"),
        (coco(segmentation=[[1]]), "segmentation: can't be read"),
        (coco(segmentation="what"), "segmentation: can't be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_coco_rows_that_cannot_be_read_are_named(tmp_path, document, problem):
    (tmp_path / "rows.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(TruthError, match=r"rows.json: annotation 11: ") as caught:
        list(import_rows(tmp_path / "rows.json", "coco", question="Where?"))
    assert problem in str(caught.value)


def test_coco_without_questions_says_what_to_do(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(coco()), encoding="utf-8")
    with pytest.raises(TruthError, match="question: is missing; give what to ask"):
        list(import_rows(tmp_path / "rows.json", "coco"))
    (tmp_path / "rows.json").write_text('{"images": [], "categories": []}', encoding="utf-8")
    with pytest.raises(ConfigError, match="annotations: expected a list"):
        list(import_rows(tmp_path / "rows.json", "coco"))


def test_coco_needs_masks_of_the_pictures_size_and_one_size_a_picture(folder):
    with pytest.raises(TruthError, match=r"row case/1: mask: 80 x 60 isn't the picture's size, 160 x 120"):
        export_rows([row(image_size=(160, 120))], folder / "rows.json", "coco")
    with pytest.raises(TruthError, match=r"row 2: image_size: 160 x 120, but an earlier row says 80 x 60"):
        export_rows([row(), row(id="2", image_size=(160, 120), mask=None)], folder / "rows.json", "coco")


def test_coco_tells_of_rows_without_masks(folder):
    notes: list[str] = []
    export_rows([row(mask=None)], folder / "rows.json", "coco", on_note=notes.append)
    assert notes == ["coco: 1 row: no mask, so there is no segmentation and the area is the box's"]


# --- TRL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_trl_takes_the_rows(folder, name):
    data_utils = pytest.importorskip("trl.data_utils")
    datasets = pytest.importorskip("datasets")
    options = {"embed": True} if name.endswith("parquet") else {}
    rows = [row(id=str(number)) for number in range(3)] + [absent()]
    export_rows(rows, folder / name, "trl", template="umrg-v1", coordinates="0-1000", completion=True, **options)
    kind = "parquet" if options else "json"
    loaded = datasets.load_dataset(kind, data_files=str(folder / name), cache_dir=str(folder / "cache"))["train"]
    for record, was in zip(loaded, rows, strict=True):
        assert data_utils.is_conversational(record)
        image = record["image"] if options else Image.open(folder / record["image"])
        assert image.size == (80, 60)
        prompt = data_utils.prepare_multimodal_messages(record["prompt"], images=[image])
        parts = [part for message in prompt for part in message["content"]]
        assert [part["type"] for part in parts].count("image") == 1
        assert was.question in parts[-1]["text"]
        said = record["completion"][0]["content"][0]["text"]
        [score] = RecipeReward("medground")([said], ground_truth=[record["ground_truth"]])
        assert score > 0.9 or was.absent
    again = list(import_rows(folder / name, "trl"))
    assert [each.question for each in again] == [row().question] * 4
    assert again[0].coordinates == "0-1000"


def test_trl_rows_of_others_are_read(tmp_path):
    truth = '{"bbox_2d": [1, 2, 3, 4], "image_size": [80, 60]}'
    path = write_lines(
        tmp_path / "rows.jsonl",
        {"prompt": [{"role": "user", "content": "Where is it?"}], "image": "a.png", "ground_truth": truth, "grade": 3},
        {
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]}],
            "images": ["b.png"],
            "reward_model": {"style": "rule", "ground_truth": truth},
        },
    )
    first, second = import_rows(path, "trl", split="val")
    assert (first.question, first.image.path, first.box, first.other["columns"]["grade"]) == (
        "Where is it?",
        "a.png",
        (1, 2, 3, 4),
        3,
    )
    assert (second.question, second.image.path, second.image_size, second.split) == (
        "And this?",
        "b.png",
        (80, 60),
        "val",
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"prompt": "Where?"}, "prompt: expected a list"),
        ({"prompt": [{"role": "user", "content": 3}]}, "prompt: expected text, or a list of parts"),
        ({"prompt": [{"role": "user", "content": "Where?"}]}, "ground_truth: is missing"),
        ({"prompt": [{"role": "user", "content": "Where?"}], "ground_truth": "{}", "image": "a.png"}, "bbox_2d"),
        ({"prompt": [{"role": "user", "content": "W?"}], "ground_truth": '{"absent": true}'}, "images: is empty"),
        (
            {
                "prompt": [{"role": "user", "content": "W?"}],
                "ground_truth": '{"absent": true}',
                "image": "a",
                "mask": "{",
            },
            "mask: isn't a path, nor run lengths",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_trl_rows_that_cannot_be_read_are_named(tmp_path, line, problem):
    with pytest.raises(TruthError, match=r"rows\.jsonl:1: ") as caught:
        list(import_rows(write_lines(tmp_path / "rows.jsonl", line), "trl"))
    assert problem in str(caught.value)


def test_trl_refuses_what_it_cannot_write(folder):
    with pytest.raises(ConfigError, match="can't be embedded in JSON lines"):
        export_rows([row()], folder / "rows.jsonl", "trl", embed=True)
    with pytest.raises(TruthError, match="row case/1: points: there are none"):
        export_rows([row(points=())], folder / "rows.jsonl", "trl", completion=True)
    with pytest.raises(TruthError, match="row case/1: the reasoning holds a think"):
        export_rows([row(reasoning="</think>")], folder / "rows.jsonl", "trl", completion=True)


# --- a plain folder ---------------------------------------------------------------------------------------------------


def write_csv(path: Path, *lines: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for line in lines for name in line)))
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_a_csv_of_three_columns_is_enough(folder):
    write_csv(folder / "rows.csv", {"image": "images/1.png", "mask": "masks/1.png", "question": "Where?"})
    [read] = import_rows(folder, "csv")
    assert read.box == box_of(MASK).xyxy
    assert read.points == tuple(point.xy for point in key_points(MASK))
    assert (read.image_size, read.coordinates, read.id) == ((80, 60), "pixels", "rows/2")


@pytest.mark.parametrize("box", ["8 6 40 30.5", "8, 6, 40, 30.5", "[8,6,40,30.5]", "8;6;40;30.5"])
def test_a_csv_may_give_boxes(folder, box):
    line = {"file_name": "images/1.png", "question": "Where?", "box": box, "points": "10 10 20 20", "grade": "3"}
    [read] = import_rows(write_csv(folder / "rows.csv", line), "csv", split="test")
    assert (read.box, read.points) == ((8, 6, 40, 30.5), ((10, 10), (20, 20)))
    assert (read.split, read.other["columns"]) == ("test", {"grade": "3"})


def test_a_csv_of_a_spreadsheet_has_a_byte_order_mark(folder):
    path = write_csv(folder / "rows.csv", {"image": "images/1.png", "question": "Where?", "absent": "yes"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    [read] = import_rows(path, "csv")
    assert read.absent


GOOD = {"image": "images/1.png", "mask": "masks/1.png", "question": "Where?"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({**GOOD, "image": ""}, "image: is empty"),
        ({**GOOD, "question": " "}, "question: is empty; give what to ask"),
        ({**GOOD, "mask": ""}, "box: is empty, and so are mask and absent"),
        ({**GOOD, "mask": "masks/none.png"}, "mask: masks/none.png: can't be read"),
        ({**GOOD, "mask": "{"}, "mask: isn't a path, nor run lengths"),
        ({**GOOD, "box": "1 2 3"}, "bbox_2d: expected"),
        ({**GOOD, "box": "1 2 3 nan"}, "bbox_2d: expected"),
        ({**GOOD, "box": "a b c d"}, "box: expected numbers"),
        ({**GOOD, "box": "1 2 3 4", "points": "1 2"}, "points: expected four numbers"),
        ({**GOOD, "width": "80", "height": ""}, "width, height: expected two whole numbers"),
        ({**GOOD, "width": "60", "height": "80"}, "mask: 80 x 60 isn't the row's width and height"),
        ({**GOOD, "absent": "perhaps"}, "absent: expected true or false"),
        ({**GOOD, "healthy": "perhaps"}, "healthy: expected true or false"),
        ({**GOOD, "facts": "["}, "facts: isn't JSON"),
        ({**GOOD, "other": "[]"}, "other: expected a JSON object"),
        ({**GOOD, "box": "1 2 3 4", "image": "images/none.png"}, "image_size: isn't said, and none.png can't be read"),
        ({**GOOD, "split": "holdout"}, "split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_csv_rows_that_cannot_be_read_are_named(folder, line, problem):
    path = write_csv(folder / "rows.csv", GOOD, line)
    with pytest.raises(TruthError, match=r"rows\.csv:3: ") as caught:
        list(import_rows(path, "csv"))
    assert problem in str(caught.value)


def test_csv_files_that_cannot_be_read_are_named(folder):
    (folder / "rows.csv").write_text("picture,question\na,b\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rows.csv:1: the header has no column image"):
        list(import_rows(folder / "rows.csv", "csv"))
    (folder / "rows.csv").write_text("image,question,image\na,b,c\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rows.csv:1: the header has two columns image"):
        list(import_rows(folder / "rows.csv", "csv"))
    (folder / "rows.csv").write_text("image,question\na,b,c\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rows.csv:2: 3 cells under 2 columns"):
        list(import_rows(folder / "rows.csv", "csv"))
    write_csv(folder / "more.csv", GOOD)
    with pytest.raises(ConfigError, match=r"has 2 files \*.csv"):
        list(import_rows(folder, "csv"))


# --- whatever a file holds --------------------------------------------------------------------------------------------

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inside for place in places_in(each, (*path, key)))]


def with_junk(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = with_junk(value[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize("layout", ["swift", "coco", "trl", "umrg"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_row_is_read_or_refused_and_nothing_else(tmp_path_factory, layout, data):
    from medground.data.columns import FieldError, record_of, row_of

    home = tmp_path_factory.mktemp("damaged")
    one = row(mask=Picture.of_mask(MASK))
    if layout == "umrg":
        record = record_of(one)
        damaged = with_junk(record, data.draw(st.sampled_from(places_in(record)[1:])), data.draw(junk))
        try:
            read = row_of(damaged)
        except FieldError:
            return
        record_of(read)
        return
    path = home / ("rows.json" if layout == "coco" else "rows.jsonl")
    export_rows([one.model_copy(update={"image": Picture(path="a.png")})], path, layout)
    document = json.loads(path.read_bytes())
    damaged = with_junk(document, data.draw(st.sampled_from(places_in(document))), data.draw(junk))
    path.write_text(json.dumps(damaged) + "\n", encoding="utf-8")
    said = path.name
    try:
        export_rows(import_rows(path, layout), home / "again.parquet", "umrg")
    except MedgroundError as error:
        said = str(error)
    assert path.name in said or "again.parquet" in said

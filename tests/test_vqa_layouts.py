from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_questions import closed, multi, nowhere, open_ended, questions, single
from PIL import Image
from pydantic import ValidationError

from medground.coords import COORDINATES
from medground.data import parquet
from medground.data.layouts.gemex import answer_of
from medground.data.layouts.thinkvg import location_of
from medground.data.layouts.vqa import VQA_LAYOUTS, export_vqa_rows, import_vqa_rows
from medground.data.rows import Picture
from medground.data.vqa_rows import Region, VqaRow
from medground.errors import ConfigError, MedgroundError, TruthError
from medground.rewards import score

pytest.importorskip("pyarrow")

FILES = [("medground", ".parquet")] + [
    (layout, ending) for layout in VQA_LAYOUTS if layout != "medground" for ending in (".jsonl", ".json", ".parquet")
]
FRAME = {"image_size": (224, 224)}


def read(layout: str, path: Path, *records: Any, **options: Any) -> list[VqaRow]:
    """Write records as they are and read them as rows."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(import_vqa_rows(path, layout, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "ending"), FILES)
def test_rows_come_back_as_they_were(layout, ending, tmp_path):
    rows = [
        *questions(),
        open_ended(id="zones", coordinates="0-1", thinking="", regions=(Region(box=(0.1, 0.125, 1, 1 / 3)),)),
        multi(id="yx", coordinates="pixels yx", image=Picture(path="a b/ü.png")),
    ]
    assert export_vqa_rows(rows, tmp_path / f"rows{ending}", layout) == len(rows)
    again = list(import_vqa_rows(tmp_path / f"rows{ending}", layout))
    if ending == ".parquet":  # a column that some rows lack is null in them, and then it isn't there
        assert again[0].other["columns"] == {"annotator": "A", "grade": 3}
    assert again == rows
    for row in again[:5]:
        assert score(row.completion(), row.truth(), "thinkvg")["score"] == 1.0
    assert export_vqa_rows(again, tmp_path / f"again{ending}", layout) == len(rows)
    if ending != ".parquet":
        assert (tmp_path / f"again{ending}").read_bytes() == (tmp_path / f"rows{ending}").read_bytes()


@pytest.mark.parametrize("layout", ["thinkvg", "gemex", "medground"])
def test_the_rewards_read_what_is_written(layout, tmp_path):
    rows = questions()
    path = tmp_path / f"rows{'.parquet' if layout == 'medground' else '.jsonl'}"
    export_vqa_rows(rows, path, layout)
    records = list(parquet.read_records(path)) if layout == "medground" else lines(path)
    for row, record in zip(rows, records, strict=True):
        truth = record["ground_truth"] if layout == "medground" else record
        assert score(row.completion(), truth, "thinkvg")["score"] == 1.0


@pytest.mark.parametrize(("layout", "ending"), FILES)
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_numbers_are_written_on_the_ruler_asked_for(layout, ending, coordinates, tmp_path):
    export_vqa_rows(questions(), tmp_path / f"rows{ending}", layout, coordinates=coordinates)
    again = list(import_vqa_rows(tmp_path / f"rows{ending}", layout))
    assert again == [row.to(coordinates) for row in questions()]
    for row, was in zip(again, questions(), strict=True):
        assert score(row.completion(), row.truth(), "thinkvg")["score"] == 1.0
        for region, old in zip(row.to("pixels").regions, was.regions, strict=True):
            assert region.box == pytest.approx(old.box)


def test_many_rows_of_which_the_first_have_no_regions_and_no_choices(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP", 2)
    rows = [nowhere(id=str(index)) for index in range(5)] + questions()
    for layout in VQA_LAYOUTS:
        assert export_vqa_rows(iter(rows), tmp_path / "rows.parquet", layout) == 10
        assert list(import_vqa_rows(tmp_path / "rows.parquet", layout)) == rows


marks = st.sampled_from(
    ["<answer>", "</ref>", "<location>", "<choices>: [A: ", "[1, 2, 3, 4]", ", B: ", "]", "\u2028", "é"]
)
texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=5) | marks, max_size=4).map("".join)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_or_is_refused(data, tmp_path):
    said = {name: data.draw(texts, name) for name in ("question", "reason", "thinking", "answer")}
    regions = tuple({"ref": ref, "box": (1, 2, 3, 4)} for ref in data.draw(st.lists(texts, max_size=2), "refs"))
    choices = tuple(data.draw(st.lists(texts, min_size=2, max_size=3), "choices"))
    for fields in ({"question_type": "open"}, {"question_type": "single_choice", "choices": choices, "answer": "B"}):
        try:
            row = VqaRow.model_validate({**dict(closed()), **said, "regions": regions, **fields})
        except ValidationError:
            continue
        for layout, ending in (("thinkvg", ".jsonl"), ("gemex", ".json"), ("gemex-training", ".jsonl"), FILES[0]):
            try:
                export_vqa_rows([row], tmp_path / f"rows{ending}", layout)
            except TruthError:
                assert layout != "medground"
            else:
                assert list(import_vqa_rows(tmp_path / f"rows{ending}", layout)) == [row]


def test_no_rows_are_a_file_without_rows(tmp_path):
    for layout, ending in FILES:
        assert export_vqa_rows([], tmp_path / f"none{ending}", layout) == 0
        assert list(import_vqa_rows(tmp_path / f"none{ending}", layout)) == []


# --- what is written, to the letter -----------------------------------------------------------------------------------


def test_what_thinkvg_rows_look_like(tmp_path):
    export_vqa_rows([multi(), nowhere()], tmp_path / "rows.jsonl", "thinkvg")
    first, second = lines(tmp_path / "rows.jsonl")
    assert first == {
        "question": "Which are opaque? <choices>: [A: left lung, B: heart, C: right lung: its apex]",
        "question_type": "multi_choice_questions",
        "image_path": "images/1.png",
        "thinkVG": multi().thinking,
        "response": "<response><answer>A, C</answer><location><ref>left lung</ref><box>[120, 40, 200, 190]</box>"
        "<ref>right lung</ref><box>[20, 40.5, 100, 190]</box></location></response>",
        "id": "multi",
        "image_size": [224, 224],
        "coordinates": "pixels",
        "extra_info": '{"reason": "Both are opaque."}',
    }
    assert second["response"] == "<response><answer>No</answer></response>"


def test_what_gemex_rows_look_like(tmp_path):
    export_vqa_rows([multi()], tmp_path / "rows.jsonl", "gemex")
    [row] = lines(tmp_path / "rows.jsonl")
    assert row["question"] == "Which are opaque?"
    assert row["choices"] == "[A: left lung, B: heart, C: right lung: its apex]"
    assert (row["type"], row["answer"], row["reason"]) == ("multi_choice_questions", "A, C", "Both are opaque.")
    assert row["visual_regions"] == ["left lung", "right lung"]
    assert row["visual_locations"] == [[120, 40, 200, 190], [20, 40.5, 100, 190]]
    export_vqa_rows([multi()], tmp_path / "rows.jsonl", "gemex-training")
    [row] = lines(tmp_path / "rows.jsonl")
    asked = "Which are opaque? <choices>: [A: left lung, B: heart, C: right lung: its apex]"
    said = "<answer> A, C <reason> Both are opaque. <location> [[120, 40, 200, 190], [20, 40.5, 100, 190]]"
    assert row["image"] == "images/1.png"
    assert row["conversations"] == [
        {"from": "human", "value": f"<image>\n{asked}"},
        {"from": "gpt", "value": said},
    ]


# --- how others write it ----------------------------------------------------------------------------------------------

ONE, TWO = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]
SEVERAL = {
    "pairs": ("<ref>a</ref><box>[1, 2, 3, 4]</box><ref>b</ref><box>[5, 6, 7, 8]</box>", ["a", "b"]),
    "a list in one box": ("<ref>lungs</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>", ["lungs", "lungs"]),
    "boxes side by side": ("<ref>lungs</ref><box>[1,2,3,4], [5,6,7,8]</box>", ["lungs", "lungs"]),
    "semicolons": ("<ref>lungs</ref><box>[1,2,3,4];[5,6,7,8]</box>", ["lungs", "lungs"]),
    "nothing between": ("<ref>lungs</ref><box>[1 2 3 4][5 6 7 8]</box>", ["lungs", "lungs"]),
    "one long bracket": ("<ref>lungs</ref><box>[1, 2, 3, 4, 5, 6, 7, 8]</box>", ["lungs", "lungs"]),
    "a name, then boxes": ("<ref>lungs</ref><box>[1, 2, 3, 4]</box><box>[5, 6, 7, 8]</box>", ["lungs", "lungs"]),
    "names, then boxes": (
        "<ref>a</ref><ref>b</ref><box>[1, 2, 3, 4]</box><box>[5, 6, 7, 8]</box>",
        ["a", "b"],
    ),
    "names, then a list": ("<ref>a</ref><ref>b</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>", ["a", "b"]),
    "commas and lines": ("\n<ref>a</ref>, <box>[1, 2, 3, 4]</box>,\n<ref>b</ref> <box>(5, 6, 7, 8)</box>", ["a", "b"]),
    "no names": ("<box>[1, 2, 3, 4]</box><box>[5, 6, 7, 8]</box>", ["region", "region"]),
    "boxes alone": ("[[1, 2, 3, 4], [5, 6, 7, 8]]", ["region", "region"]),
}


@pytest.mark.parametrize(("inside", "names"), SEVERAL.values(), ids=SEVERAL)
def test_however_several_boxes_are_written(inside, names, tmp_path):
    assert location_of(f"<location>{inside}</location>") == ([ONE, TWO], names)
    response = f"<response>\n<answer>Yes</answer>\n<location>{inside}</location>\n</response>"
    record = {"question": "Pale?", "question_type": "closed_ended_questions", "image_path": "1.png"}
    [row] = read("thinkvg", tmp_path / "a.jsonl", {**record, "response": response, "thinkVG": "So."}, **FRAME)
    assert [(region.ref, list(region.box)) for region in row.regions] == list(zip(names, [ONE, TWO], strict=True))
    assert (row.id, row.answer, row.question_type) == ("a/1", "Yes", "closed")


GEMEX = {
    "as we write it": {},
    "a dict of choices": {"choices": {"A": "left", "B": "right"}},
    "a list of choices": {"choices": ["left", "right"]},
    "choices in the question": {"question": "Which? <choices>: [A: left, B: right]", "choices": None},
    "letters as a list": {"answer": ["A"]},
    "a letter with its text": {"answer": "A: left"},
    "boxes as JSON": {"visual_locations": "[[1, 2, 3, 4], [5, 6, 7, 8]]"},
    "boxes side by side": {"visual_locations": "[1, 2, 3, 4], [5, 6, 7, 8]"},
    "names in one text": {"visual_regions": "left lung, right lung"},
    "another spelling of the type": {"type": "single-choice"},
}


@pytest.mark.parametrize("changes", GEMEX.values(), ids=GEMEX)
def test_however_gemex_is_written(changes, tmp_path):
    record = {
        "question": "Which?",
        "choices": "[A: left, B: right]",
        "type": "single_choice_questions",
        "answer": "A",
        "reason": "It is pale.",
        "visual_regions": ["left lung", "right lung"],
        "visual_locations": [ONE, TWO],
        "image_path": "1.png",
    }
    [row] = read("gemex", tmp_path / "test.jsonl", record | changes, **FRAME)
    assert (row.question, row.choices, row.answer[0]) == ("Which?", ("left", "right"), "A")
    assert [(region.ref, list(region.box)) for region in row.regions] == [("left lung", ONE), ("right lung", TWO)]
    assert (row.split, row.reason) == ("test", "It is pale.")


def test_names_that_are_not_one_for_each_box_are_told_of_all(tmp_path):
    record = {
        "question": "Pale?",
        "type": "closed",
        "answer": True,
        "image_path": "1.png",
        "visual_locations": [ONE, TWO],
    }
    for names, called in (("bilateral lung", "bilateral lung"), (["a", "b", "c"], "a, b, c"), (None, "region")):
        [row] = read("gemex", tmp_path / "a.jsonl", record | {"visual_regions": names}, **FRAME)
        assert [region.ref for region in row.regions] == [called, called]
        assert row.answer == "Yes"


def test_however_gemex_training_is_written(tmp_path):
    said = "<answer>Yes</answer>\n<reason>It is pale.</reason>\n<location>[1, 2, 3, 4], [5, 6, 7, 8]</location>"
    assert answer_of(said) == ("Yes", "It is pale.", [ONE, TWO])
    record = {"question": "Pale?", "response": said, "image_path": "1.png", "type": "closed"}
    [row] = read("gemex-training", tmp_path / "a.jsonl", record, **FRAME)
    assert (row.question, row.answer, row.reason, len(row.regions)) == ("Pale?", "Yes", "It is pale.", 2)
    assert answer_of("<answer> No <reason> Clear. <location> []") == ("No", "Clear.", [])


def test_small_overhangs_are_clipped(tmp_path):
    record = {
        "question": "Pale?",
        "type": "closed",
        "answer": "No",
        "image_path": "1.png",
        "visual_locations": [-3, 2, 30, 230],
    }
    [row] = read("gemex", tmp_path / "a.jsonl", record, **FRAME)
    assert row.regions[0].box == (0, 2, 30, 224)


def test_a_number_is_an_id_too(tmp_path):
    [row] = read("gemex", tmp_path / "a.jsonl", bare("gemex") | {"id": 0}, **FRAME)
    assert row.id == "0"


# --- frames -----------------------------------------------------------------------------------------------------------


def bare(layout: str) -> dict[str, Any]:
    """A record of another's file, which doesn't say its frame."""
    question = {"question": "Pale?", "image_path": "1.png"}
    return (
        question
        | {
            "thinkvg": {
                "question_type": "closed_ended_questions",
                "thinkVG": "It is (region [10, 20, 30, 40]).",
                "response": "<response><answer>Yes</answer>"
                "<location><ref>a</ref><box>[10, 20, 30, 40]</box></location></response>",
            },
            "gemex": {
                "type": "closed",
                "answer": "Yes",
                "visual_regions": ["a"],
                "visual_locations": [[10, 20, 30, 40]],
            },
            "gemex-training": {"type": "closed", "response": "<answer> Yes <reason> So. <location> [[10, 20, 30, 40]]"},
        }[layout]
    )


@pytest.mark.parametrize("layout", ["thinkvg", "gemex", "gemex-training"])
def test_a_frame_is_never_guessed(layout, tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(TruthError, match=r"a\.jsonl:1: image_size: isn't said; give image_size=\(width, height\)"):
        read(layout, path, bare(layout))
    [row] = read(layout, path, bare(layout), image_size=(512, 512), coordinates="0-1000")
    assert (row.image_size, row.coordinates, row.regions[0].box) == ((512, 512), "0-1000", (10, 20, 30, 40))
    [row] = read(layout, path, bare(layout) | {"image_size": [640, 480], "coordinates": "pixels"}, **FRAME)
    assert row.image_size == (640, 480)  # what the row says counts before what is said of all


# --- bad rows, bad files ----------------------------------------------------------------------------------------------

BAD = {
    "no answer": ("thinkvg", {"response": "<response></response>"}, "response: has 0 of <answer>"),
    "two answers": ("thinkvg", {"response": "<answer>Yes</answer><answer>No</answer>"}, "response: has 2 of <answer>"),
    "a location that goes on": ("thinkvg", {"response": "<answer>Yes</answer><location>"}, "opens 1 and closes 0"),
    "three numbers": (
        "thinkvg",
        {"response": "<answer>Yes</answer><location><box>[1, 2, 3]</box></location>"},
        "3 numbers",
    ),
    "words for boxes": ("thinkvg", {"response": "<answer>Yes</answer><location>left</location>"}, "isn't a number"),
    "words between": (
        "thinkvg",
        {"response": "<answer>Yes</answer><location><box>[1, 2, 3, 4] or [5, 6, 7, 8]</box></location>"},
        "response: has words between boxes",
    ),
    "a name without a box": (
        "thinkvg",
        {"response": "<answer>Yes</answer><location><ref>a</ref></location>"},
        "response: names 1 more regions",
    ),
    "another frame": (
        "thinkvg",
        {"response": "<answer>Yes</answer><location><box>[10, 20, 900, 800]</box></location>"},
        r"response: box 1 has no area inside the 224 x 224 picture, or leaves it; give image_size",
    ),
    "thinking of another frame": ("thinkvg", {"thinkVG": "(region [10, 20, 900, 800])"}, "thinkVG: names a region"),
    "not a text": ("thinkvg", {"thinkVG": 3}, "thinkVG: expected text, not int"),
    "very long": ("thinkvg", {"response": "<ref>" * 9999}, "response: is longer than 20,000"),
    "no type": ("gemex", {"type": None}, "type: expected one of"),
    "no picture": ("gemex", {"image_path": None}, "image_path: has neither a path nor bytes"),
    "a number for a text": ("gemex", {"answer": 4}, "answer: expected a text"),
    "letters without order": (
        "gemex",
        {"type": "single", "choices": {"A": "a", "C": "c"}, "answer": "A"},
        "letters A, C",
    ),
    "nothing to choose": ("gemex", {"type": "single", "answer": "A"}, "choices: a choice question offers"),
    "boxes of two": ("gemex", {"visual_locations": [[1, 2], [3, 4]]}, "visual_locations: box 1 isn't"),
    "extra_info is broken": ("gemex", {"extra_info": "{"}, "extra_info: isn't JSON"),
    "no tags": ("gemex-training", {"response": "Yes"}, "conversations: has no <answer>"),
    "an answer twice": (
        "gemex-training",
        {"response": "<answer> Yes <answer> No"},
        "conversations: has <answer> twice",
    ),
    "many turns": ("gemex-training", {"conversations": [{}, {}, {}]}, "conversations: expected one turn from human"),
}


@pytest.mark.parametrize(("layout", "changes", "said"), BAD.values(), ids=BAD)
def test_a_bad_row_is_named_with_its_file_and_column(layout, changes, said, tmp_path):
    bad = bare(layout) | changes
    with pytest.raises(TruthError, match=r"a\.jsonl:2: .*") as refused:
        read(layout, tmp_path / "a.jsonl", bare(layout), bad, **FRAME)
    assert re.search(said, str(refused.value)), str(refused.value)
    errors: list[MedgroundError] = []
    rows = read(layout, tmp_path / "a.jsonl", bare(layout), bad, bare(layout), on_bad=errors.append, **FRAME)
    assert (len(rows), len(errors)) == (2, 1)


def test_rows_that_would_not_be_read_back_are_not_written(tmp_path):
    path = tmp_path / "rows.jsonl"
    for layout, row, field in (
        ("thinkvg", single(choices=("left, B: right", "heart", "none")), "choices"),
        ("gemex", single(choices=("left, B: right", "heart", "none")), "choices"),
        ("gemex-training", closed(reason="So <location> it is."), "conversations"),
        ("thinkvg", closed(other={"columns": {"thinkVG": "mine"}}), "other, columns: thinkVG is the layout's own"),
        ("thinkvg", closed(other={"note": float("nan")}), "other: can't be written as JSON"),
        ("thinkvg", closed(image=Picture(data=b"png")), "copy_images=True"),
    ):
        with pytest.raises(TruthError, match=rf"row \w+: .*{field}"):
            export_vqa_rows([nowhere(), row], path, layout)
        assert not path.exists()


def test_files_and_options_that_do_not_fit(tmp_path):
    for said, wrong in (
        ("layout 'coco' isn't known", lambda: export_vqa_rows([], tmp_path / "a.json", "coco")),
        ("rename it", lambda: export_vqa_rows([], tmp_path / "a.csv", "gemex")),
        ("rename it", lambda: export_vqa_rows([], tmp_path / "a.jsonl")),
        ("embed is for", lambda: export_vqa_rows([], tmp_path / "a.jsonl", "gemex", embed=True)),
        ("knows no copy_images", lambda: export_vqa_rows([], tmp_path / "a.parquet", copy_images=True)),
        ("'inches' isn't known", lambda: export_vqa_rows([], tmp_path / "a.parquet", coordinates="inches")),
        ("its ending isn't known", lambda: list(import_vqa_rows(tmp_path / "a.txt", "gemex"))),
        ("can't be read as JSON", lambda: list(import_vqa_rows(tmp_path / "a.json", "gemex"))),
        ("'inches' isn't known", lambda: list(import_vqa_rows(tmp_path / "a.json", "gemex", coordinates="inches"))),
    ):
        with pytest.raises(ConfigError, match=said):
            wrong()
    (tmp_path / "a.json").write_text('{"question": "Pale?"}', encoding="utf-8")
    with pytest.raises(ConfigError, match="isn't a list of rows"):
        list(import_vqa_rows(tmp_path / "a.json", "gemex"))
    (tmp_path / "a.json").write_text("[3]", encoding="utf-8")
    with pytest.raises(TruthError, match=r"a\.json: row 0: row: isn't an object"):
        list(import_vqa_rows(tmp_path / "a.json", "gemex"))


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_are_found_from_the_file_that_names_them(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "set" / "images" / "1.png")
    content = (tmp_path / "set" / "images" / "1.png").read_bytes()
    root = tmp_path / "set"
    for layout, ending in FILES:
        moved = tmp_path / "out" / f"moved{ending}"
        export_vqa_rows([closed()], moved, layout, root=root)
        [row] = import_vqa_rows(moved, layout)
        assert row.image == Picture(path="../set/images/1.png")
        assert row.image.read(moved.parent) == content
    copied = tmp_path / "copied" / "rows.jsonl"
    export_vqa_rows([closed(image=Picture(data=content))], copied, "thinkvg", copy_images=True)
    [row] = import_vqa_rows(copied, "thinkvg")
    assert row.image.read(copied.parent) == content
    whole = tmp_path / "whole" / "rows.parquet"
    export_vqa_rows([closed()], whole, root=root, embed=True)
    [row] = import_vqa_rows(whole)
    assert row.image.data == content

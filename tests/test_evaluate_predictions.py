"""Lines of a run: what they must hold, what is read from them, and what a kill leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medground.coords import Space
from medground.errors import ConfigError, TruthError
from medground.evaluate.predictions import Prediction, predictions_name, read_run, ruler_of

ANSWER = (
    "<think>It is small.</think>"
    '<answer>{"bbox": [250, 500, 500, 1000], "points_1": [300, 600], "points_2": [400, 700]}</answer>'
)


def line(name: str = "1", **changed: Any) -> dict[str, Any]:
    return {
        "id": name,
        "question": "Where?",
        "image_size": [80, 40],
        "truth": {"bbox_2d": [20, 20, 40, 40], "image_size": [80, 40], "coordinates": "pixels"},
        "completion": ANSWER,
        "space": {"coordinates": "0-1000", "width": 1000, "height": 1000},
        **changed,
    }


def write(folder: Path, lines: list[dict[str, Any]], name: str = "predictions.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text('{"reasoner": {"name": "nano"}}')
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder / name


def test_a_line_is_read_on_the_picture_s_own_ruler() -> None:
    found = Prediction.model_validate(line())
    assert found.answer is not None
    assert found.answer.box is not None
    assert found.answer.box.xyxy == (20, 20, 40, 40)
    assert found.answer.reasoning == "It is small."
    assert found.right.box is not None
    assert found.right.box.space == Space.pixels(80, 40)
    # The truth of published rows is given on a frame that isn't the picture's.
    framed = Prediction.model_validate(line(truth={"bbox_2d": [210, 420, 420, 840]}))
    assert framed.right.box is not None
    assert framed.right.box.xyxy == (20, 20, 40, 40)


def test_y_first_is_y_first() -> None:
    space = Space.norm1000("yx")
    assert ruler_of(space) == {"coordinates": "0-1000 yx", "width": 1000.0, "height": 1000.0}
    found = Prediction.model_validate(line(space=ruler_of(space)))
    assert found.answer is not None
    assert found.answer.box is not None
    assert found.answer.box.xyxy == (40, 10, 80, 20)


@pytest.mark.parametrize("completion", ["", "nothing", '{"bbox": [2000, 2000, 3000, 3000]}'])
def test_what_can_t_be_read_is_none(completion: str) -> None:
    assert Prediction.model_validate(line(completion=completion)).answer is None


def test_an_error_is_no_answer_whatever_the_text() -> None:
    assert Prediction.model_validate(line(error="the server is gone")).answer is None


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"id": ""}, "id"),
        ({"mode": "think"}, "mode"),
        ({"image_size": [0, 4]}, "image_size"),
        ({"space": {"coordinates": "0-1000", "width": float("nan"), "height": 1}}, "space"),
        ({"masks": {"circle": None}}, "masks"),
        ({"masks": {"box": {"rle": {}}}}, "masks"),
        ({"extra": 1}, "extra"),
    ],
)
def test_bad_lines_are_refused_by_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Prediction.model_validate(line(**changed))
    assert caught.value.errors()[0]["loc"][0] == field


def test_a_label_or_a_ruler_that_can_t_be_used_is_told() -> None:
    with pytest.raises(TruthError, match="row 1: truth, bbox_2d"):
        _ = Prediction.model_validate(line(truth={"bbox_2d": [1, 2, 3]})).right
    with pytest.raises(ConfigError, match="coordinates 'inches' aren't known"):
        Prediction.model_validate(line(space={"coordinates": "inches", "width": 8, "height": 8})).read(ANSWER)


def test_a_run_is_read_in_order_of_ids_and_the_later_line_counts(tmp_path: Path) -> None:
    write(tmp_path / "runs", [line("b", error="refused"), line("a"), line("b")])
    run = read_run(tmp_path / "runs")
    assert (run.name, [each.id for each in run.predictions]) == ("runs", ["a", "b"])
    assert run.predictions[1].error is None
    assert run.info["reasoner"]["name"] == "nano"


@pytest.mark.parametrize("kept", [0, 1, 60, -1], ids=["nothing", "one byte", "some", "all but the line's end"])
def test_a_half_written_line_is_left_out(tmp_path: Path, kept: int) -> None:
    file = write(tmp_path, [line("a"), line("b")])
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + second[:kept])
    assert [each.id for each in read_run(tmp_path).predictions] == ["a"]


def test_damage_elsewhere_names_file_line_and_field(tmp_path: Path) -> None:
    file = write(tmp_path, [line("a"), line("b", mode="think"), line("c")])
    with pytest.raises(ConfigError, match=r"predictions.jsonl:2: mode: .*; evaluate that row again"):
        read_run(tmp_path)
    good = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(good[0] + b"{half\n" + good[2])
    with pytest.raises(ConfigError, match=r"predictions.jsonl:2 is damaged; remove that line"):
        read_run(tmp_path)


def test_shards_are_one_run_and_runs_are_not_mixed(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path, [line(f"row {index}")], predictions_name((index, 3)))
    assert [each.id for each in read_run(tmp_path).predictions] == ["row 0", "row 1", "row 2"]
    write(tmp_path, [line("row 1")])
    with pytest.raises(ConfigError, match="differently sharded"):
        read_run(tmp_path)


def test_other_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run\.json"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="isn't JSON"):
        read_run(tmp_path)

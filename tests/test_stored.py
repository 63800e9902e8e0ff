"""Answers from elsewhere: read where a reasoner would be asked, scored like any other's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medground.batch import read_pairs, run_batch
from medground.coords import Space
from medground.data.rows import Picture, Row
from medground.errors import ConfigError
from medground.evaluate.predictions import read_run
from medground.evaluate.run import evaluate
from medground.evaluate.score import figures
from medground.evaluate.stored import read_stored
from medground.images import MedicalImage
from medground.masks import box_of, key_points
from medground.pipeline import MedGround

FRAME = (84, 84)
"""Stands for the reference's 840 x 840."""


def made(count: int, folder: Path) -> list[Row]:
    """Write pictures of squares and return a row about each."""
    rows = []
    for number in range(count):
        mask = np.zeros(FRAME, bool)
        mask[10 + number : 50, 20 : 60 + number] = True
        Picture.of_mask(mask)
        (folder / f"{number}.png").write_bytes(Picture.of_mask(mask).data)
        rows.append(
            Row(
                id=f"umrg_{number}",
                question="What worries the surgeon?",
                image=Picture(path=f"{number}.png"),
                mask=Picture.of_mask(mask),
                box=box_of(mask).xyxy,
                points=tuple(point.xy for point in key_points(mask)),
                image_size=FRAME,
                split="test",
            )
        )
    return rows


def entry(row: Row, output: str | None, **further: Any) -> dict[str, Any]:
    """Return what the reference's evaluation writes about a row."""
    told = {"id": row.id, "problem": row.question, "supercategory": "abdomen", "category": "liver", "output": output}
    return told | {"think": "error", "bbox": None, "points": None, "iou": 0.0, "pdice": 0.0} | further


def test_the_references_results(tmp_path, segmenter):
    rows = made(4, tmp_path)
    where = "{'bbox': [20, 12, 58, 50], 'points_1': [30, 30], 'points_2': [50, 40]}"
    good = {"think": "The bright part.", "bbox": [20, 12, 58, 50], "points": [[30, 30], [50, 40]]}
    inside = 38 * 38 / (40 * 40)  # the box lies inside the true one of row 0
    results = [
        entry(
            rows[0],
            f"<think>The bright part.</think><answer>{where}</answer>",
            **good,
            iou=round(inside, 4),
            pdice=0.4,
            dice_bbox=0.9,
        ),
        entry(rows[1], "I am sorry, but I can't tell."),
        entry(rows[2], None),  # a service that never answered
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    stored = read_stored(file, name="Lingshu-7B-Soft")
    evaluate(rows, tmp_path / "run", reasoner=stored, segmenter=segmenter, root=tmp_path)
    run = read_run(tmp_path / "run")
    assert run.info["reasoner"] == {"name": "Lingshu-7B-Soft", "stored": stored.digest, "coordinates": "pixels"}
    first, second, third, fourth = run.predictions
    assert figures(first)["box_iou"] == pytest.approx(results[0]["iou"], abs=1e-4)
    assert first.answer.reasoning == "The bright part."
    assert [point.xy for point in first.answer.points] == [(30, 30), (50, 40)]
    assert figures(first)["dice_box"] == pytest.approx(2 * 38 * 38 / (38 * 38 + 40 * 40))
    assert (second.error, figures(second)["readable"], figures(second)["box_iou"]) == (None, 0.0, 0.0)
    assert third.error == "no answer is recorded"
    assert fourth.error == "Lingshu-7B-Soft has no answer to row umrg_3"
    assert [figures(each)["failed"] for each in run.predictions] == [0.0, 0.0, 1.0, 1.0]


def test_numbers_in_another_space_and_another_size_of_picture(tmp_path):
    [row] = made(1, tmp_path)
    output = '<answer>{"bbox": [250, 250, 750, 500]}</answer>'
    file = tmp_path / "results.json"
    file.write_text(json.dumps([entry(row, output)]))
    image = MedicalImage.from_array(np.eye(42, dtype=np.uint8))  # stored at half its frame
    pixels = read_stored(file).answer(row, image)
    assert pixels.space == Space.pixels(*FRAME)
    norm = read_stored(file, coordinates="0-1000").answer(row, image)
    assert norm.space == Space.norm1000()
    with pytest.raises(ConfigError, match="coordinates 'percent' aren't known; choose one of pixels"):
        read_stored(file, coordinates="percent")


def test_fields_count_where_the_text_is_gone(tmp_path):
    rows = made(2, tmp_path)
    entries = [entry(rows[0], "", think="Bright.", bbox=[1, 2.5, 3, 4], points=[[1.5, 3], [2, 3]])]
    entries.append({"id": rows[1].id, "absent": True})
    file = tmp_path / "results.json"
    file.write_text(json.dumps(entries))
    image = MedicalImage.from_array(np.eye(84, dtype=np.uint8))
    stored = read_stored(file)
    assert stored.answer(rows[0], image).text == (
        '<think>Bright.</think><answer>{"bbox": [1, 2.5, 3, 4], "points_1": [1.5, 3], "points_2": [2, 3]}</answer>'
    )
    assert stored.answer(rows[1], image).text == '<answer>{"absent": true}</answer>'


def test_a_batch_of_ours_scores_as_if_it_had_been_asked_here(tmp_path, reasoner, segmenter):
    rows = made(4, tmp_path)

    def script(request, space):
        if request.question.startswith("1"):
            return "No idea."
        if request.question.startswith("2"):
            return "ERROR the reasoner is out of memory"
        where = '{"bbox": [238, 120, 700, 600], "points_1": [300, 300], "points_2": [400, 400]}'
        return f"<think>Bright.</think><answer>{where}</answer>"

    reasoner.script = script
    rows = [row.model_copy(update={"question": f"{number} Where?"}) for number, row in enumerate(rows)]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"id": row.id, "image": row.image.path, "question": row.question}) + "\n" for row in rows)
    )
    run_batch(MedGround(reasoner, segmenter), read_pairs(pairs), tmp_path / "batch")
    evaluate(rows, tmp_path / "here", reasoner=reasoner, segmenter=segmenter, root=tmp_path)
    stored = read_stored(tmp_path / "batch" / "results.jsonl")
    assert stored.name == "batch/results"
    evaluate(rows, tmp_path / "there", reasoner=stored, segmenter=segmenter, root=tmp_path)
    for here, there in zip(*(read_run(tmp_path / name).predictions for name in ("here", "there")), strict=True):
        one, other = figures(here), figures(there)
        assert {name for name in one if not np.isclose(one[name], other[name], atol=1e-3, equal_nan=True)} == set()
        assert (here.error is None) == (there.error is None)


def test_plain_completions_in_lines(tmp_path):
    [row] = made(1, tmp_path)
    for name in ("output", "completion", "response", "text"):
        file = tmp_path / f"{name}.jsonl"
        file.write_text(json.dumps({"id": row.id, name: "<answer>{}</answer>", "score": 1}) + "\n")
        assert read_stored(file).answer(row, MedicalImage.from_array(np.eye(9, dtype=np.uint8))).text.startswith("<ans")


@pytest.mark.parametrize(("start", "end"), [("", ""), ("", "\n\n"), ("\ufeff", "")])
def test_the_last_line_counts_however_the_file_ends(tmp_path, start, end):
    file = tmp_path / "answers.jsonl"
    file.write_text(f'{start}{{"id": "1", "text": "a"}}\n{{"id": "2", "text": "b"}}{end}', encoding="utf-8")
    assert sorted(read_stored(file).answers) == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", r"a\.json: isn't JSON \(.*\); name JSON Lines \.jsonl"),
        ("a.json", '{"id": "1"}', r"a\.json: isn't an array of objects"),
        ("a.json", "[]", r"a\.json: holds no answers"),
        ("a.json", '[{"output": "x"}]', r"a\.json: entry 1: id: is missing"),
        ("a.json", '[{"id": "1", "output": "x"}, {"id": "1", "output": "y"}]', r"entry 2: id '1' is there twice"),
        ("a.json", '[{"id": "1", "bbox": [1, 2, 3]}]', r"entry 1: bbox: isn't 4 numbers"),
        ("a.json", '[{"id": "1", "bbox": [1, 2, 3, 4], "points": [[1, "2"]]}]', r"entry 1: points: isn't 2 numbers"),
        ("a.json", '[{"id": "1", "bbox": [1, 2, 3, 4], "coordinates": "source pixels"}]', r"width and height: must be"),
        ("a.jsonl", '{"id": "1"}\n{"id": "2", "te', r"a\.jsonl:2: the line isn't a JSON object"),
        (
            "a.jsonl",
            '{"id": "1"}\nnothing\n{"id": "2"}\n',
            r"a\.jsonl:2: the line isn't a JSON object \(Expecting value at column 1\); mend it",
        ),
    ],
)
def test_mistakes_name_their_place(tmp_path, name, content, told):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ConfigError, match=told):
        read_stored(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"can't read .*none\.json: No such file"):
        read_stored(tmp_path / "none.json")

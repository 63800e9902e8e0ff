"""`medground data`, from masks to files of other layouts and back, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_build import write_masks

from medground.cli import main
from medground.data.schema import read_rows


def run(*arguments: object) -> int:
    try:
        main(["data", *map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    out = folder / "build"
    assert run("clean", write_masks(folder / "masks", pictures=9), "--out", out, "--workers", 1) == 0
    assert run("describe", out, "--workers", 1) == 0
    assert run("ask", out, "--workers", 1, "--rows", 150) == 0
    assert run("assemble", out, "--title", "Drawn") == 0
    return out


def test_a_build_is_valid_counted_and_shown(build: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    # Of drawings, which are much alike, the hashes say little.
    assert run("validate", build, "--near", -1, "--workers", 1) == 0
    assert "no row is bad" in capsys.readouterr().out
    assert run("stats", build, "--json") == 0
    counted = json.loads(capsys.readouterr().out)
    rows = list(read_rows(build))
    assert counted["size"]["all"]["rows"] == len(rows) > 100
    assert run("show", build, "-n", 2, "--seed", 1) == 0
    assert capsys.readouterr().out.count("\n  question ") == 2
    assert run("show", build, "-n", 4, "--out", tmp_path / "rows.png") == 0
    assert (tmp_path / "rows.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_finds_the_stages_made(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (build / "ask" / "part-00000.jsonl").read_bytes()
    assert run("ask", build, "--workers", 1, "--rows", 150) == 0
    assert "were there already" in capsys.readouterr().out
    assert (build / "ask" / "part-00000.jsonl").read_bytes() == before
    assert run("ask", build, "--workers", 1, "--rows", 120) == 2
    assert "--restart" in capsys.readouterr().err


@pytest.mark.parametrize(("layout", "name"), [("swift", "rows.jsonl"), ("csv", "rows.csv"), ("verl", "rows.parquet")])
def test_other_layouts_and_back(build: Path, tmp_path: Path, layout: str, name: str) -> None:
    assert run("export", build, tmp_path / name, "--to", layout, "--split", "test") == 0
    assert run("import", tmp_path / name, tmp_path / "again.parquet", "--from", layout) == 0
    test = {row.id: row for row in read_rows(build, split="test")}
    again = {row.id: row for row in read_rows(tmp_path / "again.parquet")}
    assert again.keys() == test.keys()
    assert all(again[name].box == test[name].box and again[name].question == test[name].question for name in test)


def test_bad_rows_are_named(build: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from medground.data.schema import write_rows

    row = next(row for row in read_rows(build) if not row.absent)
    write_rows([row.model_copy(update={"box": (1, 1, 5000, 20)})], tmp_path / "bad.parquet", root=build)
    assert run("validate", tmp_path / "bad.parquet", "--out", tmp_path / "findings.jsonl", "--workers", 1) == 1
    assert "5000" in capsys.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "findings.jsonl").read_text().splitlines()]
    assert any(finding["id"] == row.id for finding in found)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("clean", "none", "--out", "out"), "none"),
        (("describe", "none"), "none"),
        (("clean", ".", "--out", "out", "--shares", "1"), "--shares"),
        (("describe", "out", "--prices", "1,2"), "--model"),
        (("export", "none.parquet", "a.csv", "--to", "csv", "--set", "answer"), "KEY=VALUE"),
        (("stats", "none.parquet"), "none.parquet"),
    ],
)
def test_what_cant_be_used_is_told(
    arguments: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert told in capsys.readouterr().err

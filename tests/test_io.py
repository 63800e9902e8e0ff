"""Files written whole, lines of JSON read with bounds, and runs held against the settings that they began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medground._io import hold_settings, json_lines
from medground.errors import ConfigError


def test_lines_have_their_numbers_and_empty_ones_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n  \n{"a": "\xc3\xa9"}')
    assert list(json_lines(file)) == [(1, {"a": 1}), (4, {"a": "é"})]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{'a': 1}", r"isn't a JSON object \(.* at column 2\); mend it"),
        (b"[1]", "isn't a JSON object; mend it"),
        (b"null", "isn't a JSON object; mend it"),
        (b"[" * 100_000, "isn't a JSON object; mend it"),
        (b"9" * 5_000, "isn't a JSON object; mend it"),
        (b'{"a": "\xe9"}', "isn't UTF-8 text; save the file as UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "isn't a JSON object"),
        (b"{" + b" " * 200_000, "is longer than 200,000 bytes; split it"),
    ],
    ids=("quotes", "list", "null", "brackets", "digits", "latin", "a mark within", "long"),
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: bytes, told: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"a": 1}\n' + line + b"\n")
    lines = json_lines(file, 200_000)
    assert next(lines) == (1, {"a": 1})
    with pytest.raises(ConfigError, match=rf"rows\.jsonl:2: the line {told}") as caught:
        next(lines)
    assert len(str(caught.value)) < 200 + len(str(file))


def test_the_longest_line_is_read_and_a_missing_file_is_named(tmp_path: Path) -> None:
    line = b'{"a": 1}\n'
    (tmp_path / "rows.jsonl").write_bytes(line)
    assert list(json_lines(tmp_path / "rows.jsonl", len(line))) == [(1, {"a": 1})]
    with pytest.raises(ConfigError, match="is longer"):
        list(json_lines(tmp_path / "rows.jsonl", len(line) - 1))
    with pytest.raises(ConfigError, match=r"can't read .*none.jsonl: No such file or directory; check the path"):
        list(json_lines(tmp_path / "none.jsonl"))


def test_a_run_is_held_to_its_settings_but_for_those_that_are_free(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    begun = {"mode": "reason", "model": {"name": "nano", "size": (3, 4)}, "versions": {"torch": "2"}}
    hold_settings(file, begun, "run", free="versions")
    written = file.read_bytes()
    hold_settings(file, {**begun, "versions": {"numpy": "3"}}, "run", free="versions")
    assert file.read_bytes() == written
    assert json.loads(written)["versions"] == {"torch": "2"}
    for now, told in (
        ({**begun, "model": {"name": "other", "size": (3, 4)}}, r"model.name 'nano', not 'other'"),
        ({**begun, "seed": 1}, "seed None, not 1"),
        ({**begun, "versions": {}}, "versions.torch '2', not None"),
    ):
        with pytest.raises(ConfigError, match=f"holds a batch with {told}; use the same setting to go on, or another"):
            hold_settings(file, now, "batch")


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff"], ids=("empty", "list", "bytes"))
def test_settings_that_cannot_be_read_hold_the_run(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "batch.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="so this batch can't go on; choose another folder"):
        hold_settings(file, {}, "batch")
    assert file.read_bytes() == content

"""`medground train`: what is refused, and what a dry run says."""

from __future__ import annotations

from pathlib import Path

import pytest

from medground.cli import main

RECIPES = Path(__file__).parent.parent / "recipes"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    return int(ended.value.code or 0)


def test_a_recipe_of_the_other_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("grpo", "--config", str(RECIPES / "nano_sft.toml")) == 2
    assert "run medground train sft" in capsys.readouterr().err


def test_a_key_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sft", "--config", str(RECIPES / "nano_sft.toml"), "--set", "epoch=3") == 2
    assert "epochs" in capsys.readouterr().err


def test_rows_that_are_not_there_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = ("--config", str(RECIPES / "nano_sft.toml"), "--dry-run")
    assert run("sft", *given, "--set", f"data.train={tmp_path / 'none.parquet'}") == 2
    assert "none.parquet" in capsys.readouterr().err

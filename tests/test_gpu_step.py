"""benchmarks/gpu_step.py, on a model for two CPU cores: its times say nothing here, its counts do."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("pyarrow")

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_step")


def test_a_tiny_models_step_is_taken_apart(gpu_step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    originals = [vars(gpu_step.Examples)["__call__"], vars(gpu_step.RecipeReward)["__call__"]]
    gpu_step.main(["--size", "tiny", "--steps", "2", "--completion", "8", "--json", "--folder", str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert found["tokens_a_step"] == [4 * 8, 4 * 8]  # a random model hardly ever ends before its time
    for name in ("generation", "rows", "rewards", "callbacks"):
        parts = found[f"{name}_seconds"]
        assert len(parts) == len(found["step_seconds"]) == 2
        assert all(0 < part < whole for part, whole in zip(parts, found["step_seconds"], strict=True))
    assert 0 < found["share_of_ours"] < 1
    assert found["right_answers_seconds"] > 0
    assert found["peak_gib"] > 0
    assert "| share of the step that is ours |" in gpu_step.markdown(found)
    assert [vars(gpu_step.Examples)["__call__"], vars(gpu_step.RecipeReward)["__call__"]] == originals
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_cuts_text_about_as_finely_as_a_real_one(gpu_step: ModuleType) -> None:
    tokenizer = gpu_step.make_tokenizer(20_000)
    assert len(tokenizer) == 20_000
    text = "Which part of the picture would a surgeon look at first, and why? Answer with a box and two points."
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert 3 < len(text) / len(ids) < 7
    assert tokenizer.decode([19_000]).strip()  # whatever a random model draws is some text


def test_the_large_size_wants_a_gpu(gpu_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_step.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA GPU"):
        gpu_step.main([])

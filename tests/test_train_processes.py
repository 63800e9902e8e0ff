"""Two processes train as one does: the same rows in each step, the same losses, the same model."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl", reason="trl isn't installed: pip install 'medground[train]'")
pytest.importorskip("pyarrow")

from run_processes import drawn_alike  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small_training import settings, write_data  # noqa: E402
from test_reasoners_hf import make_folder  # noqa: E402

from medground.train.config import TrainConfig  # noqa: E402
from medground.train.curves import RunLog  # noqa: E402
from medground.train.reinforce import train_grpo  # noqa: E402
from medground.train.supervised import train_sft  # noqa: E402

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is trained, for one process."""
    root = tmp_path_factory.mktemp("processes")
    model = make_folder("qwen2_5_vl", root / "tiny")
    (model / "medground.json").write_text('{"template": "nano-v1"}')
    data = write_data(root / "data")
    grpo = {"recipe": "test_train_families:SIGNS", "generations": 4, "max_completion": 6, "beta": 0.1}
    common = {"steps": 3, "max_pixels": 56 * 56, "save_every": 2, "eval_every": 3}
    found = {
        "sft": settings(model, data, root / "one" / "sft", "sft", batch=4, accumulation=2, **common),
        "grpo": settings(model, data, root / "one" / "grpo", "grpo", batch=8, grpo=grpo, **common),
    }
    for page in found.values():
        page["data"] |= {"val": str(data / "val.parquet"), "val_limit": 3}
    found["sft"]["sft"] = {"max_tokens": 900}
    return found


@pytest.fixture(scope="module")
def one(pages: dict[str, dict[str, Any]]) -> dict[str, Path]:
    """The runs of one process."""
    found = {}
    for kind, page in pages.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "multinomial", drawn_alike(itertools.count()))
            found[kind] = (train_sft if kind == "sft" else train_grpo)(TrainConfig.model_validate(page))
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def two(pages: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the runs of two processes, each with half of the batch, and what the processes said."""
    folder = tmp_path_factory.mktemp("two")
    engines = {"ddp": ["sft", "grpo"], "fsdp2": ["sft"] if importlib.util.find_spec("yaml") else []}
    asked = {}
    for engine, kinds in engines.items():
        own = [pages[kind] | {"out": str(folder / engine / kind), "batch": pages[kind]["batch"] // 2} for kind in kinds]
        asked[engine] = {"port": free_port(), "pages": own}
    file = folder / "pages.json"
    file.write_text(json.dumps(asked))
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    line += [str(TESTS / "run_processes.py"), str(file)]
    end = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    return folder, end.stderr


def run_of(two: tuple[Path, str], engine: str, kind: str) -> Path:
    """Return the folder of a run that ended well."""
    folder, said = two
    ends = [folder / f"{engine}-{rank}" for rank in range(2)]
    assert [end.read_text() if end.exists() else None for end in ends] == ["0", "0"], said[-3000:]
    return folder / engine / kind


def same(ours: Path, theirs: Path, names: tuple[str, ...]) -> None:
    """Hold the log, the checks and the weights of two runs against each other."""
    mine, wanted = RunLog(ours).read(), RunLog(theirs).read()
    lines = [[line for line in lines if "loss" in line] for lines in (mine, wanted)]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [1, 2, 3]
    for one, other in zip(*lines, strict=True):
        for name in names:
            assert one[name] == pytest.approx(other[name], abs=1e-4, rel=1e-3), (one["step"], name)
    checks = [[line["checkup"] for line in lines if "checkup" in line] for lines in (mine, wanted)]
    assert [check["rows"] for check in checks[0]] == [3, 3]
    assert checks[0][0] == checks[1][0]
    weights = [load_file(run / "model" / "model.safetensors") for run in (ours, theirs)]
    assert set(weights[0]) == set(weights[1])
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=2e-4), name


def test_two_processes_take_the_steps_of_one(one: dict[str, Path], two: tuple[Path, str]) -> None:
    sft, grpo = run_of(two, "ddp", "sft"), run_of(two, "ddp", "grpo")
    same(sft, one["sft"].parent, ("loss", "grad_norm"))
    same(grpo, one["grpo"].parent, ("loss", "grad_norm", "kl", "reward", "reward_std", "completions/mean_length"))
    assert json.loads((grpo / "run.json").read_text())["processes"] == 2
    assert any(abs(line["loss"]) > 1e-4 for line in RunLog(grpo).read() if "loss" in line)


def test_weights_that_are_spread_take_the_steps_of_one(one: dict[str, Path], two: tuple[Path, str]) -> None:
    pytest.importorskip("yaml")
    same(run_of(two, "fsdp2", "sft"), one["sft"].parent, ("loss", "grad_norm"))

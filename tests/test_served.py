"""A model behind `transformers serve`, over HTTP, answers as the same model in this process does."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_rows import made_rows

from medground.evaluate.predictions import read_run
from medground.evaluate.run import evaluate
from medground.evaluate.score import figures
from medground.reasoners import NANO, load_reasoner
from medground.reasoners.hf import HFReasoner

NEEDED = ("transformers", "fastapi", "uvicorn", "openai")
"""What `transformers serve` and its clients need."""

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED),
    reason=f"`transformers serve` needs {', '.join(NEEDED)}: install medground[local,remote,serve]",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve nano, and give its address as a reasoner's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", NANO.name, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    place = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with log.open("wb") as written:
        # From the folder's parent: the model's name is then short, and says nothing of this machine.
        server = subprocess.Popen(command, cwd=NANO.parent, env=place, stdout=written, stderr=subprocess.STDOUT)
    try:
        for _ in range(1200):
            if server.poll() is not None:
                pytest.skip(f"`transformers serve` ended at once: {log.read_text()[-300:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        else:
            pytest.skip("`transformers serve` wasn't ready within two minutes")
        yield f"http://127.0.0.1:{port}/v1#{NANO.name}"
    finally:
        server.terminate()
        server.wait(timeout=20)


@pytest.mark.parametrize("mode", ["reason", "direct"])
def test_predictions_are_the_same_as_in_process(served: str, tmp_path: Path, mode: str) -> None:
    rows = [row.model_copy(update={"split": "test"}) for row in made_rows(tmp_path)][-3:]
    there = load_reasoner(served, template="nano-v1", coordinates="0-1000", max_concurrency=2, timeout=300.0)
    for name, reasoner in (("here", HFReasoner(NANO, device="cpu", dtype="float32")), ("there", there)):
        evaluate(rows, tmp_path / name, reasoner=reasoner, mode=mode, root=tmp_path, batch=2)
    pairs = [read_run(tmp_path / name).predictions for name in ("here", "there")]
    assert [len(each) for each in pairs] == [3, 3]
    for here, there_ in zip(*pairs, strict=True):
        assert there_.error is None
        assert there_.completion == here.completion != ""
        assert there_.space == here.space
        assert str(figures(there_)) == str(figures(here))  # NaN for NaN
    asked = read_run(tmp_path / "there").info["reasoner"]
    assert (asked["name"], asked["template"], asked["coordinates"]) == ("nano", "nano-v1", "0-1000")


def test_streams_are_the_same_too(served: str, picture) -> None:
    from medground.reasoners import Request

    request = Request(picture, "Where is the spleen?")
    here = HFReasoner(NANO, device="cpu", dtype="float32")
    there = load_reasoner(served, template="nano-v1", coordinates="0-1000", timeout=300.0)
    assert "".join(there.stream(request)) == "".join(here.stream(request))

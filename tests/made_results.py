"""What docs/results.py is made from, and what stands in its tables."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def script(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))  # as a script finds its neighbours
        return importlib.import_module(name)


def training(
    folder: Path, lines: list[dict[str, Any]], *, finished: bool = True, questions: str = "", **settings: Any
) -> Path:
    """Write what a training leaves; `questions` is the digest of its visual questions."""
    folder.mkdir(parents=True, exist_ok=True)
    page = {"kind": "sft", "batch": 16, "accumulation": 1, "data": {"val": None, "root": None}, **settings}
    (folder / "run.json").write_text(json.dumps({"settings": page, "data": {"vqa": {"train.parquet": questions}}}))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if finished:
        (folder / "model").mkdir(exist_ok=True)
    return folder


def cells(page: str, heading: str, arm: str) -> dict[str, str]:
    """Return a line of the first table under a heading, by its columns."""
    lines = page.split(f"# {heading}\n", 1)[1].splitlines()
    table = [line for line in lines if line.startswith("|")]
    heads = [cell.strip() for cell in table[0].strip("|").split("|")]
    row = next(line for line in table if line.startswith(f"| {arm} |"))
    return dict(zip(heads, [cell.strip() for cell in row.strip("|").split(" | ")], strict=True))

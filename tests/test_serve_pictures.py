"""The README's screenshots: drawn again from real answers, as large as those that are committed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage")
pytest.importorskip("torch")
expect = pytest.importorskip("playwright.sync_api").expect
expect.set_options(timeout=60_000)  # the machine is shared with other tests

DOCS = Path(__file__).parent.parent / "docs"


def test_the_pages_pictures_are_drawn_from_real_answers(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    pictures = importlib.import_module("serve_pictures")
    pictures.draw(browser, tmp_path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == sorted(file.name for file in (DOCS / "images").glob("serve-*.png"))
    for name in names:
        drawn, kept = (np.asarray(Image.open(folder / name).convert("RGB")) for folder in (tmp_path, DOCS / "images"))
        assert drawn.shape == kept.shape
        assert (tmp_path / name).stat().st_size <= pictures.MOST
        for colour in (pictures.BOX, pictures.MASK):
            assert (np.abs(drawn.astype(int) - colour).sum(axis=2) < 60).sum() > 50, (
                "the answer is drawn over the image"
            )

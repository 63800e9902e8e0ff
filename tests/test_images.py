from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medground.images import load_image

RAMP = np.add.outer(np.arange(20), np.arange(30) * 5).astype(np.uint8)


def save(folder: Path, name: str, array: np.ndarray, **options: object) -> Path:
    path = folder / name
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_lossless_grey_is_kept(tmp_path: Path, name: str) -> None:
    image = load_image(save(tmp_path, name, RAMP))
    assert image.rgb.dtype == np.uint8
    assert image.rgb.flags.c_contiguous
    assert not image.rgb.flags.writeable
    assert (image.rgb == RAMP[:, :, None]).all()
    assert image.size == (30, 20) == (image.provenance.width, image.provenance.height)
    assert image.space.width == 30

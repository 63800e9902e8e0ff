from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.pixels import apply_windowing

from medground.windowing import Shape, apply_window, full_window, robust_window


@pytest.mark.parametrize("shape", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@settings(deadline=None, max_examples=40)
@given(centre=st.floats(-500, 4500), width=st.floats(1.5, 8000))
def test_windows_agree_with_pydicom(shape: Shape, centre: float, width: float) -> None:
    stored = np.arange(0, 4096, 3, dtype=np.uint16)
    dataset = Dataset()
    dataset.BitsStored, dataset.PixelRepresentation = 12, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth = f"{centre:.6g}", f"{width:.6g}"
    dataset.VOILUTFunction = shape
    with np.errstate(over="ignore"):
        expected = apply_windowing(stored, dataset) / 4095 * 255
    ours = apply_window(stored, (float(dataset.WindowCenter), float(dataset.WindowWidth)), shape)
    assert np.abs(ours - expected).max() <= 0.5 + 1e-6


def test_windows_of_nothing() -> None:
    assert robust_window(np.full(9, 3.0)) is None
    assert robust_window(np.full(9, np.nan)) is None
    assert full_window(np.array([1, 1])) is None
    assert robust_window(np.array([np.inf, 1.0, 2.0, np.nan])) is not None


def test_a_sparse_map_is_shown_in_full() -> None:
    labels = np.zeros(10_000, np.uint8)
    labels[7] = 3
    assert robust_window(labels) == full_window(labels) == (1.5, 3.0)


def test_infinities_are_clipped() -> None:
    values = np.array([-np.inf, 0.0, np.inf, np.nan])
    assert apply_window(values, (0, 2)).tolist() == [0, 128, 255, 0]

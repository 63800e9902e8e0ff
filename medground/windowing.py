"""From grey values of any depth to 8 bits: windows, and the robust window for images that carry none.

A window is ``(centre, width)`` in the values' own units (HU for CT), as DICOM PS3.3 C.11.2.1.2 defines it: it maps
the values around its centre onto 0 to 255 and clips the rest.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["ROBUST_PERCENTILES", "Shape", "apply_window", "full_window", "robust_window"]

Shape = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

ROBUST_PERCENTILES = (0.5, 99.5)
"""Percent of the values below the robust window's two ends; what lies outside is clipped, as MedSAM does."""

_SAMPLES = 1 << 20


def full_window(values: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the exact window over the finite values' minimum and maximum; None where they are all the same."""
    finite = _finite(values)
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    return ((low + high) / 2, high - low) if np.isfinite(high - low) and high > low else None


def robust_window(values: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the window between the 0.5th and the 99.5th percentile of the finite values.

    Parameters
    ----------
    values : array of any shape and any real type
        At most about a million of them are looked at, evenly spread.

    Returns
    -------
    (centre, width) or None
        For `apply_window` with the ``LINEAR_EXACT`` shape. Where the two percentiles coincide (a label map, a few
        bright spots on nothing), the window over minimum and maximum; None where all finite values are the same.

    Examples
    --------
    >>> robust_window(np.arange(1001))
    (500.0, 990.0)
    """
    finite = _finite(values)
    if not finite.size:
        return None
    sample = finite[:: max(1, -(-finite.size // _SAMPLES))]
    low, high = (float(end) for end in np.percentile(sample, ROBUST_PERCENTILES))
    if np.isfinite(high - low) and high > low:
        return (low + high) / 2, high - low
    return full_window(values)


def apply_window(
    values: npt.NDArray[Any], window: tuple[float, float], shape: Shape = "LINEAR_EXACT"
) -> npt.NDArray[np.uint8]:
    """Map grey values onto 0 to 255 through a window.

    Parameters
    ----------
    values : array of any shape and any real type
        NaN becomes 0.
    window : (centre, width)
        In the values' units, width above 0 (at least 1 for ``LINEAR``).
    shape : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        The VOI LUT function of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3. ``LINEAR`` is DICOM's own: half a value off,
        and one value narrower than its width.

    Returns
    -------
    uint8 array of the same shape

    Examples
    --------
    >>> apply_window(np.array([-200.0, -160.0, 40.0, 240.0, np.nan]), (40, 400))
    array([  0,   0, 128, 255,   0], dtype=uint8)
    """
    centre, width = window
    with np.errstate(over="ignore", invalid="ignore"):
        wide = np.asarray(values).astype(np.float64)
        if shape == "SIGMOID":
            scaled = 1 / (1 + np.exp(-4 * (wide - centre) / width))
        elif shape == "LINEAR" and width > 1:
            scaled = (wide - (centre - 0.5)) / (width - 1) + 0.5
        elif shape == "LINEAR":
            scaled = (wide > centre - 0.5).astype(np.float64)
        else:
            scaled = (wide - centre) / width + 0.5
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    flat = np.asarray(values).ravel()
    return flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat

"""What segmenters share: the device to run on, and boxes brought inside the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medground.coords import Space
from medground.errors import MissingExtraError, SegmenterError
from medground.types import Box

if TYPE_CHECKING:
    import torch


def choose_device(device: str) -> torch.device:
    """Return the torch device that a name stands for; ``"auto"`` is an accelerator when there is one."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", extra="local", purpose="segmenting") from error
    if device == "auto":
        device = next((name for name in ("cuda", "mps") if getattr(torch, name).is_available()), "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise SegmenterError(f"device {device!r} can't be used here; choose 'auto' or 'cpu'") from error
    return chosen


def box_inside(box: Box, space: Space) -> Box:
    """Return a box in `space`, cut at the picture's edges."""
    try:
        return box.to(space).clipped()
    except ValueError as error:
        raise SegmenterError(
            f"the box {[round(value, 1) for value in box.to(space).xyxy]} lies outside the picture of "
            f"{space.width:g} x {space.height:g} pixels; check the coordinate space that it was given in"
        ) from error

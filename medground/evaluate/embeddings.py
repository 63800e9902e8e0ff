"""A frozen segmenter's embeddings on disk: whoever is compared on the same pictures doesn't encode them again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medground._io import make_folder, write_bytes
from medground.coords import Space
from medground.errors import ConfigError, SegmenterError
from medground.images import MedicalImage
from medground.segmenters import Segmenter

if TYPE_CHECKING:
    import torch

__all__ = ["KeptEmbeddings"]

_ALIKE = 1e-2
"""How far, relative to its length, an embedding may be from what the same weights gave on another machine."""


class KeptEmbeddings:
    """Encodes pictures with a segmenter, and keeps what it made in a folder, one safetensors file a picture.

    Files are found by a digest of the pixels. Which segmenter made them is told by what it makes of a test picture,
    so that another one, or the same under other weights, is refused.

    Parameters
    ----------
    segmenter : Segmenter
        LiteMedSAM or one of the SAM family. Not a `Zoom`, whose crops depend on where it is pointed at.
    folder : path
        About 4 MB a picture for LiteMedSAM, 4 to 20 MB for SAM models.

    Raises
    ------
    ConfigError
        When the folder can't be written, or holds another segmenter's embeddings.
    SegmenterError
        When the segmenter's embeddings can't be kept.
    """

    def __init__(self, segmenter: Segmenter, folder: str | Path) -> None:
        self.segmenter, self.folder = segmenter, make_folder(folder)
        made = segmenter.encode(_test_picture())
        tensors = _tensors(segmenter, made)
        self._device = next(iter(tensors.values())).device
        probe = self.folder / "probe.safetensors"
        if not probe.exists():
            self._write(probe, made)
        there, _ = _read(probe, self._device)
        if there.keys() != tensors.keys() or not all(_alike(there[name], tensors[name]) for name in tensors):
            raise ConfigError(f"{self.folder} holds embeddings of another segmenter; choose another folder")

    def encode(self, image: MedicalImage) -> Any:
        """Return a picture's embedding, from the folder where it is there."""
        digest = hashlib.blake2b(repr(image.size).encode() + image.rgb.tobytes(), digest_size=16).hexdigest()
        file = self.folder / f"{digest}.safetensors"
        if file.exists():
            return _embedding(*_read(file, self._device), image.space)
        made = self.segmenter.encode(image)
        self._write(file, made)
        return made

    def _write(self, file: Path, made: Any) -> None:
        from safetensors.torch import save

        tensors = {name: each.contiguous().cpu() for name, each in _tensors(self.segmenter, made).items()}
        model_space: Space | None = getattr(made, "model_space", None)
        told = {"kind": type(made).__name__}
        if model_space is not None:
            told["model_space"] = json.dumps([model_space.width, model_space.height])
        write_bytes(file, save(tensors, told))


def _tensors(segmenter: Segmenter, made: Any) -> dict[str, torch.Tensor]:
    """Return an embedding's tensors by name."""
    import torch

    features = getattr(made, "features", None)
    if isinstance(features, torch.Tensor):
        return {"features": features}
    if isinstance(features, list) and features:
        return {f"features.{index}": each for index, each in enumerate(features)}
    raise SegmenterError(f"embeddings of {segmenter.name} can't be kept; leave out the folder of embeddings")


def _read(file: Path, device: torch.device) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device=str(device)) as source:
            return {name: source.get_tensor(name) for name in source.keys()}, dict(source.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file}: can't be read ({error}); remove it, it is made again") from error


def _embedding(tensors: dict[str, torch.Tensor], told: dict[str, str], space: Space) -> Any:
    from medground.segmenters.litemedsam import LiteMedSamEmbedding
    from medground.segmenters.sam import SamEmbedding

    if told.get("kind") == LiteMedSamEmbedding.__name__:
        return LiteMedSamEmbedding(tensors["features"], space)
    width, height = json.loads(told["model_space"])
    whole = tensors.get("features")
    features = [tensors[f"features.{index}"] for index in range(len(tensors))] if whole is None else whole
    return SamEmbedding(features, space, Space.resized(width, height))


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool((a.float() - b.float()).norm() <= _ALIKE * b.float().norm())


def _test_picture() -> MedicalImage:
    rows, columns = np.mgrid[:64, :64]
    return MedicalImage.from_array(((rows * 5 + columns * columns) % 251).astype(np.uint8), "a test picture")

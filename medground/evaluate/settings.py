"""What decided the answers of a run, in ``run.json`` beside them, so that no run goes on under other settings."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from medground._io import hold_settings
from medground.errors import ConfigError
from medground.evaluate.baselines import Baseline
from medground.evaluate.masking import Masker
from medground.evaluate.vqa.baselines import VisualBaseline
from medground.reasoners import Reasoner

__all__ = ["RUN_FILE", "hold_run", "settings_of"]

RUN_FILE = "run.json"

_VERSIONS = "versions"
_PACKAGES = ("medground", "numpy", "torch", "transformers", "openai")


def settings_of(
    reasoner: Reasoner | Baseline | VisualBaseline, masker: Masker | None, **further: Any
) -> dict[str, Any]:
    """Return what decides a run's answers, as JSON has it: names, settings and versions."""
    describe = getattr(reasoner, "describe", None)
    described = describe() if callable(describe) else {"name": reasoner.name}
    if (model := getattr(reasoner, "model", None)) is not None:
        described = {**described, "weights": _fingerprint(model)}
    segmenter = None
    if masker is not None:
        segmenter = {"name": masker.segmenter.name, "prompts": list(masker.kinds), "oracle": masker.oracle}
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    settings = {"reasoner": described, "segmenter": segmenter, **further, _VERSIONS: versions}
    plain: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    return plain


def hold_run(folder: Path, settings: dict[str, Any]) -> None:
    """Write a new run's settings, or hold a run that is to go on against those that it was begun with.

    Versions may change between the two; they are kept as they were at the beginning.

    Raises
    ------
    ConfigError
        When another setting differs, or the folder holds something else.
    """
    path = folder / RUN_FILE
    if not path.exists() and any(folder.glob("predictions*.jsonl")):
        raise ConfigError(f"{folder} holds predictions without a {RUN_FILE}; choose another folder")
    hold_settings(path, settings, "run", free=_VERSIONS)


def _fingerprint(model: Any) -> str:
    """Return a digest of the beginnings of a model's weights: checkpoints of one name differ, and it costs no time."""
    import torch

    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        first = weight.detach().flatten()[:256].cpu().contiguous()
        digest.update(f"{name}{tuple(weight.shape)}".encode() + bytes(first.view(torch.uint8).tolist()))
    return digest.hexdigest()[:16]

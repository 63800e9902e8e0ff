"""Medical reasoning grounding: a clinician's question and an image in; reasoning, a box, two key points and a mask out.

>>> from medground import MedGround, save_result
>>> result = MedGround().ground("scan.png", "Where would swelling of the nerve head show?")  # doctest: +SKIP
>>> save_result(result, "scan.png", "out")  # doctest: +SKIP

Everything in ``__all__`` is public. Names are imported when they are first used, so ``import medground`` is instant and
only what needs torch imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

RESEARCH_USE = "Research use only: not a medical device, not for diagnosis or treatment."
"""The notice that goes with everything that medground shows."""

if TYPE_CHECKING:
    from medground.asking import Conversation
    from medground.batch import Pair, read_pairs, run_batch
    from medground.coords import Space, convert
    from medground.dicom import save_dicom
    from medground.drawing import contact_sheet, draw_regions, overlay, save_reply, save_result
    from medground.errors import MedgroundError
    from medground.images import MedicalImage, Provenance, load_image
    from medground.parsing import parse
    from medground.pipeline import MedGround
    from medground.reasoners import Completion, Reasoner, Request, load_reasoner
    from medground.rewards import Truth, score, score_batch
    from medground.segmenters import MaskPrediction, Prompt, Segmenter, load_segmenter
    from medground.types import Box, CheckedClaim, Grounding, LocatedRegion, Mask, Point, Reply, Result, Sample

_HOME = {
    "asking": ("Conversation",),
    "batch": ("Pair", "read_pairs", "run_batch"),
    "coords": ("Space", "convert"),
    "dicom": ("save_dicom",),
    "drawing": ("contact_sheet", "draw_regions", "overlay", "save_reply", "save_result"),
    "errors": ("MedgroundError",),
    "images": ("MedicalImage", "Provenance", "load_image"),
    "parsing": ("parse",),
    "pipeline": ("MedGround",),
    "reasoners": ("Completion", "Reasoner", "Request", "load_reasoner"),
    "rewards": ("Truth", "score", "score_batch"),
    "segmenters": ("MaskPrediction", "Prompt", "Segmenter", "load_segmenter"),
    "types": ("Box", "CheckedClaim", "Grounding", "LocatedRegion", "Mask", "Point", "Reply", "Result", "Sample"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "RESEARCH_USE",
    "Box",
    "CheckedClaim",
    "Completion",
    "Conversation",
    "Grounding",
    "LocatedRegion",
    "Mask",
    "MaskPrediction",
    "MedGround",
    "MedgroundError",
    "MedicalImage",
    "Pair",
    "Point",
    "Prompt",
    "Provenance",
    "Reasoner",
    "Reply",
    "Request",
    "Result",
    "Sample",
    "Segmenter",
    "Space",
    "Truth",
    "__version__",
    "contact_sheet",
    "convert",
    "draw_regions",
    "load_image",
    "load_reasoner",
    "load_segmenter",
    "overlay",
    "parse",
    "read_pairs",
    "run_batch",
    "save_dicom",
    "save_reply",
    "save_result",
    "score",
    "score_batch",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'medground' has no attribute {name!r}")
    value = getattr(import_module(f"medground.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

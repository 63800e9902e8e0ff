"""SAM, SAM 2 / 2.1 and the SAM 3 tracker through transformers' own classes and processors.

Kirillov et al., ICCV 2023, arXiv:2304.02643 (SAM); Ravi et al., arXiv:2408.00714 (SAM 2). MedSAM's weights are a SAM
and MedSAM2's are a SAM 2, so both load here in Hugging Face format.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medground.coords import Space
from medground.errors import MissingExtraError, SegmenterError
from medground.segmenters import MaskPrediction, Prompt
from medground.segmenters._torch import box_inside, choose_device

if TYPE_CHECKING:
    import torch

    from medground.images import MedicalImage

__all__ = ["SamEmbedding", "SamSegmenter"]

_FAMILIES = {
    "sam": ("SamModel", "SamProcessor"),
    "sam2": ("Sam2Model", "Sam2Processor"),
    "sam2_video": ("Sam2Model", "Sam2Processor"),
    "sam3_tracker": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
    "sam3_video": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
}
"""config.model_type -> the transformers classes; the published SAM 2 and SAM 3 folders call themselves video models."""

_PROMPTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class SamEmbedding:
    """An encoded image.

    Parameters
    ----------
    features : tensor or list of tensor
        As the model's ``get_image_embeddings`` gives them.
    space : Space
        The image's own pixels.
    model_space : Space
        The same picture as the model sees it, in which its prompts are given.
    """

    features: Any
    space: Space
    model_space: Space


class SamSegmenter:
    """A SAM-family model.

    A prompt with a box, or with several points, is answered with the model's single mask; one lone point is
    ambiguous, so of the model's three masks the one with the highest predicted IoU is taken, as SAM's authors advise.

    Parameters
    ----------
    spec : str
        A folder or a hub id, in Hugging Face format with safetensors weights. When its name holds ``medsam`` (MedSAM,
        MedSAM2: trained on boxes alone) `trained_prompts` is ``{"box"}``, and points are not used.
    device : str
        ``"auto"`` or a torch device.
    dtype : str
        Of the image encoder, by autocast; the decoder and the prompts stay in float32. ``"auto"`` is float32.

    Raises
    ------
    SegmenterError
        When the weights can't be loaded, or are of another family.
    MissingExtraError
        When transformers isn't installed.
    """

    def __init__(self, spec: str, *, device: str = "auto", dtype: str = "auto") -> None:
        self.name = spec.rstrip("/").rsplit("/", 1)[-1]
        self.trained_prompts = frozenset({"box"} if "medsam" in self.name.lower() else {"box", "points"})
        self._device = choose_device(device)
        self._dtype = dtype
        self._autocast()  # an unknown dtype is said before anything is loaded
        try:
            import transformers
        except ImportError as error:
            raise MissingExtraError("transformers", extra="local", purpose="SAM models") from error
        try:
            config, _ = transformers.PreTrainedConfig.get_config_dict(spec)
            if not config:
                raise OSError("it holds no config.json")
            family = config.get("model_type")
            if family not in _FAMILIES:
                raise SegmenterError(
                    f"segmenter {spec!r} is a model of type {family!r}; known are {', '.join(_FAMILIES)}, and the "
                    "embedded 'litemedsam' and 'litemedsam-zoom'"
                )
            model_class, processor_class = (getattr(transformers, name) for name in _FAMILIES[family])
            self._processor = processor_class.from_pretrained(spec)
            model = model_class.from_pretrained(spec, dtype="float32", use_safetensors=True)
        except (OSError, ValueError) as error:
            raise SegmenterError(
                f"segmenter {spec!r} can't be loaded ({str(error).splitlines()[0]}); give 'litemedsam', or a folder or "
                "hub id in Hugging Face format with config.json, preprocessor settings and safetensors weights"
            ) from error
        self._model = model.eval().requires_grad_(False).to(self._device)
        self._keeps_shape = family == "sam"

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        if self._dtype in ("auto", "float32"):
            return nullcontext()
        if self._dtype not in ("bfloat16", "float16"):
            raise SegmenterError(f"dtype {self._dtype!r} isn't known; choose auto, float32, bfloat16 or float16")
        return torch.autocast(self._device.type, getattr(torch, self._dtype))

    def encode(self, image: MedicalImage) -> SamEmbedding:
        """Return the embedding of a picture of any size."""
        import torch

        inputs = self._processor(images=image.rgb.copy(), return_tensors="pt")
        pixels = inputs["pixel_values"].to(self._device)
        # SAM keeps the picture's shape and pads; SAM 2 and SAM 3 squeeze it to the model's square.
        height, width = inputs["reshaped_input_sizes"][0].tolist() if self._keeps_shape else pixels.shape[-2:]
        with torch.inference_mode(), self._autocast():
            features = self._model.get_image_embeddings(pixels)
        whole = isinstance(features, torch.Tensor)
        features = features.float() if whole else [feature.float() for feature in features]
        return SamEmbedding(features, image.space, Space.resized(width, height))

    def segment(self, embedding: SamEmbedding, prompts: Sequence[Prompt]) -> list[MaskPrediction]:
        """Return one mask for each prompt, in source pixels.

        Raises
        ------
        SegmenterError
            When the model was trained on boxes alone and a prompt has none, or a box lies outside the picture.
        """
        alike: dict[tuple[bool, int], list[int]] = {}
        for index, prompt in enumerate(prompts):
            if prompt.box is None and "points" not in self.trained_prompts:
                raise SegmenterError(
                    f"{self.name} was trained on boxes alone and this prompt has points only; give a box, or choose a "
                    "segmenter that was trained on points, such as a SAM 2.1 model"
                )
            points = len(prompt.points) if "points" in self.trained_prompts else 0
            alike.setdefault((prompt.box is not None, points), []).append(index)
        answers: dict[int, MaskPrediction] = {}
        for (boxed, points), indices in alike.items():
            for start in range(0, len(indices), _PROMPTS_AT_ONCE):
                batch = indices[start : start + _PROMPTS_AT_ONCE]
                answers.update(
                    zip(batch, self._answer(embedding, [prompts[i] for i in batch], boxed, points), strict=True)
                )
        return [answers[index] for index in range(len(prompts))]

    def _answer(self, embedding: SamEmbedding, prompts: list[Prompt], boxed: bool, points: int) -> list[MaskPrediction]:
        """Answer prompts that all have a box or all have none, and of whose points the same number is used."""
        import torch

        there = embedding.model_space
        inputs: dict[str, torch.Tensor] = {}
        if boxed:
            boxes = [box_inside(prompt.box, embedding.space).to(there).xyxy for prompt in prompts if prompt.box]
            inputs["input_boxes"] = torch.tensor([boxes], device=self._device)
        if points:
            places = [[point.to(there).clipped().xy for point in prompt.points] for prompt in prompts]
            inputs["input_points"] = torch.tensor([places], device=self._device)
            inputs["input_labels"] = torch.ones((1, len(prompts), points), dtype=torch.long, device=self._device)
        sizes = [[int(embedding.space.height), int(embedding.space.width)]]
        shown = ([[int(there.height), int(there.width)]],) if self._keeps_shape else ()
        with torch.inference_mode():
            features = embedding.features
            output = self._model(
                image_embeddings=features if isinstance(features, torch.Tensor) else list(features),
                multimask_output=not boxed and points == 1,
                **inputs,
            )
            scores, best = output.iou_scores[0].max(dim=-1)
            chosen = output.pred_masks[0][torch.arange(len(prompts), device=self._device), best]
            [masks] = self._processor.post_process_masks([chosen.unsqueeze(1)], sizes, *shown)
        unused = (f"{self.name} was trained on boxes alone; the points were not used",)
        return [
            MaskPrediction(mask[0].cpu().numpy(), float(score), unused if prompt.points and not points else ())
            for prompt, mask, score in zip(prompts, masks, scores, strict=True)
        ]

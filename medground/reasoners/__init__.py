"""Reasoners: models that read an image and a question and answer in text.

A reasoner knows nothing of masks, and nobody downstream of `medground.parsing` sees its text. What it owes its caller
beside the text is the `Space` in which the numbers of that text are written; it is never guessed from the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medground.coords import Space
from medground.errors import ReasonerError

if TYPE_CHECKING:
    from medground.images import MedicalImage
    from medground.prompts import Mode
    from medground.prompts.vqa import Visual

__all__ = ["NANO", "Completion", "Reasoner", "Request", "load_reasoner"]

NANO = Path(__file__).parent / "nano"
"""The folder of the embedded model."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one image.

    Parameters
    ----------
    image : MedicalImage
        What is asked about.
    question : str
        The question as the user worded it; the reasoner puts it into its prompt template.
    mode : {"reason", "direct"}
        Whether the model reasons before it answers.
    visual : Visual or None
        What a visual question has beside its words: its type, choices, earlier regions. None asks for one region to be
        found.
    """

    image: MedicalImage
    question: str
    mode: Mode = "reason"
    visual: Visual | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered to one request.

    Parameters
    ----------
    text : str
        The raw completion, reasoning and answer; empty when the request failed.
    space : Space
        The ruler on which the numbers in `text` are written.
    error : str or None
        One sentence when this request failed, holding neither the question nor the image.
    """

    text: str
    space: Space
    error: str | None = None


class Reasoner(Protocol):
    """What every reasoner offers.

    Attributes
    ----------
    name : str
        Which model answers, such as ``"nano-v1"``, ``"Qwen/Qwen3-VL-4B-Instruct"`` or ``"nano-v1+my-adapter"``.
    """

    @property
    def name(self) -> str:
        """Which model answers."""

    def complete(
        self,
        requests: Sequence[Request],
        *,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answer many requests, in their order; a request that fails alone carries its own `Completion.error`.

        Parameters
        ----------
        requests : sequence of Request
            Any number, also none.
        temperature : float, at least 0
            0 decodes greedily, so the same request gives the same text; above 0 samples.
        max_new_tokens : int or None
            The longest completion; None leaves the choice to the reasoner.
        seed : int or None
            Makes sampling repeatable; it leaves the caller's random state as it was.
        """

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the completion's text in pieces, whose concatenation is what `complete` would return.

        Raises
        ------
        ReasonerError
            When the request fails, also midway.
        """

    def space_for(self, image: MedicalImage) -> Space:
        """Return the coordinate space in which the model writes about `image`."""


def load_reasoner(
    spec: str = "nano",
    *,
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | None = None,
    template: str | None = None,
    coordinates: str | None = None,
    max_pixels: int | None = None,
    batch_size: int = 8,
    api_key: str | None = None,
    timeout: float = 120.0,
    max_concurrency: int = 8,
    allow_insecure: bool = False,
) -> Reasoner:
    """Load a reasoner by name.

    Parameters
    ----------
    spec : str
        ``"nano"``, the embedded model; a local folder or hub id of any Hugging Face image-text-to-text model; or
        ``"https://host/v1#model"``, a model behind an OpenAI-compatible endpoint.
    device : str
        ``"auto"`` (CUDA, then MPS, then the CPU) or a torch device. In-process models only.
    dtype : str
        ``"auto"`` (bfloat16 on CUDA, float32 elsewhere), ``"float32"``, ``"bfloat16"`` or ``"float16"``. In-process
        models only.
    adapter : str or None
        Folder of a LoRA adapter to lay over the model. In-process models only.
    template : str or None
        Name of the prompt template; None takes the model's own.
    coordinates : str or None
        Name of the coordinate space that the model writes in; None takes the model family's.
    max_pixels : int or None
        The most pixels that the model is shown; larger images are shrunk.
    batch_size : int
        How many requests go through an in-process model at once.
    api_key, timeout, max_concurrency, allow_insecure
        See `medground.reasoners.endpoint.EndpointReasoner`. Endpoints only.

    Raises
    ------
    ReasonerError
        When there is no such model, or its files don't make one.
    MissingExtraError
        When the packages that it needs aren't installed.
    """
    if spec.startswith(("http://", "https://")):
        from medground.reasoners.endpoint import EndpointReasoner

        if adapter is not None:
            raise ReasonerError("an adapter can't be laid over a model behind an endpoint: give it to the server")
        return EndpointReasoner(
            spec,
            api_key=api_key,
            template=template,
            coordinates=coordinates,
            max_pixels=max_pixels,
            timeout=timeout,
            max_concurrency=max_concurrency,
            allow_insecure=allow_insecure,
        )
    from medground.reasoners.hf import HFReasoner

    if spec == "nano" and not (NANO / "model.safetensors").is_file():
        raise ReasonerError(f"the embedded model's weights are missing from {NANO}: reinstall medground")
    return HFReasoner(
        NANO if spec == "nano" else spec,
        device=device,
        dtype=dtype,
        adapter=adapter,
        template=template,
        coordinates=coordinates,
        max_pixels=max_pixels,
        batch_size=batch_size,
    )

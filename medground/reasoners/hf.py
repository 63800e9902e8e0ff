"""A reasoner in this process: any Hugging Face image-text-to-text model, from a local folder or the hub."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medground.coords import Space, family_for, space_named
from medground.errors import MedgroundError, MissingExtraError, ReasonerError
from medground.prompts import template_digest
from medground.reasoners import Completion, Request
from medground.reasoners._asking import Asker, Prepared
from medground.reasoners._load import find_device, load_model, read_card
from medground.reasoners._request import MAX_NEW_TOKENS, MAX_PIXELS, check_positive, check_sampling

if TYPE_CHECKING:
    from medground.images import MedicalImage

__all__ = ["HFReasoner"]


class HFReasoner:
    """Any model that transformers loads with ``AutoModelForImageTextToText``; runs no code from the model's files.

    Decoding is plain: greedy at temperature 0, else the model's own distribution at that temperature. Sampling settings
    that came with the model (top-p, repetition penalty) are set aside, because a penalty on repeated tokens falls on
    the digits of coordinates.

    Safe to call from several threads; they take turns.

    Parameters
    ----------
    model : str or Path
        A local folder (never asks the network) or a hub id. A folder may hold ``medground.json`` with any of
        ``name``, ``coordinates`` and ``template``; arguments go before it, and it goes before the table of families.
    device : str
        ``"auto"`` (CUDA, then MPS, then the CPU) or a torch device.
    dtype : str
        ``"auto"`` (bfloat16 on CUDA, float32 elsewhere), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
    adapter : str or None
        Folder of a LoRA adapter with safetensors weights.
    template, coordinates : str or None
        Prompt template and coordinate space (see `medground.coords.COORDINATES`).
    max_pixels : int or None
        Pixel budget of the image that the model is shown; `MAX_PIXELS` where None.
    batch_size : int
        Requests that go through the model at once. Lower it, or `max_pixels`, where memory is short.

    Raises
    ------
    ReasonerError
        When the model or the adapter can't be loaded.
    ConfigError
        When a setting can't be used, or nothing says in which coordinates the model answers.
    MissingExtraError
        When a package that the model needs isn't installed.
    """

    name: str

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        adapter: str | None = None,
        template: str | None = None,
        coordinates: str | None = None,
        max_pixels: int | None = None,
        batch_size: int = 8,
    ) -> None:
        try:
            import torch
            import transformers  # noqa: F401
        except ImportError as error:
            raise MissingExtraError(
                error.name or "transformers", extra="local", purpose="running a model in this process"
            ) from error
        self.max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        self.batch_size = batch_size
        check_positive(max_pixels=self.max_pixels, batch_size=batch_size)

        card, config = read_card(model)
        self.template = template or card.template or "umrg-v1"
        template_digest(self.template)  # an unknown template is told before the weights are loaded
        self.coordinates = coordinates or card.coordinates or family_for(config.model_type).coordinates
        space_named(self.coordinates, 1, 1)  # so is an unknown space

        self.device = find_device(device)
        self.model, self.processor = load_model(model, self.device, dtype, adapter)
        self.dtype: torch.dtype = self.model.dtype
        source = str(model)
        self.name = card.name or (Path(source).resolve().name if Path(source).is_dir() else source)
        if adapter is not None:
            self.name += f"+{Path(adapter).resolve().name}"
        self._revision = getattr(config, "_commit_hash", None)
        self._model_type = config.model_type

        tokenizer = self.processor.tokenizer
        ends = _ids(self.model.generation_config.eos_token_id) | _ids(tokenizer.eos_token_id)
        if not ends:
            raise ReasonerError(f"{self.name} has no end-of-text token: set eos_token_id in its generation_config.json")
        self._ends = sorted(ends)
        for setting in _SAMPLING:
            setattr(self.model.generation_config, setting, None)
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self._ends[0]
        # Only these vanish from the text. Other special tokens carry meaning for parsing: a tokenizer may hold <think>,
        # <answer> or <|box_start|> as special tokens.
        self._silent = ends | {self._pad} | _ids(tokenizer.bos_token_id) | _image_ids(self.processor, config)
        self._limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.asker = Asker(
            self.processor,
            template=self.template,
            coordinates=self.coordinates,
            max_pixels=self.max_pixels,
            name=self.name,
        )
        self._turn = threading.Lock()

    def describe(self) -> dict[str, str | int | None]:
        """Return what decides this reasoner's answers, for a report: names, versions and settings, no paths."""
        return {
            "name": self.name,
            "model_type": self._model_type,
            "revision": self._revision,
            "coordinates": self.coordinates,
            "template": self.template,
            "template_digest": template_digest(self.template),
            "max_pixels": self.max_pixels,
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def space_for(self, image: MedicalImage) -> Space:
        """Return the coordinate space in which the model writes about `image`.

        For a model that writes pixels of the image it saw, that is the image which the processor makes of `image`
        under this reasoner's pixel budget, as the processor itself says.
        """
        return self.asker.space_for(image)

    def complete(
        self,
        requests: Sequence[Request],
        *,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answer requests in batches, in their order; see `medground.reasoners.Reasoner.complete`.

        `max_new_tokens` is at most what the model's positions leave after the prompt. A sampled answer depends on the
        seed, the temperature and on the batch that its request went in.
        """
        check_sampling(temperature, max_new_tokens)
        completions: list[Completion] = []
        with self._turn, self._seeded(seed):
            for start in range(0, len(requests), self.batch_size):
                completions += self._complete_batch(
                    requests[start : start + self.batch_size], temperature, max_new_tokens
                )
        return completions

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the answer in pieces as it is decoded; closing the iterator stops the model."""
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        check_sampling(temperature, max_new_tokens)
        streamer = TextIteratorStreamer(_Decoder(self), skip_prompt=True)
        failures: list[BaseException] = []
        closed = threading.Event()

        def stop(ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full((ids.shape[0],), closed.is_set(), dtype=torch.bool, device=ids.device)

        def work() -> None:
            try:
                with self._turn:
                    inputs, _ = self._inputs([self.asker.prepare(request)])
                    halt = StoppingCriteriaList([stop])
                    self._generate(inputs, temperature, max_new_tokens, streamer=streamer, stopping_criteria=halt)
            except BaseException as error:  # re-raised in the caller's thread
                failures.append(error)
            finally:
                streamer.on_finalized_text("", stream_end=True)

        worker = threading.Thread(target=work, name="medground-stream", daemon=True)
        worker.start()
        try:
            for piece in streamer:
                if piece:
                    yield piece
        finally:
            closed.set()
            worker.join()
        for failure in failures:
            if isinstance(failure, torch.OutOfMemoryError):
                raise ReasonerError(_OUT_OF_MEMORY) from failure
            raise failure

    def _complete_batch(
        self, requests: Sequence[Request], temperature: float, max_new_tokens: int | None
    ) -> list[Completion]:
        import torch

        done: dict[int, Completion] = {}
        ready: dict[int, Prepared] = {}
        for index, request in enumerate(requests):
            try:
                ready[index] = self.asker.prepare(request)
            except MedgroundError as error:
                done[index] = Completion("", request.image.space, str(error))
        failure = ""
        try:
            if ready:
                inputs, spaces = self._inputs(list(ready.values()))
                texts = self._generate(inputs, temperature, max_new_tokens)
                for index, text, space in zip(ready, texts, spaces, strict=True):
                    done[index] = Completion(text, space)
        except torch.OutOfMemoryError:
            failure = _OUT_OF_MEMORY
        except ReasonerError as error:
            failure = str(error)
        if failure and len(ready) == 1:
            done |= {index: Completion("", one.space, failure) for index, one in ready.items()}
        elif failure:  # one by one, so that a request that can't be answered doesn't take the others with it
            for index in ready:
                done[index] = self._complete_batch([requests[index]], temperature, max_new_tokens)[0]
        return [done[index] for index in range(len(requests))]

    def _inputs(self, prepared: Sequence[Prepared]) -> tuple[Any, list[Space]]:
        from jinja2 import TemplateError

        try:
            inputs = self.processor.apply_chat_template(
                [one.messages for one in prepared],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
                processor_kwargs={"padding": True},
            )
        except TemplateError as error:
            raise ReasonerError(f"{self.name}'s chat template doesn't take the {self.template} prompt") from error
        spaces = [one.space for one in prepared]
        if self.coordinates.removesuffix(" yx") == "resized pixels":
            made = self.asker.read_sizes(inputs, len(prepared))
            if made != [(space.width, space.height) for space in spaces]:
                raise ReasonerError(f"{self.name}'s processor resized an image otherwise than it said")
        return inputs.to(self.device, self.dtype), spaces

    def _generate(self, inputs: Any, temperature: float, max_new_tokens: int | None, **extra: Any) -> list[str]:
        import torch

        prompt = inputs["input_ids"].shape[1]
        length = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        if self._limit is not None:
            if prompt >= self._limit:
                raise ReasonerError(
                    f"the question and the image take {prompt} tokens and {self.name} holds {self._limit}: shorten "
                    "the question or lower max_pixels"
                )
            length = min(length, self._limit - prompt)
        with torch.inference_mode():
            output = self.model.generate(**inputs, generation_config=self._plan(temperature, length), **extra)
        return [self.decode(row) for row in output[:, prompt:].tolist()]

    def _plan(self, temperature: float, length: int) -> Any:
        plan = copy.deepcopy(self.model.generation_config)
        plan.max_new_tokens = length
        if temperature > 0:
            plan.do_sample, plan.temperature, plan.top_k, plan.top_p = True, temperature, 0, 1.0
        plan.eos_token_id, plan.pad_token_id = self._ends, self._pad
        return plan

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, less end, padding and image tokens."""
        kept = [number for number in ids if number not in self._silent]
        text = self.processor.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def _seeded(self, seed: int | None) -> ExitStack:
        """Fork torch's random state and seed the fork, so that the caller's state stays as it was."""
        import torch

        stack = ExitStack()
        if seed is not None:
            kind = "cuda" if self.device.type == "cpu" else self.device.type
            forked = [] if self.device.type == "cpu" else [self.device]
            stack.enter_context(torch.random.fork_rng(forked, device_type=kind))
            torch.manual_seed(seed)
        return stack


_SAMPLING = (
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("num_beams", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids", "sequence_bias"),
    *("max_length", "min_length", "max_new_tokens", "min_new_tokens"),
)

_OUT_OF_MEMORY = "the model ran out of memory on this request: lower max_pixels or batch_size, or use a smaller model"


class _Decoder:
    """The one method of a tokenizer that a streamer calls, with this package's rule of which tokens are silent."""

    def __init__(self, reasoner: HFReasoner) -> None:
        self._reasoner = reasoner

    def decode(self, ids: Sequence[int]) -> str:
        return self._reasoner.decode(ids)


def _ids(value: int | Sequence[int] | None) -> set[int]:
    """Return token ids that a configuration gives as one number, many or none."""
    if value is None:
        return set()
    return {value} if isinstance(value, int) else set(value)


def _image_ids(processor: Any, config: Any) -> set[int]:
    """Return the ids of placeholder tokens around and for images and videos."""
    found: set[int] = set()
    for owner in (processor, config):
        for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
            found |= _ids(getattr(owner, name, None))
    return found | {number for number in processor.image_token_ids if number is not None}

"""A reasoner behind any endpoint that speaks OpenAI's chat-completions protocol (vLLM, SGLang, llama.cpp, a vendor)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from medground.coords import Space, family_for, smart_resize, space_named
from medground.endpoint_client import EndpointClient, data_url
from medground.errors import MedgroundError, ReasonerError
from medground.prompts import template_digest
from medground.reasoners import Completion, Request
from medground.reasoners._request import (
    MAX_NEW_TOKENS,
    MAX_PIXELS,
    check_positive,
    check_sampling,
    fit,
    resized,
    worded,
)

if TYPE_CHECKING:
    from medground.images import MedicalImage
    from medground.prompts.vqa import Visual

__all__ = ["EndpointReasoner", "text_of"]


class EndpointReasoner:
    """A model behind an OpenAI-compatible endpoint.

    **What leaves this machine**: the prompt with the question, and the image's pixels as a PNG of at most `max_pixels`
    pixels without file name, patient fields or any other metadata. They go to the named host alone: redirects aren't
    followed. Error messages and log records hold neither question, image nor key, and no text of the server's, which
    may repeat them.

    **Coordinates**: the image is sent already sized, so the space is known. For families that write pixels of the
    image they saw (Qwen2.5-VL), both sides are multiples of 28, which such a server's processor leaves as they are
    as long as its own pixel budget is no smaller than `max_pixels`.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``; what follows ``#`` is the model's name on the server.
    api_key : str or None
        Where None, the environment's ``MEDGROUND_API_KEY``, else ``OPENAI_API_KEY``; on this machine it may be absent.
    template : str or None
        Prompt template; ``"umrg-v1"`` where None.
    coordinates : str or None
        The space in which the model answers; the model's name decides where None. See `medground.coords.COORDINATES`.
    max_pixels : int or None
        Pixel budget of the image that is sent; `MAX_PIXELS` where None.
    timeout : float
        Seconds to wait for the server's next byte, in each try.
    max_retries : int
        How often to try again when the server is busy (429), fails (5xx), times out or can't be reached: after the
        time that its ``Retry-After`` asks for, or else after 0.5 s, doubling up to 8 s.
    max_concurrency : int
        Requests under way at once, over all threads.
    allow_insecure : bool
        Allow ``http://`` to other machines, where anyone on the way can read image, question and key.

    Raises
    ------
    ReasonerError
        When the address or the key can't be used.
    ConfigError
        When a setting can't be used, or nothing says in which coordinates the model answers.
    """

    name: str

    def __init__(
        self,
        spec: str,
        *,
        api_key: str | None = None,
        template: str | None = None,
        coordinates: str | None = None,
        max_pixels: int | None = None,
        timeout: float = 120.0,
        max_retries: int = 4,
        max_concurrency: int = 8,
        allow_insecure: bool = False,
    ) -> None:
        self.max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        check_positive(max_pixels=self.max_pixels, timeout=timeout, max_concurrency=max_concurrency)
        self._client = EndpointClient(
            spec,
            purpose="a reasoner behind an endpoint",
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            sends_images=True,
            allow_insecure=allow_insecure,
        )
        self.base_url, self.name = self._client.base_url, self._client.name
        self.template = template or "umrg-v1"
        template_digest(self.template)  # an unknown template is told now
        self.coordinates = coordinates or family_for(name=self.name).coordinates
        space_named(self.coordinates, 1, 1)  # so is an unknown space
        self.timeout = timeout
        self.max_retries = max_retries
        self.max_concurrency = max_concurrency
        self._slots = threading.BoundedSemaphore(max_concurrency)

    def describe(self) -> dict[str, str | int | None]:
        """Return what decides this reasoner's answers, for a report."""
        return {
            "name": self.name,
            "endpoint": self.base_url,
            "coordinates": self.coordinates,
            "template": self.template,
            "template_digest": template_digest(self.template),
            "max_pixels": self.max_pixels,
        }

    def space_for(self, image: MedicalImage) -> Space:
        """Return the coordinate space in which the model writes about `image`, by the size in which it is sent."""
        size = self.sent_size(image)
        kind = self.coordinates.removesuffix(" yx")
        if kind not in ("pixels", "resized pixels"):
            return space_named(self.coordinates, *size)
        return Space("resized pixels", *size, order="xy" if kind == self.coordinates else "yx")

    def complete(
        self,
        requests: Sequence[Request],
        *,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answer requests concurrently, in their order; see `medground.reasoners.Reasoner.complete`.

        Whether a seed, or temperature 0, makes answers repeat is up to the server. A request that comes again is sent
        with the next seed: it is there for another sample.
        """
        check_sampling(temperature, max_new_tokens)

        def one(request: Request, again: int) -> Completion:
            space = request.image.space
            with self._slots:
                try:
                    space = self.space_for(request.image)
                    drawn = None if seed is None else seed + again
                    asked = self._asked(request, space, temperature, max_new_tokens, drawn)
                except MedgroundError as error:
                    return Completion("", space, str(error))
                try:
                    return Completion(self._ask(request, asked, again), space)
                except ReasonerError as error:
                    return Completion("", space, str(error))

        if not requests:
            return []
        seen: Counter[tuple[int, str, str, Visual | None]] = Counter()
        repeats = []
        for request in requests:
            same = (id(request.image), request.question, request.mode, request.visual)
            repeats.append(seen[same])
            seen[same] += 1
        pool = ThreadPoolExecutor(min(self.max_concurrency, len(requests)), thread_name_prefix="medground-endpoint")
        try:
            return list(pool.map(one, requests, repeats))
        finally:
            pool.shutdown(cancel_futures=True)

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the answer in pieces as the server sends them; closing the iterator closes the connection."""
        check_sampling(temperature, max_new_tokens)
        asked = self._asked(request, self.space_for(request.image), temperature, max_new_tokens, None)
        ended = False

        def parts(chunks: Iterable[Any]) -> Iterator[tuple[str | None, str | None]]:
            nonlocal ended
            for chunk in chunks:
                for choice in (chunk.choices or [])[:1]:
                    ended = ended or choice.finish_reason is not None
                    yield _said(choice.delta)

        with self._slots, self._client.told(), self._client.create(**asked, stream=True) as chunks:
            yield from _joined(parts(chunks))
        if not ended:
            raise ReasonerError(f"{self.base_url} broke off before the end of its answer")

    def _ask(self, request: Request, asked: Mapping[str, Any], again: int) -> str:
        """Return the answer to what is asked about a request; `again` counts equal requests before it."""
        with self._client.told():
            choice = self._client.create(**asked).choices[0]
            text = text_of(choice)
        if not text:
            raise ReasonerError(f"{self.name} gave no text{_WHY.get(str(choice.finish_reason), '')}")
        return text

    def _asked(
        self, request: Request, space: Space, temperature: float, max_new_tokens: int | None, seed: int | None
    ) -> dict[str, Any]:
        system, user = worded(request, self.template, space)
        url = data_url(resized(request.image, self.sent_size(request.image)))
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": user}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        length = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        asked = {"messages": messages, "temperature": temperature, "max_new_tokens": length}
        return asked if seed is None else asked | {"seed": seed}

    def sent_size(self, image: MedicalImage) -> tuple[int, int]:
        """Return the (width, height) at which an image is sent."""
        if self.coordinates.startswith("resized pixels"):
            # A budget below the family's smallest image (56 x 56) can't be kept.
            return smart_resize(*image.size, max_pixels=max(self.max_pixels, 56 * 56))
        return fit(*image.size, self.max_pixels)


_WHY = {"length": " within max_new_tokens", "content_filter": ": its content filter stepped in"}


def text_of(choice: Any) -> str:
    """Return what a model wrote, from a choice of the protocol, with reasoning that came apart back in its place."""
    return "".join(_joined([_said(choice.message)]))


def _said(message: Any) -> tuple[str | None, str | None]:
    """Return a message's reasoning and its text; servers with a reasoning parser take <think> out of the text."""
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    return (reasoning if isinstance(reasoning, str) else None), message.content


def _joined(parts: Iterable[tuple[str | None, str | None]]) -> Iterator[str]:
    """Yield text as the model wrote it, with reasoning that came apart back between its tags.

    Reasoning with no text after it was cut short, so its tag stays open.
    """
    inside = False
    for reasoning, text in parts:
        if reasoning:
            yield reasoning if inside else f"<think>{reasoning}"
            inside = True
        if text:
            yield f"</think>{text}" if inside else text
            inside = False

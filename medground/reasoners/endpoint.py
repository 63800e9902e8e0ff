"""A reasoner behind any endpoint that speaks OpenAI's chat-completions protocol (vLLM, SGLang, llama.cpp, a vendor)."""

from __future__ import annotations

import base64
import io
import ipaddress
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medground.coords import Space, family_for, smart_resize, space_named
from medground.errors import MedgroundError, MissingExtraError, ReasonerError
from medground.prompts import render, template_digest
from medground.reasoners import Completion, Request
from medground.reasoners._request import MAX_NEW_TOKENS, MAX_PIXELS, check_positive, check_sampling, fit, resized

if TYPE_CHECKING:
    from medground.images import MedicalImage

__all__ = ["EndpointReasoner"]


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
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", extra="remote", purpose="a reasoner behind an endpoint") from error
        self.max_pixels = MAX_PIXELS if max_pixels is None else max_pixels
        check_positive(max_pixels=self.max_pixels, timeout=timeout, max_concurrency=max_concurrency)
        if max_retries < 0:
            raise ReasonerError(f"max_retries must be 0 or above, not {max_retries}")
        self.base_url, self.name, here = _address(spec, allow_insecure=allow_insecure)
        self.template = template or "umrg-v1"
        template_digest(self.template)  # an unknown template is told now
        self.coordinates = coordinates or family_for(name=self.name).coordinates
        space_named(self.coordinates, 1, 1)  # so is an unknown space
        self.timeout = timeout
        self.max_retries = max_retries
        self.max_concurrency = max_concurrency
        # OpenAI's newer models take no max_tokens, other servers no max_completion_tokens; found out on the first call.
        self._length_field = "max_tokens"
        self._slots = threading.BoundedSemaphore(max_concurrency)
        alien: dict[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self._client: Any = openai.OpenAI(
            base_url=self.base_url,
            api_key=_key(api_key, here=here),
            timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
            max_retries=max_retries,
            # The environment's OpenAI account is no business of another server.
            default_headers=alien,
            # No redirect takes an image elsewhere, and no proxy sees what stays on this machine.
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not here),
        )

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
        size = self._sent_size(image)
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

        Whether a seed, or temperature 0, makes answers repeat is up to the server.
        """
        check_sampling(temperature, max_new_tokens)

        def one(request: Request) -> Completion:
            space = request.image.space
            try:
                space = self.space_for(request.image)
                return Completion(self._ask(request, space, temperature, max_new_tokens, seed), space)
            except MedgroundError as error:
                return Completion("", space, str(error))

        if not requests:
            return []
        pool = ThreadPoolExecutor(min(self.max_concurrency, len(requests)), thread_name_prefix="medground-endpoint")
        try:
            return list(pool.map(one, requests))
        finally:
            pool.shutdown(cancel_futures=True)

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the answer in pieces as the server sends them; closing the iterator closes the connection."""
        import openai

        check_sampling(temperature, max_new_tokens)
        body = self._body(request, self.space_for(request.image), temperature, None)
        ended = False

        def parts(chunks: Iterable[Any]) -> Iterator[tuple[str | None, str | None]]:
            nonlocal ended
            for chunk in chunks:
                for choice in (chunk.choices or [])[:1]:
                    ended = ended or choice.finish_reason is not None
                    yield _said(choice.delta)

        with self._slots:
            try:
                with self._create(body, max_new_tokens, stream=True) as chunks:
                    yield from _joined(parts(chunks))
            except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
                raise self._failure(error) from None
        if not ended:
            raise ReasonerError(f"{self.base_url} broke off before the end of its answer")

    def _ask(
        self, request: Request, space: Space, temperature: float, max_new_tokens: int | None, seed: int | None
    ) -> str:
        import openai

        with self._slots:
            body = self._body(request, space, temperature, seed)
            try:
                answer = self._create(body, max_new_tokens)
                choice = answer.choices[0]
                text = "".join(_joined([_said(choice.message)]))
            except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:
                # The cause may hold the request or the server's echo of it, so it isn't chained.
                raise self._failure(error) from None
        if not text:
            reason = {"length": " within max_new_tokens", "content_filter": ": its content filter stepped in"}
            raise ReasonerError(f"{self.name} gave no text{reason.get(str(choice.finish_reason), '')}")
        return text

    def _create(self, body: dict[str, Any], max_new_tokens: int | None, *, stream: bool = False) -> Any:
        import openai

        length = MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens
        field = self._length_field
        try:
            return self._client.chat.completions.create(**body, **{field: length}, stream=stream)
        except openai.BadRequestError as error:
            if error.param != "max_tokens" or field != "max_tokens":
                raise
        self._length_field = "max_completion_tokens"
        return self._client.chat.completions.create(**body, **{self._length_field: length}, stream=stream)

    def _body(self, request: Request, space: Space, temperature: float, seed: int | None) -> dict[str, Any]:
        system, user = render(self.template, request.question, mode=request.mode, space=space)
        file = io.BytesIO()
        resized(request.image, self._sent_size(request.image)).save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": user}]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        body = {"model": self.name, "messages": messages, "temperature": temperature}
        return body if seed is None else body | {"seed": seed}

    def _sent_size(self, image: MedicalImage) -> tuple[int, int]:
        if self.coordinates.startswith("resized pixels"):
            # A budget below the family's smallest image (56 x 56) can't be kept.
            return smart_resize(*image.size, max_pixels=max(self.max_pixels, 56 * 56))
        return fit(*image.size, self.max_pixels)

    def _failure(self, error: Exception) -> ReasonerError:
        """Return one sentence that holds nothing of the request and nothing of the server's own words."""
        import openai

        where = self.base_url
        tries = "1 try" if self.max_retries == 0 else f"{self.max_retries + 1} tries"
        if isinstance(error, openai.APITimeoutError):
            return ReasonerError(f"{where} gave no answer within {self.timeout:g} s, in {tries}")
        if isinstance(error, openai.APIConnectionError):
            return ReasonerError(f"{where} can't be reached or closed the connection, in {tries}: is the server up?")
        if not isinstance(error, openai.APIStatusError) or isinstance(error, openai.APIResponseValidationError):
            if isinstance(error, openai.APIError):
                return ReasonerError(f"{where} reported an error midway through its answer")
            return ReasonerError(f"{where} answered with something that isn't a chat completion: check the address")
        status = error.status_code
        refused = error.param if error.param in ("temperature", "seed", "max_completion_tokens") else None
        if refused:
            return ReasonerError(f"{where} refuses the {refused} that was asked for (HTTP {status}): choose another")
        advice = {
            401: "doesn't accept the API key: set MEDGROUND_API_KEY",
            403: "doesn't let this API key use the model",
            404: f"knows no model {self.name!r}, or serves no chat completions there: check the address",
            413: "takes no request of this size: lower max_pixels",
            429: f"was busy, or the quota is used up, in {tries}",
        }
        if status in advice:
            return ReasonerError(f"{where} {advice[status]} (HTTP {status})")
        if status >= 500:
            return ReasonerError(f"{where} failed in {tries} (HTTP {status})")
        if status < 400:
            return ReasonerError(f"{where} redirects elsewhere (HTTP {status}): give the address that it moved to")
        return ReasonerError(
            f"{where} refused the request (HTTP {status}): does {self.name} read images, and is there room for the "
            "image and max_new_tokens?"
        )


def _address(spec: str, *, allow_insecure: bool) -> tuple[str, str, bool]:
    """Return the base URL, the model's name, and whether the host is this machine."""
    try:
        parts = urlsplit(spec)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ReasonerError("the endpoint's address isn't a URL: write https://host:port/v1#model") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ReasonerError("the endpoint's address isn't a URL: write https://host:port/v1#model")
    if "@" in parts.netloc or parts.query:  # not repeated here: both may hold a secret
        raise ReasonerError("the endpoint's address holds a user or a query: give the key in MEDGROUND_API_KEY instead")
    url = f"{parts.scheme}://{parts.netloc}{parts.path}"
    if not parts.fragment:
        raise ReasonerError(f"which model of {url}? Write its name after a #: {url}#model")
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if parts.scheme == "http" and not here and not allow_insecure:
        raise ReasonerError(
            f"{url} would get the image, the question and the key unencrypted: use https, or allow_insecure=True where "
            "the network itself is protected"
        )
    return url, parts.fragment, here


def _key(given: str | None, *, here: bool) -> str:
    key = (given or os.environ.get("MEDGROUND_API_KEY") or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key and not here:
        raise ReasonerError("the endpoint needs an API key: set MEDGROUND_API_KEY ('none' where it asks for none)")
    if not key.isascii() or not key.isprintable():
        raise ReasonerError("the API key holds characters that no HTTP header can carry: check MEDGROUND_API_KEY")
    return key or "none"


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

"""What all that talk to an OpenAI-compatible endpoint share: address, key, retries, refusals, the wording of failures.

Redirects aren't followed, no proxy sees what stays on this machine, and the environment's OpenAI organisation goes to
no server. No message holds a key, a prompt, a pixel, or words of the server's, which may repeat them.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from medground.errors import ConfigError, MissingExtraError, ReasonerError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["EndpointClient", "data_url", "json_objects", "read_address", "read_key"]

T = TypeVar("T")

MAX_REPLY = 20_000
"""Characters of a reply, from its end, in which JSON is looked for."""

MAX_STARTS = 50
"""Braces at which JSON is looked for."""


class EndpointClient:
    """One model behind an endpoint that speaks OpenAI's chat-completions protocol; safe to share between threads.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``; what follows ``#`` is the model's name on the server.
    purpose : str
        What needs the endpoint, for the error where openai isn't installed: ``"a judge behind an endpoint"``.
    api_key : str or None
        Where None, the environment's ``MEDGROUND_API_KEY``, else ``OPENAI_API_KEY``; on this machine it may be absent.
    timeout : float
        Seconds to wait for the server's next byte, in each try.
    max_retries : int
        How often to try again when the server is busy (429), fails (5xx), times out or can't be reached: after the
        time that its ``Retry-After`` asks for, or else after 0.5 s, doubling up to 8 s.
    sends_images : bool
        Whether advice about a refused request may be about an image.
    allow_insecure : bool
        Allow ``http://`` to other machines, where anyone on the way can read.

    Attributes
    ----------
    base_url, name : str
        The address and the model's name.

    Raises
    ------
    ReasonerError
        When the address or the key can't be used.
    ConfigError
        When `max_retries` is below 0.
    MissingExtraError
        When openai isn't installed.
    """

    def __init__(
        self,
        spec: str,
        *,
        purpose: str,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 4,
        sends_images: bool = False,
        allow_insecure: bool = False,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError("openai", extra="remote", purpose=purpose) from error
        if max_retries < 0:
            raise ConfigError(f"max_retries must be 0 or above, not {max_retries}")
        self.base_url, self.name, here = read_address(spec, allow_insecure=allow_insecure)
        self._timeout = timeout
        self._tries = "1 try" if max_retries == 0 else f"{max_retries + 1} tries"
        self._sends_images = sends_images
        self._refused: set[str] = set()
        self._lock = threading.Lock()
        alien: dict[str, Any] = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        self._client: Any = openai.OpenAI(
            base_url=self.base_url,
            api_key=read_key(api_key, here=here),
            timeout=openai.Timeout(timeout, connect=min(timeout, 10.0)),
            max_retries=max_retries,
            # The environment's OpenAI account is no business of another server.
            default_headers=alien,
            # No redirect takes an image elsewhere, and no proxy sees what stays on this machine.
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not here),
        )

    def create(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_new_tokens: int,
        schema: Mapping[str, Any] | None = None,
        stream: bool = False,
        before: Callable[[], None] | None = None,
        **options: Any,
    ) -> Any:
        """Ask, and ask again without what the server refuses; what it refused isn't sent again.

        OpenAI's newer models take no ``max_tokens``, other servers no ``max_completion_tokens`` or no schema. So a
        schema is a wish: whoever reads the answer checks it.

        Parameters
        ----------
        messages : sequence of dict
            As the protocol has them.
        max_new_tokens : int
            Length of the longest answer.
        schema : dict, optional
            ``name``, ``strict`` and ``schema``, the JSON schema that the answer should keep.
        stream : bool
            Return a context manager over chunks instead of the whole answer.
        before : callable, optional
            Called before each request; what it raises ends the asking.
        options
            Further fields of the request, such as ``temperature``.

        Raises
        ------
        Exception
            Those of the openai package; see `told`.
        """
        import openai

        with self._lock:
            refused = set(self._refused)
        while True:
            if before is not None:
                before()
            newer = "max_tokens" in refused
            sent: dict[str, Any] = {"max_completion_tokens" if newer else "max_tokens": max_new_tokens}
            if schema is not None and "response_format" not in refused:
                sent["response_format"] = {"type": "json_schema", "json_schema": schema}
            try:
                answer = self._client.chat.completions.create(
                    model=self.name, messages=messages, stream=stream, **options, **sent
                )
            except openai.BadRequestError as error:
                # Servers name the field in ``param``, or don't: a schema is then the likeliest.
                if error.param == "max_tokens" and "max_tokens" in sent:
                    refused.add("max_tokens")
                elif error.param in (None, "", "response_format") and "response_format" in sent:
                    refused.add("response_format")
                else:
                    raise
                continue
            with self._lock:  # only now is it known that the rest is accepted
                self._refused |= refused
            return answer

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn all that can go wrong in an exchange into a ReasonerError of one sentence.

        The cause isn't chained, since it may hold the request or the server's echo of it.
        """
        import openai

        try:
            yield
        except (openai.OpenAIError, ValueError, AttributeError, TypeError, IndexError) as error:
            raise ReasonerError(self._sentence(error)) from None

    def _sentence(self, error: Exception) -> str:
        import openai

        where = self.base_url
        if isinstance(error, openai.APITimeoutError):
            return f"{where} gave no answer within {self._timeout:g} s, in {self._tries}"
        if isinstance(error, openai.APIConnectionError):
            return f"{where} can't be reached or closed the connection, in {self._tries}: is the server up?"
        if not isinstance(error, openai.APIStatusError) or isinstance(error, openai.APIResponseValidationError):
            midway = isinstance(error, openai.APIError) and not isinstance(error, openai.APIResponseValidationError)
            if midway:
                return f"{where} reported an error midway through its answer"
            return f"{where} answered with something that isn't a chat completion: check the address"
        status = error.status_code
        if error.param in ("temperature", "seed", "max_tokens", "max_completion_tokens"):
            return f"{where} refuses the {error.param} that was asked for (HTTP {status}): choose another"
        advice = {
            401: "doesn't accept the API key: set MEDGROUND_API_KEY",
            403: "doesn't let this API key use the model",
            404: f"knows no model {self.name!r}, or serves no chat completions there: check the address",
            413: f"takes no request of this size{': lower max_pixels' if self._sends_images else ''}",
            429: f"was busy, or the quota is used up, in {self._tries}",
        }
        if status in advice:
            return f"{where} {advice[status]} (HTTP {status})"
        if status >= 500:
            return f"{where} failed in {self._tries} (HTTP {status})"
        if status < 400:
            return f"{where} redirects elsewhere (HTTP {status}): give the address that it moved to"
        refused = f"{where} refused the request (HTTP {status}): "
        if self._sends_images:
            return refused + f"does {self.name} read images, and is there room for the image and max_new_tokens?"
        return refused + "is there room for the prompt and max_new_tokens?"


def read_address(spec: str, *, allow_insecure: bool = False) -> tuple[str, str, bool]:
    """Return the base URL, the model's name, and whether the host is this machine.

    Raises
    ------
    ReasonerError
        When `spec` is no such address, holds a user or a query, or would carry the request unencrypted elsewhere.

    Examples
    --------
    >>> read_address("http://localhost:8000/v1#Qwen/Qwen3-VL-4B-Instruct")
    ('http://localhost:8000/v1', 'Qwen/Qwen3-VL-4B-Instruct', True)
    """
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


def read_key(given: str | None, *, here: bool) -> str:
    """Return the key to send: the one given, or the environment's, or ``"none"`` to a server on this machine.

    Raises
    ------
    ReasonerError
        When there is none for another machine, or a header can't carry it.
    """
    key = (given or os.environ.get("MEDGROUND_API_KEY") or os.environ.get("OPENAI_API_KEY") or "").strip()
    if not key and not here:
        raise ReasonerError("the endpoint needs an API key: set MEDGROUND_API_KEY ('none' where it asks for none)")
    if not key.isascii() or not key.isprintable():
        raise ReasonerError("the API key holds characters that no HTTP header can carry: check MEDGROUND_API_KEY")
    return key or "none"


def data_url(picture: Image.Image) -> str:
    """Return a picture's pixels as a PNG in a data URL, without file name or any other metadata."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def json_objects(reply: str, check: Callable[[Any], T]) -> list[T]:
    r"""Return what `check` makes of the JSON objects in a model's reply: bare, fenced, or amid words.

    Thoughts before ``</think>`` are skipped. Where `check` refuses an object, by a ValueError such as pydantic's
    ValidationError, the objects inside it are tried.

    Examples
    --------
    >>> reply = '<think>{"a": 0}?</think>Here:\n```json\n{"a": 1}\n``` {"b": {"a": 2}} {'
    >>> def only_a(value):
    ...     if "a" not in value:
    ...         raise ValueError("a is missing")
    ...     return value["a"]
    >>> json_objects(reply, only_a)
    [1, 2]
    """
    reply = reply[-MAX_REPLY:]
    reply = reply[reply.rfind("</think>") + len("</think>") :] if "</think>" in reply else reply
    decoder = json.JSONDecoder()
    found: list[T] = []
    start = reply.find("{")
    for _ in range(MAX_STARTS):
        if start < 0:
            break
        try:
            value, end = decoder.raw_decode(reply, start)
            found.append(check(value))
        except (ValueError, RecursionError):
            end = start + 1
        start = reply.find("{", end)
    return found

"""A model whose answers are paid for: each is kept on disk before it is used, counted, and never asked for twice."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

from PIL import Image
from pydantic import BaseModel

from medground._io import make_folder, write_bytes
from medground.data.ledger import Ledger, Spent
from medground.endpoint_client import EndpointClient, data_url
from medground.errors import ConfigError
from medground.reasoners._request import check_positive, check_sampling

__all__ = ["PER_TOKEN", "Account", "Answer", "Asking", "PaidModel", "digest", "picture_tokens", "schema_of"]

PER_TOKEN, _PIXELS_PER_TOKEN = 3, 400
"""Characters of text, and pixels of a picture, that cost one token at least, for estimates."""


_Words = TypeVar("_Words")


class Answer(NamedTuple):
    """What the model wrote, and whether it was cut at ``max_new_tokens``."""

    text: str
    cut: bool


class Account:
    """A folder that keeps answers and the ledger of what they cost; threads and processes may share it, and models too.

    The folder holds ``answers/`` and ``ledger.jsonl``.

    Parameters
    ----------
    folder : path
        Made when it isn't there.
    prices : (float, float) or None
        Of a million input and a million output tokens, in any currency.
    max_cost : float or None
        The most that the whole folder may cost, earlier runs included; needs `prices`. A request that was
        retried after time-outs is counted once.
    per_minute : float or None
        The most requests that start in a minute, over all processes; retries of a failed try aren't counted.

    Raises
    ------
    ConfigError
        When a setting can't be used, or the folder can't be made.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        prices: tuple[float, float] | None = None,
        max_cost: float | None = None,
        per_minute: float | None = None,
    ) -> None:
        check_positive(per_minute=1.0 if per_minute is None else per_minute)
        _check_costs(prices, max_cost)
        self._answers = make_folder(folder) / "answers"
        self._ledger = Ledger(make_folder(folder) / "ledger.jsonl", max_cost=max_cost, per_minute=per_minute)
        self._prices = prices or (0.0, 0.0)

    def spent(self) -> Spent:
        """Return what the folder's answers cost so far, over all runs and processes."""
        return self._ledger.spent()

    def forget(self, key: str) -> None:
        """Let an answer be asked for anew."""
        self._path(key).unlink(missing_ok=True)

    def kept(self, key: str) -> Answer | None:
        """Return the answer that is kept, or None.

        Raises
        ------
        ConfigError
            When its file is damaged.
        """
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
            text, cut = kept["text"], kept["cut"]
            if not isinstance(text, str) or not isinstance(cut, bool):
                raise TypeError("fields of another kind")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: can't be read ({type(error).__name__}); delete it to ask again") from error
        return Answer(text, cut)

    def buy(
        self,
        key: str,
        client: EndpointClient,
        messages: Sequence[Mapping[str, Any]],
        *,
        read: int,
        text: Callable[[Any], str],
        **options: Any,
    ) -> Answer:
        """Ask the server once the ledger allows it, and keep the answer.

        Parameters
        ----------
        key : str
            What tells this request from others; see `digest`.
        client : EndpointClient
        messages
            As for `EndpointClient.create`, and so are `options`, of which ``max_new_tokens`` is one.
        read : int
            Input tokens to reckon with until the server has counted them.
        text : callable
            Returns the text of a choice; raises TypeError where it has none that can be kept.

        Raises
        ------
        ReasonerError
            When the server fails.
        CostError
            When the cap is reached.
        ConfigError
            When a file of the folder is damaged, or can't be written.
        """
        import openai

        ticket = self._ledger.hold(self._cost(read, options["max_new_tokens"]))
        with client.told():
            try:
                said = client.create(messages, **options)
            except openai.APIStatusError:
                self._ledger.end(ticket, cost=0.0)
                raise
            except openai.APIConnectionError as error:
                # A server that was never reached answered nothing. Any other may have, so its ticket stays held.
                if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
                    self._ledger.end(ticket, cost=0.0)
                raise
            choice = said.choices[0]
            answer = Answer(text(choice).encode("utf-8", "replace").decode(), choice.finish_reason == "length")
        counted = _counted(said)
        tokens = counted or (read, len(answer.text) // PER_TOKEN + 1)
        self._keep(key, client.name, answer, tokens)  # first: a crash between the two counts too much, never too little
        self._ledger.end(
            ticket,
            cost=self._cost(*tokens),
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            estimated=counted is None,
        )
        return answer

    def _cost(self, count_in: int, count_out: int) -> float:
        return (count_in * self._prices[0] + count_out * self._prices[1]) / 1e6

    def _path(self, key: str) -> Path:
        return self._answers / key[:2] / f"{key}.json"

    def _keep(self, key: str, model: str, answer: Answer, tokens: tuple[int, int]) -> None:
        path = self._path(key)
        make_folder(path.parent)
        kept = {**answer._asdict(), "model": model, "tokens": tokens}
        write_bytes(path, json.dumps(kept, allow_nan=False).encode("ascii") + b"\n")


class Asking(TypedDict, total=False):
    """What those who ask a `PaidModel` hand on to it; `PaidModel` says what each is, and its default."""

    prices: tuple[float, float] | None
    max_cost: float | None
    per_minute: float | None
    concurrency: int
    temperature: float | None
    max_new_tokens: int
    timeout: float
    max_retries: int
    allow_insecure: bool


class PaidModel:
    """A model behind an endpoint that is asked for JSON of a form, and an `Account` for its answers.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``; what follows ``#`` is the model's name on the server. The key is the
        environment's ``MEDGROUND_API_KEY``, else ``OPENAI_API_KEY``.
    folder, prices, max_cost, per_minute
        As for `Account`.
    sends_images : bool
        Whether pictures go with what is asked.
    concurrency : int
        Requests under way at once in this process.
    temperature : float or None
        None leaves it to the server, for models that take none.
    max_new_tokens : int
        Length of the longest answer; models that think aloud need more.
    timeout, max_retries, allow_insecure
        As for `medground.endpoint_client.EndpointClient`.

    Raises
    ------
    ConfigError
        When a setting can't be used, or the folder can't be written.
    ReasonerError
        When the address or the key can't be used.
    MissingExtraError
        When openai isn't installed.
    """

    def __init__(
        self,
        spec: str,
        folder: str | Path,
        *,
        sends_images: bool,
        prices: tuple[float, float] | None = None,
        max_cost: float | None = None,
        per_minute: float | None = None,
        concurrency: int = 8,
        temperature: float | None = 0.8,
        max_new_tokens: int = 1024,
        timeout: float = 120.0,
        max_retries: int = 4,
        allow_insecure: bool = False,
    ) -> None:
        check_positive(concurrency=concurrency, timeout=timeout)
        check_sampling(0.0 if temperature is None else temperature, max_new_tokens)
        self._client = EndpointClient(
            spec,
            purpose="words by a language model",
            timeout=timeout,
            max_retries=max_retries,
            sends_images=sends_images,
            allow_insecure=allow_insecure,
        )
        self.name = self._client.name
        self._account = Account(folder, prices=prices, max_cost=max_cost, per_minute=per_minute)
        self.spent, self.forget = self._account.spent, self._account.forget
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self._concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)

    def reply(
        self,
        turns: Sequence[tuple[str, str]],
        schema: Mapping[str, Any],
        *,
        draws: Sequence[Any] = (),
        picture: Callable[[], Image.Image | None] = lambda: None,
    ) -> tuple[str, Answer]:
        """Return the key of an answer and the answer: the one that is kept, or else the server's, kept.

        Parameters
        ----------
        turns : sequence of (role, text)
            The first two are the system's and the user's.
        schema : dict
            As for `EndpointClient.create`.
        draws : sequence
            What else tells this request from others, as JSON can hold it: the picture's digest, a number drawn.
        picture : callable
            Makes the picture that goes with the user's first text; called only when the server is asked.

        Raises
        ------
        ReasonerError
            When the server fails.
        CostError
            When the cap is reached.
        ConfigError
            When a file of the folder is damaged, or can't be written.
        """
        key = digest([self.name, turns, schema, self.temperature, self.max_new_tokens, draws])
        answer = self._account.kept(key)
        if answer is None:
            with self._slots:
                answer = self._asked(key, turns, schema, picture())
        return key, answer

    def together(self, calls: Sequence[Callable[[], _Words]]) -> list[_Words]:
        """Return what calls that ask this model return, `concurrency` of them at once; the first failure ends it."""
        if not calls:
            return []
        pool = ThreadPoolExecutor(min(self._concurrency, len(calls)), thread_name_prefix="medground-words")
        try:
            return list(pool.map(lambda call: call(), calls))
        finally:
            pool.shutdown(cancel_futures=True)

    def _asked(
        self, key: str, turns: Sequence[tuple[str, str]], schema: Mapping[str, Any], picture: Image.Image | None
    ) -> Answer:
        read = sum(len(text) for _, text in turns) // PER_TOKEN + 20 * len(turns)
        read += 0 if picture is None else picture_tokens(*picture.size)
        options: dict[str, Any] = {} if self.temperature is None else {"temperature": self.temperature}
        return self._account.buy(
            key,
            self._client,
            _messages(turns, picture),
            read=read,
            text=_content,
            max_new_tokens=self.max_new_tokens,
            schema=schema,
            **options,
        )


def schema_of(form: type[BaseModel]) -> dict[str, Any]:
    """Return the schema by which a model is asked for JSON of a form and nothing beside it.

    Examples
    --------
    >>> class _Note(BaseModel):
    ...     text: str
    >>> asked = schema_of(_Note)
    >>> asked["name"], asked["schema"]["required"], asked["schema"]["additionalProperties"]
    ('note', ['text'], False)
    """
    schema = {**form.model_json_schema(), "additionalProperties": False}
    return {"name": form.__name__.strip("_").casefold(), "strict": True, "schema": schema}


def picture_tokens(width: int, height: int) -> int:
    """Return the tokens that a picture costs at least, for estimates.

    Examples
    --------
    >>> picture_tokens(640, 480)
    868
    """
    return width * height // _PIXELS_PER_TOKEN + 100


def digest(value: Any) -> str:
    """Return the SHA-256 of a value that JSON can hold, hexadecimal.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest([])
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()


def _check_costs(prices: tuple[float, float] | None, max_cost: float | None) -> None:
    if prices is not None and (len(prices) != 2 or not all(math.isfinite(price) and price >= 0 for price in prices)):
        raise ConfigError("prices must be two numbers, of a million input and a million output tokens, 0 or above")
    if max_cost is None:
        return
    if prices is None:
        raise ConfigError("max_cost needs prices, of a million input and a million output tokens")
    if not (math.isfinite(max_cost) and max_cost >= 0):
        raise ConfigError(f"max_cost must be 0 or above, not {max_cost}")


def _messages(turns: Sequence[tuple[str, str]], picture: Image.Image | None) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in turns]
    if picture is not None:
        image = {"type": "image_url", "image_url": {"url": data_url(picture)}}
        messages[1]["content"] = [image, {"type": "text", "text": turns[1][1]}]
    return messages


def _content(choice: Any) -> str:
    text = choice.message.content or ""
    if not isinstance(text, str):
        raise TypeError("no text")
    return text


def _counted(said: Any) -> tuple[int, int] | None:
    """Return the input and output tokens that the server counted, or None."""
    usage = getattr(said, "usage", None)
    count_in, count_out = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
    if isinstance(count_in, int) and isinstance(count_out, int) and count_in >= 0 and count_out >= 0:
        return count_in, count_out
    return None

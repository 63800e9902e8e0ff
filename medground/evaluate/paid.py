"""A reasoner behind a service that charges: capped, counted, paced, and never paid twice for one answer.

A run that reaches its cap, is killed, or loses its connection goes on where it stopped: each answer is on disk before
it is used, so that what was paid for and not yet written into the run's file is read from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medground.data.ledger import Spent
from medground.data.paid import PER_TOKEN, Account, digest, picture_tokens
from medground.errors import ReasonerError
from medground.reasoners import Request
from medground.reasoners.endpoint import EndpointReasoner, text_of

__all__ = ["PaidReasoner"]


class PaidReasoner(EndpointReasoner):
    """An `EndpointReasoner` with an account.

    When the next request could go over the cap, `complete` raises CostError after the requests under way have ended,
    and so does an evaluation, with all lines that it wrote before. A run with a higher cap goes on.

    Parameters
    ----------
    spec : str
        ``"https://host[:port]/v1#model"``.
    folder : path
        For the answers (``answers/``: the texts, by a digest of what was asked) and what they cost
        (``ledger.jsonl``). Runs and processes may share it; the cap counts them together.
    prices : (float, float) or None
        Of a million input and a million output tokens, in any currency.
    max_cost : float or None
        The most that the whole folder may cost, earlier runs included; needs `prices`. Until the server has told, a
        request counts what it can cost at most, which `max_new_tokens` decides.
    per_minute : float or None
        The most requests that start in a minute, evenly spaced.
    **options
        As for `EndpointReasoner`.

    Raises
    ------
    ReasonerError, ConfigError
        As for `EndpointReasoner`, and when prices or limits can't be used.

    Examples
    --------
    >>> reasoner = PaidReasoner("https://host/v1#qwen3-vl-plus", "runs/qwen/paid", prices=(0.2, 1.6), max_cost=5.0,
    ...                         per_minute=60)  # doctest: +SKIP
    """

    def __init__(
        self,
        spec: str,
        folder: str | Path,
        *,
        prices: tuple[float, float] | None = None,
        max_cost: float | None = None,
        per_minute: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(spec, **options)
        self._account = Account(folder, prices=prices, max_cost=max_cost, per_minute=per_minute)

    def spent(self) -> Spent:
        """Return what the folder's answers cost so far, over all runs and processes."""
        return self._account.spent()

    def stream(self, request: Request, *, temperature: float = 0.0, max_new_tokens: int | None = None) -> Iterator[str]:
        """Yield the answer in one piece, once it is kept."""
        [said] = self.complete([request], temperature=temperature, max_new_tokens=max_new_tokens)
        if said.error is not None:
            raise ReasonerError(said.error)
        yield said.text

    def _ask(self, request: Request, asked: Mapping[str, Any], again: int) -> str:
        options = dict(asked)
        messages = options.pop("messages")
        # A sample that is drawn again is another answer, also where no seed tells them apart.
        key = digest([self.base_url, self.name, asked, again])
        answer = self._account.kept(key)
        if answer is None:
            read = picture_tokens(*self.sent_size(request.image)) + 20 * len(messages)
            read += sum(_letters(message["content"]) for message in messages) // PER_TOKEN
            answer = self._account.buy(key, self._client, messages, read=read, text=text_of, **options)
        if not answer.text:
            raise ReasonerError(f"{self.name} gave no text{' within max_new_tokens' if answer.cut else ''}")
        return answer.text


def _letters(content: str | list[dict[str, Any]]) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text", "")) for part in content)

"""What requests cost: counted in a file, and capped over all processes and runs."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from medground.errors import ConfigError, MedgroundError

__all__ = ["CostError", "Ledger", "Spent"]


class CostError(MedgroundError):
    """The next request could cost more than is left; says what was spent, and how to go on."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a ledger counts, over all runs that wrote to it.

    Parameters
    ----------
    requests : int
        Those that ended.
    estimated : int
        Those of them whose tokens the server didn't tell, so that they were estimated.
    input_tokens, output_tokens : int
    cost : float
        Of the requests that ended.
    open : int
        Requests under way, or whose end isn't known: the run was killed, or the server fell silent.
    held : float
        The most that these can cost; the cap counts it as spent.
    """

    requests: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    open: int = 0
    held: float = 0.0


class Ledger:
    """An append-only file of requests and what they cost, shared by threads and processes of one file system.

    A request first holds the most that it can cost, and is let go when its cost is known. So the sum never goes over
    the cap, however many are under way, and a run that was killed leaves its requests counted at their most, since
    the server may have answered them.

    Parameters
    ----------
    path : Path
        Made when it isn't there, in a folder that is.
    max_cost : float or None
        The cap on the whole ledger, earlier runs included.
    per_minute : float or None
        The most requests that start in a minute, evenly spaced.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> ledger = Ledger(Path(folder.name) / "ledger.jsonl", max_cost=0.05)
    >>> ledger.end(ledger.hold(0.04), cost=0.01, input_tokens=500, output_tokens=90)
    >>> ledger.spent()
    Spent(requests=1, estimated=0, input_tokens=500, output_tokens=90, cost=0.01, open=0, held=0.0)
    >>> ledger.hold(0.05)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    medground.data.ledger.CostError: max_cost 0.05 is reached: 0.01 spent on 1 requests, 0 held by 0 requests whose...
    >>> folder.cleanup()
    """

    def __init__(self, path: Path, *, max_cost: float | None = None, per_minute: float | None = None) -> None:
        self.path = path
        self.max_cost = max_cost
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._thread_lock = threading.Lock()
        self._read_to = 0
        self._lines = 0
        self._held: dict[str, float] = {}
        self._sums = Spent()
        self._last = 0.0

    def hold(self, most: float) -> str:
        """Wait until a request may start, and return a ticket for it that holds `most`.

        Raises
        ------
        CostError
            When the sum could go over the cap.
        ConfigError
            When the file is damaged.
        """
        while True:
            with self._locked() as stream:
                now = time.time()
                # A clock that was set back must not make anyone wait.
                wait = self._last + self._gap - now if self._last <= now else 0.0
                if wait <= 0:
                    self._check(most)
                    ticket = uuid.uuid4().hex
                    self._append(stream, {"hold": ticket, "at": now, "cost": most})
                    return ticket
            time.sleep(min(wait, 1.0))

    def end(
        self, ticket: str, *, cost: float, input_tokens: int = 0, output_tokens: int = 0, estimated: bool = False
    ) -> None:
        """Let a request go at what it really cost."""
        line = {"end": ticket, "cost": cost, "input": input_tokens, "output": output_tokens, "estimated": estimated}
        with self._locked() as stream:
            self._append(stream, line)

    def spent(self) -> Spent:
        """Return the sums, read anew."""
        with self._locked():
            return self._now()

    def _now(self) -> Spent:
        sums = self._sums
        return Spent(
            sums.requests,
            sums.estimated,
            sums.input_tokens,
            sums.output_tokens,
            sums.cost,
            len(self._held),
            sum(self._held.values(), 0.0),
        )

    def _check(self, most: float) -> None:
        if self.max_cost is None:
            return
        spent = self._now()
        if spent.cost + spent.held + most > self.max_cost:
            raise CostError(
                f"max_cost {self.max_cost:g} is reached: {spent.cost:.4g} spent on {spent.requests} requests, "
                f"{spent.held:.4g} held by {spent.open} requests whose end isn't known, and the next may cost "
                f"{most:.2g}; {self.path.parent} keeps the answers: raise max_cost and run again, "
                "and none is paid for twice"
            )

    @contextmanager
    def _locked(self) -> Iterator[FileIO]:
        """Hold the file against other threads and processes, with all that they wrote read."""
        with self._thread_lock:
            try:
                self.path.touch()
                stream = open(self.path, "r+b", buffering=0)  # noqa: SIM115 - closed below
            except OSError as error:
                raise ConfigError(f"can't write {self.path}: {error.strerror or error}; choose another") from error
            with stream:  # closing it lets go of the lock, and so does the end of the process
                _lock(stream)
                self._catch_up(stream)
                yield stream

    def _append(self, stream: FileIO, line: Mapping[str, Any]) -> None:
        text = json.dumps(line).encode("ascii") + b"\n"
        try:
            stream.seek(0, os.SEEK_END)
            stream.write(text)
        except OSError as error:
            raise ConfigError(f"can't write {self.path}: {error.strerror or error}; make room and go on") from error
        self._take(text)

    def _catch_up(self, stream: FileIO) -> None:
        if stream.seek(0, os.SEEK_END) < self._read_to:
            raise ConfigError(f"{self.path}: was cut while in use; start again")
        stream.seek(self._read_to)
        text = stream.readall()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # a crash cut the last line; nobody else writes now
            stream.truncate(self._read_to + whole)
        for line in text[:whole].splitlines(keepends=True):
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            said = json.loads(line)
            if "hold" in said:
                self._held[said["hold"]] = float(said["cost"])
                self._last = float(said["at"])
            else:
                del self._held[said["end"]]
                sums = self._sums
                self._sums = Spent(
                    sums.requests + 1,
                    sums.estimated + bool(said["estimated"]),
                    sums.input_tokens + int(said["input"]),
                    sums.output_tokens + int(said["output"]),
                    sums.cost + float(said["cost"]),
                )
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{self.path}:{self._lines + 1}: damaged; mend the line, or move the file away to count from 0"
            ) from error
        self._lines += 1
        self._read_to += len(line)


def _lock(stream: FileIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: threads alone are kept apart, so let one process work
        return
    fcntl.flock(stream, fcntl.LOCK_EX)

"""Work for a model: a bounded queue and the one thread that takes from it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from typing import Any

__all__ = ["BusyError", "ClosingError", "Lane", "Work"]


class BusyError(Exception):
    """The queue is full.

    Parameters
    ----------
    seconds : int
        After how long it may be worth asking again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the server has as much to do as it takes on; ask again in {seconds} s")
        self.seconds = seconds


class ClosingError(Exception):
    """The server is shutting down."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down; ask again when it is back")


class Work:
    """One piece of work, and the promise of its answer.

    Parameters
    ----------
    run : callable
        Takes the payloads of a batch; returns or yields an answer, or the error of one, for each.
    payload : object
    key : hashable or None
        Work of equal keys may go in one batch; None goes alone.
    patient : bool
        Whether it waits until nobody else does.
    """

    def __init__(
        self,
        run: Callable[[list[Any]], Iterable[Any]],
        payload: Any,
        *,
        key: Hashable | None = None,
        patient: bool = False,
    ) -> None:
        self.run, self.payload, self.key, self.patient = run, payload, key, patient
        self.answer: Future[Any] = Future()
        self.gone = threading.Event()

    def cancel(self) -> None:
        """Drop the work if it is waiting; if it runs, let it know that nobody waits for it."""
        self.gone.set()
        self.answer.cancel()


class Lane:
    """A queue before one thread.

    While a batch runs, more work gathers, and goes in the next batch together; nobody waits for a batch to fill.

    Parameters
    ----------
    name : str
        Of the thread.
    size : int
        How much work may wait, not counting patient work, which its makers bound.
    most : int
        The largest batch.
    on_batch : callable, optional
        Is told each batch's size.
    """

    def __init__(self, name: str, *, size: int, most: int, on_batch: Callable[[int], None] | None = None) -> None:
        self._size, self._most = size, most
        self._on_batch = on_batch
        self._urgent: deque[Work] = deque()
        self._patient: deque[Work] = deque()
        self._turn = threading.Condition()
        self._closing = False
        self._pace = 1.0
        self._thread = threading.Thread(target=self._work, name=f"medground-{name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How much work waits."""
        with self._turn:
            return sum(not work.answer.cancelled() for queue in (self._urgent, self._patient) for work in queue)

    def add(self, work: Work) -> Work:
        """Queue work; raises BusyError when the queue is full and ClosingError when the server is."""
        with self._turn:
            if self._closing:
                raise ClosingError
            queue = self._patient if work.patient else self._urgent
            if not work.patient and len(queue) >= self._size:
                for left in [other for other in queue if other.answer.cancelled()]:
                    queue.remove(left)
                if len(queue) >= self._size:
                    raise BusyError(max(1, math.ceil(self._pace * (len(queue) + 1))))
            queue.append(work)
            self._turn.notify()
        return work

    def close(self) -> None:
        """Take nothing more, fail what waits, and let what runs come to its end."""
        with self._turn:
            self._closing = True
            left = [*self._urgent, *self._patient]
            self._urgent.clear()
            self._patient.clear()
            self._turn.notify()
        for work in left:
            if work.answer.set_running_or_notify_cancel():
                work.answer.set_exception(ClosingError())

    def join(self, seconds: float | None = None) -> None:
        """Wait for what runs, once the lane is closed."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            self._do(batch)
            del batch  # the pictures in it, while the next work is waited for

    def _do(self, batch: list[Work]) -> None:
        batch = [work for work in batch if work.answer.set_running_or_notify_cancel()]
        if not batch:
            return
        if self._on_batch is not None:
            self._on_batch(len(batch))
        started = time.monotonic()
        try:
            answers = batch[0].run([work.payload for work in batch])
            for work, answer in zip(batch, answers, strict=True):
                if isinstance(answer, Exception):
                    work.answer.set_exception(answer)
                else:
                    work.answer.set_result(answer)
        except Exception as error:  # told to whoever waits; the thread serves the others
            for work in batch:
                if not work.answer.done():
                    work.answer.set_exception(error)
        # A moving mean of the time that one piece takes, for Retry-After.
        self._pace += 0.2 * ((time.monotonic() - started) / len(batch) - self._pace)

    def _next(self) -> list[Work]:
        with self._turn:
            while not (self._urgent or self._patient):
                if self._closing:
                    return []
                self._turn.wait()
            first = (self._urgent or self._patient).popleft()
            batch = [first]
            for queue in (self._urgent, self._patient) if first.key is not None else ():
                for work in [work for work in queue if work.key == first.key][: self._most - len(batch)]:
                    queue.remove(work)
                    batch.append(work)
            return batch

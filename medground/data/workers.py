"""Make the shards of a stage and write them: in this process, in several, or on a Ray cluster.

Whichever it is, a shard's bytes come from the same function, and a part appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

from medground._io import write_bytes
from medground.errors import ConfigError, MedgroundError, MissingExtraError

__all__ = ["Made", "Outcome", "Record", "StageError", "outcomes", "part_name", "side_of"]

S = TypeVar("S")
Record = dict[str, Any]
Made = list[Record] | Mapping[str, list[Record]]
"""What the work on a shard returns: records; or records by kind, of which the kind ``""`` is the stage's product."""


class StageError(MedgroundError):
    """Some shards of a stage couldn't be made; all others are written.

    Attributes
    ----------
    failures : dict of int to str
        The cause of each, by the shard's number.
    """

    def __init__(self, message: str, failures: Mapping[int, str] | None = None) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a shard: records by kind, or why there are none (a fault of ours when it has a traceback)."""

    number: int
    records: dict[str, int] = field(default_factory=dict)
    cause: str = ""
    traceback: str = ""


def part_name(number: int) -> str:
    """Return the file name of a shard's product.

    Examples
    --------
    >>> part_name(7)
    'part-00007.jsonl'
    """
    return f"part-{number:05d}.jsonl"


def side_of(path: Path, kind: str) -> Path:
    """Return the file beside a part that holds its records of another kind.

    Examples
    --------
    >>> side_of(Path("part-00007.jsonl"), "refused").name, side_of(Path("part-00007.jsonl"), "").name
    ('part-00007.refused.jsonl', 'part-00007.jsonl')
    """
    return path.with_name(f"{path.stem}.{kind}.jsonl") if kind else path


def _make(shard: S, work: Callable[[S], Made]) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return the contents of a shard's files and the numbers of their records, by kind."""
    made = work(shard)
    kinds = made if isinstance(made, Mapping) else {"": made}
    kinds = {"": [], **{kind: records for kind, records in kinds.items() if records}}
    return {kind: b"".join(map(_line, kinds[kind])) for kind in kinds}, {kind: len(kinds[kind]) for kind in kinds}


def _line(record: Record) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, as language models write them
        return json.dumps(record, allow_nan=False).encode() + b"\n"


def _attempt(number: int, act: Callable[[], dict[str, int]]) -> Outcome:
    # Errors cross to another process as text: not every exception can be pickled.
    try:
        return Outcome(number, act())
    except MedgroundError as error:
        return Outcome(number, cause=str(error) or type(error).__name__)
    except Exception as error:
        return Outcome(number, cause=str(error) or type(error).__name__, traceback=traceback.format_exc())


def _write(folder: Path, number: int, files: Mapping[str, bytes]) -> None:
    for kind in sorted(files, reverse=True):  # the product last: where it is, the shard is done
        write_bytes(side_of(folder / part_name(number), kind), files[kind])


def _work(number: int, shard: S, work: Callable[[S], Made], folder: Path) -> Outcome:
    def act() -> dict[str, int]:
        files, counts = _make(shard, work)
        _write(folder, number, files)
        return counts

    return _attempt(number, act)


def outcomes(
    shards: Sequence[S], missing: Sequence[int], work: Callable[[S], Made], folder: Path, workers: int, ray: bool
) -> Iterator[Outcome]:
    """Make the missing shards and write them into the folder, in whatever order they get done; see `run_stage`."""
    if ray:
        yield from _on_ray(shards, missing, work, folder)
        return
    if workers < 0:
        raise ConfigError(f"workers {workers} isn't a number of processes; give 1 or more, or 0 for one a core")
    workers = min(workers or _cores(), len(missing))
    if workers <= 1:
        yield from (_work(number, shards[number], work, folder) for number in missing)
        return
    yield from _in_processes(shards, missing, work, folder, workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(
    shards: Sequence[S], missing: Sequence[int], work: Callable[[S], Made], folder: Path, workers: int
) -> Iterator[Outcome]:
    context = get_context("spawn")  # forking a process that has threads (torch, arrow, a notebook) may hang
    listen, hold = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _end_with, (listen,))
    flying: dict[Future[Outcome], int] = {}
    rest = iter(missing)
    try:
        while True:
            while len(flying) < 2 * workers and (number := next(rest, None)) is not None:
                flying[pool.submit(_work, number, shards[number], work, folder)] = number
            if not flying:
                break
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                yield future.result()
                del flying[future]
    except BrokenProcessPool as error:
        numbers = ", ".join(str(number) for number in sorted(flying.values()))
        raise StageError(
            f"a worker process died while the shards {numbers} were made (out of memory? or a script without the guard "
            'if __name__ == "__main__"?); running again makes what is missing, and fewer workers need less memory'
        ) from error
    except BaseException:
        hold.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        hold.close()
        listen.close()


def _end_with(listen: Connection) -> None:
    """End this worker when its parent lets go of the pipe: interrupted, killed, or done."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts parent and workers alike

    def watch() -> None:
        try:
            listen.poll(None)
        finally:
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _on_ray(shards: Sequence[S], missing: Sequence[int], work: Callable[[S], Made], folder: Path) -> Iterator[Outcome]:
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("Ray", extra="ray", purpose="making a stage on a cluster") from None
    if not missing:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_fallback_to_arrow_object_ext_type = True
    tasks = [{"task": _Task(number, shards[number], work)} for number in missing]
    made = ray.data.from_items(tasks, override_num_blocks=min(len(tasks), 1000)).map(_remote)
    for row in made.iter_rows():
        outcome = Outcome(
            row["number"], dict(zip(row["kinds"], row["counts"], strict=True)), row["cause"], row["traceback"]
        )
        if not outcome.cause:
            _write(folder, outcome.number, dict(zip(row["kinds"], row["contents"], strict=True)))
        yield outcome


@dataclass(frozen=True, slots=True)
class _Task(Generic[S]):
    """A shard as it travels through Ray Data, which would turn a bare list or mapping into columns of its own types."""

    number: int
    shard: S
    work: Callable[[S], Made]


def _remote(row: dict[str, Any]) -> dict[str, Any]:
    task: _Task[Any] = row["task"]
    files: dict[str, bytes] = {}

    def act() -> dict[str, int]:
        made, counts = _make(task.shard, task.work)
        files.update(made)
        return counts

    outcome = _attempt(task.number, act)
    return {
        "number": outcome.number,
        "kinds": list(outcome.records),
        "counts": list(outcome.records.values()),
        "contents": [files[kind] for kind in outcome.records],
        "cause": outcome.cause,
        "traceback": outcome.traceback,
    }

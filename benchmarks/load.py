"""Many clients at once before `medground serve`, with a restart in the middle: what is lost, swapped or cut.

    python benchmarks/load.py [--questions 200] [--clients 16] [--out docs/load.md]

A server is started on this machine as people start it. First each question of a list is asked alone: those are the
answers to compare with. Then the clients ask, each the next question of the list when its last one is answered, each on
uploads of its own; questions go to ``/v1/ground`` (JSON, and events), ``/v1/segment`` and ``/v1/ask`` in turn. Half
way the server is told to end, as Ctrl+C does, and started again on the same port. A client that is told to come back
waits as long as Retry-After says; one that finds nobody asks again; one whose image was forgotten uploads it again.

An answer counts as *swapped* when it isn't the one that was given alone but that of another question, and as *other*
when it is nobody's (questions that are answered together are computed in another order than alone). *Cut* are answers
that a client could take for whole and aren't: JSON that ends early, or events that end well without ``done`` or
``error``. The table is written to --out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.console import Console

from medground.demo import CASES

ENDPOINTS = ("ground", "ground, events", "segment", "ask")
QUESTIONS = (
    "Where do the nerve fibres leave the eye?",
    "Which organ clears old red cells out of the blood?",
    "What keeps movements smooth and balanced?",
    "Where is the organ that filters blood and makes urine?",
    "Which structure pumps the blood?",
    "Which spot of the retina gives the sharpest sight?",
    "Where is the nervous tissue inside the bony canal of the back?",
    "Which vessel carries blood from the heart to the body?",
    "Where is bile kept between meals?",
    "Which fluid spaces lie deep in the brain?",
)
PACKAGES = ("medground", "torch", "transformers", "fastapi", "uvicorn")
LONGEST = 600.0
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to ask: an endpoint, one of the images, and the fields of the request."""

    endpoint: str
    image: int
    fields: dict[str, Any]

    @property
    def path(self) -> str:
        """Of the request."""
        return f"/v1/{self.endpoint.partition(',')[0]}"


@dataclass(slots=True)
class Tally:
    """What the clients saw; each list and counter is only ever added to, under the lock."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    first_words: list[float] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Served:
    """`medground serve` in a process of its own, and its resident memory over time."""

    def __init__(self, options: argparse.Namespace) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "medground", "serve", "--port", str(self.port)]
        for name in ("reasoner", "segmenter", "queue", "batch"):
            self._command += [f"--{name}", str(getattr(options, name))]
        self.memory: list[tuple[int, float, float]] = []
        self.began = time.monotonic()
        self._run = 0
        self._ended = threading.Event()
        self.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def start(self) -> float:
        """Start it; return after how many seconds it answers."""
        started = time.monotonic()
        self._run += 1
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
        while time.monotonic() - started < LONGEST:
            if self.process.poll() is not None:
                said = self.process.stderr.read().decode() if self.process.stderr else ""
                raise SystemExit(f"the server didn't start: {said[-500:]}")
            try:
                if httpx2.get(f"{self.url}/healthz", timeout=5).status_code == 200:
                    return time.monotonic() - started
            except httpx2.TransportError:
                time.sleep(0.2)
        raise SystemExit("the server wasn't ready in time")

    def stop(self) -> tuple[float, str]:
        """End it as Ctrl+C does; return after how many seconds it was gone, and what it had written to stderr."""
        started = time.monotonic()
        self.process.send_signal(2)
        try:
            _, said = self.process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise SystemExit("the server didn't end within 90 s of being told to") from None
        return time.monotonic() - started, said.decode()

    def close(self) -> None:
        """End it at the benchmark's own end."""
        self._ended.set()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def resident(self) -> float:
        """Return the process's resident memory, in MB; NaN where it isn't known."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return float("nan")
        found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        return int(found[0]) / 1024 if found else float("nan")

    def _watch(self) -> None:
        while not self._ended.wait(1.0):
            held = self.resident()
            if held == held:
                self.memory.append((self._run, time.monotonic() - self.began, held))


class Uploads:
    """One client's images at the server, uploaded when they are first needed and again when they were forgotten."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._ids: dict[int, str] = {}

    def id_of(self, image: int) -> str | httpx2.Response:
        """Return an image's id, or the answer that there was instead."""
        if image not in self._ids:
            case = CASES[image]
            files = {"file": ("image", case.path().read_bytes())}
            said = self._client.post("/v1/images", files=files, data=case.reading)
            if said.status_code != 200:
                return said
            self._ids[image] = said.json()["image"]
        return self._ids[image]

    def forget(self, image: int) -> None:
        """Upload it again the next time."""
        self._ids.pop(image, None)


def listed() -> list[Item]:
    """Return the questions, by all endpoints in turn; no two endpoints ask the same, no two boxes are the same."""
    images = [index for index, case in enumerate(CASES) if case.file not in {one.file for one in CASES[:index]}]
    items = []
    for number in range(len(QUESTIONS) // 2 * len(images)):
        turn, image = divmod(number, len(images))
        x, y, side = 20 + 5 * number, 30 + 3 * number, 40 + 7 * number
        items += [
            Item("ground", images[image], {"question": QUESTIONS[2 * turn]}),
            Item("ground, events", images[image], {"question": QUESTIONS[2 * turn + 1]}),
            Item("segment", images[image], {"box": [x, y, x + side, y + side]}),
            Item("ask", images[image], {"question": f"{QUESTIONS[2 * turn]} Is it seen here?"}),
        ]
    return items


def ask(client: httpx2.Client, uploads: Uploads, item: Item) -> tuple[int, Any, float | None, httpx2.Headers]:
    """Ask once; return the status, the answer (None where it was cut), seconds to the first word, and the headers."""
    name = uploads.id_of(item.image)
    if isinstance(name, httpx2.Response):
        return name.status_code, _read(name.content), None, name.headers
    body = {"image": name, **item.fields}
    if item.endpoint != "ground, events":
        said = client.post(item.path, json=body)
        return said.status_code, _read(said.content), None, said.headers
    started, first, text = time.monotonic(), None, ""
    with client.stream("POST", item.path, json=body, headers={"accept": "text/event-stream"}) as stream:
        if stream.status_code != 200:
            return stream.status_code, _read(stream.read()), None, stream.headers
        for piece in stream.iter_text():
            text += piece
            if first is None and "event: reasoning" in text:  # before it, comments say that the question waits
                first = time.monotonic() - started
        return 200, _last(text), first, stream.headers


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _last(text: str) -> Any:
    """Return what the last event says, where the events came to their end."""
    for block in reversed(text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if lines.get("event") in ("done", "error"):
            return json.loads(lines["data"])
    return None


def essence(answer: Any) -> str:
    """Return an answer without what differs from one time to the next."""
    if not isinstance(answer, dict):
        return repr(answer)
    kept = {name: value for name, value in answer.items() if name not in ("seconds", "result", "provenance", "notes")}
    return json.dumps(kept, sort_keys=True)


def alone(url: str, items: Sequence[Item]) -> list[str]:
    """Return the answers to all questions, asked one at a time."""
    with httpx2.Client(base_url=url, timeout=LONGEST) as client:
        uploads = Uploads(client)
        answers = []
        for item in items:
            status, answer, _, _ = ask(client, uploads, item)
            if answer is None or status not in (200, 422, 502):
                raise SystemExit(f"{item.path} answered {status}: {answer}")
            answers.append(f"{status} {essence(answer)}")
    return answers


def converse(url: str, numbers: Iterator[int], total: int, items: Sequence[Item], known: list[str], tally: Tally):
    """Be one client, until all questions are asked."""
    with httpx2.Client(base_url=url, timeout=LONGEST) as client:
        uploads = Uploads(client)
        while (number := next(numbers)) < total:
            which = number % len(items)
            end = _answered(client, uploads, items[which], known, which, tally)
            with tally.lock:
                tally.ends[end] += 1


def _answered(client: httpx2.Client, uploads: Uploads, item: Item, known: list[str], which: int, tally: Tally) -> str:
    """Ask until there is an answer; return what it was like."""
    given_up = time.monotonic() + LONGEST
    while time.monotonic() < given_up:
        started = time.monotonic()
        try:
            status, answer, first, headers = ask(client, uploads, item)
        except httpx2.TransportError as error:  # refused, or closed before the whole answer was there
            with tally.lock:
                tally.troubles[_named(error)] += 1
            time.sleep(0.5)
            continue
        if status in (404, 429, 503):
            wait = float(headers.get("retry-after", 0))
            if status != 404 and not wait:
                return "no Retry-After"
            with tally.lock:
                tally.troubles[str(status)] += 1
                tally.waited.append(wait)
            if status == 404:
                uploads.forget(item.image)
            time.sleep(wait)
            continue
        spent = time.monotonic() - started
        if answer is None:
            return "cut"
        if status == 200 and item.endpoint == "ground, events" and set(answer) == {"detail"}:
            with tally.lock:
                tally.troubles["error event"] += 1
            time.sleep(1.0)
            continue
        with tally.lock:
            tally.seconds.setdefault(item.endpoint, []).append(spent)
            if first is not None:
                tally.first_words.append(first)
        said = f"{status} {essence(answer)}"
        if said == known[which]:
            return "the same"
        return "swapped" if said in known else f"other ({status})"
    return "lost"


def _named(error: httpx2.TransportError) -> str:
    return {
        "ConnectError": "refused",
        "ReadError": "closed in an answer",
        "RemoteProtocolError": "closed in an answer",
        "WriteError": "closed in a request",
    }.get(type(error).__name__, type(error).__name__)


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[Served]:
    """Run the server while the block does."""
    served = Served(options)
    try:
        yield served
    finally:
        served.close()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    items = listed()
    if options.questions < len(items):  # a short run: most of its time goes to many clients, not to one
        items = items[: max(options.questions // 2, len(ENDPOINTS))]
    tally = Tally()
    with serving(options) as served:
        ready = served.resident()
        console.print(f"{len(items)} questions alone")
        known = alone(served.url, items)
        after_alone = served.resident()
        numbers = count()
        clients = [
            threading.Thread(
                target=converse, args=(served.url, numbers, options.questions, items, known, tally), daemon=True
            )
            for _ in range(options.clients)
        ]
        started = time.monotonic()
        for client in clients:
            client.start()
        while sum(tally.ends.values()) < options.questions // 2 and any(client.is_alive() for client in clients):
            time.sleep(0.2)
        console.print("restart")
        before_restart = served.resident()
        ended, said = served.stop()
        again = served.start()
        for client in clients:
            client.join()
        spent = time.monotonic() - started
        at_end = served.resident()
        _, said_last = served.stop()
    return {
        "alone": len(items),
        "unlike": sum(count == 1 for count in Counter(known).values()),
        "refusals": sum(not answer.startswith("200") for answer in known),
        "seconds": spent,
        "ended": ended,
        "again": again,
        "tally": tally,
        "memory": {
            "ready": ready,
            "after the questions alone": after_alone,
            "before the restart": before_restart,
            "at the end (second process)": at_end,
        },
        "samples": served.memory,
        "log": [line for line in (said + said_last).splitlines() if "Research use only" not in line],
    }


def markdown(figures: dict[str, Any], options: argparse.Namespace) -> str:
    """Return the figures as a document."""
    tally: Tally = figures["tally"]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    answered = sum(map(len, tally.seconds.values()))
    total = sum(tally.ends.values())
    lines = [
        "# The server under load",
        "",
        f"`python benchmarks/load.py --questions {options.questions} --clients {options.clients}`, {date.today()}. "
        f"{platform.machine()}, {os.cpu_count()} cores, no accelerator, load {os.getloadavg()[1]:.0f} on average: the "
        "machine was shared with other work, so times say little and counts all. "
        f"Python {platform.python_version()}, {versions}. {options.reasoner} + {options.segmenter}, a queue of "
        f"{options.queue}, batches of up to {options.batch}.",
        "",
        f"{options.clients} clients asked {options.questions} questions in {figures['seconds']:.0f} s "
        f"({answered / figures['seconds']:.2f} a second, the restart's pause included), each on uploads of its own. "
        f"{figures['alone']} questions were first asked one at a time; {figures['unlike']} of their answers are unlike "
        f"all others, and {figures['refusals']} say that the model has none. After half of the questions the server "
        f"was told to end; it was gone after {figures['ended']:.1f} s and answered again {figures['again']:.1f} s "
        "later.",
        "",
        "| endpoint | answered | median s | 90 % | 99 % | longest |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(endpoint, tally) for endpoint in ENDPOINTS]
    if tally.first_words:
        middle, high, highest = np.percentile(tally.first_words, [50, 90, 99])
        lines.append(
            f"| first word of those | {len(tally.first_words)} | {middle:.1f} | {high:.1f} | {highest:.1f} | "
            f"{max(tally.first_words):.1f} |"
        )
    ends = {name: tally.ends.pop(name, 0) for name in ("the same", "swapped", "cut", "lost")}
    lines += ["", "| of the answers to all questions | |", "| --- | --- |", f"| questions | {total} |"]
    names = {"the same": "the same as alone", "swapped": "another question's", "cut": "cut, yet seemingly whole"}
    lines += [f"| {names.get(name, name)} | {number} |" for name, number in ends.items()]
    lines += [f"| {name} | {number} |" for name, number in sorted(tally.ends.items())]
    meant = {
        "429": "429, come back after Retry-After",
        "503": "503, shutting down",
        "404": "404, upload forgotten in the restart or for want of room",
        "refused": "connection refused",
        "error event": "an `error` event that ends the stream",
        "closed in an answer": "connection closed, seen as an error by the client's library",
    }
    lines += ["", "| what clients were told before, and obeyed | |", "| --- | --- |"]
    lines += [f"| {meant.get(name, name)} | {number} |" for name, number in sorted(tally.troubles.items())]
    if tally.waited:
        lines.append(f"| longest Retry-After, s | {max(tally.waited):.0f} |")
    lines += ["", "| the server's resident memory | MB |", "| --- | --- |"]
    lines += [f"| {name} | {held:.0f} |" for name, held in figures["memory"].items()]
    for number in (1, 2):
        most = max((held for process, _, held in figures["samples"] if process == number), default=float("nan"))
        lines.append(f"| most, process {number} | {most:.0f} |")
    lines += ["", f"Lines that the server wrote to its log: {len(figures['log'])}."]
    return "\n".join(lines) + "\n"


def _row(endpoint: str, tally: Tally) -> str:
    path, comma, kind = endpoint.partition(",")
    name = f"`/v1/{path}`{comma}{kind}"
    seconds = tally.seconds.get(endpoint)
    if not seconds:
        return f"| {name} | 0 | | | | |"
    middle, high, highest = np.percentile(seconds, [50, 90, 99])
    return f"| {name} | {len(seconds)} | {middle:.1f} | {high:.1f} | {highest:.1f} | {max(seconds):.1f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--reasoner", default="nano", help="as `medground serve` takes it")
    parser.add_argument("--segmenter", default="litemedsam", help="as `medground serve` takes it")
    parser.add_argument("--queue", type=int, default=8, help="less than the clients, so that some are sent away")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("docs/load.md"))
    options = parser.parse_args(arguments)
    if options.questions < len(ENDPOINTS) or options.clients < 1:
        parser.error(f"--questions must be at least {len(ENDPOINTS)}, and --clients at least 1")
    figures = run(options)
    wrong = {name: figures["tally"].ends[name] for name in ("swapped", "cut", "lost", "no Retry-After")}
    text = markdown(figures, options)
    options.out.write_text(text, encoding="utf-8")
    console.print(text, markup=False, soft_wrap=True)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())

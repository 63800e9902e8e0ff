"""A real server process before models that answer from a script: python tests/scripted_server.py SETTINGS (JSON).

Settings: ``limits`` as `Limits` takes them, ``room`` (megabytes of address space above what it has when it is ready),
``pause`` (seconds that each answer takes), ``idle`` (seconds that a connection may idle). An answer holds the number of
the question (its last word) and of the image (`drawn_png`), so that nobody can be given another's without noticing.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

VISUAL = "<think>{0} of {1} (region [{1}, {0}, {2}, {3}])</think><response><answer>{0} of {1}</answer></response>"


@dataclass
class Running:
    """A server process, seen from outside."""

    url: str
    process: subprocess.Popen[str]
    stderr: IO[str]

    def log(self) -> str:
        """What it wrote to stderr until now."""
        self.stderr.seek(0)
        return self.stderr.read()

    def memory(self, name: str) -> int:
        """A figure of /proc/PID/status, in bytes."""
        return _memory(self.process.pid, name)

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl+C does; its exit status."""
        self.process.send_signal(how)
        return self.process.wait(60)


@contextmanager
def running(port: int = 0, **settings: Any) -> Iterator[Running]:
    """A server process, which is gone after the block in any case."""
    place = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, __file__, json.dumps({"port": port, **settings})]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=place)
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            found = Running(url, process, stderr)
            assert url, found.log()
            yield found
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def numbers_of(image: Any, question: str) -> tuple[int, int]:
    """The numbers of a question and of an image; 0 where it has none."""
    word = question.split()[-1]
    return int(word) if word.isdecimal() and word.isascii() else 0, (int(image.rgb[0, 0, 0]) - 20) % 256


def _serve(
    port: int = 0, limits: dict[str, int] | None = None, room: int = 0, pause: float = 0.0, idle: float = 15.0
) -> None:
    from conftest import FillingSegmenter, ScriptedReasoner

    from medground.coords import Space
    from medground.parsing import format_answer
    from medground.pipeline import MedGround
    from medground.serve import Limits, connections, serve
    from medground.types import Box, Point

    def script(request: Any, space: Space) -> str:
        time.sleep(pause)
        one, other = numbers_of(request.image, request.question)
        if request.visual is not None:
            return VISUAL.format(one, other, other + 100, one + 100)
        box = Box(other, one, other + 100, one + 100, space)
        points = [Point(other + 40, one + 40, space), Point(other + 60, one + 60, space)]
        return format_answer(box, points, space, reasoning=f"{one} of {other}")

    def ready(address: str) -> None:
        if room:
            bound = _memory(os.getpid(), "VmSize") + (room << 20)
            resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()

    connections.IDLE_SECONDS = idle
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    grounder = MedGround(ScriptedReasoner(script), FillingSegmenter(frozenset({"box", "points"})), embeddings=4)
    serve(grounder, port=port, limits=Limits(**(limits or {})), ready=ready)


def _memory(process: int, name: str) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


if __name__ == "__main__":
    _serve(**json.loads(sys.argv[1]))

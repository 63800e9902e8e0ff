"""The server of `load.py`: `medground serve` in a process of its own, started, watched and ended from outside."""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

LONGEST = 600.0
"""Seconds that anything may take."""


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


@contextmanager
def serving(options: argparse.Namespace) -> Iterator[Served]:
    """Run the server while the block does."""
    served = Served(options)
    try:
        yield served
    finally:
        served.close()

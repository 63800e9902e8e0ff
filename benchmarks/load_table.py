"""The document that `load.py` writes."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import date
from importlib import metadata
from typing import Any

import numpy as np
from load_clients import Tally
from load_questions import ENDPOINTS

PACKAGES = ("medground", "torch", "transformers", "fastapi", "uvicorn")


ENDS = {
    "the same": "the same as alone",
    "swapped": "another question's",
    "cut": "cut, yet seemingly whole",
    "lost": "lost",
}
TROUBLES = {
    "429": "429, come back after Retry-After",
    "503": "503, shutting down",
    "404": "404, upload forgotten in the restart or for want of room",
    "refused": "connection refused",
    "error event": "an `error` event that ends the stream",
    "closed in an answer": "connection closed, seen as an error by the client's library",
}


def markdown(figures: dict[str, Any], options: argparse.Namespace) -> str:
    """Return the figures as a document."""
    tally: Tally = figures["tally"]
    parts = [_setting(figures, options), _course(figures, options), _times(tally), _ends(tally), _troubles(tally)]
    parts += [_memory(figures), f"Lines that the server wrote to its log: {len(figures['log'])}."]
    return "\n\n".join(["# The server under load", *parts]) + "\n"


def _setting(figures: dict[str, Any], options: argparse.Namespace) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return (
        f"`python benchmarks/load.py --questions {options.questions} --clients {options.clients}`, {date.today()}. "
        f"{platform.machine()}, {os.cpu_count()} cores, no accelerator, load {figures['load']:.1f} in the minute "
        "before; clients and server share the cores. "
        f"Python {platform.python_version()}, {versions}. {options.reasoner} + {options.segmenter}, a queue of "
        f"{options.queue}, batches of up to {options.batch}."
    )


def _course(figures: dict[str, Any], options: argparse.Namespace) -> str:
    answered = sum(map(len, figures["tally"].seconds.values()))
    return (
        f"{options.clients} clients asked {options.questions} questions in {figures['seconds']:.0f} s "
        f"({answered / figures['seconds']:.2f} a second, the restart's pause included), each on uploads of its own. "
        f"{figures['alone']} questions were first asked one at a time; {figures['unlike']} of their answers are unlike "
        f"all others, and {figures['refusals']} say that the model has none. After half of the questions the server "
        f"was told to end; it was gone after {figures['ended']:.1f} s and answered again {figures['again']:.1f} s "
        "later."
    )


def _times(tally: Tally) -> str:
    rows = []
    for endpoint in ENDPOINTS:
        path, comma, kind = endpoint.partition(",")
        name = f"`/v1/{path}`{comma}{kind}"
        rows.append(_spread(name, tally.seconds.get(endpoint, [])))
        if kind and tally.first_words:
            rows.append(_spread(f"{name}: to the first word", tally.first_words))
    return "\n".join(
        ["| endpoint | answered | median s | 90 % | 99 % | longest |", "| --- | --- | --- | --- | --- | --- |", *rows]
    )


def _spread(name: str, seconds: list[float]) -> str:
    if not seconds:
        return f"| {name} | 0 | | | | |"
    middle, high, highest = np.percentile(seconds, [50, 90, 99])
    return f"| {name} | {len(seconds)} | {middle:.1f} | {high:.1f} | {highest:.1f} | {max(seconds):.1f} |"


def _ends(tally: Tally) -> str:
    rows = {"questions": sum(tally.ends.values())}
    rows |= {told: tally.ends.get(name, 0) for name, told in ENDS.items()}
    rows |= {name: number for name, number in sorted(tally.ends.items()) if name not in ENDS}
    return _pairs("of the answers to all questions", "", rows)


def _troubles(tally: Tally) -> str:
    rows = {TROUBLES.get(name, name): number for name, number in sorted(tally.troubles.items())}
    if tally.waited:
        rows["longest Retry-After, s"] = round(max(tally.waited))
    return _pairs("what clients were told before, and obeyed", "", rows)


def _memory(figures: dict[str, Any]) -> str:
    held = dict(figures["memory"])
    for number in (1, 2):
        samples = [one for process, _, one in figures["samples"] if process == number]
        held[f"most, process {number}"] = max(samples, default=float("nan"))
    return _pairs("the server's resident memory", "MB", {name: f"{one:.0f}" for name, one in held.items()})


def _pairs(title: str, unit: str, rows: dict[str, Any]) -> str:
    head = f"| {title} | {unit} |" if unit else f"| {title} | |"
    return "\n".join([head, "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])

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
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from load_clients import Tally, alone, converse
from load_questions import ENDPOINTS, listed
from load_server import serving
from load_table import markdown
from rich.console import Console

console = Console(stderr=True, highlight=False)


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
    before = os.getloadavg()[0]
    figures = {"load": before, **run(options)}
    wrong = {name: figures["tally"].ends[name] for name in ("swapped", "cut", "lost", "no Retry-After")}
    text = markdown(figures, options)
    options.out.write_text(text, encoding="utf-8")
    console.print(text, markup=False, soft_wrap=True)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())

"""The load benchmark notices what it is there to notice."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scripted_server import Running, running

from medground.demo import CASES
from medground.errors import MissingExtraError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PARTS = ("questions", "server", "clients", "table")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark's parts."""
    try:
        for case in CASES:
            case.path()
    except MissingExtraError as error:
        pytest.skip(str(error))
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # as a script finds its neighbours
    return SimpleNamespace(**{name: importlib.import_module(f"load_{name}") for name in PARTS})


@pytest.fixture
def server() -> Iterator[Running]:
    with running(limits={"queue": 4}) as server:
        yield server


def _asked(load: SimpleNamespace, url: str, items: list[Any], known: list[str]) -> dict[str, int]:
    tally = load.clients.Tally()
    load.clients.converse(url, count(), len(items), items, known, tally)
    assert sum(map(len, tally.seconds.values())) == len(items)
    return dict(tally.ends)


def test_answers_are_told_apart(load: SimpleNamespace, server: Running) -> None:
    items = load.questions.listed()[:12]
    known = load.clients.alone(server.url, items)
    assert _asked(load, server.url, items, known) == {"the same": 12}
    swapped = _asked(load, server.url, items, known[4:] + known[:4])  # each is given another image's
    assert swapped == {"swapped": 12}
    assert set(_asked(load, server.url, items[:4], ["200 {}"] * 12)) == {"other (200)"}


def test_no_two_questions_are_alike(load: SimpleNamespace) -> None:
    items = load.questions.listed()
    assert len({(item.path, item.image, str(item.fields)) for item in items}) == len(items) == 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('event: reasoning\ndata: {"text": "a"}\n\nevent: done\ndata: {"bbox": 1}\n\n', {"bbox": 1}),
        (': waiting\n\nevent: error\ndata: {"detail": "b"}\n\n', {"detail": "b"}),
        ('event: reasoning\ndata: {"text": "a"}\n\nevent: location\ndata: {"bbox": 1}\n\n', None),
        ("", None),
    ],
)
def test_events_that_end_early_are_no_answer(load: SimpleNamespace, text: str, said: Any) -> None:
    assert load.clients._last(text) == said


def test_the_table_says_what_was_seen(load: SimpleNamespace) -> None:
    tally = load.clients.Tally(
        seconds={"ask": [1.0, 3.0], "ground, events": [2.0]}, first_words=[0.5], waited=[2.0, 7.0]
    )
    tally.ends.update({"the same": 2, "swapped": 1, "other (422)": 1})
    tally.troubles.update({"429": 5, "refused": 4})
    figures = {"alone": 3, "unlike": 2, "refusals": 1, "seconds": 6.0, "ended": 1.0, "again": 2.0, "tally": tally}
    figures |= {"load": 0.4, "memory": {"ready": 100.0}, "samples": [(1, 0.0, 120.0), (1, 1.0, 140.0)], "log": []}
    options = SimpleNamespace(questions=4, clients=2, reasoner="nano", segmenter="litemedsam", queue=8, batch=8)
    text = load.table.markdown(figures, options)
    for row in (
        *("`/v1/ask` | 2 | 2.0 | 2.8 | 3.0 | 3.0", "`/v1/ground`, events | 1 | 2.0", "`/v1/segment` | 0 |"),
        *("`/v1/ground`, events: to the first word | 1 | 0.5", "questions | 4", "another question's | 1", "lost | 0"),
        *("other (422) | 1", "429, come back after Retry-After | 5", "connection refused | 4"),
        *("longest Retry-After, s | 7", "ready | 100", "most, process 1 | 140", "most, process 2 | nan"),
    ):
        assert f"| {row}" in text
    assert "load 0.4 in the minute before" in " ".join(text.split())
    assert "in 6 s (0.50 a second" in text
    assert text.endswith("\n\nLines that the server wrote to its log: 0.\n")

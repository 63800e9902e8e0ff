"""The load benchmark notices what it is there to notice."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripted_server import Running, running

from medground.demo import CASES
from medground.errors import MissingExtraError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    try:
        for case in CASES:
            case.path()
    except MissingExtraError as error:
        pytest.skip(str(error))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("load")


@pytest.fixture
def server() -> Iterator[Running]:
    with running(limits={"queue": 4}) as server:
        yield server


def _asked(load: ModuleType, url: str, items: list[Any], known: list[str]) -> dict[str, int]:
    tally = load.Tally()
    load.converse(url, count(), len(items), items, known, tally)
    assert sum(map(len, tally.seconds.values())) == len(items)
    return dict(tally.ends)


def test_answers_are_told_apart(load: ModuleType, server: Running) -> None:
    items = load.listed()[:12]
    known = load.alone(server.url, items)
    assert _asked(load, server.url, items, known) == {"the same": 12}
    swapped = _asked(load, server.url, items, known[4:] + known[:4])  # each is given another image's
    assert swapped == {"swapped": 12}
    assert set(_asked(load, server.url, items[:4], ["200 {}"] * 12)) == {"other (200)"}


def test_no_two_questions_are_alike(load: ModuleType) -> None:
    items = load.listed()
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
def test_events_that_end_early_are_no_answer(load: ModuleType, text: str, said: Any) -> None:
    assert load._last(text) == said

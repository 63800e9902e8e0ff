"""Completions are hostile: whatever they are, every recipe gives finite terms in their range, and nothing is raised."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.rewards import RECIPES, Facts, score, score_batch


def _benchmark() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "rewards.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_rewards", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCHMARK = _benchmark()
HOSTILE = BENCHMARK.hostile(3000)
LONG = BENCHMARK.hostile(120_000)  # beyond all that is decoded or searched

BOX = {"bbox_2d": [100, 100, 300, 200], "point_2d": [[150, 150], [250, 150]]}
_OVAL = Facts.measure(np.pad(np.ones((10, 20), bool), ((10, 64), (10, 54))), np.zeros((84, 84), np.uint8))
GROUNDING = {
    "box and points": BOX,
    "box, points and facts": BOX | {"facts": _OVAL.to_dict()},
    "thousandths, y first": BOX | {"coordinates": "0-1000 yx", "image_size": [640, 480]},
    "a hair": {"bbox_2d": [0, 0, 840, 5e-324], "point_2d": [[0, 0], [840, 0]]},
    "a speck": {"bbox_2d": [0, 0, 1e-9, 1e-9], "point_2d": [[0, 0], [0, 0]]},
}
OURS_ALONE = {
    "absent": {"absent": True},
    "no points": {"bbox_2d": [100, 100, 300, 200]},
    "direct": BOX | {"mode": "direct"},
    "facts of the place": {"bbox_2d": [1, 2, 3, 4], "facts": {"place": ["upper left"]}},
}
VQA = {
    "open": {"question_type": "open", "answer": "opacity", "boxes": [[10, 20, 30, 40], [50, 60, 70, 80]]},
    "closed": {"question_type": "closed", "answer": "yes"},
    "choice": {"question_type": "single_choice", "answer": "B", "choices": {"A": "left", "B": "right"}},
    "choices": {"question_type": "multi_choice", "answer": "A, B", "choices": {"A": "left", "B": "right", "C": "both"}},
}
CASES = [
    pytest.param(recipe, truth, id=f"{recipe}-{name}")
    for recipe in RECIPES
    for name, truth in (
        VQA if recipe == "thinkvg" else GROUNDING | OURS_ALONE if recipe == "medground" else GROUNDING
    ).items()
]


def check(scored: dict[str, float], recipe: str) -> None:
    highest = sum(RECIPES[recipe].weights.values()) if RECIPES[recipe].total == "sum" else 1.0
    assert "score" in scored
    assert set(scored) & set(RECIPES[recipe].weights)
    for name, value in scored.items():
        assert type(value) in (float, int)
        assert math.isfinite(value), name
        assert 0 <= value <= (highest + 1e-9 if name == "score" else 1), name


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(("recipe", "truth"), CASES)
def test_every_hostile_completion_has_a_score(kind, recipe, truth):
    check(score(HOSTILE[kind], truth, recipe), recipe)


NUMBERS = (
    *("NaN", "Infinity", "-Infinity", "1e308", "-1e308", "1e309", "1e-320", "-0.0", "5e-324", "1e60", "2e60", "1e-200"),
    *("9" * 400, "9" * 5000, "1" + "0" * 60, "true", "null", '"1"', "[1]", "{}", "0x10", "1_0", "١٢", "+1", "1.", ".5"),
)
ANSWERS = [
    f'<think>A {size} oval.</think><answer>{{"bbox": {box}, "points_1": {first}, "points_2": {second}}}</answer>'
    for number in NUMBERS
    for size, box, first, second in (
        ("small", f"[{number}, 100, 300, 200]", "[150, 150]", "[250, 150]"),
        ("large", f"[100, 100, 300, {number}]", "[150, 150]", "[250, 150]"),
        ("flat", f"[-{number}, -{number}, {number}, {number}]", f"[{number}, -{number}]", f"[-{number}, {number}]"),
        ("low", f"[0, 0, {number}, 1e60]", f"[{number}, {number}]", f"[{number}, {number}]"),
        ("high", f"[0, 0, 1e60, {number}]", "[0, 0]", f"[0, {number}]"),
    )
]
LOCATED = [
    f"<think>At (region [{number}, 1, 2, 3]).</think><response><answer>yes</answer><location><ref>lung</ref>"
    f"<box>[{number}, 20, 30, {number}]</box></location></response>"
    for number in NUMBERS
]


@pytest.mark.parametrize(("recipe", "truth"), CASES)
def test_every_number_has_a_score(recipe, truth):
    texts = ANSWERS + LOCATED
    for scored in score_batch(texts, [truth] * len(texts), recipe):
        check(scored, recipe)


PIECES = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "<response>", "</response>", "<location>", "</location>"),
        *(
            "<ref>",
            "</ref>",
            "<box>",
            "</box>",
            "{",
            "}",
            "[",
            "]",
            '"',
            "'",
            ",",
            ":",
            "\\",
            "\n",
            " ",
            "\0",
            "\ud800",
        ),
        *('"bbox": [100, 100, 300, 200]', '"points_1": [150, 150]', '"points_2": [250, 150]', '"absent": true'),
        *("It is bright, small and round, in the upper left.", "not", "two parts", "(region [1, 2, 3, 4])", "A", "yes"),
        *NUMBERS[:18],
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, 1e60]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
POINTS = st.lists(st.floats() | st.integers(), min_size=2, max_size=2) | VALUES
BOXES = st.lists(st.floats() | st.integers(), min_size=4, max_size=4) | VALUES


@st.composite
def answers(draw: Callable[[Any], Any]) -> str:
    said = {"bbox": draw(BOXES), "points_1": draw(POINTS), "points_2": draw(POINTS)}
    kept = draw(st.lists(st.sampled_from(sorted(said)), unique=True, min_size=2))
    inside = json.dumps({name: said[name] for name in kept})
    place = f"<location><ref>lung</ref><box>{json.dumps(said['bbox'])}</box></location>"
    return draw(
        st.sampled_from(
            [
                f"<think>{draw(st.text(max_size=9))}</think><answer>{inside}</answer>",
                f"<think>Bright.</think><response><answer>A</answer>{place}</response>",
            ]
        )
    )


COMPLETIONS = st.lists(PIECES, max_size=30).map("".join) | st.text() | answers()


@pytest.mark.parametrize(("recipe", "truth"), CASES)
@settings(max_examples=60)
@given(text=COMPLETIONS)
def test_every_completion_has_a_score(recipe, truth, text):
    check(score(text, truth, recipe), recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_row_scores_the_same_in_any_company(recipe):
    truth = VQA["open"] if recipe == "thinkvg" else GROUNDING["box, points and facts"]
    texts = [*HOSTILE.values(), *LONG.values(), *ANSWERS[::7]]
    together = score_batch(texts, [truth] * len(texts), recipe)
    for scored in together:
        check(scored, recipe)
    assert together == [score(text, truth, recipe) for text in texts]


def _lines(action: Callable[[], object]) -> int:
    """Count the lines of Python that run."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Callable | None:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("recipe", RECIPES)
def test_work_grows_no_faster_than_the_text(recipe):
    """Lines of Python; what runs inside one call (searching, decoding) shows in benchmarks/rewards.py alone."""
    truth = VQA["open"] if recipe == "thinkvg" else GROUNDING["box, points and facts"]
    score("", truth, recipe)  # imports and caches
    sizes = (4000, 8000, 16000)
    by_size = [BENCHMARK.hostile(size) for size in sizes]
    for kind in HOSTILE:
        low, middle, high = (_lines(partial(score, texts[kind], truth, recipe)) for texts in by_size)
        assert high - middle <= 2.5 * max(middle - low, 0) + 500, kind
        assert high <= 20 * sizes[2], kind


def test_the_benchmark_scores_what_models_write(monkeypatch):
    texts, truths = BENCHMARK.grounding_rows(140)
    assert len(set(texts)) > 100
    hard = [row["score"] for row in score_batch(texts, truths, "umrg-hard")]
    assert min(hard) == 0
    assert 5 < np.median(hard) < 8  # near the truth, and not the truth
    texts, truths = BENCHMARK.vqa_rows(140)
    assert {row["semantic"] for row in score_batch(texts, truths, "thinkvg")} >= {0, 1}
    peers = {"nothing": lambda texts, truths: [0.0 for _ in texts]}
    monkeypatch.setattr(BENCHMARK, "peers", lambda: peers)
    told = BENCHMARK.throughput(7, 1)
    assert list(told) == [*RECIPES, "nothing"]
    assert all(set(row) == {"a second", "x nothing"} and min(row.values()) > 0 for row in told.values())
    assert told["nothing"]["x nothing"] == 1
    slow = BENCHMARK.megabyte(500)
    assert list(slow) == list(HOSTILE)
    lines = list(BENCHMARK.table(slow, "hostile by", 1))
    assert {line.count("|") for line in lines} == {len(RECIPES) + 2}


def test_the_peer_agrees_on_a_right_and_a_wrong_answer():
    pytest.importorskip("shapely")
    peer = BENCHMARK.shapely_peer()
    right, wrong = (
        f'<answer>{{"bbox": {box}, "points_1": [150, 150], "points_2": [250, 150]}}</answer>'
        for box in ("[100, 100, 300, 200]", "[500, 500, 600, 600]")
    )
    assert peer([right, wrong, "no"], [BOX] * 3) == pytest.approx([2, 1, 0])

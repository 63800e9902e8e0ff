"""Confidence from agreement: what it is held to, how a threshold is chosen on one run and applied to another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import ABSENT, drawn, predicted, scored_of

from medground.errors import ConfigError
from medground.evaluate.confidence import (
    Calibration,
    Sure,
    assess,
    choose_threshold,
    halves,
    outcome,
    read_confidence,
    worth,
)

Pairs = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=40)


def sure(pairs: list[tuple[int, int]]) -> Sure:
    confidence, came = np.array(pairs, float).T / 10
    return Sure(confidence, came, tuple(str(at) for at in range(len(pairs))))


def test_worth_is_iou_or_absence_told_rightly():
    rows = drawn(4, absent=[1, 2])
    said = [rows[0].moved(0), ABSENT, rows[2].moved(0), ABSENT]
    one = scored_of([predicted(row, text) for row, text in zip(rows, said, strict=True)])
    found = worth(one)
    assert found[0] == pytest.approx(1, abs=0.1)
    assert found[1:].tolist() == [1, 0, 0]


def test_confidence_is_read_where_there_is_one():
    rows = drawn(6)
    same, apart = [(row.moved(0),) * 3 for row in rows], [tuple(row.moved(by) for by in (0, 2, 4)) for row in rows]
    lines = [predicted(row, row.moved(0), samples=same[at] if at % 2 else apart[at]) for at, row in enumerate(rows[:4])]
    found = read_confidence(scored_of([*lines, predicted(rows[4], rows[4].moved(0))]))
    assert found.confidence.tolist() == [0, 1, 0, 1]
    assert found.groups == ("patient 0", "patient 0", "patient 1", "patient 1")
    with pytest.raises(ConfigError, match="--samples"):
        read_confidence(scored_of([predicted(rows[4], rows[4].moved(0))]))


def test_a_perfect_order_gains_all_and_a_reversed_one_less_than_nothing():
    came = np.linspace(0, 1, 20)
    groups = tuple(map(str, range(20)))
    right, wrong, flat = (assess(Sure(confidence, came, groups)) for confidence in (came, 1 - came, np.full(20, 0.5)))
    assert right.gain == pytest.approx(1)
    assert wrong.gain < -0.5
    assert flat.gain == pytest.approx(0)
    assert right.blind == wrong.blind == pytest.approx(0.5)
    assert right.error == pytest.approx(0)
    assert assess(Sure(came, np.ones(20), groups)).gain == 1.0


@given(Pairs)
def test_a_calibration_never_falls_and_stays_in_range(pairs: list[tuple[int, int]]):
    one = sure(pairs)
    found = Calibration.fit(one).apply(np.linspace(0, 1, 50))
    assert (np.diff(found) >= -1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()
    # Pooling keeps the mean.
    assert Calibration.fit(one).apply(one.confidence).mean() == pytest.approx(one.worth.mean())


def test_a_calibration_mends_what_is_too_sure():
    chance = np.random.default_rng(0)
    confidence = chance.uniform(0, 1, 400)
    one = Sure(confidence, confidence**3, tuple(map(str, range(400))))
    other = Sure(chance.permutation(confidence), np.zeros(400), one.groups)
    other = Sure(other.confidence, other.confidence**3, one.groups)
    before = assess(other).error
    after = assess(Sure(Calibration.fit(one).apply(other.confidence), other.worth, other.groups)).error
    assert before > 0.2
    assert after < 0.01


@given(Pairs, st.integers(1, 10))
def test_a_threshold_by_coverage_answers_enough_and_no_more_than_needed(pairs: list[tuple[int, int]], tenths: int):
    one, wanted = sure(pairs), tenths / 10
    threshold = choose_threshold(one, coverage=wanted)
    assert outcome(one, threshold).coverage >= wanted - 1e-9
    above = one.confidence[one.confidence > threshold]
    assert len(above) / len(one.confidence) < wanted


@given(Pairs, st.integers(0, 10))
def test_a_threshold_by_risk_holds_it_on_the_rows_it_was_chosen_on(pairs: list[tuple[int, int]], tenths: int):
    one, wanted = sure(pairs), tenths / 10
    threshold = choose_threshold(one, risk=wanted)
    found = outcome(one, threshold)
    assert found.n == 0 or 1 - found.worth <= wanted + 1e-9
    for lower in np.unique(one.confidence[one.confidence < threshold]):
        assert 1 - outcome(one, lower).worth > wanted


@pytest.mark.parametrize(
    "given_", [{}, {"coverage": 0.5, "risk": 0.1}, {"coverage": 0.0}, {"coverage": 1.1}, {"risk": -0.1}]
)
def test_a_threshold_needs_one_aim_in_range(given_: dict[str, float]):
    with pytest.raises(ValueError, match=r"coverage"):
        choose_threshold(sure([(1, 1)]), **given_)


def test_nothing_answered_has_no_worth():
    found = outcome(sure([(1, 1), (2, 0)]), float("inf"))
    assert (found.n, found.coverage) == (0, 0)
    assert np.isnan(found.worth)


def test_halves_share_no_patient_and_lose_no_row():
    groups = tuple(f"p{at // 3}" for at in range(60))
    one = Sure(np.arange(60) / 60, np.ones(60), groups)
    a, b = halves(one)
    assert set(a.groups).isdisjoint(b.groups)
    assert sorted([*a.confidence, *b.confidence]) == one.confidence.tolist()
    assert 15 < len(a.groups) < 45
    assert halves(one)[0].groups == a.groups

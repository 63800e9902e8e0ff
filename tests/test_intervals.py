from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground import intervals
from medground.metrics import bootstrap_interval, nanmean, paired_bootstrap

NAN = math.nan


def patients(rng, count=60, each=4):
    """Return values of patients whose samples lie close together, and their groups."""
    level = rng.uniform(0.2, 0.8, count)
    return (level[:, None] + rng.normal(0, 0.02, (count, each))).ravel(), [
        f"p{i}" for i in np.arange(count).repeat(each)
    ]


def test_nanmean_counts_what_it_leaves_out():
    assert nanmean([1, 0, NAN, NAN]) == (0.5, 2, 2)
    assert nanmean([math.inf, 1]).mean == math.inf
    assert math.isnan(nanmean([NAN]).mean)
    assert nanmean([])[1:] == (0, 0)


def test_interval_is_the_plain_bootstrap():
    """All draws at once and samples as they come: the numbers that documents quote."""
    values = np.random.default_rng(3).uniform(size=37)
    drawn = np.random.default_rng(0).integers(37, size=(2000, 37))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    assert bootstrap_interval(values) == pytest.approx((low, high), abs=1e-12)
    assert bootstrap_interval(list(values), [str(i) for i in range(10, 47)]) == pytest.approx((low, high), abs=1e-12)
    assert bootstrap_interval(values, seed=np.random.default_rng(0)) == bootstrap_interval(values)


def test_a_little_at_a_time_is_the_same(monkeypatch):
    values, groups = patients(np.random.default_rng(1), count=37)
    whole = bootstrap_interval(values, groups), paired_bootstrap(values, values[::-1], groups)
    for at_once in (1, 37 * 7, 37 * 999 + 5):
        monkeypatch.setattr(intervals, "_AT_ONCE", at_once)
        assert (bootstrap_interval(values, groups), paired_bootstrap(values, values[::-1], groups)) == whole


def test_patients_are_drawn_and_not_samples():
    values, groups = patients(np.random.default_rng(0))
    alone, together = bootstrap_interval(values), bootstrap_interval(values, groups)
    assert together[1] - together[0] > 1.7 * (alone[1] - alone[0])  # 2 where a patient's samples are equal
    mean = float(values.mean())
    assert together[0] < mean < together[1]


def test_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        low, high = bootstrap_interval(rng.uniform(size=40), rounds=400, level=0.9)
        held += low <= 0.5 <= high
    assert 0.83 <= held / 200 <= 0.95


def test_interval_without_values_or_with_undefined_ones():
    assert all(math.isnan(end) for end in bootstrap_interval([]))
    assert all(math.isnan(end) for end in bootstrap_interval([NAN, NAN], ["a", "b"]))
    assert bootstrap_interval([1, NAN, 0.5], ["a", "b", "c"]) == bootstrap_interval([1, 0.5])


def test_paired_difference_of_the_same_is_none():
    values, groups = patients(np.random.default_rng(2))
    assert paired_bootstrap(values, values, groups)[:4] == (0, 0, 0, 1)
    assert paired_bootstrap([0.8, 0.9], [0.9, 0.8]).p == 1  # 0.9 - 0.8 and 0.8 - 0.9 sum to 0


def test_paired_difference_sees_what_unpaired_intervals_hide():
    values, groups = patients(np.random.default_rng(2))
    found = paired_bootstrap(values + 0.02, values, groups)
    assert found.difference == pytest.approx(0.02)
    assert 0 < found.low <= found.high < 0.03
    assert found.p == 2 / 2001
    assert found.n == len(values)
    low, _ = bootstrap_interval(values + 0.02, groups)
    _, high = bootstrap_interval(values, groups)
    assert low < high  # the two intervals overlap widely


def test_paired_p_is_the_share_on_the_other_side():
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.05, 0.3, 50), rng.normal(0, 0.3, 50)
    drawn = np.random.default_rng(0).integers(50, size=(2000, 50))
    means = (a - b)[drawn].mean(axis=1)
    found = paired_bootstrap(a, b)
    assert found.p == pytest.approx(2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / 2001)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_the_last_digit_of_a_sum_is_no_side():
    """0.1 + 0.2 - 0.3 isn't 0 in floats; 1 + 2 - 3 is."""
    tenths = paired_bootstrap([0.1, 0.2, 0.0], [0.0, 0.0, 0.3])
    assert tenths.p == paired_bootstrap([1, 2, 0], [0, 0, 3]).p


def test_paired_p_is_uniform_where_nothing_differs():
    rng = np.random.default_rng(11)
    found = [paired_bootstrap(rng.normal(size=40), rng.normal(size=40), rounds=300).p for _ in range(200)]
    assert 0.02 <= np.mean(np.array(found) < 0.1) <= 0.18
    assert 0.35 <= np.mean(found) <= 0.65


def test_paired_difference_draws_patients():
    """Ten samples of one patient are one witness."""
    a, b = [0.9] * 10 + [0.4], [0.5] * 10 + [0.6]
    assert paired_bootstrap(a, b).p < 0.01
    assert paired_bootstrap(a, b, ["one"] * 10 + ["other"]).p > 0.2


def test_paired_difference_leaves_out_what_either_lacks():
    found = paired_bootstrap([1, NAN, 0.5, 0.7], [0.5, 0.5, NAN, 0.6], ["a", "b", "b", "c"])
    assert (found.n, found.left_out) == (2, 2)
    assert found.difference == pytest.approx(0.3)
    nothing = paired_bootstrap([NAN], [1.0])
    assert (nothing.n, nothing.left_out) == (0, 1)
    assert all(math.isnan(value) for value in nothing[:4])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from("abcde")), min_size=1, max_size=30))
def test_paired_laws(rows):
    a, b, groups = ([row[i] for row in rows] for i in range(3))
    there, back = (paired_bootstrap(x, y, groups, rounds=200) for x, y in ((a, b), (b, a)))
    assert 0 < there.p <= 1
    assert there.p == pytest.approx(back.p)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: bootstrap_interval([1, 2], ["a"]), "one group"),
        (lambda: bootstrap_interval([[1, 2]]), "one row"),
        (lambda: bootstrap_interval([1, math.inf]), "infinite"),
        (lambda: bootstrap_interval([1, 2], level=95), "level"),
        (lambda: bootstrap_interval([1, 2], rounds=0), "round"),
        (lambda: paired_bootstrap([1, 2], [1]), "same samples"),
        (lambda: paired_bootstrap([math.inf], [math.inf]), "infinite"),
        (lambda: paired_bootstrap([1, 2], [1, 2], ["a"]), "one group"),
    ],
)
def test_what_cannot_be_used_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()

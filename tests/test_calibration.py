from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medground.metrics import aurc, expected_calibration_error, reliability, risk_coverage

rows = st.lists(
    st.tuples(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 1.0])), st.booleans()),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60)
@given(rows, st.integers(1, 20))
def test_bins_of_equal_width_agree_with_sklearn(rows, bins):
    sklearn = pytest.importorskip("sklearn.calibration")
    sure, right = [row[0] for row in rows], [row[1] for row in rows]
    score, confidence = sklearn.calibration_curve(right, sure, n_bins=bins)
    found = reliability(sure, right, bins=bins)
    assert found.score == pytest.approx(score)
    assert found.confidence == pytest.approx(confidence)
    assert found.n.sum() == len(rows)


def test_the_upper_end_belongs_to_a_bin():
    found = reliability([0.0, 0.5, 0.5000001, 1.0], [1, 0, 0, 1], bins=2)
    assert found.n.tolist() == [2, 2]


def test_calibration_error_by_hand():
    sure, right = [0.95, 0.95, 0.65, 0.65], [1, 0, 1, 1]
    assert expected_calibration_error(sure, right, bins=10) == pytest.approx((0.45 + 0.35) / 2)
    assert expected_calibration_error(sure, right, bins=1) == pytest.approx(0.05)  # errors hide in wide bins
    assert expected_calibration_error(sure, right, bins=2, binning="mass") == pytest.approx((0.45 + 0.35) / 2)
    assert expected_calibration_error([0.7] * 10, [1] * 7 + [0] * 3) == pytest.approx(0)
    assert expected_calibration_error([1.0] * 5, [0] * 5) == 1
    assert expected_calibration_error([0.8, 0.4], [0.8, 0.4]) == pytest.approx(0)  # graded, such as an IoU


def test_bins_of_equal_mass_hold_equally_many():
    sure = np.random.default_rng(0).beta(8, 1, 103)
    found = reliability(sure, sure > 0.5, bins=10, binning="mass")
    assert sorted(found.n.tolist(), reverse=True) == found.n.tolist() == [11] * 3 + [10] * 7
    assert (np.diff(found.confidence) > 0).all()
    assert reliability(sure[:3], sure[:3] > 0.5, bins=10, binning="mass").n.tolist() == [1, 1, 1]


@settings(max_examples=60)
@given(rows, st.randoms(use_true_random=False), st.sampled_from(["width", "mass"]))
def test_order_plays_no_part(rows, chance, binning):
    mixed = chance.sample(rows, len(rows))
    (sure, right), (sure_too, right_too) = zip(*rows, strict=True), zip(*mixed, strict=True)
    error = expected_calibration_error(sure, right, bins=4, binning=binning)
    assert 0 <= error <= 1
    assert error == pytest.approx(expected_calibration_error(sure_too, right_too, bins=4, binning=binning))
    area = aurc(sure, right)
    assert 0 <= area <= 1
    assert area == pytest.approx(aurc(sure_too, right_too))
    curve = risk_coverage(sure, right)
    assert curve.risk[-1] == pytest.approx(1 - np.mean(right))
    assert curve.coverage[-1] == 1
    assert (np.diff(curve.threshold) <= 0).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=6))
def test_equal_confidences_count_as_any_order_would(rows):
    from itertools import permutations

    def area(ordered):
        risk = np.cumsum([not right for _, right in ordered]) / np.arange(1, len(ordered) + 1)
        return risk.mean()

    orders = [sorted(order, key=lambda row: -row[0]) for order in permutations(rows)]
    assert aurc(*zip(*rows, strict=True)) == pytest.approx(np.mean([area(order) for order in orders]))


def test_surer_and_better_has_less_area():
    right = [1, 1, 1, 0, 0]
    best, worst = aurc([0.9, 0.8, 0.7, 0.6, 0.5], right), aurc([0.5, 0.6, 0.7, 0.8, 0.9], right)
    assert best == pytest.approx((0 + 0 + 0 + 1 / 4 + 2 / 5) / 5)
    assert aurc([0.5] * 5, right) == pytest.approx(0.4)
    assert best < 0.4 < worst
    assert aurc([9, 8, 7, 6, 5], right) == aurc([-1, -2, -3, -4, -5], right) == best  # only their order counts


def test_failures_and_what_is_undefined():
    assert aurc([0.9, 0.0], [1, 0]) == pytest.approx(0.25)
    assert aurc([0.9, 0.8, 0.0], [1, math.nan, 0]) == pytest.approx(0.25)
    assert expected_calibration_error([0.9, 0.8], [0.9, math.nan]) == pytest.approx(0)
    for metric in (aurc, expected_calibration_error):
        assert math.isnan(metric([], []))
        assert math.isnan(metric([0.5], [math.nan]))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: expected_calibration_error([1.2], [1]), "between 0 and 1"),
        (lambda: expected_calibration_error([0.5], [2]), "scores"),
        (lambda: expected_calibration_error([math.nan], [1]), "finite"),
        (lambda: expected_calibration_error([0.5, 0.5], [1]), "one confidence"),
        (lambda: expected_calibration_error([0.5], [1], bins=0), "bin"),
        (lambda: expected_calibration_error([0.5], [1], binning="equal"), "binning"),
        (lambda: aurc([math.inf], [1]), "finite"),
        (lambda: aurc([0.5], [-0.1]), "scores"),
    ],
)
def test_what_cannot_be_used_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()

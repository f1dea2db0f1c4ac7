"""What is independent in a test set, its degrees of freedom, and the shape of intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from thaw.scoring.intervals import degrees_of, rate_interval, spread_factors, unit_variance, units_of


def test_utterances_are_summed_by_speaker() -> None:
    words = np.array([10.0, 20, 40, 50, 60, 55])
    units = units_of(["b", "a", "b", "c", "d", "e"], words)
    assert (units.kind, units.note) == ("speaker", "")
    assert units.sums(np.array([1.0, 2, 4, 5, 6, 7])).tolist() == [2, 5, 5, 6, 7]


def test_one_speaker_falls_back_to_utterances_and_one_utterance_to_nothing() -> None:
    units = units_of(["a", "a"], np.array([10.0, 20]))
    assert (units.kind, units.note) == ("utterance", "one speaker")
    assert units.sums(np.array([1.0, 2])).tolist() == [1, 2]
    alone = units_of(["a"], np.array([10.0]))
    assert (alone.kind, alone.note) == ("none", "one utterance")


@pytest.mark.parametrize(
    ("words", "kind", "note"),
    [
        ([10] * 16, "speaker", ""),
        ([10] * 5, "speaker", ""),
        ([9, 10, 11, 10, 12], "speaker", ""),
        ([10] * 4, "speaker", ""),
        ([8, 10, 12, 18], "speaker", ""),
        ([10] * 3, "utterance", "3 speakers"),
        ([10, 10, 10, 30], "utterance", "4 speakers, one of them with 50 % of the words"),
        ([60] + [2] * 20, "utterance", "21 speakers, one of them with 60 % of the words"),
        ([100] + [1] * 100, "utterance", "101 speakers, one of them with 50 % of the words"),
        ([40, 40, *[2] * 10], "utterance", "12 speakers, one of them with 40 % of the words"),
        ([30] + [7] * 10, "speaker", ""),
        ([0, 0], "utterance", "2 speakers"),
        ([0] * 5, "utterance", "5 speakers, one of them with 0 % of the words"),
    ],
)
def test_few_or_unequal_speakers_are_no_units(words: list[int], kind: str, note: str) -> None:
    units = units_of([f"s{i}" for i in range(len(words))], np.array(words, dtype=float))
    assert (units.kind, units.note) == (kind, note)


def test_degrees_and_factors_of_equal_speakers_are_those_of_a_sample() -> None:
    totals = np.full(7, 31.0)
    assert degrees_of(totals) == pytest.approx(6)
    errors = np.array([3.0, 1, 4, 1, 5, 9, 2])
    assert unit_variance(errors, totals) == pytest.approx((errors / 31).var(ddof=1) / 7)


def test_degrees_are_those_of_the_quadratic_form() -> None:
    """tr(A)² / tr(A²) of the matrix itself, and tr(A) the variance of the ratio."""
    totals = np.array([40.0, 10, 25, 5, 60, 11, 0])
    shares = totals / totals.sum()
    centred = np.eye(7) - np.outer(np.ones(7), shares)
    form = centred.T @ np.diag(shares**2 * spread_factors(totals)) @ centred
    assert np.trace(form) == pytest.approx(shares @ shares)
    assert degrees_of(totals) == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))


@pytest.mark.parametrize("capped", [False, True])
def test_far_from_its_bounds_an_interval_is_symmetric(capped: bool) -> None:
    low, high = rate_interval(0.4, 0.001, 1e-4, capped)
    assert (low, high) == (pytest.approx(0.399, abs=1e-5), pytest.approx(0.401, abs=1e-5))


def test_intervals_stay_within_their_bounds_and_hold_their_rate() -> None:
    for rate in (0.0, 1e-4, 0.02, 0.5, 0.98, 0.9999, 1.0):
        for reach in (0.0, 0.001, 0.1, 1.0, 50.0):
            low, high = rate_interval(rate, reach, 0.001, capped=True)
            assert 0 <= low <= rate <= high <= 1
            low, high = rate_interval(rate, reach, 0.001, capped=False)
            assert 0 <= low <= rate <= high < math.inf

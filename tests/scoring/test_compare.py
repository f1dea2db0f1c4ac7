"""Paired tests of two systems, against enumeration and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.compare import compare, holm, sign_flip_p
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.edits import Edits

SPEC = ScoringSpec(bootstrap=500)


def system(errors: list[int], speakers: list[str] | None = None, ref: int = 10) -> list[UtteranceCounts]:
    names = speakers or [f"s{i}" for i in range(len(errors))]
    edits = [Edits(sub=e, ref=ref) for e in errors]
    return [
        UtteranceCounts(f"u{i:03}", name, {"word": e, "char": e})
        for i, (name, e) in enumerate(zip(names, edits, strict=True))
    ]


def enumerated_p(differences: list[int]) -> float:
    observed = abs(sum(differences))
    flips = itertools.product((1, -1), repeat=len(differences))
    return float(
        np.mean([abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in flips])
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-6, 6), max_size=9))
def test_p_is_that_of_all_sign_patterns(differences: list[int]) -> None:
    assert sign_flip_p(np.array(differences, dtype=np.int64)) == pytest.approx(enumerated_p(differences), abs=1e-12)


def test_p_agrees_with_scipy_for_many_units() -> None:
    differences = np.random.default_rng(2).integers(-8, 11, 60)
    theirs = stats.permutation_test(
        (differences,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert sign_flip_p(differences) == pytest.approx(theirs, abs=0.01)


def test_p_is_never_zero() -> None:
    assert 0 < sign_flip_p(np.full(2000, 3)) < 1e-300


def test_known_difference() -> None:
    """Five speakers, all better by one error of ten words: difference -0.1, p = 2/2^5."""
    result = compare(system([3] * 5), system([2] * 5), SPEC)
    assert result.difference == pytest.approx(-0.1)
    assert result.low == pytest.approx(-0.1)
    assert result.high == pytest.approx(-0.1)
    assert result.p == pytest.approx(2 / 32)
    assert result.unit == "speaker"


def test_identical_systems() -> None:
    result = compare(system([1, 2, 3]), system([1, 2, 3]), SPEC)
    assert (result.difference, result.low, result.high, result.p) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_systems_mirrors_the_result() -> None:
    a, b = system([3, 1, 4, 1, 5, 9]), system([2, 1, 3, 5, 4, 6])
    there, back = compare(a, b, SPEC), compare(b, a, SPEC)
    assert there.difference == -back.difference
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(-back.high)
    assert there.p == back.p


def test_speakers_are_flipped_as_wholes() -> None:
    speakers = list("aaabbbcccdddeee")
    result = compare(system([2] * 15, speakers), system([1] * 15, speakers), SPEC)
    assert result.p == pytest.approx(2 / 2**5)
    assert (result.unit, result.note) == ("speaker", "")


def test_utterances_are_flipped_where_speakers_are_too_few() -> None:
    speakers = ["a"] * 4 + ["b"] * 4
    result = compare(system([2] * 8, speakers), system([1] * 8, speakers), SPEC, "char")
    assert result.p == pytest.approx(2 / 2**8)
    assert (result.unit, result.note) == ("utterance", "2 speakers")


def test_order_does_not_matter_but_utterances_and_references_do() -> None:
    first = system([1, 2, 3])
    assert compare(first, first[::-1], SPEC).p == 1.0
    with pytest.raises(UserError, match="same utterances"):
        compare(first, first[:2], SPEC)
    with pytest.raises(UserError, match="same references"):
        compare(first, system([1, 2, 3], ref=9), SPEC)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []

"""Bootstrap intervals: what is drawn, agreement with scipy, coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from thaw.scoring.intervals import Units, percentile_interval, rate_intervals, ratio, resampled_sums, units_of


def test_utterances_are_summed_by_speaker() -> None:
    counts = np.array([[1, 10], [2, 20], [4, 40], [5, 50], [6, 60], [7, 55]])
    units = units_of(["b", "a", "b", "c", "d", "e"], counts, counts[:, 1])
    assert units.kind == "speaker"
    assert units.totals.tolist() == [[2, 20], [5, 50], [5, 50], [6, 60], [7, 55]]
    assert units.note == ""


def test_one_speaker_falls_back_to_utterances_and_one_utterance_to_nothing() -> None:
    counts = np.array([[1, 10], [2, 20]])
    units = units_of(["a", "a"], counts, counts[:, 1])
    assert (units.kind, units.note) == ("utterance", "one speaker")
    assert units.totals.tolist() == counts.tolist()
    counts = np.array([[1, 10, 2, 20]])
    alone = units_of(["a"], counts, counts[:, 1])
    assert (alone.kind, alone.note) == ("none", "one utterance")
    assert rate_intervals(alone, 100, 0.95, 1) == [None, None]


@pytest.mark.parametrize(
    ("words", "kind", "note"),
    [
        ([10] * 16, "speaker", ""),
        ([10] * 5, "speaker", ""),
        ([9, 10, 11, 10, 12], "speaker", ""),
        ([10] * 4, "utterance", "4 speakers"),
        ([60] + [2] * 20, "utterance", "21 speakers, one of them with 60 % of the words"),
        ([100] + [1] * 100, "utterance", "101 speakers, one of them with 50 % of the words"),
        ([40, 40, *[2] * 10], "utterance", "12 speakers, one of them with 40 % of the words"),
        ([30] + [7] * 10, "speaker", ""),
        ([0, 0], "utterance", "2 speakers"),
    ],
)
def test_few_or_unequal_speakers_are_not_resampled(words: list[int], kind: str, note: str) -> None:
    counts = np.array([[0, count] for count in words])
    units = units_of([f"s{i}" for i in range(len(words))], counts, counts[:, 1])
    assert (units.kind, units.note) == (kind, note)


def test_characters_are_resampled_as_words_are() -> None:
    """Whatever is counted, speakers weigh by their words."""
    characters = np.array([[1, 900], [1, 1], [1, 1], [1, 1], [1, 1]])
    assert units_of(list("abcde"), characters, np.full(5, 10)).kind == "speaker"


def test_a_recorded_speaker_joined_with_synthesised_ones() -> None:
    """110 sentences of one speaker at 70 %, ten speakers with five sentences at 20 %: draws of speakers are useless."""
    random = np.random.default_rng(3)
    names = ["recorded"] * 110 + [f"synthetic-{i // 5}" for i in range(50)]
    errors = random.binomial(4, [0.7] * 110 + [0.2] * 50)
    counts = np.stack([errors, np.full_like(errors, 4)], axis=1)
    units = units_of(names, counts, counts[:, 1])
    assert units.note == "11 speakers, one of them with 69 % of the words"
    [interval] = rate_intervals(units, 1000, 0.95, seed=1)
    assert interval is not None
    low, high = interval
    assert low < 0.7 * 110 / 160 + 0.2 * 50 / 160 < high
    assert high - low < 0.12
    by_speaker = Units("speaker", np.array([counts[np.array(names) == name].sum(axis=0) for name in set(names)]))
    [useless] = rate_intervals(by_speaker, 1000, 0.95, seed=1)
    assert useless is not None
    assert useless[1] - useless[0] > 0.4


def test_sums_are_of_whole_units_and_the_same_for_every_system() -> None:
    totals = np.array([[1, 100], [1000, 100], [1000000, 100]])
    sums = resampled_sums(totals, 500, seed=3)
    assert (sums[:, 1] == 300).all()
    drawn = {(s % 1000, s // 1000 % 1000, s // 1000000) for s in sums[:, 0].tolist()}
    assert all(sum(counts) == 3 for counts in drawn)
    assert len(drawn) == 10  # every way to draw three of three with replacement
    assert (resampled_sums(totals * 2, 500, seed=3) == sums * 2).all()
    assert (resampled_sums(totals, 500, seed=4) != sums).any()


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = np.arange(20).reshape(10, 2)
    whole = resampled_sums(totals, 100, seed=1)
    monkeypatch.setattr("thaw.scoring.intervals.BLOCK", 37)
    assert (resampled_sums(totals, 100, seed=1) == whole).all()


def test_agrees_with_scipy() -> None:
    random = np.random.default_rng(5)
    reference = random.integers(20, 60, 40)
    errors = random.binomial(reference, random.beta(2, 5, 40))
    units = units_of([f"s{i}" for i in range(40)], np.stack([errors, reference], axis=1), reference)
    (interval,) = rate_intervals(units, 4000, 0.95, seed=1)
    assert interval is not None
    theirs = stats.bootstrap(
        (errors, reference),
        lambda e, r, axis: e.sum(axis=axis) / r.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(9),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert interval[0] == pytest.approx(theirs.low, abs=0.06 * width)
    assert interval[1] == pytest.approx(theirs.high, abs=0.06 * width)


def test_covers_the_truth_where_speakers_differ() -> None:
    """Speakers differ in their error rates: resampling speakers covers near 95 %, resampling utterances does not."""
    random = np.random.default_rng(11)
    speakers, each, words = 30, 10, 8
    names = [f"s{i}" for i in range(speakers) for _ in range(each)]
    covered = {"speaker": 0, "utterance": 0}
    trials = 150
    for trial in range(trials):
        rates = np.repeat(random.beta(2, 6, speakers), each)  # mean 0.25
        errors = random.binomial(words, rates)
        counts = np.stack([errors, np.full_like(errors, words)], axis=1)
        for kind, units in (("speaker", names), ("utterance", [f"u{i}" for i in range(len(names))])):
            (interval,) = rate_intervals(units_of(units, counts, counts[:, 1]), 300, 0.95, seed=trial)
            assert interval is not None
            covered[kind] += interval[0] <= 0.25 <= interval[1]
    assert 0.88 <= covered["speaker"] / trials <= 0.99
    assert covered["utterance"] / trials < 0.8


def test_rates_without_reference_items_are_left_out() -> None:
    rates = ratio(np.array([1, 5]), np.array([2, 0]))
    assert rates[0] == 0.5
    assert np.isnan(rates[1])
    assert percentile_interval(rates, 0.95) == (0.5, 0.5)

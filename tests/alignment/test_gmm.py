from __future__ import annotations

from itertools import pairwise

import numpy as np

from thaw.alignment.acoustic import AcousticModel
from thaw.alignment.gmm import Mixtures, Statistics, accumulate, single, split, update

STATES, DIMENSION = 3, 4


def model(gaussians: int = 7) -> Mixtures:
    draw = np.random.default_rng(5)
    start = single(draw.normal(size=(STATES, DIMENSION)) * 3, np.full((STATES, DIMENSION), 1.5))
    return split(start, [1000.0, 4000.0, 2000.0], gaussians, seed=1)


def frames(count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(6)
    states = draw.integers(0, STATES, count).astype(np.int32)
    heard = draw.normal(size=(count, DIMENSION)) + 3.0 * states[:, None] + 2.0 * draw.integers(0, 2, (count, 1))
    return heard.astype(np.float32), states


def test_likelihoods_are_those_of_kaldis_own_mixtures() -> None:
    mixtures, (heard, _) = model(), frames(20)
    acoustic = AcousticModel(("SIL",), b"", np.zeros(0), mixtures)
    ours = mixtures.log_likelihoods(heard)
    for state in range(STATES):
        theirs = [acoustic.kaldi_mixtures.log_likelihood(state, frame) for frame in heard]
        np.testing.assert_allclose(ours[:, state], theirs, rtol=1e-4)


def test_statistics_are_posteriors_times_frames() -> None:
    mixtures, (heard, states) = model(), frames(50)
    found = accumulate(mixtures, heard, states)
    occupancy, sums, total = np.zeros(mixtures.num_gaussians), np.zeros((mixtures.num_gaussians, DIMENSION)), 0.0
    for frame, state in zip(heard.astype(np.float64), states, strict=True):
        own = slice(mixtures.first[state], mixtures.first[state + 1])
        log = np.log(mixtures.weights[own]) - 0.5 * np.sum(
            np.log(2 * np.pi * mixtures.variances[own]) + (frame - mixtures.means[own]) ** 2 / mixtures.variances[own],
            axis=1,
        )
        likelihood = np.exp(log).sum()
        occupancy[own] += np.exp(log) / likelihood
        sums[own] += (np.exp(log) / likelihood)[:, None] * frame
        total += np.log(likelihood)
    np.testing.assert_allclose(found.occupancy, occupancy, atol=1e-9)
    np.testing.assert_allclose(found.sums, sums, atol=1e-7)
    assert np.isclose(found.log_likelihood, total)
    assert found.frames == 50


def test_each_step_of_em_raises_the_likelihood() -> None:
    mixtures, (heard, states) = model(), frames()
    likelihoods = []
    for _ in range(8):
        statistics = accumulate(mixtures, heard, states)
        likelihoods.append(statistics.log_likelihood)
        mixtures = update(mixtures, statistics)
    assert all(b > a for a, b in pairwise(likelihoods))


def test_a_gaussian_without_frames_goes_but_the_last_of_a_state_stays() -> None:
    mixtures = model()
    statistics = Statistics.zero(mixtures)
    statistics.occupancy[0], statistics.sums[0], statistics.squares[0] = 100.0, 200.0, 500.0
    new = update(mixtures, statistics)
    assert np.diff(new.first).tolist() == [1, 1, 1]
    np.testing.assert_allclose((new.means[0], new.variances[0]), (np.full(DIMENSION, 2.0), np.full(DIMENSION, 1.0)))
    assert new.means[1].tolist() in mixtures.means[mixtures.first[1] : mixtures.first[2]].tolist()
    np.testing.assert_allclose(np.add.reduceat(new.weights, new.first[:-1]), 1.0)


def test_splits_give_what_was_asked_for_and_are_a_function_of_their_seed() -> None:
    one, two, other = model(), model(), split(model(3), [1000.0, 4000.0, 2000.0], 7, seed=2)
    assert one.num_gaussians == 7
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("weights", "means", "variances"))
    assert not np.array_equal(one.means, other.means)
    np.testing.assert_allclose(np.add.reduceat(one.weights, one.first[:-1]), 1.0)
    assert np.diff(one.first)[1] == max(np.diff(one.first))  # the state with most frames
    assert split(one, [30.0, 30.0, 30.0], 100, seed=1).num_gaussians == 7  # too few frames for more

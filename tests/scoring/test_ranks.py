"""Rank correlations: known values, and how often intervals over transfers hold what they say, on simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tests.scoring.simulated_transfers import SEED_NOISE, rhos
from thaw.errors import UserError
from thaw.randomness import rng
from thaw.scoring.ranks import (
    layers_needed,
    partial,
    permutation_p,
    pooled,
    ranks,
    regret,
    reliability,
    rho_interval,
    spearman,
    transfers_needed,
)

LEVEL = 0.95


# --- one transfer ---------------------------------------------------------------------------------


def test_spearman_is_scipys_ties_and_all() -> None:
    random = rng("spearman")
    for _ in range(20):
        a, b = random.integers(0, 6, 9), random.integers(0, 6, 9)
        assert spearman([*map(float, a)], [*map(float, b)]) == pytest.approx(spearmanr(a, b).statistic)
    assert list(ranks([3.0, 1.0, 3.0])) == [2.5, 1.0, 2.5]
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    with pytest.raises(ValueError, match="3 and 2"):
        spearman([1, 2, 3], [1, 2])


def test_partial_correlation_holds_the_third_as_it_is() -> None:
    """Two that share nothing but the third have none left; by the residuals of ranks on its ranks."""
    random = rng("partial")
    third = random.normal(size=400)
    first, second = third + random.normal(size=400), third + random.normal(size=400)
    assert (spearman(first.tolist(), second.tolist()) or 0) > 0.3
    a, b, c = (ranks(one.tolist()) - 200.5 for one in (first, second, third))
    a, b = a - c * (a @ c) / (c @ c), b - c * (b @ c) / (c @ c)
    expected = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert partial(first.tolist(), second.tolist(), third.tolist()) == pytest.approx(expected)
    assert abs(expected) < 0.1
    assert partial([1, 2, 3], [1, 3, 2], [1, 2, 3]) is None


def test_with_five_layers_only_a_perfect_order_is_significant() -> None:
    assert permutation_p([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == pytest.approx(2 / 120)
    assert permutation_p([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) == pytest.approx(10 / 120)  # rho 0.9
    assert permutation_p([1, 2, 3, 4, 5], [2, 2, 2, 2, 2]) is None


def test_with_sixteen_layers_half_is() -> None:
    """p of rho = 0.5 is just at 5 % (t with 14 degrees), and smaller beyond."""
    places = [float(n) for n in range(16)]
    random, found = rng("sixteen"), {}
    while not {0.49, 0.51} <= found.keys():
        other = [float(x) for x in random.permutation(16)]
        rho = spearman(places, other)
        assert rho is not None
        found[round(rho, 2)] = permutation_p(places, other)
    assert (found[0.51] or 1) < 0.05 < (found[0.49] or 0)


def test_the_interval_of_one_rho_is_wide_with_few_layers() -> None:
    low, high = rho_interval(0.7, 5, LEVEL) or (0.0, 0.0)
    assert (low, high) == (pytest.approx(-0.591, abs=0.001), pytest.approx(0.984, abs=0.001))
    assert rho_interval(0.7, 3, LEVEL) is None
    assert (rho_interval(1.0, 8, LEVEL) or (0, 0))[1] <= 1


def test_layers_that_one_correlation_takes() -> None:
    assert layers_needed(0.5) == 33  # (1.96 + 0.84)^2 * 1.125 / 0.549^2 + 3
    assert layers_needed(-0.5) == 33
    assert layers_needed(0.0) is None


# --- noise ----------------------------------------------------------------------------------------


def effects(layers: int, seeds: int, noise: float, place: int) -> NDArray[np.float64]:
    random = rng("effects", place)
    return random.normal(0, 1, (layers, 1)) + random.normal(0, 3, (1, seeds)) + random.normal(0, noise, (layers, seeds))


def test_reliability_is_the_share_of_variance_that_is_no_noise() -> None:
    """Seeds that shift all layers alike are no noise. Truth: 1 / (1 + 0.25) of one seed, 1 / (1 + 0.25 / 4) of four."""
    found = reliability(effects(4000, 4, 0.5, 1))
    assert found is not None
    assert (found.single, found.mean) == (pytest.approx(0.8, abs=0.02), pytest.approx(1 / 1.0625, abs=0.01))
    assert found.ceiling == pytest.approx(math.sqrt(found.mean))
    assert found.seeds_for(0.9) == 3  # 0.9 * 0.2 / (0.8 * 0.1) = 2.25
    assert reliability(effects(4, 1, 0.5, 1)) is None
    nothing = reliability(rng("none").normal(0, 1, (4000, 3)))
    assert nothing is not None
    assert nothing.mean < 0.05
    same = reliability(np.zeros((5, 3)))
    assert same is not None
    assert (same.mean, same.seeds_for(0.9)) == (0.0, None)


# --- transfers ------------------------------------------------------------------------------------


def test_pooled_is_students_t() -> None:
    found = pooled([0.2, 0.6, 0.4, 0.8], LEVEL, (-1, 1))
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.0892, abs=1e-3), pytest.approx(0.9108, abs=1e-3))
    assert found.p == pytest.approx(0.0305, abs=1e-3)
    one = pooled([0.5], LEVEL)
    assert (one.low, one.p, one.needed) == (None, None, None)
    assert pooled([1.0, 1.0], LEVEL, (-1, 1)).p == 0.0
    assert pooled([-0.9, 0.9, 0.8], LEVEL, (-1, 1)).low == -1
    with pytest.raises(UserError, match="no transfers"):
        pooled([], LEVEL)


def test_transfers_that_a_mean_takes() -> None:
    assert transfers_needed(0.5, 0.5) == 10  # as tables of power for a t test at effect size 1 say
    assert transfers_needed(0.25, 0.5) == 34  # effect size 0.5
    assert transfers_needed(0.0, 0.5) is None
    assert transfers_needed(1e-4, 1.0) is None


@pytest.mark.parametrize("relation", [0.0, 0.4, 0.8])
def test_intervals_over_transfers_hold_the_mean_that_many_transfers_have(relation: float) -> None:
    truth = float(np.mean(rhos(rng("truth", str(relation)), 6000, relation)))
    random, held, called = rng("studies", str(relation)), 0, 0
    for _ in range(400):
        found = pooled(rhos(random, 4, relation), LEVEL, (-1, 1))
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        held += found.low <= truth <= found.high
        called += found.p < 0.05
    assert (0.92 if relation < 0.8 else 0.85) <= held / 400 <= 0.98  # strong ones are skewed, docs/layers.md
    assert relation > 0 or called / 400 <= 0.08


def test_noise_makes_correlations_smaller_than_they_are() -> None:
    """With a reliability of 1 / (1 + 0.49 / 2), about its root of the correlation without noise is seen."""
    seen, clean = (float(np.mean(rhos(rng("noise"), 1500, 0.6, layers=40, seeds=seeds))) for seeds in (2, 300))
    assert seen / clean == pytest.approx(math.sqrt(1 / (1 + SEED_NOISE**2 / 2)), abs=0.02)


# --- choices --------------------------------------------------------------------------------------


def test_regret_is_judged_where_the_best_was_not_found() -> None:
    rates = np.array([[0.3, 0.5], [0.4, 0.4], [0.6, 0.6]])
    # Best on seed 2 is set 1: set 2 loses 0.2 on seed 1. Best on seed 1 is set 0: set 2 loses 0.1 on seed 2.
    assert regret(rates, 2) == pytest.approx(0.15)
    assert regret(rates[:, :1], 2) == pytest.approx(0.3)
    random = rng("regret")
    equal = [regret(random.normal(0, 1, (8, 3)), 0) for _ in range(2000)]
    assert abs(float(np.mean(equal))) < 0.08  # no set is better than another, and none looks so

"""Rank correlation of a prediction with what was measured, how far noise lets it come, and how many trials settle it.

One transfer gives one Spearman correlation over its layers. A statement about predictors is one about *transfers*: the
mean over them, with Student's t on their spread, which holds what other transfers and other seeds would have changed,
since each correlation is of its own seeds. Resampling transfers and seeds together was tried beside it and holds less
than it says with so few (docs/layers.md).

Shapes: L layers, K seeds, T transfers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr, stdtrit

from thaw.errors import UserError

Floats = NDArray[np.float64]

POWER = 0.8
SIGNIFICANT = 0.05
MOST_EXACT = 8  # layers whose orders are all gone through: 40,320
MOST_TRIALS = 100_000


# --- one transfer ---------------------------------------------------------------------------------


def ranks(values: Sequence[float]) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs."""
    given = np.asarray(values, dtype=np.float64)
    below = (given[:, None] > given[None, :]).sum(axis=1)
    equal = (given[:, None] == given[None, :]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation (1904), ties sharing ranks; None where one side has a single value throughout."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values")
    a, b = ranks(first) - (len(first) + 1) / 2, ranks(second) - (len(second) + 1) / 2
    norm = float(a @ a) * float(b @ b)
    return max(-1.0, min(1.0, float(a @ b) / math.sqrt(norm))) if norm > 0 else None


def partial(first: Sequence[float], second: Sequence[float], given: Sequence[float]) -> float | None:
    """Spearman's correlation of two with the ranks of a third held as they are (Kendall & Stuart, partial correlation).

    None where the third says all of one of them.
    """
    rho, one, other = spearman(first, second), spearman(first, given), spearman(second, given)
    if rho is None or one is None or other is None:
        return None
    rest = (1 - one * one) * (1 - other * other)
    return max(-1.0, min(1.0, (rho - one * other) / math.sqrt(rest))) if rest > 1e-9 else None


def permutation_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p of no relation: the share of all orders of the layers whose |rho| is as large.

    All orders up to MOST_EXACT layers, beyond them Student's t with L - 2 degrees (Kendall & Stuart). None without rho.
    """
    rho = spearman(first, second)
    if rho is None or len(first) < 3:
        return None
    n = len(first)
    if n > MOST_EXACT:
        return 2 * float(stdtr(n - 2, -abs(rho) * math.sqrt((n - 2) / max(1 - rho * rho, 1e-12))))
    a, b = ranks(first) - (n + 1) / 2, ranks(second) - (n + 1) / 2
    orders = np.array(list(permutations(range(n))))
    found = b[orders] @ a
    return float((np.abs(found) >= abs(float(a @ b)) - 1e-9).mean())


def rho_interval(rho: float, layers: int, level: float) -> tuple[float, float] | None:
    """Interval of one rho, as if other layers had been drawn: Fisher's z with the error of Bonett & Wright (2000).

    None with fewer than four layers.
    """
    if layers < 4:
        return None
    reach = float(ndtri((1 + level) / 2)) * math.sqrt((1 + rho * rho / 2) / (layers - 3))
    z = math.atanh(max(-0.999999, min(0.999999, rho)))
    return math.tanh(z - reach), math.tanh(z + reach)


def layers_needed(rho: float) -> int | None:
    """How many layers show one correlation of this size at 5 % in four of five trials; None for none."""
    if abs(rho) < 1e-6:
        return None
    size = math.atanh(min(abs(rho), 0.999999))
    reach = float(ndtri(1 - SIGNIFICANT / 2) + ndtri(POWER))
    return math.ceil(3 + (1 + rho * rho / 2) * (reach / size) ** 2)


# --- noise of what was measured -------------------------------------------------------------------


@dataclass(frozen=True)
class Reliability:
    """The share of the variance of layers' effects that is no noise: of one seed, and of the mean over all."""

    single: float
    mean: float
    seeds: int

    @property
    def ceiling(self) -> float:
        """The largest correlation that a perfect prediction could be expected to show (Spearman 1904)."""
        return math.sqrt(self.mean)

    def seeds_for(self, wanted: float) -> int | None:
        """Seeds whose mean is so reliable (Spearman-Brown); None where nothing of one seed is, or more than 1,000."""
        if self.single >= 1:
            return 1
        if self.single <= 0:
            return None
        needed = math.ceil(wanted * (1 - self.single) / (self.single * (1 - wanted)))
        return max(1, needed) if needed <= 1000 else None


def reliability(effects: Floats) -> Reliability | None:
    """Of effects (L, K): intraclass correlation of consistency, two-way (McGraw & Wong 1996, ICC(C,1) and ICC(C,k)).

    What a seed changes in all layers alike is no noise of their order. None without two layers and two seeds.
    """
    layers, seeds = effects.shape
    if layers < 2 or seeds < 2:
        return None
    by_layer, by_seed, whole = effects.mean(axis=1), effects.mean(axis=0), effects.mean()
    rest = effects - by_layer[:, None] - by_seed[None, :] + whole
    noise = float((rest**2).sum()) / ((layers - 1) * (seeds - 1))
    between = seeds * float(((by_layer - whole) ** 2).sum()) / (layers - 1)
    if between <= 0:
        return Reliability(0.0, 0.0, seeds)
    single = (between - noise) / (between + (seeds - 1) * noise)
    return Reliability(max(0.0, single), max(0.0, (between - noise) / between), seeds)


# --- all transfers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pooled:
    """A mean over transfers. One transfer says nothing of others: then there is no interval, no p and no `needed`."""

    mean: float
    low: float | None
    high: float | None
    p: float | None  # two-sided, of a mean of 0
    sd: float | None  # over transfers
    transfers: int
    needed: int | None  # transfers that show a mean of this size at 5 % in four of five studies


def pooled(values: Sequence[float], level: float, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Pooled:
    """The mean of one number for each transfer, with Student's t over transfers; the interval is cut at `bounds`."""
    if not values:
        raise UserError("no transfers to take a mean of")
    mean, count = fmean(values), len(values)
    if count < 2:
        return Pooled(mean, None, None, None, None, count, None)
    sd = stdev(values)
    error = sd / math.sqrt(count)
    reach = float(stdtrit(count - 1, (1 + level) / 2)) * error
    p = 2 * float(stdtr(count - 1, -abs(mean) / error)) if error > 0 else (0.0 if mean else 1.0)
    low, high = max(bounds[0], mean - reach), min(bounds[1], mean + reach)
    return Pooled(mean, low, high, p, sd, count, transfers_needed(mean, sd))


def transfers_needed(mean: float, sd: float) -> int | None:
    """The fewest transfers T with (t_0.975 + t_0.8) sd / sqrt(T) <= |mean|, T - 1 degrees (Cohen 1988, chapter 2).

    None for a mean of 0, and where it takes more than MOST_TRIALS.
    """
    if abs(mean) < 1e-9:
        return None
    low, high = 2, MOST_TRIALS
    if not _shows(high, mean, sd):
        return None
    while low < high:  # what T transfers show, more do
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(middle, mean, sd) else (middle + 1, high)
    return low


def _shows(count: int, mean: float, sd: float) -> bool:
    reach = float(stdtrit(count - 1, 1 - SIGNIFICANT / 2) + stdtrit(count - 1, POWER))
    return reach * sd / math.sqrt(count) <= abs(mean)


# --- choices --------------------------------------------------------------------------------------


def regret(rates: Floats, chosen: int) -> float:
    """How much worse one set is than the best of all that were tried, rates (sets, K): a fraction.

    The best is found on all seeds but one and both are judged on that one, in turn: the best of noisy trials looks
    better than it is. With one seed there is nothing to judge on, and it does.
    """
    seeds = rates.shape[1]
    if seeds == 1:
        return float(rates[chosen, 0] - rates[:, 0].min())
    lost = []
    for seed in range(seeds):
        others = np.delete(rates, seed, axis=1).mean(axis=1)
        lost.append(float(rates[chosen, seed] - rates[int(others.argmin()), seed]))
    return fmean(lost)

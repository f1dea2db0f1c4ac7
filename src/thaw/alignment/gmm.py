"""Mixtures of Gaussians with diagonal covariance, one for each tied state: likelihoods, EM, splitting.

Kaldi's wheel has all this too, but seeds its splits from the system's random device. Here a model is four arrays: the
same data give the same bytes, and statistics of parts of the data can be added.

S states, G Gaussians of all states, D dimensions, N frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from thaw.randomness import rng

VARIANCE_FLOOR = 0.01
MIN_OCCUPANCY = 10.0  # frames of a Gaussian that is estimated anew; below, it goes
MIN_FRAMES_TO_SPLIT = 20.0  # of a Gaussian, on average
OCCUPANCY_POWER = 0.2  # a state's share of the Gaussians goes with its frames to this power, as in Kaldi's recipes
PERTURBATION = 0.01  # standard deviations that the halves of a split Gaussian are moved by, times a normal draw
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Mixtures:
    """The Gaussians of all states; those of state s are rows first[s] … first[s + 1] - 1."""

    first: Ints  # (S + 1,)
    weights: Floats  # (G,); those of a state add up to 1
    means: Floats  # (G, D)
    variances: Floats  # (G, D)

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.first) - 1

    @property
    def num_gaussians(self) -> int:
        """G."""
        return len(self.weights)

    @cached_property
    def _terms(self) -> tuple[Floats, Floats]:
        """Of log N(x) as a linear function of (x, x²): constants (G,) and factors (2D, G)."""
        precise = 1.0 / self.variances
        constant = np.log(self.weights) - 0.5 * np.sum(
            np.log(2 * np.pi * self.variances) + self.means**2 * precise, axis=1
        )
        return constant, np.concatenate([self.means * precise, -0.5 * precise], axis=1).T.copy()

    def components(self, wide: Floats, state: int) -> Floats:
        """Log weight + log density (N, Gaussians of the state) of frames given as (x, x²), (N, 2D)."""
        constant, factors = self._terms
        own = slice(self.first[state], self.first[state + 1])
        return wide @ factors[:, own] + constant[own]

    def log_likelihoods(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, S): log likelihood of each frame (N, D) in each state."""
        constant, factors = self._terms
        each = widened(frames) @ factors + constant
        top = np.maximum.reduceat(each, self.first[:-1], axis=1)
        each -= np.repeat(top, np.diff(self.first), axis=1)
        np.exp(each, out=each)
        return (np.log(np.add.reduceat(each, self.first[:-1], axis=1)) + top).astype(np.float32)


def widened(frames: NDArray[np.float32]) -> Floats:
    """(N, 2D): frames (N, D) and their squares."""
    wide = frames.astype(np.float64)
    return np.concatenate([wide, wide**2], axis=1)


def single(means: Floats, variances: Floats) -> Mixtures:
    """One Gaussian for each state: means and variances (S, D)."""
    states = len(means)
    return Mixtures(np.arange(states + 1), np.ones(states), means, np.maximum(variances, VARIANCE_FLOOR))


@dataclass
class Statistics:
    """What EM needs of some frames, and how likely they were."""

    occupancy: Floats  # (G,)
    sums: Floats  # (G, D)
    squares: Floats  # (G, D)
    log_likelihood: float = 0.0
    frames: int = 0

    @staticmethod
    def zero(model: Mixtures) -> Statistics:
        """Of no frames."""
        shape = model.means.shape
        return Statistics(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def add(self, other: Statistics) -> None:
        """Those of both."""
        self.occupancy += other.occupancy
        self.sums += other.sums
        self.squares += other.squares
        self.log_likelihood += other.log_likelihood
        self.frames += other.frames


def accumulate(model: Mixtures, frames: NDArray[np.float32], states: NDArray[np.int32]) -> Statistics:
    """Statistics of frames (N, D) whose states (N,) are known."""
    found = Statistics.zero(model)
    dimension = frames.shape[1]
    order = np.argsort(states, kind="stable")
    wide = widened(frames[order])
    present, begins = np.unique(states[order], return_index=True)
    for state, begin, end in zip(present, begins, [*begins[1:], len(states)], strict=True):
        here = wide[begin:end]
        each = model.components(here, int(state))
        top = each.max(axis=1, keepdims=True)
        np.exp(each - top, out=each)
        total = each.sum(axis=1, keepdims=True)
        each /= total
        own = slice(model.first[state], model.first[state + 1])
        moments = each.T @ here
        found.occupancy[own] = each.sum(axis=0)
        found.sums[own], found.squares[own] = moments[:, :dimension], moments[:, dimension:]
        found.log_likelihood += float(np.sum(np.log(total) + top))
    found.frames = len(states)
    return found


def update(model: Mixtures, stats: Statistics) -> Mixtures:
    """The M step. A Gaussian with too few frames goes; the last one of a state stays, as it is."""
    occupancy = stats.occupancy
    by_state = np.add.reduceat(occupancy, model.first[:-1])
    safe = np.maximum(occupancy, 1e-10)[:, None]
    means = stats.sums / safe
    variances = np.maximum(stats.squares / safe - means**2, VARIANCE_FLOOR)
    kept = occupancy >= MIN_OCCUPANCY
    heard = kept.copy()
    for state in np.flatnonzero(np.add.reduceat(kept, model.first[:-1]) == 0):
        own = slice(model.first[state], model.first[state + 1])
        kept[model.first[state] + int(np.argmax(occupancy[own]))] = True
    means[~heard], variances[~heard] = model.means[~heard], model.variances[~heard]
    weights = np.where(heard, occupancy / np.maximum(np.repeat(by_state, np.diff(model.first)), 1e-10), 1e-5)
    counts = np.add.reduceat(kept.astype(np.int64), model.first[:-1])
    first = np.concatenate([[0], np.cumsum(counts)])
    weights = weights[kept]
    weights /= np.repeat(np.add.reduceat(weights, first[:-1]), counts)
    return Mixtures(first, weights, means[kept], variances[kept])


def split(model: Mixtures, occupancy: Sequence[float] | Floats, target: int, seed: int) -> Mixtures:
    """As many Gaussians as `target`, shared out by the frames of each state (S,); never fewer than there are.

    The heaviest Gaussian of a state is split again and again: halves of its weight, moved apart by a draw that is a
    function of (seed, state, how many there are).
    """
    counts = _shares(np.diff(model.first), np.asarray(occupancy, np.float64), target)
    weights, means, variances = [], [], []
    for state, count in enumerate(counts):
        own = slice(model.first[state], model.first[state + 1])
        w, m, v = list(model.weights[own]), list(model.means[own]), list(model.variances[own])
        while len(w) < count:
            heavy = int(np.argmax(w))
            step = PERTURBATION * np.sqrt(v[heavy]) * rng(seed, "split", state, len(w)).normal(size=len(m[heavy]))
            w[heavy] /= 2
            w.append(w[heavy])
            m.append(m[heavy] - step)
            m[heavy] = m[heavy] + step
            v.append(v[heavy])
        weights += w
        means += m
        variances += v
    return Mixtures(np.concatenate([[0], np.cumsum(counts)]), np.array(weights), np.array(means), np.array(variances))


def _shares(now: Ints, occupancy: Floats, target: int) -> Ints:
    """How many Gaussians each state gets: one more, again and again, where occupancy^power per Gaussian is highest."""
    counts = now.copy()
    wish = np.maximum(occupancy, 1e-10) ** OCCUPANCY_POWER
    most = np.maximum(counts, (occupancy / MIN_FRAMES_TO_SPLIT).astype(np.int64))
    need = np.where(counts < most, wish / counts, -np.inf)
    for _ in range(target - int(counts.sum())):
        state = int(np.argmax(need))
        if need[state] == -np.inf:
            break
        counts[state] += 1
        need[state] = wish[state] / counts[state] if counts[state] < most[state] else -np.inf
    return counts

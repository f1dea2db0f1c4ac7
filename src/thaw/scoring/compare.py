"""Is one system better than another on the same utterances? Paired interval, permutation test, Holm's correction.

Both tests work on speakers (or utterances, see `thaw.scoring.intervals`), since utterances of one speaker go together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.randomness import rng
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.intervals import Unit
from thaw.scoring.intervals import units_of as new_units_of
from thaw.scoring.measures import AnyCounts


@dataclass(frozen=True)
class Comparison:
    """`difference` = rate of the second system minus the first's, a fraction; below zero, the second is better."""

    difference: float
    low: float | None  # bootstrap interval of the difference; None where there are not two units
    high: float | None
    p: float  # two-sided
    unit: Unit
    note: str = ""  # why the units are not speakers, where they are not


def compare(
    first: Sequence[UtteranceCounts],
    second: Sequence[UtteranceCounts],
    spec: ScoringSpec,
    level: Literal["word", "char"] = "word",
) -> Comparison:
    """Compare two systems' counts of the same utterances (any order); UserError where they are not the same."""
    pairs = _paired(first, second, level)
    errors = [(a.errors, b.errors, a.total) for _, a, b in pairs]
    words = np.array([c.counts["word"].total for c in first], dtype=np.int64)
    units = units_of([speaker for speaker, _, _ in pairs], np.array(errors, dtype=np.int64), words)
    total = units.totals.sum(axis=0)
    if total[2] == 0:
        raise UserError("nothing to compare: the references are empty")
    low: float | None = None
    high: float | None = None
    if units.kind != "none":
        sums = resampled_sums(units.totals, spec.bootstrap, spec.seed)
        low, high = percentile_interval(ratio(sums[:, 1] - sums[:, 0], sums[:, 2]), spec.level)
    differences = units.totals[:, 1] - units.totals[:, 0]
    change = float((total[1] - total[0]) / total[2])
    return Comparison(change, low, high, sign_flip_p(differences), units.kind, units.note)


def _paired(
    first: Sequence[UtteranceCounts], second: Sequence[UtteranceCounts], level: str
) -> list[tuple[str, AnyCounts, AnyCounts]]:
    other = {c.id: c for c in second}
    if len(first) != len(second) or {c.id for c in first} != other.keys():
        raise UserError("the two systems were not scored on the same utterances")
    pairs = [(c.speaker, c.counts[level], other[c.id].counts[level]) for c in first]
    if any(a.total != b.total for _, a, b in pairs):
        raise UserError("the two systems were not scored against the same references")
    return pairs


def sign_flip_p(differences: NDArray[np.int64]) -> float:
    """Two-sided p of the paired permutation test: how often |sum of ± differences| reaches |their sum|.

    Swapping the two systems for one unit flips the sign of its difference. All 2^S sign patterns are counted, without
    listing them: differences are whole numbers, so the distribution of their signed sum is a convolution.
    """
    sizes = np.abs(differences[differences != 0])
    total = int(sizes.sum())
    # Probability that the units with a plus sign sum to 0…total; the signed sum is twice that minus the total.
    plus = np.zeros(total + 1)
    plus[0] = 1.0
    reach = 0
    for size in sizes.tolist():
        shifted = plus[: reach + 1] * 0.5
        plus[: reach + 1] = shifted
        reach += size
        plus[size : reach + 1] += shifted
    signed = 2 * np.arange(total + 1) - total
    p = float(plus[np.abs(signed) >= abs(int(differences.sum()))].sum())
    return min(1.0, max(p, sys.float_info.min))  # beyond a thousand units, 2^-S may round to 0, which no p is


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values of one family of tests, in the order given (Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


Counts = NDArray[Any]
BLOCK = 1 << 21  # draws held in memory at once


@dataclass(frozen=True)
class Units:
    kind: Unit
    totals: Counts
    note: str = ""


def units_of(speakers: Sequence[str], counts: Counts, words: Counts) -> Units:
    units = new_units_of(speakers, words)
    sums = [units.sums(column) for column in counts.T]
    return Units(units.kind, np.stack(sums, axis=1).astype(np.int64), units.note)


def resampled_sums(totals: Counts, resamples: int, seed: int) -> Counts:
    """Sums (R, K) of the units drawn with replacement from (S, K).

    The draws depend on (seed, S) alone, so systems scored on the same speakers share them.
    """
    size = len(totals)
    random = rng(seed, "bootstrap")
    sums = np.empty((resamples, totals.shape[1]), dtype=np.int64)
    rows = max(1, BLOCK // size)
    for start in range(0, resamples, rows):
        drawn = random.integers(size, size=(min(rows, resamples - start), size))
        for column in range(totals.shape[1]):
            sums[start : start + len(drawn), column] = totals[drawn, column].sum(axis=1)
    return sums


def percentile_interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The central `level` of `values`, NaNs (resamples without a reference item) left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio(errors: Counts, reference: Counts) -> NDArray[np.float64]:
    """errors / reference items, NaN where there are none."""
    safe = np.where(reference > 0, reference, 1)
    return np.where(reference > 0, errors / safe, np.nan)

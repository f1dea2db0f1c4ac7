"""Error rates with bootstrap intervals over speakers, or over utterances where there are too few speakers to draw from.

A rate is a micro average: all errors over all reference items, not capped at 1. Utterances of one speaker are not
independent, so whole speakers are drawn with replacement (blockwise bootstrap: Liu & Peng, arXiv 1912.09508; for
utterances, Bisani & Ney, ICASSP 2004). The interval is the plain percentile one.

With few speakers, or one who says most of the words, resamples of speakers show no more than how often that one was
drawn. Speakers of unequal weight are worth (sum of words)² / (sum of squared words) equal ones (Kish, Survey Sampling,
1965). Where that is four or less, utterances are drawn instead: the interval is then for other utterances of the same
speakers, not for other speakers, and `Units.note` says why. It is always so below five speakers, and where one has half
of the words. A change of this rule raises `SCORE_VERSION` in thaw/planning/plan.py.

Shapes: U utterances, S speakers (or utterances, where they are the units), K columns of counts, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thaw.randomness import rng

Unit = Literal["speaker", "utterance", "none"]
Counts = NDArray[Any]  # whole numbers, or sums of nats

BLOCK = 1 << 21  # draws held in memory at once
TOO_FEW = 4  # equal speakers
ONE_SPEAKER = "one speaker"


@dataclass(frozen=True)
class Units:
    """What is resampled: `totals` (S, K) are the summed counts of each unit. A `note` is short: "one speaker"."""

    kind: Unit
    totals: Counts
    note: str = ""  # why the units are not speakers, where they are not


def units_of(speakers: Sequence[str], counts: Counts, words: Counts) -> Units:
    """What to resample of utterance counts (U, K): speakers, or utterances, or nothing where there is but one.

    `words` (U,) are reference words: what speakers weigh, whatever is counted, so that words and characters are
    resampled alike.
    """
    names, place = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    weights = np.zeros(len(names), dtype=words.dtype)
    np.add.at(weights, place, words)
    if weights.sum() ** 2 > TOO_FEW * (weights**2).sum():
        totals = np.zeros((len(names), counts.shape[1]), dtype=counts.dtype)
        np.add.at(totals, place, counts)
        return Units("speaker", totals)
    if len(counts) >= 2:
        return Units("utterance", counts, _why_not_speakers(weights))
    return Units("none", counts, "one utterance")


def _why_not_speakers(weights: Counts) -> str:
    if len(weights) == 1:
        return ONE_SPEAKER
    if len(weights) <= TOO_FEW:
        return f"{len(weights)} speakers"
    return f"{len(weights)} speakers, one of them with {100 * weights.max() / max(weights.sum(), 1):.0f} % of the words"


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


def spread_factors(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(U,) what squared residuals of units of such totals are multiplied by, so that their sum has no bias.

    With p = totals / their sum, a residual of units that vary alike has 1 − 2p + sum(p²) of their variance.
    """
    shares = totals / totals.sum()
    return np.asarray(1 / np.maximum(1 - 2 * shares + (shares**2).sum(), 1e-12))


def degrees_of(totals: NDArray[np.float64]) -> float:
    """Degrees of freedom of the variance over units of such totals; S − 1 for S equal ones.

    tr(A)² / tr(A²), where A is the quadratic form of units that vary alike (Bell & McCaffrey 2002).
    """
    shares = totals / totals.sum()
    factors = shares**2 * spread_factors(totals)
    total, pp, pf, ff = factors.sum(), shares @ shares, shares @ factors, factors @ factors
    diagonal = ff + 2 * (total * (factors @ shares**2) - 2 * (factors**2 @ shares))
    low_rank = 2 * (pf**2 + pp * ff) - 4 * total * pp * pf + (total * pp) ** 2
    return float(pp**2 / max(diagonal + low_rank, 1e-300))


def percentile_interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The central `level` of `values`, NaNs (resamples without a reference item) left out."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio(errors: Counts, reference: Counts) -> NDArray[np.float64]:
    """errors / reference items, NaN where there are none."""
    safe = np.where(reference > 0, reference, 1)
    return np.where(reference > 0, errors / safe, np.nan)


def rate_intervals(units: Units, resamples: int, level: float, seed: int) -> list[tuple[float, float] | None]:
    """An interval for each pair of columns (errors, reference items) of `units.totals`; None where nothing is drawn.

    All pairs are drawn together: one resample is one set of speakers for words and for characters.
    """
    pairs = range(0, units.totals.shape[1], 2)
    if units.kind == "none":
        return [None for _ in pairs]
    sums = resampled_sums(units.totals, resamples, seed)
    return [percentile_interval(ratio(sums[:, column], sums[:, column + 1]), level) for column in pairs]

"""What is independent in a test set, and the variance and interval of a rate over it.

A rate is a micro average: all errors over all reference items, not capped at 1. Utterances of one speaker are not
independent, so speakers are the units (Liu & Peng, arXiv 1912.09508). They have unequal numbers of words; the variance
of the ratio is the bias-reduced linearisation (CR2) with its degrees of freedom (Bell & McCaffrey, Survey Methodology
28, 2002), under the working model that the rates of all speakers vary alike.

With fewer than four speakers, or one who says most of the words, what other speakers would do cannot be told.
Utterances are then the units: the interval is for other utterances of the same speakers, not for other speakers, and
`Units.note` says why. A change of this rule raises `SCORE_VERSION` in thaw/planning/artifacts.py.

Shapes: U utterances, S speakers (or utterances, where they are the units).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["speaker", "utterance", "none"]
Floats = NDArray[np.float64]

FEWEST_SPEAKERS = 4
FEWEST_DEGREES = 1.5  # of freedom; one of four speakers with half of the words has 1.4
ONE_SPEAKER = "one speaker"


@dataclass(frozen=True)
class Units:
    """What is independent in a test set. A `note` is short: "one speaker"."""

    kind: Unit
    place: NDArray[np.int64]  # (U,) the unit of each utterance
    note: str = ""  # why the units are not speakers, where they are not

    def sums(self, counts: Floats) -> Floats:
        """(S,) the counts (U,) of each unit."""
        return _summed(self.place, counts)


def units_of(speakers: Sequence[str], words: Floats) -> Units:
    """The units of a test set: speakers, or utterances, or nothing where there is but one.

    `words` (U,) are what utterances weigh, whatever is counted, so that words and characters have the same units.
    """
    names, place = np.unique(np.asarray(speakers, dtype=str), return_inverse=True)
    weights = _summed(place, words)
    if len(names) >= FEWEST_SPEAKERS and weights.sum() and degrees_of(weights) >= FEWEST_DEGREES:
        return Units("speaker", place)
    each = np.arange(len(words))
    if len(words) >= 2:
        return Units("utterance", each, _why_not_speakers(weights))
    return Units("none", each, "one utterance")


def _summed(place: NDArray[np.int64], counts: Floats) -> Floats:
    return np.asarray(np.bincount(place, weights=counts), dtype=np.float64)


def _why_not_speakers(weights: Floats) -> str:
    if len(weights) == 1:
        return ONE_SPEAKER
    if len(weights) < FEWEST_SPEAKERS:
        return f"{len(weights)} speakers"
    return f"{len(weights)} speakers, one of them with {100 * weights.max() / max(weights.sum(), 1):.0f} % of the words"


def spread_factors(totals: Floats) -> Floats:
    """(U,) what squared residuals of units of such totals are multiplied by, so that their sum has no bias.

    With p = totals / their sum, a residual of units that vary alike has 1 − 2p + sum(p²) of their variance.
    """
    shares = totals / totals.sum()
    return np.asarray(1 / np.maximum(1 - 2 * shares + (shares**2).sum(), 1e-12))


def degrees_of(totals: Floats) -> float:
    """Degrees of freedom of the variance over units of such totals; S − 1 for S equal ones.

    tr(A)² / tr(A²), where A is the quadratic form of units that vary alike (Bell & McCaffrey 2002).
    """
    shares = totals / totals.sum()
    factors = shares**2 * spread_factors(totals)
    total, pp, pf, ff = factors.sum(), shares @ shares, shares @ factors, factors @ factors
    diagonal = ff + 2 * (total * (factors @ shares**2) - 2 * (factors**2 @ shares))
    low_rank = 2 * (pf**2 + pp * ff) - 4 * total * pp * pf + (total * pp) ** 2
    return float(pp**2 / max(diagonal + low_rank, 1e-300))


def unit_variance(errors: Floats, totals: Floats) -> float:
    """Variance of sum(errors) / sum(totals) over units (U,), had others been drawn."""
    size = totals.sum()
    residuals = (errors - errors.sum() / size * totals) / size
    return float((residuals**2 * spread_factors(totals)).sum())


def rate_interval(rate: float, reach: float, least: float, capped: bool) -> tuple[float, float]:
    """The interval that reaches `reach` to both sides of a rate, bent at the bounds that a rate has.

    A rate is never below 0, and close to 0 its noise is skewed: the interval is symmetric in √rate. Where no unit has
    more errors than items (`capped`), 1 is such a bound, too: it is symmetric in arcsin √rate. `least` is the rate of
    one error, from which on a rate is too close to its bound to tell.
    """
    if capped:
        least = min(least, 0.5)
        middle = min(max(rate, least), 1 - least)
        angle, turn = math.asin(math.sqrt(middle)), reach / 2 / math.sqrt(middle * (1 - middle))
        low, high = math.sin(max(0.0, angle - turn)) ** 2, math.sin(min(math.pi / 2, angle + turn)) ** 2
    else:
        root = math.sqrt(max(rate, least))
        low, high = max(0.0, root - reach / 2 / root) ** 2, (root + reach / 2 / root) ** 2
    return min(low, rate), max(high, rate)

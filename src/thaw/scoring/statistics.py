"""What a table may say of a treatment: a rate, an interval, a difference and its p value.

One training is one draw. Another random seed would have given other weights, other speakers another test set, and a
cell speaks of a *treatment*: its interval holds both. Let e(k, u) be the errors of seed k on unit u (a speaker; an
utterance where speakers are too few, see `thaw.scoring.intervals`) and R(k) the rate of seed k. Three variances of the
mean over K seeds are estimated:

- V_units, from the units' means over seeds: what other speakers would have changed.
- V_seeds = s² / K, where s is the standard deviation of R(k): what other seeds would have changed. Few treatments have
  seeds enough to know their own s, so it is pooled over the treatments of a study (`seed_noise`); see `_seed_variance`.
- V_both, what is in either of them: the part of a seed's rate that comes from single units alone.

Their sum V_units + V_seeds − V_both is that of the two-way analysis of variance with both factors random, known in
radiology as readers × cases (Obuchowski & Rockette 1995; Hillis, Stat. Med. 26, 2007). It is not let fall below half of
the larger of V_units and V_seeds (few seeds and few speakers estimate all three badly), nor below that of one error.
Student's t with Satterthwaite's degrees makes the interval. A difference is the same of e₂(k, u) − e₁(k, u): units are
paired, seeds are not. bench/coverage.py shows how often this is right, and tests/scoring holds it.

Where no treatment has two seeds, `SeedNoise.degrees` is 0: the interval then holds other speakers alone, its scope is
"these trained models", and there is no p value. What all seeds share (the source run, the training corpus) is held as
it is.

Shapes: K seeds, U units.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, stdtr, stdtrit

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.intervals import Unit, Units, degrees_of, rate_interval, unit_variance, units_of
from thaw.scoring.measures import MEASURES

Scope = Literal["treatment", "these trained models"]
Floats = NDArray[np.float64]

POWER = 0.8  # with which `Comparison.smallest` would have been shown
SIGNIFICANT = 0.05
ENOUGH_SEEDS = 4  # from here on a treatment's seed noise is its own
LOUDER = 0.1  # level of the test whether a treatment of fewer seeds is noisier than the pool


@dataclass(frozen=True, eq=False)
class Sample:
    """One run, decoded once: the counts of every test utterance. No two of a treatment have the same seed.

    Where speakers are tested in folds, the counts are the union over folds, each utterance decoded by the training that
    had not heard its speaker, and all those trainings have one random seed. The seed noise is then that of the whole
    union: what other seeds for all the folds would have changed.
    """

    seed: int
    counts: tuple[UtteranceCounts, ...]

    @cached_property
    def by_id(self) -> list[UtteranceCounts]:
        """The counts, sorted by utterance."""
        return sorted(self.counts, key=lambda c: c.id)

    @cached_property
    def ids(self) -> list[str]:
        """Of the utterances, sorted."""
        return [c.id for c in self.by_id]

    @cached_property
    def speakers(self) -> list[str]:
        """Of the utterances, in the order of ids."""
        return [c.speaker for c in self.by_id]

    @cached_property
    def _columns(self) -> dict[str, Floats]:
        return {}

    def column(self, measure: str) -> Floats:
        """(U, 2) errors and totals of one measure, in the order of ids; UserError where it was not counted."""
        if measure not in self._columns:
            try:
                rows = [(c.counts[measure].errors, c.counts[measure].total) for c in self.by_id]
            except KeyError as error:
                raise UserError(f"no counts of {measure!r} here; there are {sorted(self.counts[0].counts)}") from error
            self._columns[measure] = np.array(rows, dtype=np.float64).reshape(-1, 2)
        return self._columns[measure]

    @cached_property
    def units(self) -> Units:
        """What is independent in it. Utterances weigh what the first measure counts, whatever is measured."""
        return units_of(self.speakers, self.column(next(iter(self.counts[0].counts)))[:, 1])


@dataclass(frozen=True)
class SeedNoise:
    """How far trainings of one treatment that differ in nothing but their seed differ in their rate."""

    sd: float  # of one training's rate, a fraction
    degrees: int  # of freedom; 0: no treatment has two seeds, and nothing is known
    within: float = 0.0  # the part of `sd` that the noise of single units explains


UNKNOWN = SeedNoise(0.0, 0)


@dataclass(frozen=True)
class Estimate:
    """The rate of a treatment. Fractions; `low` and `high` are None where there are not two units."""

    rate: float
    low: float | None
    high: float | None
    sd_seeds: float | None  # standard deviation over this treatment's own seeds; None for one
    seeds: int
    speakers: int
    unit: Unit
    note: str  # why the units are not speakers, where they are not
    scope: Scope
    error: float = 0.0  # standard error
    degrees: float = 0.0  # of freedom


@dataclass(frozen=True)
class Comparison:
    """`difference` = rate of the second treatment minus the first's, a fraction; below zero, the second is better."""

    difference: float
    low: float | None
    high: float | None
    p: float | None  # two-sided, not corrected; None in the scope of these trained models
    smallest: float | None  # difference that would have been shown at 5 % in 80 % of such studies
    scope: Scope
    unit: Unit
    note: str
    error: float = 0.0
    degrees: float = 0.0

    def smallest_of(self, tests: int) -> float | None:
        """`smallest` for the first step of a Holm family of so many tests: level 5 % / tests."""
        return None if self.p is None else detectable(self.error, self.degrees, SIGNIFICANT / tests)


def seed_noise(groups: Iterable[Sequence[Sample]], measure: str) -> SeedNoise:
    """The noise of seeds, pooled over groups of samples: a group is one treatment.

    All groups are on one test set with one decoder, and those that are then estimated or compared are among them.
    """
    between = within = 0.0
    degrees = 0
    for group in groups:
        if len(group) > 1:
            table = _Table.of(group, measure)
            more = len(group) - 1
            between += more * table.variance_of_seeds
            within += more * table.variance_within_seeds
            degrees += more
    if degrees == 0:
        return UNKNOWN
    return SeedNoise(math.sqrt(between / degrees), degrees, math.sqrt(within / degrees))


def estimate(samples: Sequence[Sample], measure: str, spec: ScoringSpec, noise: SeedNoise) -> Estimate:
    """The mean rate over the seeds of one treatment, and where another seed and other speakers would have put it."""
    table = _Table.of(samples, measure)
    error, degrees = _combined(table.mean, table.totals, noise, [table])
    low: float | None = None
    high: float | None = None
    if table.unit != "none":
        reach = quantile((1 + spec.level) / 2, degrees) * error
        low, high = rate_interval(table.rate, reach, 1 / table.size, table.capped)
    return Estimate(
        rate=table.rate,
        low=low,
        high=high,
        sd_seeds=math.sqrt(table.variance_of_seeds) if table.seeds > 1 else None,
        seeds=table.seeds,
        speakers=table.speakers,
        unit=table.unit,
        note=table.note,
        scope=_scope(noise),
        error=error,
        degrees=degrees,
    )


def difference(
    first: Sequence[Sample], second: Sequence[Sample], measure: str, spec: ScoringSpec, noise: SeedNoise
) -> Comparison:
    """Compare two treatments on the same utterances; UserError where they are not the same."""
    one, two = _Table.of(first, measure), _Table.of(second, measure)
    if first[0].ids != second[0].ids:
        raise UserError("the two systems were not scored on the same utterances")
    if not np.array_equal(one.totals, two.totals):
        raise UserError("the two systems were not scored against the same references")
    change = two.rate - one.rate
    error, degrees = _combined(two.mean - one.mean, one.totals, noise, [one, two])
    reach = quantile((1 + spec.level) / 2, degrees) * error
    known = one.unit != "none"
    tested = known and noise.degrees > 0
    return Comparison(
        difference=change,
        low=change - reach if known else None,
        high=change + reach if known else None,
        p=two_sided(change / error, degrees) if tested else None,
        smallest=detectable(error, degrees, SIGNIFICANT) if tested else None,
        scope=_scope(noise),
        unit=one.unit,
        note=one.note,
        error=error,
        degrees=degrees,
    )


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values of one family of tests, in the order given (Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def family_text(tests: int) -> str:
    """What a Holm family is, in a sentence for a table's notes."""
    return (
        f"Holm's correction: the {tests} tests of a column are one family. If nothing differed, the chance that any of "
        f"them shows p < {SIGNIFICANT} is at most {100 * SIGNIFICANT:.0f} %; the smallest p is multiplied by {tests}, "
        f"the next by {tests - 1}, and so on. Other columns are families of their own."
        if tests > 1
        else "One test, no correction for several."
    )


# --- the parts ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """The seeds of one treatment by unit: errors (K, U), totals (U,)."""

    errors: Floats
    totals: Floats
    unit: Unit
    note: str
    speakers: int
    ceiling: bool  # of a measure whose rate is a share, though insertions may lift it above 1

    @classmethod
    def of(cls, samples: Sequence[Sample], measure: str) -> _Table:
        if not samples:
            raise UserError("no runs to take a rate of")
        first = samples[0]
        reference = first.column(measure)[:, 1]
        seeds = [sample.seed for sample in samples]
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise UserError(f"two runs of one treatment have random seed {twice[0]}: they are one draw, not two")
        for other in samples[1:]:
            if other.ids != first.ids or not np.array_equal(other.column(measure)[:, 1], reference):
                raise UserError("the seeds of one treatment were not scored on the same utterances and references")
        if reference.sum() <= 0:
            raise UserError("nothing to score: the references are empty")
        units = first.units
        errors = np.stack([units.sums(sample.column(measure)[:, 0]) for sample in samples])
        ceiling = measure in MEASURES and MEASURES[measure].form == "percent"
        return cls(errors, units.sums(reference), units.kind, units.note, len(set(first.speakers)), ceiling)

    @property
    def seeds(self) -> int:
        return len(self.errors)

    @property
    def size(self) -> float:
        return float(self.totals.sum())

    @property
    def capped(self) -> bool:
        """Whether no unit has more errors than its total."""
        return self.ceiling and bool((self.errors <= self.totals).all())

    @cached_property
    def mean(self) -> Floats:
        """(U,) errors, over seeds."""
        return np.asarray(self.errors.mean(axis=0))

    @property
    def rate(self) -> float:
        return float(self.mean.sum()) / self.size

    @cached_property
    def variance_of_seeds(self) -> float:
        """Of the rate of one training."""
        return float((self.errors.sum(axis=1) / self.size).var(ddof=1))

    @cached_property
    def variance_within_seeds(self) -> float:
        """The part of it that the noise of single units explains."""
        noise = self.errors - self.mean
        return sum(unit_variance(row, self.totals) for row in noise) / (self.seeds - 1)


@dataclass(frozen=True)
class _Variance:
    """An estimate of a variance, and how well it is known."""

    value: float
    degrees: float
    within: float = 0.0  # the part of it that the noise of single units explains


def _combined(errors: Floats, totals: Floats, noise: SeedNoise, tables: Sequence[_Table]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a rate: of sum(errors) / sum(totals), from the seeds of `tables`.

    The same of a difference of two rates, where `errors` are differences and `tables` both treatments.
    """
    floor = 1 / float(totals.sum()) ** 2  # counts are whole: nothing is known better than to one error
    units, degrees = unit_variance(errors, totals), degrees_of(totals)
    if not noise.degrees:
        return math.sqrt(max(units, floor)), degrees
    seeds = _seed_variance(tables, noise)
    total = max(units + seeds.value - seeds.within, max(units, seeds.value) / 2)
    fewest = min(degrees, seeds.degrees)
    if total <= floor:
        return math.sqrt(floor), fewest
    return math.sqrt(total), max(fewest, total**2 / (units**2 / degrees + seeds.value**2 / seeds.degrees))


def _seed_variance(tables: Sequence[_Table], noise: SeedNoise) -> _Variance:
    """What the seeds of all `tables` add to the variance of the sum of their rates.

    From four seeds on a treatment's noise is its own. With fewer it is the pool's; where the treatment is noisier than
    chance allows of one in the pool (F test), it is what the treatment shows.
    """
    pooled = alone = within = uncertain = 0.0
    for table in tables:
        own = table.variance_of_seeds if table.seeds > 1 else 0.0
        if table.seeds >= ENOUGH_SEEDS:
            alone += own / table.seeds
            uncertain += (own / table.seeds) ** 2 / (table.seeds - 1)
            within += table.variance_within_seeds / table.seeds
        else:
            louder = _is_louder(own, table.seeds - 1, noise)
            pooled += (own if louder else noise.sd**2) / table.seeds
            within += noise.within**2 / table.seeds
    uncertain += pooled**2 / noise.degrees
    value = pooled + alone
    return _Variance(value, value**2 / uncertain if uncertain > 0 else noise.degrees, within)


def _is_louder(own: float, degrees: int, noise: SeedNoise) -> bool:
    """Whether a variance of so many degrees, one of those pooled, is larger than the others allow."""
    others = noise.degrees - degrees
    pool = noise.degrees * noise.sd**2
    if degrees < 1 or others < 1 or pool <= 0:
        return False
    share = min(1.0, degrees * own / pool)  # Beta distributed where all variances are equal
    return own > noise.sd**2 and float(betainc(others / 2, degrees / 2, 1 - share)) < LOUDER


def _scope(noise: SeedNoise) -> Scope:
    return "treatment" if noise.degrees else "these trained models"


def quantile(probability: float, degrees: float) -> float:
    return float(stdtrit(degrees, probability))


def two_sided(t: float, degrees: float) -> float:
    """p of Student's t; never 0, which no p is."""
    return max(float(2 * stdtr(degrees, -abs(t))), sys.float_info.min)


def detectable(error: float, degrees: float, significance: float) -> float:
    return error * (quantile(1 - significance / 2, degrees) + quantile(POWER, degrees))

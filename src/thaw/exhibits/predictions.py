"""What freezing each layer did, beside what was predicted of it: the numbers behind the table and the figure.

Shapes: L layers, S sets of layers that were tried frozen, K seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError
from thaw.exhibits.frame import Judged, read_judged, samples
from thaw.exhibits.spec import ExhibitSpec, RunRow, TransferRow
from thaw.files import read_json
from thaw.layers.predictors import BASELINE, PREDICTORS, best_of, harm
from thaw.scoring.measures import CHARACTER, WORD, Measure
from thaw.scoring.ranks import Pooled, Reliability, partial, permutation_p, pooled, regret, reliability, spearman
from thaw.scoring.statistics import Comparison, difference, holm, seed_noise

Floats = NDArray[np.float64]
RHO = (-1.0, 1.0)
PREPARING = ("loading", "features")  # what every predictor that looks at a model or at a target needs


@dataclass(frozen=True)
class Tried:
    """One transfer, measured: every set of layers frozen, with every seed."""

    row: TransferRow
    evidence: Mapping[str, Any]
    judged: Mapping[str, tuple[Judged, ...]]  # by treatment, in the order of seeds
    comparisons: Mapping[str, Comparison]  # treatment -> how it compares to nothing frozen
    seconds: float  # of all its trainings, as recorded
    measure: Measure

    @cached_property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """Treatment -> the layers it freezes, as `row.tried` has them."""
        return {one.treatment: one.frozen for one in self.row.tried}

    @property
    def nothing(self) -> str:
        """The treatment that freezes nothing."""
        return self.row.tried[0].treatment

    @cached_property
    def rates(self) -> Floats:
        """(S, K) fractions, sets in the order of `row.tried`."""
        return np.array([[one.scores[self.measure.key]["rate"] for one in ones] for ones in self.judged.values()])

    @cached_property
    def alone(self) -> dict[str, str]:
        """Layer -> the treatment that freezes it alone, layers in the model's order."""
        single = {frozen[0]: treatment for treatment, frozen in self.sets.items() if len(frozen) == 1}
        return {layer: single[layer] for layer in self.evidence["layers"] if layer in single}

    @property
    def layers(self) -> list[str]:
        """Those that were frozen alone."""
        return list(self.alone)

    def place(self, treatment: str) -> int:
        """Which row of `rates` is of a treatment."""
        return list(self.sets).index(treatment)

    @cached_property
    def effects(self) -> Floats:
        """(L, K) what freezing each layer alone added to the rate with nothing frozen, by seed; fractions."""
        return np.stack([self.rates[self.place(one)] - self.rates[0] for one in self.alone.values()])

    @cached_property
    def reliability(self) -> Reliability | None:
        """Of those effects."""
        return reliability(self.effects)

    def predicted(self, predictor: str) -> list[float] | None:
        """The harm of each layer, as predicted; None where the predictor could not be had."""
        scores = self.evidence["scores"].get(predictor)
        if scores is None:
            return None
        found = harm(predictor, scores)
        return [found[layer] for layer in self.layers]

    def rho(self, predictor: str) -> float | None:
        """Spearman's correlation of predicted and measured harm; None without a prediction, or without differences."""
        predicted = self.predicted(predictor)
        return None if predicted is None else spearman(predicted, self.effects.mean(axis=1).tolist())

    def rho_given_depth(self, predictor: str) -> float | None:
        """The same with depth held as it is; None where depth says all, as it does of itself."""
        predicted, depth = self.predicted(predictor), self.predicted(BASELINE)
        if predicted is None or depth is None:
            return None
        return partial(predicted, self.effects.mean(axis=1).tolist(), depth)

    def p(self, predictor: str) -> float | None:
        """Of no relation, over all orders of the layers."""
        predicted = self.predicted(predictor)
        return None if predicted is None else permutation_p(predicted, self.effects.mean(axis=1).tolist())

    def sets_of(self, count: int) -> dict[tuple[str, ...], str]:
        """The sets of one size that were tried -> their treatments."""
        return {frozen: treatment for treatment, frozen in self.sets.items() if len(frozen) == count}

    @cached_property
    def together(self) -> int:
        """The size of the largest sets of which there is a choice; 1 where there is none beyond single layers."""
        sizes = [len(frozen) for frozen in self.sets.values()]
        return max((size for size in sizes if sizes.count(size) > 1), default=1)

    def chosen(self, predictor: str, count: int) -> str | None:
        """The treatment that a predictor chooses among the sets of one size."""
        scores = self.evidence["scores"].get(predictor)
        sets = self.sets_of(count)
        return None if scores is None or not sets else sets[best_of(predictor, scores, sets)]

    def regret_of(self, treatment: str) -> float:
        """How much worse a treatment is than the best set that was tried, nothing frozen included; a fraction."""
        return regret(self.rates, self.place(treatment))

    def regret(self, predictor: str, count: int) -> float | None:
        """The same of what a predictor chooses."""
        treatment = self.chosen(predictor, count)
        return None if treatment is None else self.regret_of(treatment)

    def regret_by_chance(self, count: int) -> float:
        """The same, of any set of that size with equal chance."""
        return fmean(self.regret_of(treatment) for treatment in self.sets_of(count).values())

    def cost(self, predictor: str) -> float:
        """Seconds of a prediction, all that it needs included; depth needs nothing."""
        key = PREDICTORS[predictor].cost
        spent = self.evidence["cost"]
        return sum(spent.get(one, 0.0) for one in (key, *PREPARING)) if key else 0.0


# --- reading --------------------------------------------------------------------------------------


def read_tried(spec: ExhibitSpec, measure: Measure) -> tuple[Tried, ...]:
    """Every transfer of a study. UserError names a file of another shape, and a transfer without two layers."""
    if not spec.transfers:
        raise UserError(f"exhibit {spec.name}: the study has no transfers")
    rows = {run.id: run for run in spec.runs}
    return tuple(_tried(spec, transfer, rows, measure) for transfer in spec.transfers)


def measures_of(spec: ExhibitSpec) -> list[Measure]:
    """Words and characters, the one that the study wants first."""
    first = spec.transfers[0].measure if spec.transfers else WORD.key
    return sorted((WORD, CHARACTER), key=lambda measure: measure.key != first)


def _tried(spec: ExhibitSpec, row: TransferRow, rows: Mapping[str, RunRow], measure: Measure) -> Tried:
    evidence = read_json(Path(row.evidence))
    try:
        layers, _ = [str(layer) for layer in evidence["layers"]], evidence["cost"]["loading"]
        if any(set(scores) != set(layers) for scores in evidence["scores"].values()):
            raise KeyError("scores")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{row.evidence}: not what `thaw evidence` writes ({error!r}); gather it again") from error
    runs = {one.treatment: [rows[run] for run in one.runs] for one in row.tried}
    judged = {name: tuple(read_judged(run, run.decodes[0]) for run in group) for name, group in runs.items()}
    groups = {name: samples(group) for name, group in judged.items()}
    noise = seed_noise(groups.values(), measure.key)
    nothing = groups[next(iter(groups))]
    compared = {
        name: difference(nothing, group, measure.key, spec.scoring, noise)
        for name, group in groups.items()
        if group is not nothing
    }
    seconds = sum(_seconds(run) for group in runs.values() for run in group)
    found = Tried(row, evidence, judged, compared, seconds, measure)
    if len(found.layers) < 2:
        raise UserError(f"{row.evidence}: no two of its layers were frozen alone: there is nothing to correlate")
    return found


def _seconds(run: RunRow) -> float:
    record = read_json(Path(run.record))
    try:
        return float(record["cost"]["seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.record}: not the record that `thaw train` writes ({error!r})") from error


# --- over transfers -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """One predictor over all transfers that it could be had for; fractions where rates are meant."""

    predictor: str
    rho: Pooled | None
    p_holm: float | None
    beyond: Pooled | None  # by how much its rho is above that of depth alone
    beyond_holm: float | None
    given_depth: Pooled | None  # its rho with depth held as it is
    alone: Pooled | None  # regret of the one layer that it would freeze
    together: Pooled | None  # regret of the set that it would freeze
    seconds: float  # mean over transfers


def verdicts(tried: Sequence[Tried], level: float) -> list[Verdict]:
    """Every predictor that some transfer has; tests of all of them are one Holm family, those against depth another."""
    found = []
    for name in PREDICTORS:
        mine = [one for one in tried if one.predicted(name) is not None]
        if not mine:
            continue
        rhos = [(one.rho(name), one.rho(BASELINE)) for one in mine]
        pairs = [(rho, base) for rho, base in rhos if rho is not None and base is not None]
        beyond = _pooled((rho - base for rho, base in pairs), level) if name != BASELINE else None
        found.append(
            Verdict(
                predictor=name,
                rho=_pooled((rho for rho, _ in rhos), level, RHO),
                p_holm=None,
                beyond=beyond,
                beyond_holm=None,
                given_depth=_pooled((one.rho_given_depth(name) for one in mine), level, RHO),
                alone=_pooled((one.regret(name, 1) for one in mine), level),
                together=_pooled((one.regret(name, one.together) for one in mine), level),
                seconds=fmean(one.cost(name) for one in mine),
            )
        )
    rhos_p = _corrected([verdict.rho for verdict in found])
    beyond_p = _corrected([verdict.beyond for verdict in found])
    return [
        Verdict(**{**vars(one), "p_holm": p, "beyond_holm": other})
        for one, p, other in zip(found, rhos_p, beyond_p, strict=True)
    ]


def _pooled(
    values: Iterable[float | None], level: float, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Pooled | None:
    known = [value for value in values if value is not None]
    return pooled(known, level, bounds) if known else None


def _corrected(found: Sequence[Pooled | None]) -> list[float | None]:
    ps = [one.p for one in found if one is not None and one.p is not None]
    corrected = iter(holm(ps))
    return [None if one is None or one.p is None else next(corrected) for one in found]

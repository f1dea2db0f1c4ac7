"""What probes say of layers: the rate with each layer reset, and the penalty, how far that is above the rate of the
same trainings as they are.

A `ResetCell` is a model, judged with one layer (or a module of it) reset to its first values or to fresh draws, at one
snapshot. Several draws of one training count as their mean, by utterance. The penalty is of the same
trainings before and after, so seeds are paired (`thaw.scoring.paired`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from thaw.config.starts import BEST
from thaw.errors import UserError
from thaw.exhibits.frame import Row, Tested, grouped, rounded, run_columns
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.probing.rows import read_counts, read_rows
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import MEASURES, AnyCounts, Counts, Measure
from thaw.scoring.paired import DIFFERENCE, differences, paired
from thaw.scoring.statistics import Estimate, Sample, estimate, holm, seed_noise

KINDS = {"draw": "re-rand", "first": "re-init", "zero": "zero", "": "as trained"}  # as the paper calls them
COLUMNS = (
    *("scale", "scale_note", "study", "row", "model", "target", "treatment", "label", "size", "norm", "groups"),
    *("order", "causal", "snapshot", "split", "layer", "place", "module", "reset", "buffers", "measure", "seed"),
    *("seeds", "draws", "value", "low", "high", "interval_over", "speaks_of", "penalty", "penalty_low"),
    *("penalty_high", "penalty_p", "penalty_p_holm", "errors", "total", "utterances", "run", "probe_file"),
)
TRAITS = {"size": "variant", "norm": "norm", "order": "first", "causal": "causal"}  # column -> key of the model's spec


class ResetPlace(NamedTuple):
    """What was judged: a layer or a module of it (none: all as it is), what it was reset to, at which snapshot."""

    snapshot: str = BEST
    to: str = ""
    layer: str = ""
    module: str = ""
    buffers: bool = True

    @property
    def before(self) -> ResetPlace:
        """The same snapshot as it is."""
        return ResetPlace(self.snapshot)

    @property
    def family(self) -> Hashable:
        """Places whose tests are one family, and whose noise over seeds is pooled: they differ in the layer alone."""
        return self.snapshot, self.to, bool(self.module), self.buffers


@dataclass(frozen=True)
class Probed:
    """One training, judged at a place: the mean counts of its draws, by utterance."""

    run: RunRow
    place: ResetPlace
    split: str
    counts: tuple[UtteranceCounts, ...]
    draws: int
    file: str

    @property
    def sample(self) -> Sample:
        """As statistics take it."""
        return Sample(self.run.seed, self.counts)


@dataclass(frozen=True)
class ResetCell:
    """A model at a place: its trainings, their rate, and (but for the model as it is) the penalty of the reset."""

    probed: tuple[Probed, ...]  # one for each seed
    measure: Measure
    estimate: Estimate
    penalty: Tested | None = None

    @property
    def run(self) -> RunRow:
        """Of the first seed."""
        return self.probed[0].run

    @property
    def place(self) -> ResetPlace:
        """What was reset."""
        return self.probed[0].place

    @property
    def samples(self) -> list[Sample]:
        """As statistics take them."""
        return [one.sample for one in self.probed]

    def rates(self) -> dict[int, float]:
        """Seed -> its rate."""
        totals = {one.run.seed: one.sample.column(self.measure.key).sum(axis=0) for one in self.probed}
        return {seed: float(errors / total) for seed, (errors, total) in totals.items()}


# --- reading --------------------------------------------------------------------------------------


def read_resets(spec: ExhibitSpec, measure: str = "word") -> list[ResetCell]:
    """Every cell of the spec's probed runs, in the order of runs, then of the file.

    UserError where no run was probed, or a file is of another shape.
    """
    probed = [one for run in spec.runs for one in _probed(run)]
    if not probed:
        raise UserError(f"exhibit {spec.name}: the study has no probed run")
    cells: list[ResetCell] = []
    for ones in grouped(probed, lambda one: (one.run.study, one.run.treatment, one.run.recipe, one.split)).values():
        cells += _cells(spec, grouped(ones, lambda one: one.place), MEASURES[measure])
    return cells


def _cells(spec: ExhibitSpec, places: Mapping[ResetPlace, Sequence[Probed]], measure: Measure) -> list[ResetCell]:
    """The cells of one model, each but the model as it is with its penalty; families are corrected after Holm."""
    samples = {place: [one.sample for one in ones] for place, ones in places.items()}
    cells: dict[ResetPlace, ResetCell] = {}
    for family in grouped(places, lambda place: place.family).values():
        noise = seed_noise([samples[place] for place in family], measure.key)
        found = {place: estimate(samples[place], measure.key, spec.scoring, noise) for place in family}
        cells |= {place: ResetCell(tuple(places[place]), measure, found[place]) for place in family}
        changed = [place for place in family if place.layer]
        more = {place: differences(samples[place.before], samples[place], measure.key) for place in changed}
        noise = seed_noise(list(more.values()), DIFFERENCE)
        tests = {place: paired(of, spec.scoring, noise) for place, of in more.items()}
        known = [test.p for test in tests.values() if test.p is not None]
        corrected = iter(holm(known))
        for place, test in tests.items():
            penalty = Tested(test, None if test.p is None else next(corrected))
            cells[place] = ResetCell(tuple(places[place]), measure, found[place], penalty)
    return [cells[place] for place in places]


def _probed(run: RunRow) -> list[Probed]:
    """The places that a run was judged at."""
    found: list[Probed] = []
    for probe in run.probes:
        counts = read_counts(Path(probe.counts))
        names = grouped(read_rows(Path(probe.rows)), lambda row: (place_of(row), row["split"]))
        for (place, split), rows in names.items():
            if place is not None:
                draws = [counts[row["name"], split] for row in rows]
                found.append(Probed(run, place, split, mean_counts(draws), len(rows), probe.rows))
    return found


def place_of(row: Mapping[str, Any]) -> ResetPlace | None:
    """Where a row of a probe stands; None for operations that are not of one layer."""
    snapshot, place = row["snapshot"], ResetPlace(row["snapshot"])
    for operation in row["operations"]:
        if "load" in operation:
            snapshot = operation["snapshot"]
            place = ResetPlace(snapshot)
        elif len(operation["reset"]) != 1 or place.layer or len(operation.get("modules", ())) > 1:
            return None
        else:
            module = next(iter(operation.get("modules", ())), "")
            buffers = operation.get("buffers", True)
            place = ResetPlace(snapshot, operation.get("to", "draw"), operation["reset"][0], module, buffers)
    return place


def mean_counts(draws: Sequence[Sequence[UtteranceCounts]]) -> tuple[UtteranceCounts, ...]:
    """The mean errors of each utterance over several judgements of it."""
    rows = zip(*(sorted(counts, key=lambda count: count.id) for counts in draws), strict=True)
    return tuple(
        UtteranceCounts(
            same[0].id, same[0].speaker, {key: _mean([one.counts[key] for one in same]) for key in same[0].counts}
        )
        for same in rows
    )


def _mean(counts: Sequence[AnyCounts]) -> Counts:
    return Counts(sum(one.errors for one in counts) / len(counts), counts[0].total)


# --- writing --------------------------------------------------------------------------------------


def reset_rows(spec: ExhibitSpec, cells: Iterable[ResetCell]) -> list[Row]:
    """Each cell, then the trainings behind it; keys are COLUMNS."""
    rows = []
    for cell in cells:
        common = _common(spec, cell)
        rows.append(common | {"row": "model", "seeds": cell.estimate.seeds} | _numbers(cell))
        for one in cell.probed:
            errors, total = (float(number) for number in one.sample.column(cell.measure.key).sum(axis=0))
            row: Row = {"row": "run", "seed": one.run.seed, "draws": one.draws, "utterances": len(one.counts)}
            row |= {
                "value": rounded(cell.measure.shown(errors / total)),
                "errors": rounded(errors),
                "total": int(total),
            }
            rows.append(common | row | {"run": one.run.id, "probe_file": one.file})
    return rows


def _common(spec: ExhibitSpec, cell: ResetCell) -> Row:
    run, place = cell.run, cell.place
    row = {key: value for key, value in run_columns(spec, run).items() if key in COLUMNS}
    row |= {column: run.traits.get(key, "") for column, key in TRAITS.items()} | {"model": run.model}
    row |= {"groups": run.traits.get("norm_groups", "") if row["norm"] == "group" else ""}
    row |= {"snapshot": place.snapshot, "split": cell.probed[0].split, "layer": place.layer, "module": place.module}
    stack = {name: number for number, name in enumerate(run.stack)}
    row |= {"place": stack.get(place.layer, ""), "reset": KINDS[place.to], "buffers": int(place.buffers)}
    return row | {"measure": cell.measure.heading}


def _numbers(cell: ResetCell) -> Row:
    found, shown = cell.estimate, cell.measure.shown
    rates = (("value", found.rate), ("low", found.low), ("high", found.high))
    row: Row = {key: "" if rate is None else rounded(shown(rate)) for key, rate in rates}
    row |= {"interval_over": found.unit, "speaks_of": found.scope, "run": " ".join(one.run.id for one in cell.probed)}
    if cell.penalty is None:
        return row
    test = cell.penalty.comparison
    numbers = (("penalty", test.difference), ("penalty_low", test.low), ("penalty_high", test.high))
    row |= {key: "" if number is None else rounded(100 * number) for key, number in numbers}
    ps = (("penalty_p", test.p), ("penalty_p_holm", cell.penalty.p))
    return row | {key: "" if p is None else f"{p:.6g}" for key, p in ps}

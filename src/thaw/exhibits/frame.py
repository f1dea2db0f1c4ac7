"""The tidy frame that every table and figure of rates is drawn from: one `Cell` for each thing measured.

A cell is a treatment on a target, judged in one way (decoder, split, snapshot, operations) by one measure: its runs,
one for each random seed, what they say of the treatment, and how it compares to the study's baseline and reference.
`frame_csv` writes it: a row for each cell and one for each run behind it, in the same columns whatever is drawn.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.exhibits.spec import DecodeRow, ExhibitSpec, RunRow, row_label
from thaw.files import read_json, read_jsonl
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import MEASURES, Measure, counts_from
from thaw.scoring.scores import score
from thaw.scoring.statistics import (
    Comparison,
    Estimate,
    Sample,
    SeedNoise,
    difference,
    estimate,
    holm,
    seed_noise,
)

Row = dict[str, Any]
T = TypeVar("T")


def columns(names: str) -> tuple[str, ...]:
    """Names separated by spaces."""
    return tuple(names.split())


COLUMNS = columns(
    "scale scale_note study row model source target target_label treatment label scratch frozen layers frozen_first "
    "learning_rate decoder decoder_label split snapshot operation measure seed fold seeds value low high interval_over "
    "speaks_of sd_over_seeds seed_noise seed_noise_degrees unfinished sub del ins errors total utterances speakers "
    "to_baseline to_baseline_low to_baseline_high to_baseline_p to_baseline_p_holm to_baseline_smallest to_reference "
    "to_reference_low to_reference_high to_reference_p to_reference_p_holm to_reference_smallest published "
    "remark run decode scores_file counts_file"
)
UNIT_NAMES = {"speaker": "speakers", "utterance": "utterances"}


@dataclass(frozen=True)
class Judged:
    """One run, judged once and scored."""

    run: RunRow
    decode: DecodeRow
    scores: dict[str, Any]  # scores.json
    counts: tuple[UtteranceCounts, ...]

    @property
    def measures(self) -> list[Measure]:
        """What it was measured by, in the order of tables."""
        return [measure for key, measure in MEASURES.items() if key in self.scores]


def samples(judged: Iterable[Judged]) -> list[Sample]:
    """Runs as statistics take them: the folds of a corpus that one seed was tested on, together."""
    whole = grouped(judged, lambda one: (one.run.seed, "" if one.run.fold else one.run.id))
    return [Sample(seed, tuple(row for one in ones for row in one.counts)) for (seed, _), ones in whole.items()]


@dataclass(frozen=True)
class Tested:
    """How a cell compares to another of its column; `p` is corrected for all such tests of the column (Holm)."""

    comparison: Comparison
    p: float | None


@dataclass(frozen=True)
class Cell:
    """One row of the frame. Rates and differences are fractions."""

    judged: tuple[Judged, ...]  # one for each run
    measure: Measure
    estimate: Estimate
    noise: SeedNoise  # pooled over the treatments of its column
    unfinished: frozenset[str]  # runs whose best epoch is their last: they were stopped, not finished
    tests: Mapping[str, Tested] = field(default_factory=dict)  # by the treatment that this one is compared to

    @cached_property
    def samples(self) -> list[Sample]:
        """As statistics take them; kept, since each keeps the arrays that it is compared by."""
        return samples(self.judged)

    @property
    def run(self) -> RunRow:
        """Of the first seed: what all of them share."""
        return self.judged[0].run

    @property
    def decode(self) -> DecodeRow:
        """Of the first seed."""
        return self.judged[0].decode

    @property
    def column(self) -> Hashable:
        """Cells with the same value stand in one column of a table, and their tests are one family."""
        return self.run.study, self.run.target, self.decode.way, self.measure.key

    @property
    def row(self) -> tuple[str, str]:
        """Its place in the column: treatment and operation."""
        return self.run.treatment, self.decode.operation

    @property
    def label(self) -> str:
        """The same in words."""
        return row_label(self.run, self.decode)

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs behind it."""
        return tuple(one.run.id for one in self.judged)

    @property
    def rate(self) -> float:
        """Mean over seeds of errors / total."""
        return self.estimate.rate


Frame = tuple[Cell, ...]


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    """Items by key, both in the order in which they come."""
    found: dict[Any, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


# --- reading --------------------------------------------------------------------------------------


def read_frame(spec: ExhibitSpec, measures: Sequence[str] = (), compared: bool = True) -> Frame:
    """Every cell of the spec's runs, by some measures or all; `compared`: to its baseline and reference.

    Raises UserError that names a file which is missing or of another shape, and where nothing was judged.
    """
    shown = [read_judged(run, decode) for run in spec.runs for decode in run.decodes]
    others = [read_judged(run, decode) for run in spec.others for decode in run.decodes]
    if not shown:
        raise UserError(f"exhibit {spec.name}: the study has no decoded run")
    finished = {run.id: is_finished(run) for run in spec.runs}
    frame: list[Cell] = []
    noises: dict[Hashable, SeedNoise] = {}
    for judged in grouped(shown, _treated).values():
        for measure in judged[0].measures:
            if not measures or measure.key in measures:
                pool = _pool(judged[0])
                if (pool, measure) not in noises:
                    noises[pool, measure] = _noise((one for one in (*shown, *others) if _pool(one) == pool), measure)
                frame.append(_cell(spec, judged, measure, noises[pool, measure], finished))
    for base in dict.fromkeys((spec.baseline, spec.reference) if compared else ()):
        frame = [cell for column in grouped(frame, lambda cell: cell.column).values()
                 for cell in _tested(spec, column, base)]  # fmt: skip
    return tuple(frame)


def _treated(one: Judged) -> Hashable:
    """What a run really is, its random seed left out: a name alone may stand for two recipes in two studies."""
    run = one.run
    what = (run.model, run.source_label, run.target, run.treatment, run.recipe)
    return *what, one.decode.operation, one.decode.way


def _pool(one: Judged) -> Hashable:
    """What shares its seed noise: the treatments of a study on one target that were judged in the same way.

    Of a study that holds several experiments, those of one: another model, or less data, has another noise.
    """
    return one.run.study, one.run.target, one.decode.way, one.run.place.group if one.run.place else ""


def _noise(pool: Iterable[Judged], measure: Measure) -> SeedNoise:
    groups = grouped((one for one in pool if measure.key in one.scores), _treated)
    return seed_noise([samples(group) for group in groups.values()], measure.key)


def _cell(
    spec: ExhibitSpec, judged: Sequence[Judged], measure: Measure, noise: SeedNoise, finished: Mapping[str, bool]
) -> Cell:
    found = estimate(samples(judged), measure.key, spec.scoring, noise)
    late = frozenset(one.run.id for one in judged if not finished[one.run.id])
    return Cell(tuple(judged), measure, found, noise, late)


def _tested(spec: ExhibitSpec, column: list[Cell], base: str) -> list[Cell]:
    """The cells of one column, each but the base compared to the base; one family for Holm."""
    first = next((cell for cell in column if base and cell.row == (base, "")), None)
    if first is None:
        return column
    others = [cell for cell in column if cell is not first]
    found = [_compared(first, cell, spec) for cell in others]
    known = [one.p for one in found if one.p is not None]
    corrected = iter(holm(known))
    tests = {id(cell): Tested(one, None if one.p is None else next(corrected))
             for cell, one in zip(others, found, strict=True)}  # fmt: skip
    return [
        replace(cell, tests={**cell.tests, base: tests[id(cell)]}) if id(cell) in tests else cell for cell in column
    ]


def _compared(first: Cell, second: Cell, spec: ExhibitSpec) -> Comparison:
    try:
        return difference(first.samples, second.samples, first.measure.key, spec.scoring, first.noise)
    except UserError as error:
        files = f"{first.decode.counts} and {second.decode.counts}"
        raise UserError(f"{files}: {error}; score both runs again") from error


def read_judged(run: RunRow, decode: DecodeRow) -> Judged:
    """One run's scores and counts by utterance."""
    scores = read_json(Path(decode.scores))
    rows = read_jsonl(Path(decode.counts))
    try:
        counts = tuple(UtteranceCounts.from_row(row) for row in rows)
        if decode.ids:
            counts = tuple(row for row in counts if fnmatchcase(row.id, decode.ids))
            if not counts:
                raise UserError(f"{decode.counts}: no utterance of it is called {decode.ids}")
            scores = score(counts, ScoringSpec())
        judged = Judged(run, decode, scores, counts)
        if not judged.measures:
            raise KeyError(next(iter(MEASURES)))
        for measure in judged.measures:
            float(scores[measure.key]["rate"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"{decode.scores} or {decode.counts}: not what `thaw score` writes ({error!r}); score this run again"
        raise UserError(message) from error
    return judged


def is_finished(run: RunRow) -> bool:
    """Whether a run went on beyond its best epoch; one whose best epoch is its last was stopped, not finished."""
    if not run.record:
        return True
    record = read_json(Path(run.record))
    try:
        return bool(record["best"]["epoch"] < record["epochs"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.record}: not the record that `thaw train` writes ({error!r})") from error


# --- writing --------------------------------------------------------------------------------------


def as_csv(columns: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Rows as csv; keys that are not columns raise, missing ones are empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def heading(spec: ExhibitSpec) -> Row:
    """What every row says of where it belongs."""
    return {"scale": spec.scale, "scale_note": spec.note, "study": spec.study}


def change(cell: Cell, difference: float, base: float | None = None) -> float:
    """How far a difference of rates moves the number that is shown; from the cell's own rate, or from `base`."""
    start = cell.rate if base is None else base
    return cell.measure.shown(start + difference) - cell.measure.shown(start)


def rounded(number: float | None) -> float | str:
    """At a precision far below any interval; empty for None."""
    return "" if number is None else round(number, 4)


def run_columns(spec: ExhibitSpec, run: RunRow) -> Row:
    """What a row says of a run. How it was trained is left empty where the spec does not bring it."""
    row = heading(spec) | {"target": run.target, "target_label": run.target_label, "treatment": run.treatment}
    row |= {"label": run.label} | ({"study": run.study} if run.study else {})
    if not run.layers:
        return row
    row |= {"scratch": int(run.scratch), "frozen": run.frozen, "layers": run.layers, "model": run.model}
    row |= {"frozen_first": int(run.frozen_first), "learning_rate": run.learning_rate, "source": run.source_label}
    return row


def frame_rows(spec: ExhibitSpec, frame: Iterable[Cell]) -> Iterator[Row]:
    """Each cell, then the runs behind it."""
    for cell in frame:
        decode, found = cell.decode, cell.estimate
        common = run_columns(spec, cell.run) | {"measure": cell.measure.heading}
        common |= {"decoder": decode.decoder, "decoder_label": decode.label}
        common |= {"split": decode.split, "snapshot": decode.snapshot, "operation": decode.operation}
        yield common | {
            "row": "treatment",
            "seeds": found.seeds,
            **{
                name: "" if rate is None else rounded(cell.measure.shown(rate))
                for name, rate in (("value", found.rate), ("low", found.low), ("high", found.high))
            },
            "interval_over": UNIT_NAMES.get(found.unit, ""),
            "speaks_of": found.scope,
            "sd_over_seeds": "" if found.sd_seeds is None else rounded(change(cell, found.sd_seeds)),
            "seed_noise": rounded(change(cell, cell.noise.sd)) if cell.noise.degrees else "",
            "seed_noise_degrees": cell.noise.degrees,
            "unfinished": len(cell.unfinished),
            "speakers": found.speakers,
            "run": " ".join(cell.runs),
            **_test_columns(spec, cell),
        }
        for one in cell.judged:
            yield common | {"row": "run"} | _judged_columns(one, cell.measure)


def frame_csv(spec: ExhibitSpec, frame: Frame) -> bytes:
    """The frame as csv."""
    return as_csv(COLUMNS, frame_rows(spec, frame))


def _judged_columns(one: Judged, measure: Measure) -> Row:
    counted = one.scores[measure.key]
    edits = {name: counted[name] for name in ("sub", "del", "ins") if name in counted}
    counts = counts_from(counted)
    return edits | {
        "seed": one.run.seed,
        "fold": one.run.fold or "",
        "value": rounded(measure.shown(counted["rate"])),
        "errors": counts.errors,
        "total": counts.total,
        "utterances": one.scores.get("utterances", ""),
        "speakers": one.scores.get("speakers", ""),
        "run": one.run.id,
        "decode": one.decode.id,
        "scores_file": one.decode.scores,
        "counts_file": one.decode.counts,
    }


def _test_columns(spec: ExhibitSpec, cell: Cell) -> Row:
    row: Row = {}
    for name, base in (("to_baseline", spec.baseline), ("to_reference", spec.reference)):
        if base in cell.tests:
            test, found = cell.tests[base], cell.tests[base].comparison
            start = cell.rate - found.difference
            numbers = {"": found.difference, "_low": found.low, "_high": found.high, "_smallest": found.smallest}
            for end, number in numbers.items():
                row[name + end] = "" if number is None else rounded(change(cell, number, start))
            row |= {f"{name}_p": _six(found.p), f"{name}_p_holm": _six(test.p)}
    return row


def _six(p: float | None) -> str:
    return "" if p is None else f"{p:.6g}"

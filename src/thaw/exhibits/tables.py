"""Tables of rates: every treatment with its interval, how it compares to others, and what was published."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thaw.exhibits.frame import (
    COLUMNS,
    Cell,
    Frame,
    Row,
    as_csv,
    change,
    frame_rows,
    grouped,
    read_frame,
    read_judged,
    rounded,
    run_columns,
)
from thaw.exhibits.grid import MINUS, NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import (
    UNFINISHED,
    count_text,
    difference_notes,
    level_text,
    rate_notes,
    rate_text,
    scores_text,
    with_unit,
)
from thaw.exhibits.published import Published, PublishedRate, read_rates
from thaw.exhibits.spec import DecodeRow, ExhibitSpec, RunRow
from thaw.scoring.measures import MEASURES, Measure
from thaw.scoring.statistics import SIGNIFICANT


@dataclass(frozen=True)
class RatesTable:
    """Rates of a study: a block for each way of judging, columns for targets and measures, a row for each treatment."""

    title: str
    published: Published | None = None
    stub: str = "Treatment"  # what the rows are
    models: bool = False  # whether rows name their model
    apart: tuple[Block, ...] = ()  # other people's numbers, where they cannot stand beside ours

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        frame = read_frame(spec)
        rates = read_rates(spec, self.published.file) if self.published else []
        blocks, tests = self.blocks(spec, frame, rates)
        # Beside our numbers only where they can be compared; in a table of their own otherwise.
        ways = {cell.decode.way: cell.decode for cell in frame}
        beside = any(self._beside(spec, decode) for decode in ways.values())
        apart = self.apart if beside or not self.published else (self._published(self.published, rates), *self.apart)
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, tuple(blocks), apart, tuple(tests))
        return written(grid, as_csv(COLUMNS, self._rows(spec, frame, rates, beside)))

    def blocks(
        self, spec: ExhibitSpec, frame: Frame, rates: list[PublishedRate] | None = None
    ) -> tuple[list[Block], list[Block]]:
        """For each way of judging a block of rates; then blocks of differences to the baseline and the reference."""
        ways = grouped(frame, lambda cell: cell.decode.way).values()
        results = [self._results(spec, cells, rates or []) for cells in ways]
        bases = [base for base in dict.fromkeys((spec.baseline, spec.reference)) if base in spec.treatments]
        tests = [self._differences(spec, cells, base) for cells in ways for base in bases
                 if any(base in cell.tests for cell in cells)]  # fmt: skip
        return results, tests

    def _beside(self, spec: ExhibitSpec, decode: DecodeRow) -> bool:
        """Whether the published rates stand beside those of a decode."""
        there = self.published and self.published.split == decode.split and self.published.decoder == decode.kind
        return bool(there and spec.comparable)

    def _results(self, spec: ExhibitSpec, cells: Sequence[Cell], rates: list[PublishedRate]) -> Block:
        decode, marks = cells[0].decode, self._marks(spec.treatments)
        columns, rows = self._model_column(spec)
        for target, mine in grouped(cells, lambda cell: cell.run.target).items():
            for measure, column in grouped(mine, lambda cell: cell.measure).items():
                columns.append(Column(f"{measure.heading} [{level_text(spec.scoring.level)}]", spec.targets[target]))
                best = min(cell.rate for cell in column)
                found = {cell.row: cell for cell in column}
                for place, row in zip(spec.rows, rows, strict=True):
                    row.append(rate_cell(found[place], best) if place in found else Printed(NONE))
            if self._beside(spec, decode):
                _add_published(columns, rows, spec, rates, target, spec.targets[target])
        labels = spec.rows.items()
        printed = tuple((Printed(label, mark=marks.get(treatment, "")), *row)
                        for ((treatment, _), label), row in zip(labels, rows, strict=True))  # fmt: skip
        notes = [*rate_notes(spec, cells), *_source_notes(spec, decode)]
        notes += self._published_note() if self._beside(spec, decode) else []
        title = f"{self.title}: {decode.way_label}"
        return Block(title, self.stub, tuple(columns), printed, (*notes, *self._footnotes(marks)))

    def _model_column(self, spec: ExhibitSpec) -> tuple[list[Column], list[list[Printed]]]:
        """The columns and cells that a block begins with."""
        if not self.models:
            return [], [[] for _ in spec.rows]
        models = {run.treatment: run.model for run in spec.runs}
        return [Column("Model", text=True)], [[Printed(models[treatment])] for treatment, _ in spec.rows]

    def _published_note(self) -> list[str]:
        return [f"Published: {self.published.note}"] if self.published else []

    def _published(self, published: Published, rates: list[PublishedRate]) -> Block:
        labels = {rate.treatment: rate.label for rate in rates}
        marks = self._marks(labels)
        columns: dict[tuple[str, str], Column] = {}
        best: dict[tuple[str, str], float] = {}
        for rate in rates:
            for key, value in rate.rates.items():
                columns[rate.target, key] = Column(MEASURES[key].heading, rate.target_label)
                if not rate.bound:
                    best[rate.target, key] = min(value, best.get((rate.target, key), value))
        by_cell = {(rate.treatment, rate.target): rate for rate in rates}
        rows = []
        for treatment, label in labels.items():
            row = [Printed(label, mark=marks.get(treatment, ""))]
            for target, key in columns:
                one = by_cell.get((treatment, target))
                text = one.text(key) if one else ""
                bold = one is not None and key in one.rates and one.rates[key] == best.get((target, key))
                row.append(Printed(text or NONE, bold))
            rows.append(tuple(row))
        notes = (f"{published.note} Bold: lowest of its column.", *self._footnotes(marks))
        return Block(published.title, self.stub, tuple(columns.values()), tuple(rows), notes)

    def _differences(self, spec: ExhibitSpec, cells: Sequence[Cell], base: str) -> Block:
        label = spec.treatments[base]
        families = grouped(cells, lambda cell: (cell.run.target, cell.measure))
        tested = any(test.p is not None for cell in cells for test in cell.tests.values())
        brackets = f"[{level_text(spec.scoring.level)}]{' (p)' if tested else ''}"
        columns = tuple(Column(f"{measure.name} {brackets}", spec.targets[target]) for target, measure in families)
        rows = []
        for place, name in spec.rows.items():
            if place != (base, ""):
                row = ({cell.row: cell for cell in column}.get(place) for column in families.values())
                rows.append((Printed(name), *(difference_cell(cell, base) for cell in row)))
        title = f"Difference to “{label}”: {cells[0].decode.way_label}"
        return Block(title, self.stub, columns, tuple(rows), tuple(difference_notes(cells, base, label)))

    # --- footnotes ---

    def _marks(self, treatments: Iterable[str]) -> dict[str, str]:
        """A footnote letter for each treatment with a remark; equal remarks share a letter."""
        remarks = self.published.remarks if self.published else {}
        texts = list(dict.fromkeys(remarks[t] for t in treatments if t in remarks))
        return {t: string.ascii_lowercase[texts.index(remarks[t])] for t in treatments if t in remarks}

    def _footnotes(self, marks: Mapping[str, str]) -> list[str]:
        notes = {letter: self.published.remarks[treatment] for treatment, letter in marks.items() if self.published}
        return [f"{letter}: {text}" for letter, text in sorted(notes.items())]

    # --- csv ---

    def _rows(self, spec: ExhibitSpec, frame: Frame, rates: list[PublishedRate], beside: bool) -> Iterable[Row]:
        """The frame, then published rates where they stand beside none of ours."""
        remarks = self.published.remarks if self.published else {}
        known = {(rate.target, rate.treatment): rate for rate in rates}
        for cell in frame:
            rate = known.get((cell.run.target, cell.run.treatment))
            more: Row = {"remark": remarks.get(cell.run.treatment, "")}
            if rate and cell.measure.key in rate.rates and self._beside(spec, cell.decode):
                more |= _published_columns(rate, cell.measure)
            yield from (row | more for row in frame_rows(spec, [cell]))
        if not beside:
            for rate in rates:
                run = RunRow(id="", seed=0, treatment=rate.treatment, label=rate.label, target=rate.target,
                             target_label=rate.target_label)  # fmt: skip
                where = {"row": "published", "scale": "paper", "scale_note": "published numbers, paper scale"}
                for key in rate.rates:
                    row = run_columns(spec, run) | where | _published_columns(rate, MEASURES[key])
                    row |= {"remark": remarks[rate.treatment]} if rate.treatment in remarks else {}
                    yield row | {"measure": MEASURES[key].heading}


# --- cells ----------------------------------------------------------------------------------------


def rate_cell(cell: Cell, best: float | None) -> Printed:
    """A rate with its interval and its spread over seeds; bold where it equals `best`, marked where it was stopped."""
    return Printed(rate_text(cell), cell.rate == best, UNFINISHED if cell.unfinished else "", cell.runs)


def p_text(p: float) -> str:
    """A p value with three decimals, as tables print it."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def difference_cell(cell: Cell | None, base: str) -> Printed:
    """A difference with its interval and its p value, where there is one; bold where that is significant."""
    test = cell.tests.get(base) if cell else None
    if cell is None or test is None:
        return Printed(NONE)
    found = test.comparison
    numbers = [found.difference, *(bound for bound in (found.low, found.high) if bound is not None)]
    start = cell.rate - found.difference
    first, *bounds = (f"{change(cell, number, start):+.1f}".replace("-", MINUS) for number in numbers)
    text = f"{first} [{', '.join(bounds)}]" if bounds else first
    text += "" if test.p is None else f" ({p_text(test.p)})"
    return Printed(text, bold=test.p is not None and test.p < SIGNIFICANT, runs=cell.runs)


def _add_published(columns: list[Column], rows: list[list[Printed]], spec: ExhibitSpec, rates: list[PublishedRate],
                   target: str, label: str) -> None:  # fmt: skip
    """The columns of published numbers beside a target that the paper has, too."""
    by_treatment = {rate.treatment: rate for rate in rates if rate.target == target}
    for key in dict.fromkeys(key for rate in by_treatment.values() for key in rate.rates):
        columns.append(Column(MEASURES[key].heading, f"{label}, published"))
        for (treatment, operation), row in zip(spec.rows, rows, strict=True):
            rate = None if operation else by_treatment.get(treatment)
            row.append(Printed((rate.text(key) if rate else "") or NONE))


def _published_columns(rate: PublishedRate, measure: Measure) -> Row:
    row: Row = {"published": rounded(measure.shown(rate.rates[measure.key]))}
    return row | ({"remark": f"published as {rate.text(measure.key)}"} if rate.bound else {})


def _source_notes(spec: ExhibitSpec, way: DecodeRow) -> list[str]:
    """How well the model that transfer started from does on its own language."""
    notes = []
    for run in spec.sources:
        for decode in run.decodes:
            if decode.way == way.way:
                one = read_judged(run, decode)
                rates = ", ".join(
                    f"{measure.name} {with_unit(scores_text(one.scores, measure), measure)}" for measure in one.measures
                )
                name = f"Source model on its own test set ({run.target_label})"
                notes.append(f"{name}: {rates}; {count_text(one.scores)}.")
    return notes

"""Tables of a study: its corpora as counted, and error rates of every treatment, with intervals and tests."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from thaw.errors import UserError
from thaw.exhibits.dev import DevRates, read_dev_rates
from thaw.exhibits.grid import MINUS, NONE, Block, Cell, Column, Grid, written
from thaw.exhibits.measures import (
    LEVELS,
    Difference,
    Differences,
    Level,
    Result,
    Results,
    differences,
    level_text,
    load_results,
    load_seed,
)
from thaw.exhibits.published import PublishedRate, read_rates
from thaw.exhibits.spec import CorpusRow, ExhibitSpec
from thaw.exhibits.tidy import corpora_csv, rates_csv
from thaw.exhibits.units import count_text, interval_note, paired_over, units_of_results
from thaw.files import read_json

SPLITS = ("train", "dev", "test")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class RatesTable:
    """What a study says about its table of error rates. `remarks` are footnotes by treatment.

    `split` is the one that the published numbers are of: where it is dev, they stand beside our greedy rates on dev,
    which training measures, in a block of their own.
    """

    title: str
    published: str  # file in config/published
    published_title: str
    published_note: str
    published_decoder: str  # the kind of decoder they were made with; they stand beside results of that kind alone
    remarks: Mapping[str, str] = field(default_factory=dict)
    stub: str = "Frozen layers"  # what the treatments are
    models: bool = False  # whether rows name their model
    split: Literal["test", "dev"] = "test"

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        rates = read_rates(spec, self.published)
        results = load_results(spec)
        against = {base: differences(results, spec, base) for base in _bases(spec)}
        blocks = [self._results(spec, results, rates, decoder) for decoder in spec.decoders]
        dev = read_dev_rates(spec) if self.split == "dev" else {}
        blocks += [self._dev(spec, dev, rates)] if dev else []
        tests = [
            _differences_block(spec, decoder, base, found, results, self.stub)
            for decoder in spec.decoders
            for base, found in against.items()
        ]
        # Beside our numbers only where they can be compared; in a table of their own otherwise.
        beside = [decoder for decoder in spec.decoders if self._comparable(spec, decoder)]
        apart = () if beside or (dev and spec.comparable) else (self._published(rates),)
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, tuple(blocks), apart, tuple(tests))
        return written(grid, rates_csv(spec, results, dev, against, rates, self.remarks, beside))

    def _comparable(self, spec: ExhibitSpec, decoder: str) -> bool:
        if self.split == "dev":
            return False  # these are of the test split
        kinds = {decode.kind for run in spec.runs for decode in run.decodes if decode.decoder == decoder}
        return spec.comparable and kinds == {self.published_decoder}

    def _results(self, spec: ExhibitSpec, results: Results, rates: list[PublishedRate], decoder: str) -> Block:
        marks = self._marks(spec.treatments)
        columns, cells = self._model_column(spec)
        for target, target_label in spec.targets.items():
            for level, name in LEVELS.items():
                columns.append(Column(f"{name} % [{level_text(spec.scoring.level)}]", target_label))
                for row, cell in zip(cells, _rate_cells(spec, results, target, decoder, level), strict=True):
                    row.append(cell)
            if self._comparable(spec, decoder):
                _add_published(columns, cells, spec, rates, target, f"{target_label}, published")
        rows = tuple(
            (Cell(label, mark=marks.get(treatment, "")), *row)
            for (treatment, label), row in zip(spec.treatments.items(), cells, strict=True)
        )
        published = [f"Published: {self.published_note}"] if self._comparable(spec, decoder) else []
        notes = (*_rate_notes(spec, results), *_source_notes(spec, decoder), *published, *self._footnotes(marks))
        title = f"{self.title}: {spec.decoders[decoder]}"
        return Block(title, self.stub, tuple(columns), rows, notes)

    def _model_column(self, spec: ExhibitSpec) -> tuple[list[Column], list[list[Cell]]]:
        """The columns and cells that a block begins with."""
        if not self.models:
            return [], [[] for _ in spec.treatments]
        models = {run.treatment: run.model for run in spec.runs}
        return [Column("Model", text=True)], [[Cell(models[treatment])] for treatment in spec.treatments]

    def _dev(self, spec: ExhibitSpec, dev: DevRates, rates: list[PublishedRate]) -> Block:
        """Greedy WER on dev after the best epoch, and beside it, where the two can be compared, the published one."""
        columns, cells = self._model_column(spec)
        for target, target_label in spec.targets.items():
            columns.append(Column("WER % (epoch)", target_label))
            found = [dev.get((target, treatment)) for treatment in spec.treatments]
            best = min((rate.mean for rate in found if rate), default=None)
            for row, rate in zip(cells, found, strict=True):
                row.append(Cell(rate.text, rate.mean == best, runs=rate.runs) if rate else Cell(NONE))
            if spec.comparable:
                _add_published(columns, cells, spec, rates, target, f"{target_label}, published")
        labels = spec.treatments.values()
        rows = tuple((Cell(label), *row) for label, row in zip(labels, cells, strict=True))
        note = (
            "Greedy decoding of the dev set after the epoch with the lowest dev loss, whose weights are decoded above. "
            "±: standard deviation over seeds. No intervals: training keeps no counts by utterance. "
            "Bold: lowest of its column."
        )
        published = (f"Published: {self.published_note}",) if spec.comparable else ()
        return Block("Word error rate on the dev set: greedy", self.stub, tuple(columns), rows, (note, *published))

    def _published(self, rates: list[PublishedRate]) -> Block:
        labels = {rate.treatment: rate.label for rate in rates}
        targets = {rate.target: rate.target_label for rate in rates}
        marks = self._marks(labels)
        levels = _levels(rates)
        columns = tuple(Column(f"{LEVELS[level]} %", label) for label in targets.values() for level in levels)
        by_cell = {(rate.treatment, rate.target): rate for rate in rates}
        best = {(t, v): min(_known(rates, t, v), default=None) for t in targets for v in levels}
        rows = []
        for treatment, label in labels.items():
            row = [Cell(label, mark=marks.get(treatment, ""))]
            for target in targets:
                for level in levels:
                    rate = by_cell.get((treatment, target))
                    text = rate.text(level) if rate else ""
                    row.append(Cell(text or NONE, bold=bool(rate and text and rate.rate(level) == best[target, level])))
            rows.append(tuple(row))
        notes = (f"{self.published_note} Bold: lowest of its column.", *self._footnotes(marks))
        return Block(self.published_title, self.stub, columns, tuple(rows), notes)

    def _marks(self, treatments: Mapping[str, str]) -> dict[str, str]:
        """A footnote letter for each treatment with a remark; equal remarks share a letter."""
        texts = list(dict.fromkeys(self.remarks[t] for t in treatments if t in self.remarks))
        return {t: string.ascii_lowercase[texts.index(self.remarks[t])] for t in treatments if t in self.remarks}

    def _footnotes(self, marks: Mapping[str, str]) -> list[str]:
        notes = {letter: self.remarks[treatment] for treatment, letter in marks.items()}
        return [f"{letter}: {text}" for letter, text in sorted(notes.items())]


# --- parts of the table of rates ------------------------------------------------------------------


def percent(fraction: float) -> str:
    """0.6234 -> "62.3"."""
    return f"{100 * fraction:.1f}"


def rate_text(scores: Mapping[str, Any], level: Level) -> str:
    """The rate and interval of one decode: "62.3 % [59.8, 64.9]"."""
    found = scores[level]
    text = f"{percent(found['rate'])} %"
    if found["low"] is not None:
        text += f" [{percent(found['low'])}, {percent(found['high'])}]"
    return text


def p_text(p: float) -> str:
    """A p value with three decimals, as tables print it."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def _bases(spec: ExhibitSpec) -> list[str]:
    bases = dict.fromkeys(base for base in (spec.baseline, spec.reference) if base)
    return [base for base in bases if base in spec.treatments]


def _rate_cells(spec: ExhibitSpec, results: Results, target: str, decoder: str, level: Level) -> list[Cell]:
    """One column: a cell per treatment, the lowest rate bold."""
    column = [results.get((target, decoder, treatment)) for treatment in spec.treatments]
    best = min((result.rate(level) for result in column if result), default=None)
    return [rate_cell(result, level, best) if result else Cell(NONE) for result in column]


def rate_cell(result: Result, level: Level, best: float | None) -> Cell:
    """A rate in per cent with its spread over seeds and its interval; bold where it equals `best`."""
    scores = result.pooled[level]
    text = percent(result.rate(level))
    spread = result.spread(level)
    if spread is not None:
        text += f" ±{percent(spread)}"
    if scores["low"] is not None:
        text += f" [{percent(scores['low'])}, {percent(scores['high'])}]"
    return Cell(text, bold=result.rate(level) == best, runs=result.runs)


def _add_published(
    columns: list[Column],
    cells: list[list[Cell]],
    spec: ExhibitSpec,
    rates: list[PublishedRate],
    target: str,
    group: str,
) -> None:
    """The columns of published numbers beside a target that the paper has, too."""
    by_treatment = {rate.treatment: rate for rate in rates if rate.target == target}
    if not by_treatment:
        return
    for level in _levels(rates):
        columns.append(Column(f"{LEVELS[level]} %", group))
        for treatment, row in zip(spec.treatments, cells, strict=True):
            rate = by_treatment.get(treatment)
            row.append(Cell((rate.text(level) if rate else "") or NONE))


def _levels(rates: list[PublishedRate]) -> list[Level]:
    """The measures that were published."""
    return [level for level in LEVELS if any(rate.rate(level) is not None for rate in rates)]


def _known(rates: list[PublishedRate], target: str, level: Level) -> list[float]:
    """The published rates on one target, bounds left out."""
    found = [rate.rate(level) for rate in rates if rate.target == target and not rate.bound]
    return [rate for rate in found if rate is not None]


def _rate_notes(spec: ExhibitSpec, results: Results) -> list[str]:
    units = units_of_results(results.values(), spec.targets)
    notes = [f"{interval_note(spec.scoring, units)} Bold: lowest of its column."]
    seeds = {len(result.seeds) for result in results.values()}
    if seeds != {1}:
        notes.append(f"Mean ± standard deviation over {'–'.join(map(str, sorted(seeds)))} random seeds.")
    return notes


def _source_notes(spec: ExhibitSpec, decoder: str) -> list[str]:
    """How well the model that transfer started from does on its own language."""
    notes = []
    for run in spec.sources:
        for decode in run.decodes:
            if decode.decoder == decoder:
                scores = load_seed(run, decode).scores
                rates = ", ".join(f"{name} {rate_text(scores, level)}" for level, name in LEVELS.items())
                notes.append(f"Source model on its own test set ({run.target_label}): {rates}; {count_text(scores)}.")
    return notes


def _differences_block(
    spec: ExhibitSpec, decoder: str, base: str, found: Differences, results: Results, stub: str
) -> Block:
    label = spec.treatments[base]
    over = paired_over(units_of_results(results.values(), spec.targets))
    columns = tuple(Column(f"{name} (p)", target) for target in spec.targets.values() for name in LEVELS.values())
    rows = []
    for treatment, name in spec.treatments.items():
        if treatment != base:
            cells = [
                _difference_cell(
                    found.get((target, decoder, treatment, level)), results.get((target, decoder, treatment))
                )
                for target in spec.targets
                for level in LEVELS
            ]
            rows.append((Cell(name), *cells))
    note = (
        f"Points of WER and CER above ({MINUS}: below) “{label}”, same test utterances. p: two-sided paired "
        f"permutation test {over}, Holm-corrected within each column; bold: p < {SIGNIFICANT}."
    )
    title = f"Difference to “{label}”: {spec.decoders[decoder]}"
    return Block(title, stub, columns, tuple(rows), (note,))


def _difference_cell(difference: Difference | None, result: Result | None) -> Cell:
    if difference is None or result is None:
        return Cell(NONE)
    points = f"{100 * difference.comparison.difference:+.1f}".replace("-", MINUS)
    return Cell(f"{points} ({p_text(difference.p_holm)})", bold=difference.p_holm < SIGNIFICANT, runs=result.runs)


# --- corpora --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorporaTable:
    """The corpora of a study as counted after every filter, beside what their lists hold."""

    title: str
    apart: tuple[Block, ...] = ()  # published counts

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        counts = [(corpus, read_counts(corpus)) for corpus in spec.corpora]
        columns = (
            Column("Split", text=True),
            Column("Listed"),
            Column("Kept"),
            Column("Hours"),
            Column("Speakers"),
            Column("Characters"),
            Column("Words"),
            Column("Alphabet"),
            Column("Rejected, by reason", text=True),
        )
        rows = tuple(
            row for corpus, splits in counts for row in (_corpus_row(corpus, name, splits[name]) for name in splits)
        )
        notes = (
            "Listed: utterances in the corpus's own lists. Kept: those left after conversion, normalisation and the "
            "filters. Alphabet: output characters, space included, blank not.",
        )
        block = Block(self.title, "Corpus", columns, rows, notes)
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, (block,), self.apart)
        return written(grid, corpora_csv(spec, counts))


Counts = dict[str, dict[str, object]]


def read_counts(corpus: CorpusRow) -> Counts:
    """A manifest's counts by split, splits in order; UserError where the file is of another shape."""
    found = read_json(Path(corpus.counts))
    try:
        counts = {split: found[split] for split in SPLITS}
        for split in counts.values():
            for key in ("utterances", "hours", "speakers", "characters", "words", "listed", "rejected"):
                split[key]
        return counts
    except (KeyError, TypeError) as error:
        raise UserError(f"{corpus.counts}: not the counts that `thaw manifest` writes ({error!r})") from error


def reasons_text(rejected: Mapping[str, int]) -> str:
    """{"too long": 3} -> "3 too long"."""
    return "; ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items()) if count)


def _corpus_row(corpus: CorpusRow, split: str, counts: Mapping[str, object]) -> tuple[Cell, ...]:
    rejected = counts["rejected"]
    assert isinstance(rejected, dict)
    numbers = [f"{counts[key]:,}" for key in ("speakers", "characters", "words")]
    texts = (
        corpus.label,
        split,
        f"{counts['listed']:,}",
        f"{counts['utterances']:,}",
        f"{counts['hours']:.2f}",
        *numbers,
        str(len(corpus.alphabet)) if corpus.alphabet else NONE,
        reasons_text(rejected) or "none",
    )
    return tuple(Cell(text) for text in texts)

"""Tables of a study: its corpora as counted, and error rates of every treatment, with intervals and tests."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thaw.errors import UserError
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
from thaw.files import read_json

SPLITS = ("train", "dev", "test")
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class RatesTable:
    """What a study says about its table of error rates. `remarks` are footnotes by treatment."""

    title: str
    published: str  # file in config/published
    published_title: str
    published_note: str
    published_decoder: str  # the kind of decoder they were made with; they stand beside results of that kind alone
    remarks: Mapping[str, str] = field(default_factory=dict)

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        rates = read_rates(spec, self.published)
        results = load_results(spec)
        against = {base: differences(results, spec, base) for base in _bases(spec)}
        blocks = [self._results(spec, results, rates, decoder) for decoder in spec.decoders]
        tests = [
            _differences_block(spec, decoder, base, found, results)
            for decoder in spec.decoders
            for base, found in against.items()
        ]
        # Beside our numbers only where they can be compared; in a table of their own otherwise.
        beside = [decoder for decoder in spec.decoders if self._comparable(spec, decoder)]
        apart = () if beside else (self._published(rates),)
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, tuple(blocks), apart, tuple(tests))
        return written(grid, rates_csv(spec, results, against, rates, self.remarks, beside))

    def _comparable(self, spec: ExhibitSpec, decoder: str) -> bool:
        kinds = {decode.kind for run in spec.runs for decode in run.decodes if decode.decoder == decoder}
        return spec.comparable and kinds == {self.published_decoder}

    def _results(self, spec: ExhibitSpec, results: Results, rates: list[PublishedRate], decoder: str) -> Block:
        marks = self._marks(spec.treatments)
        columns: list[Column] = []
        cells: list[list[Cell]] = [[] for _ in spec.treatments]
        for target, target_label in spec.targets.items():
            for level, name in LEVELS.items():
                columns.append(Column(f"{name} % [{level_text(spec.scoring.level)}]", target_label))
                for row, cell in zip(cells, _rate_cells(spec, results, target, decoder, level), strict=True):
                    row.append(cell)
            if self._comparable(spec, decoder):
                _add_published(columns, cells, spec, rates, target, target_label)
        rows = tuple(
            (Cell(label, mark=marks.get(treatment, "")), *row)
            for (treatment, label), row in zip(spec.treatments.items(), cells, strict=True)
        )
        published = [f"Published: {self.published_note}"] if self._comparable(spec, decoder) else []
        notes = (*_rate_notes(spec, results), *_source_notes(spec, decoder), *published, *self._footnotes(marks))
        return Block(f"{self.title}: {spec.decoders[decoder]}", "Frozen layers", tuple(columns), rows, notes)

    def _published(self, rates: list[PublishedRate]) -> Block:
        labels = {rate.treatment: rate.label for rate in rates}
        targets = {rate.target: rate.target_label for rate in rates}
        marks = self._marks(labels)
        columns = tuple(Column(f"{name} %", label) for label in targets.values() for name in LEVELS.values())
        by_cell = {(rate.treatment, rate.target): rate for rate in rates}
        best = {(t, v): min(rate.rate(v) for rate in rates if rate.target == t) for t in targets for v in LEVELS}
        rows = []
        for treatment, label in labels.items():
            row = [Cell(label, mark=marks.get(treatment, ""))]
            for target in targets:
                for level in LEVELS:
                    rate = by_cell.get((treatment, target))
                    row.append(
                        Cell(percent(rate.rate(level)), bold=rate.rate(level) == best[target, level])
                        if rate
                        else Cell(NONE)
                    )
            rows.append(tuple(row))
        notes = (f"{self.published_note} Bold: lowest of its column.", *self._footnotes(marks))
        return Block(self.published_title, "Frozen layers", columns, tuple(rows), notes)

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
    return [_rate_cell(result, level, best) if result else Cell(NONE) for result in column]


def _rate_cell(result: Result, level: Level, best: float | None) -> Cell:
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
    target_label: str,
) -> None:
    """The columns of published numbers beside a target that the paper has, too."""
    by_treatment = {rate.treatment: rate for rate in rates if rate.target == target}
    if not by_treatment:
        return
    for level, name in LEVELS.items():
        columns.append(Column(f"{name} %", f"{target_label}, published"))
        for treatment, row in zip(spec.treatments, cells, strict=True):
            rate = by_treatment.get(treatment)
            row.append(Cell(percent(rate.rate(level)) if rate else NONE))


def _rate_notes(spec: ExhibitSpec, results: Results) -> list[str]:
    notes = [
        f"[{level_text(spec.scoring.level)}]: bootstrap interval over test speakers, "
        f"{spec.scoring.bootstrap} resamples. Bold: lowest of its column."
    ]
    notes += dict.fromkeys(note for result in results.values() if (note := str(result.pooled.get("note", ""))))
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
                rates = ", ".join(f"{name} {percent(scores[level]['rate'])} %" for level, name in LEVELS.items())
                notes.append(f"Source model on its own test set ({run.target_label}): {rates}.")
    return notes


def _differences_block(spec: ExhibitSpec, decoder: str, base: str, found: Differences, results: Results) -> Block:
    label = spec.treatments[base]
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
        f"permutation test over speakers, Holm-corrected within each column; bold: p < {SIGNIFICANT}."
    )
    title = f"Difference to “{label}”: {spec.decoders[decoder]}"
    return Block(title, "Frozen layers", columns, tuple(rows), (note,))


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

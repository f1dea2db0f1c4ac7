"""The table of federated dropout: what each scheme leaves out of its clients' networks, and what that does to the rate.

Rates of layers and counts of parameters come from the records of the runs, since a probe's ranking decided them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thaw.errors import UserError
from thaw.exhibits.frame import COLUMNS, Cell, Frame, Row, Tested, as_csv, frame_rows, grouped, heading, read_frame
from thaw.exhibits.grid import Block, Column, Grid, Printed, written
from thaw.exhibits.notes import level_text
from thaw.exhibits.published import Published, read_rates, read_table
from thaw.exhibits.schemes import SCHEMES
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.tables import RatesTable, difference_cell
from thaw.files import read_json
from thaw.scoring.measures import MEASURES
from thaw.scoring.statistics import difference, holm

OWN = ("raised_layers", "parameters", "dropped", "dropped_percent", "bytes_down", "bytes_up")
AGAINST = "ambient"  # what `against` calls the other of a pair


@dataclass(frozen=True)
class Dropped:
    """What the clients of one run lacked."""

    rates: dict[str, float]  # by layer, input side first; empty without dropout
    start: str  # the identity of the run that it began from
    end: str  # of the ranking that its raised layers come from: "critical", "ambient" or none
    total: int  # parameters
    saved: int  # that a client's network had less
    down: int  # bytes, over all rounds and clients
    up: int

    @property
    def raised(self) -> tuple[str, ...]:
        """The layers that lacked more than others; none where all lacked the same."""
        least = min(self.rates.values(), default=0.0)
        return tuple(layer for layer, rate in self.rates.items() if rate > least)

    @property
    def percent(self) -> float:
        """The share of the parameters."""
        return 100 * self.saved / self.total


def read_dropped(run: RunRow) -> Dropped | None:
    """What a run's record says; None for what is no federated training. UserError for a record of another shape."""
    if not run.record:
        return None
    record = read_json(Path(run.record))
    try:
        found: dict[str, Any] = record["federated"]
        parameters = found["parameters"]
        dropout = record["recipe"]["recipe"]["learner"]["dropout"] or {}
        return Dropped(
            {row["layer"]: float(row["rate"]) for row in found["unit_rates"]},
            str(record["recipe"]["start"]),
            next((end for end in ("critical", "ambient") if dropout.get(end)), ""),
            int(parameters["total"]), int(parameters["saved"]), int(found["bytes_down"]), int(found["bytes_up"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.record}: not the record of a federated training ({error!r})") from error


def short(layer: str) -> str:
    """A layer as tables name it among its like: block_3 -> 3."""
    head, _, number = layer.rpartition("_")
    return number if head and number.isdigit() else layer


@dataclass(frozen=True)
class FederatedTable(RatesTable):
    """A row for each scheme: layers with more units left out, parameters left out, rates with their intervals."""

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json. The spec's baseline is a scheme."""
        frame = read_frame(spec)
        ways = grouped(frame, lambda cell: cell.decode.way).values()
        note = base_note(spec)
        blocks = [self._results(spec, cells, []) for cells in ways]
        blocks = [replace(block, notes=(*block.notes, note)) for block in blocks]
        tests = [self._differences(spec, cells, spec.baseline) for cells in ways
                 if any(spec.baseline in cell.tests for cell in cells)]  # fmt: skip
        published = self._published_schemes(spec, self.published) if self.published else ()
        pairs = [block for cells in ways if (block := against(spec, cells))]
        more = (*tests, *pairs, rate_vectors(spec))
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, tuple(blocks), published, more)
        return written(grid, as_csv((*COLUMNS, *OWN), self._csv(spec, frame)))

    def _model_column(self, spec: ExhibitSpec) -> tuple[list[Column], list[list[Printed]]]:
        """What each scheme leaves out; where runs differ in their layers, those of each seed."""
        columns = [Column("Layers at the raised rate", text=True), Column("Parameters"), Column("Dropped"), Column("%")]
        rows = []
        for treatment, _ in spec.rows:
            found = [one for run in spec.runs if run.treatment == treatment if (one := read_dropped(run))]
            rows.append([Printed(text) for text in scheme_texts(found)])
        return columns, rows

    def _published_schemes(self, spec: ExhibitSpec, published: Published) -> tuple[Block, ...]:
        """The paper's table, apart."""
        dropped = {row["treatment"]: row["dropped"] for row in read_table(spec, published.file)}
        rates = read_rates(spec, published.file)
        best = min(rate.rates["word"] for rate in rates)
        rows = tuple(
            (
                Printed(rate.label),
                Printed(dropped[rate.treatment]),
                Printed(rate.text("word"), rate.rates["word"] == best),
            )
            for rate in rates
        )
        columns = (Column("Parameters dropped, %"), Column(MEASURES["word"].heading))
        return (Block(published.title, self.stub, columns, rows, (published.note,)),)

    def _csv(self, spec: ExhibitSpec, frame: Frame) -> Iterable[Row]:
        found = {run.id: read_dropped(run) for run in spec.runs}
        for cell in frame:
            ids = {one.run.id: found[one.run.id] for one in cell.judged}
            for row in frame_rows(spec, [cell]):
                dropped = ids.get(row["run"]) if row["row"] == "run" else next(iter(ids.values()))
                yield row | (own_columns(dropped, row["row"] == "run") if dropped else {})
        published = self.published
        if published is None:
            return
        more = {row["treatment"]: row["dropped"] for row in read_table(spec, published.file)}
        for rate in read_rates(spec, published.file):
            yield heading(spec) | {
                "scale": "paper", "scale_note": "published numbers, paper scale", "row": "published",
                "target": rate.target, "target_label": rate.target_label, "treatment": rate.treatment,
                "label": rate.label, "measure": MEASURES["word"].heading, "published": 100 * rate.rates["word"],
                "dropped_percent": more[rate.treatment],
            }  # fmt: skip


def own_columns(dropped: Dropped, of_run: bool) -> Row:
    """What the csv says of one run, or (the layers left out) of all runs of a scheme."""
    row: Row = {"parameters": dropped.total, "dropped": dropped.saved, "dropped_percent": round(dropped.percent, 4)}
    if of_run:
        row |= {"raised_layers": " ".join(dropped.raised), "bytes_down": dropped.down, "bytes_up": dropped.up}
    return row


def scheme_texts(found: Sequence[Dropped]) -> tuple[str, str, str, str]:
    """Layers, parameters, dropped ones and their share, of a scheme's runs; those of each seed where they differ."""
    if not found:
        return "", "", "", ""
    layers = [", ".join(map(short, one.raised)) for one in found]
    texts = [[f"{one.total:,}" for one in found], [f"{one.saved:,}" for one in found],
             [f"{one.percent:.1f}" for one in found]]  # fmt: skip
    joined = (" | ".join(texts_of if len(set(texts_of)) > 1 else texts_of[:1]) for texts_of in (layers, *texts))
    first, *rest = joined
    return first or "none", *rest  # type: ignore[return-value]


def base_note(spec: ExhibitSpec) -> str:
    """Whether intervals hold what another base would have changed."""
    starts = {one.start for run in spec.runs if (one := read_dropped(run))}
    if len(starts) == 1:
        return "All start from one trained model: intervals hold other cohorts and units, nothing of another base."
    return "Seeds start from a base of their own each, so intervals hold what another base would have changed, too."


def rate_vectors(spec: ExhibitSpec) -> Block:
    """The share of hidden units left out, in per cent, by layer: a row for each scheme, or for each of its seeds."""
    by_scheme: dict[str, list[tuple[RunRow, Dropped]]] = {}
    for run in spec.runs:
        if (one := read_dropped(run)) and one.rates:
            by_scheme.setdefault(run.label, []).append((run, one))
    layers = dict.fromkeys(layer for found in by_scheme.values() for _, one in found for layer in one.rates)
    rows = []
    for label, found in by_scheme.items():
        same = len({tuple(one.rates.items()) for _, one in found}) == 1
        for run, one in found[:1] if same else found:
            name = label if same else f"{label}, seed {run.seed}"
            rows.append((Printed(name), *(Printed(f"{100 * one.rates[layer]:g}") for layer in layers)))
    title = "Hidden units of both feed-forward modules that clients lack, in per cent, by layer"
    return Block(title, "Scheme", tuple(Column(short(layer)) for layer in layers), tuple(rows))


def published_schemes() -> Published:
    """What the paper prints."""
    return Published(
        SCHEMES, "Published (Zhou et al. 2022, Table 3, paper scale)",
        "Streaming Conformer, 137M parameters, private data; one training each, no intervals. The paper prints shares "
        "alone: 10 % of all hidden units, 50 % of those of n layers, and 20 % of all in Flat20, explain all seven.",
        "greedy",
    )  # fmt: skip


def against(spec: ExhibitSpec, cells: Sequence[Cell]) -> Block | None:
    """Critical layers against ambient ones in networks of about the same size: differences, one family for Holm.

    About the same: shares that round to the same per cent, as the paper compares them. None where there are no pairs.
    """
    rows: list[tuple[Printed, ...]] = []
    columns = []
    for measure, column in grouped(cells, lambda cell: cell.measure).items():
        columns.append(Column(f"{measure.name} [{level_text(spec.scoring.level)}]", cells[0].run.target_label))
        for place, (critical, ambient, tested) in enumerate(tested_pairs(spec, column)):
            if len(rows) == place:
                rows.append((Printed(f"{critical.label} to {ambient.label} ({share_text(ambient)})"),))
            rows[place] = (*rows[place], difference_cell(replace(critical, tests={AGAINST: tested}), AGAINST))
    if not rows:
        return None
    title = f"Critical to ambient layers at the same share: {cells[0].decode.way_label}"
    note = "Difference in points (+: leaving out units of critical layers costs more); in brackets p after Holm."
    return Block(title, "Schemes", tuple(columns), tuple(rows), (note,))


def tested_pairs(spec: ExhibitSpec, column: Sequence[Cell]) -> list[tuple[Cell, Cell, Tested]]:
    """Those pairs of one column, with by how much the critical scheme's rate is above the ambient one's."""
    pairs = pairs_of(column)
    found = [difference(a.samples, c.samples, c.measure.key, spec.scoring, a.noise) for c, a in pairs]
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    tests = [Tested(one, None if one.p is None else next(corrected)) for one in found]
    return [(critical, ambient, test) for (critical, ambient), test in zip(pairs, tests, strict=True)]


def share_text(cell: Cell) -> str:
    """The share of the parameters that a scheme's clients lack: "9 %"."""
    dropped = read_dropped(cell.run)
    return f"{dropped.percent if dropped else 0:.0f} %"


def pairs_of(column: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Critical and ambient schemes of one column whose shares round to the same per cent."""
    found = [(cell, dropped) for cell in column if (dropped := read_dropped(cell.run))]
    return [
        (critical, ambient)
        for critical, its in found
        for ambient, others in found
        if (its.end, others.end) == ("critical", "ambient") and round(its.percent) == round(others.percent)
    ]

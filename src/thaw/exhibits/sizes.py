"""The models of an ambient study: how many parameters they have, and how well they do with nothing reset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.config.starts import BEST
from thaw.errors import UserError
from thaw.exhibits.frame import Row, as_csv, grouped
from thaw.exhibits.grid import NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import bounds_text, level_text
from thaw.exhibits.published import read_table
from thaw.exhibits.resets import COLUMNS, ResetCell, ResetPlace, read_resets, reset_rows
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.files import read_json

COUNTS = ("layers", "conformer_parameters", "total_parameters")


def draw(spec: ExhibitSpec, published: str, paper: str) -> dict[str, bytes]:
    """A row for each model; `published`: the file of the paper's own sizes, which stand in a block of their own."""
    title = "Models"
    bases = [cell for cell in read_resets(spec) if cell.place == ResetPlace(BEST)]
    counts = {run.treatment: parameters(run) for run in spec.runs}
    columns = (Column("Norm", text=True), Column("Blocks"), Column("Conformer parameters"), Column("All parameters"),
               Column(f"{bases[0].measure.heading} [{level_text(spec.scoring.level)}]"), Column("Seeds"))  # fmt: skip
    rows = tuple(_row(cell, counts[cell.run.treatment]) for cell in bases)
    note = (
        "Conformer parameters: those of the blocks, without the subsampling before them and the output layer behind "
        "them. Rates as trained, mean over random seeds."
    )
    block = Block(title, "Model", columns, rows, (note,))
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, (block,), (_published(spec, published, paper),))
    return written(grid, as_csv((*COLUMNS, *COUNTS), _csv(spec, bases, counts)))


def parameters(run: RunRow) -> dict[str, int]:
    """COUNTS of a training, from its record; UserError where the file is of another shape."""
    record = read_json(Path(run.record))
    try:
        by_layer = {layer: int(count) for layer, count in record["parameters"]["by_layer"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.record}: not the record that `thaw train` writes ({error!r})") from error
    blocks = {layer: count for layer, count in by_layer.items() if layer.startswith("block_")}
    return dict(zip(COUNTS, (len(blocks), sum(blocks.values()), sum(by_layer.values())), strict=True))


def _row(cell: ResetCell, counts: Mapping[str, int]) -> tuple[Printed, ...]:
    found, traits = cell.estimate, cell.run.traits
    norm = traits["norm"] + (f", {traits['norm_groups']} groups" if traits["norm"] == "group" else "")
    rate = bounds_text(cell.measure, found.rate, found.low, found.high)
    runs = tuple(one.run.id for one in cell.probed)
    numbers = [f"{counts[key]:,}" for key in COUNTS]
    return (
        Printed(cell.run.label),
        *map(Printed, (norm, *numbers)),
        Printed(rate, runs=runs),
        Printed(str(found.seeds)),
    )


def _published(spec: ExhibitSpec, file: str, paper: str) -> Block:
    rows = []
    for row in read_table(spec, file):
        keys = ("label", "blocks", "width", "heads", "conformer_millions", "total_millions")
        rows.append(tuple(Printed(row[key] or NONE) for key in keys))
    titles = ("Blocks", "Width", "Heads", "Conformer parameters, M", "All parameters, M")
    notes = (
        "All parameters: with the prediction network and joint network of a transducer, where ours have a CTC layer. "
        "The streaming model is that of a companion paper (arXiv 2110.03634).",
    )
    return Block(f"Published ({paper}, paper scale)", "Model", tuple(map(Column, titles)), tuple(rows), notes)


def _csv(spec: ExhibitSpec, bases: Sequence[ResetCell], counts: Mapping[str, Mapping[str, int]]) -> list[Row]:
    of_model = grouped(bases, lambda cell: cell.run.treatment)
    rows: list[dict[str, Any]] = []
    for treatment, cells in of_model.items():
        rows += [row | {**counts[treatment]} for row in reset_rows(spec, cells)]
    return rows

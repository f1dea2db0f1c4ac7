"""Word error rate by how many layers stay frozen, over all studies: one line for each model and pair of languages."""

from __future__ import annotations

from collections.abc import Sequence

from thaw.exhibits.frame import Cell, frame_csv, grouped, read_frame
from thaw.exhibits.grid import NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import level_text, rate_notes
from thaw.exhibits.rates import Kind, RatesFigure, Ticks
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.tables import rate_cell
from thaw.scoring.measures import WORD

SCRATCH = -18.0  # where runs from scratch stand, on an axis in per cent
WORDS: tuple[tuple[Kind, str], ...] = (("level", "from scratch"), ("other", "other layers, or frozen in another way"))


def pair_label(cell: Cell) -> str:
    """The model and the two languages of a cell."""
    run = cell.run
    return f"{run.model}, {run.source_label} → {run.target_label}"


def share(cell: Cell) -> float:
    """Frozen layers in per cent of the model's layers."""
    return 100 * cell.run.frozen / max(cell.run.layers, 1)


def kinds(cells: Sequence[Cell]) -> list[Kind]:
    """Scratch; on the line, at each depth, the first treatment that freezes the first layers; the others."""
    line: dict[float, str] = {}
    for cell in cells:
        if cell.run.frozen_first and not cell.run.scratch:
            line.setdefault(share(cell), cell.run.treatment)
    return [
        "level" if cell.run.scratch else "line" if line.get(share(cell)) == cell.run.treatment else "other"
        for cell in cells
    ]


def _ticks(cells: Sequence[Cell]) -> Ticks:
    """Per cent of frozen layers; left of them, where there are any, a place for runs from scratch."""
    scratch = {SCRATCH: "from\nscratch"} if any(cell.run.scratch for cell in cells) else {}
    return scratch | {float(per_cent): str(per_cent) for per_cent in range(0, 101, 20)}


def draw_figure(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """WER by share of frozen layers: a panel for each decoder; png, pdf, and the data as csv."""
    return RatesFigure(
        title, "Frozen layers (% of the model's layers)", WORD.key, pair_label,
        lambda cell: SCRATCH if cell.run.scratch else share(cell), kinds, _ticks, WORDS, spread=1.5,
    ).draw(spec)  # fmt: skip


def draw_table(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """One block for each model and pair of languages, as csv, md, tex and json."""
    frame = read_frame(spec, [WORD.key], compared=False)
    pairs = [*grouped(frame, pair_label).items()]
    notes = [*rate_notes(spec, frame), "Of runs with nothing frozen only the study's reference is shown."]
    blocks = tuple(_block(spec, label, cells, notes if (label, cells) == pairs[-1] else []) for label, cells in pairs)
    return written(Grid(f"{spec.study}-{spec.name}", title, spec.note, blocks), frame_csv(spec, frame))


def _block(spec: ExhibitSpec, label: str, cells: Sequence[Cell], notes: Sequence[str]) -> Block:
    ways = {cell.decode.way: cell.decode.way_label for cell in cells}
    best = {way: min(cell.rate for cell in cells if cell.decode.way == way) for way in ways}
    rows = []
    treatments = grouped(cells, lambda cell: cell.run.treatment)
    for mine in sorted(treatments.values(), key=lambda mine: (not mine[0].run.scratch, share(mine[0]))):
        run, found = mine[0].run, {cell.decode.way: cell for cell in mine}
        depth = NONE if run.scratch else f"{run.frozen} of {run.layers}"
        rates = (rate_cell(found[way], best[way]) if way in found else Printed(NONE) for way in ways)
        rows.append((Printed(run.label), Printed(depth), *rates))
    titles = [Column(f"{WORD.heading} [{level_text(spec.scoring.level)}], {name}") for name in ways.values()]
    return Block(label, "Treatment", (Column("Layers frozen"), *titles), tuple(rows), tuple(notes))

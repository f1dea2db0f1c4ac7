"""Tables of resets: which layers are critical, how far seeds agree on that, and how it comes about in a training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import rankdata, spearmanr

from thaw.config.starts import BEST
from thaw.exhibits.frame import as_csv, grouped
from thaw.exhibits.grid import MINUS, NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import bounds_text, level_text
from thaw.exhibits.resets import COLUMNS, KINDS, ResetCell, ResetPlace, read_resets, reset_rows
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.tables import p_text
from thaw.scoring.statistics import SIGNIFICANT, family_text

AMBIENT = 0.1  # a penalty below so large a share of the rate as trained: no paper names a threshold


def ranks(cells: Sequence[ResetCell]) -> dict[int, dict[str, float]]:
    """Seed -> layer -> its rank by penalty among these cells of one model; 1: the most critical. Ties share a rank."""
    found = {}
    for seed in cells[0].rates():
        rates = [cell.rates()[seed] for cell in cells]
        placed = rankdata([-rate for rate in rates])
        found[seed] = {cell.place.layer: float(rank) for cell, rank in zip(cells, placed, strict=True)}
    return found


def agreement(by_seed: dict[int, dict[str, float]]) -> float | None:
    """The mean rank correlation (Spearman) of all pairs of seeds; None for one seed, and where all ranks are tied."""
    orders = [[*order.values()] for order in by_seed.values()]
    if len(orders) < 2 or any(len(set(order)) == 1 for order in orders):
        return None
    return fmean(float(spearmanr(*pair).statistic) for pair in itertools.combinations(orders, 2))


def whole_layers(cells: Sequence[ResetCell], to: str, snapshot: str = BEST) -> list[ResetCell]:
    """The cells of whole layers, statistics too, reset in one way at one snapshot."""
    return [cell for cell in cells if cell.place.layer and not cell.place.module and cell.place.buffers
            and cell.place.to == to and cell.place.snapshot == snapshot]  # fmt: skip


def draw_ranks(spec: ExhibitSpec) -> dict[str, bytes]:
    """The penalty of each layer's resets, its rank, and the spread of ranks over seeds: a block for each model."""
    title = "Criticality of layers"
    cells = read_resets(spec)
    blocks, rows = [], []
    for mine in grouped(cells, lambda cell: cell.run.treatment).values():
        best = [cell for cell in mine if cell.place.snapshot == BEST and not cell.place.module]
        blocks.append(_ranked(spec, best))
        rows += reset_rows(spec, best)
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, tuple(blocks))
    return written(grid, as_csv(COLUMNS, rows))


def _ranked(spec: ExhibitSpec, cells: Sequence[ResetCell]) -> Block:
    base = next(cell for cell in cells if cell.place == ResetPlace(BEST))
    kinds = [to for to in ("draw", "first") if whole_layers(cells, to)]
    ranked = {to: ranks(whole_layers(cells, to)) for to in kinds}
    rows = []
    for layer in base.run.stack:
        row = [Printed(layer)]
        for to in kinds:
            cell = next(cell for cell in whole_layers(cells, to) if cell.place.layer == layer)
            row += [penalty_cell(cell, base), Printed(_rank_text([one[layer] for one in ranked[to].values()]))]
        rows.append(tuple(row))
    titles = [Column(text, f"{KINDS[to]}") for to in kinds
              for text in (f"penalty [{level_text(spec.scoring.level)}] (p)", "rank")]  # fmt: skip
    found = base.estimate
    rate = bounds_text(base.measure, found.rate, found.low, found.high)
    seeds = "one random seed" if found.seeds == 1 else f"{found.seeds} random seeds"
    notes = [
        f"As trained: {base.measure.name} {rate} %, {seeds}. Penalty: points above it, of the same "
        f"trainings; ambient (a): below {100 * AMBIENT:.0f} % of it.{_bold(cells)}",
        "Rank: 1 is the most critical layer; mean over seeds ± standard deviation (lowest to highest).",
        *([family_text(len(base.run.stack))] if _bold(cells) else []),
    ]
    for to in kinds:
        if (agreed := agreement(ranked[to])) is not None:
            notes.append(f"{KINDS[to]}: rank correlation (Spearman) between seeds {agreed:.2f}, mean of all pairs.")
    return Block(base.run.label, "Layer", tuple(titles), tuple(rows), tuple(notes))


def _bold(cells: Sequence[ResetCell]) -> str:
    """What bold says, where there are tests: one training alone has none."""
    tested = any(cell.penalty is not None and cell.penalty.p is not None for cell in cells)
    return f" Bold: p < {SIGNIFICANT}." if tested else ""


def penalty_cell(cell: ResetCell, base: ResetCell) -> Printed:
    """ "+31.2 [28.0, 34.4] (<0.001)"; marked where it is ambient, bold where it is significant."""
    assert cell.penalty is not None  # only the model as it is has none
    test, p = cell.penalty.comparison, cell.penalty.p
    numbers = [test.difference, *(bound for bound in (test.low, test.high) if bound is not None)]
    first, *bounds = (f"{100 * number:+.1f}".replace("-", MINUS) for number in numbers)
    text = f"{first} [{', '.join(bounds)}]" if bounds else first
    text += "" if p is None else f" ({p_text(p)})"
    mark = "a" if test.difference < AMBIENT * base.estimate.rate else ""
    return Printed(text, p is not None and p < SIGNIFICANT, mark, tuple(one.run.id for one in cell.probed))


def _rank_text(found: Sequence[float]) -> str:
    mean = f"{fmean(found):.1f}"
    return mean if len(found) == 1 else f"{mean} ±{stdev(found):.1f} ({min(found):g}–{max(found):g})"


def draw_modules(spec: ExhibitSpec) -> dict[str, bytes]:
    """The penalty of resetting one module of one layer: a block for each model and each kind of reset."""
    title = "Modules reset alone"
    cells = read_resets(spec)
    blocks, rows = [], []
    for mine in grouped(cells, lambda cell: cell.run.treatment).values():
        base = next(cell for cell in mine if cell.place == ResetPlace(BEST))
        kinds = grouped((cell for cell in mine if cell.place.module), lambda cell: cell.place.to)
        blocks += [_modules(spec, base, found, to) for to, found in kinds.items()]
        rows += reset_rows(spec, [base, *(cell for found in kinds.values() for cell in found)])
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, tuple(blocks))
    return written(grid, as_csv(COLUMNS, rows))


def _modules(spec: ExhibitSpec, base: ResetCell, cells: Sequence[ResetCell], to: str) -> Block:
    modules = [*dict.fromkeys(cell.place.module for cell in cells)]
    rows = []
    for layer, mine in grouped(cells, lambda cell: cell.place.layer).items():
        found = {cell.place.module: cell for cell in mine}
        rows.append((Printed(layer), *(penalty_cell(found[module], base) for module in modules)))
    titles = tuple(Column(f"{module} [{level_text(spec.scoring.level)}] (p)") for module in modules)
    notes = (f"Penalty: points of {base.measure.name} above the same trainings as they are; ambient (a): below "
             f"{100 * AMBIENT:.0f} % of that rate. Bold: p < {SIGNIFICANT}, Holm's correction over all {len(cells)} "
             "tests of the block.",)  # fmt: skip
    return Block(f"{base.run.label}: {KINDS[to]}", "Layer", titles, tuple(rows), notes)


def draw_steps(spec: ExhibitSpec) -> dict[str, bytes]:
    """The rate with each layer drawn anew at earlier snapshots, and at the best: a block for each model."""
    title = "Layers drawn anew during training"
    cells = read_resets(spec)
    blocks, rows = [], []
    for mine in grouped(cells, lambda cell: cell.run.treatment).values():
        steps = [*dict.fromkeys(cell.place.snapshot for cell in mine if cell.place.snapshot != BEST), BEST]
        shown = [cell for cell in mine if not cell.place.layer or cell.place.to == "draw"]
        shown = [cell for cell in shown if not cell.place.module and cell.place.buffers]
        blocks.append(_steps(spec, shown, steps))
        rows += reset_rows(spec, shown)
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, tuple(blocks))
    return written(grid, as_csv(COLUMNS, rows))


def _steps(spec: ExhibitSpec, cells: Sequence[ResetCell], steps: Sequence[str]) -> Block:
    found = {(cell.place.layer, cell.place.snapshot): cell for cell in cells}
    rows = []
    for layer in ("", *cells[0].run.stack):
        row = [Printed(layer or "as trained")]
        for step in steps:
            cell = found.get((layer, step))
            row.append(_rate_cell(cell) if cell else Printed(NONE))
        rows.append(tuple(row))
    measure = cells[0].measure.heading
    titles = tuple(Column(f"{measure} [{level_text(spec.scoring.level)}]", step) for step in steps)
    return Block(cells[0].run.label, "Layer drawn anew", titles, tuple(rows), ("Mean over random seeds.",))


def _rate_cell(cell: ResetCell) -> Printed:
    found = cell.estimate
    text = bounds_text(cell.measure, found.rate, found.low, found.high)
    return Printed(text, runs=tuple(one.run.id for one in cell.probed))

"""The figure of churn: how far training moved each module of each layer, over the layer where it moved most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from thaw.config.starts import BEST
from thaw.errors import UserError
from thaw.exhibits.frame import Row, as_csv, columns, grouped, heading, rounded
from thaw.exhibits.layerwise import layer_axis
from thaw.exhibits.resets import TRAITS
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import TARGET_COLOURS, figure_bytes, figure_titled, house_style
from thaw.files import read_json

COLUMNS = columns(
    "scale scale_note study treatment label model size norm order causal seed snapshot layer place module norm_moved "
    "norm_first churn relative run probe_file"
)
ACROSS = 4  # panels in a row


@dataclass(frozen=True)
class Moved:
    """How far one matrix of one training had moved at a snapshot."""

    run: RunRow
    snapshot: str
    layer: str
    module: str
    norm: float  # of what it moved by
    first: float  # of what it was at first
    churn: float  # `norm` over the largest of this module in any layer
    file: str


def read_churn(spec: ExhibitSpec) -> list[Moved]:
    """Every matrix of every probed run, at every snapshot where churn was taken.

    UserError where none was, or a file is of another shape.
    """
    found = [row for run in spec.runs for probe in run.probes for row in _of_file(run, Path(probe.record))]
    if not found:
        raise UserError(f"exhibit {spec.name}: no run kept its first weights, so nothing is known of churn")
    return found


def _of_file(run: RunRow, path: Path) -> Iterator[Moved]:
    rows: list[dict[str, Any]] = read_json(path).get("churn", [])
    try:
        for same in grouped(rows, lambda row: (row["snapshot"], row["module"])).values():
            most = max(row["norm"] for row in same)
            for row in same:
                churn = row["norm"] / most if most else 0.0
                yield Moved(run, churn=churn, file=str(path), **row)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the record that `thaw probe` writes ({error!r})") from error


@dataclass(frozen=True)
class ChurnFigure:
    """A panel for each module that several layers have, at the best epoch; mean and range over random seeds."""

    title: str

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data, also at other snapshots, as csv."""
        from matplotlib.figure import Figure

        every = read_churn(spec)
        best = grouped((row for row in every if row.snapshot == BEST), lambda row: row.module)
        modules = {module: rows for module, rows in best.items() if len({row.layer for row in rows}) > 1}
        down = -(-len(modules) // ACROSS)
        with house_style():
            figure = Figure(figsize=(2.1 * ACROSS, 0.9 + 1.55 * down), layout="constrained")
            axes = figure.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True)
            for number, (module, rows) in enumerate(modules.items()):
                axis = axes[number // ACROSS][number % ACROSS]
                axis.set_title(module, fontweight="normal", fontsize=8)
                _panel(axis, rows)
            for axis in axes.flat[len(modules) :]:
                axis.set_axis_off()
            figure_titled(figure, *titles(spec, self.title, every))
            drawn = figure_bytes(figure)
        return drawn | {"csv": as_csv(COLUMNS, (_row(spec, one) for one in every))}


def titles(spec: ExhibitSpec, title: str, every: Sequence[Moved]) -> tuple[str, str]:
    """The title of a figure, with the model that it is of, and the line below."""
    seeds = {moved.run.seed for moved in every}
    who = "band: lowest and highest random seed" if len(seeds) > 1 else "one training, and true of that alone"
    label = ", ".join(dict.fromkeys(moved.run.label for moved in every))
    what = "norm of how far weights moved, over the largest of the module"
    return f"{title}: {label}", f"{spec.note}; {what}; {who}"


def _panel(axis: Any, rows: Sequence[Moved]) -> None:
    stack = rows[0].run.stack
    by_layer = grouped(rows, lambda row: stack.index(row.layer))
    places = sorted(by_layer)
    values = [[row.churn for row in by_layer[place]] for place in places]
    colour = TARGET_COLOURS[0]
    axis.fill_between(places, [*map(min, values)], [*map(max, values)], color=colour, alpha=0.18, linewidth=0)
    axis.plot(places, [*map(fmean, values)], color=colour, marker="o", markersize=3)
    axis.set_ylim(0, 1.06)
    layer_axis(axis, stack)
    axis.set_xlabel("")


def _row(spec: ExhibitSpec, one: Moved) -> Row:
    run = one.run
    traits = {column: run.traits.get(key, "") for column, key in TRAITS.items()}
    row = (
        heading(spec) | traits | {"treatment": run.treatment, "label": run.label, "model": run.model, "seed": run.seed}
    )
    row |= {"snapshot": one.snapshot, "layer": one.layer, "place": run.stack.index(one.layer), "module": one.module}
    row |= {"norm_moved": f"{one.norm:.6g}", "norm_first": f"{one.first:.6g}", "churn": rounded(one.churn)}
    relative = rounded(one.norm / one.first) if one.first else ""
    return row | {"relative": relative, "run": run.id, "probe_file": one.file}

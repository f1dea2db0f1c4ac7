"""Freezing each layer alone, measured and predicted, as a figure: for each transfer bars over a grid of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thaw.exhibits.notes import level_text
from thaw.exhibits.predictions import Tried, measures_of, read_tried
from thaw.exhibits.predictions_table import draw_table, signed
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.style import figure_bytes, figure_titled, house_style
from thaw.layers.predictors import PREDICTORS
from thaw.scoring.ranks import ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Freezing each layer alone: measured, and how predictors rank the layers"
WIDTH, HEIGHT = 0.42, 5.6  # inches: of a layer, of the figure


def draw_figure(spec: ExhibitSpec) -> dict[str, bytes]:
    """png, pdf, and the data as csv (the table's)."""
    from matplotlib.figure import Figure

    [measure, _] = measures_of(spec)
    tried = read_tried(spec, measure)
    names = [name for name in PREDICTORS if any(one.predicted(name) is not None for one in tried)]
    widths = [max(4, len(one.layers)) * WIDTH for one in tried]
    with house_style():
        figure = Figure(figsize=(2.2 + sum(widths) + 0.75 * len(tried), HEIGHT), layout="constrained")
        sizes = {"width_ratios": widths, "height_ratios": [1.0, 0.13 * len(names) + 0.2]}
        axes = figure.subplots(2, len(tried), squeeze=False, sharey="row", gridspec_kw=sizes)
        for column, one in enumerate(tried):
            _bars(axes[0][column], one)
            _ranks(axes[1][column], one, names)
        axes[0][0].set_ylabel(f"Harm, points of {measure.name}")
        axes[1][0].set_yticks(range(len(names)), [PREDICTORS[name].label for name in names])
        note = (
            f"{spec.note}; bars: {level_text(spec.scoring.level)} intervals over seeds (unpaired) and speakers; below: "
            "rank of the harm predicted, dark is most; right of it: ρ with the harm measured"
        )
        figure_titled(figure, TITLE, note)
        drawn = figure_bytes(figure)
    return drawn | {"csv": draw_table(spec)["csv"]}


def _bars(axis: Axes, one: Tried) -> None:
    """What freezing each layer added to the error rate with nothing frozen."""
    places = range(len(one.layers))
    found = [one.comparisons[treatment] for treatment in one.alone.values()]
    heights = [one.measure.shown(comparison.difference) for comparison in found]
    reach = [
        0.0 if comparison.high is None else one.measure.shown(comparison.high - comparison.difference)
        for comparison in found
    ]
    axis.bar(places, heights, color="#56B4E9", width=0.7)
    axis.errorbar(places, heights, yerr=reach, fmt="none", ecolor="#333333", capsize=2.5, elinewidth=1.0)
    axis.axhline(0, color="#333333", linewidth=0.8)
    axis.set_title(one.row.label, fontweight="normal", fontsize=8.5)
    axis.set_xticks(places, [])
    axis.set_xlim(-0.6, len(one.layers) - 0.4)
    axis.grid(visible=False, axis="x")


def _ranks(axis: Axes, one: Tried, names: Sequence[str]) -> None:
    """A row for each predictor: the ranks of its predicted harm, as shades and numbers."""
    import numpy as np

    grid = np.full((len(names), len(one.layers)), np.nan)
    for row, name in enumerate(names):
        predicted = one.predicted(name)
        if predicted is not None:
            grid[row] = ranks(predicted)
    axis.imshow(grid, cmap="Blues", aspect="auto", vmin=-len(one.layers) / 3, vmax=len(one.layers))
    for row, name in enumerate(names):
        for column, rank in enumerate(grid[row]):
            if np.isfinite(rank):
                dark = rank > 0.7 * len(one.layers)
                axis.text(column, row, f"{rank:g}", ha="center", va="center", fontsize=6.5,
                          color="white" if dark else "#222222")  # fmt: skip
        rho = one.rho(name)
        axis.text(len(one.layers) - 0.35, row, "–" if rho is None else signed(rho), va="center", fontsize=7)
    axis.set_xticks(range(len(one.layers)), one.layers, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set_xlim(-0.6, len(one.layers) - 0.4)
    axis.grid(visible=False)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    axis.tick_params(length=0)

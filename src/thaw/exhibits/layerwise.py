"""Figures of resets: the rate with each layer reset, along the layers; dashed, the rate of the model as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thaw.config.starts import BEST
from thaw.exhibits.frame import as_csv, grouped
from thaw.exhibits.notes import level_text
from thaw.exhibits.resets import COLUMNS, ResetCell, read_resets, reset_rows
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.style import (
    DASHED,
    TARGET_COLOURS,
    Look,
    figure_bytes,
    figure_titled,
    from_zero,
    house_style,
    legend,
    looks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHORT = {"subsampling": "in", "output": "out"}  # of names on the axis; of block_7, the number


@dataclass(frozen=True)
class ResetsFigure:
    """`series` names the line that a cell is on; None: not shown. It is asked of whole layers at the best epoch."""

    title: str
    series: Callable[[ResetCell], str | None]
    panel: Callable[[ResetCell], str]
    spread: bool = False  # lowest and highest seed instead of intervals

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data as csv."""
        from matplotlib.figure import Figure

        every = [cell for cell in read_resets(spec) if cell.place.snapshot == BEST and not cell.place.module]
        shown = [cell for cell in every if cell.place.layer and self.series(cell)]
        bases = {cell.run.treatment: cell for cell in every if not cell.place.layer}
        names = dict.fromkeys(str(self.series(cell)) for cell in shown)
        style = looks(names, palette=TARGET_COLOURS)
        panels = grouped(shown, self.panel)
        with house_style():
            widths = [len(cells[0].run.stack) for cells in panels.values()]
            figure = Figure(figsize=(max(6.5, 1.6 + 0.26 * sum(widths)), 3.9), layout="constrained")
            axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, width_ratios=widths)[0]
            for axis, (title, cells) in zip(axes, panels.items(), strict=True):
                axis.set_title(title, fontweight="normal")
                mine = grouped(cells, lambda cell: str(self.series(cell)))
                for number, (name, line) in enumerate(mine.items()):
                    self._line(axis, line, style[name], 0.16 * (number - (len(mine) - 1) / 2))
                self._bases(axis, [bases[treatment] for treatment in dict.fromkeys(c.run.treatment for c in cells)])
                layer_axis(axis, cells[0].run.stack)
            axes[0].set_ylabel(shown[0].measure.heading)
            from_zero(axes)
            figure_titled(figure, self.title, self._note(spec, shown))
            legend(figure, _handles(style), loc="outside lower center", ncols=3)
            drawn = figure_bytes(figure)
        return drawn | {"csv": as_csv(COLUMNS, reset_rows(spec, [*bases.values(), *shown]))}

    def _line(self, axis: Axes, cells: Sequence[ResetCell], look: Look, aside: float) -> None:
        cells = sorted(cells, key=lambda cell: cell.run.stack.index(cell.place.layer))  # a line goes from left to right
        places = [cell.run.stack.index(cell.place.layer) for cell in cells]
        rates = [cell.measure.shown(cell.estimate.rate) for cell in cells]
        ends = [self._ends(cell) for cell in cells]
        if self.spread:
            lows, highs = zip(*ends, strict=True)
            axis.fill_between(places, lows, highs, color=look.colour, alpha=0.18, linewidth=0)
            for place, cell in zip(places, cells, strict=True):
                seeds = [cell.measure.shown(rate) for rate in cell.rates().values()]
                axis.plot([place] * len(seeds), seeds, ".", color=look.colour, markersize=3)
            axis.plot(places, rates, color=look.colour, marker=look.marker, markersize=4)
            return
        bars = [[rate - low for rate, (low, _) in zip(rates, ends, strict=True)],
                [high - rate for rate, (_, high) in zip(rates, ends, strict=True)]]  # fmt: skip
        axis.errorbar([place + aside for place in places], rates, yerr=bars, color=look.colour, marker=look.marker,
                      markersize=4, capsize=2, elinewidth=0.9, linewidth=1.1)  # fmt: skip

    def _ends(self, cell: ResetCell) -> tuple[float, float]:
        """How far a bar or band reaches."""
        found, shown = cell.estimate, cell.measure.shown
        if self.spread:
            return min(map(shown, cell.rates().values())), max(map(shown, cell.rates().values()))
        if found.low is None or found.high is None:
            return shown(found.rate), shown(found.rate)
        return shown(found.low), shown(found.high)

    def _bases(self, axis: Axes, cells: Sequence[ResetCell]) -> None:
        for number, cell in enumerate(cells):
            rate = cell.measure.shown(cell.estimate.rate)
            axis.axhline(rate, color="#333333", linewidth=0.9, linestyle=DASHED if number == 0 else (0, (1, 1.5)))
            if len(cells) > 1:
                axis.annotate(cell.run.label, (1, rate), xycoords=("axes fraction", "data"), ha="right", fontsize=6.5,
                              xytext=(0, 2), textcoords="offset points", color="#333333")  # fmt: skip

    def _note(self, spec: ExhibitSpec, cells: Sequence[ResetCell]) -> str:
        bars = (
            "band: lowest and highest random seed"
            if self.spread
            else f"bars: {level_text(spec.scoring.level)} intervals"
        )
        once = dict.fromkeys(cell.run.label for cell in cells if cell.estimate.seeds == 1)
        alone = f"; one training, and true of that alone: {', '.join(once)}" if once else ""
        return f"{spec.note}; {bars}; dashed: as trained, nothing reset{alone}"


def layer_axis(axis: Axes, stack: Sequence[str]) -> None:
    """The layers of a model along x, input side left; of blocks the number."""
    labels = [SHORT.get(name, name.removeprefix("block_")) for name in stack]
    axis.set_xticks(range(len(stack)), labels)
    axis.set_xlim(-0.6, len(stack) - 0.4)
    axis.set_xlabel("Layer reset")
    axis.grid(visible=False, axis="x")


def _handles(style: dict[str, Look]) -> list[object]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=look.colour, marker=look.marker, markersize=4, linewidth=1.1, label=label)
            for label, look in style.items()]  # fmt: skip

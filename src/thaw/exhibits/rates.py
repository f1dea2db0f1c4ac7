"""Figures of rates: every treatment with its interval, at its place along an axis; a panel for each way of judging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from thaw.exhibits.frame import Cell, Frame, frame_csv, grouped, read_frame
from thaw.exhibits.notes import UNFINISHED, bars_over, level_text
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
    from matplotlib.lines import Line2D

Kind = Literal["point", "line", "other", "level"]  # filled, joined, hollow; level: hollow, a dashed line at its rate
Ticks = dict[float, str]


def target_label(cell: Cell) -> str:
    """The series of most figures: one for each target."""
    return cell.run.target_label


@dataclass(frozen=True)
class RatesFigure:
    """One measure. Without `place`, treatments stand beside each other in the study's order."""

    title: str
    axis: str  # what stands along the x axis
    measure: str = "word"
    series: Callable[[Cell], str] = target_label
    place: Callable[[Cell], float] | None = None
    kinds: Callable[[Sequence[Cell]], list[Kind]] | None = None  # of the cells of one series; all points without it
    ticks: Callable[[Sequence[Cell]], Ticks] | None = None
    words: tuple[tuple[Kind, str], ...] = ()  # what the legend says of kinds, where there are such
    spread: float = 0.22  # how far apart series stand, all of them together in three times that
    log: bool = False

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data as csv."""
        from matplotlib.figure import Figure

        frame = read_frame(spec, [self.measure], compared=False)
        series = grouped(frame, self.series)
        style = looks(series, palette=TARGET_COLOURS)
        ways = grouped(frame, lambda cell: cell.decode.way)
        ticks = self._ticks(spec, frame)
        with house_style():
            width = max(7.0, 1.2 + 0.42 * len(ticks) * len(ways))
            figure = Figure(figsize=(width, 4.2), layout="constrained")
            axes = figure.subplots(1, len(ways), squeeze=False, sharey=True)[0]
            for axis, cells in zip(axes, ways.values(), strict=True):
                axis.set_title(cells[0].decode.way_label, fontweight="normal")
                self._axis(axis, ticks)
                for number, (label, mine) in enumerate(series.items()):
                    shown = [cell for cell in mine if cell.decode.way == cells[0].decode.way]
                    self._series(axis, spec, shown, style[label], number - (len(series) - 1) / 2, len(series))
            axes[0].set_ylabel(frame[0].measure.heading)
            from_zero(axes)
            figure_titled(figure, self.title, self._note(spec, frame))
            legend(figure, [*_handles(style), *self._kind_handles(spec, series)], loc="outside lower center", ncols=3)
            drawn = figure_bytes(figure)
        return drawn | {"csv": frame_csv(spec, frame)}

    def _note(self, spec: ExhibitSpec, frame: Frame) -> str:
        note = f"{spec.note}; bars: {level_text(spec.scoring.level)} intervals {bars_over(frame)}"
        return note + (f"; {UNFINISHED}: stopped at its best epoch" if any(cell.unfinished for cell in frame) else "")

    def _kinds(self, spec: ExhibitSpec, cells: Sequence[Cell]) -> list[Kind]:
        if self.kinds:
            return self.kinds(cells)
        return ["level" if cell.row == (spec.baseline, "") else "point" for cell in cells]

    def _ticks(self, spec: ExhibitSpec, frame: Frame) -> Ticks:
        if self.ticks:
            return self.ticks(frame)
        return {float(place): label for place, label in enumerate(spec.rows.values())}

    def _axis(self, axis: Axes, ticks: Ticks) -> None:
        from matplotlib.ticker import NullLocator

        crowded = self.place is None and len(ticks) > 5
        if self.log:
            axis.set_xscale("log")
            axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticks([*ticks], [*ticks.values()], rotation=35 if crowded else 0, ha="right" if crowded else "center",
                        rotation_mode="anchor" if crowded else None)  # fmt: skip
        low, high = min(ticks), max(ticks)
        room = 0.08 * (high - low) if len(ticks) > 6 else 0.6 if self.place is None else 0.1 * (high - low)
        axis.set_xlim((low / 1.35, high * 1.35) if self.log else (low - room, high + room))
        axis.grid(visible=self.place is not None, axis="x")
        axis.set_xlabel(self.axis)

    def _series(self, axis: Axes, spec: ExhibitSpec, cells: Sequence[Cell], look: Look, place: float, of: int) -> None:
        order = [*spec.rows]
        step = min(self.spread, 3 * self.spread / max(of - 1, 1)) * place
        kinds = self._kinds(spec, cells)
        for kind in dict.fromkeys(kinds):
            shown = [cell for cell, found in zip(cells, kinds, strict=True) if found == kind]
            at = [self.place(cell) if self.place else float(order.index(cell.row)) for cell in shown]
            places = [x * (1 + step) if self.log else x + step for x in at]
            rates = [cell.measure.shown(cell.rate) for cell in shown]
            if kind == "line":
                order_of = sorted(range(len(places)), key=places.__getitem__)
                axis.plot([places[n] for n in order_of], [rates[n] for n in order_of], color=look.colour, linewidth=1.4)
            if kind == "level":
                axis.axhline(rates[0], color=look.colour, linewidth=0.9, linestyle=DASHED)
            face = "white" if kind in ("other", "level") else look.colour
            axis.errorbar(places, rates, yerr=_bars(shown), fmt=look.marker, color=look.colour, markersize=5,
                          markerfacecolor=face, capsize=2.5, elinewidth=1.1)  # fmt: skip
            for x, cell, rate in zip(places, shown, rates, strict=True):
                if cell.unfinished:
                    axis.annotate(UNFINISHED, (x, rate), xytext=(3, 2), textcoords="offset points", fontsize=6.5,
                                  color=look.colour)  # fmt: skip

    def _kind_handles(self, spec: ExhibitSpec, series: dict[str, list[Cell]]) -> list[Line2D]:
        """What dashes and hollow marks mean, where there are any."""
        from matplotlib.lines import Line2D

        found = {kind for cells in series.values() for kind in self._kinds(spec, cells)}
        words = self.words or (("level", spec.treatments.get(spec.baseline, "")),)
        return [Line2D([], [], color="#333333", linewidth=0.9, linestyle=DASHED if kind == "level" else "", marker="o",
                       markersize=5, markerfacecolor="white", label=label)
                for kind, label in words if kind in found]  # fmt: skip


def _handles(style: dict[str, Look]) -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=look.colour, marker=look.marker, markersize=5, linewidth=1.1, label=label)
            for label, look in style.items()]  # fmt: skip


def _bars(cells: Sequence[Cell]) -> tuple[list[float], list[float]]:
    """How far intervals reach below and above their rates, as matplotlib wants it; nowhere where there is none."""
    lows, highs = [], []
    for cell in cells:
        low, high = cell.estimate.low, cell.estimate.high
        lows.append(0.0 if low is None else cell.measure.shown(cell.rate) - cell.measure.shown(low))
        highs.append(0.0 if high is None else cell.measure.shown(high) - cell.measure.shown(cell.rate))
    return lows, highs

"""Curves of one target by training step: train loss on a logarithmic axis, and word error rate on dev."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.exhibits.dev import Epoch, best_epoch, read_epochs
from thaw.exhibits.figures import LOSS_LABEL
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import (
    TARGET_COLOURS,
    Look,
    figure_bytes,
    from_zero,
    house_style,
    looks,
    plain_log_axis,
    titled,
)
from thaw.exhibits.tidy import Row, as_csv, columns, heading, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COMMON = "scale scale_note study target target_label treatment label seed epoch step"
LOSS_COLUMNS = columns(f"{_COMMON} train_loss run")
DEV_COLUMNS = columns(f"{_COMMON} dev_wer_percent best run")

Runs = list[tuple[RunRow, list[Epoch]]]


@dataclass(frozen=True)
class Series:
    """One treatment: values by step, a list for each random seed, and the place (step, value) of its best epoch."""

    name: str
    label: str
    steps: list[int]
    seeds: list[list[float]]
    best: tuple[int, float] | None

    @property
    def mean(self) -> list[float]:
        """Over seeds, as far as every seed went."""
        return [statistics.fmean(values) for values in zip(*self.seeds, strict=False)]


def draw_loss(spec: ExhibitSpec, title: str, order: Sequence[str]) -> dict[str, bytes]:
    """Train loss by step as png and pdf, its data as csv. Treatments in `order` keep their looks."""
    runs = _read(spec)
    series = _series(runs, lambda epoch: epoch.train_loss, marked=False)
    rows = [_row(spec, run, e) | {"train_loss": e.train_loss} for run, epochs in runs for e in epochs]

    def finish(axis: Axes) -> None:
        axis.set_yscale("log")
        plain_log_axis(axis.yaxis)
        axis.set_ylabel(f"Train {LOSS_LABEL}")

    labels = [f"{one.label}  ({one.mean[-1]:.3g} after the last step)" for one in series]
    return _draw(spec, title, order, series, labels, finish) | {"csv": as_csv(LOSS_COLUMNS, rows).encode()}


def draw_dev(spec: ExhibitSpec, title: str, order: Sequence[str]) -> dict[str, bytes]:
    """Greedy WER on dev by step as png and pdf, its data as csv; rings mark the weights that training kept."""
    runs = _read(spec)
    series = _series(runs, lambda epoch: 100 * epoch.dev_wer, marked=True)
    rows = [
        _row(spec, run, epoch) | {"dev_wer_percent": points(epoch.dev_wer), "best": int(epoch == best_epoch(epochs))}
        for run, epochs in runs
        for epoch in epochs
    ]

    def finish(axis: Axes) -> None:
        from_zero([axis])
        axis.set_ylabel("Dev WER, greedy (%)")

    labels = [f"{one.label}  ({one.best[1]:.1f} % @ step {one.best[0]:,})" if one.best else one.label for one in series]
    drawn = _draw(spec, title, order, series, labels, finish)
    return drawn | {"csv": as_csv(DEV_COLUMNS, rows).encode()}


def _read(spec: ExhibitSpec) -> Runs:
    if not spec.runs:
        raise UserError(f"exhibit {spec.name}: its spec names no run")
    return [(run, read_epochs(run)) for run in spec.runs]


def _series(runs: Runs, value: Callable[[Epoch], float], marked: bool) -> list[Series]:
    found: dict[str, Runs] = {}
    for run, epochs in runs:
        found.setdefault(run.treatment, []).append((run, epochs))
    return [_one(name, mine, value, marked) for name, mine in found.items()]


def _one(name: str, runs: Runs, value: Callable[[Epoch], float], marked: bool) -> Series:
    """One treatment. With several seeds the ring lies where the mean dev loss is lowest."""
    seeds = [[value(epoch) for epoch in epochs] for _, epochs in runs]
    by_epoch = list(zip(*(epochs for _, epochs in runs), strict=False))
    steps = [epochs[0].step for epochs in by_epoch]
    losses = [statistics.fmean(epoch.dev_loss for epoch in epochs) for epochs in by_epoch]
    series = Series(name, runs[0][0].label, steps, seeds, None)
    finite = [place for place, loss in enumerate(losses) if not math.isnan(loss)]
    if not marked or not finite:
        return series
    best = min(finite, key=losses.__getitem__)
    return Series(name, series.label, steps, seeds, (steps[best], series.mean[best]))


def _row(spec: ExhibitSpec, run: RunRow, epoch: Epoch) -> Row:
    return heading(spec) | {
        "target": run.target,
        "target_label": run.target_label,
        "treatment": run.treatment,
        "label": run.label,
        "seed": run.seed,
        "epoch": epoch.epoch,
        "step": epoch.step,
        "run": run.id,
    }


def _draw(
    spec: ExhibitSpec,
    title: str,
    order: Sequence[str],
    series: Sequence[Series],
    labels: Sequence[str],
    finish: Callable[[Axes], None],
) -> dict[str, bytes]:
    """One panel; the legend lies under it, so that no label covers a curve."""
    from matplotlib.figure import Figure

    seeds = max(len(one.seeds) for one in series)
    seeds_note = f"lines: mean of {seeds} seeds, shades: their range" if seeds > 1 else None
    style = looks(spec.treatments, order, spec.style, TARGET_COLOURS)
    with house_style():
        figure = Figure(figsize=(6.4, 3.9), layout="constrained")
        axis = figure.subplots()
        titled(axis, f"{title}: {', '.join(spec.targets.values())}", spec.note)
        handles = [_curve(axis, one, style[one.name], label) for one, label in zip(series, labels, strict=True)]
        finish(axis)
        axis.set_xlim(left=0)
        axis.set_xlabel("Training step")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        handles += [_ring()] if any(one.best for one in series) else []
        figure.legend(handles=handles, loc="outside lower center", ncols=min(2, len(labels)), handlelength=2.6,
                      title=seeds_note, title_fontsize=7.5)  # fmt: skip
        return figure_bytes(figure)


def _curve(axis: Axes, series: Series, look: Look, label: str) -> Line2D:
    mean = series.mean
    if len(series.seeds) > 1:
        by_step = list(zip(*series.seeds, strict=False))
        axis.fill_between(series.steps, [*map(min, by_step)], [*map(max, by_step)], color=look.colour, alpha=0.15,
                          linewidth=0)  # fmt: skip
    every = max(1, len(mean) // 12)  # markers tell the lines apart in grey print
    [line] = axis.plot(series.steps, mean, color=look.colour, marker=look.marker, markersize=4.5, markevery=every,
                       linewidth=1.6, label=label)  # fmt: skip
    if series.best:
        axis.plot(*([value] for value in series.best), marker="o", markersize=10, markerfacecolor="none",
                  markeredgecolor=look.colour, markeredgewidth=1.4, zorder=5)  # fmt: skip
    return line


def _ring() -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="#333333", linestyle="", marker="o", markersize=10, markerfacecolor="none",
                  markeredgewidth=1.4, label="lowest dev loss: these weights are decoded")  # fmt: skip

"""Figures of a study: learning curves, and error rates by treatment. Each comes with the data that was drawn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.exhibits.measures import Result, level_text, load_results
from thaw.exhibits.published import read_curves, read_rates
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import TARGET_COLOURS, Look, figure_bytes, figure_titled, from_zero, house_style, looks, titled
from thaw.exhibits.tidy import CURVE_COLUMNS, Row, as_csv, columns, heading, interval_over, points
from thaw.exhibits.units import bars_over, units_of_results
from thaw.files import read_jsonl

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

DASHED = (0, (4, 2))
LOSS_LABEL = "CTC loss (nats per utterance)"
RATE_COLUMNS = columns(
    "scale scale_note study target target_label treatment label decoder decoder_label seeds wer_percent low high "
    "interval_over"
)


@dataclass(frozen=True)
class Curve:
    """Losses of one treatment by epoch (the first is epoch 1); one inner tuple per random seed."""

    name: str
    label: str
    train: tuple[tuple[float, ...], ...]
    dev: tuple[tuple[float, ...], ...]

    def mean(self, split: str) -> list[float]:
        """Mean over seeds, as far as every seed went."""
        seeds = self.train if split == "train" else self.dev
        return [statistics.fmean(values) for values in zip(*seeds, strict=False)]

    @property
    def best(self) -> int:
        """Epoch (from 1) of the lowest mean dev loss, the first of equals."""
        dev = self.mean("dev")
        return 1 + dev.index(min(dev))


@dataclass(frozen=True)
class CurvesFigure:
    """Dev loss (solid) and train loss (dashed) by epoch: a panel for every target."""

    title: str
    order: tuple[str, ...]  # treatments whose looks are fixed

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data as csv."""
        if not spec.runs:
            raise UserError(f"exhibit {spec.name}: its spec names no run")
        rows: list[Row] = []
        panels = {}
        for target in spec.targets:
            runs = [run for run in spec.runs if run.target == target]
            losses = {run.id: read_losses(run) for run in runs}
            panels[f"{self.title}: {spec.targets[target]}"] = _curves_of(runs, losses)
            rows += [heading(spec) | row for run in runs for row in _loss_rows(run, losses[run.id])]
        style = looks(spec.treatments, self.order, spec.style)
        seeds = len({run.seed for run in spec.runs})
        note = spec.note + (f"; lines: mean of {seeds} seeds, shades: their range" if seeds > 1 else "")
        return draw_curves(panels, style, note) | {"csv": as_csv(CURVE_COLUMNS, rows).encode()}


@dataclass(frozen=True)
class PublishedCurvesFigure:
    """The curves of the paper itself, in the same style."""

    title: str
    rates: str  # files in config/published
    curves: str
    order: tuple[str, ...]
    epochs: int  # drawn from the first, as the paper does

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data (every epoch) as csv."""
        note = "published, paper scale"
        rows: list[Row] = []
        panels: dict[str, list[Curve]] = {}
        for curve in read_curves(spec, read_rates(spec, self.rates), self.curves):
            rate = curve.rate
            drawn = Curve(rate.treatment, rate.label, (curve.train[: self.epochs],), (curve.dev[: self.epochs],))
            panels.setdefault(f"{self.title}: {rate.target_label}", []).append(drawn)
            run = RunRow(id=rate.curve, treatment=rate.treatment, label=rate.label, target=rate.target,
                         target_label=rate.target_label, seed=0)  # fmt: skip
            common = {"scale": "paper", "scale_note": note, "study": spec.study}
            rows += [common | row | {"seed": ""} for row in _loss_rows(run, (curve.train, curve.dev))]
        style = looks(self.order, self.order, spec.style)
        return draw_curves(panels, style, note) | {"csv": as_csv(CURVE_COLUMNS, rows).encode()}


def read_losses(run: RunRow) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Train and dev losses of a run by epoch; UserError for a file without them."""
    rows = read_jsonl(Path(run.metrics))
    try:
        rows = sorted(rows, key=lambda row: int(row["epoch"]))
        losses = tuple(_loss(row["train_loss"]) for row in rows), tuple(_loss(row["dev_loss"]) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.metrics}: not the metrics that `thaw train` writes ({error!r})") from error
    if not rows:
        raise UserError(f"{run.metrics}: holds no epoch")
    return losses


def _loss(value: float | None) -> float:
    """A loss; null, as JSON writes what is not a finite number, is infinite."""
    return math.inf if value is None else float(value)


def _curves_of(
    runs: Sequence[RunRow], losses: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
) -> list[Curve]:
    treatments = {run.treatment: run.label for run in runs}
    return [
        Curve(
            name,
            label,
            tuple(losses[run.id][0] for run in runs if run.treatment == name),
            tuple(losses[run.id][1] for run in runs if run.treatment == name),
        )
        for name, label in treatments.items()
    ]


def _loss_rows(run: RunRow, losses: tuple[tuple[float, ...], tuple[float, ...]]) -> list[Row]:
    train, dev = losses
    best = dev.index(min(dev))
    common = {
        "target": run.target,
        "target_label": run.target_label,
        "treatment": run.treatment,
        "label": run.label,
        "seed": run.seed,
        "run": run.id,
    }
    return [
        common | {"epoch": epoch + 1, "train_loss": train[epoch], "dev_loss": dev[epoch], "best": int(epoch == best)}
        for epoch in range(len(dev))
    ]


# --- learning curves ------------------------------------------------------------------------------


def draw_curves(panels: Mapping[str, Sequence[Curve]], style: Mapping[str, Look], note: str) -> dict[str, bytes]:
    """One panel per title, one above the other; `note` names the scale over each."""
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(7.0, 0.5 + 3.7 * len(panels)), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, (title, curves) in zip(axes, panels.items(), strict=True):
            titled(axis, title, note)
            _curves_panel(axis, curves, style)
        axes[-1].set_xlabel("Epoch")
        figure.legend(handles=_line_kinds(), loc="outside lower center", ncols=3)
        return figure_bytes(figure)


def _curves_panel(axis: Axes, curves: Sequence[Curve], style: Mapping[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    handles = [_draw_curve(axis, curve, style[curve.name], place) for place, curve in enumerate(curves)]
    longest = max(len(curve.mean("dev")) for curve in curves)
    axis.set_xlim(0.7, max(longest, 2) + 0.3)
    axis.set_ylabel(LOSS_LABEL)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels = [f"{curve.label}  ({min(curve.mean('dev')):.1f} @ {curve.best})" for curve in curves]
    axis.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=2.6,
                labelspacing=0.75, title="Frozen layers\n(best dev loss @ epoch)", title_fontsize=8,
                alignment="left")  # fmt: skip


def _draw_curve(axis: Axes, curve: Curve, look: Look, place: int) -> Line2D:
    """Draw one treatment; the line that stands for it in the legend."""
    drawn: list[Line2D] = []
    for split, line in (("train", DASHED), ("dev", "-")):
        seeds = curve.train if split == "train" else curve.dev
        mean = curve.mean(split)
        epochs = range(1, len(mean) + 1)
        if len(seeds) > 1:
            by_epoch = list(zip(*seeds, strict=False))
            axis.fill_between(epochs, [*map(min, by_epoch)], [*map(max, by_epoch)], color=look.colour, alpha=0.15,
                              linewidth=0)  # fmt: skip
        solid = split == "dev"
        # Markers start at different epochs, so that they do not lie on top of each other.
        drawn += axis.plot(epochs, mean, color=look.colour, linestyle=line, linewidth=1.5 if solid else 0.9,
                           marker=look.marker if solid else "", markersize=4, markevery=(place % 3, 3))  # fmt: skip
    best = curve.best
    axis.plot([best], [curve.mean("dev")[best - 1]], marker="o", markersize=9, markerfacecolor="none",
              markeredgecolor=look.colour, markeredgewidth=1.3, zorder=5)  # fmt: skip
    return drawn[-1]


def _line_kinds() -> list[Line2D]:
    from matplotlib.lines import Line2D

    dark = "#333333"
    return [
        Line2D([], [], color=dark, linewidth=1.5, label="dev"),
        Line2D([], [], color=dark, linewidth=0.9, linestyle=DASHED, label="train"),
        Line2D([], [], color=dark, linestyle="", marker="o", markersize=9, markerfacecolor="none",
               label="best epoch (lowest dev loss)"),
    ]  # fmt: skip


# --- error rates ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class RatesFigure:
    """WER of every treatment with its interval: a panel per decoder, a colour and marker per target."""

    title: str
    axis: str  # what the treatments are, along the x axis

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data as csv."""
        from matplotlib.figure import Figure

        results = load_results(spec)
        if not results:
            raise UserError(f"exhibit {spec.name}: the study has no decoded run")
        style = looks(spec.targets, palette=TARGET_COLOURS)
        with house_style():
            width = max(7.0, 1.2 + 0.42 * len(spec.treatments) * len(spec.decoders))
            figure = Figure(figsize=(width, 3.6), layout="constrained")
            axes = figure.subplots(1, len(spec.decoders), squeeze=False, sharey=True)[0]
            for axis, (decoder, label) in zip(axes, spec.decoders.items(), strict=True):
                axis.set_title(label, fontweight="normal")
                for place, target in enumerate(spec.targets):
                    found = {t: results[k] for t in spec.treatments if (k := (target, decoder, t)) in results}
                    shift = 0.22 * (place - (len(spec.targets) - 1) / 2)
                    _rates(axis, spec, found, style[target], shift, spec.targets[target])
                _treatment_axis(axis, spec, self.axis)
            axes[0].set_ylabel("WER (%)")
            from_zero(axes)
            over = bars_over(units_of_results(results.values(), spec.targets))
            note = f"{spec.note}; bars: {level_text(spec.scoring.level)} intervals{over}; dotted: baseline"
            figure_titled(figure, self.title, note)
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
            drawn = figure_bytes(figure)
        rows = [_rate_row(spec, result) for result in results.values()]
        return drawn | {"csv": as_csv(RATE_COLUMNS, rows).encode()}


def _treatment_axis(axis: Axes, spec: ExhibitSpec, label: str) -> None:
    crowded = len(spec.treatments) > 5
    axis.set_xticks(range(len(spec.treatments)), list(spec.treatments.values()), rotation=35 if crowded else 0,
                    ha="right" if crowded else "center", rotation_mode="anchor" if crowded else None)  # fmt: skip
    axis.set_xlim(-0.6, len(spec.treatments) - 0.4)
    axis.grid(visible=False, axis="x")
    axis.set_xlabel(label)


def _rates(axis: Axes, spec: ExhibitSpec, found: Mapping[str, Result], look: Look, shift: float, label: str) -> None:
    order = list(spec.treatments)
    places = [order.index(treatment) + shift for treatment in found]
    rates = [100 * result.rate("word") for result in found.values()]
    axis.errorbar(places, rates, yerr=error_bars(found.values()), fmt=look.marker, color=look.colour,
                  markersize=4, capsize=2.5, elinewidth=1.1, label=label)  # fmt: skip
    if spec.baseline in found:
        level = 100 * found[spec.baseline].rate("word")
        axis.axhline(level, color=look.colour, linewidth=0.8, linestyle=(0, (1, 2)))


def error_bars(results: Iterable[Result]) -> tuple[list[float], list[float]]:
    """How far the intervals of word error rates reach below and above them, in points, as matplotlib wants it."""
    pairs = [(100 * result.rate("word"), _interval(result)) for result in results]
    return [rate - bounds[0] for rate, bounds in pairs], [bounds[1] - rate for rate, bounds in pairs]


def _interval(result: Result) -> tuple[float, float]:
    """Bounds in per cent; the rate itself where there is no interval."""
    scores = result.pooled["word"]
    rate = 100 * result.rate("word")
    return (rate, rate) if scores["low"] is None else (100 * scores["low"], 100 * scores["high"])


def _rate_row(spec: ExhibitSpec, result: Result) -> Row:
    scores = result.pooled["word"]
    return heading(spec) | {
        "target": result.target,
        "target_label": spec.targets[result.target],
        "treatment": result.treatment,
        "label": spec.treatments[result.treatment],
        "decoder": result.decoder,
        "decoder_label": spec.decoders[result.decoder],
        "seeds": len(result.seeds),
        "wer_percent": points(result.rate("word")),
        "low": points(scores["low"]),
        "high": points(scores["high"]),
        "interval_over": interval_over(result.pooled),
    }

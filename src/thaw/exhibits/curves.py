"""What training measures after each epoch, as curves by epoch or by step: one line for each run, a ring at its best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from thaw.errors import UserError
from thaw.exhibits.frame import Row, as_csv, columns, grouped, heading, run_columns
from thaw.exhibits.published import published_file, read_rates
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import (
    COLOURS,
    DASHED,
    Look,
    figure_bytes,
    from_zero,
    house_style,
    legend,
    looks,
    plain_log_axis,
    titled,
)
from thaw.files import read_json, read_jsonl
from thaw.scoring.measures import MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

RANGE = "–"


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run: what metrics.jsonl says of it, NaN where that is not finite."""

    epoch: int  # from 1
    step: int  # of the optimiser, after the epoch; 0: not known
    values: Mapping[str, float]


def read_epochs(run: RunRow, *keys: str) -> list[Epoch]:
    """The epochs of a run in order, dev_loss and `keys` of each; UserError for a file without them."""
    rows = read_jsonl(Path(run.metrics))
    try:
        epochs = [
            Epoch(int(row["epoch"]), int(row.get("step", 0)), {key: _finite(row[key]) for key in ("dev_loss", *keys)})
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.metrics}: not the metrics that `thaw train` writes ({error!r})") from error
    if not epochs:
        raise UserError(f"{run.metrics}: holds no epoch")
    return sorted(epochs, key=lambda epoch: epoch.epoch)


def _finite(value: Any) -> float:
    """A number; NaN, which figures leave out, for null (as JSON writes what is not finite)."""
    return float(value) if value is not None and math.isfinite(value) else math.nan


def best_epoch(run: RunRow, epochs: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights were kept, as the run's record says; what selects is the task's affair.

    Without a record, of what was published: the lowest dev loss, the first of equals. UserError for a record that names
    none of `epochs`.
    """
    if not run.record:
        return _lowest(epochs)
    record = read_json(Path(run.record))
    try:
        kept = int(record["best"]["epoch"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.record}: not the record that `thaw train` writes ({error!r})") from error
    found = next((epoch for epoch in epochs if epoch.epoch == kept), None)
    if found is None:
        raise UserError(f"{run.record}: its best epoch, {kept}, is none of {run.metrics}; train the run again")
    return found


def _lowest(epochs: Sequence[Epoch]) -> Epoch:
    return min(epochs, key=lambda epoch: math.inf if math.isnan(epoch.values["dev_loss"]) else epoch.values["dev_loss"])


@dataclass(frozen=True)
class Trained:
    """One run, or one that was published, and its epochs."""

    run: RunRow
    epochs: Sequence[Epoch]

    @cached_property
    def best(self) -> Epoch:
        """See `best_epoch`."""
        return best_epoch(self.run, self.epochs)


def _far_apart(runs: Sequence[Trained]) -> bool:
    """Whether some trainings are so much longer than others that these would be lost at the left edge."""
    lengths = [len(one.epochs) for one in runs]
    return max(lengths) > 3 * min(lengths)


@dataclass(frozen=True)
class CurvesFigure:
    """What `solid` and `dashed` name in the metrics, by epoch or step: a panel for every target of the spec."""

    title: str
    order: tuple[str, ...] = ()  # treatments whose looks are fixed
    solid: str = "dev_loss"
    dashed: str = "train_loss"
    by: Literal["epoch", "step"] = "epoch"
    log: bool = False
    palette: tuple[str, ...] = COLOURS
    legend_title: str = "Frozen layers"
    unit: str = "utterance"  # that losses are per: of a language model, "token"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.solid, self.dashed)))

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data as csv."""
        if not spec.runs:
            raise UserError(f"exhibit {spec.name}: its spec names no run")
        runs = [Trained(run, read_epochs(run, *self.keys)) for run in spec.runs]
        panels = grouped(runs, lambda one: f"{self.title}: {one.run.target_label}")
        note = spec.note + ("; one line for each random seed" if len({run.seed for run in spec.runs}) > 1 else "")
        return self.drawn(panels, looks(spec.treatments, self.order, spec.style, self.palette), note) | {
            "csv": self._csv(spec, runs)
        }

    def _csv(self, spec: ExhibitSpec, runs: Iterable[Trained], more: Row | None = None) -> bytes:
        """Every epoch of every run, whatever part of it is drawn."""
        names = columns("scale scale_note study target target_label treatment label seed epoch step")
        keys = dict.fromkeys((*self.keys, "dev_loss"))
        rows = (
            heading(spec) | {k: v for k, v in run_columns(spec, one.run).items() if k in names}
            | {"seed": one.run.seed, "epoch": epoch.epoch, "step": epoch.step or "", "run": one.run.id}
            | {key: "" if math.isnan(epoch.values[key]) else epoch.values[key] for key in keys}
            | {"best": int(epoch is one.best)} | (more or {})
            for one in runs for epoch in one.epochs
        )  # fmt: skip
        return as_csv([*names, *keys, "best", "run"], rows)

    def drawn(self, panels: Mapping[str, Sequence[Trained]], style: Mapping[str, Look], note: str) -> dict[str, bytes]:
        """One panel per title, one above the other; `note` names the scale over each."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        with house_style():
            figure = Figure(figsize=(7.0, 0.5 + 3.7 * len(panels)), layout="constrained")
            axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
            for axis, (title, runs) in zip(axes, panels.items(), strict=True):
                titled(axis, title, note)
                self._panel(axis, runs, style)
                axis.set_ylabel(_label(self.solid if self.solid != "dev_loss" else "", self.unit))
                if self.by == "epoch" and _far_apart(runs):
                    axis.set(xscale="log", yscale="log")
                    plain_log_axis(axis.xaxis)
                    plain_log_axis(axis.yaxis)
                else:
                    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
                    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes[-1].set_xlabel("Epoch" if self.by == "epoch" else "Training step")
            legend(figure, self._kinds(), loc="outside lower center", ncols=3)
            return figure_bytes(figure)

    def _panel(self, axis: Axes, runs: Sequence[Trained], style: Mapping[str, Look]) -> None:
        treatments = grouped(runs, lambda one: one.run.treatment)
        handles = [self._treatment(axis, mine, style[name], place)
                   for place, (name, mine) in enumerate(treatments.items())]  # fmt: skip
        if self.log:
            axis.set_yscale("log")
            plain_log_axis(axis.yaxis)
        elif self.solid != "dev_loss":
            from_zero([axis])
        axis.set_xlim(left=0.7 if self.by == "epoch" else 0)
        lowest = self.solid == "dev_loss" and all(one.best is _lowest(one.epochs) for one in runs)
        title = f"{self.legend_title}\n({'lowest dev loss' if lowest else 'at the ring'} @ {self.by})"
        legend(axis, handles, [self._summary(mine) for mine in treatments.values()], loc="upper left",
               bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=2.6, labelspacing=0.75, title=title,
               title_fontsize=8, alignment="left")  # fmt: skip

    def _summary(self, runs: Sequence[Trained]) -> str:
        """The label of a treatment: its values at the best epochs, mean over seeds, and where those are."""
        best = [one.best for one in runs]
        values = [_shown(self.solid, epoch.values[self.solid]) for epoch in best]
        places = [self._place(epoch) for epoch in best]
        where = f"{min(places):,}" + (f"{RANGE}{max(places):,}" if min(places) < max(places) else "")
        return f"{runs[0].run.label}  ({statistics.fmean(values):.1f} @ {where})"

    def _place(self, epoch: Epoch) -> int:
        return epoch.epoch if self.by == "epoch" else epoch.step

    def _treatment(self, axis: Axes, runs: Sequence[Trained], look: Look, place: int) -> Line2D:
        """Draw all runs of one treatment; the line that stands for it in the legend."""
        drawn: list[Line2D] = []
        for one in runs:
            places = [self._place(epoch) for epoch in one.epochs]
            every = max(3, len(places) // 12)
            for key in reversed(self.keys):  # the solid line last, above the dashed one
                solid = key == self.solid
                # Markers start at different epochs, so that they do not lie on top of each other.
                drawn += axis.plot(places, [_shown(key, epoch.values[key]) for epoch in one.epochs], color=look.colour,
                                   linestyle="-" if solid else DASHED, marker=look.marker if solid else "",
                                   linewidth=(1.5 if solid else 0.9) / (1 if len(runs) == 1 else 1.4), markersize=4,
                                   markevery=(place % every, every))  # fmt: skip
            ring = _shown(self.solid, one.best.values[self.solid])
            axis.plot([self._place(one.best)], [ring], marker="o", markersize=9,
                      markerfacecolor="none", markeredgecolor=look.colour, markeredgewidth=1.3, zorder=5)  # fmt: skip
        return drawn[-1]

    def _kinds(self) -> list[Line2D]:
        from matplotlib.lines import Line2D

        dark = "#333333"
        kinds = [Line2D([], [], color=dark, linewidth=1.5, label="dev"),
                 Line2D([], [], color=dark, linewidth=0.9, linestyle=DASHED, label="train")]  # fmt: skip
        ring = Line2D([], [], color=dark, linestyle="", marker="o", markersize=9, markerfacecolor="none",
                      label="lowest dev loss: these weights are decoded")  # fmt: skip
        return [*(kinds if self.dashed else []), ring]


@dataclass(frozen=True)
class PublishedCurvesFigure(CurvesFigure):
    """The curves of the paper itself, in the same style."""

    rates: str = ""  # files in config/published
    curves: str = ""
    epochs: int = 0  # drawn from the first, as the paper does

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The figure as png and pdf, its data (every epoch) as csv."""
        note = "published, paper scale"
        losses = read_json(published_file(spec, self.curves))
        runs = []
        for rate in read_rates(spec, self.rates):
            if rate.curve not in losses:
                raise UserError(f"{spec.published[self.curves]}: no curve called {rate.curve!r}")
            run = RunRow(id=rate.curve, treatment=rate.treatment, label=rate.label, target=rate.target,
                         target_label=rate.target_label, seed=0)  # fmt: skip
            curves = zip(losses[rate.curve]["train"], losses[rate.curve]["val"], strict=True)
            values = ({"train_loss": float(train), "dev_loss": float(dev)} for train, dev in curves)
            runs.append(Trained(run, [Epoch(n, 0, one) for n, one in enumerate(values, start=1)]))
        panels = grouped((Trained(one.run, one.epochs[: self.epochs]) for one in runs),
                         lambda one: f"{self.title}: {one.run.target_label}")  # fmt: skip
        more = {"scale": "paper", "scale_note": note, "seed": ""}
        style = looks(self.order, self.order, spec.style)
        return self.drawn(panels, style, note) | {"csv": self._csv(spec, runs, more)}


def _measured(key: str) -> Any:
    """The measure that a key of metrics.jsonl is of; None for a loss."""
    return next((one for one in MEASURES.values() if key.endswith(f"_{one.name.lower()}")), None)


def _shown(key: str, value: float) -> float:
    """Rates are per cent in figures; a perplexity is one in the metrics already."""
    measure = _measured(key)
    percent = measure is not None and measure.form == "percent" and not math.isnan(value)
    return float(measure.shown(value)) if percent else value


def _label(key: str, unit: str) -> str:
    """What the y axis says; `unit` is what losses are per."""
    split, _, _ = key.partition("_")
    measure = _measured(key)
    if measure:
        return f"{split.capitalize()} {measure.name}{' (%)' if measure.form == 'percent' else ''}"
    return f"{split} loss (nats per {unit})".strip().capitalize()

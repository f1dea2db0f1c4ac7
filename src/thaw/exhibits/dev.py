"""What training measures after each epoch, by step, and the error rate on dev of the weights that it kept."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.errors import UserError
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.files import read_jsonl


@dataclass(frozen=True)
class Epoch:
    """One epoch of one run. Losses are nats per utterance, the rate a fraction; NaN where they are not finite."""

    epoch: int  # from 1
    step: int  # of the optimiser, after the epoch
    train_loss: float
    dev_loss: float
    dev_wer: float


def read_epochs(run: RunRow) -> list[Epoch]:
    """The epochs of a run in order; UserError for a file without them."""
    rows = read_jsonl(Path(run.metrics))
    try:
        epochs = [
            Epoch(
                int(row["epoch"]),
                int(row["step"]),
                *(_finite(row[key]) for key in ("train_loss", "dev_loss", "dev_wer")),
            )
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


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The epoch with the lowest dev loss, the first of equals: training keeps its weights."""
    return min(epochs, key=lambda epoch: math.inf if math.isnan(epoch.dev_loss) else epoch.dev_loss)


@dataclass(frozen=True)
class DevRate:
    """Greedy WER on dev, a fraction, of the best epoch of one treatment on one target: by run, one for each seed."""

    by_run: dict[str, float]
    seeds: dict[str, int]
    epochs: tuple[int, ...]

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs behind this rate."""
        return tuple(self.by_run)

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.by_run.values())

    @property
    def text(self) -> str:
        """As tables print it: the rate in per cent, its spread over seeds, the epoch or epochs."""
        spread = f" ±{100 * statistics.stdev(self.by_run.values()):.1f}" if len(self.by_run) > 1 else ""
        low, high = min(self.epochs), max(self.epochs)
        return f"{100 * self.mean:.1f}{spread} ({low if low == high else f'{low}–{high}'})"


DevRates = dict[tuple[str, str], DevRate]  # (target, treatment)


def read_dev_rates(spec: ExhibitSpec) -> DevRates:
    """The dev WER of every run's best epoch; runs whose WER is not a number (no word in dev) are left out."""
    found: dict[tuple[str, str], list[tuple[RunRow, Epoch]]] = {}
    for run in spec.runs:
        best = best_epoch(read_epochs(run))
        if not math.isnan(best.dev_wer):
            found.setdefault((run.target, run.treatment), []).append((run, best))
    return {
        key: DevRate(
            {run.id: best.dev_wer for run, best in runs},
            {run.id: run.seed for run, _ in runs},
            tuple(best.epoch for _, best in runs),
        )
        for key, runs in found.items()
    }

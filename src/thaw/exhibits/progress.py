"""How trainings go: held-out frames, and words where snapshots were decoded, by time, by updates and by epochs.

Time is that of the training steps alone, as one machine took it; of late gradients, as so many machines would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.config.starts import epoch_of
from thaw.errors import UserError
from thaw.exhibits.frame import Row, as_csv, columns, read_judged, run_columns
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import Look, figure_bytes, figure_titled, house_style, legend, looks
from thaw.files import read_jsonl
from thaw.studies.multilingual import TREATMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = columns(
    "scale scale_note study target target_label treatment label seed run epoch step seconds frame_accuracy "
    "dev_wer test_wer replicas staleness"
)


@dataclass(frozen=True)
class Point:
    """A run after an epoch. Rates are in per cent; NaN where nothing was measured."""

    epoch: int
    step: int
    seconds: float  # of training, from the beginning
    accuracy: float  # of held-out frames
    dev_wer: float  # of a task that writes words
    test_wer: float  # of a snapshot that was decoded
    replicas: int = 1
    staleness: float = 0.0

    @property
    def held_out(self) -> float:
        """What dev says: frame accuracy, or the WER where there are no frames."""
        return self.dev_wer if math.isnan(self.accuracy) else self.accuracy


Axis = tuple[str, Callable[[Point], float]]
TIME: Axis = ("Training time, s", lambda point: point.seconds)
STEPS: Axis = ("Updates", lambda point: float(point.step))
EPOCHS: Axis = ("Epochs", lambda point: float(point.epoch))


def points(run: RunRow) -> list[Point]:
    """The epochs of a run, by its target's own dev; UserError for metrics of another shape."""
    rows = read_jsonl(Path(run.metrics))
    decoded = _decoded(run)
    dev = [(_percent(_own(run, row), "fer"), _percent(_own(run, row), "wer")) for row in rows]
    try:
        steps = [int(row["step"]) for row in rows]
        spans = zip(rows, steps, [0, *steps], strict=False)
        seconds = accumulate(row.get("parallel_seconds", row["step_seconds"] * (step - before))
                             for row, step, before in spans)  # fmt: skip
        return [
            Point(int(row["epoch"]), step, spent, 100 - fer, wer, decoded.get(int(row["epoch"]), math.nan),
                  int(row.get("replicas", 1)), row.get("staleness", 0.0))
            for row, step, spent, (fer, wer) in zip(rows, steps, seconds, dev, strict=True)
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.metrics}: not the metrics that `thaw train` writes ({error!r})") from error


def _own(run: RunRow, row: dict[str, Any]) -> dict[str, Any]:
    """What dev says of the run's own language, where it learnt several."""
    by_language = row.get("dev_by_language", {}).get(run.language, {})
    return {f"dev_{name}": value for name, value in by_language.items()} if by_language else row


def _percent(row: dict[str, Any], name: str) -> float:
    value = row.get(f"dev_{name}")
    return math.nan if value is None else 100 * float(value)


def _decoded(run: RunRow) -> dict[int, float]:
    """WER of the snapshots of epochs on test, by epoch."""
    found = {}
    for decode in run.decodes:
        epoch = epoch_of(decode.snapshot)
        if epoch is not None and decode.split == "test":
            found[epoch] = 100 * float(read_judged(run, decode).scores["word"]["rate"])
    return found


@dataclass(frozen=True)
class Panel:
    """What lies along the x axis, and whose runs are shown."""

    axis: Axis
    target: str = ""  # empty: those of all targets


def draw_progress(spec: ExhibitSpec) -> dict[str, bytes]:
    """Figure 4: panels for time, updates and epochs; a second row of them where snapshots were decoded."""
    title = f"Training by time, updates and epochs: {_targets(spec)}"
    return _draw(spec, title, [Panel(axis) for axis in (TIME, STEPS, EPOCHS)])


def draw_learners(spec: ExhibitSpec) -> dict[str, bytes]:
    """Late gradients: panels for updates and time."""
    title = f"Asynchronous training by updates and by time: {_targets(spec)}"
    more = "time: as many machines as replicas, none of which waits"
    return _draw(spec, title, [Panel(axis) for axis in (STEPS, TIME)], more)


def draw_languages(spec: ExhibitSpec) -> dict[str, bytes]:
    """The epochs of every language in a panel each; a network of several is in all of theirs, by each one's own dev."""
    panels = [Panel(EPOCHS, name) for name in spec.targets]
    return _draw(spec, "Training by epochs, each language by its own dev", panels)


def _targets(spec: ExhibitSpec) -> str:
    return ", ".join(spec.targets.values())


def _draw(spec: ExhibitSpec, title: str, panels: Sequence[Panel], more: str = "") -> dict[str, bytes]:
    from matplotlib.figure import Figure

    if not spec.runs:
        raise UserError(f"exhibit {spec.name}: its spec names no run")
    runs = [(run, points(run)) for run in spec.runs]
    style = looks(spec.treatments, TREATMENTS, spec.style)
    framed = any(not math.isnan(point.accuracy) for _, mine in runs for point in mine)
    tested = any(not math.isnan(point.test_wer) for _, mine in runs for point in mine)
    held_out = ("Held-out frame accuracy %" if framed else "Dev WER %", lambda point: point.held_out)
    heights = [held_out, *([("Test WER %", lambda point: point.test_wer)] if tested else [])]
    with house_style():
        figure = Figure(
            figsize=((2.9 if len(panels) < 5 else 2.1) * len(panels) + 0.4, 2.6 * len(heights) + 1.2),
            layout="constrained",
        )
        grid = figure.subplots(len(heights), len(panels), squeeze=False, sharey="row")
        for line, (name, height) in zip(grid, heights, strict=True):
            line[0].set_ylabel(name)
            for axis, panel in zip(line, panels, strict=True):
                label, place = panel.axis
                mine = [(run, found) for run, found in runs if panel.target in ("", run.target)]
                _panel(axis, mine, style, place, height)
                axis.set_xlabel(label)
                axis.set_title(spec.targets.get(panel.target, ""), fontweight="normal")
        seeds = "a line for each random seed" if len({run.seed for run in spec.runs}) > 1 else ""
        notes = (spec.note, seeds, more)
        figure_titled(figure, title, "; ".join(filter(None, notes)))
        handles = [grid[0][0].plot([], [], color=style[name].colour, label=label)[0]
                   for name, label in spec.treatments.items()]  # fmt: skip
        legend(figure, handles, loc="outside lower center", ncols=3)
        drawn = figure_bytes(figure)
    return drawn | {"csv": as_csv(NAMES, (_row(spec, run, point) for run, mine in runs for point in mine))}


def _panel(
    axis: Axes,
    runs: Sequence[tuple[RunRow, list[Point]]],
    style: dict[str, Look],
    place: Callable[[Point], float],
    height: Callable[[Point], float],
) -> None:
    for run, mine in runs:
        shown = [point for point in mine if not math.isnan(height(point))]
        axis.plot([place(point) for point in shown], [height(point) for point in shown],
                  color=style[run.treatment].colour, linewidth=1.1, marker=".", markersize=4)  # fmt: skip
    axis.set_xlim(left=0)


def _row(spec: ExhibitSpec, run: RunRow, point: Point) -> Row:
    known = {name: value for name, value in run_columns(spec, run).items() if name in NAMES}
    numbers = {"seconds": point.seconds, "frame_accuracy": point.accuracy, "dev_wer": point.dev_wer,
               "test_wer": point.test_wer}  # fmt: skip
    shown = {name: "" if math.isnan(value) else round(value, 3) for name, value in numbers.items()}
    where = {"seed": run.seed, "run": run.id, "epoch": point.epoch, "step": point.step}
    return known | where | shown | {"replicas": point.replicas, "staleness": point.staleness}

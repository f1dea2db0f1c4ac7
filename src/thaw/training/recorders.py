"""Who is told how a training goes: people (lines on stderr), files for `thaw runs`, TensorBoard where asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from thaw.errors import UserError
from thaw.files import write_json, write_jsonl

LINE_SECONDS = 5.0  # between two lines, and two writes of progress.json


@dataclass(frozen=True)
class Status:
    """Where a training is. Losses are nats per utterance; `loss` is the mean of this epoch so far."""

    epoch: int  # 1-based
    epochs: int
    step: int  # optimiser steps so far
    steps: int  # optimiser steps if it runs to the last epoch
    loss: float | None
    best: Mapping[str, Any] | None  # the best epoch so far: {epoch, dev_<what selects>}
    audio_rate: float  # seconds of audio trained on per second
    seconds: float  # spent, over all starts
    seconds_left: float | None  # to the last epoch at this speed


class Recorder(Protocol):
    """Is told of steps, of finished epochs, of things to say, and of the end."""

    def step(self, status: Status) -> None:
        """Called after every step; must be cheap."""

    def epoch(self, status: Status, rows: Sequence[dict[str, Any]]) -> None:
        """Called after every epoch with all rows of metrics so far."""

    def say(self, text: str) -> None:
        """Something a person should read."""

    def close(self, outcome: str) -> None:
        """The training ends here: "finished", "stopped" or "failed"."""


class Lines:
    """One line on stderr every few seconds and one per epoch; no cursor tricks, so that logs stay readable."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.last = time.monotonic()

    def step(self, status: Status) -> None:
        now = time.monotonic()
        if now - self.last >= LINE_SECONDS:
            self.last = now
            self.say(f"{_place(status)}  loss {_number(status.loss)}{_speed(status)}{_left(status)}")

    def epoch(self, status: Status, rows: Sequence[dict[str, Any]]) -> None:
        row = rows[-1]
        self.last = time.monotonic()
        self.say(
            f"{_place(status)}  loss {_number(row['train_loss'])}{_dev(row, status)}{_speed(status)}{_left(status)}"
        )

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def close(self, outcome: str) -> None:
        pass


class Files:
    """metrics.jsonl (one row per epoch) and progress.json in the state folder.

    Nothing depends on them, so a full disk here ends no training (a checkpoint that cannot be written does), and where
    the folder was deleted they do not bring it back.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = float("-inf")
        self.status: Status | None = None

    def step(self, status: Status) -> None:
        self.status = status
        now = time.monotonic()
        if now - self.last >= LINE_SECONDS:
            self.last = now
            self._write("running")

    def epoch(self, status: Status, rows: Sequence[dict[str, Any]]) -> None:
        self.status = status
        if self.folder.is_dir():
            with suppress(UserError):
                write_jsonl(self.folder / "metrics.jsonl", rows)
        self._write("running")

    def say(self, text: str) -> None:
        pass

    def close(self, outcome: str) -> None:
        self._write(outcome)

    def _write(self, outcome: str) -> None:
        if self.status is not None and self.folder.is_dir():
            facts = {**asdict(self.status), "state": outcome, "time": time.time()}
            with suppress(UserError):
                write_json(self.folder / "progress.json", facts, sealed=False)


class TensorBoard:
    """Curves for TensorBoard: the loss every few seconds, the metrics of each epoch; by optimiser step."""

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "--tensorboard: the package tensorboard is not installed; add it or drop the option"
            ) from error
        # What a killed attempt wrote beyond the checkpoint that we resume from would otherwise be drawn twice.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1)
        self.last = float("-inf")

    def step(self, status: Status) -> None:
        now = time.monotonic()
        if status.loss is not None and now - self.last >= LINE_SECONDS:
            self.last = now
            self.writer.add_scalar("running/loss", status.loss, status.step)

    def epoch(self, status: Status, rows: Sequence[dict[str, Any]]) -> None:
        for name, value in rows[-1].items():
            if name not in ("epoch", "step") and isinstance(value, int | float):
                self.writer.add_scalar(name, value, status.step)
        self.writer.flush()

    def say(self, text: str) -> None:
        pass

    def close(self, outcome: str) -> None:
        self.writer.close()


class Recorders:
    """Several recorders as one; none at all in the processes that do not lead."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self.recorders = list(recorders)

    def step(self, status: Status) -> None:
        for recorder in self.recorders:
            recorder.step(status)

    def epoch(self, status: Status, rows: Sequence[dict[str, Any]]) -> None:
        for recorder in self.recorders:
            recorder.epoch(status, rows)

    def say(self, text: str) -> None:
        for recorder in self.recorders:
            recorder.say(text)

    def close(self, outcome: str) -> None:
        for recorder in self.recorders:
            recorder.close(outcome)


def selected(best: Mapping[str, Any]) -> str:
    """What selects: the key of a best epoch that is not its number."""
    return next(key for key in best if key != "epoch")


def shown(key: str, value: float | None) -> str:
    """A value of dev for people: "dev_loss" is nats, "dev_perplexity" itself, all else a share."""
    if value is None:
        return "-"
    return {"dev_loss": f"{value:.2f}", "dev_perplexity": f"{value:.1f}"}.get(key, f"{100 * value:.1f} %")


def name_of(key: str) -> str:
    """What people call a value of dev: "loss", "CER", "token error"."""
    name = key.removeprefix("dev_").replace("_", " ")
    return name.upper() if name in ("cer", "wer", "fer") else name


def _dev(row: Mapping[str, Any], status: Status) -> str:
    """Dev's loss, the first of its rates and the one that selects; the best so far stands beside what selects."""
    rates = [key for key in row if key.startswith("dev_") and key not in ("dev_loss", "dev_by_language")]
    best = {selected(status.best): status.best} if status.best else {}
    keys = dict.fromkeys(("dev_loss", *rates[:1], *best))
    texts = (
        f"{name_of(key)} {shown(key, row[key])}" + (f" (best {shown(key, best[key][key])})" if key in best else "")
        for key in keys
    )
    return "  dev " + "  ".join(texts)


def _speed(status: Status) -> str:
    """How fast audio is learnt from; nothing where there is none."""
    return f"  {status.audio_rate:.0f} audio-s/s" if status.audio_rate else ""


def _place(status: Status) -> str:
    return f"epoch {status.epoch}/{status.epochs}  step {status.step}/{status.steps}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _left(status: Status) -> str:
    if status.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(status.seconds_left), 60)
    return f"  {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left"

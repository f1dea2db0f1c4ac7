"""Dev, added up batch by batch and over processes: the mean loss and the rates of the task's measures.

Where dev has several languages, the same is kept for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from thaw.tasks import Task
from thaw.training.forward import Answer
from thaw.units import ByLanguage

Values = dict[str, float | None]  # "loss", and the rates of a task's measures


@dataclass(frozen=True)
class Dev:
    """What dev says of an epoch. Rates are all errors over all totals; None where there are none."""

    values: Values
    finite: int  # utterances with a finite loss
    by_language: dict[str, Values]  # empty where dev has one language

    @property
    def loss(self) -> float | None:
        """Nats per utterance, or whatever the task's weights are; None where none is finite."""
        return self.values["loss"]

    def row(self) -> dict[str, Any]:
        """Its part of the epoch's metrics."""
        row: dict[str, Any] = {f"dev_{name}": value for name, value in self.values.items()}
        return row | ({"dev_by_language": self.by_language} if self.by_language else {})


class Judged:
    """Sums over utterances as one flat list, so that processes can add theirs: for all, then for each language, the
    finite losses, their number and their weight, then errors and totals of each measure."""

    def __init__(self, tasks: ByLanguage[Task], langs: Sequence[str]) -> None:
        self.tasks = tasks
        self.measures = next(iter(tasks.values())).measures
        self.groups = [None, *(langs if len(langs) > 1 else ())]
        self.totals = self.nothing()

    def nothing(self) -> list[float]:
        """The sums of no utterance."""
        return [0.0] * (len(self.groups) * self.width)

    @property
    def width(self) -> int:
        """Numbers of one group."""
        return 3 + 2 * len(self.measures)

    def sums(self, losses: Tensor, answers: Sequence[Answer]) -> list[float]:
        """The sums of one batch: its losses (B,) and the answers of its heads."""
        values, langs, weights = losses.tolist(), [""] * len(losses), [0] * len(losses)
        counts: list[list[float]] = [[] for _ in values]  # of each row, errors and total by measure
        for answer in answers:
            by_measure = self.tasks[answer.head].counts(answer)
            for place, row in enumerate(answer.rows):
                langs[row] = answer.batch.langs[place]
                weights[row] = self.tasks[answer.head].weight(int(answer.batch.target_lengths[place]))
                found = [by_measure[measure][place] for measure in self.measures]
                counts[row] = [number for each in found for number in (each.errors, each.total)]
        sums: list[float] = []
        for group in self.groups:
            rows = [row for row, lang in enumerate(langs) if group is None or lang == group]
            finite = [row for row in rows if math.isfinite(values[row])]
            sums += [math.fsum(values[row] for row in finite), len(finite), sum(weights[row] for row in finite)]
            sums += [math.fsum(counts[row][place] for row in rows) for place in range(2 * len(self.measures))]
        return sums

    def add(self, sums: Sequence[float]) -> None:
        """Add a batch, of all processes."""
        self.totals = [a + b for a, b in zip(self.totals, sums, strict=True)]

    def result(self) -> Dev:
        """What has been added up."""
        parts = [self.totals[place : place + self.width] for place in range(0, len(self.totals), self.width)]
        values = [self._values(part) for part in parts]
        languages = [group for group in self.groups if group is not None]
        return Dev(values[0], int(parts[0][1]), dict(zip(languages, values[1:], strict=True)))

    def _values(self, part: Sequence[float]) -> Values:
        loss, _, weight, *counts = part
        pairs = zip(self.measures, counts[::2], counts[1::2], strict=True)
        rates = {measure: errors / total if total else None for measure, errors, total in pairs}
        return {"loss": loss / weight if weight else None, **rates}

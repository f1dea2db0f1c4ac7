"""A batch through a model: the layers that all languages share, then each language's own.

Shapes: B batch, T frames, H units of the last shared layer, U labels, V classes of one head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from thaw.models.layered import Labels, LayeredModel, Noise
from thaw.placing import on_device, rows_of
from thaw.training.data import Batch
from thaw.units import EVERY


@dataclass(frozen=True)
class Answer:
    """What the heads of one language say of its rows of a batch."""

    head: str  # the language, or EVERY
    rows: tuple[int, ...]  # of the whole batch
    batch: Batch  # these rows
    outputs: Mapping[str, Tensor]  # logits by the name of the head: (rows, T, V), or of what shape its task knows
    frames: Tensor  # (rows,) valid ones
    encoded: Tensor  # (rows, T, H), what the shared layers have made
    model: LayeredModel  # whose answer it is: a task may ask it for more, such as a search

    @property
    def logits(self) -> Tensor:
        """Those of the only head, or of the first one."""
        return next(iter(self.outputs.values()))


def forward(model: LayeredModel, batch: Batch, noise: Noise | None, done: int = 0) -> list[Answer]:
    """The answers of the heads that the batch's languages have, by language; `done` as in `LayeredModel.forward`.

    A model that is taught by labels gets those of the batch.
    """
    encoded, frames = model(batch.x, batch.lengths, noise, done, len(model.trunk))
    if EVERY in model.branches:
        return [_answer(model, EVERY, range(len(batch.ids)), batch, encoded, frames, noise)]
    answers = []
    for lang in sorted(set(batch.langs)):
        rows = [row for row, its in enumerate(batch.langs) if its == lang]
        its_noise = noise.part(rows) if noise else None
        answers.append(_answer(model, lang, rows, batch.part(rows), rows_of(encoded, rows), frames[rows], its_noise))
    return answers


def _answer(
    model: LayeredModel,
    head: str,
    rows: Iterable[int],
    batch: Batch,
    encoded: Tensor,
    frames: Tensor,
    noise: Noise | None,
) -> Answer:
    labels = labels_of(batch) if model.taught else None
    outputs = model.outputs(encoded, frames, noise, head, labels)
    return Answer(head, tuple(rows), batch, outputs, frames, encoded, model)


def labels_of(batch: Batch) -> Labels:
    """The labels of a batch side by side, on the device of its features."""
    lengths = batch.target_lengths.tolist()
    ids = torch.zeros(len(lengths), max(lengths, default=0), dtype=torch.int64)
    for row, labels in zip(ids, torch.split(batch.targets, lengths), strict=True):
        row[: len(labels)] = labels
    return Labels(on_device(ids, batch.x.device), on_device(batch.target_lengths.long(), batch.x.device))

"""A batch through a model: the layers that all languages share, then each language's own.

Shapes: B batch, T frames, V classes of one head.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from thaw.models.layered import LayeredModel, Noise
from thaw.training.data import Batch
from thaw.units import EVERY


@dataclass(frozen=True)
class Answer:
    """What one head says of its rows of a batch."""

    head: str  # its language, or EVERY
    rows: tuple[int, ...]  # of the whole batch
    batch: Batch  # these rows
    logits: Tensor  # (rows, T, V)
    frames: Tensor  # (rows,) valid ones


def forward(model: LayeredModel, batch: Batch, noise: Noise | None, done: int = 0) -> list[Answer]:
    """The answers of the heads that the batch's languages have, by language; `done` as in `LayeredModel.forward`."""
    if EVERY in model.branches:
        logits, frames = model(batch.x, batch.lengths, noise, done)
        return [Answer(EVERY, tuple(range(len(batch.ids))), batch, logits, frames)]
    shared, lengths = model(batch.x, batch.lengths, noise, done, len(model.trunk))
    answers = []
    for lang in sorted(set(batch.langs)):
        rows = [row for row, its in enumerate(batch.langs) if its == lang]
        its_noise = noise.part(rows) if noise else None
        logits, frames = model(shared[rows], lengths[rows], its_noise, len(model.trunk), lang=lang)
        answers.append(Answer(lang, tuple(rows), batch.part(rows), logits, frames))
    return answers

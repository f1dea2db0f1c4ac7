"""Outputs of frozen layers, computed once: where nothing before a layer can change, training starts behind it.

A treatment that freezes the first layers, keeps their norms still, drops nothing out in them (or has no dropout there,
as an LSTM and convolutions have none) and augments nothing feeds the first trainable layer the same numbers in every
epoch; but for self-attention, which rounds as the batch around an utterance is long. Those are kept instead of the
features, each utterance's by itself, and padded as far as the layers that are skipped would have padded a batch: norms
behind them may see padding. What lies there means nothing to a layer (`thaw.models.layered.Layer`).

Shapes: B batch, T frames, H units of the last such layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from thaw.config.run import RunRecipe
from thaw.config.schema import AugmentationSpec
from thaw.models.layered import LayeredModel
from thaw.surgery.surgery import Surgery, norms
from thaw.training.augment import Augment
from thaw.training.data import Examples

CHUNK = 16  # utterances that go through the layers together: neighbours in duration, the same whoever asks first
LEAST_ROWS = 2  # a batch of one goes through other kernels than a batch of two: other bits
MOST_BYTES = 8 << 30  # of both splits: beyond it nothing is kept. The data decide that, not the memory of a machine


def computed_once(surgery: Surgery, recipe: RunRecipe, splits: Sequence[Examples], device: torch.device) -> int:
    """How many of the first layers need computing only once for each utterance; 0 where that takes too much memory."""
    count = constant_layers(surgery, recipe)
    if not count:
        return 0
    longest = splits[0].batch([len(splits[0]) - 1]).to(device)
    with torch.no_grad():
        x, lengths = surgery.model(longest.x, longest.lengths, upto=count)
    # Layers behind these may leave out frames; the longest utterance says how many, to the least rounding.
    rate = int(lengths[0]) / max(1, recipe.model.frames(splits[0].utterances[-1].samples))
    frames = sum(recipe.model.frames(utterance.samples) for split in splits for utterance in split.utterances)
    return count if 4 * x.shape[2] * rate * frames <= MOST_BYTES else 0


def constant_layers(surgery: Surgery, recipe: RunRecipe) -> int:
    """How many of the first layers give the same output for an utterance throughout the training."""
    if recipe.recipe.augmentation != AugmentationSpec():
        return 0
    rates = surgery.dropout_rates(recipe.recipe.dropout)
    count = 0
    for name in surgery.model.trunk:
        dropped = rates[name] and surgery.model.layer(name).drops
        moving = dropped or moves(norms(surgery.model, name), recipe.frozen.norm)
        if name not in surgery.frozen_layers or moving or not surgery.model.layer(name).apart:
            break
        count += 1
    return count


def moves(modules: Sequence[torch.nn.Module], norm: str) -> bool:
    """Whether normalisation in a frozen layer gives other outputs in other steps: it learns, or keeps statistics."""
    statistics = any(buffer is not None for module in modules for buffer in module.buffers())
    return bool(modules) if norm == "learn" else norm == "train" and statistics


class Activations(Examples):
    """The utterances of `examples` with the outputs (T, H) of the model's first `done` layers as their features.

    `trained` says that a training step would compute them, as it does those to train on: a CPU has another kernel for
    an LSTM where gradients are recorded, and so other bits, although none is recorded of frozen layers.
    """

    def __init__(
        self, examples: Examples, model: LayeredModel, done: int, device: torch.device, precision: str, trained: bool
    ) -> None:
        self.utterances = examples.utterances
        self.labels = examples.labels
        self.tasks = examples.tasks
        self.left_out = examples.left_out
        self.examples = examples
        self.model = model
        self.done = done
        self.device = device
        self.precision = precision
        self.trained = trained
        self.kept: dict[int, NDArray[np.float32]] = {}
        self.frames: dict[int, int] = {}  # of the features that they were made of

    def features(self, index: int, augment: Augment | None = None) -> NDArray[np.float32]:
        """Activations (T, H) of one utterance; nothing is augmented (`constant_layers`)."""
        if index not in self.kept:
            start = index - index % CHUNK
            self.compute(range(start, min(start + CHUNK, len(self.utterances))))
        return self.kept[index]

    def padded(self, indices: Sequence[int], rows: Sequence[NDArray[np.float32]]) -> int:
        """As far as the skipped layers would have padded the longest of these utterances."""
        return self.model.padded(max(self.frames[index] for index in indices), self.done)

    def compute(self, indices: range) -> None:
        """Put a chunk through the layers; the features themselves are not needed again."""
        rows = [*indices] * (1 if len(indices) >= LEAST_ROWS else LEAST_ROWS)
        batch = self.examples.batch(rows).to(self.device)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with half, torch.inference_mode(False), torch.set_grad_enabled(self.trained):
            x, lengths = self.model(batch.x, batch.lengths, upto=self.done)
        kept = zip(rows, x.float().cpu().numpy(), lengths.tolist(), batch.lengths.tolist(), strict=True)
        for index, row, length, frames in kept:
            self.kept[index], self.frames[index] = row[:length].copy(), frames
        self.examples.forget(indices)

"""Outputs of frozen layers, computed once: where nothing before a layer can change, training starts behind it.

A treatment that freezes the first layers, keeps their norms still, drops nothing out in them and augments nothing feeds
the first trainable layer the same numbers in every epoch. Those are kept instead of the features.

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
MOST_BYTES = 8 << 30  # of both splits; beyond it nothing is kept, so that memory decides before a training, not in it


def computed_once(surgery: Surgery, recipe: RunRecipe, splits: Sequence[Examples], device: torch.device) -> int:
    """How many of the first layers need computing only once for each utterance; 0 where that takes too much memory."""
    count = constant_layers(surgery, recipe)
    if not count:
        return 0
    first = splits[0].batch([0]).to(device)
    with torch.no_grad():
        x, _ = surgery.model(first.x, first.lengths, upto=count)
    frames = sum(recipe.model.frames(utterance.samples) for split in splits for utterance in split.utterances)
    return count if 4 * x.shape[2] * frames <= MOST_BYTES else 0


def constant_layers(surgery: Surgery, recipe: RunRecipe) -> int:
    """How many of the first layers give the same output for an utterance throughout the training."""
    if recipe.recipe.augmentation != AugmentationSpec():
        return 0
    rates = surgery.dropout_rates(recipe.recipe.dropout)
    count = 0
    for name in surgery.model.layers:
        moves = recipe.frozen.norm != "eval" and norms(surgery.model, name)
        if name not in surgery.frozen_layers or rates[name] or moves:
            break
        count += 1
    return count


class Activations(Examples):
    """The utterances of `examples` with the outputs (T, H) of the model's first `done` layers as their features."""

    def __init__(
        self, examples: Examples, model: LayeredModel, done: int, device: torch.device, precision: str
    ) -> None:
        self.utterances = examples.utterances
        self.labels = examples.labels
        self.examples = examples
        self.model = model
        self.done = done
        self.device = device
        self.precision = precision
        self.kept: dict[int, NDArray[np.float32]] = {}

    def features(self, index: int, augment: Augment | None = None) -> NDArray[np.float32]:
        """Activations (T, H) of one utterance; nothing is augmented (`constant_layers`)."""
        if index not in self.kept:
            start = index - index % CHUNK
            self.compute(range(start, min(start + CHUNK, len(self.utterances))))
        return self.kept[index]

    @torch.no_grad()
    def compute(self, indices: range) -> None:
        """Put a chunk through the layers; the features themselves are not needed again."""
        batch = self.examples.batch(indices).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            x, lengths = self.model(batch.x, batch.lengths, upto=self.done)
        for index, row, length in zip(indices, x.float().cpu().numpy(), lengths.tolist(), strict=True):
            self.kept[index] = row[:length].copy()
        self.examples.forget(indices)

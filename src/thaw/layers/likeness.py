"""How alike two networks see the same frames, layer by layer: linear CKA (Kornblith et al. 2019).

Shapes: T frames of an utterance, N frames of all, F and G features of the two networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from thaw.models import LayeredModel


class Cka:
    """Linear CKA of two sets of features of the same frames, added up utterance by utterance in double precision.

    |Yc' Xc|² / (|Xc' Xc| |Yc' Yc|), with Frobenius norms and columns that are centred over all frames: 1 where one is
    the other turned and scaled, towards 0 where they have nothing in common.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.parts: list[Tensor] = []  # sums of x (F,) and y (G,); X'X, Y'Y, Y'X

    def add(self, x: Tensor, y: Tensor) -> None:
        """More frames: x (T, F), y (T, G)."""
        x, y = x.double(), y.double()
        new = [x.sum(0), y.sum(0), x.T @ x, y.T @ y, y.T @ x]
        self.parts = [old + more for old, more in zip(self.parts, new, strict=True)] if self.parts else new
        self.frames += len(x)

    def value(self) -> float:
        """CKA; 0 where one of the two never changes."""
        x, y, xx, yy, yx = self.parts
        n = self.frames
        own = (xx - torch.outer(x, x) / n).norm() * (yy - torch.outer(y, y) / n).norm()
        shared = (yx - torch.outer(y, x) / n).square().sum()
        return float(shared / own) if float(own) > 0 else 0.0


@torch.no_grad()
def cka_by_layer(
    model: LayeredModel, other: LayeredModel, layers: Sequence[str], inputs: Iterable[Tensor]
) -> dict[str, float]:
    """Layer -> CKA between what the two models' first layers up to it give for features (T, F) of utterances.

    `layers` are the first ones of both models, in order; the models are in evaluation mode, on the features' device.
    """
    found = {layer: Cka() for layer in layers}
    for features in inputs:
        x = y = features.unsqueeze(0)
        frames = torch.tensor([len(features)], device=features.device)
        for place, layer in enumerate(layers):
            y, _ = other(y, frames, done=place, upto=place + 1)
            x, frames = model(x, frames, done=place, upto=place + 1)
            valid = int(frames)
            found[layer].add(x[0, :valid], y[0, :valid])
    return {layer: cka.value() for layer, cka in found.items()}

"""What comes in, normalised by the mean and the deviation of each channel over the training set (global CMVN).

The statistics are buffers of the first layer: saved, loaded, frozen and drawn anew with it, and fitted where it is new.
Shapes: T frames, F channels of the front end.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LEAST_VARIANCE = 1e-10

Features = Iterable[NDArray[np.float32]]


class Normaliser(nn.Module):
    """Channels less their mean, over their deviation; as they are until `fit`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(…, F) -> (…, F)."""
        return (x - self.mean) * self.scale

    def reset(self) -> None:
        """As at first."""
        self.mean.zero_()
        self.scale.fill_(1.0)

    @torch.no_grad()
    def fit(self, features: Features) -> None:
        """Take the statistics of all frames of `features`, each (T, F)."""
        mean, deviation = statistics(features, len(self.mean))
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(1.0 / deviation))


def statistics(features: Features, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the deviation (F,) of each channel over all frames of `features`, each (T, F)."""
    count, total, squares = 0, np.zeros(channels), np.zeros(channels)
    for rows in features:
        wide = rows.astype(np.float64)
        count, total, squares = count + len(wide), total + wide.sum(0), squares + (wide**2).sum(0)
    mean = total / max(count, 1)
    return mean, np.sqrt(np.maximum(squares / max(count, 1) - mean**2, LEAST_VARIANCE))

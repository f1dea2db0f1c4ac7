"""Batches that still are samples when they leave the host: their features are made, and masked, on the device.

Shapes: B batch, N samples, T frames, F features, M masks of an utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from thaw.frontends.on_device import FrontEnd
from thaw.placing import on_device
from thaw.training.augment import Rectangle, Samples


@dataclass(frozen=True)
class Sound:
    """What makes features of a batch of samples. Its own tensors are on the CPU."""

    front_end: FrontEnd
    samples: Tensor  # (B,) int64, valid ones
    masks: Tensor  # (B, M, 4) int64: first frame, the one behind the last, and coefficients likewise

    def features(self, x: Tensor, frames: Tensor) -> Tensor:
        """Features (B, T, F) of samples (B, N) on the device; `frames` (B,) are valid. Nobody waits for them."""
        made = self.front_end(x, self.samples, frames)
        return masked(made, frames, self.masks) if self.masks.shape[1] else made


def side_by_side(sounds: Sequence[Samples]) -> Tensor:
    """Samples as one tensor (B, N), padded with zeros: int16 where all of them are, else float32."""
    kind = np.result_type(*(sound.dtype for sound in sounds))
    x = np.zeros((len(sounds), max(map(len, sounds))), dtype=kind)
    for row, sound in zip(x, sounds, strict=True):
        row[: len(sound)] = sound
    return torch.from_numpy(x)


def edges(masks: Sequence[Sequence[Rectangle]], frames: Sequence[int], coefficients: int) -> Tensor:
    """The edges (B, M, 4) of the masks of each utterance, which has so many frames and coefficients."""
    rows = [
        [[*times.indices(length)[:2], *bands.indices(coefficients)[:2]] for times, bands in its]
        for its, length in zip(masks, frames, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.int64).view(len(rows), -1, 4)


def masked(x: Tensor, frames: Tensor, masks: Tensor) -> Tensor:
    """Features (B, T, F) whose masked values are the mean of their coefficient: see `Augment.mask`.

    `frames` (B,) and `masks` (B, M, 4) are on the CPU, x is 0 beyond the frames.
    """
    counts = on_device(frames, x.device).clamp(min=1)[:, None, None]
    first, stop, low, high = on_device(masks, x.device)[..., None].unbind(2)  # (B, M, 1) each
    time, band = (torch.arange(size, device=x.device) for size in x.shape[1:])
    times, bands = (time >= first) & (time < stop), (band >= low) & (band < high)  # (B, M, T), (B, M, F)
    hidden = times.float().transpose(1, 2) @ bands.float()  # how many masks lie there
    return torch.where(hidden > 0, x.sum(1, keepdim=True) / counts, x)

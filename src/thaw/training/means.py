"""Weights as a mean over the last epochs of a training: snapshots `mean-N`.

Source: espnet/espnet utils/average_checkpoints.py, which takes the mean of the last (or best) N checkpoints after a
training; here one sum is kept while it runs, in double precision, so that no checkpoint needs keeping.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from thaw.config.starts import mean_of
from thaw.training.progress import under


class Means:
    """The sums of the snapshots `mean-N` among those of a recipe, each over the last N of its epochs."""

    def __init__(self, snapshots: Iterable[str], epochs: int) -> None:
        self.counts = {snapshot: count for snapshot in snapshots if (count := mean_of(snapshot))}
        self.epochs = epochs
        self.sums: dict[str, dict[str, Tensor]] = {}  # by snapshot

    @torch.no_grad()
    def add(self, epoch: int, weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take in the weights after an epoch; gives the means that are whole with it, on the CPU."""
        for snapshot, count in self.counts.items():
            if epoch <= self.epochs - count:
                continue
            sums = self.sums.setdefault(
                snapshot, {name: torch.zeros_like(t, dtype=torch.float64) for name, t in weights.items()}
            )
            for name, tensor in weights.items():
                sums[name] += tensor
        if epoch < self.epochs:
            return {}
        return {
            snapshot: {
                name: (total / self.counts[snapshot]).to(weights[name].dtype).cpu() for name, total in sums.items()
            }
            for snapshot, sums in self.sums.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of them, on the CPU."""
        named = {f"{snapshot}/{name}": total for snapshot, sums in self.sums.items() for name, total in sums.items()}
        return {name: total.cpu() for name, total in named.items()}

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over what `tensors` gave."""
        found = {snapshot: under(tensors, f"{snapshot}/") for snapshot in self.counts}
        self.sums = {s: {name: total.to(device) for name, total in sums.items()} for s, sums in found.items() if sums}

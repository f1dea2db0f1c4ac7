"""What a server makes of its clients' updates: a weighted mean of their changes, in double precision.

In double precision the difference of two single-precision weights is exact, and so is their sum again: with one client
and no dropout the mean change leads to that client's weights bit for bit (unless one of them shrank 2^29 times).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from thaw.training.submodels import Cuts, add_at, cut


@dataclass(frozen=True)
class Update:
    """What one client sends back, and what its training says of itself."""

    client: str
    weights: dict[str, Tensor]  # trained parameters, cut; empty where the training diverged
    buffers: dict[str, Tensor]  # whole
    cuts: Cuts
    utterances: int  # of the client, whom the mean weighs by
    facts: dict[str, Any] = field(default_factory=dict)  # sums over its steps: loss, utterances, seconds …


class Mean:
    """The mean change of named tensors, added up client by client, in the order of the calls."""

    def __init__(
        self, start: Mapping[str, Tensor], aggregation: Literal["masked", "zero-fill"] = "masked", clip: float = 0.0
    ) -> None:
        self.start = {name: tensor.detach() for name, tensor in start.items()}
        self.masked = aggregation == "masked"
        self.clip = clip
        self.total = 0.0  # of the weights of all clients
        self.sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in self.start.items()}
        self.heard: dict[
            str, Tensor
        ] = {}  # of tensors that somebody has in part: the weights of those who had each number

    def changes(self, update: Update) -> dict[str, Tensor]:
        """The client's weights minus those that it was given, cut as they are, float64."""
        return {
            name: value.to(start.device).double() - cut(start, update.cuts.get(name)).double()
            for name, value in update.weights.items()
            for start in (self.start[name],)
        }

    def add(self, update: Update, weight: float) -> float:
        """Count a client in; gives the norm of its change before clipping. NaN: it is not finite, and not counted."""
        changes = self.changes(update)
        norm = math.sqrt(math.fsum(float(change.square().sum()) for change in changes.values()))
        if not math.isfinite(norm) or not changes:
            return math.nan
        scale = weight * min(1.0, self.clip / norm) if self.clip and norm else weight
        for name, change in changes.items():
            kept = update.cuts.get(name)
            if kept and name not in self.heard:
                self.heard[name] = torch.full_like(self.sums[name], self.total)  # all before had the whole of it
            if name in self.heard:
                add_at(self.heard[name], kept, weight)
            add_at(self.sums[name], kept, change * scale)
        self.total += weight
        return norm

    def result(self) -> dict[str, Tensor]:
        """The mean change of each tensor, float64; zero for what nobody had."""
        means = {}
        for name, total in self.sums.items():
            heard = self.heard.get(name)
            if heard is None or not self.masked:
                means[name] = total / self.total
            else:
                means[name] = torch.where(heard > 0, total / heard, 0.0)
        return means

    def untouched(self) -> dict[str, Tensor]:
        """For each tensor that not all had whole, true where nobody had a number of it (masked aggregation only)."""
        return {name: heard == 0 for name, heard in self.heard.items()} if self.masked else {}


def mean_buffers(
    start: Mapping[str, Tensor], updates: Mapping[str, tuple[float, Mapping[str, Tensor]]]
) -> dict[str, Tensor]:
    """Buffers as the weighted mean of the clients' (client -> weight, buffers), counts as their largest one."""
    total = math.fsum(weight for weight, _ in updates.values())
    merged = {}
    for name, own in start.items():
        theirs = [(weight, buffers[name].to(own.device)) for weight, buffers in updates.values()]
        if not own.is_floating_point():
            merged[name] = torch.stack([value for _, value in theirs]).amax(0)
            continue
        change = torch.zeros_like(own, dtype=torch.float64)
        for weight, value in theirs:
            change += (value.double() - own.double()) * (weight / total)
        merged[name] = (own.double() + change).to(own.dtype)
    return merged

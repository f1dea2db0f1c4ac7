"""Where a central training is, and what it holds to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from thaw.models.layered import LayeredModel


@dataclass
class Sums:
    """What an epoch adds up, step by step."""

    loss: float = 0.0  # nats, summed over `utterances`
    utterances: int = 0  # with a finite loss
    weight: int = 0  # of these in a mean loss: their number, or that of their frames
    gradient_norm: float = 0.0  # before clipping, over `steps` that were not skipped
    steps: int = 0
    skipped: int = 0  # of the steps: those whose gradient was not finite
    audio_seconds: float = 0.0
    seconds: float = 0.0  # wall clock of the steps
    data_seconds: float = 0.0  # of these: waiting for a batch, or making it
    non_finite: list[str] = field(default_factory=list)  # ids left out of the loss


@dataclass
class Progress:
    """Where a training is; together with weights and optimiser state, all that a resume needs."""

    epoch: int = 1  # the one at work, 1-based
    batch: int = 0  # its batches that are done
    step: int = 0  # optimiser steps, over all epochs, skipped ones too
    skipped: int = 0  # the last so many steps, in a row
    stale: int = 0  # epochs since the last improvement by early_stop_delta
    retreats: int = 0  # how often the weights of the best epoch were gone back to
    best: dict[str, Any] | None = None  # {epoch, dev_<what the task selects by>}
    audio_seconds: float = 0.0
    sums: Sums = field(default_factory=Sums)
    rows: list[dict[str, Any]] = field(default_factory=list)  # metrics, one per finished epoch

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_plain(cls, facts: dict[str, Any]) -> Progress:
        """The inverse of `plain`."""
        return cls(**{**facts, "sums": Sums(**facts["sums"])})


@dataclass(frozen=True)
class Heard:
    """What a step went through, over all processes."""

    loss: float  # nats, summed
    utterances: int  # with a finite loss
    weight: int  # of these in a mean loss, by their tasks
    left_out: list[str]  # ids of the others


class Buffers:
    """A model's buffers as they were before a step, to go back to; one kernel each way for all."""

    def __init__(self, model: LayeredModel) -> None:
        self.own = list(model.buffers())
        self.held = [buffer.clone() for buffer in self.own]

    def hold(self) -> None:
        """Remember them as they are."""
        if self.own:
            torch._foreach_copy_(self.held, self.own)

    def restore(self) -> None:
        """Put back what `hold` remembered."""
        if self.own:
            torch._foreach_copy_(self.own, self.held)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that later steps do not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

"""Downpour SGD: a server with Adagrad, and replicas whose gradients are of weights that it no longer has.

Source: Dean et al. (NIPS 2012), "Large scale distributed deep networks", sections 4.1 and 5: on the server, a rate of
its own for each weight, γ / sqrt(Σ g²); replicas that fetch and push at every batch; a warm start with one replica.
Chen et al. (arXiv 1604.00981) say why nobody does this any more: late gradients cost accuracy.

The simulation is one process. The gradient of update t is taken at the weights before update t - τ: the replica whose
turn it is fetched them then. Everything else, and so every bit where τ is 0, is `thaw.training.central`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from thaw.config.learners import DownpourSpec
from thaw.training.central import Central
from thaw.training.judging import Dev
from thaw.training.progress import Heard, under

Weights = list[Tensor]  # of the trainable parameters, in the optimiser's order


class Downpour(Central):
    """Model and server of the simulation; `central` holds the rest."""

    defers = False

    def __init__(self, spec: DownpourSpec, *args: Any) -> None:
        super().__init__(*args)
        self.spec = spec
        self.past: deque[Weights] = deque(maxlen=spec.late)  # weights before the last updates, the oldest first

    @property
    def warm(self) -> bool:
        """Whether the next update is one of those that a single replica makes."""
        return self.progress.step < self.spec.warm_start_steps

    def step(self, indices: Sequence[int]) -> None:
        """One update of the server."""
        before = [p.detach().clone() for p in self.optimizer.parameters] if self.spec.late and not self.warm else None
        super().step(indices)
        if before is not None:
            self.past.append(before)

    def accumulate(self, indices: Sequence[int], again: bool = False) -> Heard:
        """As `Central` has it, of the weights that the replica has."""
        with self.fetched():
            return super().accumulate(indices, again)

    @contextmanager
    def fetched(self) -> Iterator[None]:
        """The model holds the weights of the replica whose turn it is.

        They are those of `late` updates ago, or of the end of the warm start, where that is nearer.
        """
        if self.warm or not self.past:
            yield
            return
        server = [p.detach().clone() for p in self.optimizer.parameters]
        self.hold(self.past[0])
        try:
            yield
        finally:
            self.hold(server)

    @torch.no_grad()
    def hold(self, weights: Weights) -> None:
        """Give these weights to the model."""
        torch._foreach_copy_(self.optimizer.parameters, weights)

    def close_epoch(self, dev: Dev) -> None:
        """As `Central` has it; the row says who trained, and how long as many machines would have taken."""
        more = self.about_epoch()
        super().close_epoch(dev)
        self.rows[-1] |= more

    def about_epoch(self) -> dict[str, Any]:
        """Who trained in the epoch at work. Its seconds are those of as many machines, of which none waits."""
        sums, replicas = self.progress.sums, self.spec.replicas
        alone = min(sums.steps, max(0, self.spec.warm_start_steps - (self.progress.step - sums.steps)))
        seconds = sums.seconds / sums.steps * (alone + (sums.steps - alone) / replicas)
        return {"replicas": replicas, "staleness": self.spec.late, "parallel_seconds": seconds}

    # --- what a session asks ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Those of `Central`, and the weights that replicas have yet to answer."""
        held = {
            f"past/{age}/{name}": tensor.cpu()
            for age, weights in enumerate(self.past)
            for name, tensor in zip(self.optimizer.names, weights, strict=True)
        }
        return super().tensors() | held

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave."""
        super().restore(tensors, facts)
        self.past.clear()
        age = 0
        while held := under(tensors, f"past/{age}/"):
            self.past.append([held[name].to(self.world.device, copy=True) for name in self.optimizer.names])
            age += 1

    def record(self) -> dict[str, Any]:
        """That of `Central`, and whether the same training would give the same bits again."""
        return super().record() | {"learner": {"kind": "downpour", "reproducible": self.spec.mode == "simulated"}}

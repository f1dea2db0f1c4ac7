"""What target data would do to each layer in its first step: norms of gradients, their noise, Fisher information.

One pass over target utterances, one by one (so nothing depends on batches or padding), with the trained layers below a
head of the target's own. A new head says nothing yet, and neither would gradients through it, so the head alone is
fitted first, on what the trained layers give for these utterances, which is computed once.

Shapes: B batch, T frames, F features, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from thaw.errors import UserError
from thaw.models import LayeredModel
from thaw.randomness import rng
from thaw.tasks import Task
from thaw.training.data import Batch, Examples
from thaw.training.forward import forward

HEAD_BATCH = 16
HEAD_RATE = 0.01  # of Adam, for the head alone


@dataclass
class LayerGradients:
    """Sums over utterances of one layer's gradients, by weight."""

    weights: list[Tensor]
    sums: list[Tensor] = field(init=False)
    squares: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = [torch.zeros_like(weight, dtype=torch.float64) for weight in self.weights]
        self.squares = [torch.zeros_like(weight, dtype=torch.float64) for weight in self.weights]

    def add(self) -> None:
        """Take in the gradients that the weights hold now."""
        for weight, total, square in zip(self.weights, self.sums, self.squares, strict=True):
            if weight.grad is not None:
                gradient = weight.grad.double()
                total += gradient
                square += gradient.square()

    def rgn(self, count: int) -> float:
        """Norm of the mean gradient over the norm of the weights (Auto-RGN of Lee et al. 2023, for a whole layer)."""
        gradient = math.fsum(float(total.square().sum()) for total in self.sums)
        weights = math.fsum(float(weight.detach().double().square().sum()) for weight in self.weights)
        return math.sqrt(gradient) / count / math.sqrt(max(weights, 1e-30))

    def snr(self, count: int) -> float:
        """Mean over weights of (mean gradient)² / variance over utterances; weights without variance are left out."""
        ratio, weights = 0.0, 0
        for total, square in zip(self.sums, self.squares, strict=True):
            mean = total / count
            variance = (square - count * mean.square()) / max(count - 1, 1)
            moves = variance > 1e-12 * square.clamp(min=1e-300)
            ratio += float((mean.square()[moves] / variance[moves]).sum())
            weights += int(moves.sum())
        return ratio / weights if weights else 0.0

    def fisher(self, count: int) -> float:
        """Mean over weights and utterances of the squared gradient: the empirical Fisher information of a weight."""
        weights = sum(weight.numel() for weight in self.weights)
        return math.fsum(float(square.sum()) for square in self.squares) / count / max(weights, 1)


@dataclass(frozen=True)
class Gradients:
    """By layer, and how many utterances they are from."""

    rgn: dict[str, float]
    snr: dict[str, float]
    fisher: dict[str, float]
    utterances: int
    head_loss: tuple[float, float]  # nats per utterance, before and after the head was fitted


def gradients(
    model: LayeredModel,
    task: Task,
    examples: Examples,
    *,
    head_epochs: int,
    seed: int,
    device: torch.device,
) -> Gradients:
    """Those of `model`'s trunk on `examples`; its one head is drawn already, and fitted here.

    Norms keep their statistics, dropout is off. UserError where no utterance has a finite loss.
    """
    model.still = frozenset(model.layers)
    model.train()  # for cuDNN's LSTM, which has no backward pass in evaluation; norms stand still, nothing is random
    usable, losses = fit_head(model, task, examples, head_epochs, seed, device)
    model.requires_grad_(True)
    found = {layer: LayerGradients(list(model.layer(layer).parameters())) for layer in model.trunk}
    for index in usable:
        model.zero_grad(set_to_none=True)
        batch = examples.batch([index]).to(device)
        _losses(model, task, batch).sum().backward()  # type: ignore[no-untyped-call]
        for layer in found.values():
            layer.add()
    model.zero_grad(set_to_none=True)
    model.eval()
    count = len(usable)
    return Gradients(
        rgn={name: layer.rgn(count) for name, layer in found.items()},
        snr={name: layer.snr(count) for name, layer in found.items()},
        fisher={name: layer.fisher(count) for name, layer in found.items()},
        utterances=count,
        head_loss=losses,
    )


def fit_head(
    model: LayeredModel,
    task: Task,
    examples: Examples,
    epochs: int,
    seed: int,
    device: torch.device,
) -> tuple[list[int], tuple[float, float]]:
    """Fit the head alone; gives the utterances whose loss is finite, and their mean loss before and after."""
    model.requires_grad_(False)
    trunk = len(model.trunk)
    below: dict[int, Tensor] = {}
    first = {}
    with torch.no_grad():
        for index in range(len(examples)):
            batch = examples.batch([index]).to(device)
            x, frames = model(batch.x, batch.lengths, upto=trunk)
            loss = float(_losses(model, task, replace(batch, x=x, lengths=frames), trunk))
            if math.isfinite(loss):
                below[index] = x[0, : int(frames)].cpu()
                first[index] = loss
    if not below:
        raise UserError(
            f"none of {len(examples)} utterances has a finite loss: the model gives too few frames for their texts, or "
            "its weights are no numbers"
        )
    [head] = model.heads
    model.layer(head).requires_grad_(True)
    optimizer = torch.optim.Adam(model.layer(head).parameters(), lr=HEAD_RATE)
    usable = sorted(below)
    for epoch in range(epochs):
        order = rng(seed, "head", epoch).permutation(len(usable)).tolist()
        for start in range(0, len(order), HEAD_BATCH):
            rows = [usable[place] for place in order[start : start + HEAD_BATCH]]
            optimizer.zero_grad(set_to_none=True)
            _losses(model, task, _encoded(examples, rows, below, device), trunk).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    last = []
    with torch.no_grad():
        for index in usable:
            last.append(float(_losses(model, task, _encoded(examples, [index], below, device), trunk)))
    return usable, (math.fsum(first.values()) / len(first), math.fsum(last) / len(last))


def _losses(model: LayeredModel, task: Task, batch: Batch, done: int = 0) -> Tensor:
    """Losses (B,) of a batch of features, or of what `done` layers have made of them."""
    [answer] = forward(model, batch, None, done)
    return task.losses(answer)


def _encoded(examples: Examples, rows: Sequence[int], below: Mapping[int, Tensor], device: torch.device) -> Batch:
    """A batch of utterances with what the trunk makes of each (T, H) instead of features."""
    lengths = torch.tensor([len(below[row]) for row in rows])
    x = torch.zeros(len(rows), int(lengths.max()), below[rows[0]].shape[1])
    for place, row in zip(x, rows, strict=True):
        place[: len(below[row])] = below[row]
    return replace(examples.batch(rows), x=x.to(device), lengths=lengths.to(device))

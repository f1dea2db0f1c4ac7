"""What a probe may say: operations on the layers of one snapshot, in the form that people write.

    snapshot: best
    splits: [dev, test]
    operations:
      baseline: []
      block_3-drawn: [{reset: [block_3], to: draw, seed: 101}]
      block_3-first: [{reset: [block_3], to: first}]
      block_3-conv-first: [{reset: [block_3], modules: [conv], to: first}]
      block_3-epoch-2: [{load: [block_3], snapshot: epoch-2}]

Layers are named as the model names them, or by place: `output`, `first-N`, `last-N` (`thaw.config.layers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Count, Int
from thaw.config.schema import Split
from thaw.config.starts import BEST, Snapshot
from thaw.config.strict import Strict

Layers = Annotated[tuple[str, ...], Field(min_length=1)]
Goal = Literal["draw", "first", "zero"]


class ResetSpec(Strict):
    """Layers back to a fresh draw of their initial weights, to their own first values, or to zero."""

    reset: Layers
    to: Goal = "draw"
    seed: Int | None = None  # of a draw; another than the run's own, or these are its first values
    draw: Count = 0
    buffers: bool = True  # statistics of norms too
    modules: tuple[str, ...] = ()  # of each layer only these, as its tensors are named: conv, ff1.w1

    @model_validator(mode="after")
    def _seed_of_a_draw(self) -> ResetSpec:
        if (self.to == "draw") != (self.seed is not None):
            raise ValueError("to: draw needs a seed, the others take none")
        return self


class LoadSpec(Strict):
    """Layers as they were in another snapshot of the same run."""

    load: Layers
    snapshot: Snapshot


class ProbeSpec(Strict):
    """Evaluations of one snapshot without training: by name, what is done to it before."""

    snapshot: Snapshot = BEST
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("test",)
    operations: Annotated[dict[str, tuple[ResetSpec | LoadSpec, ...]], Field(min_length=1)]
    churn: tuple[Snapshot, ...] = ()  # at which snapshots weights are compared with the run's first ones

    @property
    def operated(self) -> set[str]:
        """The snapshots that are evaluated, or that layers are loaded from."""
        every = [operation for operations in self.operations.values() for operation in operations]
        return {self.snapshot} | {operation.snapshot for operation in every if isinstance(operation, LoadSpec)}

    @property
    def modular(self) -> bool:
        """Whether any operation is of some modules of a layer alone."""
        every = [operation for operations in self.operations.values() for operation in operations]
        return any(isinstance(operation, ResetSpec) and operation.modules for operation in every)

    @property
    def snapshots(self) -> set[str]:
        """Every snapshot whose weights are needed, but for `first` where a run's recipe may give it."""
        return {*self.operated, *self.churn}


def each_layer(
    layers: Sequence[str], to: Goal, seeds: Iterable[int] = (), buffers: bool = True
) -> dict[str, tuple[ResetSpec, ...]]:
    """Each layer reset in turn; to draws, once for each seed. Names: LAYER-first, LAYER-zero, LAYER-draw-SEED."""
    if to != "draw":
        return {f"{layer}-{to}": (ResetSpec(reset=(layer,), to=to, buffers=buffers),) for layer in layers}
    return {
        f"{layer}-draw-{seed}": (ResetSpec(reset=(layer,), to=to, seed=seed, buffers=buffers),)
        for layer in layers
        for seed in seeds
    }

"""Steps whose outcome is read one step later, so that a GPU always has its next work in the queue.

Two things about a step can go wrong, and the host has to know them: a loss that is not finite, a gradient that is not.
Nearly never does one. So a step is taken on trust; what it said goes to the host by itself, and is read when the
forward and backward passes of the next one are in the queue. Where something was wrong, weights, optimiser and buffers
go back to what they were, and the step is taken again, each of its results looked at in turn (`Central.carefully`);
then the next one is computed anew. So the bits, the counts and the words are those of looking at once.

That costs a copy of all that a step changes. On a CPU there is nobody to wait for, and steps are taken carefully.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thaw.training.optim import Optimizer
from thaw.training.progress import Buffers

if TYPE_CHECKING:
    from thaw.training.central import Central


class Told:
    """Numbers on their way to the host."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._numbers = numbers
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            # One that spins would take a core from those who make batches.
            self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> list[float]:
        """The numbers; waits for what was in the queue before them, and for nothing behind them."""
        if self._event is not None:
            self._event.synchronize()
        numbers: list[float] = self._numbers.tolist()
        return numbers


class Held:
    """What an optimiser changes, as it was before a step; one kernel each way for all tensors of a kind."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = defaultdict(list)
        for tensor in (*optimizer.parameters, *_all(optimizer.state_in.values())):
            kinds[tensor.device, tensor.dtype].append(tensor.detach())
        self._pairs = [(own, [torch.empty_like(tensor) for tensor in own]) for own in kinds.values()]
        self._t = optimizer.t

    def hold(self) -> None:
        """Remember everything as it is."""
        self._t = self._optimizer.t
        for own, held in self._pairs:
            torch._foreach_copy_(held, own)

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what `hold` remembered."""
        self._optimizer.t = self._t
        for own, held in self._pairs:
            torch._foreach_copy_(own, held)


def _all(lists: Iterable[Sequence[Tensor]]) -> Iterable[Tensor]:
    return (tensor for tensors in lists for tensor in tensors)


@dataclass(frozen=True)
class Pending:
    """A step that was taken on trust."""

    indices: Sequence[int]
    told: Told  # see `Central.outcome`
    buffers: Buffers  # before it
    spoiled: bool  # features of this process's share are not finite


class Deferred:
    """The steps of a `Central` learner, each read one step later."""

    def __init__(self, learner: Central) -> None:
        self._learner = learner
        self._held = Held(learner.optimizer)
        self._spare = Buffers(learner.model)
        self._pending: Pending | None = None

    def step(self, indices: Sequence[int]) -> None:
        """Take the step of one batch; the one before is settled in the meantime. Raises Diverged."""
        learner, buffers = self._learner, self._spare
        parts = learner.prepare_share(indices)
        buffers.hold()
        losses = learner.attempt(parts, indices)
        self._spare = self._pending.buffers if self._pending else Buffers(learner.model)
        if not self.settle():  # these were losses of weights that are no more
            buffers.hold()
            losses = learner.attempt(parts, indices)
        spoiled = any(batch.spoiled for batch in parts)
        norm = learner.combine(1.0)
        self._held.hold()
        learner.optimizer.step(learner.learning_rate(learner.progress.step + 1))
        self._pending = Pending(indices, Told(learner.outcome(losses, norm, spoiled)), buffers, spoiled)

    def settle(self) -> bool:
        """Read the step that was taken last: True where it may stand, False where it was taken again."""
        pending, self._pending = self._pending, None
        if pending is None:
            return True
        *values, norm = pending.told.read()
        if all(map(math.isfinite, (*values, norm))) and not pending.spoiled:
            self._learner.count_all(pending.indices, values, norm)
            return True
        self._held.restore()
        pending.buffers.restore()
        self._learner.take_again(pending.indices)
        return False

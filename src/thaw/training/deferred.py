"""Steps whose outcome is read one step later, so that a GPU always has its next work in the queue.

Two things about a step can go wrong, and the host has to know them: a loss that is not finite, a gradient that is not.
Nearly never does one. So a step is taken on trust; what it said goes to the host by itself, and is read when the
forward and backward passes of the next one are in the queue. Where something was wrong, weights, optimiser and buffers
go back to what they were, and the step is taken again, each of its results looked at in turn (`Steps.carefully`);
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
from thaw.training.progress import Buffers, Heard

if TYPE_CHECKING:
    from thaw.training.data import Batch
    from thaw.training.steps import Steps


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
            self._event.record(torch.cuda.current_stream(numbers.device))  # which may not be the process's own

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
    told: Told  # see `Deferred.outcome`
    buffers: Buffers  # before it
    spoiled: bool  # features of this process's share are not finite


class Deferred:
    """The steps of a learner, each read one step later."""

    def __init__(self, learner: Steps) -> None:
        self._learner = learner
        self._held = Held(learner.optimizer)
        self._spare = Buffers(learner.model)
        self._pending: Pending | None = None

    def step(self, indices: Sequence[int]) -> None:
        """Take the step of one batch; the one before is settled in the meantime. Raises Diverged."""
        learner, buffers = self._learner, self._spare
        parts = [learner.next_batch(part) for part in learner.parts(indices)]
        buffers.hold()
        losses = self.attempt(parts, indices)
        self._spare = self._pending.buffers if self._pending else Buffers(learner.model)
        if not self.settle():  # these were losses of weights that are no more
            buffers.hold()
            losses = self.attempt(parts, indices)
        spoiled = any(batch.spoiled for batch in parts)
        norm = learner.combine(1.0)
        self._held.hold()
        learner.optimizer.step(learner.learning_rate(learner.progress.step + 1))
        self._pending = Pending(indices, Told(self.outcome(losses, norm, spoiled)), buffers, spoiled)

    def attempt(self, parts: Sequence[Batch], indices: Sequence[int]) -> Tensor:
        """Gradients as of `Steps.accumulate`, whatever the losses are; gives those of this process's share, unread."""
        learner = self._learner
        learner.optimizer.zero_grad()
        present = {learner.examples.head(i) for i in indices}
        learner.leave_idle([lang for lang in learner.tasks if lang not in present])
        planned, found = learner.weight(indices), [torch.zeros(0, device=learner.world.device)]
        for batch in parts:
            losses = learner.heard(batch)
            (losses.sum() / planned).backward()  # type: ignore[no-untyped-call]
            found.append(losses.detach())
        return torch.cat(found)

    def outcome(self, losses: Tensor, norm: Tensor, spoiled: bool) -> Tensor:
        """What is to be known of a step, on the device: losses, and last the norm. Of several processes, their sum."""
        told = losses.double()
        if self._learner.world.size > 1:
            told = told.sum(0, keepdim=True) + (math.nan if spoiled else 0.0)
            torch.distributed.all_reduce(told)
        return torch.cat([told, norm.detach().double().unsqueeze(0)])

    def settle(self) -> bool:
        """Read the step that was taken last: True where it may stand, False where it was taken again."""
        pending, self._pending = self._pending, None
        if pending is None:
            return True
        *values, norm = pending.told.read()
        if all(map(math.isfinite, (*values, norm))) and not pending.spoiled:
            heard = Heard(math.fsum(values), len(pending.indices), self._learner.weight(pending.indices), [])
            self._learner.add_step(heard, norm)
            return True
        self._held.restore()
        pending.buffers.restore()
        self.take_again(pending.indices)
        return False

    def take_again(self, indices: Sequence[int]) -> None:
        """Take the last step once more, carefully."""
        progress = self._learner.progress
        progress.step, progress.batch = progress.step - 1, progress.batch - 1
        self._learner.carefully(indices, again=True)
        progress.step, progress.batch = progress.step + 1, progress.batch + 1

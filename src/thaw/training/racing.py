"""Downpour SGD by several processes on one host: the server is shared memory, and who comes first is chance.

No two trainings are alike, and a result of this learner is no result that can be had again: it is for timing, and to
see what lateness does (`thaw.training.downpour` for all else). It stops and saves at the ends of epochs alone.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkProcess
from typing import Any

import torch
from torch import Tensor

from thaw.errors import UserError
from thaw.training.downpour import Downpour
from thaw.training.learner import Moment


class Server:
    """What processes share: weights and the optimiser's state (in the learner's own tensors), and two counts."""

    def __init__(self, learner: Downpour, context: ForkContext) -> None:
        for tensor in (*learner.optimizer.parameters, *_slots(learner)):
            tensor.data.share_memory_()  # type: ignore[no-untyped-call]
        self.lock = context.Lock()
        self.taken = context.Value("q", 0, lock=False)  # batches of this epoch that a replica has
        self.updates = context.Value("q", 0, lock=False)  # of this epoch


def _slots(learner: Downpour) -> Iterator[Tensor]:
    for tensors in learner.optimizer.state_in.values():
        yield from tensors


class Racing(Downpour):
    """As many processes as replicas, forked for every epoch; dev is judged by the first one alone."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.context = multiprocessing.get_context("fork")  # replicas inherit the features that were made already
        self.server = Server(self, self.context)
        self.lateness: list[int] = []  # of this epoch's updates
        self.racing_seconds = 0.0

    def run(self) -> Iterator[Moment]:
        """Train from the present position, the beginning of an epoch, to the end. Raises Diverged."""
        while not self.finished:
            batches = self.batches(self.progress.epoch)
            self.model.train()
            self.lateness, self.racing_seconds = [], 0.0
            while self.progress.batch < len(batches) and self.warm:
                self.step(batches[self.progress.batch])
            self.race(batches)
            yield Moment.STEP
            self.close_epoch((yield from self.evaluate()))
            yield Moment.EPOCH

    def race(self, batches: Sequence[Sequence[int]]) -> None:
        """The rest of an epoch, by all replicas."""
        first, began = self.progress.batch, time.perf_counter()
        self.server.taken.value, self.server.updates.value = first, 0
        for index in range(len(self.examples)):  # made here once, not by every replica in every epoch
            self.examples.features(index)
        pipes, processes = list[Connection](), list[ForkProcess]()
        for _ in range(self.spec.replicas):
            mine, theirs = self.context.Pipe(duplex=False)
            process = self.context.Process(target=self.replicate, args=(batches, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(mine)
            processes.append(process)
        self.collect(pipes, processes)
        self.racing_seconds = time.perf_counter() - began
        done = len(batches) - first
        self.progress.batch, self.progress.step = len(batches), self.progress.step + done
        self.optimizer.t += done
        self.progress.sums.steps += done
        self.progress.sums.seconds += self.racing_seconds
        seconds = sum(self.examples.seconds(batch) for batch in batches[first:])
        self.progress.sums.audio_seconds += seconds
        self.progress.audio_seconds += seconds

    def collect(self, pipes: list[Connection], processes: Sequence[ForkProcess]) -> None:
        """Wait for what replicas have to tell; where one ends without a word, end the others, who may wait for it."""
        try:
            while pipes:
                for pipe in wait(pipes):
                    assert isinstance(pipe, Connection)
                    self.take(pipe.recv())
                    pipes.remove(pipe)
            for process in processes:
                process.join()
        except EOFError as error:
            raise UserError("a replica of downpour was killed; look for lack of memory, then start again") from error
        finally:
            for process in processes:
                process.kill()

    def take(self, told: dict[str, Any]) -> None:
        """Add up what a replica has heard."""
        sums = self.progress.sums
        for name in ("loss", "utterances", "weight", "gradient_norm", "skipped"):
            setattr(sums, name, getattr(sums, name) + told[name])
        sums.non_finite += told["non_finite"]
        self.lateness += told["lateness"]

    # --- in a replica -------------------------------------------------------------------------

    def replicate(self, batches: Sequence[Sequence[int]], out: Connection) -> None:
        """Fetch, compute, push, until the epoch has no batch left."""
        shared = [p.data for p in self.optimizer.parameters]
        own = [tensor.clone() for tensor in shared]
        told: dict[str, Any] = {"loss": 0.0, "utterances": 0, "weight": 0, "gradient_norm": 0.0, "skipped": 0}
        told |= {"non_finite": [], "lateness": []}
        step = self.progress.step
        while (work := self.fetch(batches, shared, own)) is not None:
            batch, seen = work
            heard = self.accumulate(batch)
            norm = self.whole_gradient(self.weight(batch), heard.weight)
            told["lateness"].append(self.push(shared, step, seen, math.isfinite(norm)))
            if math.isfinite(norm):
                told["loss"] += heard.loss
                told["utterances"] += heard.utterances
                told["weight"] += heard.weight
                told["gradient_norm"] += norm
            else:
                told["skipped"] += 1
            told["non_finite"] += heard.left_out
        out.send(told)
        out.close()

    @torch.no_grad()
    def fetch(
        self, batches: Sequence[Sequence[int]], shared: Sequence[Tensor], own: Sequence[Tensor]
    ) -> tuple[Sequence[int], int] | None:
        """The next batch, and how many updates the weights have seen that the model now holds; None at the end."""
        with self.server.lock:
            place = self.server.taken.value
            if place >= len(batches):
                return None
            self.server.taken.value += 1
            torch._foreach_copy_(list(own), list(shared))
            seen: int = self.server.updates.value
        for parameter, tensor in zip(self.optimizer.parameters, own, strict=True):
            parameter.data = tensor
        return batches[place], seen

    def push(self, shared: Sequence[Tensor], step: int, seen: int, finite: bool) -> int:
        """Have the server make its update with the gradient at hand; gives how many it made since the fetch."""
        for parameter, tensor in zip(self.optimizer.parameters, shared, strict=True):
            parameter.data = tensor
        with self.server.lock:
            late: int = self.server.updates.value - seen
            self.server.updates.value += 1
            if finite:
                self.optimizer.step(self.learning_rate(step + self.server.updates.value))
        return late

    def fetched(self) -> Any:
        """A replica holds what it fetched."""
        from contextlib import nullcontext

        return nullcontext()

    def about_epoch(self) -> dict[str, Any]:
        """How late gradients were, and what a clock said."""
        late = self.lateness or [0]
        return {
            "replicas": self.spec.replicas,
            "staleness": sum(late) / len(late),
            "most_staleness": max(late),
            "parallel_seconds": self.progress.sums.seconds,
        }

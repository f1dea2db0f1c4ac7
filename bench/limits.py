"""How near to what the machine allows does training come, and what does it wait for? A row for every model.

    python -m bench.limits                                            # small models, one thread of a CPU
    python -m bench.limits --size published --device cuda --precision bf16 tf32

Steps: audio seconds a second (of a language model: units) of whole training steps, features in memory, no augmentation;
beside them what the machine's own rates would allow, measured in turns with the steps: a product of two big square
matrices in the recipe's precision, and a copy of one big tensor. Each kernel of a step takes at least as long as its
FLOPs at the one or its bytes at the other; `allowed` is a step of such kernels, one after the other. How FLOPs and
bytes are counted, of LSTMs above all: `bench._traffic`. One thread and processor time on a CPU.

Where a step goes, in wall clock while a profiler watches: `matrix`, kernels that multiply matrices, convolve, or are an
LSTM; `other` kernels, which pass over memory; `host`, no kernel. A profiler slows the host alone: at most so much.

Trainings: wall clock of a short whole training with the recipe's own augmentation, by its record: the shares of waiting
for batches, of checkpoints, and of all that is not steps (start, dev).

What bounds a training is what takes the most of it: matrix kernels (compute), other kernels (bandwidth), the host, or
waiting for batches (data).
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from bench._cases import CASES, SECONDS, SIZES, Size, job_of, recipe_of
from bench._traffic import Counter
from bench._verdict import verdict
from torch.profiler import ProfilerActivity, profile

from thaw.config.run import RunRecipe
from thaw.files import read_json, read_jsonl
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.distributed import World
from thaw.training.environment import products_in, settle
from thaw.training.learner import Learner, Moment
from thaw.training.session import train
from thaw.training.streams import Streams

WAITING, SAVING, REACHED = 0.02, 0.05, 0.25  # aims
LOOKS = 5  # at a rate, each time: it takes a few milliseconds, and other work may be in the way
MATRIX = re.compile("conv|mm|rnn|lstm|dot_product|attention|cutlass|xmma|wgrad|dgrad|nvjet")  # in names of kernels
Seconds = Callable[[], float]


@dataclass(frozen=True)
class Machine:
    """What it can do: FLOP/s of a matrix product, bytes/s of a copy (read and written)."""

    rate: float
    bandwidth: float


@dataclass(frozen=True)
class Steps:
    """Training steps of one model, beside the machine's limits."""

    speed: float  # audio seconds, or units, a second
    flops: float  # of one audio second, or unit
    bytes: float
    machine: Machine
    compute: float  # seconds of an allowed step in kernels that computing bounds
    memory: float  # in the others
    seconds: float  # of a step like it, as measured
    matrix: float  # share of it, in kernels that multiply matrices
    host: float  # and in none
    slowest: str  # the kernel that takes the most time, and its share of a step

    @property
    def allowed(self) -> float:
        """What the machine would allow, in the unit of `speed`."""
        return self.speed / self.reached

    @property
    def reached(self) -> float:
        """The share of that which is reached."""
        return (self.compute + self.memory) / self.seconds


@dataclass(frozen=True)
class Shares:
    """Where a whole training's time went."""

    data: float  # waiting for batches
    saving: float  # weights and checkpoints
    rest: float  # neither steps nor that: start, dev


class Rates:
    """The machine's own rates: the best of all looks at them."""

    def __init__(self, device: torch.device, precision: str, clock: Seconds) -> None:
        big = device.type == "cuda"
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        width = 8192 if big else 1024
        self.a, self.b = (torch.randn(width, width, device=device).to(kind) for _ in range(2))
        self.x = torch.ones((1 << 28) if big else (1 << 24), device=device)  # 1 GiB or 64 MiB
        self.y = torch.empty_like(self.x)
        self.clock, self.best = clock, [math.inf, math.inf]

    def look(self) -> None:
        """Measure once more."""
        acts: tuple[Callable[[], object], ...] = (lambda: torch.mm(self.a, self.b), lambda: self.y.copy_(self.x))
        for place, act in enumerate(acts):
            for _ in range(LOOKS):
                began = self.clock()
                act()
                self.best[place] = min(self.best[place], self.clock() - began)

    @property
    def machine(self) -> Machine:
        """What was found."""
        width = len(self.a)
        return Machine(2.0 * width**3 / self.best[0], 2.0 * self.x.numel() * self.x.element_size() / self.best[1])


def clock_of(device: torch.device) -> Seconds:
    """Processor time; on a GPU wall clock, once it has done all that it was asked for."""
    if device.type != "cuda":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


class Training:
    """A learner that is asked for its steps, an epoch at a time; what comes between them takes no time here."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.learner = begin(job, World(device=device), lambda text: None).learner
        self.moments = self.learner.run()

    @property
    def left(self) -> int:
        """Steps to the end of this epoch."""
        learner = self.learner
        assert isinstance(learner, Central | Streams)
        epoch, done = learner.progress.epoch, learner.progress.batch
        return len(learner.batches(epoch) if isinstance(learner, Central) else learner.cuts(epoch)) - done

    def step(self) -> None:
        """One step."""
        assert next(self.moments) is Moment.STEP

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        while next(self.moments) is not Moment.EPOCH:
            pass

    def amount(self) -> float:
        """Audio seconds, or units, of this epoch so far."""
        return heard(self.learner)


def heard(learner: Learner) -> float:
    """Audio seconds of the epoch at work; of text, units."""
    assert isinstance(learner, Central | Streams)
    sums = learner.progress.sums
    return float(sums.weight) if isinstance(learner, Streams) else sums.audio_seconds


def measure_steps(job: Job, device: torch.device, rounds: int) -> Steps:
    """Steps of one model: an epoch to warm up, one step counted, one profiled, then epochs for time."""
    clock = clock_of(device)
    rates = Rates(device, job.recipe.recipe.precision, clock)
    training = Training(job, device)
    for _ in range(training.left):
        training.step()
    training.end_epoch()
    with Counter() as counter:
        training.step()
    counted = training.amount()
    seen = [profiled(training.step, device) for _ in range(training.left)]
    _, matrix, host, slowest = min(seen)  # the one that other work has disturbed least
    training.end_epoch()
    best = 0.0
    for _ in range(rounds):
        rates.look()
        steps, began = training.left, clock()
        for _ in range(steps):
            training.step()
        best = max(best, training.amount() / (clock() - began))
        training.end_epoch()
    machine = rates.machine
    compute, memory = counter.roof(machine.rate, machine.bandwidth)
    work = counter.flops / counted, counter.bytes / counted
    return Steps(best, *work, machine, compute, memory, counted / best, matrix, host, slowest)


def profiled(step: Callable[[], None], device: torch.device) -> tuple[float, float, float, str]:
    """Seconds of a step, the shares of it in matrix kernels and in none, and the kernel with the most time."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as found:
        began = time.perf_counter()
        step()
        if gpu:
            torch.cuda.synchronize()
        took = time.perf_counter() - began
    times: dict[str, float] = {}
    for event in found.key_averages():
        # A GPU's kernels are events of their own, beside those of the operations that asked for them.
        if gpu and str(event.device_type).endswith("CUDA"):
            times[event.key] = 1e-6 * float(event.self_device_time_total)
        elif not gpu and event.key.startswith("aten::"):
            times[event.key] = 1e-6 * float(event.self_cpu_time_total)
    name = max(times, key=lambda key: times[key], default="none")
    share = times.get(name, 0.0) / took
    matrix = sum(seconds for name, seconds in times.items() if MATRIX.search(name)) / took
    return took, matrix, max(0.0, 1 - sum(times.values()) / took), f"{name.removeprefix('aten::')[:36]} {share:.0%}"


def shares_of(outputs: Mapping[str, Path]) -> Shares:
    """Where a training's time went, by its record and its metrics."""
    cost = read_json(outputs["run.json"])["cost"]
    rows = read_jsonl(outputs["metrics.jsonl"])
    last = [0, *(int(row["step"]) for row in rows)]
    taken = [int(row["step"]) - before for row, before in zip(rows, last, strict=False)]
    data, steps = (
        math.fsum(count * float(row.get(key, 0.0)) for count, row in zip(taken, rows, strict=True))
        for key in ("data_seconds", "step_seconds")
    )
    whole = float(cost["seconds"])
    saving = float(cost["saving_seconds"]) / whole
    return Shares(data / whole, saving, 1 - steps / whole - saving)


def bound(steps: Steps, shares: Shares) -> str:
    """What would have to be faster for a training to be: one word."""
    working = 1 - shares.data - shares.saving - shares.rest
    parts = {"compute": steps.matrix, "host": steps.host, "bandwidth": 1 - steps.matrix - steps.host}
    whole = {name: working * part for name, part in parts.items()} | {"data": shares.data}
    return max(whole, key=lambda name: whole[name])


def measure(name: str, precision: str, arguments: argparse.Namespace) -> tuple[Steps, Shares]:
    """Measure one model and print its row."""
    size: Size = arguments.size
    device = torch.device(arguments.device)
    changes: dict[str, Any] = {"precision": precision} if precision else {}
    if arguments.batch:
        changes["batch_size"] = arguments.batch
    plain = recipe_of(name, size, 10**6, {**changes, "augmentation": {}})
    whole = recipe_of(name, size, arguments.epochs, changes)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        job = job_of(name, size, plain, Path(one), 3, arguments.seconds, arguments.device)
        with products_in(plain.recipe.precision, device):
            steps = measure_steps(job, device, arguments.rounds)
        job = job_of(name, size, whole, Path(other), arguments.batches, arguments.seconds, arguments.device)
        train(replace(job, checkpoint_seconds=60.0))
        shares = shares_of(job.outputs)
    print(row(name, plain, steps, shares), flush=True)
    return steps, shares


def attempt(name: str, precision: str, arguments: argparse.Namespace) -> tuple[Steps, Shares] | None:
    """`measure`; None, and a row that says why, where it fails: one model hides no other."""
    try:
        return measure(name, precision, arguments)
    except Exception as error:
        print(f"{name:20}{precision:>10}  {type(error).__name__}: {str(error).splitlines()[0]:.90}", flush=True)
        return None


HEAD = (
    f"{'model':20}{'precision':>10}{'batch':>6}{'speed':>8}{'MFLOP':>8}{'MB':>7}{'allowed':>9}{'reached':>8}{'matrix':>8}"
    f"{'other':>7}{'host':>6}{'data':>6}{'save':>6}{'rest':>6}  {'bound':10}slowest kernel"
)


def row(name: str, run: RunRecipe, steps: Steps, shares: Shares) -> str:
    """A row of the table: rates, work of an audio second (or unit), shares."""
    numbers = f"{steps.speed:8.0f}{steps.flops / 1e6:8.1f}{steps.bytes / 1e6:7.1f}{steps.allowed:9.0f}"
    other = max(0.0, 1 - steps.matrix - steps.host)
    parts = f"{steps.matrix:8.0%}{other:7.0%}{steps.host:6.0%}{shares.data:6.1%}{shares.saving:6.1%}{shares.rest:6.0%}"
    recipe = run.recipe
    kind = f"{name:20}{recipe.precision:>10}{recipe.batch_size:>6}"
    return f"{kind}{numbers}{steps.reached:8.0%}{parts}  {bound(steps, shares):10}{steps.slowest}"


def main(words: Sequence[str] | None = None) -> None:
    """Print one table, the machine's rates, and the worst of each column; `words` are those of the command line."""
    parser = argparse.ArgumentParser(description="training speeds beside what the machine would allow")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--size", choices=SIZES, default="mini")
    parser.add_argument("--precision", nargs="+", default=[""], help="instead of the recipes' own")
    parser.add_argument("--batch", type=int, default=0, help="instead of the recipes' own")
    parser.add_argument("--seconds", type=float, default=0.0, help="of the longest utterance (default: by size)")
    parser.add_argument("--rounds", type=int, default=3, help="of timed epochs, of three batches each")
    parser.add_argument("--epochs", type=int, default=3, help="of a whole training")
    parser.add_argument("--batches", type=int, default=8, help="of its epochs")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args(words)
    arguments.seconds = arguments.seconds or SECONDS[arguments.size]
    settle(1)
    print(
        f"size {arguments.size}, {arguments.device}, utterances of {0.9 * arguments.seconds:g} s; speed, FLOPs, bytes"
    )
    print("what is allowed: of a second of audio, or a unit of text")
    print(HEAD)
    pairs = [(name, kind) for kind in arguments.precision for name in arguments.models]
    tried = [attempt(name, kind, arguments) for name, kind in pairs]
    found = [row for row in tried if row]
    verdict("models that could not be measured", len(tried) - len(found), most=0)
    if not found:
        raise SystemExit(1)
    for text in machine_lines(found):
        print(text)
    verdict("the most of a training spent waiting for batches", max(s.data for _, s in found), most=WAITING)
    verdict("the most of a training spent on checkpoints", max(s.saving for _, s in found), most=SAVING)
    verdict("the least share of the allowed speed that is reached", min(s.reached for s, _ in found), least=REACHED)


def machine_lines(found: Sequence[tuple[Steps, Shares]]) -> Iterator[str]:
    """The machine's rates, as they were beside the models."""
    for what, values, unit in (
        ("matrix product", [steps.machine.rate / 1e9 for steps, _ in found], "GFLOP/s"),
        ("copy", [steps.machine.bandwidth / 1e9 for steps, _ in found], "GB/s"),
    ):
        yield f"{what}: {min(values):.1f} to {max(values):.1f} {unit}, beside the models"


if __name__ == "__main__":
    main()

"""The training data of a GMM, in chunks: each keeps features, graphs and paths between the passes over it.

What a pass gives is added chunk by chunk, in their order: so it does not matter how many processes hold them.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.alignment.acoustic import AcousticModel
from thaw.alignment.fsts import lexicon_fst, symbols
from thaw.alignment.gmm import Statistics, accumulate
from thaw.alignment.lexicon import Lexicon
from thaw.alignment.mfcc import Features, cepstra, with_deltas
from thaw.alignment.tree import ContextStats
from thaw.alignment.viterbi import Graphs, align, contexts, flat
from thaw.corpora.manifest import Utterance
from thaw.errors import UserError
from thaw.randomness import seed_of

CHUNK = 128  # utterances


@dataclass
class Chunk:
    """Some utterances, and what is known of them so far."""

    utterances: list[Utterance]
    words: list[list[int]]
    features: list[Features]
    used: list[bool]
    graphs: list[Any] = field(default_factory=list)
    paths: list[NDArray[np.int32] | None] = field(default_factory=list)

    def aligned(self) -> list[int]:
        """Which utterances have a path."""
        return [place for place, path in enumerate(self.paths) if path is not None]


@dataclass(frozen=True)
class Pass:
    """What one pass over a chunk gives."""

    statistics: Statistics
    transitions: NDArray[np.float64]
    occupancy: NDArray[np.float64]  # of each state
    failed: int  # utterances without a path


@dataclass(frozen=True)
class Job:
    """What a process needs to make its chunks."""

    utterances: tuple[Utterance, ...]
    lexicon: Lexicon
    phones: tuple[str, ...]  # silence not among them
    seed: int


class Share:
    """The chunks of one process, by number."""

    def __init__(self, job: Job, numbers: Sequence[int]) -> None:
        self.job = job
        self.symbols = symbols(job.phones, job.lexicon)
        self.fst = lexicon_fst(job.lexicon, self.symbols)
        self.chunks = {number: self._chunk(number) for number in numbers}

    def _chunk(self, number: int) -> Chunk:
        own = list(self.job.utterances[number * CHUNK : (number + 1) * CHUNK])
        words = [[self.symbols.word[word] for word in each.text.split()] for each in own]
        return Chunk(own, words, [with_deltas(cepstra(each.pcm())) for each in own], [True] * len(own))

    def moments(self) -> dict[int, tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """Frames, their sum and the sum of their squares, of each chunk."""
        found = {}
        for number, chunk in self.chunks.items():
            wide = np.concatenate(chunk.features).astype(np.float64)
            found[number] = (len(wide), wide.sum(axis=0), (wide**2).sum(axis=0))
        return found

    def begin(self, model: AcousticModel, longest: int, flat_start: bool) -> None:
        """Make the graphs of a model's tree, for utterances of up to so many samples; with `flat_start`, paths too."""
        graphs = Graphs(model.hmm, self.fst)
        for chunk in self.chunks.values():
            chunk.used = [each.samples <= longest for each in chunk.utterances]
            made = zip(chunk.words, chunk.used, strict=True)
            chunk.graphs = [graphs.compile(words) if used else None for words, used in made]
            chunk.paths = [None] * len(chunk.utterances)
            if flat_start:
                for place, (each, features) in enumerate(zip(chunk.utterances, chunk.features, strict=True)):
                    if chunk.used[place]:
                        seed = seed_of(self.job.seed, "flat start", each.id) % 2**31
                        chunk.paths[place] = flat(chunk.graphs[place], len(features), seed)

    def align(self, model: AcousticModel) -> None:
        """New paths by a model of the same tree."""
        for chunk in self.chunks.values():
            each = zip(chunk.graphs, chunk.features, chunk.used, strict=True)
            chunk.paths = [align(model, graph, features) if used else None for graph, features, used in each]

    def accumulate(self, model: AcousticModel) -> dict[int, Pass]:
        """Statistics of every chunk, by the paths there are."""
        hmm = model.hmm
        found = {}
        for number, chunk in self.chunks.items():
            features, path = self._together(chunk)
            states = hmm.state[path]
            found[number] = Pass(
                accumulate(model.mixtures, features, states),
                np.bincount(path, minlength=len(hmm.state)).astype(np.float64),
                np.bincount(states, minlength=model.mixtures.num_states).astype(np.float64),
                sum(chunk.used) - len(chunk.aligned()),
            )
        return found

    def context_stats(self, model: AcousticModel) -> dict[int, ContextStats]:
        """Statistics of phones in context, of every chunk that has a path."""
        found = {}
        for number, chunk in self.chunks.items():
            if chunk.aligned():
                features, _ = self._together(chunk)
                each = [contexts(model.hmm, path) for path in chunk.paths if path is not None]
                found[number] = ContextStats.of(np.concatenate(each), features)
        return found

    def _together(self, chunk: Chunk) -> tuple[Features, NDArray[np.int32]]:
        """Frames and transition ids of all utterances with a path, one after another."""
        paths = [path for path in chunk.paths if path is not None]
        features = [chunk.features[place] for place in chunk.aligned()]
        dimension = chunk.features[0].shape[1]
        return (
            np.concatenate([np.zeros((0, dimension), np.float32), *features]),
            np.concatenate([np.zeros(0, np.int32), *paths]),
        )


# --- processes --------------------------------------------------------------------------------------------------------


class Workers:
    """All chunks of a job, in this process or shared out over several; a context manager."""

    def __init__(self, job: Job, processes: int) -> None:
        chunks = range(-(-len(job.utterances) // CHUNK))
        processes = min(processes, len(chunks))
        self._own = Share(job, chunks) if processes <= 1 else None
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        if self._own is None:
            context = multiprocessing.get_context("spawn")
            for number in range(processes):
                here, there = context.Pipe()
                args = (job, list(chunks[number::processes]), os.getpid(), there)
                worker = context.Process(target=_work, args=args, daemon=True)
                worker.start()
                there.close()
                self._pipes.append(here)
                self._processes.append(worker)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._processes:
            worker.terminate()
            worker.join()

    def each(self, method: str, *arguments: Any) -> list[Any]:
        """What a method of Share gives of every chunk, in the order of the chunks."""
        own = self._own
        answers = self._asked(method, arguments) if own is None else [getattr(own, method)(*arguments)]
        found = {number: given for answer in answers for number, given in (answer or {}).items()}
        return [found[number] for number in sorted(found)]

    def _asked(self, method: str, arguments: tuple[Any, ...]) -> list[Any]:
        answers = []
        try:
            for pipe in self._pipes:
                pipe.send((method, arguments))
            for pipe in self._pipes:
                problem, answer = pipe.recv()
                if problem:
                    raise UserError(problem)
                answers.append(answer)
        except (EOFError, OSError) as error:
            raise UserError("a process that aligns died (memory?); the same command goes on") from error
        return answers


def _work(job: Job, numbers: list[int], parent: int, pipe: Connection) -> None:
    """The life of a worker process: do what it is asked, until nobody asks any more."""
    share: Share | None = None
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while os.getppid() == parent:
            method, arguments = pipe.recv()
            try:
                share = share or Share(job, numbers)
                pipe.send(("", getattr(share, method)(*arguments)))
            except UserError as error:
                pipe.send((str(error), None))

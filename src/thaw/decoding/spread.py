"""One function over many items, in several processes: what comes out is the same with any number of them.

Processes and not threads, since neither flashlight-text nor Kaldi's decoders let go of Python's lock; forks, since they
share what was loaded before, a language model or a graph, without another copy. So nothing may run threads of its own
by then: torch is not imported here, nor by whoever calls this.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Protocol, TypeVar

from thaw.errors import UserError

Item = TypeVar("Item", covariant=True)
Given = TypeVar("Given")
Result = TypeVar("Result")


class Items(Protocol[Item]):
    """A sequence, or as much of one as is needed here."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Item: ...


def spread(function: Callable[[Given], Result], items: Items[Given], processes: int) -> list[Result]:
    """What `function` gives of every item, in their order.

    Of n processes each takes every n-th item: where items are sorted by length, all get as much. UserError where
    the function raises it, or where a process dies.
    """
    processes = min(processes, len(items))
    if processes <= 1:
        return [function(items[place]) for place in range(len(items))]
    context = multiprocessing.get_context("fork")
    pipes, workers = [], []
    try:
        for number in range(processes):
            here, there = context.Pipe(duplex=False)
            arguments = (function, items, number, processes, os.getpid(), there)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            there.close()
            pipes.append(here)
            workers.append(worker)
        shares: list[list[Result]] = [_received(pipe) for pipe in pipes]
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return [shares[place % processes][place // processes] for place in range(len(items))]


def _received(pipe: Connection) -> list[Result]:
    try:
        problem, share = pipe.recv()
    except (EOFError, OSError) as error:
        raise UserError("a process that searches died (memory?): give it more, or fewer --threads") from error
    if problem is not None:
        raise problem
    found: list[Result] = share
    return found


def _work(
    function: Callable[[Given], Result], items: Items[Given], first: int, step: int, parent: int, pipe: Connection
) -> None:
    """The life of a process: its share of the items, as long as somebody waits for it."""
    share: list[Result] = []
    with suppress(OSError, KeyboardInterrupt):
        try:
            for place in range(first, len(items), step):
                if os.getppid() != parent:
                    return
                share.append(function(items[place]))
        except Exception as error:  # whatever it is, the parent says it
            told = error if isinstance(error, MemoryError) else UserError(str(error) or repr(error))
            pipe.send((told, None))
            return
        pipe.send((None, share))

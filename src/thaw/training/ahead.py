"""Batches made by a thread, a few steps before they are wanted: a step need not wait for features, masks and padding.

What is made is a function of the indices alone, so it is the same whoever makes it, and nothing of it is state.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

Made = TypeVar("Made")

DEPTH = 3  # batches that are ready and wait: a bound on memory


class Ahead(Generic[Made]):
    """What `make` gives for each of `wanted`, made in this order by a thread while the context is open.

    At most `depth` of them wait. An error of `make` is raised where its result is taken.
    """

    def __init__(
        self, make: Callable[[Sequence[int]], Made], wanted: Iterable[Sequence[int]], depth: int = DEPTH
    ) -> None:
        self._make = make
        self._wanted = wanted
        self._ready: queue.Queue[tuple[Sequence[int], Made | BaseException]] = queue.Queue(depth)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)

    def __enter__(self) -> Ahead[Made]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def take(self, indices: Sequence[int]) -> Made:
        """The next one; `indices` must be those that it was to be made of."""
        made_of, made = self._ready.get()
        if isinstance(made, BaseException):
            raise made
        assert list(made_of) == list(indices), "batches are taken in the order in which they were asked for"
        return made

    def _work(self) -> None:
        for indices in self._wanted:
            try:
                made: Made | BaseException = self._make(indices)
            except BaseException as error:  # whoever takes it has to know
                made = error
            if not self._offer((indices, made)) or isinstance(made, BaseException):
                return

    def _offer(self, item: tuple[Sequence[int], Made | BaseException]) -> bool:
        """Put it where it is taken from; False where nobody will take it."""
        while not self._over.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

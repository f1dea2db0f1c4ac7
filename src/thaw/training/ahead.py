"""Batches made by threads, a few steps before they are wanted: a step need not wait for features, masks and padding.

What is made is a function of the indices alone, so it is the same whoever makes it, and nothing of it is state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Made = TypeVar("Made")

DEPTH = 3  # batches that are ready and wait: a bound on memory


class Ahead(Generic[Made]):
    """What `make` gives for each of `wanted`, in this order, made by `threads` threads while the context is open.

    At most `depth` of them wait while as many as there are threads are in the making. An error of `make` is raised
    where its result is taken.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Made],
        wanted: Iterable[Sequence[int]],
        depth: int = DEPTH,
        threads: int = 1,
    ) -> None:
        self._make = make
        self._wanted = iter(wanted)
        self._most = depth + threads
        self._threads = threads
        self._coming: deque[tuple[Sequence[int], Future[Made]]] = deque()

    def __enter__(self) -> Ahead[Made]:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batches")
        self._ask()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, indices: Sequence[int]) -> Made:
        """The next one; `indices` must be those that it was to be made of."""
        made_of, coming = self._coming.popleft()
        assert list(made_of) == list(indices), "batches are taken in the order in which they were asked for"
        made = coming.result()
        self._ask()
        return made

    def _ask(self) -> None:
        """Have as many in the making as may be."""
        while len(self._coming) < self._most and (indices := next(self._wanted, None)) is not None:
            self._coming.append((indices, self._pool.submit(self._make, indices)))

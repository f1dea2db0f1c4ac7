"""Batches made by threads, a few steps before they are wanted: a step need not wait for features, masks and padding.

What is made is a function of what is asked for alone, so it is the same whoever makes it, and nothing of it is state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")

DEPTH = 3  # batches that are ready and wait: a bound on memory


class Ahead(Generic[Key, Made]):
    """What `make` gives for each of `wanted`, in this order, made by `threads` threads while the context is open.

    At most `depth` of them wait while as many as there are threads are in the making. An error of `make` is raised
    where its result is taken.
    """

    def __init__(
        self,
        make: Callable[[Key], Made],
        wanted: Iterable[Key],
        depth: int = DEPTH,
        threads: int = 1,
    ) -> None:
        self._make = make
        self._wanted = iter(wanted)
        self._most = depth + threads
        self._threads = threads
        self._coming: deque[tuple[Key, Future[Made]]] = deque()

    def __enter__(self) -> Ahead[Key, Made]:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batches")
        self._ask()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    @property
    def more(self) -> bool:
        """Whether any is left to take."""
        return bool(self._coming)

    def take(self, key: Key) -> Made:
        """The next one; `key` must be what it was to be made of."""
        made_of, coming = self._coming.popleft()
        assert made_of == key, "batches are taken in the order in which they were asked for"
        made = coming.result()
        self._ask()
        return made

    def _ask(self) -> None:
        """Have as many in the making as may be."""
        while len(self._coming) < self._most and (key := next(self._wanted, None)) is not None:
            self._coming.append((key, self._pool.submit(self._make, key)))

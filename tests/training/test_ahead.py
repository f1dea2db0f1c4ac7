"""Batches made ahead are those that would have been made on the spot, in the order in which they are wanted."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from thaw.training.ahead import Ahead


def doubled(indices: Sequence[int]) -> list[int]:
    return [2 * index for index in indices]


def test_they_come_in_order_and_are_made_elsewhere() -> None:
    makers = set()

    def make(indices: Sequence[int]) -> list[int]:
        makers.add(threading.current_thread())
        return doubled(indices)

    wanted = [[3, 1], [2], [0, 4]]
    with Ahead(make, wanted) as ahead:
        assert [ahead.take(indices) for indices in wanted] == [[6, 2], [4], [0, 8]]
    assert threading.current_thread() not in makers
    assert not any(maker.is_alive() for maker in makers)


def test_no_more_than_a_few_wait() -> None:
    made: list[int] = []
    enough, gone = threading.Event(), threading.Event()

    def make(indices: Sequence[int]) -> int:
        made.append(indices[0])
        if len(made) == 3:  # two wait, and one is at hand
            enough.set()
        return indices[0]

    with Ahead(make, ([number] for number in range(1000)), depth=2) as ahead:
        assert enough.wait(10)
        assert not gone.wait(0.3)
        assert made == [0, 1, 2]
        assert ahead.take([0]) == 0
    assert len(made) <= 4


def test_several_threads_make_them_at_once_and_they_come_in_order() -> None:
    together = threading.Barrier(3)

    def make(indices: Sequence[int]) -> list[int]:
        together.wait(10)  # nobody goes on alone
        return doubled(indices)

    wanted = [[number] for number in range(12)]
    with Ahead(make, wanted, threads=3) as ahead:
        assert [ahead.take(indices) for indices in wanted] == [[2 * number] for number in range(12)]


def test_an_error_is_raised_where_its_batch_is_taken() -> None:
    def make(indices: Sequence[int]) -> list[int]:
        if indices == [7]:
            raise OSError("shard is gone")
        return doubled(indices)

    with Ahead(make, [[1], [7], [2]]) as ahead:
        assert ahead.take([1]) == [2]
        with pytest.raises(OSError, match="shard is gone"):
            ahead.take([7])


def test_other_batches_than_were_asked_for_are_a_mistake() -> None:
    with Ahead(doubled, [[1], [2]]) as ahead, pytest.raises(AssertionError, match="in the order"):
        ahead.take([2])


def test_leaving_early_leaves_no_thread() -> None:
    before = threading.active_count()
    with Ahead(doubled, [[number] for number in range(100)], depth=1) as ahead:
        ahead.take([0])
    assert threading.active_count() == before

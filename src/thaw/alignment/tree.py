"""Which tied state a phone in its context has: a decision tree for every phone and place in it.

Grown as Young, Odell and Woodland (1994) do: single Gaussians with diagonal covariance, questions about the left and
the right phone, always the split that gains most likelihood. Kaldi's packages cannot grow trees from Python, but read
them: `to_kaldi` writes its binary format.

Phones are numbers from 1 on, 1 is silence; context 0 is the edge of an utterance. A place (PLACES of them, in order) is
one state of a phone. D: dimension of the features.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

PLACES = 3  # states of a phone
EDGE, SILENCE = 0, 1
LEFT, CENTRE, RIGHT = 0, 1, 2  # Kaldi's keys of the three phones
MIN_FRAMES = 30.0  # of a leaf
VARIANCE_FLOOR = 0.01
Floats = NDArray[np.float64]


# --- statistics -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContextStats:
    """What the frames of each (left, centre, right, place) add up to; rows in the order of `contexts`."""

    contexts: NDArray[np.int64]  # (K, 4), each once, sorted
    count: Floats  # (K,)
    sums: Floats  # (K, D)
    squares: Floats  # (K, D)

    @staticmethod
    def of(contexts: NDArray[np.int64], frames: NDArray[np.float32]) -> ContextStats:
        """Of frames (N, D) with the context (N, 4) of each."""
        wide = frames.astype(np.float64)
        return ContextStats._grouped(contexts, np.ones(len(wide)), wide, wide**2)

    @staticmethod
    def together(parts: Sequence[ContextStats]) -> ContextStats:
        """All statistics, added in this order."""
        return ContextStats._grouped(
            np.concatenate([part.contexts for part in parts]),
            np.concatenate([part.count for part in parts]),
            np.concatenate([part.sums for part in parts]),
            np.concatenate([part.squares for part in parts]),
        )

    @staticmethod
    def _grouped(contexts: NDArray[np.int64], count: Floats, sums: Floats, squares: Floats) -> ContextStats:
        unique, group = np.unique(contexts, axis=0, return_inverse=True)
        group = group.reshape(-1)
        totals = [np.zeros((len(unique), *each.shape[1:])) for each in (count, sums, squares)]
        for total, each in zip(totals, (count, sums, squares), strict=True):
            np.add.at(total, group, each)
        return ContextStats(unique, *totals)

    def where(self, mask: NDArray[np.bool_]) -> ContextStats:
        """Some of the rows."""
        return ContextStats(self.contexts[mask], self.count[mask], self.sums[mask], self.squares[mask])


def likelihood(count: Floats, sums: Floats, squares: Floats) -> Floats:
    """Log likelihood (…) of frames under their own best Gaussian; counts (…), sums and squares (…, D); 0 for none."""
    n = np.maximum(count, 1e-10)[..., None]
    variance = np.maximum(squares / n - (sums / n) ** 2, VARIANCE_FLOOR)
    each = np.log(2 * np.pi * variance) + (squares / n - (sums / n) ** 2) / variance
    return np.where(count > 0, -0.5 * count * each.sum(axis=-1), 0.0)


# --- trees ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """A tied state."""

    state: int


@dataclass(frozen=True)
class Question:
    """Is the left (or right) phone one of these?"""

    key: int  # LEFT or RIGHT
    phones: frozenset[int]
    yes: Leaf | Question
    no: Leaf | Question


@dataclass(frozen=True)
class Tree:
    """One root for each phone and place: `roots[phone - 1][place]`; states are numbered in the order of the leaves."""

    roots: tuple[tuple[Leaf | Question, ...], ...]

    @property
    def num_states(self) -> int:
        """How many leaves there are."""
        return sum(1 for roots in self.roots for root in roots for _ in _leaves(root))

    def state(self, left: int, centre: int, right: int, place: int) -> int:
        """The tied state of a place of the phone `centre` between two others."""
        node = self.roots[centre - 1][place]
        while isinstance(node, Question):
            node = node.yes if (left if node.key == LEFT else right) in node.phones else node.no
        return node.state


def _leaves(node: Leaf | Question) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    else:
        yield from _leaves(node.yes)
        yield from _leaves(node.no)


def without_context(phones: int) -> Tree:
    """The tree of a monophone model: a state for each place of each of so many phones."""
    return Tree(tuple(tuple(Leaf(PLACES * phone + place) for place in range(PLACES)) for phone in range(phones)))


def to_kaldi(tree: Tree) -> bytes:
    """The tree as Kaldi's binary ContextDependency, of three phones with the middle one at 1."""
    number = b"\x04" + struct.pack("<i", 3) + b"\x04" + struct.pack("<i", 1)
    roots = b"".join(_table(-1, [_node(root) for root in roots]) for roots in tree.roots)
    head = b"TE " + _int(CENTRE) + _size(len(tree.roots) + 1) + b"( NULL "
    return b"ContextDependency " + number + b"ToPdf " + head + roots + b") EndContextDependency "


def _int(value: int) -> bytes:
    return b"\x04" + struct.pack("<i", value)


def _size(value: int) -> bytes:
    return b"\xfc" + struct.pack("<I", value)


def _table(key: int, nodes: list[bytes]) -> bytes:
    return b"TE " + _int(key) + _size(len(nodes)) + b"( " + b"".join(nodes) + b") "


def _node(node: Leaf | Question) -> bytes:
    if isinstance(node, Leaf):
        return b"CE " + _int(node.state)
    phones = b"".join(struct.pack("<i", phone) for phone in sorted(node.phones))
    asked = b"\x04" + struct.pack("<i", len(node.phones)) + phones
    return b"SE " + _int(node.key) + asked + b"{ " + _node(node.yes) + _node(node.no) + b"} "


# --- growing ----------------------------------------------------------------------------------------------------------


def questions(stats: ContextStats, phones: int) -> list[frozenset[int]]:
    """Sets of phones to ask for, from what they sound like: every set that joining the most alike ones comes by.

    Two sets are alike where one Gaussian for each place costs little likelihood against two. Silence and the edge are
    questions of their own.
    """
    by_place = _by_phone_and_place(stats, phones)
    sets = {phone: frozenset({phone}) for phone in range(SILENCE + 1, phones + 1)}
    held = {phone: [part[phone] for part in by_place] for phone in sets}
    alone = {phone: _sum_of_places(held[phone]) for phone in sets}
    found = [frozenset({EDGE}), frozenset({SILENCE}), *sets.values()]
    costs = {(a, b): alone[a] + alone[b] - _joined(held[a], held[b]) for a in sets for b in sets if a < b}
    while len(sets) > 2:  # all of them together is no question
        _, a, b = min((cost, a, b) for (a, b), cost in costs.items())
        sets[a] |= sets.pop(b)
        held[a] = [one + other for one, other in zip(held[a], held.pop(b), strict=True)]
        alone[a] = _sum_of_places(held[a])
        found.append(sets[a])
        costs = {pair: cost for pair, cost in costs.items() if b not in pair}
        for other in sets:
            if other != a:
                pair = (min(a, other), max(a, other))
                costs[pair] = alone[a] + alone[other] - _joined(held[a], held[other])
    return list(dict.fromkeys(found))


def _by_phone_and_place(stats: ContextStats, phones: int) -> tuple[Floats, Floats, Floats]:
    """Counts (phones + 1, PLACES), sums and squares (phones + 1, PLACES, D)."""
    dimension = stats.sums.shape[1]
    count = np.zeros((phones + 1, PLACES))
    sums, squares = np.zeros((phones + 1, PLACES, dimension)), np.zeros((phones + 1, PLACES, dimension))
    index = (stats.contexts[:, 1], stats.contexts[:, 3])
    for total, each in ((count, stats.count), (sums, stats.sums), (squares, stats.squares)):
        np.add.at(total, index, each)
    return count, sums, squares


def _sum_of_places(held: list[Floats]) -> float:
    return float(likelihood(*held).sum())


def _joined(one: list[Floats], other: list[Floats]) -> float:
    return _sum_of_places([a + b for a, b in zip(one, other, strict=True)])


@dataclass
class _Growing:
    """A leaf on the way: its statistics, and the split that gains most there."""

    stats: ContextStats
    gain: float = 0.0
    question: tuple[int, frozenset[int]] | None = None
    yes: _Growing | None = None
    no: _Growing | None = None


def grow(stats: ContextStats, phones: int, leaves: int) -> tuple[Tree, list[ContextStats]]:
    """A tree of at most so many leaves, but one at least for each place of each phone; and the statistics of each leaf.

    Silence is the same in every context. Ties are broken by the order of roots and questions, so equal statistics give
    equal trees.
    """
    asked = questions(stats, phones)
    membership = np.array([[phone in group for phone in range(phones + 1)] for group in asked])
    roots: list[list[_Growing]] = []
    waiting: list[tuple[float, int, _Growing]] = []
    made = 0
    for phone in range(1, phones + 1):
        places = []
        for place in range(PLACES):
            here = stats.where((stats.contexts[:, 1] == phone) & (stats.contexts[:, 3] == place))
            places.append(root := _Growing(here))
            if phone != SILENCE:
                made = _consider(root, asked, membership, waiting, made)
        roots.append(places)
    total = PLACES * phones
    while waiting and total < leaves:
        _, _, leaf = heappop(waiting)
        assert leaf.question is not None
        key, group = leaf.question
        inside = np.isin(leaf.stats.contexts[:, key], sorted(group))
        leaf.yes, leaf.no = _Growing(leaf.stats.where(inside)), _Growing(leaf.stats.where(~inside))
        for half in (leaf.yes, leaf.no):
            made = _consider(half, asked, membership, waiting, made)
        total += 1
    found: list[ContextStats] = []
    return Tree(tuple(tuple(_finished(place, found) for place in places) for places in roots)), found


def _consider(
    leaf: _Growing,
    asked: list[frozenset[int]],
    membership: NDArray[np.bool_],
    waiting: list[tuple[float, int, _Growing]],
    made: int,
) -> int:
    """Find a leaf's best split and let it wait for its turn; how many have waited so far, which breaks ties."""
    stats = leaf.stats
    if stats.count.sum() < 2 * MIN_FRAMES:
        return made
    whole = [stats.count.sum(), stats.sums.sum(axis=0), stats.squares.sum(axis=0)]
    before = float(likelihood(np.asarray(whole[0]), whole[1], whole[2]))
    for key in (LEFT, RIGHT):
        yes = _asked(stats, stats.contexts[:, key], membership)
        no = [all_ - part for all_, part in zip(whole, yes, strict=True)]
        gains = likelihood(*yes) + likelihood(no[0], no[1], no[2]) - before
        gains[(yes[0] < MIN_FRAMES) | (no[0] < MIN_FRAMES)] = -np.inf
        best = int(np.argmax(gains))
        if gains[best] > leaf.gain:
            leaf.gain, leaf.question = float(gains[best]), (key, asked[best])
    if leaf.question is not None:
        heappush(waiting, (-leaf.gain, made, leaf))
        made += 1
    return made


def _asked(stats: ContextStats, phones: NDArray[np.int64], membership: NDArray[np.bool_]) -> list[Floats]:
    """Count (Q,), sums and squares (Q, D) of the contexts that answer each question with yes."""
    kinds = membership.shape[1]
    totals = []
    for each in (stats.count, stats.sums, stats.squares):
        by_phone = np.zeros((kinds, *each.shape[1:]))
        np.add.at(by_phone, phones, each)
        totals.append(membership.astype(np.float64) @ by_phone)
    return totals


def _finished(leaf: _Growing, found: list[ContextStats]) -> Leaf | Question:
    if leaf.question is None or leaf.yes is None or leaf.no is None:
        found.append(leaf.stats)
        return Leaf(len(found) - 1)
    key, group = leaf.question
    return Question(key, group, _finished(leaf.yes, found), _finished(leaf.no, found))

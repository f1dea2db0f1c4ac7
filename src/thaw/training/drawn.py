"""Frames drawn at random, instead of whole utterances: the minibatches of a frame classifier.

Source: Heigold et al. (ICASSP 2013) and Dean et al. (NIPS 2012) draw minibatches of frames; they say no more of it.

A language's utterances are shuffled in each epoch and cut into pools of so many hours; the frames of a pool are
shuffled too, and dealt in hands of a fixed size, so that every frame comes once in an epoch. A hand is to a learner
what an utterance is: a row of a batch, with a name, a language and a loss of its own. Each frame comes with its
neighbours, since those of its row are none. What a hand holds is a function of (seed, epoch, language, number).

Shapes: T frames of a pool, N frames of a hand, C frames on each side, F features.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from thaw.config.tasks import FramesSpec
from thaw.randomness import rng
from thaw.training.augment import Augment
from thaw.training.data import Batch, Examples

SHIFT = 160  # samples from one frame to the next
FRAMES_AN_HOUR = 360_000
POOLS_KEPT = 2  # of each language: a hand may begin in one and end in the next


@dataclass(frozen=True)
class Pool:
    """Frames of some utterances, one utterance after the other, and the order in which they are dealt."""

    features: NDArray[np.float32]  # (T, F)
    labels: NDArray[np.int32]  # (T,)
    first: NDArray[np.int64]  # (T,) of the utterance that a frame is of
    last: NDArray[np.int64]  # (T,)
    order: NDArray[np.int64]  # (T,)

    def rows(self, places: slice, context: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Some frames in the order, each with its neighbours: (N, (2·C + 1)·F), and their labels (N,).

        Beyond the ends of an utterance are its first frame and its last one again, as in `thaw.models.dnn.spliced`.
        """
        frames = self.order[places]
        beside = frames[:, None] + np.arange(-context, context + 1)
        inside = np.clip(beside, self.first[frames, None], self.last[frames, None])
        return self.features[inside].reshape(len(frames), -1), self.labels[frames]


@dataclass(frozen=True)
class Cut:
    """Which utterances are a pool, and which of the frames that a language deals in an epoch are its."""

    number: int
    utterances: tuple[int, ...]
    begin: int
    end: int


class Drawn(Examples):
    """The frames of `whole`, in hands of `spec.drawn`; index k is the k-th hand, language by language.

    `context`: frames on each side that a frame brings along. An epoch's frames are asked for with its `Augment`.
    """

    def __init__(self, whole: Examples, spec: FramesSpec, context: int) -> None:
        self.whole = whole
        self.tasks = whole.tasks
        self.left_out = whole.left_out
        self.size = spec.drawn
        self.pool_frames = max(self.size, round(spec.pool_hours * FRAMES_AN_HOUR))
        self.context = context
        self.own: dict[str, list[int]] = {}  # utterances by language
        for index, utterance in enumerate(whole.utterances):
            self.own.setdefault(utterance.lang, []).append(index)
        self.hands: list[tuple[str, int]] = []  # language, number
        self.utterances, self.labels = [], []
        for lang, its in sorted(self.own.items()):
            self._lay_out(lang, sum(len(whole.labels[index]) for index in its))
        self.places = {hand: index for index, hand in enumerate(self.hands)}
        self.cuts: dict[str, tuple[int, list[Cut]]] = {}  # by language: an epoch, and its pools
        self.pools: OrderedDict[tuple[str, int, int], Pool] = OrderedDict()  # by language, epoch, number
        self.lock = threading.Lock()  # batches are made by several threads, and a pool by one of them

    def _lay_out(self, lang: str, frames: int) -> None:
        """The hands of a language, of which the last may be smaller; what they hold, an epoch says."""
        like = self.whole.utterances[self.own[lang][0]]
        for number, first in enumerate(range(0, frames, self.size)):
            count = min(self.size, frames - first)
            name = f"{lang} frames {first + 1} to {first + count} of the epoch"
            self.hands.append((lang, number))
            self.utterances.append(replace(like, id=name, samples=SHIFT * count, text="", text_raw="", speaker=""))
            self.labels.append(np.zeros(count, dtype=np.int32))

    def amounts(self) -> dict[str, Any]:
        """How much there is, in utterances."""
        return self.whole.amounts()

    def in_turn(self, batches: list[list[int]]) -> list[list[int]]:
        """The same languages at the same places, the hands of each in the order in which they are dealt.

        What is random already need not be shuffled again, and pools come one after the other.
        """
        counts = {lang: sum(each == lang for each, _ in self.hands) for lang in self.own}
        given = dict.fromkeys(self.own, 0)
        turned = []
        for batch in batches:
            row = []
            for lang in (self.hands[index][0] for index in batch):
                row.append(self.places[lang, given[lang] % counts[lang]])
                given[lang] += 1
            turned.append(row)
        return turned

    def features(self, index: int, augment: Augment | None = None) -> NDArray[np.float32]:
        """The frames (N, (2·C + 1)·F) of one hand in the epoch of `augment`."""
        return self._hand(index, augment)[0]

    def _hand(self, index: int, augment: Augment | None) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        assert augment is not None, "frames are drawn in an epoch"
        lang, number = self.hands[index]
        first = number * self.size
        stop = first + len(self.labels[index])
        with self.lock:
            cuts = [cut for cut in self._cuts(lang, augment) if cut.begin < stop and first < cut.end]
            pools = [self._pool(lang, cut, augment) for cut in cuts]
        parts = [
            pool.rows(slice(max(first, cut.begin) - cut.begin, stop - cut.begin), self.context)
            for cut, pool in zip(cuts, pools, strict=True)
        ]
        return np.concatenate([rows for rows, _ in parts]), np.concatenate([labels for _, labels in parts])

    def _cuts(self, lang: str, augment: Augment) -> list[Cut]:
        """The pools of a language in an epoch."""
        if (known := self.cuts.get(lang)) and known[0] == augment.epoch:
            return known[1]
        shuffled = rng(augment.seed, "drawn", augment.epoch, lang).permutation(np.asarray(self.own[lang]))
        lengths = np.array([len(self.whole.labels[index]) for index in shuffled])
        ends = np.cumsum(lengths)
        number = (ends - lengths) // self.pool_frames
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(shuffled)]
        cuts = [
            Cut(place, tuple(shuffled[first:last].tolist()), int(ends[first] - lengths[first]), int(ends[last - 1]))
            for place, (first, last) in enumerate(pairwise(edges))
        ]
        self.cuts[lang] = augment.epoch, cuts
        return cuts

    def _pool(self, lang: str, cut: Cut, augment: Augment) -> Pool:
        """The frames of one pool; the last few are kept."""
        key = lang, augment.epoch, cut.number
        if key not in self.pools:
            rows = [self.whole.features(index, augment) for index in cut.utterances]
            lengths = np.array([len(self.whole.labels[index]) for index in cut.utterances])
            assert lengths.tolist() == [len(row) for row in rows], "a label for every frame"
            ends = np.cumsum(lengths)
            order = rng(augment.seed, "drawn", augment.epoch, lang, cut.number).permutation(int(ends[-1]))
            labels = np.concatenate([self.whole.labels[index] for index in cut.utterances])
            first, last = np.repeat(ends - lengths, lengths), np.repeat(ends - 1, lengths)
            self.pools[key] = Pool(np.concatenate(rows), labels, first, last, order)
            while len(self.pools) > POOLS_KEPT * len(self.own):
                self.pools.popitem(last=False)
        self.pools.move_to_end(key)
        return self.pools[key]

    def batch(self, indices: Sequence[int], augment: Augment | None = None) -> Batch:
        """These hands, in this order, as one batch."""
        hands = [self._hand(index, augment) for index in indices]
        lengths = [len(labels) for _, labels in hands]
        x = np.zeros((len(hands), max(lengths), hands[0][0].shape[1]), dtype=np.float32)
        for place, (rows, _) in zip(x, hands, strict=True):
            place[: len(rows)] = rows
        return Batch(
            ids=tuple(self.utterances[index].id for index in indices),
            x=torch.from_numpy(x),
            lengths=torch.tensor(lengths),
            targets=torch.from_numpy(np.concatenate([labels for _, labels in hands])),
            target_lengths=torch.tensor(lengths, dtype=torch.int32),
            langs=tuple(self.utterances[index].lang for index in indices),
            texts=("",) * len(hands),
        )

"""Utterances as batches: features made once and kept, and an order of batches that is a function of (seed, epoch).

Augmentation comes in with a call (`Augment`), so what is asked for without it, as dev is, cannot have any.

Shapes: B batch, T frames, F features, N labels of a batch, concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.audio.wav import SAMPLE_RATE
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.errors import UserError
from thaw.frontends import features, frames
from thaw.frontends.on_device import FrontEnd
from thaw.placing import on_device, pinned, rows_of
from thaw.randomness import rng
from thaw.tasks import Task
from thaw.training import cutting
from thaw.training.augment import Augment, Samples, at_speed
from thaw.training.mixing import mixed
from thaw.training.sounds import Sound, edges, side_by_side
from thaw.training.store import Store
from thaw.units import EVERY, ByLanguage, OutsideAlphabet, of_language

CACHE_BYTES = 4 << 30  # about 230 hours of DeepSpeech features
JITTER = 0.1  # durations are stretched by up to this share before they are bucketed, anew in each epoch


@dataclass(frozen=True)
class Batch:
    """Utterances side by side, padded with zeros at the end. All but `x` is wanted on the CPU (see `ctc_loss`)."""

    ids: tuple[str, ...]
    x: Tensor  # (B, T, F) float32; samples (B, N) where there is `sound`, until they are on the device
    lengths: Tensor  # (B,) int64, frames
    targets: Tensor  # (N,) int32
    target_lengths: Tensor  # (B,) int32
    langs: tuple[str, ...]
    texts: tuple[str, ...]  # what was said, to count errors by
    spoiled: tuple[int, ...] = ()  # rows whose features hold what is no number, where that was looked at
    sound: Sound | None = None  # what makes features of samples, on the device

    def checked(self) -> Batch:
        """The same batch, with its spoiled rows."""
        wrong = torch.nonzero(~self.x.isfinite().flatten(1).all(1)).flatten()
        return replace(self, spoiled=tuple(wrong.tolist()))

    def part(self, rows: Sequence[int]) -> Batch:
        """Some of its rows, in this order, padded as far as the whole batch; itself where they are all."""
        if list(rows) == list(range(len(self.ids))):
            return self
        assert self.sound is None, "a batch is divided on its device"
        targets = torch.split(self.targets, self.target_lengths.tolist())
        return Batch(
            ids=tuple(self.ids[row] for row in rows),
            x=rows_of(self.x, rows),
            lengths=self.lengths[list(rows)],
            targets=torch.cat([targets[row] for row in rows]),
            target_lengths=self.target_lengths[list(rows)],
            langs=tuple(self.langs[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
        )

    def pinned(self) -> Batch:
        """The same batch with its features in memory that a GPU copies by itself."""
        return replace(self, x=pinned(self.x))

    def to(self, device: torch.device) -> Batch:
        """The same batch with its features on `device`; nobody waits for the copy, nor for what is made of samples."""
        x = on_device(self.x, device)
        return replace(self, x=self.sound.features(x, self.lengths) if self.sound else x, sound=None)


class Examples:
    """The utterances of one split, ordered by duration, then id: index 0 is the shortest.

    Features are kept in `store` where there is one, else in memory until `cache_bytes` are used, and made anew for the
    rest; the bits are the same. Each speed of an utterance is kept by itself; with dither, no epoch can use features
    that another made, so samples are kept in their place, in memory. So they are where a `front_end` makes the features
    of each batch on its device: all that is done on the host then is done to samples.
    """

    front_end: FrontEnd | None = None  # of batches; what is asked for one by one, the host makes

    def __init__(
        self,
        utterances: Iterable[Utterance],
        tasks: ByLanguage[Task],
        frontend: str,
        cache_bytes: int = CACHE_BYTES,
        left_out: int = 0,
        store: Store | None = None,
    ) -> None:
        self.store = store
        self.left_out = left_out  # utterances of its manifests that nothing can be learnt from
        self.utterances = sorted(utterances, key=lambda u: (u.samples, u.id))
        self.tasks = tasks
        self.labels = [np.asarray(_labels(tasks, u), dtype=np.int32) for u in self.utterances]
        self.frontend = frontend
        self.free_bytes = cache_bytes
        self.cache: dict[tuple[int, float], NDArray[np.float32]] = {}  # by index and speed
        self.sounds: dict[tuple[int, float], Samples] = {}  # likewise, of what dither makes other features of each time
        self.speeds: dict[tuple[int, tuple[float, ...]], Sequence[float]] = {}  # of those, which leave enough frames

    def __len__(self) -> int:
        return len(self.utterances)

    def seconds(self, indices: Iterable[int]) -> float:
        """Audio in these utterances, seconds."""
        return sum(self.utterances[i].seconds for i in indices)

    def features(self, index: int, augment: Augment | None = None) -> NDArray[np.float32]:
        """Features (T, F) of one utterance, at its speed and with its dither; not masked. Not to be written to."""
        if self.front_end or (augment and augment.spec.dither):
            return self._made(self.sound(index, augment))
        utterance, factor = self.utterances[index], self._factor(index, augment)
        kept = self.cache.get((index, factor))
        if kept is None and self.store is not None:
            kept = self.store.get(utterance.digest, utterance.samples, factor)
        if kept is not None:
            return kept
        pcm = utterance.pcm()
        made = self._made(pcm if factor == 1.0 else at_speed(pcm, factor))
        if self.store is not None and self.store.put(utterance.digest, utterance.samples, factor, made):
            return made
        if made.nbytes <= self.free_bytes:
            self.free_bytes -= made.nbytes
            self.cache[index, factor] = made
        return made

    def sound(self, index: int, augment: Augment | None = None) -> Samples:
        """The samples (N,) of one utterance, at its speed and with its dither. Not to be written to."""
        samples = self._sound(index, self._factor(index, augment))
        dithers = augment and augment.spec.dither
        return augment.dithered(self.utterances[index].id, samples) if augment and dithers else samples

    def _factor(self, index: int, augment: Augment | None) -> float:
        """The speed of one utterance."""
        speeds = self._speeds(index, augment) if augment and augment.spec.speed else ()
        return augment.factor(self.utterances[index].id, speeds) if augment and speeds else 1.0

    def _made(self, sound: Samples) -> NDArray[np.float32]:
        return np.ascontiguousarray(features(self.frontend, sound), dtype=np.float32)

    def _speeds(self, index: int, augment: Augment) -> Sequence[float]:
        """The speeds that an utterance may be drawn at; looked for once."""
        key = index, augment.spec.speed
        if key not in self.speeds:
            utterance = self.utterances[index]
            needed = of_language(self.tasks, utterance.lang).least_frames(self.labels[index].tolist())
            self.speeds[key] = augment.fitting(utterance.samples, needed)
        return self.speeds[key]

    def _sound(self, index: int, factor: float) -> Samples:
        """The samples of an utterance at a speed; kept, while there is room. Not to be written to."""
        kept = self.sounds.get((index, factor))
        if kept is not None:
            return kept
        pcm = self.utterances[index].pcm()
        made: Samples = np.array(pcm) if factor == 1.0 else at_speed(pcm, factor)
        if made.nbytes <= self.free_bytes:
            self.free_bytes -= made.nbytes
            self.sounds[index, factor] = made
        return made

    def head(self, index: int) -> str:
        """Which head serves an utterance: that of its language, or the one for every language."""
        return EVERY if EVERY in self.tasks else self.utterances[index].lang

    def amounts(self) -> dict[str, Any]:
        """How much there is: what was really trained or evaluated on."""
        return {
            "utterances": len(self),
            "hours": self.seconds(range(len(self))) / 3600,
            "characters": sum(len(utterance.text) for utterance in self.utterances),
            "speakers": len({utterance.speaker for utterance in self.utterances}),
            **({"left_out": self.left_out} if self.left_out else {}),
        }

    def in_turn(self, batches: list[list[int]]) -> list[list[int]]:
        """The batches of an epoch as they are to come; here as they are."""
        return batches

    def forget(self, indices: Iterable[int]) -> None:
        """Free what is kept of these utterances as they are."""
        for index in indices:
            features = self.cache.pop((index, 1.0), None)
            sound = self.sounds.pop((index, 1.0), None)
            self.free_bytes += sum(kept.nbytes for kept in (features, sound) if kept is not None)

    def padded(self, indices: Sequence[int], rows: Sequence[NDArray[np.float32]]) -> int:
        """T of the batch that these `rows` of features make: that of the longest."""
        return max(len(row) for row in rows)

    def batch(self, indices: Sequence[int], augment: Augment | None = None) -> Batch:
        """These utterances, in this order, as one batch."""
        if self.front_end:
            return self._sounding(self.front_end, indices, augment)
        rows = [self.features(i, augment) for i in indices]
        x = np.zeros((len(rows), self.padded(indices, rows), rows[0].shape[1]), dtype=np.float32)
        for index, place, row in zip(indices, x, rows, strict=True):
            place[: len(row)] = row
            if augment:
                augment.mask(self.utterances[index].id, place[: len(row)])
        return self._labelled(indices, torch.from_numpy(x), [len(row) for row in rows])

    def _sounding(self, front_end: FrontEnd, indices: Sequence[int], augment: Augment | None) -> Batch:
        """These utterances as a batch of samples, and what to make of them."""
        sounds = [self.sound(index, augment) for index in indices]
        lengths = [frames(self.frontend, len(sound)) for sound in sounds]
        ids, width = [self.utterances[index].id for index in indices], front_end.features
        masks = [augment.masks(*one, width) if augment else [] for one in zip(ids, lengths, strict=True)]
        samples = torch.tensor([len(sound) for sound in sounds])
        sound = Sound(front_end, samples, edges(masks, lengths, width))
        return replace(self._labelled(indices, side_by_side(sounds), lengths), sound=sound)

    def _labelled(self, indices: Sequence[int], x: Tensor, lengths: Sequence[int]) -> Batch:
        """The batch of these utterances; `lengths`: frames of each."""
        labels = [self.labels[i] for i in indices]
        return Batch(
            ids=tuple(self.utterances[i].id for i in indices),
            x=x,
            lengths=torch.tensor(lengths),
            targets=torch.from_numpy(np.concatenate(labels)),
            target_lengths=torch.tensor([len(label) for label in labels], dtype=torch.int32),
            langs=tuple(self.utterances[i].lang for i in indices),
            texts=tuple(self.utterances[i].text for i in indices),
        )


def _labels(tasks: ByLanguage[Task], utterance: Utterance) -> list[int]:
    try:
        return of_language(tasks, utterance.lang).labels(utterance)
    except OutsideAlphabet as error:
        raise UserError(
            f"utterance {utterance.id}: {error}; the manifest was made with another alphabet than the recipe's"
        ) from error
    except UserError as error:
        raise UserError(f"utterance {utterance.id}: {error}") from error


def read_examples(
    paths: Sequence[Path],
    tasks: ByLanguage[Task],
    frontend: str,
    cache_bytes: int = CACHE_BYTES,
    wanted: Callable[[Utterance], bool] = lambda utterance: True,
) -> Examples:
    """The utterances of several manifests as one split; those that are not `wanted` are counted (`left_out`).

    Ids name the random streams of an utterance: those that are in several languages (whose corpora were named alike)
    get the language before them. Raises UserError where the manifests hold nothing, or one id twice in a language.
    """
    utterances = [utterance for path in paths for utterance in read_manifest(path)]
    if not utterances:
        raise UserError(f"{', '.join(map(str, paths))}: no utterances; see the table of rejects of this corpus")
    named: dict[str, set[str]] = {}  # the languages of each id
    for utterance in utterances:
        if utterance.lang in named.setdefault(utterance.id, set()):
            raise UserError(f"{', '.join(map(str, paths))}: utterance {utterance.id} occurs twice; ids must be unique")
        named[utterance.id].add(utterance.lang)
    kept = [utterance for utterance in utterances if wanted(utterance)]
    if not kept:
        raise UserError(f"{', '.join(map(str, paths))}: none of the utterances is aligned; see the alignment's rejects")
    examples = Examples(kept, tasks, frontend, cache_bytes, len(utterances) - len(kept))
    # Only now: an alignment knows them by the ids of their own manifests.
    examples.utterances = [
        replace(u, id=f"{u.lang}/{u.id}") if len(named[u.id]) > 1 else u for u in examples.utterances
    ]
    return examples


def epoch_batches(
    samples: Sequence[int],
    batch_size: int,
    order: str,
    drop_last: bool,
    seed: int,
    epoch: int,
    langs: Sequence[str] = (),
    temperature: float = 1.0,
    batch_seconds: float = 0.0,
) -> list[list[int]]:
    """The batches of one epoch, as indices into `samples` (ascending durations).

    bucketed: utterances of like duration share a batch, batches come in random order; sorted: ascending durations, as
    mozilla/DeepSpeech v0.7.4 takes its CSV files (by wav_filesize); shuffled: any with any. Every index comes at most
    once. mixed: every batch holds all languages, `langs` of the utterances, as often as `thaw.training.mixing` says; an
    index may come several times, or not at all. `drop_last` leaves the incomplete batch out; bucketed draws anew which
    utterances that hits, or it would always lose the longest. `batch_seconds` says how large batches are in the place
    of `batch_size`: as many utterances in a row as are no longer when padded.
    """
    of_all = mixed(langs, temperature, seed, epoch) if order == "mixed" else None
    count = len(samples) if of_all is None else len(of_all)
    sizes = [batch_size] * (count // batch_size)
    rest = count % batch_size
    generator = rng(seed, "order", epoch)
    indices = np.arange(count) if of_all is None else of_all
    if order == "bucketed":
        stretched = np.asarray(samples) * generator.uniform(1 - JITTER, 1 + JITTER, count)
        indices = np.argsort(stretched, kind="stable")
    elif order == "shuffled":
        indices = generator.permutation(count)
    place = int(generator.integers(len(sizes) + 1)) if order == "bucketed" else len(sizes)
    if batch_seconds:
        sizes, rest = cutting.sizes(np.asarray(samples)[indices].tolist(), batch_seconds * SAMPLE_RATE), 0
    if rest:
        sizes.insert(place, rest)
    edges = np.cumsum(sizes)[:-1]
    batches = [part.tolist() for part in np.split(indices, edges)]
    if rest and drop_last:
        del batches[place]
    if order == "bucketed":
        batches = [batches[i] for i in generator.permutation(len(batches))]
    return batches

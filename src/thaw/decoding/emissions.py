"""From audio to log-probabilities: a trained model, loaded once, over utterances in batches of like duration.

Shapes: B batch, T frames, F features, V classes (alphabet + blank; blank is the last class).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.models import ModelSpec
from thaw.config.starts import BEST
from thaw.corpora.manifest import Utterance
from thaw.errors import UserError
from thaw.frontends import features
from thaw.models import LayeredModel, load_model
from thaw.models.transducer import Transducer
from thaw.training.environment import choose_device, settle
from thaw.units import EVERY, Alphabet, ByLanguage, States, Units, of_language, units_from

BATCH_FRAMES = 8192  # frames of a batch, padding included: about 160 s of audio; sets no result, only memory and speed

LogProbs = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """A batch, on the CPU: features x (B, T, F), zero beyond their lengths (B,); or what some layers made of them."""

    x: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Recogniser:
    """A trained model on its device, and what is needed to feed and read it."""

    model: LayeredModel
    units: ByLanguage[Units]  # of its heads
    frontend: str
    device: torch.device
    meta: dict[str, Any]
    lock: IO[str] | None  # holds the GPU while it is open
    lang: str = EVERY  # whose head answers, where languages have their own

    def speaking(self, lang: str) -> Recogniser:
        """The same model with the head of a language; UserError where none serves it."""
        of_language(self.units, lang)
        return replace(self, lang=lang)

    @property
    def spelling(self) -> Units:
        """The units of its head."""
        return of_language(self.units, self.lang)

    @property
    def alphabet(self) -> Alphabet:
        """The characters of its head; UserError where its units are others, which a lexicon cannot spell."""
        units = self.spelling
        if not isinstance(units, Alphabet):
            raise UserError(f"a beam search with a lexicon needs characters, not {units.describe()}; take greedy")
        return units

    @property
    def characters(self) -> str | None:
        """All that its head can write; None of one whose classes are no characters."""
        return self.spelling.characters if isinstance(self.spelling, Alphabet) else None

    @property
    def classes(self) -> int:
        """V of its head: tied states, or units and the blank."""
        return self.spelling.size + (not isinstance(self.spelling, States))

    def log_probs(self, clips: Sequence[NDArray[np.int16]]) -> list[LogProbs]:
        """Natural log-probabilities (T, V) of each clip of 16 kHz samples, in the order given; one batch."""
        return self.scores(self.batch(clips))

    def batch(self, clips: Sequence[NDArray[np.int16]]) -> Features:
        """The features of each clip of 16 kHz samples, in the order given."""
        rows = [features(self.frontend, pcm) for pcm in clips]
        x = torch.zeros(len(rows), max((len(row) for row in rows), default=0), rows[0].shape[1] if rows else 0)
        for place, row in zip(x, rows, strict=True):
            place[: len(row)] = torch.from_numpy(row)
        return Features(x, torch.tensor([len(row) for row in rows]))

    def advanced(self, batch: Features, done: int, upto: int) -> Features:
        """A batch that `done` layers have made, after `upto` layers."""
        if batch.x.shape[1] == 0:
            return batch
        with torch.inference_mode(), enough_memory(batch):
            x, lengths = self.model(*self._there(batch), done=done, upto=upto)
        return Features(x.cpu(), lengths.cpu())

    def encoded(self, batch: Features, done: int = 0) -> tuple[Tensor, Tensor]:
        """What the layers below the heads make of a batch, which `done` of them have made: frames (B, T, H) on the
        device, valid ones (B,).
        """
        if batch.x.shape[1] == 0:
            return torch.zeros(len(batch.x), 1, 1, device=self.device), batch.lengths.to(self.device)
        with torch.inference_mode(), enough_memory(batch):
            x, frames = self.model(*self._there(batch), done=done, upto=len(self.model.trunk))
        return x, frames

    def scores(self, batch: Features, done: int = 0) -> list[LogProbs]:
        """Natural log-probabilities (T, V) of each utterance of a batch, which `done` layers have made.

        UserError of a transducer, which has none: they depend on the labels before.
        """
        if isinstance(self.model, Transducer):
            raise UserError("a transducer has no scores of single frames: decode it greedily")
        if batch.x.shape[1] == 0:
            return [np.zeros((0, self.classes), np.float32) for _ in batch.x]
        with torch.inference_mode(), enough_memory(batch):
            logits, frames = self.model(*self._there(batch), done=done, lang=self.lang)
            scores = logits.float().log_softmax(dim=-1).cpu().numpy()
        return [score[:count].copy() for score, count in zip(scores, frames.tolist(), strict=True)]

    def _there(self, batch: Features) -> tuple[Tensor, Tensor]:
        """A copy on the device, which a layer may write to: the batch may be used again."""
        return batch.x.to(self.device, copy=True), batch.lengths.to(self.device)


@contextmanager
def enough_memory(batch: Features) -> Iterator[None]:
    """UserError, and what to do, where a GPU has too little for a batch."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        size = f"{batch.x.shape[0]} utterances of up to {batch.x.shape[1]} frames"
        cure = "let fewer jobs have the GPU at once (gpu_share of the profile), or take --device cpu"
        raise UserError(f"out of GPU memory with {size}; {cure}") from error


def load_recogniser(path: Path, device: str = "auto", threads: int = 1, snapshot: str = BEST) -> Recogniser:
    """Load a model (`thaw.models.load_model`) for decoding; UserError where that fails, or the device is not there."""
    settle(threads)
    model, meta = load_model(path, snapshot)
    spec = TypeAdapter[ModelSpec](ModelSpec).validate_python(meta["model"])
    if isinstance(spec, AwdLstmSpec):
        raise UserError(f"{path}: a language model reads text and hears nothing: decode it by perplexity")
    chosen, lock = choose_device(device)
    return Recogniser(model.eval().to(chosen), units_from(meta), spec.frontend, chosen, meta, lock)


def batches(utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Utterances by duration, then id, cut into batches of at most BATCH_FRAMES frames of 20 ms, padding included."""
    batch: list[Utterance] = []
    for utterance in sorted(utterances, key=lambda u: (u.samples, u.id)):
        frames = utterance.samples // 320 + 1  # of the longest so far, and so of every row
        if batch and frames * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(utterance)
    if batch:
        yield batch


def read_features(
    recogniser: Recogniser, utterances: Sequence[Utterance]
) -> Iterator[tuple[list[Utterance], Features]]:
    """The batches of `batches`, each with its features; they depend on the model's front end, not on its weights."""
    for batch in batches(utterances):
        yield batch, recogniser.batch([utterance.pcm() for utterance in batch])


def emissions(
    recogniser: Recogniser, read: Iterable[tuple[list[Utterance], Features]], done: int = 0
) -> Iterator[tuple[Utterance, LogProbs]]:
    """Each utterance of `read_features` with its log-probabilities (T, V), shortest utterance first."""
    for batch, x in read:
        yield from zip(batch, recogniser.scores(x, done), strict=True)

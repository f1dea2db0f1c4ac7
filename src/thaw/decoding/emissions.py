"""From audio to log-probabilities: a trained model, loaded once, over utterances in batches of like duration.

Shapes: B batch, T frames, F features, V classes (alphabet + blank; blank is the last class).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from thaw.config.models import ModelSpec
from thaw.corpora.manifest import Utterance
from thaw.frontends import features
from thaw.models import LayeredModel, load_model
from thaw.training.environment import choose_device, settle
from thaw.units import Alphabet

BATCH_FRAMES = 8192  # frames of a batch, padding included: about 160 s of audio; sets no result, only memory and speed

LogProbs = NDArray[np.float32]


@dataclass(frozen=True)
class Recogniser:
    """A trained model on its device, and what is needed to feed and read it."""

    model: LayeredModel
    alphabet: Alphabet
    frontend: str
    device: torch.device
    meta: dict[str, Any]
    lock: IO[str] | None  # holds the GPU while it is open

    def log_probs(self, clips: Sequence[NDArray[np.int16]]) -> list[LogProbs]:
        """Natural log-probabilities (T, V) of each clip of 16 kHz samples, in the order given; one batch."""
        rows = [features(self.frontend, pcm) for pcm in clips]
        longest = max((len(row) for row in rows), default=0)
        if longest == 0:
            return [np.zeros((0, self.alphabet.classes), np.float32) for _ in rows]
        x = torch.zeros(len(rows), longest, rows[0].shape[1])
        for place, row in zip(x, rows, strict=True):
            place[: len(row)] = torch.from_numpy(row)
        lengths = torch.tensor([len(row) for row in rows])
        with torch.inference_mode():
            logits, frames = self.model(x.to(self.device), lengths.to(self.device))
            scores = logits.float().log_softmax(dim=-1).cpu().numpy()
        return [score[:count].copy() for score, count in zip(scores, frames.tolist(), strict=True)]


def load_recogniser(path: Path, device: str = "auto", threads: int = 1) -> Recogniser:
    """Load a model.safetensors for decoding; UserError where it is no model of thaw, or the device is not there."""
    settle(threads)
    model, meta = load_model(path)
    chosen, lock = choose_device(device)
    spec = TypeAdapter[ModelSpec](ModelSpec).validate_python(meta["model"])
    return Recogniser(model.eval().to(chosen), Alphabet(meta["alphabet"]), spec.frontend, chosen, meta, lock)


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


def emissions(recogniser: Recogniser, utterances: Sequence[Utterance]) -> Iterator[tuple[Utterance, LogProbs]]:
    """Each utterance with its log-probabilities (T, V), shortest utterance first."""
    for batch in batches(utterances):
        yield from zip(batch, recogniser.log_probs([utterance.pcm() for utterance in batch]), strict=True)

"""What training changes in its utterances: speed, dither, SpecAugment, cutout.

All is a function of (seed, epoch, utterance id), so a batch, an order or a resumed training changes nothing in it.
Shapes: N samples, T frames, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from thaw.audio.wav import SAMPLE_RATE, Pcm
from thaw.config.schema import AugmentationSpec, CutoutSpec, SpecAugmentSpec
from thaw.randomness import rng

FULL_SCALE = 32768  # of int16 samples
Samples = Pcm | NDArray[np.float32]  # (N,), float32 in units of int16
Rectangle = tuple[slice, slice]  # frames, coefficients


@dataclass(frozen=True)
class Augment:
    """The augmentation of one epoch. `frames` gives the model's output frames for so many samples."""

    spec: AugmentationSpec
    frames: Callable[[int], int]
    seed: int
    epoch: int

    def _rng(self, stream: str, utterance: str) -> np.random.Generator:
        return rng(self.seed, stream, self.epoch, utterance)

    def fitting(self, samples: int, required: int) -> list[float]:
        """The spec's speeds that leave so many samples as many frames as are `required`, as a transcript needs."""
        return [factor for factor in self.spec.speed if self.frames(stretched(samples, factor)) >= required]

    def factor(self, utterance: str, fitting: Sequence[float]) -> float:
        """The speed of an utterance: one of those that are `fitting`, all as likely; 1 where none is."""
        return fitting[int(self._rng("speed", utterance).integers(len(fitting)))] if fitting else 1.0

    def dithered(self, utterance: str, samples: Samples) -> NDArray[np.float32]:
        """Samples (N,) with the dither of this epoch."""
        noise = self._rng("dither", utterance).standard_normal(len(samples), dtype=np.float32)
        noise *= np.float32(self.spec.dither * FULL_SCALE)
        noise += samples.astype(np.float32, copy=False)
        return noise

    def mask(self, utterance: str, features: NDArray[np.float32]) -> None:
        """SpecAugment and cutout on its features (T, F), in place: masked values become their coefficient's mean."""
        if masks := self.masks(utterance, *features.shape):
            means = features.mean(axis=0)  # of what the utterance is without masks
            for times, bands in masks:
                features[times, bands] = means[bands]

    def masks(self, utterance: str, frames: int, coefficients: int) -> list[Rectangle]:
        """What SpecAugment and cutout mask of an utterance with so many frames and coefficients."""
        masks: list[Rectangle] = []
        if self.spec.spec_augment:
            masks += stripes(self.spec.spec_augment, frames, coefficients, self._rng("spec_augment", utterance))
        if self.spec.cutout:
            masks += rectangles(self.spec.cutout, frames, coefficients, self._rng("cutout", utterance))
        return masks


def stretched(samples: int, factor: float) -> int:
    """How many samples are left of so many at another speed."""
    return int(samples / factor + 0.5)


def at_speed(pcm: Pcm, factor: float) -> NDArray[np.float32]:
    """The same audio `factor` times as fast, and as much higher, by resampling: (N,) -> (stretched(N, factor),).

    Float32 in units of int16, clipped to their range: a resampled wave may overshoot the one it came from.
    """
    made: NDArray[np.float32] = soxr.resample(pcm.astype(np.float32), SAMPLE_RATE * factor, SAMPLE_RATE, quality="HQ")
    return np.clip(made, -FULL_SCALE, FULL_SCALE - 1)


def stripes(spec: SpecAugmentSpec, frames: int, coefficients: int, generator: np.random.Generator) -> list[Rectangle]:
    """Masks over all coefficients of some frames, and over all frames of some coefficients.

    Park et al. 2019 (SpecAugment), section 2: a width from 0 to the most allowed, then a start that leaves it room.
    """

    def stripe(size: int, widest: int) -> slice:
        width = int(generator.integers(min(widest, size) + 1))
        start = int(generator.integers(size - width + 1))
        return slice(start, start + width)

    whole = slice(None)
    longest = min(spec.time_width, int(spec.time_share * frames))
    times = [(stripe(frames, longest), whole) for _ in range(spec.time_masks)]
    return times + [(whole, stripe(coefficients, spec.frequency_width)) for _ in range(spec.frequency_masks)]


def rectangles(spec: CutoutSpec, frames: int, coefficients: int, generator: np.random.Generator) -> list[Rectangle]:
    """Rectangles as NVIDIA/NeMo v0.10.1 nemo/collections/asr/parts/spectr_augment.py (SpecCutout) draws them.

    A start that leaves room for the largest (0 in an utterance too short for it), then extents from 0 to the largest.
    In mode v0.10 the two extents take each other's largest, while starts keep their own: usually all coefficients,
    and few frames. Rectangles that reach beyond the features end there.
    """
    tallest, longest = (spec.frequency, spec.time) if spec.mode == "fixed" else (spec.time, spec.frequency)
    first = (max(0, frames - spec.time), max(0, coefficients - spec.frequency))
    drawn = generator.integers((*first, longest, tallest), size=(spec.rectangles, 4), endpoint=True)
    return [(slice(t, t + length), slice(f, f + height)) for t, f, length, height in drawn.tolist()]

"""Log filterbank energies against torchaudio's port of Kaldi's, and what they say of short audio."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from thaw.alignment.frames import frames_of
from thaw.config.dnn import DnnSpec
from thaw.frontends import dimension, features


def noise(samples: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    wave = np.sin(np.arange(samples) / 7) * 3000 + rng.normal(0, 400, samples) + 250  # with an offset
    return wave.astype(np.int16)


@pytest.mark.parametrize(("name", "channels"), [("fbank", 40), ("fbank-80", 80)])
def test_they_are_kaldis(name: str, channels: int) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    pcm = noise(16000)
    want = kaldi.fbank(
        torch.from_numpy(pcm.astype(np.float32))[None], num_mel_bins=channels, dither=0.0, sample_frequency=16000
    )
    got = features(name, pcm)
    assert got.shape == (98, channels)
    assert dimension(name) == channels
    assert np.abs(got - want.numpy()).max() < 2e-3


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_as_many_frames_as_the_model_says(samples: int, frames: int) -> None:
    assert features("fbank", noise(samples)).shape == (frames, dimension("fbank"))
    assert DnnSpec(kind="dnn").frames(samples) == frames == frames_of(samples)


def test_digital_silence_is_finite() -> None:
    assert np.isfinite(features("fbank", np.zeros(800, np.int16))).all()

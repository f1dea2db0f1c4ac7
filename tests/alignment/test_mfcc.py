from __future__ import annotations

import numpy as np
import pytest
import torch

from thaw.alignment.frames import SHIFT, WINDOW, frames_of
from thaw.alignment.mfcc import CEPSTRA, DIMENSION, cepstra, with_deltas
from thaw.randomness import rng


@pytest.mark.parametrize("samples", [0, WINDOW - 1, WINDOW, WINDOW + SHIFT - 1, WINDOW + SHIFT, 16001])
def test_there_are_as_many_frames_as_an_alignment_has(samples: int) -> None:
    pcm = rng(1, samples).integers(-1000, 1000, samples).astype(np.int16)
    assert cepstra(pcm).shape == (frames_of(samples), CEPSTRA)
    assert with_deltas(cepstra(pcm)).shape == (frames_of(samples), DIMENSION)


def test_cepstra_are_kaldis_as_torchaudio_has_them() -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    pcm = rng(1).integers(-3000, 3000, 8000).astype(np.int16)
    expected = kaldi.mfcc(torch.from_numpy(pcm.astype(np.float32))[None], num_ceps=13, dither=0.0, use_energy=False)
    np.testing.assert_allclose(cepstra(pcm), expected.numpy(), atol=2e-3)


def test_differences_are_slopes() -> None:
    frames = np.arange(20, dtype=np.float32)
    static = np.stack([frames * 3, frames**2], axis=1)
    delta = with_deltas(static)
    middle = slice(4, 16)  # beyond the reach of the edges
    np.testing.assert_allclose(delta[middle, 2], 3, atol=1e-5)
    np.testing.assert_allclose(delta[middle, 3], 2 * frames[middle], atol=1e-4)
    np.testing.assert_allclose(delta[middle, 4:], [[0, 2]] * 12, atol=1e-4)
    np.testing.assert_allclose(delta[:, :2].mean(axis=0), 0, atol=1e-4)

"""Log filterbank energies every 10 ms, as Kaldi makes them by default, in numpy.

Source: kaldi-asr/kaldi src/feat/{feature-window,mel-computations,feature-fbank}.cc: windows of 25 ms that lie inside
the audio, their mean taken out, pre-emphasis, Povey's window, power spectrum, triangles on the mel scale of 1127 ln(1 +
f / 700) from 20 Hz to 8 kHz. No dither. Unlike in `thaw.frontends.logmel`, nothing is normalised: a network that reads
them does that (`thaw.models.normalising`), since its statistics are those of what it was trained on.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW, STEP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and the length of the Fourier transform
CHANNELS = 40  # of the front end "fbank"; "fbank-N" has others
PREFIX = "fbank-"
LOW_HERTZ, HIGH_HERTZ = 20.0, SAMPLE_RATE / 2
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)  # of a filter's output, before the logarithm


def frames(samples: int) -> int:
    """T for N samples: as many windows as fit."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // STEP


def features(pcm: NDArray[np.int16] | NDArray[np.float32], channels: int = CHANNELS) -> NDArray[np.float32]:
    """Log energies (T, channels) of mono samples (N,) at 16 kHz, in units of int16; T as in `frames`."""
    if pcm.ndim != 1 or pcm.dtype not in (np.int16, np.float32):
        raise ValueError(f"samples must be int16 or float32 of shape (N,), not {pcm.dtype} of shape {pcm.shape}")
    if len(pcm) < WINDOW:
        return np.zeros((0, channels), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(pcm.astype(np.float64), WINDOW)[::STEP]  # (T, 400), a view
    windows = windows - windows.mean(axis=1, keepdims=True)
    before = np.concatenate([windows[:, :1], windows[:, :-1]], axis=1)  # the first sample stands before itself
    spectrum = np.fft.rfft((windows - PREEMPHASIS * before) * window(), FFT)  # (T, 257)
    energies = (spectrum.real**2 + spectrum.imag**2) @ mel_matrix(channels)
    return np.log(np.maximum(energies, FLOOR)).astype(np.float32)


@cache
def window() -> NDArray[np.float64]:
    """Povey's window (400,): a Hann window to the power of 0.85."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))
    return np.asarray(hann**0.85)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))


@cache
def mel_matrix(channels: int) -> NDArray[np.float64]:
    """Weights (257, channels) from power bins to channels: triangles of height 1 on the mel scale, not of 8 kHz."""
    edges = np.linspace(_mel(LOW_HERTZ), _mel(HIGH_HERTZ), channels + 2)
    bins = _mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    width = edges[1] - edges[0]
    triangles = np.maximum(0.0, np.minimum((bins - edges[:-2]) / width, (edges[2:] - bins) / width))
    triangles[-1] = 0.0
    return np.asarray(triangles)

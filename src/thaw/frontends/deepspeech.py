"""The MFCCs of Mozilla DeepSpeech 0.7, in numpy.

Sources: mozilla/DeepSpeech v0.7.4 training/deepspeech_training/util/{feeding,config,audio}.py, and the TensorFlow
kernels it calls: core/kernels/{spectrogram,mfcc,mfcc_mel_filterbank,mfcc_dct}.cc.

Not the usual MFCC: the mel filters weigh magnitudes (not powers), leave out the two lowest bins, and coefficient 0 is
not scaled down. There is no pre-emphasis, dither, liftering, padding or normalisation.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW = 512  # samples, 32 ms; also the length of the Fourier transform
STEP = 320  # samples, 20 ms
CHANNELS = 40  # mel filters
COEFFICIENTS = 26
LOW_HERTZ, HIGH_HERTZ = 20.0, SAMPLE_RATE / 2
FLOOR = 1e-12  # of a filter's output, before the logarithm
PCM_SCALE = 32767  # DeepSpeech's training reader divides by this; its client divides by 32768


def frames(samples: int) -> int:
    """T for N samples: as many windows as fit."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // STEP


def features(pcm: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """MFCCs (T, 26) of mono samples (N,) at 16 kHz, in units of int16; T as in `frames`.

    The precision follows TensorFlow: samples and spectrum are rounded to float32, all between is double.
    """
    if pcm.ndim != 1 or pcm.dtype not in (np.int16, np.float32):
        raise ValueError(f"samples must be int16 or float32 of shape (N,), not {pcm.dtype} of shape {pcm.shape}")
    if len(pcm) < WINDOW:
        return np.zeros((0, COEFFICIENTS), np.float32)
    samples = (pcm / np.float32(PCM_SCALE)).astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STEP]  # (T, 512), a view
    spectrum = np.fft.rfft(windows * window())  # (T, 257)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # the spectrogram op hands over float32
    channels = np.sqrt(power.astype(np.float64)) @ mel_matrix()  # (T, 40)
    cepstrum = np.log(np.maximum(channels, FLOOR)) @ dct_matrix()  # (T, 26)
    return cepstrum.astype(np.float32)


@cache
def window() -> NDArray[np.float64]:
    """The periodic Hann window (512,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))


@cache
def mel_matrix() -> NDArray[np.float64]:
    """Weights (257, 40) from magnitude bins to mel channels: triangles of height 1, as in mfcc_mel_filterbank.cc.

    Each bin is shared between the two channels whose centres surround it on the mel scale.
    """
    bin_hertz = SAMPLE_RATE / WINDOW
    edges = np.linspace(_mel(LOW_HERTZ), _mel(HIGH_HERTZ), CHANNELS + 2)  # low edge, 40 centres, high edge
    first, last = int(1.5 + LOW_HERTZ / bin_hertz), int(HIGH_HERTZ / bin_hertz)
    matrix = np.zeros((WINDOW // 2 + 1, CHANNELS))
    for row in range(first, last + 1):
        mel = _mel(row * bin_hertz)
        below = (
            int(np.searchsorted(edges[:-1], mel)) - 1
        )  # the last edge below this bin; edge i+1 is channel i's centre
        share = (edges[below + 1] - mel) / (edges[below + 1] - edges[below])
        if below >= 1:
            matrix[row, below - 1] += share
        if below < CHANNELS:
            matrix[row, below] += 1.0 - share
    return matrix


@cache
def dct_matrix() -> NDArray[np.float64]:
    """The DCT-II (40, 26); orthonormal but for coefficient 0, which stays larger by the square root of 2."""
    angle = np.pi / CHANNELS * np.outer(np.arange(CHANNELS) + 0.5, np.arange(COEFFICIENTS))
    return np.asarray(np.sqrt(2.0 / CHANNELS) * np.cos(angle))

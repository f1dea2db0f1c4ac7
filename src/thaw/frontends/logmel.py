"""Plain log-mel features in numpy: the logarithm of triangular mel filters, each normalised over its utterance.

The usual sizes of the field: a Hann window of 25 ms every 10 ms, HTK's mel scale from 20 Hz to 8 kHz. No dither, no
pre-emphasis, no padding: windows that do not fit are left out.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
WINDOW, STEP, FFT = 400, 160, 512  # samples: 25 ms, 10 ms, and the length of the Fourier transform
LOW_HERTZ, HIGH_HERTZ = 20.0, SAMPLE_RATE / 2
FLOOR = 1.0  # added to a filter's output before the logarithm, for samples in units of int16: far below any speech
DEVIATION = 1e-5  # added to the standard deviation
PREFIX = "log-mel-"
FILTERS = range(8, 101)  # how many there may be: of more, some would lie between the bins of the spectrum


def filters_of(frontend: str, prefix: str = PREFIX) -> int | None:
    """How many filters a front end of this name has; None where it is none of these, or of another `prefix`."""
    number = frontend.removeprefix(prefix)
    given = int(number) if frontend.startswith(prefix) and number.isdecimal() else 0
    return given if given in FILTERS and number == str(given) else None


def frames(samples: int) -> int:
    """T for N samples: as many windows as fit."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // STEP


def features(filters: int, samples: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised log-mel features (T, filters) of mono samples (N,) at 16 kHz, in units of int16; T as in `frames`.

    Each filter has mean 0 and standard deviation 1 over the utterance; 0 where it never moves.
    """
    if samples.ndim != 1 or samples.dtype not in (np.int16, np.float32):
        raise ValueError(f"samples must be int16 or float32 of shape (N,), not {samples.dtype} of {samples.shape}")
    if len(samples) < WINDOW:
        return np.zeros((0, filters), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float32), WINDOW)[::STEP]
    spectrum = np.fft.rfft(windows * window(), FFT)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (T, 257)
    mel = np.log(power @ mel_matrix(filters) + np.float32(FLOOR))
    mean, deviation = mel.mean(axis=0, dtype=np.float64), mel.std(axis=0, dtype=np.float64)
    return np.asarray((mel - mean) / (deviation + DEVIATION), dtype=np.float32)


@cache
def window() -> NDArray[np.float32]:
    """The periodic Hann window (400,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def _mel(hertz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(np.asarray(hertz) / 700.0))


@cache
def mel_matrix(filters: int) -> NDArray[np.float32]:
    """Weights (257, filters) from power bins to filters: triangles of height 1 on the mel scale."""
    edges = np.linspace(_mel(LOW_HERTZ), _mel(HIGH_HERTZ), filters + 2)
    bins = _mel(np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)

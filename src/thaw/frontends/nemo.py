"""The log-mel features of NVIDIA NeMo, in numpy: for QuartzNet as three of its releases make them, and for Conformer.

Sources: NVIDIA/NeMo nemo/collections/asr/parts/features.py at v0.10.1, and
nemo/collections/asr/parts/preprocessing/features.py at v1.0.0 and after its change of 2025-07-02 (0fd4de5). Dither
belongs to training (`thaw.training.augment`), padding to the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16000
PCM_SCALE = 32768  # int16 to [-1, 1)
STEP, FFT = 160, 512  # samples: 10 ms, and the length of the Fourier transform
PREEMPHASIS = 0.97
GUARD = 2.0**-24  # added before the logarithm
DEVIATION = 1e-5  # added to the standard deviation


@dataclass(frozen=True)
class Version:
    """What differs: the Hann window, what stands beyond the ends, how many frames are valid, how many mel filters."""

    periodic: bool
    mirrored: bool  # the ends are mirrored; else there is silence
    added: int
    rounded: int  # valid frames: (samples + rounded) // STEP + added
    window: int = 320  # samples: 20 ms
    channels: int = 64  # mel filters, 0 to 8 kHz


VERSIONS = {
    "nemo-v0.10": Version(periodic=True, mirrored=True, added=0, rounded=STEP - 1),
    "nemo-v1.0": Version(periodic=False, mirrored=True, added=1, rounded=0),
    "nemo-2025-07": Version(periodic=False, mirrored=False, added=0, rounded=0),
    "nemo-80": Version(periodic=False, mirrored=False, added=0, rounded=0, window=400, channels=80),
}


def frames(name: str, samples: int) -> int:
    """T for N samples: N // 160 + 1 for v1.0, N // 160 for 2025-07 and 80, N / 160 rounded up for v0.10.

    0 for N <= 256, which cannot be mirrored.
    """
    version = VERSIONS[name]
    return 0 if samples <= FFT // 2 else (samples + version.rounded) // STEP + version.added


def features(name: str, samples: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalised log-mel features (T, F) of mono samples (N,) at 16 kHz, in units of int16.

    T as in `frames`. Each channel has mean 0 and standard deviation 1 over the utterance. All in float32, as there.
    """
    if samples.ndim != 1 or samples.dtype not in (np.int16, np.float32):
        raise ValueError(f"samples must be int16 or float32 of shape (N,), not {samples.dtype} of {samples.shape}")
    version = VERSIONS[name]
    if len(samples) <= FFT // 2:
        return np.zeros((0, version.channels), np.float32)
    wave = samples.astype(np.float32) / np.float32(PCM_SCALE)
    wave = np.concatenate([wave[:1], wave[1:] - np.float32(PREEMPHASIS) * wave[:-1]])
    padded = np.pad(wave, FFT // 2, mode="reflect" if version.mirrored else "constant")
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::STEP]
    valid = frames(name, len(samples))
    spectrum = np.fft.rfft(windows[:valid] * window(version))
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (T, 257)
    mel = np.log(power @ mel_matrix(version.channels) + np.float32(GUARD))
    mean = mel.mean(axis=0, dtype=np.float32)
    deviation = mel.std(axis=0, ddof=min(1, valid - 1), dtype=np.float32) + np.float32(DEVIATION)  # of one frame: 0
    return np.asarray((mel - mean) / deviation, dtype=np.float32)


@cache
def window(version: Version) -> NDArray[np.float32]:
    """A Hann window of 20 or 25 ms in the middle of 512 samples."""
    return np.pad(hann(version), (FFT - version.window) // 2).astype(np.float32)


def hann(version: Version) -> NDArray[np.float64]:
    """The window without the zeros beside it."""
    length = version.window if version.periodic else version.window - 1
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(version.window) / length)


def _hertz_to_mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear below 1 kHz, logarithmic above (27 steps for a factor of 6.4)."""
    above = 15.0 + np.log(np.maximum(hertz, 1000.0) / 1000.0) * 27.0 / np.log(6.4)
    return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, above)


def _mel_to_hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)))


@cache
def mel_matrix(channels: int = 64) -> NDArray[np.float32]:
    """Weights (257, F) from power bins to mel channels: triangles of area one (librosa's "slaney" norm)."""
    ends = _hertz_to_mel(np.array([0.0, SAMPLE_RATE / 2]))
    edges = _mel_to_hertz(np.linspace(ends[0], ends[1], channels + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)[:, None]
    widths = np.diff(edges)
    rising = (bins - edges[:-2]) / widths[:-1]
    falling = (edges[2:] - bins) / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return np.asarray(triangles * (2.0 / (edges[2:] - edges[:-2])), dtype=np.float32)

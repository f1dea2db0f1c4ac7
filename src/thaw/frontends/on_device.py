"""The same front ends for a batch at once, where a model is trained: padded samples in, features out, by torch.

Windows and matrices are those of the numpy modules. All is in double precision, whose rounding is far below that of
features: a spectrum in single precision is off by 1e-7 of its largest value, which is much of a quiet channel beside a
loud one; no setting for products (TF32) touches it; and what else is in a batch shows in hardly a bit. Nothing is read
by the host.

Shapes: B batch, N samples, T frames, F features, W samples of a window, R windows of all utterances, in a row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thaw.errors import UserError
from thaw.frontends import NAMES, deepspeech, fbank, logmel, nemo
from thaw.placing import on_device

# Windows come in multiples of ROWS, at most MOST at once: a GPU's Fourier transform is planned by the number of them,
# and with 16 numbers there are 16 plans. Together they bound memory, at some 300 MB.
ROWS, MOST = 1024, 16384


class FrontEnd(ABC):
    """A front end whose features are made on one device; its window and matrices are there."""

    step: int
    fft = 512

    def __init__(self, device: torch.device, window: NDArray[np.floating], matrix: NDArray[np.floating]) -> None:
        self.device = device
        self.window, self.matrix = self.held(window), self.held(matrix)

    def held(self, array: NDArray[np.floating]) -> Tensor:
        """A constant of the numpy front end, in double precision, on the device."""
        return torch.from_numpy(array.astype(np.float64)).to(self.device)

    def __call__(self, x: Tensor, samples: Tensor, frames: Tensor) -> Tensor:
        """Features (B, T, F) float32 of samples (B, N) on the device, padded with zeros at the end as these are.

        `samples` and `frames` (B,): how many are valid, on the CPU; T is the largest of `frames`.
        """
        longest = int(frames.max())
        if not longest:
            return torch.zeros(len(x), 0, self.features, dtype=torch.float32, device=self.device)
        wave = self.wave(x.double(), on_device(samples, self.device)[:, None])
        made = self.cut(wave)[:, :longest]
        counts = on_device(frames, self.device)[:, None, None]
        padding = torch.arange(longest, device=self.device)[None, :, None] >= counts
        return self.normalised(made.masked_fill(padding, 0.0), padding, counts.clamp(min=1)).float()

    def cut(self, wave: Tensor) -> Tensor:
        """The features of all windows of (B, N'): (B, N' / step rounded up, F); what reaches into the next row is none.

        Where rows are multiples of the step long, windows of all of them are those of one long signal.
        """
        batch, long = wave.shape
        each = -(-long // self.step)
        rows = -(-batch * each // ROWS) * ROWS
        flat = F.pad(wave, (0, each * self.step - long)).flatten()
        flat = F.pad(flat, (0, (rows - 1) * self.step + len(self.window) - len(flat)))
        windows = flat.unfold(0, len(self.window), self.step)  # (R, W), a view
        made = torch.cat([self.of_windows(some) for some in torch.split(windows, MOST)])
        return made[: batch * each].view(batch, each, -1)

    def power(self, windows: Tensor) -> Tensor:
        """The power spectrum (R, 257)."""
        spectrum = torch.fft.rfft(windows * self.window, self.fft)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    @property
    def features(self) -> int:
        """F, how many there are."""
        return self.matrix.shape[1]

    def wave(self, x: Tensor, samples: Tensor) -> Tensor:
        """What windows are cut from, (B, N'), of samples in units of int16; `samples` (B, 1) of them are valid."""
        return x

    @abstractmethod
    def of_windows(self, windows: Tensor) -> Tensor:
        """(R, W) -> (R, F)."""

    def normalised(self, x: Tensor, padding: Tensor, counts: Tensor) -> Tensor:
        """(B, T, F), 0 in the `padding` (B, T, 1) behind `counts` (B, 1, 1) frames; the same shape and zeros."""
        return x


class DeepSpeech(FrontEnd):
    """As `thaw.frontends.deepspeech`, and rounded where that is."""

    step = deepspeech.STEP

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, deepspeech.window(), deepspeech.mel_matrix())
        self.dct = self.held(deepspeech.dct_matrix())

    @property
    def features(self) -> int:
        """F, how many there are."""
        return deepspeech.COEFFICIENTS

    def wave(self, x: Tensor, samples: Tensor) -> Tensor:
        """Full scale is 1."""
        return (x / deepspeech.PCM_SCALE).float().double()

    def of_windows(self, windows: Tensor) -> Tensor:
        """(R, 512) -> (R, 26)."""
        channels = self.power(windows).float().double().sqrt() @ self.matrix
        return channels.clamp(min=deepspeech.FLOOR).log() @ self.dct


class Fbank(FrontEnd):
    """As `thaw.frontends.fbank`."""

    step = fbank.STEP

    def __init__(self, device: torch.device, channels: int) -> None:
        super().__init__(device, fbank.window(), fbank.mel_matrix(channels))

    def of_windows(self, windows: Tensor) -> Tensor:
        """(R, 400) -> (R, F)."""
        windows = windows - windows.mean(1, keepdim=True)
        before = torch.cat([windows[:, :1], windows[:, :-1]], 1)
        return (self.power(windows - fbank.PREEMPHASIS * before) @ self.matrix).clamp(min=fbank.FLOOR).log()


class LogMel(FrontEnd):
    """As `thaw.frontends.logmel`, which has its spectrum in single precision."""

    step = logmel.STEP

    def __init__(self, device: torch.device, filters: int) -> None:
        super().__init__(device, logmel.window(), logmel.mel_matrix(filters))

    def of_windows(self, windows: Tensor) -> Tensor:
        """(R, 400) -> (R, F)."""
        return (self.power(windows) @ self.matrix + logmel.FLOOR).log()

    def normalised(self, x: Tensor, padding: Tensor, counts: Tensor) -> Tensor:
        """Each filter over its utterance."""
        return normalised(x, padding, counts, counts, logmel.DEVIATION)


class Nemo(FrontEnd):
    """As `thaw.frontends.nemo`, which has all in single precision."""

    step = nemo.STEP

    def __init__(self, device: torch.device, name: str) -> None:
        self.version = nemo.VERSIONS[name]
        super().__init__(device, nemo.window(self.version), nemo.mel_matrix(self.version.channels))

    def wave(self, x: Tensor, samples: Tensor) -> Tensor:
        """Full scale is 1; high frequencies are raised; beyond each end are 256 samples, mirrored or none."""
        x = F.pad(x / nemo.PCM_SCALE, (1, 0))
        x = x[:, 1:] - float(np.float32(nemo.PREEMPHASIS)) * x[:, :-1]
        beside = nemo.FFT // 2
        place = torch.arange(-beside, x.shape[1] + beside, device=self.device)[None]
        outside = (place < 0) | (place >= samples)
        if self.version.mirrored:  # of what is shorter than that there are no frames
            place = torch.where(place < samples, place.abs(), 2 * (samples - 1) - place)
            outside = place < 0
        found = x.gather(1, place.clamp(0, x.shape[1] - 1).expand(len(x), -1))
        return found.masked_fill(outside, 0.0)  # unlike `where`, it takes its number along with the kernel

    def of_windows(self, windows: Tensor) -> Tensor:
        """(R, 512) -> (R, F)."""
        return (self.power(windows) @ self.matrix + nemo.GUARD).log()

    def normalised(self, x: Tensor, padding: Tensor, counts: Tensor) -> Tensor:
        """Each channel over its utterance, with Bessel's correction; a single frame has no deviation."""
        return normalised(x, padding, counts, (counts - 1).clamp(min=1), nemo.DEVIATION)


def normalised(x: Tensor, padding: Tensor, counts: Tensor, divisors: Tensor, added: float) -> Tensor:
    """Features less their mean over valid frames, over their deviation and something `added`."""
    centred = (x - x.sum(1, keepdim=True) / counts).masked_fill(padding, 0.0)
    deviation = (centred.square().sum(1, keepdim=True) / divisors).sqrt()
    return centred / (deviation + added)


def front_end(name: str, device: torch.device) -> FrontEnd:
    """The front end `name` on a device; UserError for a name that does not exist."""
    if name == "deepspeech":
        return DeepSpeech(device)
    if name in nemo.VERSIONS:
        return Nemo(device, name)
    if filters := logmel.filters_of(name):
        return LogMel(device, filters)
    if filters := fbank.CHANNELS if name == "fbank" else logmel.filters_of(name, fbank.PREFIX):
        return Fbank(device, filters)
    raise UserError(f"there is no front end {name!r}; there are: {', '.join(NAMES)}")

"""Front ends: 16 kHz mono samples in, feature frames (T, F) out. No torch here (but in `on_device`, for trainings)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError
from thaw.frontends import deepspeech, fbank, logmel, nemo

NAMES = ("deepspeech", "fbank", *nemo.VERSIONS, f"{fbank.PREFIX}N", f"{logmel.PREFIX}N")


def features(name: str, samples: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (T, F) of samples (N,) at 16 kHz by the front end `name`; UserError for a name that does not exist.

    float32 samples are in units of int16, as augmentation makes them.
    """
    if name == "deepspeech":
        return deepspeech.features(samples)
    if name == "fbank":
        return fbank.features(samples)
    if name in nemo.VERSIONS:
        return nemo.features(name, samples)
    if filters := logmel.filters_of(name):
        return logmel.features(filters, samples)
    if filters := logmel.filters_of(name, fbank.PREFIX):
        return fbank.features(samples, filters)
    raise UserError(f"there is no front end {name!r}; there are: {', '.join(NAMES)}")


def frames(name: str, samples: int) -> int:
    """T, the frames that the front end `name` makes of N samples; UserError for a name that does not exist."""
    if name == "deepspeech":
        return deepspeech.frames(samples)
    if name in nemo.VERSIONS:
        return nemo.frames(name, samples)
    if logmel.filters_of(name):
        return logmel.frames(samples)
    if name == "fbank" or logmel.filters_of(name, fbank.PREFIX):
        return fbank.frames(samples)
    raise UserError(f"there is no front end {name!r}; there are: {', '.join(NAMES)}")


def dimension(name: str) -> int:
    """F, the number of coefficients per frame of the front end `name`; UserError for a name that does not exist."""
    if name == "deepspeech":
        return deepspeech.COEFFICIENTS
    if name == "fbank":
        return fbank.CHANNELS
    if name in nemo.VERSIONS:
        return nemo.VERSIONS[name].channels
    if filters := logmel.filters_of(name) or logmel.filters_of(name, fbank.PREFIX):
        return filters
    raise UserError(f"there is no front end {name!r}; there are: {', '.join(NAMES)}")

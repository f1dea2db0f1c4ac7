"""Front ends: 16 kHz mono int16 samples in, feature frames (T, F) out. No torch here, so that any room can use them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError
from thaw.frontends import deepspeech


def features(name: str, pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Features (T, F) of samples (N,) at 16 kHz by the front end `name`; UserError for a name that does not exist."""
    match name:
        case "deepspeech":
            return deepspeech.features(pcm)
    raise UserError(f"there is no front end {name!r}; there is: deepspeech")


def dimension(name: str) -> int:
    """F, the number of coefficients per frame of the front end `name`; UserError for a name that does not exist."""
    match name:
        case "deepspeech":
            return deepspeech.COEFFICIENTS
    raise UserError(f"there is no front end {name!r}; there is: deepspeech")

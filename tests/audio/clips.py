"""Small sound files for the tests of the audio room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Signal = NDArray[np.float32]


def tone(seconds: float, rate: int = 16000, hertz: float = 440.0, level: float = 0.25) -> Signal:
    """A sine of peak `level`."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, signal: Signal, rate: int = 16000, **options: Any) -> Path:
    """Write a sound file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal, rate, **options)
    return path


def listing(path: Path, rows: list[dict[str, str]]) -> Path:
    """An utterances file; keys a row leaves out get plain values."""
    plain = {"text_raw": "hallo", "speaker": "s", "split": "train", "lang": "de"}
    path.write_text("".join(json.dumps(plain | row) + "\n" for row in rows), encoding="utf-8")
    return path

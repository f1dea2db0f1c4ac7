"""Small recordings for the tests of readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def recording(path: Path, seconds: float = 0.2, rate: int = 8000) -> Path:
    """A short tone in the format that the extension says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, tone, rate, subtype="OPUS" if path.suffix == ".opus" else None, format=_format(path))
    return path


def _format(path: Path) -> str:
    return {".opus": "OGG"}.get(path.suffix, path.suffix[1:].upper())

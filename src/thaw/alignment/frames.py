"""Where the frames of an alignment lie: windows of 25 ms every 10 ms, none of which reaches beyond the audio.

Frame t of an utterance covers the samples SHIFT*t up to SHIFT*t + WINDOW at 16 kHz, and its middle is MIDDLE samples
after SHIFT*t (Kaldi's `snip-edges=true`). Features made of other windows are aligned by that middle.
"""

from __future__ import annotations

from thaw.audio.wav import SAMPLE_RATE

WINDOW = SAMPLE_RATE * 25 // 1000  # samples
SHIFT = SAMPLE_RATE // 100  # samples
MIDDLE = WINDOW // 2


def frames_of(samples: int) -> int:
    """T: how many frames an utterance of so many samples has; 0 where it is shorter than one window."""
    return 0 if samples < WINDOW else 1 + (samples - WINDOW) // SHIFT


def begins_at(frame: int) -> float:
    """The second from which a frame is the nearest one: half a step before its middle."""
    return (SHIFT * frame + MIDDLE - SHIFT / 2) / SAMPLE_RATE

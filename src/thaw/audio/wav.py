"""The shard format: one canonical WAV file, 16 kHz mono int16, clips back to back. Needs numpy only."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError

SAMPLE_RATE = 16000  # Hz
HEADER_BYTES = 44
SAMPLE_BYTES = 2
MAX_DATA_BYTES = 2**31 - 1  # readers of WAV take its 32-bit lengths as signed

Pcm = NDArray[np.int16]


def wav_header(data_bytes: int) -> bytes:
    """The 44 bytes of a canonical RIFF header for 16 kHz mono int16; UserError where the data is too large for one."""
    if data_bytes > MAX_DATA_BYTES:
        raise UserError(
            f"a WAV shard holds at most {MAX_DATA_BYTES:,} bytes (18.6 h): lower `clips_per_job` under the corpus's "
            "`audio:` (or raise `shards` under its `source:`)"
        )
    byte_rate = SAMPLE_RATE * SAMPLE_BYTES
    riff = struct.pack("<4sI4s", b"RIFF", HEADER_BYTES - 8 + data_bytes, b"WAVE")
    pcm_mono = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE, byte_rate, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    return riff + pcm_mono + struct.pack("<4sI", b"data", data_bytes)


def read_pcm(wav: Path, offset: int, samples: int) -> Pcm:
    """Samples [offset, offset + samples) of a shard as int16 (n,), read-only, through a memory map.

    Raises UserError where the shard is missing or shorter than that.
    """
    check_shard(wav, offset + samples)
    place = HEADER_BYTES + SAMPLE_BYTES * offset
    pcm: Pcm = np.memmap(wav, dtype="<i2", mode="r", offset=place, shape=(samples,))
    return pcm


def clip_digest(pcm: Pcm) -> str:
    """What an index and a manifest say of a clip's samples: 16 hex digits of BLAKE2b over their little-endian bytes."""
    data = np.ascontiguousarray(pcm, dtype="<i2")
    return hashlib.blake2b(data.data, digest_size=8).hexdigest()


def is_shard(path: Path) -> bool:
    """Whether a file looks like a shard: it could be anything that a manifest names, and not thaw's to be deleted."""
    with path.open("rb") as file:
        return file.read(4) == b"RIFF"


def not_ours(wav: Path) -> str:
    """What to say of a file that a manifest names as a shard and that is none: it may be anybody's."""
    return f"{wav}: no audio of thaw's, whoever named it; run the `manifest` rule of its corpus again"


def check_shard(wav: Path, samples: int) -> None:
    """Raise UserError unless the shard exists and holds at least `samples` samples."""
    mend = "delete it and run the `audio` rule of its corpus again"
    try:
        size = wav.stat().st_size
    except FileNotFoundError as error:
        raise UserError(f"{wav}: this audio shard is missing; run the `audio` rule of its corpus again") from error
    held = (size - HEADER_BYTES) // SAMPLE_BYTES
    if held < samples and not is_shard(wav):
        raise UserError(not_ours(wav))
    if held < samples:
        raise UserError(f"{wav}: holds {max(held, 0)} samples where its index says {samples}: broken; {mend}")

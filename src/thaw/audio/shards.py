"""Clips back to back in one 16 kHz mono int16 WAV file, with an index. Bounded memory; any threads, same bytes."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from thaw.audio.convert import Converted, Unusable, convert
from thaw.audio.listing import Clip, file_digest
from thaw.audio.wav import SAMPLE_BYTES, SAMPLE_RATE, clip_digest, wav_header
from thaw.config.schema import AudioSpec
from thaw.errors import UserError
from thaw.files import Reject, replacing, write_jsonl, write_rejects

PROGRESS_SECONDS = 5.0

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class ShardFiles:
    """Where one shard goes."""

    wav: Path
    index: Path  # JSON Lines: {id, offset, samples, digest, source_rate, source_channels}
    rejects: Path


@dataclass
class Tally:
    """How far a shard is. It is for people, so never part of a file."""

    clips: int
    done: int = 0
    samples: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def line(self) -> str:
        """One line: clips, hours of audio, speed, rejects by reason."""
        seconds = self.samples / SAMPLE_RATE
        speed = seconds / max(time.monotonic() - self.started, 1e-9)
        text = f"{self.done} of {self.clips} clips, {seconds / 3600:.2f} h of audio, {speed:,.0f} × real time"
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.rejected.items()))
        return f"{text}, {self.rejected.total()} rejected" + (f" ({reasons})" if reasons else "")


def write_shard(clips: Sequence[Clip], spec: AudioSpec, files: ShardFiles, threads: int = 1) -> Tally:
    """Convert `clips` in their order into one shard. Every clip ends in the index or in the rejects.

    Prints progress to stderr about every 5 s. Raises UserError where a file cannot be written or becomes too large.
    """
    tally = Tally(len(clips))
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    with replacing(files.wav, sealed=False) as temporary, temporary.open("wb") as wav:
        wav.write(wav_header(0))
        results = in_order(lambda clip: _attempt(clip, spec), clips, threads)
        for clip, result in zip(clips, _with_progress(results, tally), strict=True):
            if isinstance(result, Unusable):
                rejects.append(Reject(clip.id, clip.split, "audio", result.reason, result.detail))
            else:
                rows.append(_append(wav, clip, result, tally.samples))
                tally.samples += len(result.pcm)
        wav.seek(0)
        wav.write(wav_header(SAMPLE_BYTES * tally.samples))
    write_jsonl(files.index, rows)
    write_rejects(files.rejects, rejects)
    return tally


def _attempt(clip: Clip, spec: AudioSpec) -> Converted | Unusable:
    result: Converted | Unusable
    try:
        result = convert(clip.path, spec, clip.span)
    except Unusable as unusable:
        result = unusable
    # After it was read, not before: whatever was converted is then what was listed.
    if clip.digest and file_digest(clip.path) != clip.digest:
        raise UserError(f"{clip.path} is not the clip that was listed any more: list its corpus again (docs/reruns.md)")
    return result


def _append(wav: BinaryIO, clip: Clip, converted: Converted, offset: int) -> dict[str, Any]:
    """Write one clip's samples and return its index row; `offset` is in samples."""
    data = converted.pcm.astype("<i2").tobytes()
    wav_header(SAMPLE_BYTES * offset + len(data))  # refuses before the disk fills
    wav.write(data)
    return {
        "id": clip.id,
        "offset": offset,
        "samples": len(converted.pcm),
        "digest": clip_digest(converted.pcm),
        "source_rate": converted.facts.rate,
        "source_channels": converted.facts.channels,
    }


def _with_progress(results: Iterable[Converted | Unusable], tally: Tally) -> Iterator[Converted | Unusable]:
    printed = tally.started
    for result in results:
        tally.done += 1
        if isinstance(result, Unusable):
            tally.rejected[result.reason] += 1
        yield result
        if time.monotonic() - printed >= PROGRESS_SECONDS:
            printed = time.monotonic()
            print(f"audio: {tally.line()}", file=sys.stderr, flush=True)


def in_order(work: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """`map(work, items)` in `threads` threads: results in order, only a few items ahead of the reader.

    Threads suffice: decoding and resampling are C code that lets other threads run.
    """
    if threads <= 1:
        yield from map(work, items)
        return
    pending: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 4 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

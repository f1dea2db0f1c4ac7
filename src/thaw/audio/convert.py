"""One clip of any common format to 16 kHz mono int16.

Shapes: n samples, C channels. Backend `soundfile` (libsndfile + soxr) is sample-exact for MP3; backend `sox` calls the
sox program as DeepSpeech's importers do (mozilla/DeepSpeech v0.7.4, bin/import_cv2.py) and shifts MP3 by about 47 ms,
since its MP3 decoder ignores the LAME header.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from thaw.audio.wav import SAMPLE_RATE, Pcm
from thaw.config.schema import AudioSpec
from thaw.errors import UserError

SOX_INSTALL = "sudo apt-get install sox libsox-fmt-mp3 (or: conda install -c conda-forge sox)"
OVERSHOOT_SECONDS = 0.5  # of a segment beyond its recording (kaldi-asr/kaldi src/featbin/extract-segments.cc)
TRUNCATION_SECONDS = 0.15  # encoders disagree by up to two MP3 frames: 0.144 s at 8 kHz, 0.048 s at 48 kHz
STREAMED_WAV_BYTES = 0x7FFF0000  # writers into a pipe put a length near 2 or 4 GiB, since they cannot know it


class Unusable(Exception):
    """A clip that cannot be used; `reason` is one of the short fixed phrases of the rejects table."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file's header says; `seconds` is None where it declares no length, `rate` 0 where it is not understood."""

    rate: int  # Hz
    channels: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Converted:
    """A converted clip: `pcm` (n,) int16 at 16 kHz."""

    pcm: Pcm
    facts: Facts


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a recording: seconds `start` to `end` (below zero: all of it), a channel from 1 (0: all, mixed)."""

    start: float = -1.0
    end: float = -1.0
    channel: int = 0

    @property
    def seconds(self) -> float | None:
        """Its length; None for all of a recording."""
        return self.end - self.start if self.end >= 0 else None


WHOLE = Span()


def convert(path: Path, spec: AudioSpec, span: Span = WHOLE) -> Converted:
    """Decode, mix to mono, resample to 16 kHz, round to int16 (no dither: the same file gives the same bits).

    Never holds more than `spec.max_seconds` + 1 s of a clip. A part of a recording may end up to 0.5 s beyond it, as
    Kaldi allows; it is then shorter. Raises Unusable with the reason, UserError without sox.
    """
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unusable("missing clip", path.name) from error
    except (OSError, ValueError) as error:
        raise Unusable("unreadable audio", getattr(error, "strerror", None) or "not a file name") from error
    if size == 0:
        raise Unusable("unreadable audio", "file of 0 bytes")
    decode = _by_sox if spec.backend == "sox" else _by_soundfile
    converted = decode(path, spec.max_seconds + 1.0, span)
    if span.seconds is not None:
        _check_span(converted, span, spec)
    _check_length(converted, spec)
    return converted


def to_int16(signal: NDArray[np.float32]) -> Pcm:
    """Full scale 1.0 -> 32768, rounded half to even, clipped; int16 read as float32 comes back unchanged."""
    pcm: Pcm = np.clip(np.rint(signal * np.float32(32768)), -32768, 32767).astype(np.int16)
    return pcm


def _check_span(converted: Converted, span: Span, spec: AudioSpec) -> None:
    """A part of a recording must lie in it."""
    assert span.seconds is not None
    wanted = min(span.seconds, spec.max_seconds + 1.0)
    seconds = len(converted.pcm) / SAMPLE_RATE
    if not seconds or wanted - seconds > OVERSHOOT_SECONDS:
        detail = f"{span.start:g} to {span.end:g} s: {seconds:.2f} s of it are there"
        raise Unusable("segment beyond its recording", detail)


def _check_length(converted: Converted, spec: AudioSpec) -> None:
    seconds = len(converted.pcm) / SAMPLE_RATE
    declared = converted.facts.seconds
    if seconds > spec.max_seconds:
        length = seconds if declared is None else max(seconds, declared)
        raise Unusable("too long", f"{length:.2f} s, at most {spec.max_seconds:g} s")
    if declared is not None and declared - seconds > TRUNCATION_SECONDS:
        raise Unusable("truncated audio", f"{seconds:.2f} s of the {declared:.2f} s its header declares")
    if len(converted.pcm) == 0:
        raise Unusable("empty audio", "no samples")
    if seconds < spec.min_seconds:
        raise Unusable("too short", f"{seconds:.3f} s, at least {spec.min_seconds:g} s")


# --- soundfile --------------------------------------------------------------------------------------------------------


def _by_soundfile(path: Path, limit_seconds: float, span: Span) -> Converted:
    try:
        with _opened(path) as file:
            facts = _facts(file, path)
            if span.seconds is not None:
                facts = Facts(facts.rate, facts.channels, None)
                limit_seconds = min(limit_seconds, span.seconds)
                file.seek(min(round(span.start * file.samplerate), file.frames))
            signal = file.read(frames=round(limit_seconds * file.samplerate), dtype="float32", always_2d=True)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise Unusable("unreadable audio", _why(error)) from error
    if span.channel > facts.channels:
        raise Unusable("no such channel", f"channel {span.channel} of {facts.channels}")
    one = max(span.channel, 1) - 1
    mono = signal[:, one] if span.channel or facts.channels == 1 else signal.mean(axis=1, dtype=np.float32)  # (n, C)
    if not np.isfinite(mono).all():
        raise Unusable("unreadable audio", "samples that are not numbers")
    if facts.rate != SAMPLE_RATE:
        mono = soxr.resample(mono, facts.rate, SAMPLE_RATE, quality="HQ")
    return Converted(to_int16(mono), facts)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """The file, open; an MP3 file that does not declare its length is read through a pipe.

    libsndfile guesses such a length from the bit rate of the first frame, and stops there: with a variable bit rate it
    loses half a clip without a word. From a pipe, which has no length, it reads to the end.
    """
    with soundfile.SoundFile(path) as file:
        if file.format != "MP3" or _mp3_declares_length(path):
            yield file
            return
    reading, writing = os.pipe()
    feeder = threading.Thread(target=_feed, args=(path, writing), daemon=True)
    feeder.start()
    try:
        with soundfile.SoundFile(reading, closefd=False) as file:
            yield file
    finally:
        os.close(reading)
        feeder.join()


def _feed(path: Path, writing: int) -> None:
    """Write a file's bytes into a pipe, until they end or nobody reads on."""
    with suppress(BrokenPipeError), path.open("rb") as source, os.fdopen(writing, "wb") as pipe:
        shutil.copyfileobj(source, pipe)


def _facts(file: soundfile.SoundFile, path: Path) -> Facts:
    frames: int | None = file.frames
    if file.format == "MP3" and not _mp3_declares_length(path):
        frames = None  # libsndfile then guesses from the bit rate of the first frame: wrong for variable bit rates
    elif file.format in ("WAV", "WAVEX"):
        frames = _wav_frames(file)
    return Facts(file.samplerate, file.channels, None if frames is None else frames / file.samplerate)


def _wav_frames(file: soundfile.SoundFile) -> int | None:
    """Frames that the `data` chunk declares; libsndfile corrects them to the file's size, and says so in its log."""
    correction = re.search(r"^data\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if correction is None:
        return int(file.frames)
    declared, actual = int(correction[1]), int(correction[2])
    if declared >= STREAMED_WAV_BYTES or actual == 0:
        return None
    return int(file.frames) * declared // actual


def _mp3_declares_length(path: Path) -> bool:
    """Whether the first MP3 frame is a Xing, Info or VBRI header, which hold the number of frames."""
    with path.open("rb") as file:
        tag = file.read(10)
        start = 0
        if tag[:3] == b"ID3" and len(tag) == 10:  # its size: four bytes of seven bits
            start = 10 + sum(byte << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        first = file.read(256)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _why(error: Exception) -> str:
    """libsndfile's words without the file's name, which is in the rejects table anyway."""
    text = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
    return "no audio in a known format" if text.startswith("File does not exist") else text.rstrip(".")


# --- sox --------------------------------------------------------------------------------------------------------------


def _by_sox(path: Path, limit_seconds: float, span: Span) -> Converted:
    program = shutil.which("sox")
    if program is None:
        raise UserError(f"the audio backend `sox` needs the program sox; type: {SOX_INSTALL}")
    source = os.path.abspath(path)  # a relative name may look like an option (-x) or a command (|x) to sox
    command = [program, "-D", "-V2", source, "-t", "raw", "-r", str(SAMPLE_RATE), "-e", "signed-integer", "-b", "16"]
    command += ["-L", "-c", "1", "-"]
    start, seconds = 0.0, limit_seconds
    if span.seconds is not None:
        start, seconds = span.start, min(limit_seconds, span.seconds)
    command += ["remix", str(span.channel)] if span.channel else []
    command += ["rate", "-h", str(SAMPLE_RATE), "trim", f"{start:.3f}" if start else "0", f"{seconds:.3f}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip()
        if "no handler for" in message and path.suffix.lower() in (".mp3", ".flac", ".wav", ".ogg"):
            raise UserError(f"this sox cannot read {path.suffix} files; type: {SOX_INSTALL}")
        lines = message.splitlines() or [f"sox ended with {done.returncode}"]
        raise Unusable("unreadable audio", lines[-1].replace(source, path.name))
    whole = len(done.stdout) // 2 * 2
    pcm = np.frombuffer(done.stdout[:whole], dtype="<i2").astype(np.int16)
    facts = _facts_or_none(path)
    return Converted(pcm, facts if span.seconds is None else Facts(facts.rate, facts.channels, None))


def _facts_or_none(path: Path) -> Facts:
    try:
        with soundfile.SoundFile(path) as file:
            return _facts(file, path)
    except (RuntimeError, OSError, ValueError, TypeError):
        return Facts(0, 0, None)

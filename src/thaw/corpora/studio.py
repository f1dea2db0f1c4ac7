"""Making clips: words said by espeak-ng, as a microphone would hear them, in MP3 files; on many cores at once.

This module imports little, since every clip costs a fork, and forks of a large process are slow.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from thaw.corpora.espeak import SAMPLE_RATE, Espeak, Manner
from thaw.errors import UserError
from thaw.files import write_bytes
from thaw.randomness import rng

SILENCE_SECONDS = (0.05, 0.25)  # of room before and after the words
CLIPS_PER_PROCESS = 150  # fewer are not worth another process


@dataclass(frozen=True)
class Clip:
    """All that decides one clip, besides its studio."""

    name: str  # of its file, without folder and extension
    sentence: str
    manner: Manner
    seed: int


@dataclass(frozen=True)
class Studio:
    """What the clips of a corpus have in common."""

    voice: str
    sample_rate: int  # Hz, of the MP3 files
    snr_db: tuple[float, float]
    level_db: tuple[float, float]
    folder: Path  # of the clips


def make(studio: Studio, clips: list[Clip], processes: int) -> None:
    """Make the clips that are not in the studio's folder yet, in at most `processes` processes.

    Raises UserError where the folder cannot be written or a clip cannot be said; the same call then goes on.
    """
    missing = _missing(studio.folder, clips)
    processes = min(processes, -(-len(missing) // CLIPS_PER_PROCESS))
    if processes <= 1:
        _make_clips(studio, missing)
        return
    # "spawn", since a fork of this process could carry over a held lock. No pool: its processes would wait for work for
    # ever if this one were killed.
    context = multiprocessing.get_context("spawn")
    workers, results = [], []
    try:
        for number in range(processes):
            result, send = context.Pipe(duplex=False)
            share = missing[number::processes]
            worker = context.Process(target=_work, args=(studio, share, os.getpid(), send), daemon=True)
            worker.start()
            send.close()
            workers.append(worker)
            results.append(result)
        for result in results:
            if problem := result.recv():
                raise UserError(problem)
    except EOFError as error:
        raise UserError(
            f"a process making clips in {studio.folder} died (memory?); the same command goes on"
        ) from error
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _missing(folder: Path, clips: list[Clip]) -> list[Clip]:
    """The clips without a file in `folder`; what a killed process was writing is cleared away."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        for name in sizes:
            if name.endswith(".part"):
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {folder}: {error.strerror or error}") from error
    return [clip for clip in clips if not sizes.get(f"{clip.name}.mp3")]


def _work(studio: Studio, clips: list[Clip], parent: int, send: Connection) -> None:
    """The life of a worker process: make clips, tell `parent` of a problem ("": none), stop when it is gone."""
    problem = ""
    try:
        _make_clips(studio, clips, parent)
    except UserError as error:
        problem = str(error)
    with contextlib.suppress(BrokenPipeError):  # nobody is left to tell
        send.send(problem)


def _make_clips(studio: Studio, clips: list[Clip], parent: int = 0) -> None:
    """Make some clips in this process."""
    espeak = Espeak(studio.voice)
    for clip in clips:
        if parent and os.getppid() != parent:
            return
        speech = espeak.say(clip.sentence, clip.manner).astype(np.float32) / 32768
        speech = soxr.resample(speech, SAMPLE_RATE, studio.sample_rate)
        sound = mp3(record(speech, studio, clip.seed), studio.sample_rate)
        write_bytes(studio.folder / f"{clip.name}.mp3", sound, sealed=False)


def record(speech: NDArray[np.float32], studio: Studio, seed: int) -> NDArray[np.float32]:
    """`speech` (samples,) at the studio's rate as a microphone would have it: some room, noise, and a level.

    Signal to noise ratio (mean powers) and peak level (dB full scale) are drawn evenly from the studio's ranges.
    """
    draw = rng(seed, "recording")
    before, after = (int(draw.uniform(*SILENCE_SECONDS) * studio.sample_rate) for _ in range(2))
    snr, level = draw.uniform(*studio.snr_db), draw.uniform(*studio.level_db)
    power = float(np.mean(np.square(speech, dtype=np.float64)))
    sound = np.pad(speech.astype(np.float64), (before, after))
    sound += draw.normal(0.0, np.sqrt(power / 10 ** (snr / 10)), sound.shape)
    peak = max(float(np.abs(sound).max()), 1e-9)
    return (sound * (10 ** (level / 20) / peak)).astype(np.float32)


def mp3(sound: NDArray[np.float32], sample_rate: int) -> bytes:
    """`sound` (samples,) in -1..1 as an MP3 file; the same samples give the same bytes."""
    file = io.BytesIO()
    soundfile.write(file, sound, sample_rate, format="MP3")
    return file.getvalue()

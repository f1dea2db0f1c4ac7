"""How fast clips become 16 kHz mono int16: `thaw audio` (2 threads) against one sox process per clip (2 at a time).

Run: python -m bench.audio. Makes 150 MP3 clips of 3 to 7 s at 48 kHz, prints the best of five rounds of each and the
ratio (aim: 3 or more). Python's start, once per job of about a thousand clips, is left out of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from bench._verdict import verdict

from thaw.audio.listing import Clip
from thaw.audio.shards import ShardFiles, write_shard
from thaw.config.schema import AudioSpec
from thaw.randomness import rng

RATE = 48000
WORKERS = 2
AIM = 3.0


def make_clips(folder: Path, count: int) -> tuple[list[Clip], float]:
    """MP3 clips of tones in noise, 64 kbit/s mono as Common Voice's; returns them and their seconds in sum."""
    clips, seconds = [], 0.0
    for number in range(count):
        draw = rng("bench audio", number)
        time_axis = np.arange(int(RATE * draw.uniform(3, 7))) / RATE
        signal = 0.2 * np.sin(2 * np.pi * draw.uniform(100, 2000) * time_axis)
        signal += 0.02 * draw.standard_normal(len(signal))
        path = folder / f"{number:03}.mp3"
        soundfile.write(path, signal, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.8)
        clips.append(Clip(path.stem, path, "", "", "train", "en"))
        seconds += len(signal) / RATE
    return clips, seconds


def with_thaw(clips: list[Clip], folder: Path) -> None:
    """One shard, its index and rejects, as the verb makes them."""
    files = ShardFiles(folder / "shard.wav", folder / "shard.jsonl", folder / "shard.tsv")
    with contextlib.redirect_stderr(io.StringIO()):
        tally = write_shard(clips, AudioSpec(), files, threads=WORKERS)
    assert not tally.rejected, tally.line()


def with_sox(clips: list[Clip], folder: Path) -> None:
    """One WAV per clip, as DeepSpeech's importer makes them, run by xargs."""
    names = b"\0".join(bytes(clip.path) for clip in clips)
    sox = ["sox", "-D", "-V1", "{}", "-b", "16", "-c", "1", "{}.wav", "rate", "-h", "16000"]
    subprocess.run(["xargs", "-0", "-P", str(WORKERS), "-I", "{}", *sox], input=names, check=True)
    assert len(list(folder.glob("*.mp3.wav"))) == len(clips)


@dataclass(frozen=True)
class Cost:
    """Seconds of one conversion of all clips."""

    wall: float
    processor: float  # of this process and the ones it started: hardly changed by other programs


def cost(work: Callable[[list[Clip], Path], None], clips: list[Clip], folder: Path) -> Cost:
    """What one conversion costs."""
    before = os.times()
    work(clips, folder)
    after = os.times()
    return Cost(after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4]))


def best(costs: list[Cost]) -> Cost:
    """The least of each kind, since other programs only ever add to it."""
    return Cost(min(cost.wall for cost in costs), min(cost.processor for cost in costs))


def line(name: str, cost: Cost, seconds: float) -> str:
    """One line of the result: times real time."""
    return f"{name:<26}{seconds / cost.wall:7,.0f}{seconds / cost.processor:16,.0f}"


def main() -> None:
    """Print both speeds and their ratio."""
    parser = argparse.ArgumentParser(description="how fast clips are converted")
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    count = arguments.rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips, seconds = make_clips(folder, arguments.clips)
        print(f"{len(clips)} MP3 clips at {RATE} Hz, {seconds:.0f} s of audio, {WORKERS} at a time, best of {count}")
        print(f"{'× real time':<26}{'wall':>7}{'processor':>16}")
        if shutil.which("sox") is None:
            print(line("thaw audio", best([cost(with_thaw, clips, folder) for _ in range(count)]), seconds))
            print("one sox process per clip: skipped (no sox here; sudo apt-get install sox libsox-fmt-mp3)")
            return
        rounds = [(cost(with_thaw, clips, folder), cost(with_sox, clips, folder)) for _ in range(count)]
        thaw, sox = best([pair[0] for pair in rounds]), best([pair[1] for pair in rounds])
        print(line("thaw audio", thaw, seconds))
        print(line("one sox process per clip", sox, seconds))
        ratios = f"{sox.wall / thaw.wall:7.1f}{sox.processor / thaw.processor:16.1f}"
        print(f"{'ratio':<26}{ratios}")
        verdict("processor time of one sox per clip over thaw audio's", sox.processor / thaw.processor, least=AIM)


if __name__ == "__main__":
    main()

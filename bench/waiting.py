"""How long does a training on a large corpus wait for its data, and does its memory stand still?

    python -m bench.waiting                                   # 300,000 clips, the first 300 steps of an epoch, twice

Clips are pieces of ten minutes of noise, each beginning at a sample of its own, so that no two have the same digest or
the same features; everything else is what `thaw train` does: manifests, labels, batches ahead, the store on disk. The
first training computes the features of its batches and keeps them; the second one, of the same recipe, finds them. A
third makes other features in every epoch: speeds, dither, masks.

*waiting* is the share of wall clock that steps wait for a batch. *memory* is what the process holds for itself
(RssAnon), at the end and after a third of the steps: pages of files that it maps belong to the system. Of augmented
samples up to 4 GiB are kept on purpose, so its memory is printed and not judged.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench._verdict import verdict

from thaw.audio.wav import SAMPLE_RATE, clip_digest, wav_header
from thaw.config.run import TRAIN_VERSION, RunRecipe
from thaw.files import write_bytes, write_jsonl
from thaw.training import begin as begin_module
from thaw.training import environment
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.distributed import World
from thaw.training.learner import Moment

LETTERS = " abcdefghijklmnopqrstuvwxyz"
NOISE_SECONDS = 600
DEV = 64  # clips
AIM, GROWTH = 0.02, 1.05
AUGMENTATION = {"speed": [0.9, 1.0, 1.1], "dither": 1e-5, "spec_augment": {}}


@dataclass(frozen=True)
class Found:
    """What the steps of one training took, and the memory that it held."""

    seconds: float
    waited: float
    early: int  # bytes, after a third of the steps
    late: int
    audio: float  # seconds trained on


def rows(split: str, count: int, seconds: float, pcm: np.ndarray[Any, np.dtype[np.int16]]) -> Iterator[dict[str, Any]]:
    """Rows of a manifest: clips of half to all of `seconds`, eight letters a second."""
    random = np.random.default_rng([7, len(split)])
    longest = int(seconds * SAMPLE_RATE)
    lengths = random.integers(longest // 2, longest, count, endpoint=True)
    letters = np.array(list(LETTERS[1:]))
    for number, samples in enumerate(lengths.tolist()):
        start = (number * 31) % (len(pcm) - longest)
        text = "".join(random.choice(letters, max(1, 8 * samples // SAMPLE_RATE)))
        yield {
            "audio_filepath": "noise.wav",
            "sampling_rate": SAMPLE_RATE,
            "id": f"{split}-{number:07d}",
            "lang": "xx",
            "speaker": f"s{number % 500}",
            "text": text,
            "text_raw": text,
            "offset_samples": start,
            "samples": samples,
            "offset": start / SAMPLE_RATE,
            "duration": samples / SAMPLE_RATE,
            "digest": clip_digest(pcm[start : start + samples]),
        }


def corpus(folder: Path, clips: int, seconds: float) -> list[Path]:
    """Manifests of train and dev over one shard of noise."""
    pcm = np.random.default_rng(7).normal(0, 1000, NOISE_SECONDS * SAMPLE_RATE).astype(np.int16)
    write_bytes(folder / "noise.wav", wav_header(pcm.nbytes) + pcm.tobytes())
    for split, count in (("train", clips), ("dev", DEV)):
        write_jsonl(folder / f"{split}.jsonl", rows(split, count, seconds, pcm))
    return [folder / "train.jsonl", folder / "dev.jsonl"]


def own_bytes() -> int:
    """What this process holds that no file does, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("bench.waiting reads RssAnon of /proc/self/status, which only Linux has")


def measured(job: Job, steps: int) -> Found:
    """The first steps of a training, timed from before its first batch."""
    learner = begin(job, World(), print).learner
    assert isinstance(learner, Central)
    moments, early = learner.run(), 0
    began = time.perf_counter()
    for number in range(1, steps + 1):
        assert next(moments) is Moment.STEP, "the epoch is too short: more clips, or fewer steps"
        early = own_bytes() if number == max(1, steps // 3) else early
    seconds = time.perf_counter() - began
    late, sums = own_bytes(), learner.progress.sums
    moments.close()  # type: ignore[attr-defined]
    return Found(seconds, sums.data_seconds, early, late, sums.audio_seconds)


def main() -> None:
    """Train three times, print a row for each."""
    parser = argparse.ArgumentParser(description="waiting for data on a large corpus")
    parser.add_argument("--clips", type=int, default=300_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256, help="of DeepSpeech")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the longest clip")
    arguments = parser.parse_args()
    environment.settle(1)
    begin_module.STORED_HOURS = 0.0  # a toy corpus too is kept on disk
    recipe = {"epochs": 1, "batch_size": arguments.batch, "learning_rate": 1e-5}
    model = {"kind": "deepspeech", "hidden": arguments.hidden}
    plain = {"version": TRAIN_VERSION, "model": model, "alphabet": LETTERS, "corpora": ["noise"], "seed": 1}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train, dev = corpus(folder, arguments.clips, arguments.seconds)
        cores = len(os.sched_getaffinity(0))
        print(f"{arguments.clips} clips, {arguments.steps} steps of {arguments.batch}, {cores} cores, 1 thread")
        found = {}
        for name, how in (("computed", {}), ("from disk", {}), ("augmented", {"augmentation": AUGMENTATION})):
            run = RunRecipe.model_validate({**plain, "recipe": {**recipe, **how}})
            job = Job(run, [train], [dev], {}, folder / "state", device="cpu", features=folder / "features")
            found[name] = measured(job, arguments.steps)
    print(f"{'features':12}{'ms/step':>9}{'audio-s/s':>11}{'waiting':>9}{'memory, MB':>12}{'grown':>8}")
    for name, one in found.items():
        step, rate, share = 1000 * one.seconds / arguments.steps, one.audio / one.seconds, one.waited / one.seconds
        print(f"{name:12}{step:9.1f}{rate:11.0f}{share:9.2%}{one.late / 1e6:12.0f}{one.late / one.early:8.3f}")
    kept = [found["computed"], found["from disk"]]
    verdict("share of a training that waits for data", max(one.waited / one.seconds for one in kept), most=AIM)
    verdict("memory at the end over that after a third", max(one.late / one.early for one in kept), most=GROWTH)


if __name__ == "__main__":
    main()

"""What does augmentation cost? Time of a training step with it, as a ratio to the step without, for a small DeepSpeech.

    python -m bench.augment --hidden 512

The audio is noise. The first epoch is left out: features that can be kept are in memory after it. One thread, processor
time, median of the steps that follow.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench._verdict import verdict

from thaw.audio.wav import SAMPLE_RATE, clip_digest, wav_header
from thaw.config.run import RunRecipe
from thaw.corpora.manifest import Utterance
from thaw.files import write_bytes
from thaw.models import build
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import prepare
from thaw.tasks import Ctc
from thaw.training.central import Central
from thaw.training.data import Examples
from thaw.training.distributed import World
from thaw.training.torch_optim import optimizer_for
from thaw.units import EVERY, Alphabet

LETTERS = " abcdefghijklmnopqrstuvwxyz"
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "masks": {"spec_augment": {}, "cutout": {"frequency": 10}},
    "speed": {"speed": [0.9, 1.0, 1.1]},
    "dither": {"dither": 1e-5},
    "all": {"speed": [0.9, 1.0, 1.1], "dither": 1e-5, "spec_augment": {}, "cutout": {"frequency": 10}},
}
AIM = 1.3
EPOCHS = 8  # by then every speed of nearly every utterance has been wanted


def noise(folder: Path, count: int, seconds: float) -> list[Utterance]:
    """Utterances of one length in one shard."""
    generator, samples = np.random.default_rng(1), int(seconds * SAMPLE_RATE)
    clips = generator.normal(0, 1000, (count, samples)).astype(np.int16)
    write_bytes(folder / "noise.wav", wav_header(clips.nbytes) + clips.tobytes())
    texts = ["".join(generator.choice(list(LETTERS), int(8 * seconds))) for _ in range(count)]
    return [
        Utterance(f"u{i}", folder / "noise.wav", i * samples, samples, "xx", "s", text, text, clip_digest(clip))
        for i, (text, clip) in enumerate(zip(texts, clips, strict=True))
    ]


def learner_of(utterances: list[Utterance], hidden: int, batch: int, augmentation: dict[str, Any]) -> Central:
    """A learner that needs nothing on disk but the audio."""
    model = {"kind": "deepspeech", "hidden": hidden}
    recipe = {"epochs": EPOCHS, "batch_size": batch, "learning_rate": 1e-6, "augmentation": augmentation}
    run = RunRecipe.model_validate(
        {"version": 0, "model": model, "alphabet": LETTERS, "corpora": [], "recipe": recipe, "seed": 1}
    )
    network = build(run.model, len(LETTERS) + 1)
    surgery = prepare(network, operations_of(run, network))
    examples = Examples(utterances, {EVERY: Ctc(Alphabet(LETTERS))}, run.model.frontend)
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    return Central(run, network, surgery, optimizer, examples, examples, World(), print)


def seconds_per_step(learners: dict[str, Central]) -> dict[str, float]:
    """Processor time of a step after the first epoch; in turns, so that other load on the machine meets all alike."""
    taken: dict[str, list[float]] = {name: [] for name in learners}
    for epoch in range(1, EPOCHS + 1):
        for name, learner in learners.items():
            learner.progress.epoch = epoch
            for indices in learner.batches(epoch):
                began = time.process_time()
                learner.step(indices)
                taken[name] += [time.process_time() - began] if epoch > 1 else []
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    """Print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description="time of a training step with augmentation")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of an utterance")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        utterances = noise(Path(folder), 3 * arguments.batch, arguments.seconds)
        times = seconds_per_step(
            {name: learner_of(utterances, arguments.hidden, arguments.batch, kind) for name, kind in KINDS.items()}
        )
    print(f"hidden {arguments.hidden}, batch {arguments.batch} of {arguments.seconds:g} s, 1 thread")
    print(f"{'augmentation':14}{'ms/step':>9}{'ratio':>7}")
    for name, taken in times.items():
        print(f"{name:14}{taken * 1000:9.1f}{taken / times['none']:7.3f}")
    verdict("a step with every augmentation over one without", times["all"] / times["none"], most=AIM)


if __name__ == "__main__":
    main()

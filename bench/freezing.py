"""Does freezing pay? Time of a training step of DeepSpeech with frozen layers, as a fraction of the full step.

    python bench/freezing.py --hidden 512

Beside the measured fraction stands the one that counting multiplications predicts: every layer's forward pass, the
gradient of the inputs of every layer above the lowest trainable one, the gradient of the weights of every trainable
layer. Loss, dropout and optimizer are in the measured time only. One thread, processor time, best of several rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from thaw.config.models import DeepSpeechSpec
from thaw.config.schema import FrozenSpec
from thaw.models import Noise, build
from thaw.surgery import prepare
from thaw.training.ctc import ctc_loss
from thaw.training.optim import AdamTF

CLASSES = 32
FROZEN_SETS = {
    "none": (),
    "1": ("layer_1",),
    "1-2": ("layer_1", "layer_2"),
    "1-3": ("layer_1", "layer_2", "layer_3"),
    "1-4": ("layer_1", "layer_2", "layer_3", "lstm"),
    "1-5": ("layer_1", "layer_2", "layer_3", "lstm", "layer_5"),
    "1-3,5": ("layer_1", "layer_2", "layer_3", "layer_5"),
}


def predicted_multiplications(spec: DeepSpeechSpec, frozen: tuple[str, ...]) -> int:
    """Multiplications per frame of one step; an LSTM's recurrent part is gone back through wherever the LSTM is."""
    hidden = spec.hidden
    inputs = dict.fromkeys(spec.layer_names, hidden * hidden)
    inputs |= {"layer_1": 26 * (2 * spec.context + 1) * hidden, "lstm": 4 * hidden * hidden}
    inputs["layer_6"] = hidden * CLASSES
    recurrent = {"lstm": 4 * hidden * hidden}
    lowest = next(i for i, name in enumerate(spec.layer_names) if name not in frozen)
    total = 0
    for i, name in enumerate(spec.layer_names):
        forward = inputs[name] + recurrent.get(name, 0)
        total += forward
        total += inputs[name] if i > lowest else 0
        total += recurrent.get(name, 0) if i >= lowest else 0
        total += forward if name not in frozen else 0
    return total


def training_step(spec: DeepSpeechSpec, frozen: tuple[str, ...], batch: int, frames: int) -> Callable[[], None]:
    """A function that does one training step on a batch of noise."""
    model = build(spec, CLASSES)
    surgery = prepare(model, None, (), frozen, FrozenSpec(), seed=1)
    optimizer = AdamTF(surgery.trainable())
    generator = torch.Generator().manual_seed(1)
    labels = frames // 6
    x = torch.randn(batch, frames, 26, generator=generator)
    targets = torch.randint(0, CLASSES - 1, (batch * labels,), dtype=torch.int32, generator=generator)
    frame_lengths, target_lengths = torch.full((batch,), frames), torch.full((batch,), labels)
    ids = [str(row) for row in range(batch)]

    def step() -> None:
        optimizer.zero_grad()
        logits, lengths = model(x, frame_lengths, Noise(surgery.dropout_rates(0.4), seed=1, epoch=1, ids=ids))
        ctc_loss(logits, lengths, targets, target_lengths).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-4)

    return step


def main() -> None:
    """Measure every set of frozen layers, in turns so that other load on the machine meets all alike; print a table."""
    parser = argparse.ArgumentParser(description="time of a training step with frozen layers")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec = DeepSpeechSpec(kind="deepspeech", hidden=arguments.hidden)
    steps = {
        name: training_step(spec, frozen, arguments.batch, arguments.frames) for name, frozen in FROZEN_SETS.items()
    }
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - begin)
    full = predicted_multiplications(spec, ())
    print(f"hidden {arguments.hidden}, batch {arguments.batch}, {arguments.frames} frames, 1 thread")
    print(f"{'frozen':8}{'ms/step':>9}{'fraction':>10}{'predicted':>11}")
    for name, frozen in FROZEN_SETS.items():
        fraction, predicted = best[name] / best["none"], predicted_multiplications(spec, frozen) / full
        print(f"{name:8}{best[name] * 1000:9.0f}{fraction:10.2f}{predicted:11.2f}")


if __name__ == "__main__":
    main()

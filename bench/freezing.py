"""Does freezing pay? Time of a training step with the first layers frozen, as a fraction of the full step.

    python -m bench.freezing
    python -m bench.freezing --hidden 2048 --variant 15x5 --batch 32 --device cuda --precision bf16

Beside the measured fraction stands the one that counting multiplications predicts: every layer's forward pass, the
gradient of the inputs of every layer above the lowest trainable one, the gradient of the weights of every trainable
layer. `kept` is the step where the outputs of the frozen layers were computed once before (thaw.training.activations):
only the layers above them count. Loss, dropout and optimiser are in the measured time only. On a CPU one thread and
processor time; the best of several rounds, in turns so that other load on the machine meets all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from bench._verdict import verdict

from thaw.config.models import Block, DeepSpeechSpec, ModelSpec, QuartzNetSpec
from thaw.config.schema import FrozenSpec, RecipeSpec
from thaw.frontends import dimension
from thaw.models import Noise, build
from thaw.surgery.operations import Freeze, Reset
from thaw.surgery.surgery import prepare
from thaw.tasks.ctc import ctc_loss
from thaw.training.torch_optim import optimizer_for

AIM = 0.1
CLASSES = 32
FRAMES = {"deepspeech": 150, "quartznet": 301}  # of the front end, in three seconds
NOVOGRAD = RecipeSpec(epochs=1, optimizer="novograd", betas=(0.95, 0.25), weight_decay=0.001)


def multiplications(spec: ModelSpec) -> dict[str, int]:
    """Multiplications of every layer's forward pass per output frame."""
    if isinstance(spec, DeepSpeechSpec):
        counts = dict.fromkeys(spec.layer_names, spec.hidden**2)
        counts["layer_1"] = dimension(spec.frontend) * (2 * spec.context + 1) * spec.hidden
        counts["lstm"] *= 8
        counts["layer_6"] = spec.hidden * CLASSES
        return counts
    assert isinstance(spec, QuartzNetSpec)  # no other is timed here
    counts, channels = {}, dimension(spec.frontend)
    for name, block in spec.blocks.items():
        counts[name] = of_block(channels, block)
        channels = block.channels
    return {**counts, "decoder": channels * CLASSES}


def of_block(inputs: int, block: Block) -> int:
    """Multiplications of a QuartzNet block per output frame."""
    total = inputs * block.channels if block.residual else 0
    for _ in range(block.repeat):
        total += inputs * block.kernel + inputs * block.channels if block.separable else inputs * block.channels
        inputs = block.channels
    return total


def predicted(spec: ModelSpec, frozen: tuple[str, ...], kept: int = 0) -> int:
    """Multiplications of one step; `kept` layers were computed before."""
    names, counts = spec.layer_names, multiplications(spec)
    lowest = next(i for i, name in enumerate(names) if name not in frozen)
    total = 0
    for place, name in enumerate(names):
        forward = counts[name] if place >= kept else 0
        recurrent = 4 * spec.hidden**2 if isinstance(spec, DeepSpeechSpec) and name == "lstm" else 0
        # An LSTM that trains is gone back through in time, wherever it stands.
        inputs = counts[name] if place > lowest else recurrent if place == lowest else 0
        total += forward + inputs + (0 if name in frozen else counts[name])
    return total


def training_step(
    spec: ModelSpec, frozen: tuple[str, ...], kept: int, arguments: argparse.Namespace
) -> Callable[[], None]:
    """A function that does one training step on a batch of noise."""
    device, batch = torch.device(arguments.device), int(arguments.batch)
    model = build(spec, CLASSES)
    surgery = prepare(model, [Reset(tuple(model.layers)), Freeze(frozen, FrozenSpec(dropout="off"))])
    model.to(device).train()
    quartznet = isinstance(spec, QuartzNetSpec)
    recipe = NOVOGRAD if quartznet else RecipeSpec(epochs=1)
    optimizer = optimizer_for(recipe, surgery.trainable())
    generator = torch.Generator().manual_seed(1)
    frames = FRAMES[spec.kind]
    x = torch.randn(batch, frames, dimension(spec.frontend), generator=generator).to(device)
    lengths = torch.full((batch,), frames)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16")
    if kept:
        with torch.no_grad(), autocast:
            x, lengths = model(x, lengths, upto=kept)
    labels = 25
    targets = torch.randint(0, CLASSES - 1, (batch * labels,), dtype=torch.int32, generator=generator)
    target_lengths = torch.full((batch,), labels, dtype=torch.int32)
    ids = [str(row) for row in range(batch)]
    rates = surgery.dropout_rates(0.0 if quartznet else 0.1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            logits, valid = model(x, lengths, Noise(rates, seed=1, epoch=1, ids=ids), done=kept)
        ctc_loss(logits, valid, targets, target_lengths).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-4)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def table(spec: ModelSpec, title: str, depths: list[int], arguments: argparse.Namespace) -> None:
    """Measure every depth, with and without kept activations, and print a table and a verdict."""
    names = spec.layer_names
    cases = [(depth, kept) for depth in depths for kept in ((0, depth) if depth else (0,))]
    steps = {(depth, kept): training_step(spec, names[:depth], kept, arguments) for depth, kept in cases}
    clock = time.perf_counter if arguments.device != "cpu" else time.process_time
    best = dict.fromkeys(cases, float("inf"))
    for number in range(arguments.rounds + 1):
        for case, step in steps.items():
            begin = clock()
            step()
            if number:  # the first warms up
                best[case] = min(best[case], clock() - begin)
    full = predicted(spec, ())
    print(f"\n{title}, batch {arguments.batch} x 3 s, {arguments.device}, {arguments.precision}")
    print(
        f"{'frozen':14}{'ms/step':>9}{'fraction':>10}{'predicted':>11}{'kept: ms':>10}{'fraction':>10}{'predicted':>11}"
    )
    for depth in depths:
        name = names[depth - 1] if depth else "none"
        row = f"{'..' + name if depth > 1 else name:14}"
        for kept in (0, depth) if depth else (0,):
            share = predicted(spec, names[:depth], kept) / full
            measured = best[depth, kept]
            row += f"{1000 * measured:{9 if not kept else 10}.0f}{measured / best[0, 0]:10.2f}{share:11.2f}"
        print(row)
    deepest = depths[-1]
    verdict(
        f"{title}: a step with {deepest} frozen layers kept over a full one",
        best[deepest, deepest] / best[0, 0],
        most=AIM,
    )


def main() -> None:
    """Both models, one table each."""
    parser = argparse.ArgumentParser(description="time of a training step with frozen layers")
    parser.add_argument("--hidden", type=int, default=512, help="of DeepSpeech")
    parser.add_argument("--variant", default="mini-5x2", help="of QuartzNet")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    deepspeech = DeepSpeechSpec(kind="deepspeech", hidden=arguments.hidden)
    table(deepspeech, f"DeepSpeech, {arguments.hidden} units", [0, 1, 2, 3, 4, 5], arguments)
    quartznet = QuartzNetSpec.model_validate({"kind": "quartznet", "variant": arguments.variant})
    layers = len(quartznet.layer_names)
    depths = sorted({0, *(round(layers * share / 4) for share in (1, 2, 3)), layers - 1})
    table(quartznet, f"QuartzNet {arguments.variant}", depths, arguments)


if __name__ == "__main__":
    main()

"""Training throughput: seconds of audio per second of computing, beside a plain PyTorch loop and beside NeMo.

    python -m bench.throughput                       # processor time, one thread
    python -m bench.throughput --device cuda --precision bf16 --hidden 2048 --variant 15x5 --batch 64

thaw's Central does all that it does in a real training but for features, which are made beforehand: batches, dropout
that depends on the utterance alone, CTC loss, checks for finite numbers, gradient norm, optimiser. The plain loop has
the same model and batches with torch's own dropout, `ctc_loss` and optimiser, and nothing else. NeMo's own encoder and
decoder take the same batches through the same loop, where the toolkit can be imported.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from bench._verdict import verdict
from torch import Tensor, nn

from thaw.config.models import DeepSpeechSpec, ModelSpec, QuartzNetSpec
from thaw.config.run import RunRecipe
from thaw.corpora.manifest import Utterance
from thaw.frontends import dimension
from thaw.models import build
from thaw.models.layered import Drop, Noise
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import prepare
from thaw.tasks import Ctc
from thaw.training.central import Central
from thaw.training.data import Batch, Examples
from thaw.training.distributed import World
from thaw.training.learner import Moment
from thaw.training.torch_optim import optimizer_for
from thaw.units import EVERY, Alphabet

ALPHABET = " abcdefghijklmnopqrstuvwxyz'"
DROPOUT = 0.1
NOVOGRAD = {"optimizer": "novograd", "learning_rate": 0.01, "betas": (0.95, 0.25), "weight_decay": 0.001}


class PlainNoise(Noise):
    """torch's own dropout, where a model expects thaw's."""

    def __init__(self) -> None:
        super().__init__({}, seed=0, epoch=0, ids=())

    def drop_for(self, layer: str) -> Drop:
        return lambda x: F.dropout(x, DROPOUT)


def noise_examples(spec: ModelSpec, count: int, seconds: float) -> Examples:
    """Utterances of noise, 80 to 100 % of so many seconds long, twelve letters a second; features in memory."""
    generator = np.random.default_rng(1)
    utterances = []
    for number in range(count):
        samples = int(16000 * seconds * generator.uniform(0.8, 1.0))
        letters = generator.choice(list(ALPHABET), int(12 * samples / 16000))
        text = "".join(letters).strip() or "a"
        utterances.append(Utterance(f"u{number}", Path(), 0, samples, "en", "noise", text, text, ""))
    examples = Examples(utterances, {EVERY: Ctc(Alphabet(ALPHABET))}, spec.frontend)
    width = dimension(spec.frontend)
    per_frame = 320 if isinstance(spec, DeepSpeechSpec) else 160
    for index, utterance in enumerate(examples.utterances):
        frames = 1 + (utterance.samples - 512) // per_frame if per_frame == 320 else utterance.samples // per_frame + 1
        examples.cache[index, 1.0] = generator.standard_normal((frames, width), dtype=np.float32)
    return examples


def thaw_steps(run: RunRecipe, examples: Examples, device: torch.device) -> Callable[[], None]:
    """One call is one step of thaw's Central."""
    model = build(run.model, len(ALPHABET) + 1)
    surgery = prepare(model, operations_of(run, model))
    model.to(device)
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    learner = Central(run, model, surgery, optimizer, examples, examples, World(device=device), print)
    moments = learner.run()

    def step() -> None:
        assert next(moments) is Moment.STEP

    return step


def plain_steps(
    run: RunRecipe, forward: Callable[[Batch], tuple[Tensor, Tensor]], model: nn.Module, batches: list[Batch]
) -> Callable[[], None]:
    """One call is one step of a loop as a person would write it: ctc_loss, backward, torch's Adam or plain NovoGrad."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    own = run.recipe.optimizer == "novograd"
    optimizer = optimizer_for(run.recipe, dict(model.named_parameters())) if own else torch.optim.Adam(parameters)
    place = iter(range(10**9))
    device = parameters[0].device

    def step() -> None:
        batch = batches[next(place) % len(batches)]
        model.train()
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=run.recipe.precision == "bf16"):
            logits, lengths = forward(batch)
        log_probs = logits.float().log_softmax(-1).transpose(0, 1)
        blank = logits.shape[2] - 1
        loss = F.ctc_loss(log_probs, batch.targets, lengths.cpu(), batch.target_lengths, blank, "none").mean()
        loss.backward()  # type: ignore[no-untyped-call]
        if isinstance(optimizer, torch.optim.Adam):
            optimizer.step()
        else:
            optimizer.step(run.recipe.learning_rate)

    return step


def nemo_steps(run: RunRecipe, spec: QuartzNetSpec, batches: list[Batch], device: torch.device) -> Callable[[], None]:
    """The plain loop over NeMo's own modules of the same sizes. ImportError where NeMo is not there."""
    import nemo.collections.asr  # type: ignore[import-not-found]  # noqa: F401  (ImportError here, not later)

    made_like_ours = importlib.import_module("tests.models.make_golden_quartznet").nemo_modules
    model: nn.ModuleDict = made_like_ours(spec, len(ALPHABET) + 1).to(device)

    def forward(batch: Batch) -> tuple[Tensor, Tensor]:
        x = F.pad(batch.x.transpose(1, 2), (0, -batch.x.shape[1] % 16))
        encoded, lengths = model["encoder"](audio_signal=x, length=batch.lengths.to(device))
        return model["decoder"](encoder_output=encoded), lengths

    return plain_steps(run, forward, model, batches)


def measured(steps: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds of a step: the best of several rounds, taken in turns so that other load meets all alike."""
    gpu = device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    best = dict.fromkeys(steps, float("inf"))
    for number in range(rounds + 1):
        for name, step in steps.items():
            begin = clock()
            step()
            if gpu:
                torch.cuda.synchronize()
            if number:  # the first warms up
                best[name] = min(best[name], clock() - begin)
    return best


def compare(name: str, spec: ModelSpec, arguments: argparse.Namespace) -> None:
    """Print the rows of one model."""
    device = torch.device(arguments.device)
    kind = NOVOGRAD if isinstance(spec, QuartzNetSpec) else {}
    recipe = {
        "epochs": 10**6,
        "batch_size": arguments.batch,
        "order": "sorted",
        "dropout": DROPOUT,
        "precision": arguments.precision,
        **kind,
    }
    run = RunRecipe.model_validate(
        {
            "version": 0,
            "model": spec.model_dump(),
            "alphabet": ALPHABET,
            "corpora": ["noise"],
            "seed": 1,
            "recipe": recipe,
        }
    )
    examples = noise_examples(spec, arguments.batch * (arguments.rounds + 1), arguments.seconds)
    order = [list(range(first, first + arguments.batch)) for first in range(0, len(examples), arguments.batch)]
    batches = [examples.batch(indices).to(device) for indices in order]
    model = build(spec, len(ALPHABET) + 1)
    model.initialise(1)
    model.to(device)
    steps = {
        "thaw": thaw_steps(run, examples, device),
        "plain loop": plain_steps(run, lambda batch: model(batch.x, batch.lengths, PlainNoise()), model, batches),
    }
    if isinstance(spec, QuartzNetSpec):
        try:
            steps["NeMo's modules"] = nemo_steps(run, spec, batches, device)
        except ImportError:
            print(f"{name}: NeMo is not installed here, so it is left out")
    best = measured(steps, arguments.rounds, device)
    audio = 0.9 * arguments.seconds * arguments.batch
    for which, seconds in best.items():
        ratio = best["thaw"] / seconds
        print(f"{name:22}{which:16}{1000 * seconds:9.0f}{audio / seconds:12.0f}{ratio:18.2f}")
    verdict(f"{name}: time of thaw's step over a plain loop's", best["thaw"] / best["plain loop"], most=1.1)


def main() -> None:
    """Measure both models and print one table."""
    parser = argparse.ArgumentParser(description="training throughput")
    parser.add_argument("--hidden", type=int, default=512, help="of DeepSpeech")
    parser.add_argument("--variant", default="mini-5x2", help="of QuartzNet")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the longest utterance")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"batch {arguments.batch}, about {0.9 * arguments.seconds:g} s of audio each, {arguments.device}")
    print(f"{'model':22}{'loop':16}{'ms/step':>9}{'audio-s/s':>12}{'thaw/it (time)':>18}")
    compare(f"DeepSpeech {arguments.hidden}", DeepSpeechSpec(kind="deepspeech", hidden=arguments.hidden), arguments)
    spec = QuartzNetSpec.model_validate({"kind": "quartznet", "variant": arguments.variant})
    compare(f"QuartzNet {arguments.variant}", spec, arguments)


if __name__ == "__main__":
    main()

"""Everything that only a GPU can show, as tables: bits, speed, memory, what freezing saves, the CTC of cuDNN.

    python -m bench.gpu                                          # all of it; published sizes
    python -m bench.gpu --tables trainings --models dnn deepspeech --precision bf16

trainings: every model in every precision, whole, and from there with its lower half frozen, trained twice under
`torch.use_deterministic_algorithms`: are the bits the same, or which operation refuses? Audio seconds (of the language
model: units) a second, and the most memory that was held.
frozen: the time of a step by the number of frozen layers, input side first, dropout off in them: their outputs are
computed once where they fit, as in any training.
features: audio seconds a second of features and masks, by threads of the host, and on the device of samples that wait
for it; then trainings whose features the device makes (`features_on: device`), twice, beside one whose the host makes.
ctc: thaw's loss, which is cuDNN's wherever that can, beside torch's own kernel, forward and backward.
limits: as `python -m bench.limits` has it, at the published sizes.

A row that fails says why, and the others go on. Without a GPU there is nothing to measure; `--device cpu --size toy`
shows that all of it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from bench import _front_ends, limits
from bench._cases import CASES, SECONDS, SIZES, job_of, lower_half, recipe_of
from bench._verdict import SKIPPED, verdict
from bench.before import bits_of
from pydantic import ValidationError
from torch import Tensor

from thaw.config.models import ModelSpec, layer_names
from thaw.config.schema import RecipeSpec
from thaw.files import read_jsonl
from thaw.tasks.ctc import ctc_loss
from thaw.training.environment import products_in, settle
from thaw.training.session import train
from thaw.training.steps import MOST_MAKERS

TABLES = ("trainings", "frozen", "features", "ctc", "limits")
PRECISIONS: tuple[str, ...] = get_args(RecipeSpec.model_fields["precision"].annotation)
LARGEST = 32  # utterances of a batch, but for limits
SAME = "same twice"
REFUSAL = re.compile(r"(\S+) does not have a deterministic implementation")
SHAPES = ((16, 200, 30), (64, 400, 30), (64, 400, 1024))  # B, T, V of the losses that are timed


@dataclass(frozen=True)
class Trained:
    """What a training gave."""

    model: Path
    bits: str
    speed: float  # audio seconds, or units, a second, of its last epoch
    memory: float  # GiB


def closed(spec: ModelSpec, names: Sequence[str]) -> tuple[str, ...]:
    """Layers, and those that share weights with them: these are frozen together."""
    groups: Sequence[Sequence[str]] = getattr(spec, "tied", ())
    more = {other for group in groups if set(group) & set(names) for other in group}
    return tuple(name for name in layer_names(spec) if name in {*names, *more})


def why(error: Exception) -> str:
    """What refused, in a few words: the operation without a deterministic kernel, or the error's first line."""
    found = REFUSAL.search(str(error))
    return f"refused: {found[1]}" if found else f"{type(error).__name__}: {str(error).splitlines()[0]:.70}"


def in_quiet(act: Callable[[], Any]) -> Any:
    """What `act` gives; what it says of its progress is dropped."""
    with contextlib.redirect_stderr(io.StringIO()):
        return act()


# --- whole trainings ------------------------------------------------------------------------------


def train_once(
    name: str, changes: dict[str, Any], folder: Path, arguments: argparse.Namespace, donor: Path | None = None
) -> Trained:
    """One whole training, in a folder that is made; with a donor, the lower half of its layers is taken and frozen."""
    folder.mkdir()
    recipe = recipe_of(name, arguments.size, arguments.epochs, changes)
    freeze = closed(recipe.model, lower_half(name, arguments.size)) if donor else ()
    if donor:
        recipe = recipe_of(name, arguments.size, arguments.epochs, changes, freeze, start="donor")
    gpu = arguments.device == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = job_of(name, arguments.size, recipe, folder, arguments.batches, arguments.seconds, arguments.device)
    in_quiet(lambda: train(replace(job, start=donor)))
    last = read_jsonl(job.outputs["metrics.jsonl"])[-1]
    speed = float(last.get("audio_seconds_per_second") or last["units_per_second"])
    memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0
    return Trained(job.outputs["model.safetensors"], bits_of(job.outputs), speed, memory)


def trainings(arguments: argparse.Namespace) -> None:
    """Every model, precision, whole and half frozen: trained twice."""
    print(f"{'model':20}{'precision':>10}{'frozen':>8}{'speed':>9}{'GiB':>7}  bits")
    rows = [row for name in arguments.models for kind in arguments.precision for row in twice(name, kind, arguments)]
    verdict("trainings whose bits differ from one time to the next", rows.count("DIFFER"), most=0)
    verdict("trainings that are refused or fail", len(rows) - rows.count("DIFFER") - rows.count(SAME), most=0)


def twice(name: str, precision: str, arguments: argparse.Namespace) -> Iterator[str]:
    """Train a model whole, and then from there with its lower half frozen, each twice; what came of the bits."""
    changes, donor = changes_of(name, precision, arguments), None
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("none", "half"):
            head = f"{name:20}{precision:>10}{kind:>8}"
            try:
                places = [Path(folder) / f"{kind}-{number}" for number in range(2)]
                first, again = (train_once(name, changes, place, arguments, donor) for place in places)
            except Exception as error:  # a table with a hole says more than none
                print(f"{head}{'':16}  {why(error)}", flush=True)
                yield why(error)
                return
            donor = first.model
            said = SAME if first.bits == again.bits else "DIFFER"
            print(f"{head}{max(first.speed, again.speed):9.0f}{first.memory:7.2f}  {said}", flush=True)
            yield said


def changes_of(name: str, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is asked for beside a recipe's own; batches are no larger than bits and ratios need."""
    own = recipe_of(name, arguments.size, 1, {}).recipe.batch_size
    return {"precision": precision, "batch_size": arguments.batch or min(own, LARGEST)}


# --- freezing -------------------------------------------------------------------------------------


def depths(layers: int, most: int) -> list[int]:
    """How many layers to freeze: none, all but the last, and evenly between them."""
    return sorted({round(step * (layers - 1) / (most - 1)) for step in range(most)})


def frozen(arguments: argparse.Namespace) -> None:
    """The time of a step by the number of frozen layers."""
    print(f"{'model':20}{'precision':>10}  milliseconds of a step (of the full one) by frozen layers")
    deepest = []
    for name in arguments.models:
        for precision in arguments.precision:
            head = f"{name:20}{precision:>10}"
            try:
                with products_in(precision, torch.device(arguments.device)):
                    times = frozen_steps(name, precision, arguments)
            except Exception as error:
                print(f"{head}  {why(error)}", flush=True)
                continue
            parts = [f"{count}: {1000 * took:.1f} ({took / times[0]:.2f})" for count, took in times.items()]
            deepest.append(times[max(times)] / times[0])
            print(f"{head}  {'  '.join(parts)}", flush=True)
    if deepest:
        verdict("the most that a step costs with all but the last layer frozen", max(deepest), most=0.5)


def frozen_steps(name: str, precision: str, arguments: argparse.Namespace) -> dict[int, float]:
    """Seconds of a step by how many layers are frozen; those that share weights stay trainable."""
    spec = recipe_of(name, arguments.size, 1, {}).model
    names = [layer for layer in layer_names(spec) if len(closed(spec, [layer])) == 1]
    device, times = torch.device(arguments.device), {}
    clock = limits.clock_of(device)
    for count in depths(len(names), arguments.depths):
        changes = {**changes_of(name, precision, arguments), "augmentation": {}}
        recipe = recipe_of(name, arguments.size, 10**6, changes, names[:count])
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(name, arguments.size, recipe, Path(folder), arguments.batches, arguments.seconds, device.type)
            training = limits.Training(job, device)
            best = float("inf")
            for number in range(arguments.rounds + 1):
                steps, began = training.left, clock()
                for _ in range(steps):
                    training.step()
                best = min(best, (clock() - began) / steps) if number else best  # the first warms up
                training.end_epoch()
            times[count] = best
    return times


# --- features -------------------------------------------------------------------------------------


def features(arguments: argparse.Namespace) -> None:
    """Front ends on the host and on the device; trainings of which the device makes the features."""
    device, threads = torch.device(arguments.device), min(os.cpu_count() or 1, MOST_MAKERS)
    batch, ratios = arguments.batch or LARGEST, []
    print(f"batches of {batch}, {threads} threads; audio seconds a second")
    print(f"{'front end':14}{'1 thread':>10}{'threads':>10}{'samples':>10}{'device':>10}{'device / threads':>18}")
    for name in _front_ends.NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found = _front_ends.speeds(name, Path(folder), batch, arguments.seconds, threads, device)
        ratios.append(found.device / found.threads)
        print(f"{name:14}" + "".join(f"{speed:10.0f}" for speed in found) + f"{ratios[-1]:18.2f}", flush=True)
    print(f"\n{'model':20}{'host':>9}{'device':>9}  bits")
    rows = [said for name in arguments.models if (said := made_there(name, arguments))]
    verdict("the least that a device makes features faster than the host's threads", min(ratios), least=1)
    wrong = len(rows) - rows.count(SAME)
    verdict("trainings with features of the device that differ, are refused or fail", wrong, most=0)


def made_there(name: str, arguments: argparse.Namespace) -> str:
    """Train a model twice on features that the device makes; what came of the bits; nothing where it cannot."""
    own, changes = recipe_of(name, arguments.size, 1, {}).recipe, changes_of(name, "fp32", arguments)
    try:
        RecipeSpec.model_validate({**own.model_dump(), "features_on": "device"})
    except ValidationError:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            host = train_once(name, changes, Path(folder) / "host", arguments)
            changes["features_on"] = "device"
            first, again = (train_once(name, changes, Path(folder) / f"{number}", arguments) for number in range(2))
        except Exception as error:
            print(f"{name:20}{'':18}  {why(error)}", flush=True)
            return why(error)
    said = SAME if first.bits == again.bits else "DIFFER"
    print(f"{name:20}{host.speed:9.0f}{max(first.speed, again.speed):9.0f}  {said}", flush=True)
    return said


# --- the loss -------------------------------------------------------------------------------------


def ctc(arguments: argparse.Namespace) -> None:
    """thaw's loss beside torch's own kernel."""
    device = torch.device(arguments.device)
    print(f"{'B':>4}{'T':>6}{'V':>6}{'thaw, ms':>10}{'native, ms':>12}{'native / thaw':>15}")
    ratios = []
    for batch, frames, classes in SHAPES[: 1 if arguments.size == "toy" else None]:
        generator = torch.Generator().manual_seed(1)
        logits = torch.randn(batch, frames, classes, generator=generator).to(device).requires_grad_()
        lengths = torch.full((batch,), frames, dtype=torch.int32)
        labels = torch.full((batch,), frames // 5, dtype=torch.int32)
        targets = torch.randint(0, classes - 1, (int(labels.sum()),), generator=generator, dtype=torch.int32)
        ours = timed(functools.partial(ctc_loss, logits, lengths, targets, labels), device, arguments.rounds)
        torch.use_deterministic_algorithms(False)  # torch's own CUDA kernel is refused under them
        theirs = timed(functools.partial(native, logits, lengths, targets, labels), device, arguments.rounds)
        torch.use_deterministic_algorithms(True)
        ratios.append(theirs / ours)
        print(
            f"{batch:4}{frames:6}{classes:6}{1000 * ours:10.2f}{1000 * theirs:12.2f}{theirs / ours:15.2f}", flush=True
        )
    verdict("the least that thaw's CTC is faster than torch's kernel", min(ratios), least=1)


def native(logits: Tensor, lengths: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """torch's own kernel of the logits' device, blank last: labels and lengths as int64 keep cuDNN out."""
    log_probs = F.log_softmax(logits, dim=-1).transpose(0, 1)
    where = logits.device
    targets, lengths, labels = (x.to(where, torch.int64) for x in (targets, lengths, labels))
    return F.ctc_loss(log_probs, targets, lengths, labels, blank=logits.shape[-1] - 1, reduction="none")


def timed(loss: Callable[[], Tensor], device: torch.device, rounds: int) -> float:
    """Seconds of a loss and its gradient, the best of several rounds."""
    clock, best = limits.clock_of(device), float("inf")
    for number in range(rounds + 1):
        began = clock()
        loss().sum().backward()  # type: ignore[no-untyped-call]
        best = min(best, clock() - began) if number else best
    return best


def limits_table(arguments: argparse.Namespace) -> None:
    """`bench.limits` at this size, in the precisions asked for."""
    words = ["--size", arguments.size, "--device", arguments.device, "--models", *arguments.models]
    words += ["--precision", *arguments.precision, "--batch", str(arguments.batch), "--seconds", str(arguments.seconds)]
    words += ["--rounds", str(arguments.rounds), "--epochs", str(arguments.epochs), "--batches", str(arguments.batches)]
    in_quiet(lambda: limits.main(words))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="what only a GPU can show")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, metavar="TABLE")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--batch", type=int, default=0, help="instead of the recipes' own")
    parser.add_argument("--seconds", type=float, default=0.0, help="of the longest utterance (default: by size)")
    parser.add_argument("--batches", type=int, default=3, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of what is timed by itself")
    parser.add_argument("--depths", type=int, default=6, help="how many numbers of frozen layers")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or SECONDS[arguments.size]
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"{SKIPPED}no GPU here; bench.gpu measures what only a GPU can show")
        return
    settle(1)
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device
    print(f"{where}, torch {torch.__version__}, size {arguments.size}, utterances of {0.9 * arguments.seconds:g} s")
    acts = {"trainings": trainings, "frozen": frozen, "features": features, "ctc": ctc, "limits": limits_table}
    for table in arguments.tables:
        print(f"\n{table}")
        acts[table](arguments)


if __name__ == "__main__":
    main()

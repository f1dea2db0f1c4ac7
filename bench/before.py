"""Is every small training as fast as it was, and are its bits the same? This tree beside an older one, in one run.

    python -m bench.before                                   # beside the tree before batches were prepared ahead
    python -m bench.before --revision v1.0 --models deepspeech dnn --rounds 4

The older tree is taken out of git into a temporary folder. Both train the same models of config/mini on the same noise,
each in a process of its own, in turns, with as many threads as a study gives them. A time is that of the training
alone, from its start to its result (wall clock, without the import of torch); the best of several rounds counts.
Processor time is that of the whole process. Bits are those of every weight of the best epoch, and of all losses.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._cases import CASES, OUTPUTS, Size, job_of, recipe_of
from bench._verdict import verdict
from safetensors.torch import load_file

from thaw.canonical import canonical_json
from thaw.config.strict import semantic
from thaw.files import read_json, read_jsonl
from thaw.training.begin import Job

REPOSITORY = Path(__file__).resolve().parents[1]
BEFORE = "c241d83"  # the last one whose batches were made inside the step
AUGMENTED = "-augmented"
AUGMENTATION = {"speed": [0.9, 1.0, 1.1], "dither": 1e-5, "spec_augment": {}, "cutout": {"frequency": 10}}
NAMES = (*CASES, f"deepspeech{AUGMENTED}", f"quartznet{AUGMENTED}")
DEFAULT = ("deepspeech", "quartznet", f"deepspeech{AUGMENTED}", f"quartznet{AUGMENTED}")
# A quarter of the time for a training whose time is that of its augmentation: batches are made beside the steps.
AUGMENTED_AIM, AIM = 1.3, 1.0
CLOCKS = ("audio_seconds_per_second", "units_per_second", "step_seconds", "data_seconds", "parallel_seconds")


class Refused(Exception):
    """A tree says that its inputs cannot be; which is what an older one says of newer models."""


@dataclass
class Runs:
    """What the trainings of one tree took, and the bits that they gave."""

    seconds: list[float] = field(default_factory=list)  # wall clock
    processor: list[float] = field(default_factory=list)
    bits: set[str] = field(default_factory=set)


def take_out(revision: str, folder: Path) -> Path:
    """The package of an older tree, in `folder`; gives what PYTHONPATH needs."""
    archive = subprocess.run(
        ["git", "archive", revision, "src"], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder / "src"


def train_in(tree: Path, job: Job, runs: Runs) -> None:
    """One training by the package of a tree, from nothing; Refused where it knows no such model, key or value."""
    shutil.rmtree(job.state, ignore_errors=True)
    options = zip(("--model", "--optimizer", "--record", "--metrics"), OUTPUTS, strict=True)
    outputs = [word for option, name in options for word in (option, str(job.outputs[name]))]
    inputs = ["--train", *map(str, job.train), "--dev", *map(str, job.dev)]
    inputs += ["--alignment", *map(str, job.alignments)] if job.alignments else []
    recipe = canonical_json(semantic(job.recipe))
    words = ["train", "--recipe", recipe, "--state", str(job.state), "--device", job.device, *inputs, *outputs]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "thaw.cli", *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True)
    if done.returncode == 2:
        raise Refused(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{tree}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    runs.processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    runs.seconds.append(float(read_json(job.outputs["run.json"])["cost"]["seconds"]))
    runs.bits.add(bits_of(job.outputs))


def bits_of(outputs: Mapping[str, Path]) -> str:
    """A digest of all weights of the best epoch and of all metrics but clocks."""
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(outputs["model.safetensors"]).items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_jsonl(outputs["metrics.jsonl"])]
    return hashlib.sha256(found.digest() + canonical_json(rows).encode()).hexdigest()[:12]


def compare(
    name: str, trees: Mapping[str, Path], arguments: argparse.Namespace, folder: Path
) -> tuple[float, bool] | None:
    """Train by both trees in turns and print a row; the ratio of times, and whether the bits are the same.

    None where the older tree has no such model.
    """
    size: Size = arguments.size
    case = name.removesuffix(AUGMENTED)
    changes: dict[str, Any] = {"augmentation": AUGMENTATION} if name.endswith(AUGMENTED) else {}
    recipe = recipe_of(case, size, arguments.epochs, changes)
    folder.mkdir()
    job = job_of(case, size, recipe, folder, arguments.batches, arguments.seconds, "cpu")
    runs = {which: Runs() for which in trees}
    try:
        train_in(trees["before"], job, Runs())  # warms the file cache for both
    except Refused as error:
        print(f"{name:22}not in the older tree: {str(error).splitlines()[0]:.90}", flush=True)
        return None
    for number in range(arguments.rounds):
        for which in sorted(trees, reverse=number % 2 == 1):
            train_in(trees[which], job, runs[which])
    then, now = runs["before"], runs["now"]
    ratio = min(then.seconds) / min(now.seconds)
    same = len(then.bits | now.bits) == 1
    print(
        f"{name:22}{min(then.seconds):10.2f}{min(now.seconds):8.2f}{ratio:8.2f}"
        f"{min(then.processor) / min(now.processor):12.2f}  "
        f"{'same' if same else f'before {sorted(then.bits)}, now {sorted(now.bits)}'}",
        flush=True,
    )
    return ratio, same


def main() -> None:
    """Print a row for every model, and what they say together."""
    parser = argparse.ArgumentParser(description="small trainings beside those of an older tree")
    parser.add_argument("--revision", default=BEFORE, help="of git (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=[*NAMES, "all"], default=DEFAULT, metavar="NAME")
    parser.add_argument("--size", choices=["toy", "mini"], default="mini")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batches", type=int, default=15, help="of an epoch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of the longest utterance")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = NAMES if "all" in arguments.models else arguments.models
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        trees = {"before": take_out(arguments.revision, tree), "now": REPOSITORY / "src"}
        print(f"seconds of a training, best of {arguments.rounds} in turns; before: {arguments.revision}")
        print(f"{'model':22}{'before':>10}{'now':>8}{'ratio':>8}{'processor':>12}  bits")
        rows = {name: compare(name, trees, arguments, tree / name) for name in names}
    found = {name: row for name, row in rows.items() if row}
    plain = [ratio for name, (ratio, _) in found.items() if not name.endswith(AUGMENTED)]
    augmented = [ratio for name, (ratio, _) in found.items() if name.endswith(AUGMENTED)]
    if plain:
        verdict("the least that a training is faster than before", min(plain), least=AIM)
    if augmented:
        verdict("the least that an augmented training is faster than before", min(augmented), least=AUGMENTED_AIM)
    verdict("trainings with other bits than before", sum(not same for _, same in found.values()), most=0)


if __name__ == "__main__":
    main()

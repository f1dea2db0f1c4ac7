"""Is every small training as fast as it was, and are its bits the same? This tree beside an older one, in one run.

    python -m bench.before                                   # beside the tree before batches were prepared ahead
    python -m bench.before --revision v1.0 --models deepspeech dnn --rounds 4

The older tree is taken out of git into a temporary folder. Both train the same models of config/mini on the same noise,
each in a process of its own, in turns; the best of several rounds counts. `wall` is the clock of a whole training,
without the import of torch: what a person waits, and on a busy machine mostly what others do. `busiest` is processor
time of the thread with the most of it: what a training waits at least where cores are free; `all` that of all threads.
Bits are those of every weight of the best epoch, and of all losses.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench._cases import CASES, OUTPUTS, Size, job_of, recipe_of
from bench._verdict import verdict
from safetensors.torch import load_file

from thaw.canonical import canonical_json
from thaw.config.strict import semantic
from thaw.files import read_jsonl
from thaw.training.begin import Job

REPOSITORY = Path(__file__).resolve().parents[1]
BEFORE = "c241d83"  # the last one whose batches were made inside the step
AUGMENTED = "-augmented"
AUGMENTATION = {"speed": [0.9, 1.0, 1.1], "dither": 1e-5, "spec_augment": {}, "cutout": {"frequency": 10}}
NAMES = (*CASES, f"deepspeech{AUGMENTED}", f"quartznet{AUGMENTED}")
DEFAULT = ("deepspeech", "quartznet", f"deepspeech{AUGMENTED}", f"quartznet{AUGMENTED}")
AUGMENTED_AIM, AIM = 1.3, 0.97  # as fast as before, but for what two measurements of one training differ by
# Trains, then tells what it took: seconds of the clock, of the busiest thread, of all threads.
CHILD = """
import json, sys, time, threading
import thaw.training.session
from thaw.cli import main
clocks = time.perf_counter, time.thread_time, time.process_time
began = [clock() for clock in clocks]
code = main(sys.argv[1:])
wall, own, whole = (clock() - start for clock, start in zip(clocks, began))
print(json.dumps([wall, max(own, whole - own), whole]))
sys.exit(code)
"""
CLOCKS = ("audio_seconds_per_second", "units_per_second", "step_seconds", "data_seconds", "parallel_seconds")


class Refused(Exception):
    """A tree says that its inputs cannot be; which is what an older one says of newer models."""


class Compared(NamedTuple):
    """How many times as fast this tree is, and whether its bits are those of the older one."""

    wall: float
    busiest: float
    same: bool


@dataclass
class Runs:
    """What the trainings of one tree took, each kind of time the best of all, and the bits that they gave."""

    times: list[float] = field(default_factory=lambda: [math.inf] * 3)  # wall clock, busiest thread, all threads
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
    command = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True)
    if done.returncode == 2:
        raise Refused(done.stderr.strip())
    if done.returncode:
        raise RuntimeError(f"{tree}: {done.stderr.strip()}")
    runs.times = list(map(min, runs.times, json.loads(done.stdout.splitlines()[-1])))
    runs.bits.add(bits_of(job.outputs))


def bits_of(outputs: Mapping[str, Path]) -> str:
    """A digest of all weights of the best epoch and of all metrics but clocks."""
    found = hashlib.sha256()
    for name, tensor in sorted(load_file(outputs["model.safetensors"]).items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_jsonl(outputs["metrics.jsonl"])]
    return hashlib.sha256(found.digest() + canonical_json(rows).encode()).hexdigest()[:12]


def compare(name: str, trees: Mapping[str, Path], arguments: argparse.Namespace, folder: Path) -> Compared | None:
    """Train by both trees in turns and print a row; None where the older tree has no such model."""
    size: Size = arguments.size
    case = name.removesuffix(AUGMENTED)
    changes: dict[str, Any] = {"augmentation": AUGMENTATION} if name.endswith(AUGMENTED) else {}
    recipe = recipe_of(case, size, arguments.epochs, changes)
    folder.mkdir()
    job = job_of(case, size, recipe, folder, arguments.batches, arguments.seconds, "cpu")
    runs = {which: Runs() for which in trees}
    for number in range(arguments.rounds):
        for which in sorted(trees, reverse=number % 2 == 1):
            try:
                train_in(trees[which], job, runs[which])
            except Refused as error:
                if which == "now":
                    raise
                print(f"{name:22}not in the older tree: {str(error).splitlines()[0]:.90}", flush=True)
                return None
    then, now = runs["before"], runs["now"]
    ratios = [a / b for a, b in zip(then.times, now.times, strict=True)]
    same = len(then.bits | now.bits) == 1
    print(
        f"{name:22}{then.times[0]:9.2f}{now.times[0]:8.2f}{''.join(f'{ratio:9.2f}' for ratio in ratios)}  "
        f"{'same' if same else f'before {sorted(then.bits)}, now {sorted(now.bits)}'}",
        flush=True,
    )
    return Compared(ratios[0], ratios[1], same)


def main() -> None:
    """Print a row for every model, and what they say together."""
    parser = argparse.ArgumentParser(description="small trainings beside those of an older tree")
    parser.add_argument("--revision", default=BEFORE, help="of git (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=[*NAMES, "all"], default=DEFAULT, metavar="NAME")
    parser.add_argument("--size", choices=["toy", "mini"], default="mini")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batches", type=int, default=12, help="of an epoch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of the longest utterance")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    names = NAMES if "all" in arguments.models else arguments.models
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        trees = {"before": take_out(arguments.revision, tree), "now": REPOSITORY / "src"}
        print(f"seconds of a training by the clock, best of {arguments.rounds} in turns; before: {arguments.revision}")
        print(f"{'model':22}{'before':>9}{'now':>8}{'wall':>9}{'busiest':>9}{'all':>9}  bits")
        rows = {name: compare(name, trees, arguments, tree / name) for name in names}
    found = {name: row for name, row in rows.items() if row}
    for kind, aim in (("", AIM), (AUGMENTED, AUGMENTED_AIM)):
        some = [row for name, row in found.items() if name.endswith(AUGMENTED) == bool(kind)]
        if some:
            what = f"the least that {'an augmented' if kind else 'a'} training is faster than before"
            verdict(f"{what}, by the clock", min(row.wall for row in some), least=aim)
            verdict(f"{what}, by its busiest thread", min(row.busiest for row in some), least=aim)
    verdict("trainings with other bits than before", sum(not row.same for row in found.values()), most=0)


if __name__ == "__main__":
    main()

"""Every bench, one after the other. Outputs go to results/bench; figures and aims stand together at the end.

    python -m bench [NAME ...] [--toy] [--out FOLDER] [--write docs/speed.md]

One that fails hides no other; the exit status says that there was one. Toy sizes show that benches run, and nothing of
how fast anything is. With `--write`, what they print takes the place of what a document says of them (`_document`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench._document import block, described, replaced
from bench._verdict import MARK, SKIPPED


@dataclass(frozen=True)
class Size:
    """What a bench is called with: for figures, and to see that it runs."""

    full: tuple[str, ...] = ()
    toy: tuple[str, ...] = ()


_SHORT = ("--rounds", "1", "--epochs", "1", "--batches", "2")
BENCHES = {
    "alignment": Size(toy=("--train", "60", "--test", "6")),
    "audio": Size(toy=("--clips", "4", "--rounds", "1")),
    "before": Size(
        toy=(
            "--size",
            "toy",
            "--rounds",
            "1",
            "--epochs",
            "1",
            "--batches",
            "2",
            "--revision",
            "HEAD",
            "--models",
            "dnn",
        )
    ),
    "augment": Size(("--hidden", "512"), ("--hidden", "8", "--batch", "2", "--seconds", "1")),
    "campaign": Size(toy=("--rounds", "1")),
    "converters": Size(toy=("--rates", "22050")),
    "coverage": Size(("--trials", "250", "--jobs", "2"), ("--trials", "2")),
    "dag": Size(toy=("250", "500")),
    "decoding": Size(toy=("--utterances", "3", "--sentences", "300")),
    "dropout": Size(toy=("--variant", "mini-S", "--batch", "2", "--rounds", "1")),
    "freezing": Size(toy=("--hidden", "8", "--batch", "2", "--rounds", "1")),
    "gpu": Size(toy=("--device", "cpu", "--size", "toy", "--precision", "bf16", *_SHORT, "--depths", "2")),
    "limits": Size(toy=("--size", "toy", *_SHORT)),
    "overhead": Size(toy=("--jobs", "2")),
    "probing": Size(toy=("--minutes", "0.05", "--variant", "mini-5x2")),
    "rank_coverage": Size(toy=("--trials", "2")),
    "release": Size(toy=("50", "100")),
    "waiting": Size(toy=("--clips", "400", "--steps", "6", "--hidden", "8", "--batch", "4", "--seconds", "1")),
    "throughput": Size(toy=("--hidden", "8", "--batch", "2", "--rounds", "1", "--seconds", "1")),
}


def run(name: str, arguments: tuple[str, ...], out: Path) -> tuple[int, list[str]]:
    """Run one bench, showing its output and keeping it; its exit status and its verdicts, or why it has none.

    What it says on stderr is shown and kept only where it fails: progress and warnings are no figures.
    """
    found = []
    command = [sys.executable, "-u", "-m", f"bench.{name}", *arguments]
    with (out / f"{name}.txt").open("w", encoding="utf-8") as kept, tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            kept.write(line)
            found += [line.removeprefix(MARK).strip()] if line.startswith((MARK, SKIPPED)) else []
        if process.wait():
            said.seek(0)
            for line in said:
                print(line, end="", flush=True)
                kept.write(line)
    return process.returncode, found


def write(document: Path, name: str, printed: str, about: str) -> None:
    """Put what a bench printed where a document has a place for it."""
    text, missing = replaced(document.read_text(encoding="utf-8"), {name: block(printed, about)})
    if missing:
        print(f"{document} has no block of {name}")
    document.write_text(text, encoding="utf-8")


def main() -> None:
    """Run them and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--toy", action="store_true", help="the smallest sizes: whether they run, not how fast")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="default: %(default)s")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="a document, whose blocks of these benches are replaced"
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHES]:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if arguments.write and not arguments.write.is_file():  # said now, and not when the first bench has run
        parser.error(f"--write {arguments.write}: no such file")
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    summary, failed = [], 0
    for name in arguments.names or BENCHES:
        print(f"== {name}", flush=True)
        began = time.monotonic()
        size = BENCHES[name].toy if arguments.toy else BENCHES[name].full
        about = described(" ".join(["python -m bench." + name, *size])) if arguments.write else ""
        status, found = run(name, size, arguments.out)
        failed += status != 0
        if arguments.write and not status and not any(line.startswith(SKIPPED) for line in found):
            write(arguments.write, name, (arguments.out / f"{name}.txt").read_text(encoding="utf-8"), about)
        said = [f"FAILED with status {status}: see {arguments.out / name}.txt"] if status else found or ["no verdict"]
        summary += [f"{name:11} {line}" for line in said]
        print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
    print("== what they found" + (", at toy size" if arguments.toy else ""))
    print("\n".join(summary))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

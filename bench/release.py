"""Time and memory of a Common Voice release of 1,000 to 300,000 rows: list, filter, plan, dry run.

    python -m bench.release [ROWS ...]

A release is generated in a temporary folder: tables of sentences, and a hard link to one of a few MP3 files per clip.
`thaw fetch` lists it; `thaw manifest` joins and filters it, from audio indices that are written directly (shards are
sparse files); `thaw plan` and `snakemake -n` read config/paper.yaml with it. "µs/row" and "kB/row" are what each row
beyond the line above costs (processor time, peak memory); the ratio compares that cost to the line above: about 1 is
linear, as many times more as there are rows is quadratic. Needs about half a GB of disk.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from bench._verdict import verdict

from thaw.audio.wav import HEADER_BYTES, SAMPLE_BYTES
from thaw.files import read_jsonl, write_jsonl, write_rejects
from thaw.randomness import rng

REPOSITORY = Path(__file__).resolve().parents[1]
SIZES = (1_000, 10_000, 100_000, 300_000)
SHARES = {"train": 0.9, "dev": 0.05, "test": 0.05}
LINKS = 30_000  # per file; ext4 allows 65,000
SHARDS = 20
AIM = 20.0  # seconds of a dry run
WORDS = ["der", "die", "das", "und", "ist", "in", "von", "mit", "für", "auf", "straße", "größe", "über", "jahr", "zeit"]
COLUMNS = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]
PER_ROW = ("fetch", "manifest")  # steps whose work is rows; the others' is jobs
REPEATS = 5  # of these, up to FEW rows, where the start of Python is most of the time
FEW = 20_000


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    wall: float  # seconds
    processor: float
    peak: float  # MB
    shown: str


def make_release(folder: Path, rows: int) -> None:
    """Tables and clips of `rows` rows."""
    clips = folder / "clips"
    clips.mkdir(parents=True)
    names = iter(_clips(clips, rows))
    draw = rng("bench release", rows)
    for split, share in SHARES.items():
        count = max(1, round(rows * share))
        lines = ["\t".join(COLUMNS)]
        for words in draw.integers(0, len(WORDS), (count, 7)):
            speaker = f"{split}-{words[0] * len(WORDS) + words[1]}"
            sentence = " ".join(WORDS[word] for word in words).capitalize()
            lines.append(f"{speaker}\t{next(names)}\t{sentence}.\t2\t0\t\t\t")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _clips(folder: Path, rows: int) -> Iterator[str]:
    """Make clip after clip; gives their names without extension, as releases before 4 have them."""
    original = Path()
    for number in range(rows + len(SHARES)):
        clip = folder / f"common_voice_de_{number:08d}.mp3"
        if number % LINKS == 0:
            original = clip
            soundfile.write(clip, np.zeros(4800, np.float32), 48000, format="MP3")
        else:
            os.link(original, clip)
        yield clip.stem


def make_workspace(root: Path, rows: int) -> None:
    """A folder in which config/paper.yaml is valid, with a German release of `rows` rows."""
    for link in ("Snakefile", "workflow", "config"):
        (root / link).symlink_to(REPOSITORY / link)
    make_release(root / "data" / "cv-corpus-2" / "de", rows)
    make_release(root / "data" / "swiss-german", 200)
    (root / "data" / "deepspeech-0.7.4-checkpoint.tar.gz").write_bytes(b"not a checkpoint")
    (root / "data" / "german-sentences-8mil.txt").write_text("ein satz\n")


def make_audio(listing: Path, folder: Path) -> list[str]:
    """Indices, rejects and empty shards as `thaw audio` leaves them; gives the arguments of `thaw manifest`."""
    ids = [row["id"] for row in read_jsonl(listing)]
    lengths = rng("bench release", "lengths").integers(40_000, 95_000, len(ids)).tolist()
    folder.mkdir()
    for shard in range(SHARDS):
        rows, offset = [], 0
        for place in range(len(ids) * shard // SHARDS, len(ids) * (shard + 1) // SHARDS):
            rows.append({"id": ids[place], "offset": offset, "samples": lengths[place], "digest": f"{place:016x}"})
            offset += lengths[place]
        write_jsonl(folder / f"{shard}.jsonl", rows)
        write_rejects(folder / f"{shard}.tsv", [])
        with (folder / f"{shard}.wav").open("wb") as wav:
            wav.truncate(HEADER_BYTES + SAMPLE_BYTES * offset)
    files = {ending: [str(folder / f"{n}.{ending}") for n in range(SHARDS)] for ending in ("jsonl", "wav", "tsv")}
    return ["--index", *files["jsonl"], "--wav", *files["wav"], "--rejects-in", *files["tsv"]]


def cost(folder: Path, module: str, *arguments: str) -> Cost:
    """Run a Python module in a process of its own."""
    shown = folder / "shown.txt"
    began = time.monotonic()
    child = os.fork()  # for the child's own peak of memory, which subprocess does not tell
    if child == 0:
        os.chdir(folder)
        out = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    _, status, used = os.wait4(child, 0)
    text = shown.read_text()
    if status:
        sys.exit(f"{module} {arguments[0]} failed:\n{text[-2000:]}")
    return Cost(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, text)


def least(costs: list[Cost]) -> Cost:
    """The one with the least processor time, since other programs only ever add to it."""
    return min(costs, key=lambda one: one.processor)


def measure(rows: int) -> dict[str, Cost]:
    """The costs of every step, by its name."""
    with tempfile.TemporaryDirectory(prefix="thaw-release-") as name:
        root = Path(name)
        make_workspace(root, rows)
        source = {"kind": "commonvoice", "path": "data/cv-corpus-2/de", "shards": SHARDS}
        repeats = REPEATS if rows <= FEW else 1
        costs = {}
        fetch = (
            *("thaw.cli", "fetch", "--source", json.dumps(source), "--language", "de-paper", "--root", "made/files"),
            *("--utterances", "made/list.jsonl", "--rejects", "made/rejects.tsv", "--record", "made/source.json"),
        )
        costs["fetch"] = least([cost(root, *fetch) for _ in range(repeats)])
        audio = make_audio(root / "made" / "list.jsonl", root / "audio")
        outputs = [part for split in SHARES for part in (f"--{split}", f"made/{split}.jsonl")]
        text = {"alphabet": " abcdefghijklmnopqrstuvwxyzäöü'", "to_space": "-_", "delete": '.,;?!:"'}
        manifest = (
            *("thaw.cli", "manifest", "--text", json.dumps(text), "--frames", '{"kind": "deepspeech"}'),
            *("--utterances", "made/list.jsonl", *audio, *outputs),
            *("--rejects", "made/all.tsv", "--counts", "made/counts.json"),
        )
        costs["manifest"] = least([cost(root, *manifest) for _ in range(repeats)])
        costs["plan"] = cost(root, "thaw.cli", "plan", "--config", "config/paper.yaml")
        dry = ("snakemake", "-n", "--quiet", "rules", "--cores", "1", "--configfile", "config/paper.yaml")
        costs["dry run"] = cost(root, *dry)
    return costs


def jobs(dry_run: str) -> int:
    """The number of jobs that a dry run lists."""
    return next(int(line.split()[1]) for line in dry_run.splitlines() if line.startswith("total "))


def main(sizes: list[int]) -> None:
    """Print one table per step."""
    measured = {rows: measure(rows) for rows in sizes}
    for step in measured[sizes[0]]:
        columns = ["rows", "wall s", "CPU s", "MB", *(["µs/row", "ratio", "kB/row"] if step in PER_ROW else [])]
        print(f"\n{step}\n" + "".join(f"{column:>10}" for column in columns))
        before, earlier = 0, 0.0
        for rows in sizes:
            now = measured[rows][step]
            cells = [f"{rows:,}", f"{now.wall:.1f}", f"{now.processor:.1f}", f"{now.peak:.0f}"]
            if step in PER_ROW and before:
                then, more = measured[before][step], rows - before
                each = 1e6 * (now.processor - then.processor) / more
                cells += [f"{each:.1f}", f"{each / earlier:.2f}" if earlier > 0 else "-"]
                cells += [f"{1000 * (now.peak - then.peak) / more:.1f}"]
                earlier = each
            before = rows
            print("".join(f"{cell:>10}" for cell in cells))
    slowest = max(sizes, key=lambda rows: measured[rows]["dry run"].wall)
    longest = measured[slowest]["dry run"]
    print(f"\ndry run of the paper config: {jobs(longest.shown)} jobs")
    verdict("seconds of a dry run of the paper config", longest.wall, most=AIM)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(SIZES))

"""Kills and damage at random, for as long as you like: the outcome is the same bytes, or a line that names the file.

Run: python -m bench.campaign [--rounds N] [--seed S] [--folder DIR] [--snakemake]

A toy study of both models (campaign.yaml) is run to its end once. Each round takes a copy, deletes what some rooms
made, begins to make it again, mostly kills that at some moment by some signal, mostly damages one file under results
(the state of trainings and the seals included), and goes on to the end. Then one of these holds:

  same     every result has the bytes of the run that nobody disturbed
  unread   so it has, and nobody read the damaged file; `thaw verify` names it
  named    it ended with a line that names the file; after doing what the line says, every result is the same

and anything else is a defect: WRONG, UNNAMED, UNCURED, TRACEBACK. A round can be repeated alone: --seed S --only N.

The commands of the workflow are run by the campaign itself, each in a process that has torch loaded: seconds a round.
With --snakemake, Snakemake runs them, and is killed itself: minutes a round where other work is going on.
Another verb joins by its outputs in OUTPUTS, its folder in ROOMS, and a study in campaign.yaml that has it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml
from bench._campaign import REPOSITORY, ROOMS, Round, Study, Verbs, steps
from bench._verdict import verdict

from thaw.config.load import merged
from thaw.files import seal_of

TOY = REPOSITORY / "tests" / "workflow" / "toy.yaml"
CONFIG = Path(__file__).with_suffix(".yaml")  # over it
GOOD = ("same", "unread", "named")


def flip(path: Path, at: random.Random) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[at.randrange(len(data))] ^= 1 << at.randrange(8)
    path.write_bytes(data)


def cut(path: Path, at: random.Random) -> None:
    """Lose the end."""
    os.truncate(path, at.randrange(max(1, path.stat().st_size)))


def empty(path: Path, at: random.Random) -> None:
    """Lose everything but the name."""
    os.truncate(path, 0)


def delete(path: Path, at: random.Random) -> None:
    """Lose the name too."""
    path.unlink()


def folder(path: Path, at: random.Random) -> None:
    """A folder in its place."""
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (flip, flip, cut, empty, delete, folder)


class Campaign:
    """Rounds against one finished study."""

    def __init__(self, whole: Study, folder: Path, seed: int) -> None:
        self.whole, self.folder, self.seed = whole, folder, seed
        self.expected = whole.results()

    def round(self, number: int) -> Round:
        """One round; the same number does the same, but for the moment that a signal finds."""
        at, this = random.Random(f"{self.seed} {number}"), Round(number)
        study = self.whole.copied(self.folder / f"round-{number}")
        self.forget(study, at, this)
        if at.random() < 0.6:
            study.kill(at, this)
        if this.outcome:
            return this
        if at.random() < 0.8:
            this.damaged = at.choice((at.random() < 0.6 and study.wanted()) or study.damageable())
            how = at.choice(DAMAGES)
            how(this.damaged, at)
            this.done.append(f"{how.__name__} {this.damaged.relative_to(study.root)}")
            this.kinds += [how.__name__, f"damaged {this.damaged.relative_to(study.root / 'results').parts[0]}"]
        self.judge(study, this)
        if this.outcome in GOOD:
            shutil.rmtree(study.root)
        return this

    def forget(self, study: Study, at: random.Random, this: Round) -> None:
        """Delete what the last rooms made; of trainings one or two, with or without their state."""
        results, count = study.root / "results", at.choice((*range(len(ROOMS) + 1), *[ROOMS.index("runs") + 1] * 5))
        for room in ROOMS[study.drawn : count]:
            inner = sorted((results / room).glob("*"))
            if room == "runs":
                for run in at.sample(inner, 2):
                    shutil.rmtree(run)
                    if at.random() < 0.7:
                        shutil.rmtree(results / "state" / run.name)
            elif not inner:
                continue
            elif room in ("decodes", "probes", "scores"):
                for one in at.sample(inner, len(inner) // 2):
                    shutil.rmtree(one)
            else:
                shutil.rmtree(results / room)
        this.done.append(f"without {', '.join(ROOMS[study.drawn : count]) or 'nothing'}")

    def judge(self, study: Study, this: Round) -> None:
        """Run to the end, and say what came of it."""
        before = fingerprint(this.damaged)
        code, this.said = study.finish()
        if "Traceback (most recent call last)" in this.said:
            this.outcome = "TRACEBACK"
        elif code:
            name = this.damaged.name.removeprefix(".").removesuffix(".sha256") if this.damaged else "?"
            this.outcome = self.cured(study, this) if name in this.said else "UNNAMED"
        else:
            wrong = [path for path, data in study.results().items() if self.expected.get(path) != data]
            wrong += sorted(self.expected.keys() - study.results().keys())
            mine = this.damaged.relative_to(study.root).as_posix() if this.damaged else ""
            untouched = bool(mine) and fingerprint(this.damaged) == before
            if not wrong:
                this.outcome = "same"
            elif wrong == [mine] and untouched and mine in verified(study):
                this.outcome = "unread"
            else:
                this.outcome = f"WRONG {' '.join(wrong[:5])}"

    def cured(self, study: Study, this: Round) -> str:
        """Do what the line says, delete, and run again."""
        assert this.damaged is not None
        result = next((part for part in this.damaged.parents if part.name == "result"), None)
        for path in [result] if result else [this.damaged, seal_of(this.damaged), sealed_by(this.damaged)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        code, said = study.finish()
        if code or study.results() != self.expected:
            this.said += said
            return "UNCURED"
        return "named"


def sealed_by(seal: Path) -> Path:
    """The file that a seal is of; for other files themselves."""
    return seal.with_name(seal.name[1:-7]) if seal.name.startswith(".") and seal.suffix == ".sha256" else seal


def fingerprint(path: Path | None) -> tuple[bool, int, int]:
    """Whether a file is the one that it was."""
    if path is None or not path.exists():
        return False, 0, 0
    found = path.stat()
    return True, found.st_ino, found.st_mtime_ns


def verified(study: Study) -> str:
    """What `thaw verify` says."""
    words = [sys.executable, "-m", "thaw.cli", "verify", "results"]
    return subprocess.run(words, cwd=study.root, env=study.environment(), capture_output=True, text=True).stderr


def rehearsed(whole: Verbs, root: Path) -> Verbs:
    """The study made again by its commands alone: how long each takes, and what it gives here."""
    shutil.rmtree(root, ignore_errors=True)
    again = whole.copied(root)
    for room in (*ROOMS[whole.drawn :], "state"):
        shutil.rmtree(root / "results" / room)
    again.rehearse()
    return again


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="this round alone")
    parser.add_argument("--folder", type=Path, help="keep the study, and what bad rounds left, here")
    parser.add_argument("--snakemake", action="store_true", help="through Snakemake, exhibits too")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="thaw-campaign-"))
    whole = Study(folder / "whole")
    if not (whole.root / "finished").exists():
        shutil.rmtree(whole.root, ignore_errors=True)
        whole.make(merged(*(yaml.safe_load(path.read_text()) for path in (TOY, CONFIG))))
        code, said = whole.finish()
        if code:
            sys.exit(said)
        (whole.root / "finished").touch()
    if not args.snakemake:
        whole = Verbs(whole.root)
        Verbs.steps = steps(whole)
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["thaw.training.session", "thaw.decoding.beam"]
        )
        whole = rehearsed(whole, folder / "rehearsed")
    campaign, counts, kinds = Campaign(whole, folder, args.seed), Counter[str](), dict[str, Counter[str]]()
    for number in range(args.rounds) if args.only is None else [args.only]:
        this = campaign.round(number)
        outcome = this.outcome.split()[0]
        counts[outcome] += 1
        for kind in set(this.kinds):
            kinds.setdefault(kind, Counter())[outcome] += 1
        print(f"{number:4d}  {this.outcome:8}  {'; '.join(this.done)}", flush=True)
        if this.outcome not in GOOD:
            (folder / f"round-{number}.txt").write_text(this.said)
    for kind, found in sorted(kinds.items()):
        print(f"{kind:24}  {told(found)}")
    print(f"{counts.total()} rounds: {told(counts)}")
    bad = counts.total() - sum(counts[name] for name in GOOD)
    if not bad and args.folder is None:
        shutil.rmtree(folder)
    verdict("rounds that ended with wrong, unnamed or uncured results", bad, most=0)
    sys.exit(f"{bad} bad rounds: see {folder}" if bad else 0)


if __name__ == "__main__":
    main()

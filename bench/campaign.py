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
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any, ClassVar

import yaml

from thaw.cli import main as main_of_thaw
from thaw.config.load import merged
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR
from thaw.files import seal_of

REPOSITORY = Path(__file__).resolve().parents[1]
TOY = REPOSITORY / "tests" / "workflow" / "toy.yaml"
CONFIG = Path(__file__).with_suffix(".yaml")  # over it
# What the rooms make, the last room first; a round deletes what the first so many made, or a part of it.
OUTPUTS = {  # the options of a verb that name what it writes; all other files of its command are read
    "audio": ("--wav", "--index", "--rejects"),
    "manifest": ("--train", "--dev", "--test", "--rejects", "--counts"),
    "lm": ("--binary", "--lexicon", "--record"),
    "part": ("--out",),
    "train": ("--model", "--optimizer", "--digest", "--record", "--metrics", "--snapshots", "--snapshots-digest"),
    "decode": ("--hypotheses", "--record"),
    "probe": ("--rows", "--counts", "--hypotheses", "--record"),
    "score": ("--scores", "--counts"),
}
ROOMS = ("freezing", "crosslingual", "scores", "decodes", "probes", "lms", "runs", "parts", "manifests")
RESULTS = (
    "model.safetensors", "optimizer.safetensors", "snapshots.safetensors", "hypotheses.jsonl", "scores.json",
    "rows.jsonl", "counts.jsonl", "train.jsonl", "dev.jsonl", "test.jsonl", "lexicon.txt", "lm.binary",
)  # fmt: skip
SHOWN = (".csv", ".md", ".tex", ".png", ".pdf")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)
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


@dataclass
class Round:
    """What was done, and what came of it."""

    number: int
    done: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)  # of the kills and the damage
    damaged: Path | None = None
    outcome: str = ""
    said: str = ""  # by Snakemake, where the outcome is bad


class Study:
    """A workspace with the workflow and a toy study."""

    drawn = 0  # how many of the ROOMS this cannot make again

    def __init__(self, root: Path) -> None:
        self.root = root

    def make(self, config: dict[str, Any]) -> None:
        """Write the config beside the workflow."""
        self.root.mkdir(parents=True)
        for name in ("Snakefile", "workflow", "config", "envs"):
            (self.root / name).symlink_to(REPOSITORY / name)
        (self.root / "toy.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))

    def copied(self, root: Path) -> Study:
        """A copy, times kept."""
        shutil.copytree(self.root, root, symlinks=True)
        return Study(root)

    def command(self, *words: str) -> list[str]:
        """A Snakemake command line."""
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "2",
            "--configfile",
            "toy.yaml",
            "--quiet",
            "rules",
            *words,
        ]

    def environment(self) -> dict[str, str]:
        """One thread a job, and the language model's tools."""
        tools = f"{REPOSITORY / 'build' / 'kenlm' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PATH": tools}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Snakemake, in a process group of its own."""
        out = (self.root / "said").open("w")
        return subprocess.Popen(
            self.command(*words), cwd=self.root, env=self.environment(), stdout=out, stderr=out, text=True,
            start_new_session=True,
        )  # fmt: skip

    def finish(self) -> tuple[int, str]:
        """Run to the end: exit status and all that was said."""
        if any((self.root / ".snakemake" / "locks").glob("*")):
            self.start("--unlock").wait()
        process = self.start("--rerun-incomplete", "--keep-going")
        code = process.wait(600)
        return code, (self.root / "said").read_text(errors="replace")

    def kill(self, at: random.Random, this: Round) -> None:
        """Run, and send a signal to the group, to Snakemake, or to one of its jobs."""
        process = self.start("--rerun-incomplete", "--keep-going")
        whom, which, moment = at.choice(("group", "snakemake", "job")), at.choice(SIGNALS), at.uniform(2, 14)
        end = time.monotonic() + moment
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.01)
        this.done.append(f"{which.name} to the {whom} after {moment:.2f} s")
        this.kinds.append(f"{which.name} to the {whom}")
        if process.poll() is None:
            jobs = [pid for pid in members(process.pid) if pid != process.pid]
            target = at.choice(jobs) if whom == "job" and jobs else process.pid
            with suppress(ProcessLookupError):  # it was done
                os.killpg(process.pid, which) if whom == "group" else os.kill(target, which)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        while members(process.pid):  # what outlived Snakemake
            time.sleep(0.05)

    def results(self) -> dict[str, bytes]:
        """Every result whose bytes are settled, by its path."""
        found = {}
        for path in sorted((self.root / "results").rglob("*")):
            inner = path.relative_to(self.root).as_posix()
            settled = path.name in RESULTS or (path.suffix in SHOWN and "/toy/" in inner)
            if path.is_file() and settled and "/state/" not in inner and "/files/" not in inner:
                found[inner] = path.read_bytes()
        return found

    def wanted(self) -> list[Path]:
        """The files that will be read next, where that is known."""
        return []

    def damageable(self) -> list[Path]:
        """Every file under results but logs, and the corpus as it was published."""
        paths = (path for path in sorted((self.root / "results").rglob("*")) if path.is_file())
        return [path for path in paths if not {"logs", "files"} & set(path.relative_to(self.root).parts)]


@dataclass(frozen=True)
class Step:
    """One command of the workflow."""

    verb: str
    words: tuple[str, ...]
    reads: frozenset[str]
    writes: tuple[str, ...]


def steps(study: Study) -> list[Step]:
    """The commands of a finished study in an order that works."""
    words = study.command("-n", "--forceall", "--printshellcmds")
    words = [word for word in words if word not in ("--quiet", "rules")]
    done = subprocess.run(words, cwd=study.root, env=study.environment(), capture_output=True, text=True, check=True)
    found = []
    for line in (done.stdout + done.stderr).splitlines():
        head, _, command = line.partition("Shell command:")
        if head or not command or "<<<" in command:
            continue
        parts = shlex.split(command)
        parts = parts[parts.index("--log") + 2 :] if "--log" in parts else [""]
        if parts[0] in OUTPUTS:
            files = {word for word in parts if word.startswith("results/") and not word.startswith("results/state")}
            writes = tuple(path for option in OUTPUTS[parts[0]] for path in values(parts, option))
            found.append(Step(parts[0], tuple(parts), frozenset(files) - set(writes), writes))
    made, ordered = {path for step in found for path in step.writes}, list[Step]()
    while found:
        here = {path for step in ordered for path in step.writes}
        step = next(one for one in found if one.reads & made <= here)
        found.remove(step)
        ordered.append(step)
    return ordered


def values(words: Sequence[str], option: str) -> Iterator[str]:
    """What a command line gives an option: nothing where it is not there."""
    for word, following in pairwise(words):
        if word == option:
            yield following
    yield from (word.removeprefix(f"{option}=") for word in words if word.startswith(f"{option}="))


class Verbs(Study):
    """A study whose commands are run one by one, in forks of a process that has torch loaded."""

    drawn = ROOMS.index("scores")  # tables and figures are Snakemake's
    steps: ClassVar[list[Step]]
    seconds: ClassVar[dict[str, float]] = {}  # of a whole step, by its verb

    def copied(self, root: Path) -> Verbs:
        return Verbs(super().copied(root).root)

    def run(self, step: Step, die: Callable[[Process], None] | None = None) -> tuple[int, str]:
        """One command, to its end or to a signal: exit status, and what it said."""
        said = self.root / "said"
        process = multiprocessing.get_context("forkserver").Process(target=call, args=(self.root, step.words, said))
        said.write_text("")
        process.start()
        if die:
            die(process)
        process.join(300)
        code = process.exitcode
        if code is None:
            process.kill()
            raise TimeoutError(f"{step.words}: {said.read_text()}")
        return code, said.read_text(errors="replace")

    def todo(self) -> Iterator[Step]:
        """The commands whose outputs are not all there, or that read what was made just now."""
        fresh: set[str] = set()
        for step in self.steps:
            if step.reads & fresh or not all((self.root / path).is_file() for path in step.writes):
                fresh.update(step.writes)
                yield step

    def damageable(self) -> list[Path]:
        return [path for path in super().damageable() if "toy" not in path.parts[-2:]]  # no tables and figures

    def wanted(self) -> list[Path]:
        paths = {self.root / path for step in self.todo() for path in step.reads}
        states = (self.root / "results" / "state").glob("*/*/*safetensors")
        return sorted(path for path in (*paths, *states) if path.is_file())

    def finish(self) -> tuple[int, str]:
        told = ""
        for step in self.todo():
            for path in step.writes:
                (self.root / path).unlink(missing_ok=True) if not (self.root / path).is_dir() else None
            for _ in range(3):  # as the rule tries
                code, said = self.run(step)
                told += said
                if code != EXIT_UNFINISHED:
                    break
            if code:
                return code, told
        return 0, told

    def kill(self, at: random.Random, this: Round) -> None:
        """Run what is to do, and kill some of it, again and again."""
        for step in list(self.todo())[: 1 + at.randrange(6)]:
            for _ in range(at.randrange(3)):
                which, whole = at.choice(SIGNALS), at.random() < 0.5
                moment = at.uniform(0, 1.2 * self.seconds.get(step.verb, 2.0))

                def die(process: Process, which: int = which, whole: bool = whole, moment: float = moment) -> None:
                    process.join(moment)
                    if process.exitcode is None and process.pid:
                        with suppress(ProcessLookupError, PermissionError):
                            os.killpg(process.pid, which) if whole else os.kill(process.pid, which)

                code, said = self.run(step, die)
                this.done.append(
                    f"{which.name} to {'group of ' if whole else ''}{step.verb} after {moment:.2f} s: {code}"
                )
                if code == 0:
                    break
                this.kinds += [f"{which.name} to {'a group' if whole else 'a process'}", f"killed {step.verb}"]
                # 2: a helper of the verb (lmplz) died of the signal, and the verb says so.
                if code not in (EXIT_UNFINISHED, -which, 130, EXIT_USER_ERROR) or "Traceback" in said:
                    this.outcome, this.said = f"TRACEBACK {code}", said
                    return
            else:
                code, _ = self.run(step)
            if code:
                return


def call(root: Path, words: Sequence[str], said: Path) -> None:
    """The command line in a session of its own, in the study's folder."""
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the campaign itself ignores (nohup, the background)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(root)
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    with said.open("a") as stream:
        os.dup2(stream.fileno(), 2)
        sys.stderr = stream
        try:
            sys.exit(main_of_thaw(list(words)))
        except KeyboardInterrupt:  # before the command line was read, as in any Python that has just started
            sys.exit(130)


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
            elif room in ("decodes", "scores"):
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


def members(group: int) -> list[int]:
    """The living processes of a session's group."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, owner, stat in rows if int(owner) == group and not stat.startswith("Z")]


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
    for step in again.todo():
        began = time.monotonic()
        code, said = again.run(step)
        if code:
            sys.exit(said)
        Verbs.seconds[step.verb] = time.monotonic() - began
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
    sys.exit(f"{bad} bad rounds: see {folder}" if bad else 0)


if __name__ == "__main__":
    main()

"""The study of the campaign (bench/campaign.py): run by Snakemake, or command by command; killed, and gone on with."""

from __future__ import annotations

import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any, ClassVar

import yaml

from thaw.cli import main as main_of_thaw
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR

REPOSITORY = Path(__file__).resolve().parents[1]
OUTPUTS = {  # the options of a verb that name what it writes; all other files of its command are read
    "audio": ("--wav", "--index", "--rejects"),
    "manifest": ("--train", "--dev", "--test", "--rejects", "--counts"),
    "lm": ("--binary", "--lexicon", "--record"),
    "part": ("--out",),
    "train": ("--model", "--optimizer", "--digest", "--record", "--metrics", "--snapshots", "--snapshots-digest"),
    "emit": ("--record",),
    "search": ("--hypotheses", "--record"),
    "decode": ("--hypotheses", "--record"),
    "probe": ("--rows", "--counts", "--hypotheses", "--record"),
    "score": ("--scores", "--counts"),
}
# What the rooms make, the last room first.
ROOMS = ("freezing", "crosslingual", "scores", "decodes", "emissions", "probes", "lms", "runs", "parts", "manifests")
RESULTS = (
    "model.safetensors", "optimizer.safetensors", "snapshots.safetensors", "hypotheses.jsonl", "scores.json",
    "rows.jsonl", "counts.jsonl", "train.jsonl", "dev.jsonl", "test.jsonl", "lexicon.txt", "lm.binary",
)  # fmt: skip
SHOWN = (".csv", ".md", ".tex", ".png", ".pdf")
SIGNALS = (
    *(signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGPIPE, signal.SIGQUIT, signal.SIGUSR1, signal.SIGXCPU),  # a reader that went, Ctrl-\, batch systems
)


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
    seconds: ClassVar[dict[str, float]] = {}  # of a whole step, by its verb; the least that was seen

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

    def rehearse(self) -> None:
        """Run to the end undisturbed, and note how long each verb takes."""
        for step in self.todo():
            began = time.monotonic()
            code, said = self.run(step)
            if code:
                raise RuntimeError(said)
            seconds = time.monotonic() - began
            self.seconds[step.verb] = min(seconds, self.seconds.get(step.verb, seconds))

    def kill(self, at: random.Random, this: Round) -> None:
        """Run what is to do as far as some steps, and kill each of those, again and again."""
        todo, chosen = list(self.todo()), list[Step]()
        verbs = sorted({step.verb for step in todo})
        for _ in range(at.randrange(1, 6) if todo else 0):  # as many probes and trainings as scores
            verb = at.choice(verbs)
            chosen.append(at.choice([step for step in todo if step.verb == verb]))
        last = max((todo.index(step) for step in chosen), default=-1)
        for step in todo[: last + 1]:
            tries = at.randrange(1, 4) if step in chosen else 0
            if not self.survives(step, tries, at, this):
                return

    def survives(self, step: Step, tries: int, at: random.Random, this: Round) -> bool:
        """Run a step after so many tries that are killed; false where it then failed, or a kill made it fail badly."""
        for _ in range(tries):
            which, whole = at.choice(SIGNALS), at.random() < 0.5
            moment = at.uniform(0, self.seconds.get(step.verb, 2.0))

            def die(process: Process, which: int = which, whole: bool = whole, moment: float = moment) -> None:
                while not started(process):
                    time.sleep(0.005)
                process.join(moment)
                if process.exitcode is None and process.pid:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process.pid, which) if whole else os.kill(process.pid, which)

            code, said = self.run(step, die)
            this.done.append(f"{which.name} to {'group of ' if whole else ''}{step.verb} after {moment:.2f} s: {code}")
            if code == 0:
                return True
            this.kinds += [f"{which.name} to {'a group' if whole else 'a process'}", f"killed {step.verb}"]
            # 2: a helper of the verb (lmplz) died of the signal, and the verb says so.
            if code not in (EXIT_UNFINISHED, -which, 130, EXIT_USER_ERROR) or "Traceback" in said:
                this.outcome, this.said = f"TRACEBACK {code}", said
                return False
        return self.run(step)[0] == 0


def call(root: Path, words: Sequence[str], said: Path) -> None:
    """The command line in the study's folder, and from its start in a session of its own."""
    with suppress(KeyboardInterrupt):  # before the command line is read, as in any Python that has just started
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the campaign itself ignores (nohup, the background)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(root)
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        with said.open("a") as stream:
            os.dup2(stream.fileno(), 2)
            sys.stderr = stream
            os.setsid()
            sys.exit(main_of_thaw(list(words)))
    sys.exit(130)


def started(process: Process) -> bool:
    """Whether a signal meets the command line; until then it would meet the campaign, which tests nothing."""
    with suppress(ProcessLookupError):  # it is over
        return process.exitcode is not None or os.getpgid(process.pid or 0) == process.pid
    return True


def members(group: int) -> list[int]:
    """The living processes of a session's group."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, owner, stat in rows if int(owner) == group and not stat.startswith("Z")]

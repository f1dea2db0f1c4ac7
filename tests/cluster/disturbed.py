"""A study whose one slow training is disturbed, and what must hold when it got to its end all the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tests.cluster.cluster import Cluster, processes

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("faults.yaml")
# Only speed: how soon Snakemake first asks SLURM (1 s, not 40). Everything else is as a person types it.
FASTER = ("--slurm-init-seconds-before-status-checks", "1")
RUN = "german-deepspeech-slow-s1-*"  # the slow training's id
DECODE = "german-deepspeech-slow-s1-greedy-*"
PATIENCE = 300.0  # seconds for anything to happen; a whole workflow may take twice as long


class Study:
    """A workspace in which `snakemake --profile slurm` is typed."""

    def __init__(self, root: Path, cluster: Cluster) -> None:
        self.root = root
        self.cluster = cluster
        self.watch: Watch | None = None
        self.snakemake: subprocess.Popen[bytes] | None = None

    def make_folder(self) -> None:
        """What a clone has."""
        for name in ("Snakefile", "workflow", "config", "envs", "slurm"):
            (self.root / name).symlink_to(REPOSITORY / name)
        shutil.copy(CONFIG, self.root)

    def copied_to(self, root: Path) -> Study:
        """This study in another folder, without the slow training, its state and what was made from it."""
        shutil.copytree(self.root, root, symlinks=True, dirs_exist_ok=True)
        results = root / "results"
        for pattern in (f"runs/{RUN}", f"state/{RUN}", f"decodes/{DECODE}", f"scores/{DECODE}", "freezing"):
            for folder in results.glob(pattern):
                shutil.rmtree(folder)
        (results / "report-faults.html").unlink()
        return Study(root, self.cluster)

    def clean_up(self) -> None:
        """Leave no job, no process and no files."""
        if self.snakemake and self.snakemake.poll() is None:
            self.kill()
        if self.watch:
            self.watch.end()
        self.cluster.attempt("scancel", "--user=root")
        # What a dead node or a failed test left at work here.
        for pid in processes(lambda folder: (folder / "cwd").resolve().is_relative_to(self.root.resolve())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)

    # --- running ------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        tools = [Path(sys.executable).parent, REPOSITORY / "build" / "kenlm" / "bin"]
        path = os.pathsep.join([*map(str, tools), self.cluster.environment["PATH"]])
        return {**self.cluster.environment, "PATH": path, "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Type the command; its output goes to snakemake.log."""
        with (self.root / "snakemake.log").open("ab") as log:
            self.snakemake = subprocess.Popen(
                ["snakemake", "--profile", "slurm", "--configfile", CONFIG.name, *FASTER, *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.snakemake

    def kill(self) -> None:
        """SIGKILL Snakemake and all its children; jobs on the cluster are none of them."""
        assert self.snakemake
        os.killpg(self.snakemake.pid, signal.SIGKILL)
        self.snakemake.wait()

    def finish(self, snakemake: subprocess.Popen[bytes]) -> None:
        """Wait until Snakemake has ended, and well."""
        try:
            code = snakemake.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
            self.kill()
        assert code == 0, f"snakemake: {'no end' if code is None else code}\n{self.log()}{self.cluster.queue()}"

    def log(self) -> str:
        return (self.root / "snakemake.log").read_text(errors="replace")

    # --- the slow training --------------------------------------------------------------------

    def held_at(self, step: int, *arguments: str) -> str:
        """Start the workflow, hold the slow training once it is past `step`, and give its SLURM job's id."""
        self.watch = Watch(self)
        self.start(*arguments)
        return self.hold_after(step)

    def hold_after(self, step: int) -> str:
        """Let the training stand still once a start of it went past `step`; gives its job.

        A held process takes SLURM's signals all the same: SIGCONT comes before SIGTERM. So what is done to it next
        finds it at work, however fast the machine is.
        """
        self.wait(lambda: self.step() > step and len(self.jobs()) == 1 and self.trainers(), f"step {step}")
        self.send(signal.SIGSTOP)
        return self.jobs()[0]

    def jobs(self, state: str = "RUNNING") -> list[str]:
        """The slow training's jobs."""
        return self.cluster.jobs("rule_train_wildcards_" + RUN.rstrip("*"), state)

    def wait(self, ready: Callable[[], object], what: str) -> None:
        """Wait for something that must come, as long as Snakemake runs."""
        end = time.monotonic() + PATIENCE
        while not ready():
            ended = self.snakemake is not None and self.snakemake.poll() is not None
            if ended or time.monotonic() > end:
                raise AssertionError(f"never: {what}\n{self.log()}{self.cluster.queue()}")
            time.sleep(0.1)

    def state(self) -> Path | None:
        """The training's state folder."""
        return next((self.root / "results" / "state").glob(f"{RUN}/*"), None)

    def step(self) -> int:
        """How far the training has come."""
        state = self.state()
        return int(read(state / "progress.json").get("step", 0)) if state else 0

    def saved_step(self) -> int:
        """The optimiser step of the newest checkpoint; there must be one."""
        state, steps = self.state(), [0]
        for path in state.glob("checkpoint-*") if state else []:
            with suppress(OSError, SafetensorError), safe_open(path, framework="pt") as file:
                steps.append(json.loads(file.metadata()["thaw"])["progress"]["step"])
        assert max(steps) > 0
        return max(steps)

    def trainers(self) -> list[int]:
        """Process ids of the slow training (waiting ones included)."""
        state = f"results/state/{RUN.rstrip('*')}"

        def mine(folder: Path) -> bool:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (folder / "cwd").resolve() == self.root.resolve()
            return (
                here and "python" in words[0] and any(word.removeprefix("--state=").startswith(state) for word in words)
            )

        return processes(mine)

    def trainer_age(self) -> float:
        """Seconds since the oldest process of the slow training began: a little before its own clock starts."""
        ticks = os.sysconf("SC_CLK_TCK")
        starts = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) for pid in self.trainers()]
        return time.clock_gettime(time.CLOCK_BOOTTIME) - min(starts) / ticks

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the training."""
        for pid in self.trainers():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def record(self) -> dict[str, Any]:
        """The finished slow training's record."""
        return read(next((self.root / "results" / "runs").glob(f"{RUN}/run.json")))

    def training_log(self) -> str:
        """What the last start of the training said so far."""
        paths = (self.root / "results" / "logs" / "train").glob(f"{RUN}.log")
        return "".join(path.read_text(errors="replace") for path in paths)

    def job_log(self, job: str) -> str:
        """What a job that failed said."""
        paths = (self.root / ".snakemake" / "slurm_logs").rglob(f"{job}.log")
        return "".join(path.read_text(errors="replace") for path in paths)

    def resumed_at(self) -> int:
        """The step that the last start of the training went on from."""
        found = re.search(r"resumed at epoch \d+, step (\d+)", self.training_log())
        return int(found[1]) if found else 0

    # --- what must hold -----------------------------------------------------------------------

    def shown(self) -> dict[str, bytes]:
        """Every table and figure. The page beside them says how long each training took, and how often it began."""
        folder = self.root / "results" / "freezing" / "faults"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if "report.html" not in path.name}

    def must_equal(self, calm: Study, saved_step: int, starts: int) -> None:
        """Once Snakemake has ended: the same exhibits, one trainer at a time, nothing lost that was saved.

        `saved_step` is that of the newest checkpoint just before the disturbance, `starts` how often the training
        began.
        """
        assert self.snakemake
        assert self.watch
        self.finish(self.snakemake)
        self.watch.end()
        shown, wanted = self.shown(), calm.shown()
        assert sorted(shown) == sorted(wanted)
        assert [name for name in wanted if shown[name] != wanted[name]] == []
        assert self.watch.complaints() == []
        assert self.record()["cost"]["attempts"] == starts
        assert self.resumed_at() >= saved_step


class Watch:
    """Looks into the state folder ten times a second: who holds it, and how far he is."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.seen: list[tuple[int, int]] = []  # (process, step), when either changes; step 0: it wrote none yet
        self.inherited: object = None  # what the progress file said when its holder took over: another one's words
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.ended.wait(0.1):
            state = self.study.state()
            if state is None:
                continue
            holder, progress = read(state / "holder.json").get("pid"), read(state / "progress.json")
            if not holder:
                continue
            if not self.seen or self.seen[-1][0] != holder:
                self.inherited = progress.get("time")
                self.seen.append((holder, 0))
            elif progress.get("time") != self.inherited and self.seen[-1][1] != progress["step"]:
                self.seen.append((holder, progress["step"]))

    def end(self) -> None:
        self.ended.set()
        self.thread.join()

    def holders(self) -> list[int]:
        """The processes that held the state, each as often as it got hold of it."""
        return [pid for pid, step in self.seen if step == 0]

    def complaints(self) -> list[str]:
        """Signs of two trainers at once: one comes back after another, or one's steps go back."""
        holders = self.holders()
        found = [f"process {pid} came back: {holders}" for pid in set(holders) if holders.count(pid) > 1]
        for (pid, step), (next_pid, next_step) in zip(self.seen, self.seen[1:], strict=False):
            if pid == next_pid and next_step < step:
                found.append(f"process {pid} went back from step {step} to {next_step}")
        return found if any(step for _, step in self.seen) else ["nobody was seen to train"]


def read(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty while there is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}

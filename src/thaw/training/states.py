"""What the state folders of trainings say to those who only look: `thaw runs` and `thaw gc`. No torch is imported."""

from __future__ import annotations

import fcntl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thaw.files import json_object
from thaw.training.lock import this_host

Name = Literal["begun", "running", "stopped", "failed", "done"]

# A trainer on another machine rewrites its heartbeat every ten seconds; the rest is for network disks that show files
# late, and for clocks that differ.
SILENT_SECONDS = 600.0


@dataclass(frozen=True)
class State:
    """One state folder. `epoch` is the one under way, 1-based; `seconds` are of all starts up to the last report."""

    folder: Path
    name: Name
    note: str  # why it failed or stopped; empty where there is nothing to say
    epoch: int | None
    step: int | None
    steps: int | None
    best: dict[str, float] | None  # the best epoch so far: {epoch, dev_<what selects>}
    seconds: float | None
    attempts: int | None
    changed: float  # when something was last written here, seconds since 1970


def states(root: Path, run_id: str) -> list[State]:
    """Every state of a run (one for each content of its input files), the latest first."""
    folders = [path for path in (root / run_id).glob("*") if path.is_dir()]
    return sorted((read(folder) for folder in folders), key=lambda state: state.changed, reverse=True)


def read(folder: Path) -> State:
    """What one state folder says."""
    progress = json_object(folder / "progress.json")
    marker = folder / "FAILED_PERMANENT"
    name: Name = "begun"
    note = ""
    if (folder / "result").exists():
        name = "done"
    elif held(folder):
        name = "running"
    elif marker.exists():
        name, note = "failed", _text(marker)
    elif progress:
        name, note = _ended(str(progress.get("state")))
    finished = json_object(folder / "result" / "run.json").get("cost")
    attempts = _number(json_object(folder / "attempts.json"), "total")
    if attempts is None and isinstance(finished, dict):
        attempts = _number(finished, "attempts")
    return State(
        folder=folder,
        name=name,
        note=note,
        epoch=_number(progress, "epoch"),
        step=_number(progress, "step"),
        steps=_number(progress, "steps"),
        best=best_of(progress),
        seconds=_number(progress, "seconds"),
        attempts=attempts,
        changed=max((_changed(path) for path in folder.iterdir()), default=0.0),
    )


def held(folder: Path) -> bool:
    """Whether a living trainer works on this state, on this machine or another one."""
    holder = json_object(folder / "holder.json")
    if not holder:
        return False  # a trainer writes it before anything else, and removes it when it leaves in order
    if holder.get("host") == this_host():
        return _locked(folder / "lock")
    return time.time() - _changed(folder / "holder.json") < SILENT_SECONDS


def _ended(state: str) -> tuple[Name, str]:
    """How a training that nobody holds came to its end, from the last thing that it reported."""
    if state == "stopped":
        return "stopped", "by its time limit or a signal"
    if state == "failed":
        return "failed", "by an error; its log says which"
    return "stopped", "killed"


def _locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # gone, or not a file
    return False


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a trainer at work replaces its files
        return 0.0


def _number(facts: dict[str, Any], key: str) -> Any:
    """A number of a file that anything may have happened to; None for anything else."""
    value = facts.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def best_of(facts: dict[str, Any]) -> dict[str, float] | None:
    """The best epoch that a file tells of; None where it tells of none."""
    best = facts.get("best")
    if not isinstance(best, dict) or set(best) < {"epoch"} or len(best) != 2:
        return None
    return best if all(_number(best, key) is not None for key in best) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"{path.name} cannot be read: {error.strerror}"

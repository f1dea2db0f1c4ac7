"""One trainer per state folder: a kernel lock, and a heartbeat where a network disk keeps such locks on one machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from thaw.errors import UserError
from thaw.files import json_object, remove, write_json

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 45.0  # a heartbeat of another machine that stands still for so long is a dead trainer's


@contextmanager
def exclusive(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold `folder` for this process until the block ends.

    Another trainer of this machine is waited for up to `wait` seconds: it may have outlived the Snakemake that started
    it, and its work is this one's. Raises UserError where it holds on, saying which and since when. After a trainer on
    another machine died without a farewell, this waits up to STALE_SECONDS to be sure of it. UserError too where the
    folder cannot be made or written.
    """
    holder = folder / "holder.json"
    with _opened(folder) as lock:
        _take(lock, folder, holder, wait)
        _wait_for_silence(folder, holder)
        stop = threading.Event()
        thread = threading.Thread(target=_beat, args=(holder, _identity(), stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            remove(holder)


def _opened(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / "lock").open("a")
    except IsADirectoryError as error:
        raise UserError(f"{folder / 'lock'}: a folder has the name of the lock's file; delete it") from error
    except OSError as error:
        raise UserError(
            f"cannot keep a training's state in {folder}: {error.strerror}; choose another folder (--state, or "
            "execution.state in a config)"
        ) from error


def _take(lock: IO[str], folder: Path, holder: Path, wait: float) -> None:
    deadline = time.monotonic() + wait
    said = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise UserError(_taken(folder, json_object(holder))) from error
        if not said:
            print(f"waiting: {_taken(folder, json_object(holder))}", file=sys.stderr, flush=True)
            said = True
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))


def _beat(holder: Path, identity: dict[str, Any], stop: threading.Event) -> None:
    beat = 0
    while holder.parent.is_dir():
        with suppress(UserError):  # a full disk is reported by the next checkpoint; the kernel lock holds all the same
            write_json(holder, {**identity, "beat": beat}, sealed=False)
        beat += 1
        if stop.wait(HEARTBEAT_SECONDS):
            return


def _wait_for_silence(folder: Path, holder: Path) -> None:
    """Return at once unless a trainer on another machine may be alive; then watch its heartbeat, not its clock."""
    first = json_object(holder)
    if not first or first.get("host") == this_host():
        return  # the kernel lock is ours, so whoever wrote this on this machine is gone
    deadline = time.monotonic() + STALE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, STALE_SECONDS / 10))
        now = json_object(holder)
        if not now:
            return  # it left in order just now
        if now != first:
            raise UserError(_taken(folder, now))


def _identity() -> dict[str, Any]:
    job = os.environ.get("SLURM_JOB_ID", "")
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"job": job, "pid": os.getpid(), "host": this_host(), "since": since}


def this_host() -> str:
    """Tells machines apart without naming them."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]


def _taken(folder: Path, who: dict[str, Any]) -> str:
    job = f"job {who['job']}, " if who.get("job") else ""
    place = "this machine" if who.get("host") == this_host() else "another machine"
    name = f"{job}process {who.get('pid', '?')} on {place}, since {who.get('since', '?')}"
    return f"{folder}: another trainer is at work here ({name}); wait for it, or end it first"

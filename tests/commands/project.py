"""A folder with a config, and fake results under the names that its plan gives them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.planning.test_plan import CONFIG
from thaw.config.load import merged, validate
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, resolve
from thaw.training.lock import exclusive


def config_file(path: Path, over: dict[str, Any] | None = None) -> Path:
    """The golden config, with parts replaced, as a file."""
    path.write_text(yaml.safe_dump(merged(CONFIG, over or {})))
    return path


def plan(over: dict[str, Any] | None = None) -> Plan:
    return resolve(validate(merged(CONFIG, over or {})))


def run_of(of: Plan, treatment: str) -> Run:
    return next(run for run in of.runs.values() if run.treatment == treatment)


def put(path: str | Path, value: Any = "x" * 100) -> Path:
    """A file with its folder; JSON where the value is no text."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def finished(run: Run) -> None:
    """The record of a run that is done."""
    put(
        f"results/runs/{run.id}/run.json",
        {
            "recipe": run.recipe.model_dump(mode="json"),
            "epochs": 3,
            "steps": 9,
            "best": {"epoch": 2, "dev_loss": 41.5},
            "cost": {"seconds": 90.0, "audio_hours": 0.1, "attempts": 2},
        },
    )


def begun(run: Run, state: str, key: str = "0123456789") -> Path:
    """The state folder of a run that is not done; `state` is what its trainer said last."""
    folder = Path("results/state") / run.id / key
    put(folder / "recipe.json", json.loads(run.recipe_json))
    put(folder / "attempts.json", {"total": 3, "position": [1, 2], "idle": 1})
    put(
        folder / "progress.json",
        {
            "epoch": 2,
            "epochs": 3,
            "step": 5,
            "steps": 9,
            "best": {"epoch": 1, "dev_fer": 0.6025},
            "seconds": 30.0,
            "state": state,
        },
    )
    return folder


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """A living trainer on a state folder, its first heartbeat written."""
    with exclusive(folder):
        while not (folder / "holder.json").exists():
            time.sleep(0.01)
        yield

"""The whole workflow at toy scale: it ends in a report, twice the same, and survives being killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.e2e

MODELS = "runs/*/model.safetensors"


def test_it_ends_in_tables_figures_and_a_report(finished: Workspace) -> None:
    shown = finished.shown()
    assert {"table1.csv", "table2.md", "table2.tex", "figure2.png", "figure2.pdf"} <= set(shown)
    rows = list(csv.DictReader(shown["table2.csv"].decode().splitlines()))
    treatments = {row["treatment"] for row in rows}
    assert {"scratch", "frozen-0", "frozen-2"} <= treatments
    report = (finished.root / "results" / "report-toy.html").read_text()
    for run in (finished.root / "results" / "runs").iterdir():
        assert run.name in report


def test_every_run_records_that_frozen_tensors_stayed(finished: Workspace) -> None:
    records = {
        path.parent.name: json.loads(path.read_text()) for path in (finished.root / "results/runs").glob("*/run.json")
    }
    assert len(records) == 4
    frozen = {name: set(record["checks"]["end"]["frozen"]) for name, record in records.items()}
    assert {name.rsplit("-", 1)[0]: layers for name, layers in frozen.items() if layers} == {
        "german-deepspeech-frozen-2-s1": {"layer_1", "layer_2"}
    }
    weights = {path.parent.name.rsplit("-s1-")[0]: load_file(path) for path in (finished.root / "results").glob(MODELS)}
    source, trained = weights["english-deepspeech-source"], weights["german-deepspeech-frozen-2"]
    kept = {name.split(".")[1] for name in trained if np.array_equal(trained[name], source[name])}
    assert kept == {"layer_1", "layer_2"}
    free = weights["german-deepspeech-frozen-0"]
    assert not [name for name in free if name in source and np.array_equal(free[name], source[name])]


def test_a_second_run_does_nothing(finished: Workspace) -> None:
    done = finished.run()
    assert "Nothing to be done" in done.stdout + done.stderr


def test_from_scratch_again_gives_the_same_bytes(finished: Workspace, workspace: Workspace) -> None:
    workspace.run()
    assert workspace.shown() == finished.shown()


def reached(path: Path, pattern: str, seconds: float) -> bool:
    """Whether a file that fits appears within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if any(path.glob(pattern)):
            return True
        time.sleep(0.02)
    return False


def test_killed_anywhere_it_goes_on_to_the_same_bytes(finished: Workspace, workspace: Workspace) -> None:
    for pattern in ("corpora/*/files/clips", "state/*/*", "runs/*/model.safetensors", "decodes/*"):
        started = subprocess.Popen(
            workspace.command("--rerun-incomplete"),
            cwd=workspace.root,
            env=workspace.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert reached(workspace.root / "results", pattern, 120), f"never came to {pattern}"
        finally:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        workspace.run("--unlock")
    workspace.run("--rerun-incomplete")
    assert workspace.shown() == finished.shown()


def test_a_config_mistake_is_one_line_before_anything_runs(workspace: Workspace) -> None:
    workspace.edit(treatments={"frozen-2": {"freeze": ["layer1"]}})
    done = workspace.attempt()
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "layer1" in line]
    assert len(said) == 1
    assert "treatments.frozen-2.freeze" in said[0]
    assert "layer_1" in said[0]
    assert not (workspace.root / "results").exists()

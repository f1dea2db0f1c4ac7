"""`thaw runs`: what the files of trainings say of each run."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from tests.commands.project import at_work, begun, config_file, finished, plan, put, run_of
from thaw.commands import runs
from thaw.training import lock, states

PLAN = plan()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return config_file(tmp_path / "config.yaml")


def known(treatment: str) -> dict[str, object]:
    return runs.row(run_of(PLAN, treatment), Path("results/state"))


def test_to_do() -> None:
    row = known("scratch")
    assert row["state"] == "to do"
    assert row["epoch"] is None
    assert row["epochs"] == 3


def test_done_with_its_cost() -> None:
    finished(run_of(PLAN, "scratch"))
    row = known("scratch")
    assert (row["state"], row["epoch"], row["seconds"], row["attempts"]) == ("done", 3, 90.0, 2)
    assert row["best"] == {"epoch": 2, "dev_loss": 41.5}


def test_stopped_by_itself_and_killed() -> None:
    begun(run_of(PLAN, "scratch"), "stopped")
    begun(run_of(PLAN, "frozen-0"), "running")
    row = known("scratch")
    assert (row["state"], row["note"]) == ("stopped", "by its time limit or a signal")
    assert (row["epoch"], row["step"], row["seconds"], row["attempts"]) == (2, 5, 30.0, 3)
    assert runs.where(row) == "at epoch 2 of 3, step 5 of 9"
    killed = known("frozen-0")
    assert (killed["state"], killed["note"]) == ("stopped", "killed")


def test_running_while_a_trainer_holds_it() -> None:
    folder = begun(run_of(PLAN, "scratch"), "running")
    with at_work(folder):
        assert known("scratch")["state"] == "running"
    assert known("scratch")["state"] == "stopped"


def test_a_holder_that_was_killed_holds_nothing() -> None:
    folder = begun(run_of(PLAN, "scratch"), "running")
    with at_work(folder):
        holder = (folder / "holder.json").read_text()
    put(folder / "holder.json", holder)
    assert not states.held(folder)


def test_a_trainer_on_another_machine_is_believed_while_its_heart_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(run_of(PLAN, "scratch"), "running")
    put(folder / "holder.json", {"host": "another", "pid": 1, "beat": 7})
    assert states.held(folder)
    monkeypatch.setattr(states, "SILENT_SECONDS", -1.0)
    assert not states.held(folder)


def test_failed_with_the_reason() -> None:
    folder = begun(run_of(PLAN, "scratch"), "failed")
    assert known("scratch")["note"] == "by an error; its log says which"
    put(folder / "FAILED_PERMANENT", "the loss is not a number since step 5\n")
    row = known("scratch")
    assert (row["state"], row["note"]) == ("failed", "the loss is not a number since step 5")


def test_the_latest_of_several_states_counts() -> None:
    old = begun(run_of(PLAN, "scratch"), "failed", "aaaaaaaaaa")
    for path in old.iterdir():
        os.utime(path, (1.0, 1.0))
    begun(run_of(PLAN, "scratch"), "stopped", "bbbbbbbbbb")
    assert known("scratch")["state"] == "stopped"


def test_done_but_its_files_deleted() -> None:
    folder = begun(run_of(PLAN, "scratch"), "finished")
    put(folder / "result" / "run.json", {"cost": {"attempts": 4}})
    (folder / "attempts.json").unlink()
    row = known("scratch")
    assert (row["state"], row["attempts"]) == ("done", 4)
    assert "copied back" in str(row["note"])


def test_the_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(run_of(PLAN, "scratch"))
    begun(run_of(PLAN, "frozen-2"), "stopped")
    runs.run(argparse.Namespace(config=[here], json=False))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "state", "epochs", "step", "best", "dev", "minutes", "starts"]
    line = next(line for line in lines if line.startswith(run_of(PLAN, "scratch").id))
    assert line.split()[1:] == ["done", "3/3", "9/9", "loss", "41.50", "1.5", "2"]
    stopped = run_of(PLAN, "frozen-2").id
    assert next(line for line in lines if line.startswith(f"{stopped} ")).split()[4:6] == ["FER", "60.2"]
    assert f"{stopped}: stopped at epoch 2 of 3, step 5 of 9: by its time limit or a signal" in lines
    assert lines[-1] == "4 runs: 2 to do, 1 done, 1 stopped; 2.0 minutes of training so far"


def test_json_lines_hold_the_recipes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs.run(argparse.Namespace(config=[here], json=True))
    rows = {row["run"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    frozen = run_of(PLAN, "frozen-2")
    assert set(rows) == set(PLAN.runs)
    assert rows[frozen.id]["recipe"]["freeze"] == ["layer_1", "layer_2"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"epochs": 3, "steps": "x"}', "\xff", None])
def test_a_damaged_record_is_named_and_the_others_are_shown(
    text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(run_of(PLAN, "frozen-0"))
    run = run_of(PLAN, "scratch")
    record = Path("results/runs", run.id, "run.json")
    if text is None:
        record.mkdir(parents=True)
    else:
        put(record, "").write_bytes(text.encode("latin-1"))
    runs.run(argparse.Namespace(config=[Path("config.yaml")], json=False))
    out = capsys.readouterr().out
    assert "1 damaged" in out
    assert "1 done" in out
    assert f"{run.id}: damaged: results/runs/{run.id}/run.json: " in out


def test_a_state_with_damaged_files_is_shown() -> None:
    folder = begun(run_of(PLAN, "scratch"), "stopped")
    for name, text in (("progress.json", '{"epoch": "x", "state": 7}'), ("attempts.json", "[")):
        put(folder / name, text)
    for name in ("FAILED_PERMANENT", "lock", "result"):
        (folder / name).mkdir()
    put(folder / "holder.json", {"host": lock.this_host()})
    put(folder / "result" / "run.json", {"cost": 1})
    (line,) = runs.table([known("scratch")])[1:2]
    assert "done" in line
    (folder / "result" / "run.json").unlink()
    (folder / "result").rmdir()
    assert "FAILED_PERMANENT cannot be read" in str(known("scratch")["note"])

"""`thaw train` from outside: the same bytes whatever interrupts it, and clear words where it cannot go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from tests.training.conftest import ALPHABET, Bench, make_bench, same_but_for_time
from thaw.canonical import file_sha256
from thaw.commands.train import budget
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR
from thaw.files import read_json, read_jsonl, seal_of
from thaw.models import load_model
from thaw.randomness import rng

EVERY_STEP = ("--checkpoint-seconds", "1e-9")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench whose training has run once without a break, into the folder "whole" with a state of its own."""
    bench = make_bench(tmp_path_factory.mktemp("reference"))
    code, err = bench.run("whole", state="state-whole")
    assert code == 0, err
    return bench


@pytest.fixture
def whole(reference: Bench, tmp_path: Path) -> Bench:
    """A copy of the reference, to be interrupted and edited."""
    shutil.copytree(reference.folder, tmp_path, dirs_exist_ok=True)
    return Bench(tmp_path, tmp_path / "train.jsonl", tmp_path / "dev.jsonl", reference.recipe)


def assert_same_outputs(bench: Bench, out: str, reference: str = "whole") -> None:
    for option in ("model", "optimizer"):
        left, right = bench.outputs(out)[option], bench.outputs(reference)[option]
        assert left.read_bytes() == right.read_bytes(), f"{option} differs"
    rows = [read_jsonl(bench.outputs(name)["metrics"]) for name in (out, reference)]
    assert same_but_for_time(*rows)


def progress_of(bench: Bench, state: str = "state") -> dict[str, Any]:
    """The last checkpoint's position, as its metadata says; {"step": 0} where none can be read."""
    facts = []
    for path in (bench.folder / state).glob("*/checkpoint-*"):
        with contextlib.suppress(OSError, RuntimeError, SafetensorError), safe_open(path, framework="pt") as file:
            facts.append(json.loads(file.metadata()["thaw"]))
    if not facts:
        return {"step": 0}
    progress: dict[str, Any] = max(facts, key=lambda f: f["number"])["progress"]
    return progress


def saved_step(bench: Bench) -> int:
    return int(progress_of(bench)["step"])


def kill_when(bench: Bench, step: int, *extra: str) -> None:
    """Start, and kill -9 the trainer as soon as a checkpoint holds `step` steps."""
    command = bench.start("out", *extra)
    command.until(lambda: saved_step(bench) >= step)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait()[0] == -signal.SIGKILL


# --- what a training leaves ---------------------------------------------------------------------


def test_outputs_hold_what_the_contract_says(whole: Bench) -> None:
    outputs = whole.outputs("whole")
    rows, record = read_jsonl(outputs["metrics"]), read_json(outputs["record"])
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    best = min(rows, key=lambda row: float(row["dev_loss"]))
    assert record["best"] == {"epoch": best["epoch"], "dev_loss": best["dev_loss"]}
    assert record["recipe"]["recipe"]["early_stop_delta"] == 0.0  # defaults are spelled out
    assert record["corpora"]["train"]["utterances"] == 40
    assert record["parameters"]["total"] == record["parameters"]["trainable"] == rows[0]["trainable_parameters"]
    assert record["cost"]["audio_hours"] == pytest.approx(4 * record["corpora"]["train"]["hours"])
    assert (record["epochs"], record["stopped"], record["cost"]["attempts"]) == (4, "all epochs", 1)
    assert all(0 < row["data_seconds"] < row["step_seconds"] for row in rows)
    assert 0 < record["cost"]["saving_seconds"] < record["cost"]["seconds"]
    model, meta = load_model(outputs["model"])
    assert meta["alphabet"] == ALPHABET
    assert meta["run"] == record["recipe"]
    state = load_file(outputs["optimizer"])
    assert int(state["step"]) == best["step"]
    assert {name.removesuffix("/m") for name in state if name.endswith("/m")} == set(model.state_dict())


def test_a_finished_training_is_only_copied_again(whole: Bench) -> None:
    folder = whole.state_folder("state-whole")
    assert sorted(path.name for path in folder.glob("*.safetensors")) == []  # pruned
    code, err = whole.run("again", "--digest", str(whole.folder / "model.sha256"), state="state-whole")
    assert code == 0
    assert "finished before" in err
    assert "epoch" not in err
    assert_same_outputs(whole, "again")
    assert (whole.folder / "model.sha256").read_text().strip() == file_sha256(whole.outputs("again")["model"])


# --- interruptions ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(1, 4, 6), (3, 5, 11, 15)])
def test_kill_9_at_any_step_changes_no_bit(whole: Bench, steps: tuple[int, ...]) -> None:
    for step in steps:
        kill_when(whole, step, *EVERY_STEP)
    code, err = whole.run("out", *EVERY_STEP)
    assert code == 0, err
    assert "resumed at epoch" in err
    assert_same_outputs(whole, "out")
    assert read_json(whole.outputs("out")["record"])["cost"]["attempts"] == len(steps) + 1


def test_kill_9_at_any_moment_changes_no_bit(whole: Bench) -> None:
    """By the clock after a checkpoint, so that kills hit writes, dev evaluation and the gathering of the result too."""
    moments = rng(1, "kills")
    seen = 0
    for _ in range(7):
        command = whole.start("out", *EVERY_STEP)
        command.until(lambda seen=seen, command=command: saved_step(whole) > seen or command.ended)
        time.sleep(moments.uniform(0, 0.06))
        seen = saved_step(whole)
        if command.ended:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, signal.SIGKILL)
        command.wait()
    code, err = whole.run("out", *EVERY_STEP)
    assert code == 0, err
    assert_same_outputs(whole, "out")


def test_budget_stops_make_progress_and_change_no_bit(whole: Bench) -> None:
    steps = []
    for _ in range(3):
        code, err = whole.run("out", "--budget", "0.001")
        assert code == EXIT_UNFINISHED
        assert "time budget of 0.001 s is used up; saved at epoch" in err
        steps.append(progress_of(whole)["step"])
    assert steps == [1, 2, 3]
    assert not whole.outputs("out")["model"].exists()
    assert whole.run("out")[0] == 0
    assert_same_outputs(whole, "out")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_at_the_next_step(whole: Bench, number: signal.Signals) -> None:
    longer = whole.with_recipe(epochs=200)
    command = longer.start("out", state="state-long")
    command.until(lambda: "epoch 2/200" in command.stderr.read_text())
    os.kill(command.pid, number)
    code, err = command.wait()
    assert code == EXIT_UNFINISHED
    assert f"stopped by {number.name}; saved at epoch" in err
    assert read_json(longer.state_folder("state-long") / "progress.json")["state"] == "stopped"
    assert progress_of(longer, "state-long")["epoch"] >= 2


def test_a_damaged_checkpoint_costs_steps_but_no_bit(whole: Bench) -> None:
    kill_when(whole, 8, *EVERY_STEP)
    newest = max(whole.state_folder().glob("checkpoint-*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-100])
    code, err = whole.run("out")
    assert code == 0
    assert f"warning: {newest.name} cannot be read" in err
    assert_same_outputs(whole, "out")


def test_the_best_epoch_survives_a_kill_in_a_later_one(bench: Bench) -> None:
    """The rate grows until dev gets worse, so the best weights are only in the state folder at the end."""
    unstable = bench.with_recipe(epochs=5, learning_rate=3.0, warmup_steps=60)
    assert unstable.run("whole", state="state-whole")[0] == 0
    best = read_json(unstable.outputs("whole")["record"])["best"]["epoch"]
    assert best < 4  # so that the kill comes well before the end
    kill_when(unstable, best * 5 + 2, *EVERY_STEP)
    assert unstable.run("out", *EVERY_STEP)[0] == 0
    assert_same_outputs(unstable, "out")


def test_a_resume_under_other_conditions_is_noted(bench: Bench) -> None:
    assert bench.run("out", "--budget", "0.001")[0] == EXIT_UNFINISHED
    code, err = bench.run("out", "--threads", "2")
    assert code == 0
    assert re.search("warning: began with another .*threads", err)
    record = read_json(bench.outputs("out")["record"])
    assert record["environment"]["threads"] == 2
    assert [earlier["threads"] for earlier in record["earlier_environments"]] == [1]


# --- edits, rivals, failures --------------------------------------------------------------------


def test_edits_of_recipe_or_data_never_meet_old_state(whole: Bench) -> None:
    assert whole.run("out", "--budget", "0.001")[0] == EXIT_UNFINISHED
    assert whole.with_recipe(learning_rate=0.02).run("edited")[0] == 0
    assert len(list((whole.folder / "state").iterdir())) == 2
    rows = whole.train.read_text()
    seal_of(whole.train).unlink()
    whole.train.write_text("".join(rows.splitlines(keepends=True)[1:]))
    code, err = whole.run("fewer")
    assert code == 0
    assert "resumed" not in err
    assert len(list((whole.folder / "state").iterdir())) == 3
    whole.train.write_text(rows)  # the edit taken back finds its state again
    code, err = whole.run("out")
    assert "resumed at epoch 1, step 1" in err
    assert_same_outputs(whole, "out")


def test_two_trainers_at_once_never_share_a_state(bench: Bench) -> None:
    longer = bench.with_recipe(epochs=300)
    first = longer.start("first")
    first.until(lambda: "epoch 1/300" in first.stderr.read_text())
    code, err = longer.start("second", stderr="stderr-of-second").wait()
    assert code == EXIT_USER_ERROR
    assert f"another trainer is at work here (process {first.pid} on this machine, since" in err
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    code, err = longer.run("first", "--budget", "0.001")
    assert code == EXIT_UNFINISHED  # a dead trainer holds nothing


def test_a_trainer_that_outlived_its_snakemake_is_waited_for(bench: Bench) -> None:
    longer = bench.with_recipe(epochs=40)
    first = longer.start("first")
    first.until(lambda: "epoch 1/40" in first.stderr.read_text())
    code, err = longer.start("second", "--wait", "60", stderr="stderr-of-second").wait()
    assert code == 0
    assert "waiting: " in err
    assert first.wait()[0] == 0
    assert_same_outputs(longer, "second", "first")


def test_divergence_is_permanent_and_says_what_to_change(bench: Bench) -> None:
    wild = bench.with_recipe(learning_rate=1e9)
    code, err = wild.run("out")
    assert code == EXIT_USER_ERROR
    assert "training diverged in epoch 3 at step 12: 11 steps in a row have no finite gradient" in err
    assert "train-0" in err
    assert "lower learning_rate (now 1e+09)" in err
    assert (wild.state_folder() / "FAILED_PERMANENT").exists()
    code, err = wild.run("out")
    assert code == EXIT_USER_ERROR
    assert "failed before, and would again: training diverged" in err


def test_three_starts_without_progress_are_enough(bench: Bench) -> None:
    endless = bench.with_recipe(batch_size=1, epochs=1000)  # no checkpoint before a kill: an epoch takes long enough
    for number in range(3):
        command = endless.start("out")
        command.until(lambda number=number: attempts_of(endless) > number)
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
    code, err = endless.run("out")
    assert code == EXIT_USER_ERROR
    assert "3 starts in a row were killed" in err


def attempts_of(bench: Bench) -> int:
    paths = list(bench.folder.glob("state/*/attempts.json"))
    return int(read_json(paths[0])["total"]) if paths else 0


# --- starts -------------------------------------------------------------------------------------


def start_of(bench: Bench, out: str = "whole") -> tuple[str, ...]:
    outputs = bench.outputs(out)
    return ("--start", str(outputs["model"]), "--start-optimizer", str(outputs["optimizer"]))


def test_a_start_with_frozen_and_reset_layers_resumes_too(whole: Bench) -> None:
    tuned = whole.with_recipe(
        start="whole", reset=["layer_6"], draw=1, freeze=["layer_1", "lstm"], optimizer_state="transferred"
    )
    extra = start_of(whole)
    assert tuned.run("tuned", *extra, state="state-a")[0] == 0
    for _ in range(2):
        assert tuned.run("out", *extra, "--budget", "0.001", state="state-b")[0] == EXIT_UNFINISHED
    assert tuned.run("out", *extra, state="state-b")[0] == 0
    assert_same_outputs(tuned, "out", "tuned")
    before, after = load_file(whole.outputs("whole")["model"]), load_file(tuned.outputs("tuned")["model"])
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == (name.split(".")[1] in ("layer_1", "lstm")), name
    state, old = load_file(tuned.outputs("tuned")["optimizer"]), load_file(whole.outputs("whole")["optimizer"])
    record = read_json(tuned.outputs("tuned")["record"])
    assert not any("layer_1" in name or "lstm" in name for name in state)
    assert int(state["step"]) == int(old["step"]) + 5 * record["best"]["epoch"]
    assert "layers.layer_2.weight" in record["checks"]["optimizer_transferred"]
    assert "layers.layer_6.weight" not in record["checks"]["optimizer_transferred"]


def test_starts_that_do_not_fit_are_refused(whole: Bench) -> None:
    outputs = whole.outputs("whole")
    model = str(outputs["model"])
    cases: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
        ({"start": "whole"}, (), "the recipe starts from 'whole', but there is no --start"),
        ({}, ("--start", model), "the recipe starts from 'scratch', but there is --start"),
        ({"start": "whole", "optimizer_state": "transferred"}, ("--start", model), "--start-optimizer is missing"),
        ({"start": "whole", "alphabet": " abdc"}, ("--start", model), "reset layer_6"),
        ({"start": "whole"}, ("--start", str(outputs["record"])), "not a safetensors file"),
        ({"start": "whole", "freeze": ["layer_9"]}, ("--start", model), "no layers ['layer_9']"),
        (
            {"start": "whole", "optimizer_state": "transferred"},
            ("--start", model, "--start-optimizer", model),
            "not the optimizer state",
        ),
        ({"batch_size": 64, "drop_last": True}, (), "a batch of 64 is never full"),
        ({"epochs": 0}, (), "--recipe: recipe.epochs: Input should be greater than 0"),
    ]
    for changes, extra, message in cases:
        code, err = whole.with_recipe(**changes).run("refused", *extra)
        assert code == EXIT_USER_ERROR, err
        assert message in err
        assert "Traceback" not in err


def test_a_time_limit_leaves_room_for_start_and_end() -> None:
    assert budget(0, 0) == 0
    assert budget(100, 0) == 100
    assert budget(0, 60) == 3600 - 180
    assert budget(0, 1) == 45
    assert budget(40, 1) == 40


def test_thread_pins_are_set_before_any_numerical_library_loads() -> None:
    code = "import sys; from thaw.cli import build_parser; build_parser(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_empty_values_of_start_mean_none(bench: Bench) -> None:
    """The workflow's rule gives the options always, without values where there is no start."""
    code, err = bench.run("out", "--start", "--start-optimizer", "--budget", "0.001", "--runtime", "0")
    assert code == EXIT_UNFINISHED, err


def test_tensorboard_gets_the_metrics(bench: Bench) -> None:
    folder: Path = bench.folder / "curves"
    assert bench.run("out", "--tensorboard", str(folder))[0] == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    points = [(point.step, point.value) for point in events.Scalars("dev_loss")]
    rows = read_jsonl(bench.outputs("out")["metrics"])
    assert points == [(row["step"], pytest.approx(row["dev_loss"])) for row in rows]


def test_two_processes_share_one_state_and_stop_together(whole: Bench) -> None:
    def as_two(*extra: str) -> list[tuple[int, str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
        ranks = [{**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
        commands = [whole.start("out", *extra, stderr=f"stderr-{rank['RANK']}", environment=rank) for rank in ranks]
        return [command.wait() for command in commands]

    assert [code for code, _ in as_two("--budget", "0.001")] == [EXIT_UNFINISHED] * 2
    (code, err), (other_code, other_err) = as_two()
    assert (code, other_code, other_err) == (0, 0, "")  # one speaks
    assert "resumed at epoch 1, step 1" in err
    rows, expected = (read_jsonl(whole.outputs(name)["metrics"]) for name in ("out", "whole"))
    for row, want in zip(rows, expected, strict=True):
        assert row["dev_loss"] == pytest.approx(want["dev_loss"], rel=1e-4)
    assert read_json(whole.outputs("out")["record"])["environment"]["processes"] == 2

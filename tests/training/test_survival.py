"""What a training survives, and what it refuses: signals, closed pipes, damage to any of its files, full disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import Bench, make_bench
from tests.training.test_train_command import EVERY_STEP, assert_same_outputs, kill_when, progress_of
from thaw.console import Console
from thaw.errors import EXIT_UNFINISHED, EXIT_USER_ERROR, UserError
from thaw.files import read_json, seal_of
from thaw.models.store import load_tensors
from thaw.randomness import rng
from thaw.training import state as state_module
from thaw.training.lock import exclusive
from thaw.training.state import IDLE_STARTS, Checkpoint, StateFolder

QUARTZNET = {"kind": "quartznet", "variant": "mini-3x1"}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench whose training has run once without a break, into the folder "whole" with a state of its own."""
    bench = make_bench(tmp_path_factory.mktemp("reference"))
    code, err = bench.run("whole", state="state-whole")
    assert code == 0, err
    return bench


@pytest.fixture
def whole(reference: Bench, tmp_path: Path) -> Bench:
    """A copy of the reference, to be interrupted and damaged."""
    shutil.copytree(reference.folder, tmp_path, dirs_exist_ok=True)
    return Bench(tmp_path, tmp_path / "train.jsonl", tmp_path / "dev.jsonl", reference.recipe)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Lose the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- signals and streams ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_whole_group_saves_and_the_shells_status_is_75(bench: Bench, number: signal.Signals) -> None:
    """As the rule has it: a shell that is replaced by thaw, and a terminal that is gone with the signal."""
    longer, log = bench.with_recipe(epochs=2000), bench.folder / "log"
    words = [sys.executable, "-m", "thaw.cli", "--log", str(log), *longer.arguments("out")]
    process = subprocess.Popen(
        ["bash", "-c", 'set -eu; exec "$@"', "bash", *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup's children ignore SIGHUP, and so would these
    )
    assert process.stderr
    assert process.stdout
    end = time.monotonic() + 60
    while not (log.exists() and "epoch 2/" in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.stderr.close()
    process.stdout.close()
    os.killpg(process.pid, number)
    assert process.wait(60) == EXIT_UNFINISHED
    assert f"stopped by {number.name}; saved at epoch" in log.read_text()
    assert progress_of(longer)["epoch"] >= 2


class Broken:
    """A stream whose reader is gone."""

    encoding = "ascii"

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_console_survives_its_stream_and_writes_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        for stream in (Broken(), None):
            print("gut – ä", file=Console(stream, log))  # type: ignore[arg-type]
    assert (tmp_path / "log").read_text() == "gut – ä\n" * 2


# --- batch norms --------------------------------------------------------------------------------


def test_quartznet_is_killed_anywhere_and_changes_no_bit(bench: Bench) -> None:
    """Its batch norms have running statistics, which no optimiser knows of; NovoGrad has a number per layer."""
    net = bench.with_recipe(epochs=3, optimizer="novograd", learning_rate=0.01, dropout=0.0)
    net.recipe["model"] = QUARTZNET
    assert net.run("whole", state="state-whole")[0] == 0
    for step in (1, 6):
        kill_when(net, step, *EVERY_STEP)
    moments = rng(2, "kills")
    for _ in range(3):
        command = net.start("out", *EVERY_STEP)
        time.sleep(moments.uniform(0.2, 1.0))
        if command.ended:
            break
        os.kill(command.pid, signal.SIGKILL)
        command.wait()
    code, err = net.run("out", *EVERY_STEP)
    assert code == 0, err
    assert_same_outputs(net, "out")


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "metrics.jsonl", "run.json"])
def test_a_damaged_result_is_not_delivered(whole: Bench, name: str, damage: Any) -> None:
    result = whole.state_folder("state-whole") / "result"
    damage(result / name)
    code, err = whole.run("again", state="state-whole")
    assert code == EXIT_USER_ERROR
    assert f"{result / name}: damaged" in err
    assert f"delete the folder {result}" in err
    assert not any((whole.folder / "again").glob("*"))
    shutil.rmtree(result)
    assert whole.run("again", state="state-whole")[0] == 0
    assert_same_outputs(whole, "again")


def test_a_result_that_lacks_a_file_says_what_to_delete(whole: Bench) -> None:
    result = whole.state_folder("state-whole") / "result"
    (result / "optimizer.safetensors").unlink()
    code, err = whole.run("again", state="state-whole")
    assert code == EXIT_USER_ERROR
    assert f"{result / 'optimizer.safetensors'}: no such file; delete the folder {result}" in err


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_best_epoch_sends_the_training_back(whole: Bench, damage: Any) -> None:
    kill_when(whole, 12, *EVERY_STEP)
    best = max(whole.state_folder().glob("best-*-model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    damage(best)
    code, err = whole.run("out")
    assert code == 0, err
    assert "cannot be read" in err
    assert best.name in err
    assert_same_outputs(whole, "out")


def test_a_best_epoch_damaged_at_the_end_is_not_gathered(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for path in folder.best_paths(1):
        state_module.write_text(path, "weights")
    flip(folder.best_paths(1)[0])
    with pytest.raises(state_module.Unfinished, match=r"best-1-model.*goes back to the last checkpoint"):
        folder.finish(1, {})
    assert not folder.result.exists()


def test_a_damaged_model_is_no_start_and_is_not_decoded(whole: Bench) -> None:
    model = whole.outputs("whole")["model"]
    flip(model)
    tuned = whole.with_recipe(start="whole", reset=["layer_6"])
    code, err = tuned.run("out", "--start", str(model))
    assert code == EXIT_USER_ERROR
    assert f"{model}: damaged" in err
    seal_of(model).unlink()
    model.with_name("model.sha256").write_text("0" * 64 + "\n")  # what the workflow tracks is looked at too
    with pytest.raises(UserError, match=r"model\.safetensors: damaged .*model\.sha256"):
        load_tensors(model)


def test_a_damaged_clip_is_named(bench: Bench) -> None:
    flip(bench.folder / "train.wav")
    code, err = bench.run("out")
    assert code == EXIT_USER_ERROR
    assert f"{bench.folder / 'train.wav'}: damaged: the samples of 'train-" in err


def test_damaged_counts_of_starts_block_nothing(bench: Bench) -> None:
    assert bench.run("out", "--budget", "0.001")[0] == EXIT_UNFINISHED
    (bench.state_folder() / "attempts.json").write_text("[")
    code, err = bench.run("out")
    assert code == 0, err
    assert "warning: attempts.json cannot be read" in err


def test_what_a_kill_left_in_a_delivery_is_swept(whole: Bench) -> None:
    left = whole.folder / "again" / ".model.safetensors.1.part"
    left.parent.mkdir()
    left.write_text("half")
    assert whole.run("again", state="state-whole")[0] == 0
    assert not left.exists()


# --- disks and folders --------------------------------------------------------------------------


def save_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *rest: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_tensors", full)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    folder = StateFolder(tmp_path)
    folder.save(Checkpoint({"a": torch.ones(2)}, {"best": None}))
    with monkeypatch.context() as patch:
        save_fails(patch)
        with pytest.raises(UserError, match=r"No space left on device; .* goes on from the checkpoint before"):
            folder.save(Checkpoint({"a": torch.zeros(2)}, {"best": None}))
    found, warnings = StateFolder(tmp_path).load()
    assert found
    assert not warnings
    assert found.tensors["a"].sum() == 2
    assert not list(tmp_path.glob(".*.part"))


def test_starts_that_ended_by_themselves_are_not_counted_as_killed(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        for _ in range(IDLE_STARTS + 2):
            folder = StateFolder(tmp_path)
            folder.open_attempt((1, 0))
            folder.close_attempt()
    assert read_json(tmp_path / "attempts.json")["total"] == IDLE_STARTS + 2


def test_a_lock_that_is_a_folder_and_a_place_that_is_none(bench: Bench) -> None:
    assert bench.run("out", "--budget", "0.001")[0] == EXIT_UNFINISHED
    lock = bench.state_folder() / "lock"
    lock.unlink()
    lock.mkdir()
    code, err = bench.run("out")
    assert (code, err) == (
        EXIT_USER_ERROR,
        f"thaw train: {lock}: a folder has the name of the lock's file; delete it\n",
    )
    (bench.folder / "file").write_text("")
    code, err = bench.run("out", state="file")
    assert code == EXIT_USER_ERROR
    assert "cannot keep a training's state in" in err
    assert "choose another folder (--state" in err


def test_a_state_deleted_under_a_living_trainer_ends_it_in_words(bench: Bench) -> None:
    longer = bench.with_recipe(epochs=2000)
    command = longer.start("out", *EVERY_STEP)
    command.until(lambda: progress_of(longer)["step"] >= 2)
    shutil.rmtree(bench.folder / "state", ignore_errors=True)
    code, err = command.wait()
    assert code == EXIT_USER_ERROR
    assert "deleted while this training was at work in it; start again" in err
    assert "Traceback" not in err


# --- tries --------------------------------------------------------------------------------------


def test_what_a_person_must_mend_is_not_tried_again(bench: Bench) -> None:
    starts = bench.with_recipe(start="whole")
    code, err = starts.run("out", "--attempt", "1")
    assert code == EXIT_USER_ERROR
    code, again = bench.run("out", "--attempt", "2")  # it would succeed: it must not have been tried
    assert code == EXIT_USER_ERROR
    assert again == err.replace("thaw train: ", "thaw train: not tried again: ")
    assert bench.run("out", "--attempt", "1", "--budget", "0.001")[0] == EXIT_UNFINISHED
    assert bench.run("out", "--attempt", "2")[0] == 0


def test_signals_are_handled_on_a_stack_of_their_own() -> None:
    """The stack that a signal interrupts may be in use beyond its end, by a product of matrices (`own_stack`)."""
    code = (
        "import faulthandler, time; from thaw.training.stopping import Stop; before = faulthandler.is_enabled()\n"
        "with Stop(0, time.monotonic()): print(before, faulthandler.is_enabled())"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "False True\n"

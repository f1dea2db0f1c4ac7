"""The state folder: checkpoints that survive damage, keys that keep edits apart, locks, counted starts."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import thaw
from tests.training.conftest import make_recipe, sentences, write_split
from thaw.config.run import RunRecipe
from thaw.errors import UserError
from thaw.files import write_json
from thaw.training import environment, lock, recorders, stopping
from thaw.training.environment import claim_gpu
from thaw.training.lock import exclusive
from thaw.training.state import IDLE_STARTS, Checkpoint, StateFolder, state_key
from thaw.training.stopping import SIGNALS, Stop


def checkpoint(value: float, best: int | None = None) -> Checkpoint:
    tensors = {"model/w": torch.full((3, 2), value), "optimizer/step": torch.tensor(int(value))}
    return Checkpoint(tensors, {"value": value, "best": {"epoch": best} if best else None})


def write_best(folder: StateFolder, epoch: int) -> None:
    for path in folder.best_paths(epoch):
        path.write_text(str(epoch))


def loaded(path: Path) -> tuple[float | None, list[str]]:
    found, warnings = StateFolder(path).load()
    return (found.facts["value"] if found else None), warnings


def test_load_gives_the_last_save(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert loaded(tmp_path) == (None, [])
    for value in (1.0, 2.0, 3.0):
        folder.save(checkpoint(value))
        assert loaded(tmp_path) == (value, [])
    found, _ = folder.load()
    assert found is not None
    assert torch.equal(found.tensors["model/w"], torch.full((3, 2), 3.0))
    assert found.tensors["optimizer/step"].item() == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    folder = StateFolder(tmp_path)
    for value in (1.0, 2.0):
        folder.save(checkpoint(value))
    newest = tmp_path / "checkpoint-1.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    value, warnings = loaded(tmp_path)
    assert value == 1.0
    assert "checkpoint-1.safetensors cannot be read" in warnings[0]
    again = StateFolder(tmp_path)
    again.load()
    again.save(checkpoint(5.0))  # must replace the damaged one, not the good one
    assert loaded(tmp_path) == (5.0, [])
    newest.write_bytes(b"")
    assert loaded(tmp_path)[0] == 1.0


def test_best_epochs_live_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for epoch in (1, 2, 3):
        write_best(folder, epoch)
        folder.save(checkpoint(float(epoch), best=epoch))
    assert sorted(path.name for path in tmp_path.glob("best-*-model*")) == [
        "best-2-model.safetensors",
        "best-3-model.safetensors",
    ]
    for path in folder.best_paths(3):
        path.unlink()
    value, warnings = loaded(tmp_path)
    assert value == 2.0
    assert "best epoch's files are missing" in warnings[0]


def test_key_follows_recipe_and_contents_only(tmp_path: Path) -> None:
    recipe = RunRecipe.model_validate(make_recipe())
    train = write_split(tmp_path, "train", sentences("train", 2))
    key = state_key(recipe, {"train": [train], "dev": [train]})
    spelled_out = RunRecipe.model_validate(make_recipe(order="bucketed"))
    assert state_key(spelled_out, {"train": [train], "dev": [train]}) == key
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_bytes(train.read_bytes())
    assert state_key(recipe, {"train": [moved], "dev": [train]}) == key
    assert state_key(RunRecipe.model_validate(make_recipe(epochs=5)), {"train": [train], "dev": [train]}) != key
    assert state_key(recipe, {"train": [train, train], "dev": [train]}) != key
    moved.write_text(train.read_text().replace('"digest": "', '"digest": "0'))
    assert state_key(recipe, {"train": [moved], "dev": [train]}) != key
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        state_key(recipe, {"train": [tmp_path / "nowhere.jsonl"]})


def test_starts_without_progress_end_in_an_error_and_then_count_anew(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert [folder.open_attempt((1, 0)) for _ in range(2)] == [1, 2]
    assert [folder.open_attempt((1, 7)) for _ in range(IDLE_STARTS)] == [3, 4, 5]
    with pytest.raises(UserError, match=r"3 starts in a row .* epoch 1, batch 7"):
        folder.open_attempt((1, 7))
    assert folder.open_attempt((1, 7)) == 6


def test_a_permanent_failure_is_quoted_until_its_marker_goes(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.check_failed()
    with pytest.raises(UserError, match="it diverged"):
        folder.fail("it diverged")
    with pytest.raises(UserError, match=r"it diverged.*delete .*FAILED_PERMANENT"):
        folder.check_failed()
    (tmp_path / "FAILED_PERMANENT").unlink()
    folder.check_failed()


def test_sweep_removes_what_killed_processes_left(tmp_path: Path) -> None:
    mine, theirs = tmp_path / f".a.{os.getpid()}.part", tmp_path / ".a.1.part"
    for path in (mine, theirs):
        path.write_text("")
    StateFolder(tmp_path).sweep()
    assert mine.exists()
    assert not theirs.exists()


# --- lock ---------------------------------------------------------------------------------------


def test_lock_lets_one_in_and_says_who_holds_it(tmp_path: Path) -> None:
    with exclusive(tmp_path):
        while not (tmp_path / "holder.json").exists():
            time.sleep(0.001)
        with (
            pytest.raises(UserError, match=rf"process {os.getpid()} on this machine, since \d{{4}}-"),
            exclusive(tmp_path),
        ):
            pass
    with exclusive(tmp_path):
        pass
    assert not (tmp_path / "holder.json").exists()


def test_a_dead_trainer_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "holder.json", {"host": lock.this_host(), "pid": 1, "beat": 3})
    began = time.monotonic()
    with exclusive(tmp_path):
        assert time.monotonic() - began < lock.STALE_SECONDS / 10


def test_another_machine_is_believed_alive_while_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE_SECONDS", 0.3)
    holder = tmp_path / "holder.json"
    write_json(holder, {"host": "another", "pid": 7, "beat": 3, "job": "12", "since": "then"})
    with exclusive(tmp_path):  # its heart stands still: it is dead
        pass
    write_json(holder, {"host": "another", "pid": 7, "beat": 3, "job": "12", "since": "then"})

    def beat(seconds: float) -> None:
        write_json(holder, {"host": "another", "pid": 7, "beat": time.monotonic(), "job": "12", "since": "then"})

    monkeypatch.setattr(time, "sleep", beat)
    with pytest.raises(UserError, match="job 12, process 7 on another machine, since then"), exclusive(tmp_path):
        pass


# --- stopping -----------------------------------------------------------------------------------


def test_budget_leaves_room_for_a_step_and_a_checkpoint() -> None:
    stop = Stop(100.0, time.monotonic() - 80)
    assert stop.reason() == ""
    stop.slowest_unit, stop.slowest_save = 4.0, 7.0
    assert stop.reason() == "time budget of 100 s is used up"
    assert Stop(0.0, time.monotonic() - 1e9).reason() == ""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_told_twice_asks_to_stop_once_and_a_later_one_is_not_caught(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []
    before = signal.signal(number, lambda got, frame: ends.append(got))
    try:
        with Stop(0.0, time.monotonic()) as stop:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)  # Snakemake tells its jobs what the terminal told them
            assert (stop.reason(), ends) == (f"stopped by {number.name}", [])
            monkeypatch.setattr(stopping, "ECHO_SECONDS", 0.0)
            time.sleep(0.001)
            os.kill(os.getpid(), number)
            assert ends == [number]
    finally:
        signal.signal(number, before)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(0.0, time.monotonic()) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.reason()
    finally:
        signal.signal(signal.SIGHUP, before)


# --- devices and recorders ----------------------------------------------------------------------


def test_jobs_spread_over_gpus_before_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [claim_gpu(3, tmp_path) for _ in range(5)]
    assert [gpu for gpu, _ in held] == [0, 1, 2, 0, 1]
    held[2][1].close()
    again = claim_gpu(3, tmp_path)
    assert again[0] == 2
    monkeypatch.setattr(environment, "SLOTS", 1)
    with (tmp_path / "gpu-0-0.lock").open("a") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(UserError, match="share each of 3 GPUs"):
        claim_gpu(3, tmp_path)
    for _, file in [*held, again]:
        file.close()


def test_a_share_of_a_gpu_bounds_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: bounds.append(given))
    gpu = torch.device("cuda", 1)
    for device, share in ((gpu, 100), (gpu, 400), (torch.device("cpu"), 25), (gpu, 25)):
        environment.bound_memory(device, share)
    assert bounds == [(0.25, gpu)]


def test_a_record_names_the_version_outside_a_git_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "code_version", lambda: "")
    assert environment.record(torch.device("cpu"), 1)["thaw"] == thaw.__version__
    monkeypatch.setattr(environment, "code_version", lambda: "abc+")
    assert environment.record(torch.device("cpu"), 1)["thaw"] == "abc+"


def test_device_choice_needs_no_gpu_for_cpu_and_refuses_cuda_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert environment.choose_device("auto") == environment.choose_device("cpu") == (torch.device("cpu"), None)
    with pytest.raises(UserError, match="--device cuda: torch sees no GPU"):
        environment.choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert environment.choose_device("auto") == (torch.device("cuda", 3), None)
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert environment.choose_device("cuda") == (torch.device("cuda", 0), None)


def test_the_gpu_that_a_job_takes_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch is asked without a device, such as which stream is at work, would be that of GPU 0."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(environment.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    chosen = [environment.choose_device("auto") for _ in range(3)]
    assert [device.index for device, _ in chosen] == taken == [0, 1, 0]
    for _, held in chosen:
        assert held
        held.close()


def test_lines_come_every_few_seconds_and_at_each_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    lines = recorders.Lines()
    status = recorders.Status(2, 9, 30, 90, 12.345, {"epoch": 1, "dev_loss": 19.5}, 100.4, 60.0, 3671.0)
    for clock[0] in (1.0, 4.9, 5.0, 5.1):
        lines.step(status)
    lines.epoch(status, [{"train_loss": 11.0, "dev_loss": 20.0, "dev_cer": 0.251}])
    assert capsys.readouterr().err.splitlines() == [
        "epoch 2/9  step 30/90  loss 12.35  100 audio-s/s  1:01:11 left",
        "epoch 2/9  step 30/90  loss 11.00  dev loss 20.00 (best 19.50)  CER 25.1 %  100 audio-s/s  1:01:11 left",
    ]


@pytest.mark.parametrize(
    ("best", "row", "line"),
    [
        ({"dev_fer": 0.574}, {"dev_fer": 0.6}, "loss 2.31  FER 60.0 % (best 57.4 %)"),
        ({"dev_wer": 0.9}, {"dev_cer": 0.3, "dev_wer": None}, "loss 2.31  CER 30.0 %  WER - (best 90.0 %)"),
        ({"dev_loss": 2.3}, {"dev_perplexity": 10.07}, "loss 2.31 (best 2.30)  perplexity 10.1"),
        ({"dev_token_error": 0.25}, {"dev_token_error": 0.3}, "loss 2.31  token error 30.0 % (best 25.0 %)"),
        (None, {}, "loss 2.31"),
    ],
)  # fmt: skip
def test_the_line_of_an_epoch_shows_the_best_of_what_selects(
    best: dict[str, float] | None, row: dict[str, float], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = recorders.Status(2, 9, 30, 90, 12.345, {"epoch": 1, **best} if best else None, 0.0, 60.0, None)
    recorders.Lines().epoch(status, [{"train_loss": 2.0, "dev_loss": 2.31, **row}])
    assert capsys.readouterr().err.strip() == f"epoch 2/9  step 30/90  loss 2.00  dev {line}"


def test_records_name_no_host_user_or_path() -> None:
    facts = json.dumps(environment.record(torch.device("cpu"), 1))
    assert {"torch", "threads", "processor", "cpu_capability", "device"} <= set(json.loads(facts))
    assert {"mkl", "onednn", "numpy_blas"} <= set(json.loads(facts)["libraries"])
    for private in (os.uname().nodename, str(Path.home()), str(Path.cwd())):
        assert private not in facts


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's x86 code")
def test_a_record_tells_instruction_sets_apart_that_no_version_names() -> None:
    """The trial of issue 9: the same machine with ONEDNN_MAX_CPU_ISA gives other weights."""
    code = (
        "import json, torch; from thaw.training.environment import record, settle;"
        "settle(1); print(json.dumps(record(torch.device('cpu'), 1)))"
    )

    def record(**variables: str) -> dict[str, Any]:
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True)
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    here, again, other = record(), record(), record(ONEDNN_MAX_CPU_ISA="SSE41")
    assert here == again
    assert other["instruction_sets"]["ONEDNN_MAX_CPU_ISA"] == "SSE41"
    assert other["arithmetic"]["convolution"] != here["arithmetic"]["convolution"]
    assert other["arithmetic"]["softmax"] == here["arithmetic"]["softmax"]

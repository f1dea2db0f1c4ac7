"""Snapshots: weights that a recipe keeps beside its best epoch, whatever interrupts it; and averaged weights."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Bench, Command
from thaw.canonical import file_sha256
from thaw.errors import EXIT_USER_ERROR, UserError
from thaw.files import read_json
from thaw.models import load_model

SNAPSHOTS = ["first", "best", "epoch-2", "last"]
EVERY_STEP = ("--checkpoint-seconds", "1e-9")


def kept(bench: Bench, out: str) -> tuple[str, ...]:
    folder = bench.folder / out
    return (
        "--snapshots",
        str(folder / "snapshots.safetensors"),
        "--snapshots-digest",
        str(folder / "snapshots.sha256"),
    )


def weights(bench: Bench, out: str, snapshot: str) -> dict[str, torch.Tensor]:
    name = "model" if snapshot == "best" else "snapshots"
    return load_model(bench.folder / out / f"{name}.safetensors", snapshot)[0].state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_snapshots_are_the_weights_of_their_moments(bench: Bench) -> None:
    long = bench.with_recipe(snapshots=SNAPSHOTS, epochs=3)
    assert long.run("long", *kept(long, "long"))[0] == 0
    short = bench.with_recipe(epochs=2, snapshots=["last"])
    assert short.run("short", *kept(short, "short"), state="state-short")[0] == 0
    assert same(weights(long, "long", "epoch-2"), weights(short, "short", "last"))
    first = weights(long, "long", "first")
    drawn = load_model(long.folder / "long/model.safetensors")[0]
    drawn.initialise(1)
    assert same(first, drawn.state_dict())
    best = read_json(long.outputs("long")["record"])["best"]["epoch"]
    assert same(weights(long, "long", "last"), weights(long, "long", "best")) == (best == 3)
    _, meta = load_model(long.folder / "long/snapshots.safetensors", "epoch-2")
    assert meta["snapshots"] == {"epoch-2": 2, "first": 0, "last": 3}
    assert {key: meta[key] for key in ("alphabet", "model", "run")} == {
        key: load_model(long.outputs("long")["model"])[1][key] for key in ("alphabet", "model", "run")
    }
    digest = (long.folder / "long/snapshots.sha256").read_text().strip()
    assert digest == file_sha256(long.folder / "long/snapshots.safetensors")
    assert not list(long.state_folder().glob("snapshot-*"))  # pruned


def test_a_snapshot_that_a_file_has_not_is_named(bench: Bench) -> None:
    short = bench.with_recipe(epochs=1, snapshots=["first"])
    assert short.run("out", *kept(short, "out"))[0] == 0
    with pytest.raises(UserError, match=r"no snapshot last; it holds first"):
        weights(short, "out", "last")
    with pytest.raises(UserError, match=r"no snapshot first; it holds the best epoch alone"):
        load_model(short.outputs("out")["model"], "first")


def test_an_epoch_that_an_early_stop_left_out_is_said(bench: Bench) -> None:
    short = bench.with_recipe(epochs=9, early_stop_epochs=1, early_stop_delta=1000.0, snapshots=["epoch-9"])
    code, err = short.run("out", *kept(short, "out"))
    assert code == 0
    assert "warning: ended after epoch 2: there is no epoch-9" in err
    with pytest.raises(UserError, match=r"snapshots.safetensors: no snapshot epoch-9"):
        weights(short, "out", "epoch-9")


def test_snapshots_that_nobody_keeps_cannot_be_asked_for(bench: Bench) -> None:
    code, err = bench.run("out", *kept(bench, "out"))
    assert code == EXIT_USER_ERROR
    assert "--snapshots: the recipe keeps none beside its best epoch" in err


def killed_after(bench: Bench, snapshot: str, out: str) -> Path:
    """Kill a training once a checkpoint was written after a snapshot; gives the snapshot's file."""
    command: Command = bench.start(out, *EVERY_STEP, *kept(bench, out), stderr=f"stderr-{snapshot}")

    def written() -> bool:
        kinds = [bench.folder.glob(f"state/*/{kind}.safetensors") for kind in (f"snapshot-{snapshot}", "checkpoint-?")]
        times = [max((path.stat().st_mtime_ns for path in paths), default=0) for paths in kinds]
        return 0 < times[0] < times[1]

    command.until(written)
    os.kill(command.pid, signal.SIGKILL)
    command.wait()
    return bench.state_folder() / f"snapshot-{snapshot}.safetensors"


def test_snapshots_survive_kills(bench: Bench) -> None:
    keeping = bench.with_recipe(snapshots=SNAPSHOTS, epochs=4)
    assert keeping.run("whole", *kept(keeping, "whole"), state="state-whole")[0] == 0
    for snapshot in ("first", "epoch-2"):
        killed_after(keeping, snapshot, "out")
    assert keeping.run("out", *kept(keeping, "out"))[0] == 0
    for name in ("model.safetensors", "snapshots.safetensors"):
        assert (keeping.folder / "out" / name).read_bytes() == (keeping.folder / "whole" / name).read_bytes()


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_checkpoint_whose_snapshot_is_gone_is_not_used(bench: Bench, how: str) -> None:
    keeping = bench.with_recipe(snapshots=["epoch-1"], epochs=12)
    assert keeping.run("whole", *kept(keeping, "whole"), state="state-whole")[0] == 0
    snapshot = killed_after(keeping, "epoch-1", "out")
    if how == "lost":
        snapshot.unlink()
    else:
        data = bytearray(snapshot.read_bytes())
        data[-1] ^= 1
        snapshot.write_bytes(data)
    code, err = keeping.run("out", *kept(keeping, "out"))
    assert code == 0, err
    assert "cannot be read" in err
    name = "snapshots.safetensors"
    assert (keeping.folder / "out" / name).read_bytes() == (keeping.folder / "whole" / name).read_bytes()


RECIPES: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 1e-4, "max_gradient_norm": 10.0},
    "asgd": {"optimizer": "asgd", "learning_rate": 1e-3, "averaging_start": 4, "max_gradient_norm": 10.0},
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_optimiser_resumes_to_the_same_bits(bench: Bench, name: str) -> None:
    tuned = bench.with_recipe(epochs=2, snapshots=["last"], **RECIPES[name])
    assert tuned.run("whole", *kept(tuned, "whole"), state="state-whole")[0] == 0
    for _ in range(6):
        tuned.run("out", "--budget", "0.001", *kept(tuned, "out"))
    assert tuned.run("out", *kept(tuned, "out"))[0] == 0
    for file in ("model.safetensors", "optimizer.safetensors", "snapshots.safetensors"):
        assert (tuned.folder / "out" / file).read_bytes() == (tuned.folder / "whole" / file).read_bytes()


def test_averaged_weights_are_what_is_judged_and_delivered(bench: Bench) -> None:
    """Without a step of averaging, sgd and asgd are the same; with it, what is delivered is the average."""
    changes = {"learning_rate": 1e-3, "max_gradient_norm": 10.0, "epochs": 3}
    folders = {}
    for name, more in {
        "sgd": {"optimizer": "sgd"},
        "late": {"optimizer": "asgd", "averaging_start": 1000},
        "averaged": {"optimizer": "asgd"},
    }.items():
        tuned = bench.with_recipe(**changes, **more)
        assert tuned.run(name, state=f"state-{name}")[0] == 0
        folders[name] = weights(tuned, name, "best")
    assert same(folders["sgd"], folders["late"])
    assert not same(folders["sgd"], folders["averaged"])

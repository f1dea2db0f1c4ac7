"""`thaw checkpoint` from the command line to a model that `thaw train` starts from."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest
import torch

from thaw.commands import checkpoint
from thaw.errors import UserError
from thaw.models import load_model, load_tensors

DATA = Path(__file__).parent / "data"
OUTPUTS = {"--model-out": "model.safetensors", "--optimizer": "optimizer.safetensors"}
OUTPUTS |= {"--digest": "model.sha256", "--record": "record.json"}


def run(out: Path, *more: str, alphabet: str = " abc'") -> None:
    parser = argparse.ArgumentParser()
    checkpoint.add_arguments(parser)
    outputs = [word for option, name in OUTPUTS.items() for word in (option, str(out / name))]
    checkpoint.run(parser.parse_args(["--path", str(DATA), "--alphabet", alphabet, *outputs, *more]))


def test_writes_a_start_whose_bytes_depend_on_the_checkpoint_alone(tmp_path: Path):
    run(tmp_path / "a")
    run(tmp_path / "b", "--model", '{"kind": "deepspeech", "hidden": 6, "context": 2}')
    for name in OUTPUTS.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    model, meta = load_model(tmp_path / "a" / "model.safetensors")
    sha256 = hashlib.sha256((tmp_path / "a" / "model.safetensors").read_bytes()).hexdigest()
    assert (tmp_path / "a" / "model.sha256").read_text() == sha256 + "\n"
    record = json.loads((tmp_path / "a" / "record.json").read_text())
    assert meta["alphabet"] == record["alphabet"] == " abc'"
    assert meta["model"] == {"kind": "deepspeech", "hidden": 6, "context": 2, "relu_clip": 20.0}
    assert meta["run"] == {"checkpoint": "deepspeech-tf", "name": "best_dev-3", "sha256": record["sha256"]}
    assert sum(record["files"].values()) == sum(path.stat().st_size for path in DATA.glob("best_dev-3.*"))
    state, _ = load_tensors(tmp_path / "a" / "optimizer.safetensors")
    names = {name for name, _ in model.named_parameters()}
    assert state.keys() == {"step"} | {f"{name}/{letter}" for name in names for letter in "mv"}
    assert int(state["step"]) == 3
    assert all(torch.count_nonzero(tensor) for name, tensor in state.items() if name.endswith("/v"))


def test_a_refused_checkpoint_writes_nothing(tmp_path: Path):
    with pytest.raises(UserError, match="alphabet has 28 characters but layer_6 has 6 outputs"):
        run(tmp_path, alphabet=" abcdefghijklmnopqrstuvwxyz'")
    with pytest.raises(UserError, match=r"sha256 of best_dev-3\.index"):
        run(tmp_path, "--sha256", "0" * 64)
    assert list(tmp_path.iterdir()) == []

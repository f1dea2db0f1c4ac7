"""`thaw checkpoint` from the command line to a model that `thaw train` starts from."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import pytest
import torch

from tests.checkpoints import nemowriter
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


def test_a_nemo_file_from_the_command_line(tmp_path: Path):
    made = nemowriter.model()
    file = nemowriter.write_nemo(tmp_path / "X.nemo", nemowriter.state(made))
    options = ("--kind", "nemo", "--path", str(file), "--model", '{"kind":"quartznet","variant":"mini-3x1"}')
    run(tmp_path / "a", *options, alphabet=" 'abé")
    run(tmp_path / "b", *options, alphabet=" 'abé")
    for name in OUTPUTS.values():
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    model, meta = load_model(tmp_path / "a" / "model.safetensors")
    assert list(model.layers)[-1] == "decoder"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert meta["run"] == {"checkpoint": "nemo", "name": "X.nemo", "sha256": sha256}
    record = json.loads((tmp_path / "a" / "record.json").read_text())
    assert record["files"] == {"X.nemo": file.stat().st_size}
    assert record["vocabulary"] == list(" ab'é")
    # An optimizer file without "step" is what `thaw train` refuses where optimizer_state is transferred.
    assert load_tensors(tmp_path / "a" / "optimizer.safetensors") == ({}, {"optimizer": "none"})


def test_an_old_pair_from_the_command_line(tmp_path: Path):
    folder = nemowriter.write_pair(tmp_path / "pair", nemowriter.state(nemowriter.model()))
    run(tmp_path / "a", "--kind", "jasper", "--path", str(folder), alphabet=" ab'é")
    _, meta = load_model(tmp_path / "a" / "model.safetensors")
    assert meta["model"] == {"kind": "quartznet", "variant": "mini-3x1", "frontend_version": "v0.10"}
    assert meta["run"]["name"] == "JasperEncoder-STEP-9.pt"


def test_kinds_of_file_and_of_model_belong_together(tmp_path: Path):
    with pytest.raises(UserError, match="a checkpoint of kind nemo holds a model of kind quartznet, not deepspeech"):
        run(tmp_path, "--kind", "nemo", "--model", '{"kind": "deepspeech"}')
    with pytest.raises(UserError, match="kind deepspeech-tf holds a model of kind deepspeech, not quartznet"):
        run(tmp_path, "--model", '{"kind": "quartznet"}')
    with pytest.raises(UserError, match=r"data: a folder; give the path of a \.nemo file"):
        run(tmp_path, "--kind", "nemo")
    assert list(tmp_path.iterdir()) == []

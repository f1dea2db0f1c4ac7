"""Models on disk: stable bytes, exact weights, and errors a person can act on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from thaw.config.models import DeepSpeechSpec
from thaw.errors import UserError
from thaw.models import LayeredModel, build, load_model, load_tensors, save_model, save_tensors

SPEC = DeepSpeechSpec(kind="deepspeech", hidden=8)
META = {"run": "ab", "alphabet": " abcä", "model": SPEC.model_dump(mode="json")}


def model(seed: int = 1, classes: int = 6) -> LayeredModel:
    made = build(SPEC, classes)
    made.initialise(seed)
    return made


def test_a_model_comes_back_bit_for_bit(tmp_path: Path):
    saved = model()
    save_model(tmp_path / "m.safetensors", saved, META)
    loaded, meta = load_model(tmp_path / "m.safetensors")
    assert meta == META
    assert loaded.state_dict().keys() == saved.state_dict().keys()
    assert all(torch.equal(tensor, saved.state_dict()[key]) for key, tensor in loaded.state_dict().items())


def test_equal_content_gives_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        save_model(tmp_path / name, model(), dict(sorted(META.items(), reverse=name == "b")))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    save_model(tmp_path / "c", model(seed=2), META)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_other_tensors_than_the_specs_are_refused(tmp_path: Path):
    save_model(tmp_path / "m", model(classes=7), META)
    with pytest.raises(UserError, match=r"m: layer layer_6 .*\(6, 8\) here, \(7, 8\) there.*output layer: reset it"):
        load_model(tmp_path / "m")


def test_files_that_are_no_model(tmp_path: Path):
    with pytest.raises(UserError, match="absent: no such file"):
        load_model(tmp_path / "absent")
    (tmp_path / "text").write_text("not a tensor file")
    with pytest.raises(UserError, match="text: not a safetensors file"):
        load_model(tmp_path / "text")
    save_model(tmp_path / "whole", model(), META)
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:-10])
    with pytest.raises(UserError, match="cut: not a safetensors file, or cut short"):
        load_model(tmp_path / "cut")
    save_file({"w": torch.ones(1)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="foreign: not written by thaw"):
        load_model(tmp_path / "foreign")
    save_tensors(tmp_path / "other", {"w": torch.ones(1)}, {"step": 1})
    with pytest.raises(UserError, match="other: not a model of thaw"):
        load_model(tmp_path / "other")


def test_views_and_scalars_are_saved_as_what_they_show(tmp_path: Path):
    tensors = {"view": torch.arange(6.0).reshape(2, 3).T, "step": torch.tensor(3)}
    save_tensors(tmp_path / "t", tensors, {"epoch": 2})
    loaded, meta = load_tensors(tmp_path / "t")
    assert meta == {"epoch": 2}
    assert all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_a_model_needs_its_spec_and_alphabet(tmp_path: Path):
    with pytest.raises(ValueError, match="meta lacks \\['alphabet'\\]"):
        save_model(tmp_path / "m", model(), {"model": META["model"]})


def test_weights_can_be_read_by_those_who_may_read_other_files(tmp_path: Path) -> None:
    """A group shares results: weights are no more private than the tables beside them."""
    save_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode

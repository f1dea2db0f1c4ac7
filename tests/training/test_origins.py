"""Trainings that take layers from several runs and snapshots, and from draws of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.conftest import ALPHABET, Bench, make_bench
from thaw.config.models import DeepSpeechSpec
from thaw.errors import EXIT_USER_ERROR
from thaw.files import read_json
from thaw.models import build, save_model, save_tensors
from thaw.models.layered import LayeredModel, layer_of
from thaw.units import Alphabet, metadata_of

LAYERS = DeepSpeechSpec(kind="deepspeech").layer_names


def donor(bench: Bench, seed: int) -> LayeredModel:
    spec = DeepSpeechSpec.model_validate(bench.recipe["model"])
    model = build(spec, len(ALPHABET) + 1)
    model.initialise(seed)
    return model


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A corpus, `a.safetensors` with snapshots of one run, and `b.safetensors`, the best epoch of another."""
    made = make_bench(tmp_path_factory.mktemp("origins"))
    made.recipe["recipe"]["epochs"] = 1
    meta: dict[str, Any] = {"model": made.recipe["model"], "alphabet": ALPHABET}
    kept = {name: donor(made, seed).state_dict() for name, seed in (("first", 11), ("epoch-2", 12))}
    tensors = {f"{name}/{key}": tensor for name, state in kept.items() for key, tensor in state.items()}
    save_tensors(made.folder / "a.safetensors", tensors, {**meta, "snapshots": list(kept)})
    save_model(made.folder / "b.safetensors", donor(made, 13), meta)
    return made


def first_of(model: LayeredModel, layers: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if layer_of(name) in layers}


def test_a_donor_at_epoch_2_with_its_classifier_swapped_in_from_another_run(bench: Bench) -> None:
    swapped = bench.with_recipe(
        start="a",
        snapshot="epoch-2",
        loads=[{"start": "b", "layers": ["layer_6", "layer_5"]}],
        reset=["layer_1"],
        freeze=["layer_6", "layer_5", "layer_2"],
    )
    a, b = bench.folder / "a.safetensors", bench.folder / "b.safetensors"
    code, err = swapped.run("out", "--start", str(a), "--load", str(b))
    assert code == 0, err
    checks = read_json(swapped.outputs("out")["record"])["checks"]["start"]
    assert checks["kept"] == ["layer_2", "layer_3", "lstm"]
    assert checks["loaded"] == {"b@best": ["layer_5", "layer_6"]}
    assert checks["drawn"] == ["layer_1"]
    after = load_file(swapped.outputs("out")["model"])
    still = first_of(donor(bench, 13), ("layer_5", "layer_6")) | first_of(donor(bench, 12), ("layer_2",))
    assert all(torch.equal(after[name], tensor) for name, tensor in still.items())
    epoch_2 = donor(bench, 12).state_dict().items()
    same = [name for name, tensor in epoch_2 if "weight" in name and torch.equal(after[name], tensor)]
    assert same == ["layers.layer_2.weight"]


def test_the_shared_layers_of_several_languages_in_a_model_of_one(bench: Bench, tmp_path: Path) -> None:
    units = {"de": Alphabet(" abcdef"), "xx": Alphabet(ALPHABET)}
    spec = DeepSpeechSpec.model_validate(bench.recipe["model"])
    several = build(spec, {lang: each.classes for lang, each in units.items()})
    several.initialise(14)
    save_model(tmp_path / "several.safetensors", several, {"model": bench.recipe["model"], **metadata_of(units)})
    one = bench.with_recipe(start="several", reset=["layer_6"], freeze=["layer_1"])
    code, err = one.run("one", "--start", str(tmp_path / "several.safetensors"))
    assert code == 0, err
    name = "layers.layer_1.weight"
    assert torch.equal(load_file(one.outputs("one")["model"])[name], several.state_dict()[name])


def test_loads_that_do_not_fit_the_command_are_refused(bench: Bench, tmp_path: Path) -> None:
    a, b = str(bench.folder / "a.safetensors"), str(bench.folder / "b.safetensors")
    loads = {"loads": [{"start": "b", "layers": ["layer_6"]}]}
    cases: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
        ({"start": "a"}, ("--start", a), "no snapshot best; it holds first, epoch-2"),
        ({"start": "b", "snapshot": "last"}, ("--start", b), "no snapshot last; it holds the best epoch alone"),
        (loads, (), "--load names 0 files"),
        ({**loads, "alphabet": " abdc"}, ("--load", b), "its units are"),
        ({**loads, "reset": ["layer_6"], "start": "a"}, ("--start", a, "--load", b), "more than one origin"),
    ]
    for changes, extra, message in cases:
        code, err = bench.with_recipe(**changes).run("refused", *extra)
        assert code == EXIT_USER_ERROR, err
        assert message in err
        assert "Traceback" not in err

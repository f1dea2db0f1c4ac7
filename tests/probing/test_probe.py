"""Probes: the decode's bytes without operations, the right weights with them, and no trace afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.decoding.test_decode import call, write_shard
from thaw.commands import decode as decode_verb
from thaw.commands import probe as probe_verb
from thaw.commands import score as score_verb
from thaw.config.decoders import GreedySpec
from thaw.config.models import QuartzNetSpec
from thaw.config.probes import ProbeSpec, each_layer
from thaw.config.rnn import BlstmSpec
from thaw.corpora.manifest import read_manifest
from thaw.decoding.decode import decode
from thaw.decoding.emissions import LogProbs, emissions, load_recogniser, read_features
from thaw.errors import UserError
from thaw.files import json_line, read_json, read_jsonl, write_jsonl
from thaw.models import build, save_model, save_tensors
from thaw.models.layered import LayeredModel
from thaw.probing import probe as module
from thaw.probing.churn import churn
from thaw.probing.probe import operated, probe
from thaw.probing.rows import read_counts, read_rows
from thaw.probing.weights import first_weights
from thaw.surgery.checks import SurgeryError, drawn_state, same_bits
from thaw.surgery.operations import START, Reset
from thaw.units import Alphabet, metadata_of

SPEC = QuartzNetSpec(kind="quartznet", variant="mini-3x1")
LETTERS = " abc"
RUN: dict[str, Any] = {"seed": 1, "start": "scratch", "reset": [], "output_rows": "fresh"}
META = {"model": SPEC.model_dump(mode="json"), "alphabet": LETTERS, "run": RUN, "epoch": 3}


def network(seed: int, shift: float = 0.0) -> LayeredModel:
    model = build(SPEC, len(LETTERS) + 1)
    model.initialise(seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(shift * torch.rand(tensor.shape, generator=random))
    return model


def with_weights(state: dict[str, Tensor]) -> LayeredModel:
    model = network(1)
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest, a run's best epoch, and its other snapshots."""
    path = tmp_path_factory.mktemp("probe")
    write_shard(path)
    save_model(path / "model.safetensors", network(1, 0.05), META)
    kept = {"first": network(1), "epoch-2": network(1, 0.02), "last": network(1, 0.06)}
    tensors = {f"{name}/{key}": tensor for name, model in kept.items() for key, tensor in model.state_dict().items()}
    save_tensors(path / "snapshots.safetensors", tensors, {**META, "snapshots": list(kept)})
    return path


def run(folder: Path, operations: dict[str, Any], snapshots: bool = True, **spec: Any) -> module.Probed:
    parsed = ProbeSpec.model_validate({"operations": operations, **spec})
    where = folder / "snapshots.safetensors" if snapshots else None
    manifests = [folder / "test.jsonl"] * len(parsed.splits)
    return probe(parsed, folder / "model.safetensors", manifests, snapshots=where, device="cpu")


def test_a_probe_without_operations_is_the_decode_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    inputs = ["--model", folder / "model.safetensors", "--manifest", folder / "test.jsonl", "--device", "cpu"]
    decoded = tmp_path / "h.jsonl"
    call(decode_verb, *inputs, "--hypotheses", decoded, "--record", tmp_path / "r")
    call(score_verb, "--hypotheses", decoded, "--scores", tmp_path / "s.json", "--counts", tmp_path / "c.jsonl")
    names = {option: tmp_path / f"{option}.jsonl" for option in ("rows", "counts", "hypotheses", "record")}
    outputs = [word for option, path in names.items() for word in (f"--{option}", path)]
    spec = {
        "operations": {"b": [{"reset": ["block_2"], "seed": 5}], "none": [], "a": [{"reset": ["conv_1"], "to": "zero"}]}
    }
    call(probe_verb, "--probes", json.dumps(spec), *inputs, "--snapshots", *outputs)
    for probed, file in (("hypotheses", decoded), ("counts", tmp_path / "c.jsonl")):
        rows = [row for row in read_jsonl(names[probed]) if (row.pop("name"), row.pop("split")) == ("none", "test")]
        assert "".join(json_line(row) + "\n" for row in rows) == file.read_text(encoding="utf-8")
    assert [row["name"] for row in read_rows(names["rows"])] == ["a", "b", "none"]
    none, scores = read_rows(names["rows"])[2], read_json(tmp_path / "s.json")
    for key in ("word", "char"):
        counted = none["measures"][key]
        assert (counted["errors"], counted["total"]) == (
            sum(scores[key][e] for e in ("sub", "del", "ins")),
            scores[key]["ref"],
        )
    assert len(read_counts(names["counts"])["a", "test"]) == none["utterances"] == 6
    assert any("cannot emit" in warning for warning in read_json(names["record"])["warnings"])


def test_features_are_made_once_and_every_probe_is_what_a_model_with_those_weights_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, Tensor]] = {}
    scored: dict[int, dict[str, LogProbs]] = {}
    evaluate, made = module.evaluate, []

    def watch(batches: Any, probed: Any, place: dict[str, Any], row: dict[str, Any]) -> None:
        seen[int(place["name"])] = {k: t.clone() for k, t in batches.speaking["test"].model.state_dict().items()}
        scored[int(place["name"])] = {u.id: scores for u, scores in batches.emissions("test")}
        evaluate(batches, probed, place, row)

    def read(*arguments: Any) -> Any:
        made.append(1)
        return module_read(*arguments)

    module_read = module.read_features
    monkeypatch.setattr(module, "evaluate", watch)
    monkeypatch.setattr(module, "read_features", read)
    operations: dict[str, Any] = {
        "0": [],
        "1": [{"reset": ["block_1"], "seed": 5, "draw": 2}],
        "2": [{"reset": ["output"], "to": "first"}, {"reset": ["conv_1"], "to": "zero"}],
        "3": [{"load": ["first-2"], "snapshot": "epoch-2"}],
        "4": [{"reset": ["block_1", "block_2"], "to": "first", "buffers": False}],
        "5": [],
    }
    probed = run(folder, operations)
    assert len(made) == 1
    best, first, second = (network(1, shift).state_dict() for shift in (0.05, 0.0, 0.02))
    drawn = drawn_state(network(1), "block_1", 5, 2)

    def mixed(other: dict[str, Tensor], *layers: str) -> dict[str, Tensor]:
        return {k: other[k] if k.split(".")[1] in layers else t for k, t in best.items()}

    assert same_bits(seen[0], best)
    assert same_bits(seen[1], best | drawn)
    zeroed = mixed(first, "decoder") | {k: t for k, t in seen[2].items() if ".conv_1." in k}
    assert same_bits(seen[2], zeroed)
    assert not any(t.any() for k, t in seen[2].items() if ".conv_1." in k and "running" not in k)
    assert same_bits(seen[3], mixed(second, "conv_1", "block_1"))
    kept = mixed(first, "block_1", "block_2") | {k: t for k, t in best.items() if "running" in k}
    assert same_bits(seen[4], kept)
    assert same_bits(seen[5], best)
    for number, state in seen.items():  # what lies below the first changed layer is computed once, and is the same
        save_model(tmp_path / "mixed.safetensors", with_weights(state), META)
        recogniser = load_recogniser(tmp_path / "mixed.safetensors", "cpu")
        read = read_features(recogniser, read_manifest(folder / "test.jsonl"))
        expected = {utterance.id: scores for utterance, scores in emissions(recogniser, read)}
        assert all(np.array_equal(scored[number][name], scores) for name, scores in expected.items())
        assert (number in (0, 5)) == np.array_equal(scored[number]["u0"], scored[0]["u0"])
    assert probed.rows[3]["operations"] == [{"load": ["first-2"], "snapshot": "epoch-2"}]
    assert probed.rows[0]["measures"] == probed.rows[5]["measures"]


@pytest.mark.parametrize("most", [0, 200_000])
def test_where_memory_is_short_more_is_computed_again(folder: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = {"none": (), **each_layer(SPEC.layer_names, "draw", [3])}
    plain = run(folder, operations)
    monkeypatch.setattr(module, "MOST_BYTES", most)
    assert run(folder, operations).hypotheses == plain.hypotheses


def test_first_values_are_the_kept_ones_or_drawn_again(folder: Path) -> None:
    operations = {"x": [{"reset": ["block_1", "decoder"], "to": "first"}]}
    assert run(folder, operations).hypotheses == run(folder, operations, snapshots=False).hypotheses
    recogniser = load_recogniser(folder / "model.safetensors", "cpu")
    place = (recogniser.model, ["block_1", "decoder"])
    kept = first_weights(*place, META, folder / "m", folder / "snapshots.safetensors")
    again = first_weights(*place, META, folder / "m", None)
    assert same_bits(again, kept)
    transferred = {**META, "run": {**RUN, "start": "x", "reset": ["decoder"], "output_rows": "shared"}}
    for layer in ("block_1", "decoder"):
        with pytest.raises(UserError, match=rf"m: what layer {layer} was at first is not known.*snapshots: \[first"):
            first_weights(recogniser.model, [layer], transferred, folder / "m", None)
    own = {**transferred, "run": {**RUN, "start": "x", "reset": ["decoder"], "seed": 4, "draw": 1}}
    drawn = first_weights(recogniser.model, ["decoder"], own, folder / "m", None)
    assert same_bits(drawn, drawn_state(recogniser.model, "decoder", 4, 1))


def test_several_splits_and_another_snapshot(folder: Path) -> None:
    probed = run(folder, {"n": []}, snapshot="epoch-2", splits=["dev", "test"])
    assert [(row["split"], row["snapshot"]) for row in probed.rows] == [("dev", "epoch-2"), ("test", "epoch-2")]
    assert list(probed.record["splits"]) == ["dev", "test"]
    files = ["--manifest", folder / "test.jsonl", "--device", "cpu", "--model", folder / "snapshots.safetensors"]
    call(decode_verb, *files, "--snapshot", "epoch-2", "--hypotheses", folder / "h", "--record", folder / "r")
    texts = [line["hypothesis"] for line in probed.hypotheses if line["split"] == "test"]
    assert texts == [row["hypothesis"] for row in read_jsonl(folder / "h")]


def test_languages_with_heads_of_their_own(folder: Path, tmp_path: Path) -> None:
    """The manifest is of language xx: its head answers, whatever becomes of the other; `output` is both."""
    units = {"de": Alphabet(" abcdef"), "xx": Alphabet(LETTERS)}
    model = build(SPEC, {lang: each.classes for lang, each in units.items()})
    model.initialise(4)
    meta = {**META, "run": {**RUN, "seed": 4}, **metadata_of(units)}
    del meta["alphabet"]
    save_model(tmp_path / "model.safetensors", model, meta)
    operations = {
        "de": [{"reset": ["decoder_de"], "to": "zero"}],
        "none": [],
        "output": [{"reset": ["output"], "to": "zero"}],
        "xx": [{"reset": ["decoder_xx"], "to": "zero"}],
    }
    spec = ProbeSpec.model_validate({"operations": operations})
    probed = probe(spec, tmp_path / "model.safetensors", [folder / "test.jsonl"], device="cpu")
    said = {name: [line["hypothesis"] for line in probed.hypotheses if line["name"] == name] for name in operations}
    rows, _ = decode(GreedySpec(kind="greedy"), tmp_path / "model.safetensors", folder / "test.jsonl", device="cpu")
    assert said["none"] == said["de"] == [row["hypothesis"] for row in rows]
    assert said["output"] == said["xx"] != said["none"]
    other = [row | {"lang": "fr"} for row in read_jsonl(folder / "test.jsonl")]
    write_jsonl(tmp_path / "fr.jsonl", [row | {"audio_filepath": str(folder / "0.wav")} for row in other])
    with pytest.raises(UserError, match="no head for language 'fr'; the heads are those of de, xx"):
        probe(spec, tmp_path / "model.safetensors", [tmp_path / "fr.jsonl"], device="cpu")


def test_a_model_with_a_decoder_is_heard_through_ctc(folder: Path, tmp_path: Path) -> None:
    """What is behind the encoder stands side by side: a probe of the decoder alone changes nothing that CTC says."""
    write_shard(tmp_path)
    decoder = {"width": 4, "attention": 4, "channels": 2, "reach": 2}
    spec = BlstmSpec.model_validate(
        {"kind": "blstm", "mel": 8, "layers": 2, "cells": 4, "projection": 4, "decoder": decoder}
    )
    model = build(spec, len(LETTERS) + 1)
    model.initialise(1)
    task = {"kind": "ctc-attention"}
    save_model(tmp_path / "model.safetensors", model, {**META, "model": spec.model_dump(mode="json"), "task": task})
    operations = {"none": [], **{layer: [{"reset": [layer], "seed": 3}] for layer in spec.layer_names}}
    probed = run(tmp_path, operations, snapshots=False)
    said = {name: [row["hypothesis"] for row in probed.hypotheses if row["name"] == name] for name in operations}
    rows, _ = decode(GreedySpec(kind="greedy"), tmp_path / "model.safetensors", tmp_path / "test.jsonl", device="cpu")
    assert said["none"] == [row["hypothesis"] for row in rows]
    same = {name for name, texts in said.items() if texts == said["none"]}
    assert same == {"none", "attention", "decoder", "attention_output"}


def test_what_a_probe_cannot_do_is_said_in_one_line(folder: Path) -> None:
    model = folder / "model.safetensors"
    with pytest.raises(UserError, match="no layer block_9; its layers: conv_1, block_1"):
        run(folder, {"x": [{"reset": ["block_9"], "to": "zero"}]})
    with pytest.raises(UserError, match="layer block_1 is drawn from seed 1, draw 0"):
        run(folder, {"x": [{"reset": ["block_1"], "seed": 1}]})
    with pytest.raises(UserError, match="no snapshot epoch-7; it holds first, epoch-2, last"):
        run(folder, {"x": [{"load": ["block_1"], "snapshot": "epoch-7"}]})
    with pytest.raises(UserError, match="snapshot epoch-2: give the run's snapshots"):
        run(folder, {"x": []}, snapshots=False, snapshot="epoch-2")
    with pytest.raises(UserError, match="no snapshot last; it holds the best epoch alone"):
        load_recogniser(model, "cpu", snapshot="last")
    with pytest.raises(UserError, match="2 splits"):
        probe(ProbeSpec(splits=("dev", "test"), operations={"x": ()}), model, [folder / "test.jsonl"], device="cpu")
    for wrong in ({"reset": ["block_1"]}, {"reset": ["block_1"], "to": "first", "seed": 3}):
        with pytest.raises(ValueError, match="to: draw needs a seed"):
            ProbeSpec.model_validate({"operations": {"x": [wrong]}})


def test_weights_that_do_not_come_back_are_noticed() -> None:
    model = network(1, 0.05)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with (
        pytest.raises(SurgeryError, match="left its traces"),
        operated(model, [Reset(("block_1",), seed=9)], {START: own}, {}),
        torch.no_grad(),
    ):
        model.layer("conv_1").sub[0].norm.weight[0] += 1e-6
    with pytest.raises(ZeroDivisionError), operated(model, [Reset(("block_1",), seed=9)], {START: own}, {}):
        1 / 0  # noqa: B018
    assert same_bits(model.layer_state("block_1"), own)


def test_each_layer_in_turn() -> None:
    assert list(each_layer(["a", "b"], "draw", [1, 2])) == ["a-draw-1", "a-draw-2", "b-draw-1", "b-draw-2"]
    spec = ProbeSpec(operations={"none": (), **each_layer(SPEC.layer_names, "first")})
    assert spec.operations["block_1-first"][0].model_dump(exclude_defaults=True) == {
        "reset": ("block_1",),
        "to": "first",
    }
    assert ProbeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.snapshots == {"best"}


# --- modules, and churn -----------------------------------------------------------------------------------------------


def test_a_module_is_reset_and_the_rest_of_its_layer_is_not(folder: Path) -> None:
    """To what a reset of the whole layer gives; its neighbours keep the bits of the snapshot, or of a load before."""
    recogniser = load_recogniser(folder / "model.safetensors", "cpu", 1)
    model = recogniser.model
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    whole = drawn_state(model, "block_2", 101, 0)
    reset = Reset(("block_2",), "draw", 101, modules=("sub.0", "residual.norm"))
    with operated(model, [reset], {START: start}, META):
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])}
        prefixes = ("layers.block_2.sub.0.", "layers.block_2.residual.norm.")
        assert changed
        assert all(name.startswith(prefixes) for name in changed)
        assert all(torch.equal(model.state_dict()[name], whole[name]) for name in changed)
    with (
        pytest.raises(UserError, match="block_2 has no module conv"),
        operated(model, [Reset(("block_2",), "draw", 101, modules=("conv",))], {START: start}, META),
    ):
        pass


def test_a_reset_of_modules_that_reaches_further_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_recogniser(folder / "model.safetensors", "cpu", 1).model
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr("thaw.surgery.operations.within", lambda tensors, layer, modules: dict(tensors))
    reset = Reset(("block_2",), "draw", 101, modules=("sub.0",))
    with pytest.raises(SurgeryError, match="more than"), operated(model, [reset], {START: start}, META):
        pass


def test_resets_at_an_earlier_snapshot_stand_in_the_same_job(folder: Path) -> None:
    """All layers are loaded, then one is reset: the same as a probe of that snapshot."""
    early = [{"load": ["first-9", "output"], "snapshot": "epoch-2"}]
    reset = [{"reset": ["block_1"], "to": "draw", "seed": 101}]
    layers = list(load_recogniser(folder / "model.safetensors", "cpu", 1).model.layers)
    early[0]["load"] = layers
    together = run(folder, {"now": [*early, *reset], "none": early})
    alone = run(folder, {"now": reset, "none": []}, snapshot="epoch-2")
    assert together.hypotheses == alone.hypotheses


def test_churn_is_the_norm_of_what_each_matrix_moved_by(folder: Path) -> None:
    record = run(folder, {"none": []}, churn=("first", "epoch-2", "best")).record
    model, first = network(1, 0.05).state_dict(), network(1).state_dict()
    rows = {(row["snapshot"], row["layer"], row["module"]): row for row in record["churn"]}
    assert all(row["norm"] == 0 for (snapshot, _, _), row in rows.items() if snapshot == "first")
    name = "layers.block_2.sub.0.pointwise.weight"
    row = rows["best", "block_2", "sub.0.pointwise"]
    assert row["norm"] == pytest.approx(float((model[name] - first[name]).norm()))
    assert row["first"] == pytest.approx(float(first[name].norm()))
    assert 0 < rows["epoch-2", "block_2", "sub.0.pointwise"]["norm"] < row["norm"]
    assert not [module for _, _, module in rows if "norm" in module]
    biases = {"layers.block_1.attention.u": torch.ones(2, 1, 4), "layers.block_1.attention.q.weight": torch.ones(4, 4)}
    assert [row["module"] for row in churn(biases, {name: 0 * bias for name, bias in biases.items()})] == [
        "attention.q"
    ]
    assert "churn" not in run(folder, {"none": []}).record
    with pytest.raises(UserError, match="no snapshot epoch-9"):
        run(folder, {"none": []}, churn=("epoch-9",))

"""Chains of starts, layers from another run, snapshots, parts and probes: by configuration alone (chain.yaml)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import TOY, Workspace
from tests.workflow.dry_runs import listed
from thaw.config.load import merged
from thaw.files import read_jsonl
from thaw.models import load_model

pytestmark = pytest.mark.e2e

CHAIN = yaml.safe_load(Path(__file__).with_name("chain.yaml").read_text())
LAYERS = ["layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The chain, run to its end."""
    workspace = Workspace(tmp_path_factory.mktemp("chain"))
    workspace.config.write_text(yaml.safe_dump(merged(yaml.safe_load(TOY.read_text()), CHAIN), allow_unicode=True))
    workspace.run()
    return workspace


def folder(chain: Workspace, treatment: str, room: str = "runs") -> Path:
    [found] = (chain.root / "results" / room).glob(f"german-deepspeech-{treatment}-*")
    return found


def layers(path: Path, snapshot: str = "best") -> dict[str, bytes]:
    """The bytes of each layer's tensors."""
    model, _ = load_model(path, snapshot)
    return {
        name: b"".join(tensor.numpy().tobytes() for tensor in model.layer_state(name).values()) for name in model.layers
    }


def test_each_stage_keeps_the_frozen_layers_of_the_one_before_and_draws_the_rest_anew(chain: Workspace) -> None:
    before = layers(folder(chain, "scratch-s1") / "model.safetensors")
    for stage, frozen in (("stage-1", 1), ("stage-2", 2), ("stage-3", 3)):
        run = folder(chain, stage)
        first, last = (layers(run / "snapshots.safetensors", at) for at in ("first", "last"))
        kept, drawn = LAYERS[-frozen:], LAYERS[:-frozen]
        assert [name for name in LAYERS if first[name] == before[name]] == kept
        assert [name for name in LAYERS if last[name] == first[name]] == kept
        assert json.loads((run / "run.json").read_text())["checks"]["start"]["drawn"] == drawn
        # The next stage starts from this one's best epoch, the third from the second epoch of the second.
        before = (
            layers(run / "model.safetensors")
            if stage == "stage-1"
            else layers(run / "snapshots.safetensors", "epoch-2")
        )


def test_a_layer_drawn_anew_with_its_donors_seed_is_not_the_donors_own_first_draw(chain: Workspace) -> None:
    drawn = [layers(folder(chain, run) / "snapshots.safetensors", "first")["layer_1"]
             for run in ("scratch-s1", "stage-1", "stage-2", "stage-3")]  # fmt: skip
    assert len(set(drawn)) == 4


def test_a_classifier_comes_from_another_run_and_parts_are_what_they_say(chain: Workspace) -> None:
    swapped, donor = folder(chain, "swapped"), folder(chain, "donor")
    wanted = layers(donor / "snapshots.safetensors", "epoch-2")["layer_6"]
    assert layers(swapped / "model.safetensors")["layer_6"] == wanted
    used = {
        name: {row["id"] for row in read_jsonl(folder(chain, name, "parts") / "train.jsonl")}
        for name in ("fifth", "unseen")
    }
    [whole] = (chain.root / "results" / "manifests").glob("german-*")
    everything = {row["id"] for row in read_jsonl(whole / "train.jsonl")}
    assert used["fifth"] | used["unseen"] == everything
    assert not used["fifth"] & used["unseen"]
    assert len(used["fifth"]) == round(0.2 * len(everything))
    for run, part in ((donor, "fifth"), (swapped, "unseen")):
        assert json.loads((run / "run.json").read_text())["corpora"]["train"]["utterances"] == len(used[part])


def test_a_probe_without_operations_is_the_decode(chain: Workspace) -> None:
    probed = read_jsonl(folder(chain, "stage-3-s1-layers", "probes") / "hypotheses.jsonl")
    plain = [row for row in probed if row["name"] == "none"]
    decoded = read_jsonl(folder(chain, "stage-3-s1-greedy", "decodes") / "hypotheses.jsonl")
    assert [{key: row[key] for key in decoded[0]} for row in plain] == decoded
    rows = read_jsonl(folder(chain, "stage-3-s1-layers", "probes") / "rows.jsonl")
    assert [row["name"] for row in rows] == ["lstm", "none", "output"]


def test_two_languages_are_learnt_together_with_a_head_each(chain: Workspace) -> None:
    model, _ = load_model(folder(chain, "joint") / "model.safetensors")
    assert model.heads == ("layer_6_de", "layer_6_en")
    [last] = read_jsonl(folder(chain, "joint") / "metrics.jsonl")[-1:]
    assert last["dev_by_language"].keys() == {"de", "en"}
    assert len(read_jsonl(folder(chain, "joint-s1-greedy", "decodes") / "hypotheses.jsonl")) == 6  # of the target


EDITS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "the second stage": ({"treatments": {"stage-2": {"recipe": {"dropout": 0.2}}}}, {"stage-2", "stage-3"}),
    "the donor": ({"treatments": {"donor": {"recipe": {"dropout": 0.2}}}}, {"donor", "swapped"}),
    "a part": ({"parts": {"unseen": {"seed": 2}}}, {"swapped"}),
    "the first run": (
        {"treatments": {"scratch": {"recipe": {"dropout": 0.2}}}},
        {"scratch", "stage-1", "stage-2", "stage-3", "swapped"},
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_the_stages_behind_it_and_no_other(chain: Workspace, tmp_path: Path, name: str) -> None:
    over, expected = EDITS[name]
    config = tmp_path / "edited.yaml"
    config.write_text(yaml.safe_dump(merged(yaml.safe_load(chain.config.read_text()), over), allow_unicode=True))
    trained = {job.removeprefix("train german-deepspeech-").removesuffix("-s1")
               for job in listed(chain, config=config) if job.startswith("train ")}  # fmt: skip
    assert trained == expected

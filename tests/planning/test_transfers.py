"""Transfers unroll to evidence, nothing frozen, each layer alone, and sets; what the config trains anyhow is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import merged, read_yaml, validate
from thaw.errors import UserError
from thaw.planning import layout, showing
from thaw.planning.plan import Plan, resolve
from thaw.planning.transfers import sets_of

TOY = Path(__file__).parents[1] / "workflow" / "toy.yaml"
STUDY: dict[str, Any] = {
    "kind": "layers",
    "transfers": {
        "en-de": {
            "source": {"corpus": "english", "model": "deepspeech", "recipe": "pretrain"},
            "target": "german",
            "recipe": "finetune",
        }
    },
    "seeds": [1, 2],
    "decoder": "greedy",
    "evidence": {"draws": 2},
}


def plan(over: dict[str, Any] | None = None, **study: Any) -> Plan:
    return resolve(validate(merged(merged(read_yaml(TOY), {"studies": {"layers": {**STUDY, **study}}}), over or {})))


def test_sets_are_nothing_each_layer_and_shares_from_both_ends() -> None:
    layers = ("conv_1", "b", "c", "d", "e")
    found = sets_of(layers, (0.5, 0.1, 0.99))
    assert found["freeze-none"] == ()
    assert found["freeze-conv-1"] == ("conv_1",)
    assert (found["freeze-first-3"], found["freeze-last-3"]) == (layers[:3], layers[2:])
    assert len(found) == 8  # of 0.1 a single layer, and of 0.99 all are left: no sets of their own


def test_a_transfer_is_its_evidence_and_every_set_with_every_seed() -> None:
    found = plan()
    study = found.study("layers")
    [transfer] = study.transfers
    assert transfer.label == "deepspeech, English → German"
    assert transfer.layers == ("layer_1", "layer_2", "layer_3", "lstm", "layer_5")
    assert len(transfer.tried) == 8
    assert {len(runs) for runs in transfer.runs.values()} == {2}
    for treatment, frozen in transfer.tried.items():
        for run in transfer.runs[treatment]:
            assert (run.recipe.freeze, run.recipe.reset) == (tuple(sorted(frozen)), ("layer_6",))
            assert run.recipe.start == transfer.evidence.run.hash
    assert found.evidence == {transfer.evidence.id: transfer.evidence}
    assert transfer.evidence.id.startswith("english-deepspeech-source-s1-to-german-")
    assert len(study.decodes) == 17  # and the source's


def test_runs_of_other_studies_are_shared_and_nothing_else_changes() -> None:
    without = resolve(validate(read_yaml(TOY)))
    found = plan()
    assert set(without.runs) <= set(found.runs)
    [transfer] = found.study("layers").transfers
    assert {run.id for run in transfer.runs["frozen-0"]} & set(without.runs)  # nothing frozen, seed 1
    assert transfer.evidence.run.id in without.runs
    shown, before = showing.exhibits(found), showing.exhibits(without)
    assert all(shown[key].spec_json == one.spec_json for key, one in before.items())


def test_evidence_is_known_by_its_run_its_target_and_how_much_is_looked_at() -> None:
    def id_of(over: dict[str, Any] | None = None, **study: Any) -> str:
        return plan(over, **study).study("layers").transfers[0].evidence.id

    same = id_of()
    assert id_of(seeds=[1, 2, 3]) == same
    assert id_of(evidence={"draws": 3}) != same
    assert id_of({"recipes": {"pretrain": {"epochs": 4}}}) != same
    assert id_of({"corpora": {"german": {"source": {"vocabulary": 13}}}}) != same
    assert id_of({"recipes": {"finetune": {"epochs": 4}}}) == same


def test_the_exhibits_wait_for_runs_decodes_and_evidence() -> None:
    found = plan()
    [transfer] = found.study("layers").transfers
    table = showing.exhibits(found)["layers", "table-predictions"]
    assert layout.evidence(transfer.evidence) in table.inputs
    assert sum(path.endswith("scores.json") for path in table.inputs) == 16
    assert sum(path.endswith("run.json") for path in table.inputs) == 16


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ({"decoder": "greedier"}, "studies.layers.decoder: 'greedier' is not there"),
        ({"target": "germane"}, "studies.layers.transfers.en-de.targets: 'germane' is not there"),
        ({"recipe": "none"}, "studies.layers.transfers.en-de.recipe: 'none' is not there"),
        ({"source": {"corpus": "english", "model": "deep", "recipe": "pretrain"}}, "source.model: 'deep' is not there"),
        ({"source": {"corpus": "klingon", "model": "deepspeech", "recipe": "pretrain"}}, "'klingon' is not there"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"shares": [1.5]}, "shares"),
        ({"transfers": {}}, "transfers"),
        ({"evidence": {"draws": 0}}, "draws"),
    ],
)
def test_a_mistake_is_one_line(study: dict[str, Any], said: str) -> None:
    inner = {key: study.pop(key) for key in ("target", "recipe", "source") if key in study}
    transfers = {"en-de": {**STUDY["transfers"]["en-de"], **inner}}
    with pytest.raises(UserError) as error:
        validate(merged(read_yaml(TOY), {"studies": {"layers": {**STUDY, "transfers": transfers, **study}}}))
    assert any(said in line for line in str(error.value).splitlines())


def test_a_checkpoint_has_no_evidence() -> None:
    source = {"model": "deepspeech", "checkpoint": "released"}
    transfers = {"en-de": {**STUDY["transfers"]["en-de"], "source": source}}
    over = {
        "checkpoints": {"released": {"kind": "nemo", "path": str(TOY), "language": "en"}},
        "studies": {"layers": {**STUDY, "transfers": transfers}},
    }
    with pytest.raises(UserError, match=r"transfers\.en-de\.source: evidence is gathered of runs"):
        validate(merged(read_yaml(TOY), over))

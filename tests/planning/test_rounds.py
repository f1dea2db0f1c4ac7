"""Federated runs of a study: what they start from, what ranks their layers, what they share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.planning.test_plan import CONFIG
from thaw.config.config import Config
from thaw.config.learners import FederatedSpec
from thaw.config.load import merged, validate
from thaw.config.probes import ProbeSpec, each_layer
from thaw.planning.artifacts import Probe
from thaw.planning.grid import scratch_run
from thaw.planning.rounds import Base, Federation, FederationSpec, check_federation, plan_federation

CONFORMER: dict[str, Any] = {
    "languages": {"de": {"alphabet": " abc"}},
    "models": {"conformer": {"kind": "conformer", "variant": "mini-S", "norm": "group"}},
    "recipes": {"rounds": {"epochs": 2, "optimizer": "sgd", "learner": {"kind": "federated", "clients": 4}}},
}
SECTION: dict[str, Any] = {
    "model": "conformer",
    "corpus": "german",
    "recipe": "rounds",
    "baseline": "none",
    "seeds": [1, 2],
    "decoders": ["greedy"],
    "schemes": {
        "none": {"label": "No dropout"},
        "crit-1": {"label": "Crit-1", "dropout": {"critical": 1}},
        "amb-1": {"label": "Amb-1", "dropout": {"ambient": 1}},
        "flat-20": {"label": "Flat20", "dropout": {"rate": 0.2}},
    },
}


def config_of(over: dict[str, Any] | None = None) -> Config:
    return validate(merged(merged(CONFIG, CONFORMER), over or {}))


def planned(over: dict[str, Any] | None = None, draw: int = 101, **section: Any) -> Federation:
    config, spec = config_of(over), FederationSpec.model_validate(SECTION | section)

    def base(seed: int) -> Base:
        run = scratch_run("english", "conformer", "pretrain", seed, config)
        probe = ProbeSpec(operations=each_layer([f"block_{n}" for n in range(1, 5)], "draw", [draw]))
        return Base(run, Probe(run, "blocks", probe))

    return plan_federation(spec, config, {seed: base(seed) for seed in spec.seeds})


def test_each_scheme_goes_on_from_the_base_of_its_seed() -> None:
    found = planned()
    assert [(run.treatment, run.seed) for run in found.runs] == [
        (f"federated-{scheme}", seed) for scheme in SECTION["schemes"] for seed in (1, 2)
    ]
    for run in found.runs:
        assert run.start
        assert run.recipe.start == run.start.hash
        assert getattr(run.start, "seed", None) == run.seed
        ranked = run.treatment in ("federated-crit-1", "federated-amb-1")
        assert bool(run.ranking) == bool(run.recipe.ranking) == ranked
        assert isinstance(run.recipe.recipe.learner, FederatedSpec)
        assert (
            run.recipe.recipe.learner.dropout
            == FederationSpec.model_validate(SECTION).schemes[run.treatment[10:]].dropout
        )
    judged = [(decode.run.treatment, decode.snapshot) for decode in found.decodes if decode.run.seed == 1]
    assert judged == [
        ("federated-none", "best"), ("federated-none", "first"), ("federated-crit-1", "best"),
        ("federated-amb-1", "best"), ("federated-flat-20", "best"),
    ]  # fmt: skip


def touched(before: Federation, after: Federation) -> set[str]:
    old = {run.id for run in before.runs}
    return {run.treatment for run in after.runs if run.id not in old}


def test_what_an_edit_touches() -> None:
    first, every = planned(), {f"federated-{scheme}" for scheme in SECTION["schemes"]}
    assert touched(first, planned(draw=102)) == {"federated-crit-1", "federated-amb-1"}
    assert touched(first, planned({"recipes": {"pretrain": {"epochs": 9}}})) == every
    assert touched(first, planned({"recipes": {"rounds": {"learner": {"clients": 5}}}})) == every
    schemes = SECTION["schemes"] | {"flat-20": {"label": "Flat20", "dropout": {"rate": 0.3}}}
    assert touched(first, planned(schemes=schemes)) == {"federated-flat-20"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": "quartznet"}, "model: 'quartznet' is not there"),
    "corpus": ({"corpus": "germn"}, "did you mean 'german'"),
    "language": ({"corpus": "english"}, "'english' is en, the base de"),
    "learner": ({"recipe": "finetune"}, "the learner of 'finetune' is central, not federated"),
    "twice": ({"recipe": "dropping"}, "'dropping' says what to drop, and so do the schemes"),
    "decoders": ({"decoders": ["gredy"]}, "did you mean 'greedy'"),
    "seeds": ({"seeds": [1, 3]}, "no base was trained with 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes(name: str) -> None:
    dropping = CONFORMER["recipes"]["rounds"]["learner"] | {"dropout": {}}
    config = config_of({"recipes": {"dropping": {"epochs": 2, "learner": dropping}}})
    section, message = WRONG[name]
    spec = FederationSpec.model_validate(SECTION | section)
    lines = list(check_federation("here", spec, {"conformer": [1, 2]}, "de", config))
    assert len(lines) == 1
    assert message in lines[0]


def test_all_seeds_may_start_from_one_base() -> None:
    found = planned(base_seed=2)
    assert {(run.seed, getattr(run.start, "seed", None)) for run in found.runs} == {(1, 2), (2, 2)}
    spec = FederationSpec.model_validate(SECTION | {"base_seed": 2})
    assert list(check_federation("here", spec, {"conformer": [2]}, "de", config_of())) == []


def test_a_baseline_drops_nothing() -> None:
    for baseline, message in (("flat-20", "'flat-20' drops units"), ("flat", "no scheme 'flat'")):
        with pytest.raises(ValidationError, match=message):
            FederationSpec.model_validate(SECTION | {"baseline": baseline})


def test_a_run_knows_its_probe_by_its_file() -> None:
    run = next(run for run in planned().runs if run.ranking)
    assert run.ranking
    assert replace(run, ranking=None).hash == run.hash  # the recipe names it
    assert run.ranking.hash == run.recipe.ranking

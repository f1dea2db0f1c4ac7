"""Federated trainings in a plan: mistakes found before anything runs, and rankings that runs wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.planning.test_plan import BASE, plan, run
from thaw.config.load import UserError
from thaw.config.models import ModelSpec, hidden_layers, running_statistics
from thaw.config.probes import ProbeSpec, each_layer
from thaw.config.run import RunRecipe
from thaw.models import build
from thaw.planning import showing
from thaw.planning.artifacts import Probe, Run
from thaw.planning.federated import problems, speakers_of
from thaw.planning.plan import Plan, with_origins
from thaw.training.clients import buffers_of
from thaw.training.submodels import saved


def federated(over: dict[str, Any] | None = None, **learner: Any) -> Plan:
    """The golden study whose targets are trained by federations; they have 4 speakers for dev, 20 to train on."""
    clients = {"kind": "federated", "clients": 4, **learner}
    return plan({"recipes": {"finetune": {"optimizer": "sgd", "learner": clients}}, **(over or {})})


def test_a_learner_is_part_of_the_identity_and_its_defaults_are_not() -> None:
    first, second = federated(), federated(local_epochs=1, server={"optimizer": "sgd", "learning_rate": 1.0})
    assert first.runs.keys() == second.runs.keys()
    assert run(first, "scratch").hash != run(BASE, "scratch").hash
    assert run(federated(server={"learning_rate": 0.5}), "scratch").hash != run(first, "scratch").hash
    assert run(first, "source").hash == run(BASE, "source").hash


GONE = dict.fromkeys(("voice", "locale", "utterances", "speakers"))  # what only a synthesised source has
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "more clients than speakers": ({}, {"clients": 21}, "21 in each round, and 'german' has 20 speakers to train on"),
    "nobody's corpus": (
        {"corpora": {"german": {"source": {**GONE, "kind": "table", "path": "README.md", "columns": {"speaker": ""}}}}},
        {},
        "'german' names no speakers",
    ),
    "one speaker": (
        {"corpora": {"german": {"source": {**GONE, "kind": "prompts", "voice": "en"}, "language": "en"}}},
        {},
        "4 in each round, and 'german' has 1 speakers",
    ),
    "no hidden units": ({}, {"dropout": {}}, "deepspeech has no layer with hidden units"),
    "a ranking of nobody": ({}, {"dropout": {"critical": 1}}, "critical and ambient go with a ranking"),
    "two heads": ({"treatments": {"scratch": {"corpora": ["english"]}}}, {}, "one output layer, not one for each"),
    "an optimiser's state": (
        {"treatments": {"frozen-0": {"optimizer_state": "transferred"}}, "recipes": {"pretrain": {"optimizer": "sgd"}}},
        {},
        "optimizer_state: clients begin every round anew",
    ),
    "statistics": (
        {"models": {"deepspeech": {"kind": "quartznet", "variant": "mini-3x1", "hidden": None}},
         "treatments": {"frozen-0": {"reset": ["output"]}, "frozen-2": {"reset": ["output"], "freeze": ["conv_1"]}}},
        {},
        "statistics of batch norms are no weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_found_before_anything_runs(name: str) -> None:
    over, learner, message = WRONG[name]
    recipes = {"finetune": {"optimizer": "sgd", "learner": {"kind": "federated", "clients": 4, **learner}}}
    with pytest.raises(UserError, match=message):
        plan({**over, "recipes": {**recipes, **over.get("recipes", {})}})


def test_speakers_that_a_config_knows_of() -> None:
    german = run(BASE, "scratch").manifest.corpus.spec.source
    assert speakers_of(german) == 20


# --- rankings --------------------------------------------------------------------------------------------


def probe(of: Run, seed: int = 101) -> Probe:
    return Probe(of, "layers", ProbeSpec(operations=each_layer(["layer_1", "layer_2"], "draw", [seed])))


def ranked(of: Run, by: Probe) -> Run:
    learner = {"kind": "federated", "clients": 4, "dropout": {"critical": 1}}
    plain = of.recipe.model_dump(mode="json")
    recipe = plain | {"recipe": plain["recipe"] | {"learner": learner}, "ranking": by.hash}
    return replace(of, recipe=RunRecipe.model_validate(recipe), ranking=by)


def test_an_edit_upstream_of_a_ranking_reaches_the_run() -> None:
    source, target = run(BASE, "source"), run(BASE, "scratch")
    first = ranked(target, probe(source))
    assert [one.id for one in with_origins(first)] == [source.id, first.id]
    assert first.hash != target.hash
    assert ranked(target, probe(source, seed=102)).hash != first.hash
    other = run(plan({"recipes": {"pretrain": {"epochs": 5}}}), "source")
    assert ranked(target, probe(other)).hash != first.hash
    assert showing.unseeded(ranked(target, probe(other))) != showing.unseeded(first)
    again = run(plan({"studies": {"freezing": {"source": {"seed": 7}}}}), "source")
    assert ranked(target, probe(again)).hash != first.hash
    assert showing.unseeded(ranked(target, probe(again))) == showing.unseeded(first)


def test_a_ranking_that_nobody_asked_for() -> None:
    source, target = run(BASE, "source"), run(BASE, "scratch")
    recipe = target.recipe.model_copy(update={"ranking": probe(source).hash})
    assert list(problems(replace(target, recipe=recipe))) == [
        f"run {target.name}: a ranking of layers, and no federated learner whose dropout wants one"
    ]


MODELS: list[dict[str, Any]] = [
    {"kind": "deepspeech", "hidden": 8},
    {"kind": "quartznet", "variant": "mini-3x1"},
    {"kind": "conformer", "variant": "mini-S", "norm": "batch"},
    {"kind": "conformer", "variant": "mini-S", "norm": "group", "causal": True, "stack": 2},
    {"kind": "blstm", "layers": 1, "cells": 4, "projection": 4},
]


@pytest.mark.parametrize("plain", MODELS)
def test_what_is_known_without_torch_is_what_the_models_have(plain: dict[str, Any]) -> None:
    spec: ModelSpec = TypeAdapter(ModelSpec).validate_python(plain)
    model = build(spec, 5)
    assert hidden_layers(spec) == tuple(name for name in model.layers if model.layer(name).hidden_units())
    assert running_statistics(spec) == bool(buffers_of(model))


def test_conformers_save_what_the_rule_says() -> None:
    """rate · 2 · (8d² + 4d) of each block, both feed-forward modules."""
    model = build(TypeAdapter(ModelSpec).validate_python(MODELS[3]), 5)
    assert saved(model, {"block_1": 0.5, "block_4": 0.25}) == 0.75 * 2 * (8 * 32**2 + 4 * 32)

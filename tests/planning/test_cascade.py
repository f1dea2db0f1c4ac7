"""Algorithm 1 unrolled: what each stage starts from, freezes and draws; controls, swaps and donors; mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import merged, read_yaml, validate
from thaw.errors import UserError
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, resolve, with_origins

TOY = read_yaml(Path("tests/workflow/topdown.yaml"))
BLSTM = {
    "models": {"blstm": {"kind": "blstm", "cells": 8, "projection": 8}},
    "studies": {
        "topdown": {
            "cascades": {"ctc": {"model": "blstm", "stages": "all", "swaps": [], "lowest": True}},
            "donors": None,
        }
    },
}
PUBLISHED = ("blstm_1", "blstm_2", "blstm_3", "blstm_4", "output")  # the paper's five layers, input side first


def plan(**over: Any) -> Plan:
    return resolve(validate(merged(TOY, over)))


def run(of: Plan, treatment: str, seed: int = 1) -> Run:
    return next(run for run in of.runs.values() if (run.treatment, run.seed) == (treatment, seed))


def test_a_model_of_five_layers_has_four_stages_each_from_the_one_before() -> None:
    now = plan(**BLSTM)
    before = run(now, "ctc-baseline")
    for number, index in enumerate(("1,4", "1,1,3", "1,1,1,2", "1,1,1,1,1"), start=1):
        stage = run(now, f"ctc-stage-{number}")
        assert stage.start is before
        assert stage.label == f"Stage {number}: M{index}"
        assert stage.recipe.freeze == tuple(sorted(PUBLISHED[5 - number :]))
        assert stage.recipe.reset == tuple(sorted(PUBLISHED[: 5 - number]))
        assert stage.recipe.optimizer_state == "fresh"
        before = stage
    assert not [one for one in now.runs.values() if one.treatment == "ctc-stage-5"]


def test_no_stage_draws_what_any_before_it_began_from() -> None:
    now = plan(**BLSTM)
    chain = [one for one in with_origins(run(now, "ctc-stage-4")) if isinstance(one, Run)]
    assert [one.recipe.draw for one in chain] == [0, 1, 2, 3, 4]
    assert not any(one.recipe.redraw for one in chain)


def test_first_weights_of_a_first_training_are_to_be_had() -> None:
    """Table 4's first seed has the baseline's own initial weights, the others start from the same baseline."""
    now = plan()
    stages = [run(now, "other-stage-1", seed) for seed in (1, 2)]
    assert [(one.recipe.draw, one.recipe.redraw) for one in stages] == [(0, True), (0, True)]
    assert {one.start.seed for one in stages if isinstance(one.start, Run)} == {1}


def test_the_lowest_layer_is_frozen_instead_and_a_longer_training_begins_as_the_baseline() -> None:
    now = plan(**BLSTM)
    lowest, longer, first = (run(now, f"ctc-{name}") for name in ("lowest", "longer", "baseline"))
    assert lowest.recipe.freeze == ("blstm_1",)
    assert lowest.start is first
    assert longer.recipe == first.recipe.model_copy(
        update={"recipe": first.recipe.recipe.model_copy(update={"epochs": 4})}
    )


def test_a_swapped_classifier_comes_from_the_other_model_and_the_rest_is_drawn_for_neither() -> None:
    now = plan()
    swapped = run(now, "ctc-from-other")
    assert [donor.treatment for donor in swapped.donors if isinstance(donor, Run)] == ["other-baseline"]
    [load] = swapped.recipe.loads
    assert load.layers == swapped.recipe.freeze == ("layer_6",)
    assert swapped.recipe.draw == 1  # 0 is what both models began from
    assert run(now, "other-baseline").recipe.recipe.dropout == 0.2


def test_donors_are_nested_shares_and_what_is_below_them_sees_none_of_their_data() -> None:
    now = plan()
    half, most, below = (run(now, name) for name in ("donor-half", "donor-most", "from-half"))
    assert [one.data[0].name for one in (half, most, below)] == ["half", "most", "unseen"]  # type: ignore[union-attr]
    assert below.start is half
    assert below.recipe.freeze == ("layer_5", "layer_6")
    assert run(now, "from-epoch-2").recipe.snapshot == "epoch-2"
    assert most.recipe.recipe.epochs == 3
    assert set(most.recipe.recipe.snapshots) == {"best", "epoch-1", "epoch-2"}
    assert run(now, "donor-none").start is None


def test_one_donor_serves_all_seeds_or_each_has_its_own() -> None:
    for donor, expected in (("one", [1, 1]), ("each", [1, 2])):
        now = plan(studies={"topdown": {"donors": {"seeds": [1, 2], "donor": donor}}})
        below = [run(now, "from-half", seed).start for seed in (1, 2)]
        assert [one.seed for one in below if isinstance(one, Run)] == expected


def test_rows_know_their_place() -> None:
    from thaw.planning.showing import exhibits

    shown = exhibits(plan())
    assert {name for study, name in shown if study == "topdown"} == {
        "findings", "table-corpora", "table1", "table2", "table3", "figure1", "figure2a", "figure2b", "table-trace",
        "figure-stages",
    }  # fmt: skip
    rows = shown["topdown", "table2"].spec.runs
    assert {row.place.role for row in rows if row.place} == {"baseline", "stage", "swap", "lowest", "longer"}
    assert not any(study == "all" for study, _ in shown)  # no transfer between languages


def cascade(**over: Any) -> dict[str, Any]:
    return {"studies": {"topdown": {"cascades": {"ctc": over}}}}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "model": (cascade(model="blstn"), "studies.topdown.cascades.ctc.model: 'blstn' is not there"),
    "swap": (cascade(swaps=["nobody"]), "cascades.ctc.swaps: 'nobody' is not there"),
    "layer": (cascade(stages=[["layer_9"]]), "a model has no layer 'layer_9', which `stages` or `classifier` names"),
    "not nested": (
        cascade(stages=[["last-2"], ["last-1"]]),
        "ctc.stages: stage 2 freezes other layers than",
    ),
    "all frozen": (
        cascade(stages=[["last-6"]]),
        "cascades.ctc (ctc-stage-1).freeze: all layers are frozen, nothing is left to train",
    ),
    "recipe": (cascade(changes={"dropuot": 0.5}), "cascades.ctc (ctc-baseline).recipe.dropuot: did you mean 'dropout'"),
    "overlap": ({"parts": {"most": {"share": 0.8}}}, "donors.unseen: unseen and the shares overlap"),
    "order": ({"parts": {"half": {"share": 0.75}, "most": {"share": 0.5}}}, "from the smallest to the largest"),
    "no rest": ({"parts": {"unseen": {"rest": False}}}, "`unseen` is what a share leaves"),
    "early stop": (
        {"studies": {"topdown": {"donors": {"past": {"early_stop_epochs": 3}}}}},
        "past: set early_stop_epochs: 0, or the epochs may never come",
    ),
    "no such epoch": ({"studies": {"topdown": {"donors": {"epochs": [1, 9]}}}}, "has no epoch-9"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(name: str) -> None:
    over, said = WRONG[name]
    with pytest.raises(UserError) as caught:
        validate(merged(TOY, over))
    assert said in str(caught.value).splitlines()[0], str(caught.value)

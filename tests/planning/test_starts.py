"""Starts as a graph: chains, circles, snapshots, and draws that are not the donor's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planning.test_plan import CONFIG, plan
from thaw.config.load import merged, validate
from thaw.errors import UserError
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, with_origins

KEEPING = {"finetune": {"snapshots": ["first", "epoch-2"]}}


def chained(treatments: dict[str, Any], shown: list[str] | None = None, **over: Any) -> dict[str, Any]:
    study = {"studies": {"freezing": {"treatments": ["scratch", *(shown or treatments)], "baseline": "scratch"}}}
    return merged(merged({"treatments": treatments}, study), over)


def run(of: Plan, treatment: str) -> Run:
    return next(run for run in of.runs.values() if run.treatment == treatment)


STAGES: dict[str, Any] = {
    "one": {"start": "scratch@best", "freeze": ["last-1"], "reset": ["first-5"]},
    "two": {"start": "one@epoch-2", "freeze": ["last-2"], "reset": ["first-4"]},
    "three": {"start": "two", "freeze": ["last-3"], "reset": ["first-3"]},
}


def test_a_chain_is_unrolled_and_each_stage_draws_for_itself() -> None:
    now = plan(chained(STAGES, ["three"], recipes=KEEPING))
    three = run(now, "three")
    assert [one.treatment for one in with_origins(three) if isinstance(one, Run)] == ["scratch", "one", "two", "three"]
    assert [one.recipe.draw for one in with_origins(three) if isinstance(one, Run)] == [0, 1, 2, 3]
    assert run(now, "two").recipe.snapshot == "epoch-2"
    assert {run.treatment for run in now.study("freezing").runs} == {"scratch", "three"}  # the others are only made
    assert {decode.run.treatment for decode in now.decodes.values()} == {"source", "scratch", "three"}


def test_another_seed_than_the_donors_keeps_the_first_draw() -> None:
    now = plan({"studies": {"freezing": {"seeds": [1, 2]}}})
    draws = {(one.treatment, one.seed): one.recipe.draw for one in now.runs.values()}
    assert draws["frozen-0", 1] == 1
    assert draws["frozen-0", 2] == 0


def test_an_edit_of_a_stage_touches_those_behind_it() -> None:
    before = plan(chained(STAGES, recipes=KEEPING))
    over = merged(STAGES, {"two": {"recipe": {"dropout": 0.2}}})
    after = plan(chained(over, recipes=KEEPING))
    changed = after.runs.keys() - before.runs.keys()
    assert {after.runs[id_].treatment for id_ in changed} == {"two", "three"}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a circle": (
        {"a": {"start": "b"}, "b": {"start": "c"}, "c": {"start": "a"}},
        "treatments.a.start: a circle of starts: a → b → c → a",
    ),
    "of itself": ({"a": {"start": "a"}}, "a circle of starts: a → a"),
    "nobody": (
        {"a": {"start": "scratsh@last"}},
        "treatments.a.start: 'scratsh' is no treatment; did you mean 'scratch'",
    ),
    "not kept": ({"a": {"start": "scratch@last"}}, "scratch does not keep last; add it to `snapshots` in its recipe"),
    "no such epoch": (
        {"b": {"recipe": {"snapshots": ["epoch-9"]}}, "a": {"start": "b@epoch-9"}},
        "a training of 3 epochs has no epoch-9",
    ),
    "the source": ({"a": {"start": "source@first", "reset": ["output"]}}, "source does not keep first"),
    "reset and loaded": (
        {"a": {"start": "scratch@best", "load": {"layer_1": "frozen-0"}, "reset": ["first-1"]}},
        "both reset and loaded: layer_1",
    ),
    "frozen, never learnt": (
        {"a": {"load": {"output": "scratch@best"}, "freeze": ["first-1", "output"]}},
        "nothing was ever learnt in layer_1",
    ),
    "no such part": ({"a": {"part": "half"}}, "treatments.a.part: 'half' is not there"),
    "heads of others": ({"a": {"start": "scratch@best", "corpora": ["english"]}}, "with other letters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_start_is_one_line(name: str) -> None:
    treatments, said = WRONG[name]
    with pytest.raises(UserError) as caught:
        validate(merged(CONFIG, chained(treatments)))
    [line] = str(caught.value).splitlines()
    assert said in line

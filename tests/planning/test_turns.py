"""Studies end one after the other: everything that is made is made in the turn of the first study that wants it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thaw.config.load import load
from thaw.planning.plan import Plan, resolve
from thaw.planning.turns import awaited, places, places_of_jobs

REPOSITORY = Path(__file__).resolve().parents[2]
# What rules make one by one, by the wildcard `id`.
MADE = ("sources", "audio", "manifests", "parts", "units", "lexicons", "alignments", "graphs", "lms", "checkpoints")
MADE += ("runs", "emissions", "decodes", "gmms", "probes", "evidence")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return resolve(load([REPOSITORY / "config" / "config.yaml"]))


def made(plan: Plan) -> set[str]:
    return {id_ for name in MADE for id_ in getattr(plan, name, ())}


def test_everything_has_a_turn(plan: Plan) -> None:
    assert len(made(plan)) > 700
    assert made(plan) <= places_of_jobs(plan).keys()


def test_studies_come_in_the_configs_order(plan: Plan) -> None:
    order = [study.name for study in plan.studies]
    assert sorted(places(plan), key=places(plan).__getitem__, reverse=True) == order
    of_jobs = places_of_jobs(plan)
    for study in plan.studies:
        own = [of_jobs[decode.id] for decode in study.decodes]
        assert all(place >= places(plan)[study.name] for place in own)  # or of an earlier one, that wants it too
    topdown = next(study for study in plan.studies if study.name == "topdown")
    (text,) = {run.units.id for run in topdown.runs if run.units}
    assert of_jobs[text] == places(plan)["topdown"]


def test_what_trainings_wait_for_goes_first(plan: Plan) -> None:
    first = awaited(plan)
    assert plan.units.keys() | plan.lexicons.keys() | plan.alignments.keys() <= first
    freezing = plan.studies[0]
    (source,) = freezing.sources
    assert {source.id, source.manifest.id, source.manifest.corpus.audio_id, source.manifest.corpus.source_id} <= first
    assert not {decode.id for decode in plan.decodes.values()} & first


def test_every_rule_of_one_thing_takes_turns() -> None:
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"\n(?=rule |use rule )", path.read_text())[1:]:
            head = rule.split("\n", 1)[0]
            if head.startswith("rule ") and "{id}" in rule:
                assert re.search(r"\n    priority: (first|soon)\n", rule), f"{path.name}: {head}"

"""One pass of a model for all that is decoded of it: which decodes share one, what is kept, who asks the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import thaw.planning.artifacts
from tests.planning.test_plan import plan
from thaw.config.conformer import ConformerSpec
from thaw.config.decoders import BeamSpec, GreedySpec, HybridSpec, JointSpec, TuningSpec
from thaw.planning.artifacts import Decode
from thaw.planning.emissions import asks_the_model, emission_of, emissions_of, kept, read_of

PLAN = plan()
ONE = next(iter(PLAN.decodes.values()))
GREEDY = replace(ONE, spec=GreedySpec(kind="greedy"), lm=None)
BEAM = replace(ONE, spec=BeamSpec(kind="beam"), lm=None)
TUNED = replace(BEAM, spec=BeamSpec(kind="beam", tune=TuningSpec()))
HYBRID = replace(ONE, spec=HybridSpec(kind="hybrid"), lm=None)


def test_two_decoders_share_one_pass() -> None:
    passes = Counter(emission.id for one in PLAN.decodes.values() if (emission := emission_of(one)))
    assert set(passes) == set(PLAN.emissions)
    assert set(passes.values()) == {2}
    assert len(passes) == len(PLAN.runs)
    assert len(emissions_of([GREEDY, BEAM, TUNED])) == 1


def test_another_split_or_snapshot_is_another_pass() -> None:
    others = [GREEDY, replace(GREEDY, split="dev"), replace(GREEDY, snapshot="last")]
    assert len(emissions_of(others)) == 3
    assert [emission_of(one).id.rsplit("-", 1)[0] for one in others if emission_of(one)] == [  # type: ignore[union-attr]
        f"{ONE.run.name}{rest}" for rest in ("", "-dev", "-last")
    ]


def test_what_makes_decodes_anew_makes_their_emissions_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thaw.planning.artifacts, "DECODE_VERSION", 99)
    assert not set(emissions_of([GREEDY])) & set(PLAN.emissions)


@pytest.mark.parametrize(
    ("decodes", "scores", "dev", "states"),
    [
        ([GREEDY], False, False, False),
        ([GREEDY, BEAM], True, False, False),
        ([BEAM, TUNED], True, True, False),
        ([replace(TUNED, split="dev")], True, False, False),  # tuned on the split itself: no pass but one
        ([HYBRID], True, True, True),
        ([replace(HYBRID, spec=HybridSpec(kind="hybrid", scales=(0.1,)))], True, False, True),
    ],
)
def test_what_is_kept_is_what_decoders_read(decodes: list[Decode], scores: bool, dev: bool, states: bool) -> None:
    found = kept(decodes)
    assert (bool(found.scores), bool(found.dev), bool(found.states)) == (scores, dev, states)
    read = {name for one in decodes for name in read_of(one)}
    assert ("scores.safetensors" in read, "dev.safetensors" in read) == (scores, dev)


def test_who_asks_the_model_while_searching_shares_none() -> None:
    transducer = ONE.run.recipe.model_copy(update={"model": ConformerSpec(kind="conformer", head="rnnt")})
    asking = [replace(GREEDY, spec=JointSpec(kind="joint")), replace(GREEDY, run=replace(ONE.run, recipe=transducer))]
    assert all(asks_the_model(one) and emission_of(one) is None for one in asking)
    assert emissions_of(asking) == {}
    assert not asks_the_model(GREEDY)

"""Ids of lexicons, alignments and graphs: what makes another one, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thaw.config.config import Config
from thaw.config.load import merged, read_yaml, validate
from thaw.planning.alignments import GmmDecode, alignment_of, gmm_decode_of, lexicon_of, lexicon_problems
from thaw.planning.corpora import Manifest
from thaw.planning.plan import Plan, add_graph, resolve

TOY = Path(__file__).parents[1] / "workflow" / "toy.yaml"
SMALL: dict[str, Any] = {"small": {"leaves": 30, "gaussians": 60}}


def config(**over: Any) -> Config:
    return validate(merged(read_yaml(TOY), {"alignments": SMALL, **over}))


def german(plan: Plan) -> Manifest:
    return next(one for one in plan.manifests.values() if one.corpus.name == "german")


def decode(which: Config) -> GmmDecode:
    return gmm_decode_of(which, alignment_of(which, "small", german(resolve(which))))


def test_a_lexicon_is_espeaks_of_the_language_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    plain = config()
    manifest = german(resolve(plain))
    assert lexicon_of(plain, manifest).spec_json == '{"kind":"espeak","voice":"de"}'
    said = lexicon_of(config(lexicons={"de": {"kind": "espeak", "voice": "de"}}), manifest)
    assert said.id == lexicon_of(plain, manifest).id
    own = tmp_path / "own.txt"
    own.write_text("ja\tj a\n", encoding="utf-8")
    mine = config(lexicons={"de": {"kind": "file", "path": str(own)}})
    before = lexicon_of(mine, manifest)
    assert before.files == [str(own)]
    moved = own.rename(tmp_path / "moved.txt")
    there = lexicon_of(config(lexicons={"de": {"kind": "file", "path": str(moved)}}), manifest)
    assert there.id == before.id  # it is what it holds
    moved.write_text("ja\tj aː\n", encoding="utf-8")
    edited = lexicon_of(config(lexicons={"de": {"kind": "file", "path": str(moved)}}), manifest)
    assert edited.id != before.id


def test_what_makes_another_alignment_makes_another_graph_and_not_the_other_way_round() -> None:
    one = decode(config())
    other = decode(config(alignments={"small": {**SMALL["small"], "seed": 2}}))
    assert other.alignment.id != one.alignment.id
    assert (other.graph.id != one.graph.id, other.id != one.id) == (True, True)
    searched = decode(config(alignments={"small": {**SMALL["small"], "search": {"beam": 9}}}))
    assert (searched.alignment.id, searched.graph.id) == (one.alignment.id, one.graph.id)
    assert searched.id != one.id
    text = decode(config(alignments={"small": {**SMALL["small"], "search": {"language_model": {"order": 2}}}}))
    assert text.alignment.id == one.alignment.id
    assert text.graph.id != one.graph.id


def test_a_language_may_have_sizes_of_its_own() -> None:
    sized = decode(config(alignments={"small": {**SMALL["small"], "languages": {"de": {"leaves": 40}}}}))
    assert sized.alignment.spec.leaves == 40
    others = decode(config(alignments={"small": {**SMALL["small"], "languages": {"en": {"leaves": 40}}}}))
    assert others.alignment.id == decode(config()).alignment.id


def test_a_plan_holds_all_that_a_graph_is_made_from() -> None:
    which = config()
    plan, found = resolve(which), decode(which)
    add_graph(plan, found.graph)
    assert set(plan.graphs) == {found.graph.id}
    assert set(plan.alignments) == {found.alignment.id}
    assert set(plan.lexicons) == {found.alignment.lexicon.id, found.graph.lexicon.id}
    assert found.manifest.id in plan.manifests


def test_a_language_that_espeak_does_not_speak_is_said_before_anything_runs() -> None:
    assert not list(lexicon_problems(config(), "de"))
    [problem] = lexicon_problems(config(), "es-plain")
    assert problem.startswith("lexicons.es-plain.voice 'es-plain': espeak-ng does not speak it; choose one of")
    [problem] = lexicon_problems(config(lexicons={"de": {"kind": "espeak", "voice": "deu"}}), "de")
    assert "voice 'deu'" in problem

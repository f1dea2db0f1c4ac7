"""config/paper-multilingual.yaml resolves to the published sizes, without any data but its names; what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_dnn import STATES
from thaw.config.load import load, validate
from thaw.config.reading import read_yaml, with_includes
from thaw.errors import UserError
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, resolve
from thaw.planning.showing import exhibits

REPOSITORY = Path(__file__).resolve().parents[2]
LANGUAGES = ("basque", "catalan", "portuguese", "romanian", "spanish", "french", "italian")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    for language in ("eu", "ca", "pt", "ro", "es", "fr", "it"):
        (tmp_path / "data" / "cv-corpus-17.0-2024-03-15" / language / "clips").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan() -> Plan:
    return resolve(load([Path("config/paper-multilingual.yaml")]))


def runs_of(plan: Plan) -> dict[tuple[str, str], Run]:
    (study,) = plan.studies
    return {(manifest.corpus.name, run.treatment): run for run, manifest in study.rows if run.seed == 1}


def test_the_published_sizes(plan: Plan) -> None:
    runs = runs_of(plan)
    assert len(plan.runs) == 1 + 3 * (7 * 4 + 1) + 1  # English; treatments and the network of all; late gradients
    leaves = {name: runs[name, "scratch"].alignments[0].spec.leaves for name in LANGUAGES}
    published = {"basque": "eu-es", "catalan": "ca-es", "portuguese": "pt-br", "romanian": "ro-ro", "spanish": "es-es",
                 "french": "fr-fr", "italian": "it-it"}  # fmt: skip
    assert leaves == {name: STATES[code] for name, code in published.items()}
    model = runs["basque", "scratch"].recipe.model.model_dump()
    assert (model["hidden"], model["layers"], model["context"], model["own"]) == (2560, 4, 5, 2)
    assert runs["basque", "cross-top-2"].recipe.freeze == ("hidden_1", "hidden_2", "hidden_3")
    assert runs["basque", "cross-top-3"].recipe.freeze == ("hidden_1", "hidden_2")
    assert runs["basque", "cross-all"].recipe.reset == ("output",)


def test_one_network_serves_all_languages_and_is_decoded_in_each(plan: Plan) -> None:
    runs = runs_of(plan)
    together = {runs[name, "multilingual"].id for name in LANGUAGES}
    assert len(together) == 1
    run = runs["basque", "multilingual"]
    assert [one.manifest.corpus.name for one in run.data] == list(LANGUAGES)
    assert len(run.recipe.alignments) == 7
    assert set(run.recipe.heads) == {"eu", "ca", "pt", "ro", "es", "fr", "it"}
    assert {layer.rsplit("_", 1)[0] for layer in run.recipe.reset} == {"hidden_4", "output"}
    decodes = [one for one in plan.decodes.values() if one.run.id == run.id and one.snapshot == "best"]
    graphs = {one.manifest.corpus.name: one.graph for one in decodes}
    assert set(graphs) == set(LANGUAGES)
    assert all(graph and graph.alignment.data.manifest.corpus.name == name for name, graph in graphs.items())


def test_gmms_are_judged_and_seeds_change_no_alignment(plan: Plan) -> None:
    (study,) = plan.studies
    assert sorted(gmm.manifest.corpus.name for gmm in study.gmms) == sorted(LANGUAGES)
    assert len(plan.alignments) == 8  # of English, too


def changed(**changes: Any) -> list[str]:
    """The mistakes of the config with some keys of its study (or `treatment__key`, `recipe__key`) changed."""
    plain = copy.deepcopy(with_includes(read_yaml(Path("config/paper-multilingual.yaml"))))
    for key, value in changes.items():
        where, _, name = key.rpartition("__")
        place = plain["studies"]["multilingual"] if not where else plain["treatments"][where.replace("_", "-")]
        if where == "frames":
            place = plain["recipes"]["frames"]
        place[name] = value
    return mistakes(plain)


def mistakes(plain: dict[str, Any]) -> list[str]:
    with pytest.raises(UserError) as error:
        validate(plain)
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"alignment": None}, "alignment: recipe 'frames' learns tied states: name an entry of `alignments`"),
        ({"alignment": "gmm-4701"}, "alignment: 'gmm-4701' is not there; did you mean 'gmm-4700'"),
        ({"corpus_alignments": {"basqu": "gmm-1600"}}, "corpus_alignments: 'basqu' is not there"),
        ({"curves": ["downpour-21"]}, "curves: 'downpour-21' is not there"),
        ({"curves": ["scratch"]}, "curves: 'scratch' is among the treatments already"),
        ({"cross_all__reset": []}, "treatments.cross-all: output comes from source, whose states are others"),
        ({"cross_all__alphabet": "en"}, "treatments.cross-all.alphabet: classes are tied states here"),
        ({"multilingual__start": "cross-all"}, "multilingual.start: cross-all is a run for each of portuguese"),
    ],
)
def test_mistakes_are_found_before_anything_runs(changes: dict[str, Any], line: str) -> None:
    found = changed(**changes)
    assert any(line in one for one in found), found


def test_a_text_decoder_knows_no_states(plan: Plan) -> None:
    plain = with_includes(read_yaml(Path("config/paper-multilingual.yaml")))
    plain["decoders"]["greedy"] = {"kind": "greedy"}
    plain["studies"]["multilingual"]["decoders"] = ["hybrid", "greedy"]
    assert mistakes(plain) == ["config: studies.multilingual.decoders: 'greedy' knows no tied states: take hybrid"]


def test_the_same_design_with_ctc_is_a_study_of_its_own() -> None:
    """Any model of the house, heads by language over a shared stack; one run for all targets, and no alignment."""
    plain = with_includes(read_yaml(REPOSITORY / "tests/workflow/multilingual.yaml"))
    plain["models"]["speech"] = {"kind": "deepspeech", "hidden": 16}
    plain["recipes"]["ctc"] = {"epochs": 2}
    plain["decoders"]["greedy"] = {"kind": "greedy"}
    plain["treatments"]["heads"] = {"start": "source", "reset": ["output"], "corpora": ["catalan", "english"]}
    ctc = {**plain["studies"]["multilingual"], "model": "speech", "recipe": "ctc", "decoders": ["greedy"], "curves": [],
           "targets": ["catalan", "english"], "treatments": ["scratch", "heads"], "snapshots": ["best"]}  # fmt: skip
    del ctc["alignment"]
    plain["studies"]["multilingual-ctc"] = ctc | {"source": {"corpus": "english", "model": "speech", "recipe": "ctc"}}
    plan = resolve(validate(plain))
    study = plan.study("multilingual-ctc")
    assert study.gmms == ()
    together = [run for run in study.runs if run.treatment == "heads"]
    assert len(together) == 1
    assert set(together[0].recipe.heads) == {"ca", "en"}
    assert all(together[0].recipe.heads.values())  # alphabets
    judged = sorted(one.manifest.corpus.name for one in study.decodes if one.run == together[0])
    assert judged == ["catalan", "english"]
    hybrid = exhibits(plan)["multilingual", "table1"].spec
    ids = {run.id for run in hybrid.runs}
    assert not ids & {run.id for run in study.runs}  # its numbers stand in tables of its own

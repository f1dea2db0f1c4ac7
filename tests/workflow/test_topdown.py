"""The top-down study through the workflow: a chain, a donor and what is trained below it; a second run does nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.planning.test_paper_topdown import generate
from tests.workflow.conftest import REPOSITORY, Workspace
from tests.workflow.dry_runs import listed
from thaw.config.load import merged, read_yaml
from thaw.models import load_model

pytestmark = pytest.mark.e2e

LAYERS = ["layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6"]
# What planning and drawing tests have beside it is left out: seven trainings take long enough.
FEWER = {
    "studies": {
        "topdown": {
            "cascades": {"ctc": {"seeds": [1], "swaps": [], "lowest": False, "longer": None}, "other": None},
            "donors": {"shares": ["most"], "epochs": [1], "past": {"epochs": 2}},
        }
    }
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The study, run to its end."""
    workspace = Workspace(tmp_path_factory.mktemp("topdown"))
    toy = merged(read_yaml(Path(__file__).with_name("topdown.yaml")), FEWER)
    workspace.config.write_text(yaml.safe_dump(toy, allow_unicode=True))
    workspace.run()
    return workspace


def run(study: Workspace, treatment: str) -> Path:
    [found] = (study.root / "results" / "runs").glob(f"english-deepspeech-{treatment}-s1-*")
    return found


def test_each_stage_keeps_what_stood_still_and_records_the_proof(study: Workspace) -> None:
    first, second = (load_model(run(study, f"ctc-stage-{n}") / "model.safetensors")[0] for n in (1, 2))
    kept = first.layer_state("layer_6")
    assert all(bool((second.layer_state("layer_6")[name] == tensor).all()) for name, tensor in kept.items())
    checks = json.loads((run(study, "ctc-stage-2") / "run.json").read_text())["checks"]
    assert checks["start"]["drawn"] == LAYERS[:3]
    assert checks["start"]["optimizer"] == 6  # a weight and a bias of each of the three
    assert checks["end"]["gradient_through_frozen"] == LAYERS[:3]


def test_exhibits_are_there_and_the_report_opens_on_them(study: Workspace) -> None:
    drawn = {path.stem for path in (study.root / "results" / "topdown" / "toy").iterdir() if path.stem[0] != "."}
    assert drawn == {
        "findings", "table-corpora", "table1", "table2", "table-trace", "figure1", "figure2a", "figure2b",
        "figure-stages", "report",
    }  # fmt: skip
    assert "Algorithm 1" in (study.root / "results" / "report-toy.html").read_text()


EDITS = {
    "nothing": ({}, set()),
    "a label": ({"studies": {"topdown": {"cascades": {"ctc": {"label": "Other words"}}}}}, set()),
    "the recipe of what is below donors": (
        {"studies": {"topdown": {"donors": {"recipe": {"dropout": 0.1}}}}},
        {"donor-none", "from-most", "from-epoch-1"},
    ),
    "a deeper second stage": (
        {"studies": {"topdown": {"cascades": {"ctc": {"stages": [["last-1"], ["last-2"]]}}}}},
        {"ctc-stage-2"},
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_trains_what_it_touches_and_no_other(study: Workspace, tmp_path: Path, name: str) -> None:
    over, expected = EDITS[name]
    config = tmp_path / "edited.yaml"
    config.write_text(yaml.safe_dump(merged(yaml.safe_load(study.config.read_text()), over), allow_unicode=True))
    jobs = listed(study, config=config)
    trained = {job.removeprefix("train english-deepspeech-").removesuffix("-s1")
               for job in jobs if job.startswith("train ")}  # fmt: skip
    assert trained == expected
    assert bool(jobs) == (name != "nothing")


def test_the_published_size_is_a_dry_run(workspace: Workspace) -> None:
    generate(workspace.root)
    jobs = listed(workspace, config=REPOSITORY / "config" / "paper-topdown.yaml")
    rules = Counter(job.split()[0] for job in jobs.elements())
    assert rules["train"] == 140
    assert rules["decode"] + rules["search"] == rules["score"] == 2 * 140
    assert rules["emit"] == rules["search"]  # best paths; joint searches ask the model
    assert rules["fetch"] == 3

"""Kills and damage under the workflow, in a few fixed rounds of the campaign in bench, and what Snakemake then says."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from bench._campaign import Verbs, steps
from bench.campaign import Campaign, flip

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.e2e


MORE: dict[str, Any] = {  # over toy.yaml: kept snapshots, a part, a probe, at the cost of one more training
    "parts": {"half": {"share": 0.5}},
    "treatments": {
        "half": {"start": "source", "reset": ["output"], "part": "half", "recipe": {"snapshots": ["first", "best"]}}
    },
    "studies": {
        "freezing": {
            "treatments": ["scratch", "frozen-0", "frozen-2", "half"],
            "probes": {"first": {"operations": {"none": [], "output": [{"reset": ["output"], "to": "first"}]}}},
        }
    },
}


@pytest.fixture
def whole(copy: Workspace) -> Verbs:
    """The toy study with more in it, run to its end by its commands."""
    copy.edit(**MORE)
    study = Verbs(copy.root)
    Verbs.steps = steps(study)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["thaw.training.session", "thaw.decoding.decode"])
    study.rehearse()
    return study


def test_six_rounds_end_in_the_same_bytes_or_in_a_line_that_names_the_file(
    whole: Verbs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    campaign = Campaign(whole, tmp_path_factory.mktemp("rounds"), seed=7)
    outcomes = [campaign.round(number) for number in range(6)]
    bad = [this for this in outcomes if this.outcome not in ("same", "unread", "named")]
    assert not bad, "\n".join(f"{this.outcome}: {this.done}\n{this.said}" for this in bad)


def test_what_a_person_must_mend_is_said_and_not_tried_again(copy: Workspace) -> None:
    results = copy.root / "results"
    (result,) = (results / "state").glob("german-*scratch*/*/result")
    run = results / "runs" / result.parents[1].name
    flip_all(result / "model.safetensors")
    (run / "model.safetensors").unlink()
    done = copy.attempt("--keep-going", str((run / "model.safetensors").relative_to(copy.root)))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"{result.relative_to(copy.root)}/model.safetensors: damaged or edited" in said
    assert "not tried again" in said
    once = copy.attempt("--retries", "0", str((run / "model.safetensors").relative_to(copy.root)))
    assert "not tried again" not in once.stdout + once.stderr
    assert "Trying to restart" not in once.stdout + once.stderr


def test_a_damaged_table_is_named_though_nothing_is_to_be_done(copy: Workspace) -> None:
    table = copy.root / "results" / "freezing" / "toy" / "table2.csv"
    flip_all(table)
    done = copy.run()
    assert "warning: results/freezing/toy/table2.csv: damaged or edited" in done.stdout + done.stderr


def flip_all(path: Path) -> None:
    """Damage a file wherever one looks."""
    import random

    flip(path, random.Random(1))

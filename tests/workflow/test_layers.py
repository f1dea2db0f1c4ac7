"""The rule `evidence`, on the finished toy study: one job a transfer, and an edit upstream reaches it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.workflow.conftest import TOY, Workspace
from tests.workflow.dry_runs import listed
from thaw.config.load import merged, validate
from thaw.files import read_json
from thaw.layers.predictors import PREDICTORS
from thaw.planning import layout
from thaw.planning.plan import resolve

pytestmark = pytest.mark.e2e

STUDY = {
    "kind": "layers",
    "transfers": {
        "en-de": {
            "source": {"corpus": "english", "model": "deepspeech", "recipe": "pretrain"},
            "target": "german",
            "recipe": "finetune",
        }
    },
    "decoder": "greedy",
    "evidence": {"draws": 1, "utterances": 8, "head_epochs": 2},
}


def asked(workspace: Workspace, **over: Any) -> str:
    """Write the config with the study of transfers in it; the path of its evidence."""
    raw = merged(merged(yaml.safe_load(TOY.read_text()), {"studies": {"layers": STUDY}}), over)
    workspace.config.write_text(yaml.safe_dump(raw, allow_unicode=True))
    [transfer] = resolve(validate(raw)).study("layers").transfers
    return layout.evidence(transfer.evidence)


def test_evidence_is_one_job_that_an_edit_of_the_source_reaches(copy: Workspace) -> None:
    path = asked(copy)
    jobs = listed(copy, "--", f"{layout.RESULTS}/layers/toy/table-predictions.csv")
    assert sum(count for job, count in jobs.items() if job.startswith("train")) == 7  # of 8 sets one is there already
    assert [job for job in jobs if job.startswith("evidence")] == ["evidence english-deepspeech-source-s1-to-german"]
    copy.run("--", path)
    found = read_json(copy.root / path)
    assert set(found["scores"]) == set(PREDICTORS)
    assert not listed(copy, "--", path)
    other = asked(copy, corpora={"german": {"source": {"phrases": [1, 1]}}})
    assert any(job.startswith("evidence") for job in listed(copy, "--", other))
    assert asked(copy, recipes={"finetune": {"dropout": 0.3}}) == path
    assert not listed(copy, "--", path)

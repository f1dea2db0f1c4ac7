"""A federation at toy scale, through the workflow: from a probe's ranking to the table, and what an edit reaches."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import Workspace
from thaw.probing.ranking import ranked

pytestmark = pytest.mark.e2e

BLOCKS = [f"block_{number}" for number in range(1, 5)]


def trainings(workspace: Workspace) -> set[str]:
    """The treatments that would be trained now."""
    done = workspace.run("-n")
    return set(re.findall(r"Job \d+: train \w+-small-(.+)-s1-", done.stdout + done.stderr))


def test_a_ranking_decides_what_clients_lack_and_an_edit_upstream_reaches_them(workspace: Workspace) -> None:
    shutil.copy(Path(__file__).with_name("federated.yaml"), workspace.config)
    workspace.run()
    results = workspace.root / "results"
    (rows,) = (results / "probes").glob("*/rows.jsonl")
    order = ranked(rows, BLOCKS)
    rates = {}
    for record in (results / "runs").glob("queries-*/run.json"):
        said = json.loads(record.read_text())
        scheme = record.parent.name.split("federated-")[1].rsplit("-s1-", 1)[0]
        rates[scheme] = {row["layer"]: row["rate"] for row in said["federated"]["unit_rates"]}
    assert rates == {
        "none": {},
        "crit-1": {layer: 0.5 if layer == order[0] else 0.1 for layer in BLOCKS},
        "amb-1": {layer: 0.5 if layer == order[-1] else 0.1 for layer in BLOCKS},
    }
    table = list(csv.DictReader((results / "ambient" / "toy" / "table3.csv").open(encoding="utf-8")))
    labels = [row["label"] for row in table if row["row"] == "treatment" and row["measure"].startswith("WER")]
    assert labels == ["Before federated training", "No dropout", "Crit-1", "Amb-1"]
    shares = {row["label"]: row["dropped_percent"] for row in table if row["row"] == "treatment"}
    assert shares["Crit-1"] == shares["Amb-1"] != shares["No dropout"] == "0.0"

    assert trainings(workspace) == set()
    text = workspace.config.read_text()
    workspace.config.write_text(text.replace("draws: [101]", "draws: [102]"))
    assert trainings(workspace) == {"federated-crit-1", "federated-amb-1"}
    workspace.config.write_text(text.replace("clients: 3", "clients: 2"))
    assert trainings(workspace) == {"federated-none", "federated-crit-1", "federated-amb-1"}

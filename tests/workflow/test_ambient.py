"""The ambient study at toy scale, through the workflow to its tables and figures."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.e2e

BLOCKS = 4
LAYERS = BLOCKS + 2


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_layer_of_every_model_is_reset_in_one_job_a_run(workspace: Workspace) -> None:
    shutil.copy(Path(__file__).with_name("ambient.yaml"), workspace.config)
    workspace.run()
    results = workspace.root / "results"
    probes = [*(results / "probes").iterdir()]
    assert len(probes) == len([*(results / "runs").iterdir()]) == 4
    assert not [path for probe in probes for path in probe.rglob("*.safetensors")]
    places = {path.name.split("-source")[0]: (path / "rows.jsonl").read_text().splitlines() for path in probes}
    assert len(places["english-small"]) == (1 + 3 * LAYERS) + BLOCKS * 2 * 2 + (1 + LAYERS)
    assert len(places["english-small-batch"]) == 1 + 5 * LAYERS
    assert len(places["english-small-streaming"]) == 1 + 3 * LAYERS

    shown = results / "ambient" / "toy"
    figure = read(shown / "figure2.csv")
    series = {(row["norm"], row["buffers"]) for row in figure if row["reset"] == "re-rand"}
    assert series == {("group", "1"), ("batch", "1"), ("batch", "0")}
    models = [row for row in figure if row["row"] == "model" and row["norm"] == "group"]
    assert len(models) == 1 + LAYERS
    assert {row["seeds"] for row in models} == {"2"}
    assert {row["draws"] for row in figure if row["row"] == "run" and row["reset"] == "re-rand"} == {"2"}
    assert len({row["reset"] for row in read(shown / "figure3.csv")}) == 3  # and as trained

    ranks = json.loads((shown / "table-ranks.json").read_text())
    assert len(ranks["blocks"]) == 3
    assert len(ranks["blocks"][0]["rows"]) == LAYERS
    modules = json.loads((shown / "table-modules.json").read_text())
    assert [len(block["rows"]) for block in modules["blocks"]] == [BLOCKS, BLOCKS]
    assert len(modules["blocks"][0]["columns"]) == 2
    steps = json.loads((shown / "table-steps.json").read_text())
    assert len(steps["blocks"][0]["rows"]) == 1 + LAYERS

    churn = read(shown / "figure5a.csv")
    assert {row["snapshot"] for row in churn} == {"epoch-1", "best"}
    moved = {(row["layer"], row["seed"]): float(row["churn"]) for row in churn
             if row["module"] == "ff1.w1" and row["snapshot"] == "best"}  # fmt: skip
    assert len(moved) == BLOCKS * 2
    assert max(moved.values()) == 1.0
    assert min(moved.values()) > 0
    assert {row["causal"] for row in read(shown / "figure5b.csv")} == {"True"}

    sizes = {row["label"]: row for row in read(shown / "table2.csv") if row["row"] == "model"}
    assert {row["layers"] for row in sizes.values()} == {str(BLOCKS)}
    assert sizes["S"]["conformer_parameters"] == sizes["S, batch norm"]["conformer_parameters"]
    assert int(sizes["S, streaming"]["total_parameters"]) - int(sizes["S"]["total_parameters"]) == 2 * 32 * 32 + 32
    findings = json.loads((shown / "findings.json").read_text())
    assert [part["title"] for part in findings["parts"]] == ["S", "S, batch norm", "S, streaming"]

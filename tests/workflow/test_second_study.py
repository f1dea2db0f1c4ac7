"""A second study beside the first: its own jobs, its own tables, and nothing of the first done again."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.e2e

TREATMENTS: dict[str, dict[str, Any]] = {
    "scratch-small": {"model": "quartznet-small"},
    "finetuned": {"start": "source", "reset": ["output"]},
    "finetuned-tenth": {"start": "source", "reset": ["output"], "recipe": {"learning_rate": 0.002}},
    "shared": {"start": "source", "reset": ["output"], "output_rows": "shared", "letters": {"ä": "a"}},
    "encoder-frozen": {"start": "source", "reset": ["output"], "freeze": ["first-6"]},
    "norms": {"start": "source", "reset": ["output"], "freeze": ["first-6"], "frozen": {"norm": "learn"}},
}
NOVOGRAD = {
    "batch_size": 8,
    "optimizer": "novograd",
    "learning_rate": 0.02,
    "betas": [0.95, 0.25],
    "weight_decay": 0.001,
    "schedule": "cosine",
    "warmup_ratio": 0.12,
}
CROSSLINGUAL: dict[str, Any] = {
    "models": {
        "quartznet": {"kind": "quartznet", "variant": "mini-3x1"},
        "quartznet-small": {"kind": "quartznet", "variant": "mini-3x1", "frontend_version": "v0.10"},
    },
    "recipes": {
        "pretrain-quartznet": {**NOVOGRAD, "epochs": 2},
        "finetune-quartznet": {**NOVOGRAD, "epochs": 1, "augmentation": {"speed": [0.9, 1.1], "cutout": {}}},
    },
    "treatments": TREATMENTS,
    "studies": {
        "crosslingual": {
            "kind": "crosslingual",
            "source": {"corpus": "english", "model": "quartznet", "recipe": "pretrain-quartznet"},
            "targets": ["german"],
            "model": "quartznet",
            "recipe": "finetune-quartznet",
            "treatments": ["scratch", *TREATMENTS],
            "baseline": "scratch",
            "reference": "finetuned",
            "decoders": ["greedy"],
        }
    },
}


def test_a_second_study_adds_its_own_jobs_alone(copy: Workspace) -> None:
    before = copy.shown()
    first = {path: path.stat().st_mtime_ns for path in (copy.root / "results" / "runs").glob("*/run.json")}
    copy.edit(**CROSSLINGUAL)
    copy.run()
    assert copy.shown() == before
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())

    runs = {
        path.parent.name: json.loads(path.read_text()) for path in copy.root.glob("results/runs/*quartznet*/run.json")
    }
    assert len(runs) == 1 + 1 + len(TREATMENTS)
    by_treatment = {name: next(run for key, run in runs.items() if f"-{name}-s1" in key) for name in TREATMENTS}
    english = set(runs[next(key for key in runs if "source" in key)]["recipe"]["alphabet"])
    german = by_treatment["shared"]["recipe"]["alphabet"]
    kept = len(english & set(german)) + 2  # ä too, and the blank
    assert by_treatment["shared"]["checks"]["start"]["output_rows_kept"] == kept
    encoder = ["conv_1", "block_1", "block_2", "block_3", "conv_2", "conv_3"]
    for name in ("encoder-frozen", "norms"):
        assert set(by_treatment[name]["checks"]["start"]["frozen"]) == set(encoder)
        assert by_treatment[name]["checks"]["start"]["frozen"] == by_treatment[name]["checks"]["end"]["frozen"]
    trained = {name: by_treatment[name]["parameters"]["trainable"] for name in TREATMENTS}
    decoder = 256 * (len(german) + 1) + len(german) + 1
    assert trained["encoder-frozen"] == decoder
    assert decoder < trained["norms"] < trained["finetuned"]

    folder = copy.root / "results" / "crosslingual" / "toy"
    rows = list(csv.DictReader((folder / "table-wer.csv").read_text().splitlines()))
    assert {"scratch", *TREATMENTS} <= {row["treatment"] for row in rows}
    assert (folder / "figure3.png").exists()
    assert (folder / "figure-learning-rate.pdf").exists()
    together = (copy.root / "results" / "all" / "toy" / "table-depth.csv").read_text()
    assert "deepspeech" in together
    assert "quartznet" in together
    report = (copy.root / "results" / "report-toy.html").read_text()
    assert all(name in report for name in runs)

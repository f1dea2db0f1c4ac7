"""The multilingual study from audio to its table: lexicon, GMM, networks, graphs, words (multilingual.yaml)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.conftest import REPOSITORY, Workspace
from tests.workflow.dry_runs import listed
from thaw.models import load_model

pytestmark = pytest.mark.e2e

CONFIG = Path(__file__).with_name("multilingual.yaml")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the toy study, run to its end."""
    workspace = Workspace(tmp_path_factory.mktemp("multilingual"))
    workspace.config.write_text(CONFIG.read_text())
    workspace.run()
    return workspace.root / "results"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def record(folder: Path, pattern: str, name: str) -> dict[str, Any]:
    [found] = folder.glob(pattern)
    plain: dict[str, Any] = json.loads((found / name).read_text(encoding="utf-8"))
    return plain


def test_every_column_of_the_table_is_there(done: Path) -> None:
    table = [row for row in rows(done / "multilingual/toy/table1.csv") if row["row"] == "treatment"]
    best = {row["treatment"]: row for row in table}
    assert {row["snapshot"] for row in table} == {"best"}  # other snapshots are for curves alone
    assert list(best) == ["gmm", "scratch", "multilingual"]
    assert all(float(row["value"]) >= 0 for row in table)
    assert best["scratch"]["gain_over"] == "gmm"
    states = record(done / "alignments", "catalan-tiny-*", "alignment.json")["iterations"][-1]["states"]
    assert best["scratch"]["states"] == str(states)


def test_one_network_speaks_both_languages(done: Path) -> None:
    [folder] = (done / "runs").glob("dnn-multilingual-s1-*")
    model, meta = load_model(folder / "model.safetensors")
    assert model.trunk == ("hidden_1", "hidden_2", "hidden_3")
    assert model.branches == {"ca": ("hidden_4_ca", "output_ca"), "en": ("hidden_4_en", "output_en")}
    assert {lang: units["kind"] for lang, units in meta["heads"].items()} == {"ca": "states", "en": "states"}
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert set(metrics[-1]["dev_by_language"]) == {"ca", "en"}


def test_decodes_say_which_scales_dev_chose(done: Path) -> None:
    found = record(done / "decodes", "catalan-dnn-scratch-s1-hybrid-*", "decode.json")
    assert found["scale"] in (0.1, 0.2)
    assert {row["scale"] for row in found["tuning"]["grid"]} == {0.1, 0.2}


def test_curves_are_drawn_of_time_and_of_late_gradients(done: Path) -> None:
    figure = rows(done / "multilingual/toy/figure4.csv")
    assert {row["treatment"] for row in figure} == {"scratch", "multilingual"}
    assert any(row["test_wer"] for row in figure if row["epoch"] == "1")
    learners = rows(done / "multilingual/toy/figure-learners.csv")
    assert {row["replicas"] for row in learners if row["treatment"] == "late"} == {"4"}


def test_nothing_is_left_to_do(done: Path) -> None:
    again = Workspace.at(done.parent).run("-n")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_the_published_size_is_a_dry_run(workspace: Workspace) -> None:
    for language in ("eu", "ca", "pt", "ro", "es", "fr", "it"):
        release = workspace.root / "data" / "cv-corpus-17.0-2024-03-15" / language
        (release / "clips").mkdir(parents=True)
        for table in ("train", "dev", "test", "validated"):
            (release / f"{table}.tsv").write_text("client_id\tpath\tsentence\n")
    jobs = listed(workspace, config=REPOSITORY / "config" / "paper-multilingual.yaml")
    rules = Counter(job.split()[0] for job in jobs.elements())
    assert rules["train"] == 1 + 3 * (7 * 4 + 1) + 1  # English; treatments and the network of all; late gradients
    assert (rules["align"], rules["GMM"]) == (8, 7)  # English is aligned, too, and no target

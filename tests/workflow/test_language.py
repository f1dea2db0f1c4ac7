"""A language model through every rule: text without audio, words, a frozen top, perplexities in a table and a page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import Workspace
from thaw.randomness import rng

pytestmark = pytest.mark.e2e

CONFIG = Path(__file__).with_name("language.yaml")
CLAUSES = ("the cat sat", "a dog ran", "the bird sang")


def write_text(folder: Path) -> None:
    """Twelve documents of simple sentences."""
    folder.mkdir()
    for document in range(12):
        generator = rng(1, "text", document)
        lines = [
            " ".join([*generator.choice(CLAUSES, int(generator.integers(1, 4))), "number", "abcdefghijkl"[document]])
            for _ in range(25)
        ]
        (folder / f"book{document:02d}.txt").write_text("".join(f"{line.capitalize()}.\n" for line in lines))


def test_table_4_from_text_to_the_page(workspace: Workspace) -> None:
    write_text(workspace.root / "text")
    shutil.copy(CONFIG, workspace.config)
    workspace.run()
    results = workspace.root / "results"
    assert not list(results.glob("audio/*"))
    (units,) = results.glob("units/*/units.json")
    assert "<unk>" in json.loads(units.read_text())["words"]

    records = [json.loads(path.read_text()) for path in sorted(results.glob("runs/*/run.json"))]
    baseline, *stages = records
    assert [record["recipe"]["seed"] for record in stages] == [1, 2]
    for record in stages:
        assert set(record["checks"]["start"]["frozen"]) == {"embedding", "decoder"}
        assert record["checks"]["start"]["frozen"] == record["checks"]["end"]["frozen"]
        assert record["parameters"]["trainable"] < baseline["parameters"]["trainable"]

    rows = list(csv.DictReader((results / "topdown" / "toy" / "table4.csv").read_text().splitlines()))
    found = [row for row in rows if row["row"] == "run"]
    assert len(found) == 3
    assert all(row["measure"] == "perplexity" and 1 < float(row["value"]) < 20 for row in found)
    assert "perplexity" in (results / "topdown" / "toy" / "table4.md").read_text()
    assert all(
        path.parent.name in (results / "report-toy.html").read_text() for path in results.glob("runs/*/run.json")
    )

    assert "Nothing to be done" in (done := workspace.run()).stdout + done.stderr
    with (workspace.root / "text" / "book00.txt").open("a") as book:
        book.write("One more sentence.\n")
    planned = (done := workspace.run("--dry-run")).stdout + done.stderr
    assert all(re.search(rf"^{rule} +[1-9]", planned, re.MULTILINE) for rule in ("fetch", "units", "train", "decode"))

"""A new kind of study is one module: a spec, its runs, a table. No other file is touched."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, TOY, Workspace

pytestmark = pytest.mark.e2e

STUDY = '''"""A throw-away study: does another seed say the same?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from thaw.config.schema import StudySpec
from thaw.config.sources import Name
from thaw.errors import suggestion
from thaw.exhibits.spec import TABLE, Exhibit, ExhibitSpec
from thaw.planning.grid import scratch_run
from thaw.planning.plan import Study, decodes

if TYPE_CHECKING:
    from thaw.config.config import Config

CREDIT = "nobody"
PAPER_FINDING = "None: there is no such paper."


class Spec(StudySpec):
    """A corpus, a model, a recipe; two seeds."""

    kind: Literal["tiny"]
    corpus: Name
    model: Name
    recipe: Name


def check(name: str, spec: Spec, config: Config) -> Iterator[str]:
    if spec.corpus not in config.corpora:
        yield f"studies.{name}.corpus: {spec.corpus!r} is not there; {suggestion(spec.corpus, config.corpora)}"


def plan(name: str, spec: Spec, config: Config) -> Study:
    runs = tuple(scratch_run(spec.corpus, spec.model, spec.recipe, seed, config) for seed in (1, 2))
    return Study(name, spec, runs, tuple(d for run in runs for d in decodes(run, ["greedy"], config)))


def _table(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.tables import RatesTable

    return RatesTable("Two seeds").draw(spec)


EXHIBITS = {"table1": Exhibit("Two seeds", TABLE, ("scores",), _table)}
'''


def test_one_module_is_enough(tmp_path: Path) -> None:
    """The package is copied, and one file added to it: that is all that a new study needs."""
    assert len(STUDY.splitlines()) < 60
    package = tmp_path / "src" / "thaw"
    shutil.copytree(REPOSITORY / "src" / "thaw", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "studies" / "tiny.py").write_text(STUDY)
    toy = yaml.safe_load(TOY.read_text())
    toy["studies"] = {"two": {"kind": "tiny", "corpus": "german", "model": "deepspeech", "recipe": "finetune"}}
    workspace = Workspace(tmp_path)
    workspace.config.write_text(yaml.safe_dump(toy, allow_unicode=True))
    environment = {**workspace.environment(), "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        workspace.command(), cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "results" / "two" / "toy" / "table1.csv").read_text().splitlines()
    rows = [row for row in csv.DictReader(table) if row["measure"] == "WER %"]
    assert [(row["row"], row["seed"], row["seeds"]) for row in rows] == [
        ("treatment", "", "2"),
        ("run", "1", ""),
        ("run", "2", ""),
    ]
    assert all(float(row["value"]) > 0 for row in rows)
    assert os.listdir(tmp_path / "results" / "runs")

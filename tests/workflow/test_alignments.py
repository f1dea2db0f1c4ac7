"""From manifests to the GMM's own scores, by the rules; and what an edit of the user's lexicon makes anew."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, TOY, Workspace
from tests.workflow.dry_runs import HASH, JOB

pytestmark = pytest.mark.e2e

STUDY = '''"""A throw-away study: what a GMM recognises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from thaw.config.schema import StudySpec
from thaw.planning.alignments import alignment_of, gmm_decode_of
from thaw.planning.grid import scratch_run
from thaw.planning.plan import Study, decodes

if TYPE_CHECKING:
    from thaw.config.config import Config

CREDIT = "nobody"
PAPER_FINDING = "None: there is no such paper."
EXHIBITS = {}


class Spec(StudySpec):
    kind: Literal["gmms"]


def check(name: str, spec: Spec, config: Config) -> Iterator[str]:
    yield from ()


def plan(name: str, spec: Spec, config: Config) -> Study:
    run = scratch_run("german", "deepspeech", "finetune", 1, config)
    gmm = gmm_decode_of(config, alignment_of(config, "small", run.manifest))
    return Study(name, spec, (run,), tuple(decodes(run, ["greedy"], config)), gmms=(gmm,))
'''
SMALL = {
    "mono_iterations": 4,
    "mono_gaussians": 60,
    "iterations": 3,
    "leaves": 60,
    "gaussians": 80,
    "search": {"scales": [0.05, 0.1]},
}


class Study(Workspace):
    """The toy workspace, with a copy of the package that has one more study."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        package = root / "src" / "thaw"
        shutil.copytree(REPOSITORY / "src" / "thaw", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / "studies" / "gmms.py").write_text(STUDY)
        self.say({})

    def say(self, lexicons: dict[str, object]) -> None:
        toy = yaml.safe_load(TOY.read_text())
        toy |= {"studies": {"one": {"kind": "gmms"}}, "alignments": {"small": SMALL}, "lexicons": lexicons}
        self.config.write_text(yaml.safe_dump(toy, allow_unicode=True))

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(self.root / "src")}

    def target(self) -> str:
        """The scores of the GMM."""
        code = (
            "from pathlib import Path; from thaw.config.load import load; from thaw.planning.plan import resolve; "
            f"print(*resolve(load([Path({str(self.config)!r})])).gmms)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return f"results/scores/{done.stdout.strip()}/scores.json"

    def jobs(self, target: str) -> list[str]:
        """What a dry run lists, hashes cut off."""
        return sorted(HASH.sub("", job) for job in JOB.findall(self.run("-n", "--", target).stdout))


def test_the_rules_lead_to_scores_and_an_edited_lexicon_makes_its_own_anew(tmp_path: Path) -> None:
    study = Study(tmp_path)
    first = study.target()
    study.run("--", first)
    scores = json.loads((tmp_path / first).read_text())
    assert 0 <= scores["word"]["rate"] <= 2
    assert scores["utterances"] == 6
    [alignment] = (tmp_path / "results" / "alignments").iterdir()
    assert not (alignment / "state").exists()
    record = json.loads((alignment / "alignment.json").read_text())
    whole = {split: each["utterances"] + each["rejected"] for split, each in record["splits"].items()}
    assert whole == {"train": 16, "dev": 6, "test": 6}
    assert sum(record["state_counts"]) == record["splits"]["train"]["frames"]

    lexicon = next((tmp_path / "results" / "lexicons").iterdir()) / "lexicon.txt"
    own = tmp_path / "own.txt"
    shutil.copy(lexicon, own)
    study.say({"de": {"kind": "file", "path": "own.txt"}})
    second = study.target()
    assert study.jobs(second) == [
        *("GMM on gmm-german-test", "align german-small", "decoding graph german-3gram"),
        *("lexicon german-file", "score gmm-german-test"),
    ]
    own.touch()
    assert study.target() == second
    own.write_text(lexicon.read_text(encoding="utf-8").replace("\t", "\tʔ ", 1), encoding="utf-8")
    assert study.target() not in (first, second)

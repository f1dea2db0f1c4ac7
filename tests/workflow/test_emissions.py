"""A model goes over a split once for all that is decoded of it, and searches of that take all cores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.workflow.conftest import Workspace
from thaw.files import read_json, seal_of
from thaw.planning import layout

pytestmark = pytest.mark.e2e

EVENT = re.compile(r"^Job (?P<begun>\d+): search |^Finished jobid: (?P<ended>\d+) \(Rule: search\)", re.MULTILINE)


def records(root: Path, kind: str, name: str) -> list[Path]:
    return sorted((root / kind).glob(f"*/{name}"))


def test_two_decoders_of_a_run_cost_one_pass_of_its_model(finished: Workspace) -> None:
    passes = {path.parent.name: read_json(path) for path in records(finished.root, layout.EMISSIONS, "emissions.json")}
    decodes = [read_json(path) for path in records(finished.root, layout.DECODES, "decode.json")]
    assert len(passes) == len(records(finished.root, layout.RUNS, "run.json")) == 4
    assert len(decodes) == 2 * len(passes)
    assert all(one["passes"] == {"split": 1, "dev": 1} for one in passes.values())
    costs = sorted(one["cost"]["seconds"] for one in passes.values())
    for kind in ("greedy", "beam"):  # each of both was searched in the four passes, and made none of its own
        its = [one["emissions"]["cost"]["seconds"] for one in decodes if one["decoder"]["kind"] == kind]
        assert sorted(its) == costs


def most_at_once(log: str) -> int:
    """How many searches ran at the same time at most, by what Snakemake says of their beginnings and ends."""
    now = most = 0
    for event in EVENT.finditer(log):
        now += 1 if event["begun"] else -1
        most = max(most, now)
    assert now == 0
    return most


def test_searches_run_on_all_cores(copy: Workspace) -> None:
    for path in records(copy.root, layout.DECODES, "hypotheses.jsonl"):
        if "-lm-" in path.parent.name:
            path.unlink()
            seal_of(path).unlink()
    done = copy.run("--until", "search", "-R", "search")  # with --cores 2
    assert len(EVENT.findall(done.stderr)) == 2 * 4
    assert most_at_once(done.stderr) == 2

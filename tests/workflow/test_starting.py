"""What Snakemake reads is what `thaw runs` reads, and what would go wrong later is refused at the start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import TOY, Workspace
from tests.workflow.dry_runs import listed
from thaw.config.load import load
from thaw.planning.plan import resolve

PUBLISHED = "results/freezing/toy/figure-published.csv"  # the one file that is drawn from nothing that is made


def refused(workspace: Workspace, *arguments: str) -> str:
    """The one line that Snakemake refuses with, but for what it says of itself."""
    done = workspace.attempt(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line and not line.startswith("Assuming")]
    return line


def test_a_config_that_only_includes_is_the_one_that_was_given(workspace: Workspace, tmp_path: Path) -> None:
    """Whether --configfile is given decides, not whether there are studies in it."""
    whole = tmp_path / "whole.yaml"
    workspace.config.rename(whole)
    workspace.config.write_text(f"include: [{whole}]\n")
    jobs = listed(workspace)
    assert sum(job.startswith("train ") for job in jobs) == len(resolve(load([whole])).runs) == 4


def test_a_key_given_twice_is_told_with_its_lines(workspace: Workspace) -> None:
    text = workspace.config.read_text()
    workspace.config.write_text(f"{text}scale: paper\n")
    first, last = text.splitlines().index("scale: mini") + 1, len(text.splitlines()) + 1
    said = refused(workspace, "-n")
    assert f"toy.yaml: not YAML: 'scale' is given twice (lines {first} and {last}); keep one of them" in said


def test_no_cores_are_refused_before_anything_waits(workspace: Workspace) -> None:
    assert "--cores 1 or more" in refused(workspace, "--cores", "0")


def test_a_name_belongs_to_the_config_that_drew_under_it_first(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("--", PUBLISHED)
    record = tmp_path / "results" / "configs" / "toy.json"
    assert json.loads(record.read_text()) == {"files": ["toy.yaml"]}
    assert workspace.attempt("--", PUBLISHED).returncode == 0  # its own

    other = tmp_path / "other.yaml"
    other.write_text(TOY.read_text())
    first, workspace.config = workspace.config, other
    said = refused(workspace, "--", PUBLISHED)
    assert said.startswith("config: name: 'toy' is that of toy.yaml, whose tables and report are in results")
    shown = workspace.run("-n", "--", "report")
    assert "is that of toy.yaml" in shown.stderr  # a dry run tells of it, and shows the rest
    assert "Job stats" in shown.stdout + shown.stderr

    first.write_text(yaml.safe_dump({**yaml.safe_load(TOY.read_text()), "name": "renamed"}))
    workspace.run("--force", "--", PUBLISHED)  # the first one has given it up
    assert json.loads(record.read_text()) == {"files": ["other.yaml"]}


@pytest.mark.parametrize("line", ["label: '{LibriSpeech}'", "citation: '{input} {wildcards.id} {0}'"])
def test_braces_in_a_persons_text_are_only_text(workspace: Workspace, line: str) -> None:
    key, _, text = line.partition(": ")
    workspace.edit(corpora={"german": {key: text.strip("'")}})
    assert listed(workspace)


@pytest.mark.parametrize(("arguments", "limit"), [([], "none"), (["--max-jobs-per-timespan", "7/1m"], "7 in 60 s")])
def test_work_is_looked_for_when_a_job_has_ended(workspace: Workspace, arguments: list[str], limit: str) -> None:
    """For a limit of jobs a second, Snakemake looks again and again: there is none, but where one was asked for."""
    (workspace.root / "Snakefile").unlink()
    (workspace.root / "Snakefile").write_text(
        'include: "workflow/Snakefile"\n'
        "onsuccess:\n"
        "    limit = workflow.scheduler.job_rate_limiter\n"
        '    print("limit:", f"{limit.max_jobs} in {limit.timespan:g} s" if limit else "none")\n'
    )
    done = workspace.run(*arguments, "--", PUBLISHED)
    assert f"limit: {limit}\n" in done.stdout + done.stderr

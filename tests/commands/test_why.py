"""`thaw why`: what is found under a name, what changed in a recipe, and Snakemake's reasons in few words."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import pytest

from tests.commands.project import begun, config_file, finished, plan, put, run_of
from thaw.commands import why
from thaw.errors import UserError

BEFORE = plan()
OVER = {"treatments": {"frozen-2": {"recipe": {"learning_rate": 0.002}}}}
NOW = plan(OVER)

DRY_RUN = """\
[Sat Nov 21 02:45:09 2026]
Job 26: train german-x
Reason: Missing output files: results/a, results/b; Input files updated by another job: results/c
[Sat Nov 21 02:45:09 2026]
Job 3: score german-x
Reason: Params have changed since last execution: Union of exclusive params before and now across all output: before: \
'{"level":0.9}' now: '{"level":0.8}' 
Job 4: freezing: table2
Reason: Input files updated by another job: results/s1, results/s2; Set of input files has changed since last execution
Job 5: report results/report.html
Reason: Input files updated by another job: results/t
rule all:
    reason: Input files updated by another job: results/report.html
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return config_file(tmp_path / "config.yaml", OVER)


def test_reasons_in_few_words() -> None:
    assert why.reasons(DRY_RUN) == [
        "Snakemake would run 4 jobs for it",
        "  train german-x: there is no results/a and 1 more",
        "  score german-x: settings changed (level: 0.9 → 0.8)",
        "  freezing: table2: it reads other files than the last time",
        "  report results/report.html: a job before it makes results/t",
    ]
    assert why.reasons("Nothing to be done") == ["Snakemake would run nothing for it"]


def test_the_earlier_run_with_the_fewest_changes_is_the_one_compared_to() -> None:
    far = run_of(plan({"recipes": {"finetune": {"epochs": 9, "dropout": 0.5}}}), "frozen-2")
    near = run_of(plan({**OVER, "recipes": {"finetune": {"epochs": 9}}}), "frozen-2")
    finished(far)
    finished(near)
    news = list(why.run_news(run_of(NOW, "frozen-2"), Path("results/state")))
    assert news == [f"differs from {near.id} in", "  recipe.epochs: 9 → 3"]


def test_one_changed_number_is_one_line() -> None:
    finished(run_of(BEFORE, "frozen-2"))
    assert list(why.run_news(run_of(NOW, "frozen-2"), Path("results/state"))) == [
        f"differs from {run_of(BEFORE, 'frozen-2').id} in",
        "  recipe.learning_rate: 0.001 → 0.002",
    ]


def test_a_run_that_was_only_begun_counts_too() -> None:
    begun(run_of(BEFORE, "frozen-2"), "stopped")
    assert "  recipe.learning_rate: 0.001 → 0.002" in why.run_news(run_of(NOW, "frozen-2"), Path("results/state"))


def test_another_start_is_explained_by_what_changed_in_it() -> None:
    for run in BEFORE.runs.values():
        finished(run)
    now = run_of(plan({"recipes": {"pretrain": {"epochs": 5}}}), "frozen-0")
    news = list(why.run_news(now, Path("results/state")))
    assert any(line.startswith("  start: ") for line in news)
    assert "    recipe.epochs: 2 → 5" in news


def test_the_same_run_and_other_names_are_no_news() -> None:
    for run in BEFORE.runs.values():
        finished(run)
    assert list(why.run_news(run_of(BEFORE, "scratch"), Path("results/state"))) == []


def test_a_decoder_against_the_earlier_one() -> None:
    before = next(one for one in BEFORE.decodes.values() if one.id.startswith("german-deepspeech-scratch-s1-lm"))
    put(f"results/decodes/{before.id}/decode.json", {"decoder": before.spec.model_dump(mode="json")})
    now = next(
        one
        for one in plan({"decoders": {"lm": {"beam": 7}}}).decodes.values()
        if one.id.startswith("german-deepspeech-scratch-s1-lm")
    )
    assert list(why.decode_news(now)) == [f"differs from {before.id} in", "  beam: 100 → 7"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("german-deepspeech-scratch-s1", "run german-deepspeech-scratch-s1-"),
        ("german-deepspeech-scratch-s1-greedy", "decode german-deepspeech-scratch-s1-greedy-"),
        ("table2", "freezing/table2: "),
        ("freezing/figure2", "freezing/figure2: "),
        ("results/freezing/golden/table2.csv", "freezing/table2: "),
        (f"results/runs/{run_of(NOW, 'scratch').id}/model.safetensors", "run german-deepspeech-scratch-s1-"),
        ("results/report-golden.html", "results/report-golden.html"),
    ],
)
def test_targets(target: str, expected: str) -> None:
    things = why.find(NOW, target)
    assert [thing.name.startswith(expected) for thing in things] == [True]


def test_a_target_that_is_not_there_names_some_that_are() -> None:
    with pytest.raises(UserError, match=r"'tabel2'.*table2"):
        why.find(NOW, "tabel2")


def test_what_is_there_and_what_is_missing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(NOW, "scratch")
    put(f"results/manifests/{run.manifest.id}/train.jsonl")
    asked = []
    monkeypatch.setattr(why, "dry_run", lambda configs, target: asked.append((configs, target)) or DRY_RUN)
    why.run(argparse.Namespace(target=run.id, config=[here]))
    said = capsys.readouterr().out
    assert f"    there    results/manifests/{run.manifest.id}/train.jsonl" in said
    assert f"    missing  results/manifests/{run.manifest.id}/dev.jsonl" in said
    assert f"    missing  results/runs/{run.id}/model.safetensors" in said
    assert "Snakemake would run 4 jobs" in said
    assert asked == [([here], f"results/runs/{run.id}/model.safetensors")]


def test_a_failing_dry_run_shows_its_last_lines(here: Path) -> None:
    with pytest.raises(UserError, match="snakemake -n failed"):
        why.dry_run([here], "results/nothing")


def test_the_target_may_stand_after_the_configs() -> None:
    one, two, name = Path("a.yaml"), Path("b.yaml"), "table2"
    assert why.told_apart([one, two], name) == ([one, two], name)
    assert why.told_apart([one, two, Path(name)], None) == ([one, two], name)
    with pytest.raises(UserError, match="name what to look at"):
        why.told_apart([one], None)


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "./x/y", "src/thaw/cli.py", "../results/x"])
def test_a_file_elsewhere_is_nothing_that_thaw_makes(target: str) -> None:
    with pytest.raises(UserError, match="is nothing that thaw makes; its files lie under results/"):
        why.find(NOW, target)


def test_a_failed_dry_run_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(said: str) -> None:
        done = subprocess.CompletedProcess([], 1, "", said)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    failing(
        "Building DAG of jobs...\nMissingRuleException in file x, line 3:\nNo rule to produce results/a/b (if ...)\n"
    )
    with pytest.raises(UserError, match="results/a/b: no rule of this config makes this file"):
        why.dry_run([Path("c.yaml")], "results/a/b")
    failing("a\nError: Directory cannot be locked.\n\n")
    with pytest.raises(UserError, match=r"snakemake -n failed: Error: Directory cannot be locked\.$"):
        why.dry_run([Path("c.yaml")], "results/a/b")

"""The rerun contract: edit X, and exactly these jobs run. docs/reruns.md says the same in words.

Every row is a dry run on one finished toy study. A dry run writes nothing and an edited config is a file outside the
study, so the rows share the study without copying it. Where files are edited, the study is copied.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, TOY, Workspace
from tests.workflow.dry_runs import edited, listed, snakemake_here
from thaw.commands import why
from thaw.config.load import load
from thaw.files import seal_of
from thaw.planning import layout
from thaw.planning.plan import resolve

pytestmark = pytest.mark.e2e

# --- the words of the table -----------------------------------------------------------------------

SOURCE = "english-deepspeech-source-s1"
SCRATCH, FROZEN_0, FROZEN_2 = (f"german-deepspeech-{name}-s1" for name in ("scratch", "frozen-0", "frozen-2"))
GERMAN = (SCRATCH, FROZEN_0, FROZEN_2)
TRANSFERRED = (SOURCE, FROZEN_0, FROZEN_2)
ALL = (SOURCE, *GERMAN)


OF_STUDY, OF_ALL = "report results/freezing/toy/report.html", "report results/report-toy.html"


def decoded(runs: tuple[str, ...], *decoders: str) -> set[str]:
    return {f"{rule} {run}-{decoder}" for rule in ("search", "score") for run in runs for decoder in decoders}


def trained(*runs: str) -> set[str]:
    return {f"train {run}" for run in runs} | emitted(*runs) | decoded(runs, "greedy", "lm")


def emitted(*runs: str) -> set[str]:
    """One pass of each model, whatever is decoded of it."""
    return {f"emit {run}" for run in runs}


def drawn(*names: str) -> set[str]:
    """Exhibits, and the reports that show them: that of the study, and that of all."""
    return {f"freezing: {name}" for name in names} | {OF_STUDY, OF_ALL}


RATES = drawn("findings", "table2", "figure-wer")
CURVES = drawn("figure2")
NOTHING: set[str] = set()

DUTCH = {
    **yaml.safe_load(TOY.read_text())["corpora"]["german"],
    "label": "Dutch",
    "language": "nl",
}
WIDE = {"kind": "beam", "beam": 20, "language_model": {"order": 2}}

EDITS: dict[str, tuple[dict[str, Any], set[str]]] = {
    # nothing: how work is done is no part of a result
    "workers, threads, limits, device, attempts": (
        {
            "execution": {
                "workers": 3,
                "threads": 2,
                "runtime_minutes": 9,
                "checkpoint_seconds": 5.0,
                "attempts": 7,
                "device": "cpu",
                "tensorboard": True,
            }
        },
        NOTHING,
    ),
    "another place for kept features, and no room there": (
        {"execution": {"features": "elsewhere/features", "features_gb": 0.0}},
        NOTHING,
    ),
    "another place for unfinished trainings": ({"execution": {"state": "elsewhere/state"}}, NOTHING),
    "a default written out": ({"recipes": {"finetune": {"order": "bucketed", "warmup_steps": 0}}}, NOTHING),
    "a freeze list in another order": ({"treatments": {"frozen-2": {"freeze": ["layer_2", "layer_1"]}}}, NOTHING),
    "something that no study names": (
        {"treatments": {"frozen-1": {"start": "source"}}, "decoders": {"x": WIDE}},
        NOTHING,
    ),
    # one treatment
    "one treatment's learning rate": (
        {"treatments": {"frozen-2": {"recipe": {"learning_rate": 0.002}}}},
        trained(FROZEN_2) | RATES | CURVES,
    ),
    "a layer of one freeze list": (
        {"treatments": {"frozen-2": {"freeze": ["layer_1"]}}},
        trained(FROZEN_2) | RATES | CURVES,
    ),
    "a treatment more": (
        {
            "treatments": {"frozen-1": {"start": "source", "reset": ["layer_6"], "freeze": ["layer_1"]}},
            "studies": {"freezing": {"treatments": ["scratch", "frozen-0", "frozen-2", "frozen-1"]}},
        },
        trained("german-deepspeech-frozen-1-s1") | RATES | CURVES,
    ),
    "a treatment less": ({"studies": {"freezing": {"treatments": ["scratch", "frozen-0"]}}}, RATES | CURVES),
    # recipes
    "the recipe of the targets": ({"recipes": {"finetune": {"epochs": 3}}}, trained(*GERMAN) | RATES | CURVES),
    "the recipe of the source": (
        {"recipes": {"pretrain": {"learning_rate": 0.001}}},
        trained(*TRANSFERRED) | RATES | CURVES,  # scratch does not start from it
    ),
    "the size of the model": ({"models": {"deepspeech": {"hidden": 17}}}, trained(*ALL) | RATES | CURVES),
    "a random seed more": (
        {"studies": {"freezing": {"seeds": [1, 2]}}},
        trained(*(run.replace("-s1", "-s2") for run in GERMAN)) | RATES | CURVES,
    ),
    # corpora, audio, text
    "a language more": (
        {"corpora": {"dutch": DUTCH}, "studies": {"freezing": {"targets": ["german", "dutch"]}}},
        {"fetch dutch", "convert shard 0 of dutch", "manifests of dutch-deepspeech", "language model dutch-2gram"}
        | trained(*(run.replace("german", "dutch") for run in GERMAN))
        | RATES
        | drawn("table1", "figure3")
        | {"all: figure-depth", "all: table-depth"},  # of at least two pairs of languages or models
    ),
    "a text rule of a target's language": (
        {"languages": {"de": {"replace": {"ö": "oe"}}}},
        {"manifests of german-deepspeech", "language model german-2gram"}
        | trained(*GERMAN)
        | RATES
        | CURVES
        | drawn("table1"),
    ),
    "a text rule of the source's language": (
        {"languages": {"en": {"delete": "!"}}},
        {"manifests of english-deepspeech", "language model english-2gram"}
        | trained(*TRANSFERRED)
        | RATES
        | CURVES
        | drawn("table1"),
    ),
    # Its trainings are listed too, but only copy what they learnt: `test_audio_cut_anew_trains_nothing_again`.
    "how the source's audio is cut into jobs": (
        {"corpora": {"english": {"audio": {"clips_per_job": 12}}}},  # 3 shards instead of 2
        {f"convert shard {shard} of english" for shard in range(3)}
        | {"manifests of english-deepspeech", "language model english-2gram"}
        | trained(*TRANSFERRED)
        | RATES
        | CURVES
        | drawn("table1"),
    ),
    # decoding and scoring
    "a decoder more": (
        {"decoders": {"wide": WIDE}, "studies": {"freezing": {"decoders": ["greedy", "lm", "wide"]}}},
        decoded(ALL, "wide") | RATES,  # with the emissions and the language model that are there
    ),
    "a decoder less": ({"studies": {"freezing": {"decoders": ["greedy"]}}}, RATES),
    "the range of alpha": ({"decoders": {"lm": {"tune": {"alpha": [0.0, 2.0]}}}}, decoded(ALL, "lm") | RATES),
    "the range of beta": ({"decoders": {"lm": {"tune": {"beta": [0.0, 2.0]}}}}, decoded(ALL, "lm") | RATES),
    "the order of the language model": (
        {"decoders": {"lm": {"language_model": {"order": 3}}}},
        {"language model english-3gram", "language model german-3gram"} | decoded(ALL, "lm") | RATES,
    ),
    "how sure intervals are": (
        {"scoring": {"level": 0.9}},
        {job for job in decoded(ALL, "greedy", "lm") if job.startswith("score")} | RATES,
    ),
    "the same level, spelt out": ({"scoring": {"level": 0.95}}, set()),
    # what is shown
    "a colour": (
        {"studies": {"freezing": {"style": {"scratch": "#123456"}}}},
        drawn("figure2", "figure-published"),
    ),
    "the label of a treatment": ({"treatments": {"frozen-2": {"label": "first two"}}}, RATES | CURVES),
    "the label of a decoder": ({"decoders": {"lm": {"label": "KenLM"}}}, RATES),
    "the label of a corpus": ({"corpora": {"german": {"label": "Deutsch"}}}, RATES | CURVES | drawn("table1")),
    "the baseline": ({"studies": {"freezing": {"baseline": "frozen-0", "reference": "scratch"}}}, RATES),
    "the name of the config": (
        {"name": "other"},
        {
            job.replace("report-toy", "report-other").replace("/toy/", "/other/")
            for job in RATES | CURVES | drawn("table1", "figure-published")
        },
    ),
}


@pytest.mark.parametrize(("over", "expected"), EDITS.values(), ids=EDITS)
def test_an_edit_of_the_config(finished: Workspace, tmp_path: Path, over: dict[str, Any], expected: set[str]) -> None:
    assert listed(finished, config=edited(tmp_path, over)) == Counter(expected)


def test_audio_cut_anew_trains_nothing_again(copy: Workspace, finished: Workspace) -> None:
    copy.edit(corpora=EDITS["how the source's audio is cut into jobs"][0]["corpora"])
    done = copy.run()
    assert (done.stdout + done.stderr).count("this training had finished before") == len(TRANSFERRED)
    for run in ALL:
        now, before = (only(workspace.root, f"runs/{run}-*") for workspace in (copy, finished))
        assert now.name == before.name
        assert all((now / path.name).read_bytes() == path.read_bytes() for path in before.iterdir())
    shown, before_it = copy.shown(), finished.shown()
    assert {name for name in shown if shown[name] != before_it[name]} == {
        "table1.csv",
        ".table1.csv.sha256",
    }  # it names manifests


def test_shards_of_files_that_are_there(copy: Workspace) -> None:
    """Nothing is fetched again. (The synthesised corpus is laid out like a Common Voice release.)"""
    release = only(copy.root, "corpora/german-*/files")
    config = yaml.safe_load(copy.config.read_text())

    def listed_with(shards: int) -> Counter[str]:
        source = {"kind": "commonvoice", "path": str(release), "shards": shards}
        config["corpora"]["german"]["source"] = source
        copy.config.write_text(yaml.safe_dump(config, allow_unicode=True))
        plan = resolve(load([copy.config]))
        manifest = next(one for one in plan.manifests.values() if one.corpus.name == "german")
        target = layout.manifest(manifest, "train.jsonl")
        jobs = listed(copy, "--", target)
        copy.run("--", target)
        return jobs

    rest = ["convert shard 0 of german", "manifests of german-deepspeech"]
    assert listed_with(1) == Counter(["fetch german", *rest])
    assert listed_with(2) == Counter(["convert shard 1 of german", *rest])
    assert listed_with(1) == Counter()


# --- versions of the code, and how it is run ------------------------------------------------------

ALL_DATA = {f"convert shard {shard} of english" for shard in range(2)} | {"convert shard 0 of german"}
ALL_TEXT = {f"manifests of {language}-deepspeech" for language in ("english", "german")}
ALL_LMS = {f"language model {language}-2gram" for language in ("english", "german")}
FROM_TEXT = ALL_TEXT | ALL_LMS | trained(*ALL) | RATES | CURVES | drawn("table1")

VERSIONS: dict[str, set[str]] = {
    "CORPUS_VERSION": {"fetch english", "fetch german"} | ALL_DATA | FROM_TEXT,
    "AUDIO_VERSION": ALL_DATA | FROM_TEXT,
    "MANIFEST_VERSION": FROM_TEXT,
    "LM_VERSION": ALL_LMS | decoded(ALL, "lm") | RATES,
    "TRAIN_VERSION": trained(*ALL) | RATES | CURVES,
    "DECODE_VERSION": emitted(*ALL) | decoded(ALL, "greedy", "lm") | RATES,
    "SCORE_VERSION": {job for job in decoded(ALL, "greedy", "lm") if job.startswith("score")} | RATES,
}


@pytest.mark.parametrize(("version", "expected"), VERSIONS.items(), ids=VERSIONS)
def test_a_version_of_the_code(finished: Workspace, version: str, expected: set[str]) -> None:
    assert listed(finished, versions={version: 99}) == Counter(expected)


def test_how_snakemake_is_called(finished: Workspace, tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text(
        "jobs: 9\nretries: 4\nprintshellcmds: true\nset-threads: {train: 2, emit_scores: 2, search: 8}\n"
        "default-resources: {runtime: 60}\nresources: [gpu_share=100]\nset-resources:\n"
        "  train: {mem_mb: 9, runtime: 5, gpu_share: 25}\n  emit: {gpu_share: 25}\n  emit_scores: {gpu_share: 25}\n"
    )
    assert listed(finished, "--profile", str(tmp_path), "--verbose") == Counter()


def test_the_same_package_from_another_checkout(finished: Workspace, tmp_path: Path) -> None:
    """Files of the package are no inputs: the versions say when their meaning changed."""
    shutil.copytree(REPOSITORY / "src" / "thaw", tmp_path / "thaw", copy_function=shutil.copyfile)
    environment = {**finished.environment(), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        finished.command("-n"), cwd=finished.root, env=environment, capture_output=True, text=True, check=True
    )
    assert "Nothing to be done" in done.stdout + done.stderr


def test_comments_and_resources_in_the_rules(copy: Workspace) -> None:
    (copy.root / "workflow").unlink()
    shutil.copytree(REPOSITORY / "workflow", copy.root / "workflow", copy_function=shutil.copyfile)
    rules = copy.root / "workflow" / "rules" / "train.smk"
    rules.write_text("# Another comment.\n" + rules.read_text().replace("mem_mb=4000", "mem_mb=8000"))
    assert "mem_mb=8000" in rules.read_text()
    assert listed(copy) == Counter()


def test_the_command_of_a_rule(copy: Workspace) -> None:
    (copy.root / "workflow").unlink()
    shutil.copytree(REPOSITORY / "workflow", copy.root / "workflow")
    rules = copy.root / "workflow" / "rules" / "train.smk"
    rules.write_text(rules.read_text().replace(" train --recipe", "  train --recipe"))
    assert listed(copy) == Counter(trained(*ALL) | RATES | CURVES)


# --- edits of files -------------------------------------------------------------------------------


def touch_everything(root: Path) -> None:
    """New times for every file, each of them another, in an order that has nothing to do with who made it."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    random.Random(1).shuffle(paths)
    now = time.time()
    for place, path in enumerate(paths):
        os.utime(path, (now - place, now - place))


def test_touched_files(copy: Workspace) -> None:
    touch_everything(copy.root / "results")
    copy.config.touch()
    big = [path for path in (copy.root / "results" / "audio").rglob("*.wav") if path.stat().st_size > 1_000_000]
    assert big  # beyond what Snakemake compares by content
    assert listed(copy) == Counter()


def only(root: Path, pattern: str) -> Path:
    found = list((root / "results").glob(pattern))
    assert len(found) == 1
    return found[0]


def test_a_touched_manifest_that_is_large(copy: Workspace) -> None:
    larger = ["--max-checksum-file-size", "100000000"]
    manifest = only(copy.root, "manifests/german-*/dev.jsonl")
    with manifest.open("a") as file:
        file.write("\n" * 1_100_000)
    snakemake_here(copy, ["--touch", "--forceall", *larger])  # as if it had been made like that
    now = time.time() + 1
    os.utime(manifest, (now, now))
    assert listed(copy, *larger) == Counter()
    assert f"train {SCRATCH}" in listed(copy)


# What is asked for is made again; what lies between is only made again when somebody asks for it, or needs it.
DELETED: dict[str, tuple[set[str], set[str]]] = {  # pattern: jobs of `snakemake`, jobs of `snakemake FILE`
    "report-toy.html": ({OF_ALL}, {OF_ALL}),
    "freezing/toy/report.html": (drawn(), {OF_STUDY}),
    f"scores/{SCRATCH}-greedy-*/scores.json": (NOTHING, {f"score {SCRATCH}-greedy"}),
    f"decodes/{FROZEN_2}-lm-*/hypotheses.jsonl": (NOTHING, {f"search {FROZEN_2}-lm"}),
    f"emissions/{FROZEN_2}-*/scores.safetensors": (NOTHING, emitted(FROZEN_2)),
    # The state folder holds the finished training: its job copies the files back.
    f"runs/{FROZEN_2}-*/model.safetensors": (NOTHING, {f"train {FROZEN_2}"}),
    "manifests/german-*/train.jsonl": (NOTHING, {"manifests of german-deepspeech"}),
    "freezing/toy/table1.tex": (drawn("table1"), {"freezing: table1"}),
}


@pytest.mark.parametrize(("pattern", "expected"), DELETED.items(), ids=DELETED)
def test_a_deleted_file(copy: Workspace, pattern: str, expected: tuple[set[str], set[str]]) -> None:
    path = only(copy.root, pattern)
    path.unlink()
    assert listed(copy) == Counter(expected[0])
    assert listed(copy, "--", str(path.relative_to(copy.root))) == Counter(expected[1])


@pytest.mark.parametrize("folder", ["state", "logs", "corpora/german-*/files"])
def test_a_deleted_folder_that_is_no_output(copy: Workspace, folder: str) -> None:
    shutil.rmtree(only(copy.root, folder))
    assert listed(copy) == Counter()


def test_a_deleted_model_that_an_edit_needs(copy: Workspace, tmp_path: Path) -> None:
    only(copy.root, f"runs/{FROZEN_2}-*/model.safetensors").unlink()
    only(copy.root, f"emissions/{FROZEN_2}-*/scores.safetensors").unlink()
    over, expected = EDITS["a decoder more"]
    # Snakemake does not know that the training will copy back the same bytes: all that reads them runs too.
    assert listed(copy, config=edited(tmp_path, over)) == Counter(expected | trained(FROZEN_2) | CURVES)


def test_published_numbers(copy: Workspace) -> None:
    (copy.root / "config").unlink()
    shutil.copytree(REPOSITORY / "config", copy.root / "config")
    with (copy.root / "config" / "published" / "freezing-corpora.csv").open("a") as file:
        file.write("\n")
    assert listed(copy) == Counter(drawn("table1"))


def test_a_split_that_changed_under_us(copy: Workspace) -> None:
    """The model goes over it again, and what was searched in the old emissions follows in the same invocation."""
    with only(copy.root, "manifests/german-*/test.jsonl").open("a") as file:
        file.write("\n")
    expected = emitted(*GERMAN) | decoded(GERMAN, "greedy", "lm") | {"language model german-2gram"} | RATES
    assert listed(copy) == Counter(expected)


def test_data_that_changed_under_us(copy: Workspace) -> None:
    """All that reads an edited manifest is made again; the training does not meet the state of the old data."""
    manifest = only(copy.root, "manifests/german-*/train.jsonl")
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    seal_of(manifest).unlink()  # as one who means it does
    now = time.time() + 1
    os.utime(manifest, (now, now))
    assert listed(copy) == Counter(
        trained(*GERMAN) | decoded(GERMAN, "lm") | {"language model german-2gram"} | RATES | CURVES
    )
    run = only(copy.root, f"runs/{SCRATCH}-*")
    copy.run("--", str((run / "run.json").relative_to(copy.root)))
    record = json.loads((run / "run.json").read_text())
    assert record["corpora"]["train"]["utterances"] == len(lines) - 1
    assert record["cost"]["attempts"] == 1
    assert len(list((copy.root / "results" / "state" / run.name).iterdir())) == 2


# --- there and back -------------------------------------------------------------------------------


def test_an_edit_made_and_taken_back(copy: Workspace, finished: Workspace, tmp_path: Path) -> None:
    original = yaml.safe_load(copy.config.read_text())
    copy.edit(treatments={"frozen-2": {"recipe": {"learning_rate": 0.002}}}, decoders={"lm": {"beam": 5}})
    copy.run("--rerun-incomplete")
    assert listed(copy) == Counter()
    copy.config.write_text(yaml.safe_dump(original, allow_unicode=True))
    assert listed(copy) == Counter(RATES | CURVES)  # nothing is trained, decoded or scored
    copy.run()
    assert copy.shown() == finished.shown()


def test_why_says_what_changed_and_what_would_run(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.root)
    config = edited(tmp_path, {"treatments": {"frozen-2": {"recipe": {"learning_rate": 0.002}}}})
    why.run(argparse.Namespace(target=FROZEN_2, config=[config]))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "recipe.learning_rate: 0.003 → 0.002" in lines
    assert lines[-2] == "Snakemake would run 1 job for it"
    assert lines[-1].startswith(f"train {FROZEN_2}-")
    assert "there is no results/runs/" in lines[-1]


# --- a fresh clone with results copied in ---------------------------------------------------------

SCORED_ANEW = Counter({job for job in decoded(ALL, "greedy", "lm") if job.startswith("score")} | RATES)
LEVEL = {"scoring": {"level": 0.9}}


def clone(finished: Workspace, root: Path, *folders: str) -> Workspace:
    """A new clone with folders of the finished study in it, copied without their times."""
    root.mkdir()
    made = Workspace(root)
    for folder in folders:
        shutil.copytree(finished.root / folder, root / folder, copy_function=shutil.copyfile)
        touch_everything(root / folder)
    return made


def test_a_clone_with_results_and_records(finished: Workspace, tmp_path: Path) -> None:
    made = clone(finished, tmp_path / "clone", "results", ".snakemake")
    assert listed(made) == Counter()
    assert listed(made, config=edited(tmp_path, LEVEL)) == SCORED_ANEW


def test_a_clone_with_results_alone_is_taken_over_by_a_touch(finished: Workspace, tmp_path: Path) -> None:
    made = clone(finished, tmp_path / "clone", "results")
    made.run("--touch", "--forceall")
    assert listed(made) == Counter()
    assert listed(made, config=edited(tmp_path, LEVEL)) == SCORED_ANEW


def test_a_clone_with_results_alone_trains_nothing_again(finished: Workspace, tmp_path: Path) -> None:
    """Without the touch, times decide, and they say nothing here; a training that has to run finds its state."""
    made = clone(finished, tmp_path / "clone", "results")
    run = only(made.root, f"runs/{SOURCE}-*")
    target = str((run / "model.sha256").relative_to(made.root))
    weights = (run / "model.safetensors").read_bytes()
    shown = made.run("--forcerun", "train", "--", target)
    assert "had finished before" in shown.stdout + shown.stderr
    assert (run / "model.safetensors").read_bytes() == weights

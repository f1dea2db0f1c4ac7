"""config/paper.yaml and config/paper-as-logged.yaml: they resolve, and differ by what the logs show and nothing else.

The facts are those of docs/paper.md, by the same letters.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import load
from thaw.config.run import RunRecipe
from thaw.planning.artifacts import Checkpoint, Run
from thaw.planning.plan import Plan, resolve

REPOSITORY = Path(__file__).resolve().parents[2]
DESCRIBED, LOGGED = Path("config/paper.yaml"), Path("config/paper-as-logged.yaml")
TARGETS = {"german": 32, "swiss-german": 42}  # classes, the blank included (E)
HEADING = "client_id\tpath\tsentence\n"

# What the logs show to be otherwise than the text says, by treatment: of the recipe's keys, from and to.
SORTED = {"recipe.order": ("bucketed", "sorted"), "recipe.drop_last": (False, True)}  # I, B
MOMENTS = {"optimizer_state": ("fresh", "transferred")}  # G
FROM_1_TO_3 = ("layer_1", "layer_2", "layer_3")
DIFFERENCES: dict[str, dict[str, tuple[Any, Any]]] = {
    "scratch": {**SORTED, "recipe.epochs": (30, 75)},  # D
    **{f"frozen-{layers}": {**SORTED, **MOMENTS} for layers in ("0", "1", "2", "3", "3-5")},
    "frozen-4": {**SORTED, **MOMENTS, "freeze": ((*FROM_1_TO_3, "lstm"), FROM_1_TO_3)},  # A
    "frozen-5": {
        **SORTED,
        **MOMENTS,
        "freeze": ((*FROM_1_TO_3, "layer_5", "lstm"), (*FROM_1_TO_3, "layer_5")),  # A
        "recipe.epochs": (30, 15),  # D
    },
}
WITH_DIGITS = {"frozen-4", "frozen-5"}  # E


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which both presets are valid: the workflow, and the smallest data they name."""
    for name in ("Snakefile", "workflow", "config"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for corpus in ("cv-corpus-2/de", "swiss-german"):
        (tmp_path / "data" / corpus / "clips").mkdir(parents=True)
        for split in ("train", "dev", "test"):
            (tmp_path / "data" / corpus / f"{split}.tsv").write_text(HEADING + "s\tclip\tein Satz\n")
    (tmp_path / "data" / "deepspeech-0.7.4-checkpoint.tar.gz").write_bytes(b"")
    (tmp_path / "data" / "german-sentences-8mil.txt").write_text("ein satz\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(plan: Plan, seed: int = 1) -> dict[tuple[str, str], Run]:
    """The runs of one seed, by target and treatment."""
    found = [run for run in plan.runs.values() if run.seed == seed]
    return {(run.manifest.corpus.name, run.treatment): run for run in found}


def flat(recipe: RunRecipe) -> dict[str, Any]:
    """A recipe as one level of keys."""
    plain = recipe.model_dump()
    return {k: v for k, v in plain.items() if k != "recipe"} | {f"recipe.{k}": v for k, v in plain["recipe"].items()}


def test_eight_treatments_of_two_targets() -> None:
    described, logged = (resolve(load([path])) for path in (DESCRIBED, LOGGED))
    assert len(described.runs) == 8 * 2 * 3
    assert len(logged.runs) == 8 * 2 * 1
    assert set(runs(described)) == set(runs(logged)) == {(a, b) for a in TARGETS for b in DIFFERENCES}
    assert len(described.decodes) == 2 * len(described.runs)
    assert {run.seed for run in described.runs.values()} == {1, 2, 3}


def test_every_transfer_starts_from_the_checkpoint() -> None:
    for path in (DESCRIBED, LOGGED):
        plan = resolve(load([path]))
        (checkpoint,) = plan.checkpoints.values()
        assert len(checkpoint.alphabet) + 1 == 29
        for (_, treatment), run in runs(plan).items():
            assert isinstance(run.start, Checkpoint) == (treatment != "scratch")
            assert run.recipe.reset == (("layer_6",) if treatment != "scratch" else ())


def test_the_published_size() -> None:
    for path in (DESCRIBED, LOGGED):
        for (target, treatment), run in runs(resolve(load([path]))).items():
            recipe = run.recipe
            assert (recipe.model.hidden, recipe.recipe.batch_size) == (2048, 24)
            assert (recipe.recipe.learning_rate, recipe.recipe.dropout) == (0.0005, 0.4)
            assert recipe.frozen.dropout == "on"  # I
            digits = path == LOGGED and treatment in WITH_DIGITS
            assert len(recipe.alphabet) + 1 == (42 if digits else TARGETS[target])
            assert len(run.manifest.text.alphabet) + 1 == TARGETS[target]


def test_as_described_freezes_what_the_text_says() -> None:
    of = {treatment: run.recipe for (_, treatment), run in runs(resolve(load([DESCRIBED]))).items()}
    assert {treatment: recipe.freeze for treatment, recipe in of.items()} == {
        "scratch": (),
        "frozen-0": (),
        "frozen-1": ("layer_1",),
        "frozen-2": ("layer_1", "layer_2"),
        "frozen-3": FROM_1_TO_3,
        "frozen-4": (*FROM_1_TO_3, "lstm"),
        "frozen-5": (*FROM_1_TO_3, "layer_5", "lstm"),
        "frozen-3-5": (*FROM_1_TO_3, "layer_5"),
    }
    assert {recipe.recipe.epochs for recipe in of.values()} == {30}
    assert {recipe.optimizer_state for recipe in of.values()} == {"fresh"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("treatment", DIFFERENCES)
def test_the_presets_differ_by_what_the_logs_show(target: str, treatment: str) -> None:
    described, logged = (flat(runs(resolve(load([path])))[target, treatment].recipe) for path in (DESCRIBED, LOGGED))
    found = {key: (described[key], logged[key]) for key in described if described[key] != logged[key]}
    letters = found.pop("alphabet", None)
    assert found == DIFFERENCES[treatment]
    if target == "german" and treatment in WITH_DIGITS:
        assert letters is not None
        assert letters[1] == letters[0] + "0123456789"
    else:
        assert letters is None


def test_nothing_but_runs_differs() -> None:
    described, logged = (load([path]).model_dump() for path in (DESCRIBED, LOGGED))
    differing = {key for key in described if described[key] != logged[key]}
    assert differing == {"name", "recipes", "treatments", "studies"}
    study = described["studies"]["freezing"], logged["studies"]["freezing"]
    assert {key for key in study[0] if study[0][key] != study[1][key]} == {"seeds"}
    assert logged["studies"]["freezing"]["seeds"] == (1,)  # I


def test_dry_run(workspace: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1", "--configfile"]
    done = subprocess.run(
        [*command, str(DESCRIBED)],
        cwd=workspace,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    counts = {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}
    wanted = {"fetch": 2, "audio": 20 + 40, "manifest": 2, "lm": 2, "checkpoint": 1, "train": 48}
    assert (
        counts.items() >= (wanted | {"emit_scores": 48, "greedy": 48, "search": 48, "score": 96, "report": 1}).items()
    )

"""config/paper-ambient.yaml resolves to the published models and recipe, without any data but its names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from thaw.config.conformer import ConformerSpec
from thaw.config.load import load
from thaw.planning.plan import Plan, resolve
from thaw.training.schedule import rate

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    for name in ("Snakefile", "workflow", "config"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    english = tmp_path / "data" / "cv-corpus-4-2019-12-10" / "en"
    (english / "clips").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (english / f"{split}.tsv").write_text("client_id\tpath\tsentence\ns\tclip\tone sentence\n")
    monkeypatch.chdir(tmp_path)
    return resolve(load([Path("config/paper-ambient.yaml")]))


def test_the_published_models(plan: Plan) -> None:
    """Five seeds of three sizes with group norm, L with batch norm, and the streaming model: one job of probes each."""
    runs = [run for run in plan.runs.values() if run.recipe.recipe.learner.kind == "central"]
    assert len(runs) == 3 * 5 + 2
    assert {probe.run.id for probe in plan.probes.values()} == {run.id for run in runs}
    models = {run.treatment: run.recipe.model for run in runs}
    blocks = {}
    for name, model in models.items():
        assert isinstance(model, ConformerSpec)
        assert model.head == "rnnt"
        blocks[name] = (model.variant, model.norm, model.kernel, len(model.block_names))
    assert blocks == {
        "s": ("S", "group", 31, 16),
        "m": ("M", "group", 31, 16),
        "l": ("L", "group", 31, 17),
        "l-batch": ("L", "batch", 31, 17),
        "l-streaming": ("L", "group", 15, 17),
    }


def test_the_published_recipe(plan: Plan) -> None:
    for run in plan.runs.values():
        recipe, model = run.recipe.recipe, run.recipe.model
        if recipe.learner.kind != "central":
            continue
        assert isinstance(model, ConformerSpec)
        assert recipe.schedule_width == model.sizes.width
        assert rate(recipe, 10_000, 99_000) == pytest.approx(0.05 / model.sizes.width**0.5)
        assert (recipe.optimizer, recipe.betas, recipe.epsilon, recipe.weight_decay) == (
            "adam",
            (0.9, 0.98),
            1e-9,
            1e-6,
        )
        assert recipe.units.model_dump() == {"kind": "bpe", "size": 1024}
        assert recipe.dropout == 0.1
        assert recipe.augmentation.spec_augment is not None
        assert recipe.augmentation.spec_augment.frequency_width == 27


@pytest.mark.e2e
def test_it_dry_runs(plan: Plan) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1", "--configfile"]
    done = subprocess.run([*command, "config/paper-ambient.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(plan.runs) > 17

"""config/paper-crosslingual.yaml resolves to the published models and recipe, without any data but its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.config.load import load
from thaw.planning.artifacts import Checkpoint
from thaw.planning.plan import resolve

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    for language in ("ru", "es"):
        (tmp_path / "data" / "cv-corpus-4-2019-12-10" / language / "clips").mkdir(parents=True)
    (tmp_path / "data" / "QuartzNet15x5Base-En.nemo").touch()
    monkeypatch.chdir(tmp_path)


def test_the_published_size() -> None:
    plan = resolve(load([Path("config/paper-crosslingual.yaml")]))
    assert len(plan.runs) == 2 * 8 * 3
    runs = {(run.manifest.corpus.name, run.treatment): run for run in plan.runs.values() if run.seed == 1}
    recipes = {key: run.recipe.recipe for key, run in runs.items()}
    assert {recipes["russian", name].epochs for _, name in runs} == {512}
    assert {recipes["spanish", name].epochs for _, name in runs} == {256}
    assert recipes["russian", "scratch"].learning_rate == 10 * recipes["russian", "finetuned"].learning_rate == 0.01
    for recipe in recipes.values():
        assert (recipe.optimizer, recipe.betas, recipe.weight_decay) == ("novograd", (0.95, 0.25), 0.001)
        assert (recipe.batch_size, recipe.schedule, recipe.warmup_ratio) == (256, "cosine", 0.12)
    models = {name: runs["russian", name].recipe.model for name in ("scratch", "scratch-small")}
    assert [model.model_dump()["variant"] for model in models.values()] == ["15x5", "5x3"]
    assert isinstance(runs["russian", "finetuned"].start, Checkpoint)
    assert runs["russian", "encoder-frozen"].recipe.freeze == tuple(sorted(models["scratch"].layer_names[:-1]))

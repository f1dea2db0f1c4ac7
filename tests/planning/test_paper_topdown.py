"""config/paper-topdown.yaml resolves to the published models and recipes, on generated folders of the right form."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.config.load import load
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, resolve
from thaw.planning.showing import exhibits

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = (
    "wsj/train_si284",
    "wsj/test_dev93",
    "wsj/test_eval92",
    "swbd/train_nodup",
    "swbd/train_dev",
    "swbd/eval2000",
)


def generate(root: Path) -> None:
    """Folders of the form that the config names, with an utterance in each."""
    for name in FOLDERS:
        folder = root / "data" / name
        folder.mkdir(parents=True)
        (folder / "wav.scp").write_text("a sph2pipe -f wav -p -c 1 a.sph |\n")
        (folder / "text").write_text("a-1 <NOISE> YES\n")
        (folder / "segments").write_text("a-1 a 0 1\n")
    text = root / "data" / "wikitext-2"
    text.mkdir()
    for split in ("train", "valid", "test"):
        (text / f"wiki.{split}.tokens").write_text(" = Heading = \n \n a <unk> \n")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    generate(tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plan(workspace: None) -> Plan:
    return resolve(load([Path("config/paper-topdown.yaml")]))


def run(plan: Plan, treatment: str) -> Run:
    return next(run for run in plan.runs.values() if run.treatment == treatment)


def test_every_row_of_every_exhibit_has_its_runs(plan: Plan) -> None:
    ctc = 3 * (1 + 4 + 1 + 1) + 3 * (1 + 4)
    attention, transformer, text = 2 * 3 * 3, 2, 1 + 3
    donors = 5 + 5 * (1 + 5 + 9)
    assert len(plan.runs) == ctc + attention + transformer + text + donors
    assert {name for study, name in exhibits(plan) if study == "topdown"} == {
        "findings", "table-corpora", "table1", "table2", "table3", "table4", "figure1", "figure2a", "figure2b",
        "table-trace", "figure-stages",
    }  # fmt: skip


def test_the_published_sizes(plan: Plan) -> None:
    ctc = run(plan, "ctc-baseline").recipe
    assert (ctc.model.layer_names[-1], len(ctc.model.layer_names)) == ("output", 5)
    assert len(ctc.alphabet) == 49  # ESPnet's dictionary without <unk>
    assert ctc.recipe.early_stop_epochs == 5
    assert run(plan, "ctc-dropout-baseline").recipe.recipe.dropout == 0.5
    attention = run(plan, "attention-baseline").recipe.recipe
    assert (attention.epochs, attention.early_stop_epochs, attention.epsilon_decay) == (15, 3, 0.01)
    switchboard = run(plan, "transformer-baseline").recipe.recipe
    assert (switchboard.schedule, switchboard.learning_rate, switchboard.warmup_steps) == ("noam", 5.0, 25000)
    assert (switchboard.units.kind, switchboard.batch_size) == ("bpe", 256)


def test_only_the_classifiers_are_frozen_where_the_paper_has_one_stage(plan: Plan) -> None:
    for treatment in ("attention-stage-1", "vgg-from-attention", "transformer-stage-1"):
        assert run(plan, treatment).recipe.freeze == ("attention_output", "ctc_output")
    assert run(plan, "awd-lstm-stage-1").recipe.freeze == ("decoder", "embedding")
    assert run(plan, "awd-lstm-stage-1").recipe.reset == ("lstm_1", "lstm_2", "lstm_3")


def test_frames_of_wsj_are_a_quarter_of_the_features(plan: Plan) -> None:
    for treatment in ("ctc-baseline", "attention-baseline", "vgg-baseline"):
        assert run(plan, treatment).recipe.model.frames(16000) == 25

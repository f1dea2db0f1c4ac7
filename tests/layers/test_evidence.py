"""Evidence of a run: every predictor, the same each time, and one line where it cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.training.conftest import ALPHABET, sentences, write_split
from thaw.cli import main
from thaw.config.evidence import EvidenceSpec
from thaw.config.load import load, merged, read_yaml, validate
from thaw.config.models import DeepSpeechSpec
from thaw.config.probes import ProbeSpec, each_layer
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.layers.evidence import Question, gather
from thaw.layers.predictors import PREDICTORS
from thaw.models import LayeredModel, build, save_model, save_tensors
from thaw.planning import layout
from thaw.planning.grid import manifest_of
from thaw.planning.plan import resolve
from thaw.probing.probe import probe

SPEC = DeepSpeechSpec(kind="deepspeech", hidden=12, context=1)
LAYERS = ["layer_1", "layer_2", "layer_3", "lstm", "layer_5"]
RUN: dict[str, Any] = {"seed": 1, "start": "scratch", "reset": [], "output_rows": "fresh", "corpora": ["toy"]}
META = {"model": SPEC.model_dump(mode="json"), "alphabet": ALPHABET, "run": RUN, "epoch": 3}
TOY = Path(__file__).parents[1] / "workflow" / "toy.yaml"
PASTED = {"studies": {"freezing": {"treatments": ["scratch", "frozen-0", "frozen-2", "frozen-by-depth"]}}}
LITTLE = EvidenceSpec(draws=2, utterances=6, head_epochs=2)


def network(seed: int, shift: float = 0.0, hidden: int = 12) -> LayeredModel:
    model = build(SPEC.model_copy(update={"hidden": hidden}), len(ALPHABET) + 1)
    model.initialise(seed)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(shift * torch.randn(tensor.shape, generator=random))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a dev set of its language and a target's training set."""
    path = tmp_path_factory.mktemp("layers")
    write_split(path, "dev", sentences("dev", 6))
    write_split(path, "train", sentences("train", 8))
    (path / "run").mkdir()
    save_model(path / "run" / "model.safetensors", network(1, 0.1), META)
    return path


def question(folder: Path, **changes: Any) -> Question:
    given: dict[str, Any] = {"source": folder / "dev.jsonl", "device": "cpu", **changes}
    model, target = (
        given.pop("model", folder / "run" / "model.safetensors"),
        given.pop("target", folder / "train.jsonl"),
    )
    return Question(given.pop("spec", LITTLE), model, target, **given)


def test_every_predictor_has_a_number_for_every_layer_below_the_output_and_the_same_each_time(folder: Path) -> None:
    found, again = gather(question(folder)), gather(question(folder))
    assert found["layers"] == LAYERS
    assert {name: list(scores) for name, scores in found["scores"].items()} == dict.fromkeys(PREDICTORS, LAYERS)
    assert found["missing"] == {}
    assert found["target"]["utterances"] == 6
    assert set(found["cost"]) == {predictor.cost for predictor in PREDICTORS.values() if predictor.cost} | {
        "features",
        "loading",
    }
    assert {**found, "cost": 0} == {**again, "cost": 0}


def test_penalties_are_those_of_probes(folder: Path) -> None:
    found = gather(question(folder))
    operations = {"none": (), **each_layer(LAYERS, "draw", (101, 102)), **each_layer(LAYERS, "first")}
    rows = probe(
        ProbeSpec(splits=("dev",), operations=operations),
        folder / "run" / "model.safetensors",
        [folder / "dev.jsonl"],
        device="cpu",
    ).rows
    rate = {row["name"]: row["measures"]["word"]["errors"] / row["measures"]["word"]["total"] for row in rows}
    for layer in LAYERS:
        draws = [rate[f"{layer}-draw-{seed}"] - rate["none"] for seed in (101, 102)]
        assert found["draws"][layer] == pytest.approx(draws)
        assert found["scores"]["rerand"][layer] == pytest.approx(sum(draws) / 2)
        assert found["scores"]["reinit"][layer] == pytest.approx(rate[f"{layer}-first"] - rate["none"])


def test_no_draw_is_the_runs_own(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", network(102, 0.1), {**META, "run": {**RUN, "seed": 102}})
    found = gather(question(folder, model=tmp_path / "model.safetensors"))
    assert len(found["draws"]["lstm"]) == 2  # of 101 and 103


def test_a_run_whose_first_weights_are_not_known_lacks_what_needs_them(folder: Path, tmp_path: Path) -> None:
    """It started from another run and kept no first snapshot; where it kept one, nothing is missing."""
    meta = {**META, "run": {**RUN, "start": "0123456789", "reset": ["layer_6"]}}
    save_model(tmp_path / "model.safetensors", network(1, 0.1), meta)
    found = gather(question(folder, model=tmp_path / "model.safetensors"))
    assert set(found["missing"]) == {"reinit", "reinit-loss", "churn", "cka"}
    assert "snapshots: [first, best]" in found["missing"]["churn"]
    assert "rerand" in found["scores"]
    tensors = {f"first/{name}": tensor for name, tensor in network(5).state_dict().items()}
    save_tensors(tmp_path / "snapshots.safetensors", tensors, {**meta, "snapshots": ["first"]})
    whole = gather(question(folder, model=tmp_path / "model.safetensors", snapshots=tmp_path / "snapshots.safetensors"))
    assert whole["missing"] == {}


def test_without_a_manifest_of_the_runs_own_language_nothing_is_reset(folder: Path) -> None:
    found = gather(question(folder, source=None))
    assert set(found["missing"]) == {"rerand", "reinit", "rerand-loss", "reinit-loss"}
    assert all("--source" in reason for reason in found["missing"].values())


def test_a_target_in_another_alphabet_gets_a_head_of_its_own_letters(folder: Path, tmp_path: Path) -> None:
    write_split(tmp_path, "train", sentences("train", 8))
    letters = str.maketrans("abcd", "абвг")
    rows = [{**row, "text": row["text"].translate(letters)} for row in read_jsonl(tmp_path / "train.jsonl")]
    write_jsonl(tmp_path / "train.jsonl", rows)
    found = gather(question(folder, target=tmp_path / "train.jsonl"))
    assert found["target"]["characters"].strip() == "абвг"
    plain = gather(question(folder))
    assert found["scores"]["rgn"] == pytest.approx(plain["scores"]["rgn"])  # the same letters by other names
    with pytest.raises(UserError, match="another language"):
        gather(question(folder, source=tmp_path / "train.jsonl"))


def test_what_does_not_fit_is_said(folder: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match="no utterances"):
        gather(question(folder, target=tmp_path / "empty.jsonl"))
    tensors = {f"first/{name}": tensor for name, tensor in network(5, hidden=10).state_dict().items()}
    save_tensors(tmp_path / "snapshots.safetensors", tensors, {**META, "snapshots": ["first"]})
    with pytest.raises(UserError, match="does not fit"):
        gather(question(folder, snapshots=tmp_path / "snapshots.safetensors"))
    save_model(tmp_path / "other.safetensors", network(1), {**META, "task": {"kind": "frames"}})
    with pytest.raises(UserError):
        gather(question(folder, model=tmp_path / "other.safetensors"))


def test_the_command_prints_a_treatment(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "layers",
        str(folder / "run"),
        "--target",
        str(folder / "train.jsonl"),
        "--source",
        str(folder / "dev.jsonl"),
    ]
    little = ["--evidence", LITTLE.model_dump_json()]
    assert main([*words, *little, "--by", "depth", "--freeze", "2", "--out", str(folder / "e.json")]) == 0
    printed = capsys.readouterr().out
    assert "  frozen-by-depth: {start: source, reset: [output], freeze: [layer_1, layer_2]}" in printed
    assert all(predictor.label in printed for predictor in PREDICTORS.values())
    assert read_json(folder / "e.json")["layers"] == LAYERS
    for wrong, said in (
        (["--by", "luck"], "no predictor 'luck'"),
        (["--freeze", "6"], "has 5 layers below its output, not 6"),
        (["--freeze", "0"], "a whole number from 1"),
    ):
        with pytest.MonkeyPatch.context():
            try:
                status = main([*words, *little, *wrong])
            except SystemExit as leaving:
                status = int(str(leaving.code))
        assert status == 2
        assert said in capsys.readouterr().err
    assert main(["layers", str(folder / "run"), "--target", "nowhere"]) == 2
    assert "'nowhere' is no file and no corpus of the config" in capsys.readouterr().err


def test_the_command_finds_a_run_by_its_name_and_manifests_by_corpora(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The beginning of a run's name, a corpus of the config; resets are judged on dev of the corpus it learnt from."""
    config = load([TOY])
    plan = resolve(config)
    [source] = [run for run in plan.runs.values() if run.treatment == "source"]
    manifests = {name: manifest_of(name, SPEC, config) for name in ("english", "german")}
    (tmp_path / "config").symlink_to(Path("config").absolute())
    monkeypatch.chdir(tmp_path)
    words = ["layers", "english-deepspeech", "--target", "german", "--config", str(TOY), "--freeze", "2"]
    words += ["--evidence", LITTLE.model_dump_json()]
    model = Path(layout.run(source, "model.safetensors"))
    model.parent.mkdir(parents=True)
    save_model(model, network(1, 0.1), {**META, "run": {**RUN, "corpora": [manifests["english"].hash]}})
    assert main(words) == 2
    assert "the manifest of german is not made yet: snakemake results/manifests/german-" in capsys.readouterr().err
    for name, split in (("german", "train"), ("english", "dev")):
        path = Path(layout.manifest(manifests[name], f"{split}.jsonl"))
        path.parent.mkdir(parents=True)
        write_split(path.parent, split, sentences(split, 6))
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "not known" not in printed  # resets neither
    assert "  frozen-by-depth: {start: source, reset: [output], freeze: [layer_1, layer_2]}" in printed
    pasted = yaml.safe_load(printed[printed.index("treatments:") :].split("\n\n")[0])
    again = resolve(validate(merged(merged(read_yaml(TOY), pasted), PASTED)))
    assert "frozen-by-depth" in {run.treatment for run in again.runs.values()}

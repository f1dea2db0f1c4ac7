"""A DNN trained on alignments: what goes in, what is refused, resumed to the bit, several languages in one network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.aligned import STATES, align, states_of
from tests.training.conftest import Bench, make_recipe, same_but_for_time, sentences, write_split
from thaw.alignment.states import read_alignment
from thaw.cli import main
from thaw.config.run import RunRecipe
from thaw.corpora.manifest import read_manifest
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.frontends import features
from thaw.models import load_model
from thaw.training.data import read_examples
from thaw.training.material import material_of
from thaw.units import units_from

DNN = {"kind": "dnn", "hidden": 24, "layers": 3, "context": 2}
RECIPE = {"task": {"kind": "frames"}, "optimizer": "adagrad", "learning_rate": 0.05, "batch_size": 2, "epochs": 6,
          "order": "shuffled", "dropout": 0.0}  # fmt: skip


def frames_recipe(**changes: Any) -> dict[str, Any]:
    plain = make_recipe(**{**RECIPE, **changes})
    return {**plain, "model": DNN, "alphabet": "", "alignments": ["gmm"]}


def make_frames_bench(folder: Path, **changes: Any) -> Bench:
    paths = [write_split(folder, name, sentences(name, count)) for name, count in (("train", 40), ("dev", 12))]
    return Bench(folder, *paths, frames_recipe(**changes))


@pytest.fixture
def frames_bench(tmp_path: Path) -> Bench:
    return make_frames_bench(tmp_path)


def train(bench: Bench, out: str, *extra: str, state: str = "state") -> tuple[int, str]:
    return bench.run(out, "--alignment", str(align(bench.train)), str(align(bench.dev)), *extra, state=state)


def test_it_learns_the_states(frames_bench: Bench) -> None:
    assert train(frames_bench, "out")[0] == 0
    rows = read_jsonl(frames_bench.outputs("out")["metrics"])
    assert rows[0]["dev_fer"] > rows[-1]["dev_fer"]
    assert rows[-1]["dev_fer"] < 0.25
    assert rows[-1]["dev_loss"] < 1.0  # nats per frame
    model, meta = load_model(frames_bench.outputs("out")["model"])
    assert units_from(meta)[""].plain() == {"kind": "states", "count": STATES, "inventory": "gmm"}
    frames = np.concatenate([features("fbank", one.pcm()) for one in read_manifest(frames_bench.train)])
    np.testing.assert_allclose(model.state_dict()["layers.hidden_1.mean"].numpy(), frames.mean(0), rtol=1e-4)
    record = read_json(frames_bench.outputs("out")["record"])
    assert record["best"] == {"epoch": record["best"]["epoch"], "dev_fer": min(row["dev_fer"] for row in rows)}


def test_a_training_resumes_to_the_bit(frames_bench: Bench) -> None:
    assert train(frames_bench, "whole", state="state-whole")[0] == 0
    for _ in range(3):
        train(frames_bench, "out", "--budget", "0.001")
    assert train(frames_bench, "out")[0] == 0
    for option in ("model", "optimizer"):
        whole, out = (frames_bench.outputs(name)[option].read_bytes() for name in ("whole", "out"))
        assert whole == out
    rows = [read_jsonl(frames_bench.outputs(name)["metrics"]) for name in ("whole", "out")]
    assert same_but_for_time(*rows)


def test_what_is_not_aligned_is_left_out_and_counted(frames_bench: Bench) -> None:
    missing = (read_manifest(frames_bench.train)[3].id,)
    alignments = [str(align(frames_bench.train, leave_out=missing)), str(align(frames_bench.dev))]
    bench = frames_bench.with_recipe(epochs=1)
    assert bench.run("out", "--alignment", *alignments)[0] == 0
    amounts = read_json(bench.outputs("out")["record"])["corpora"]["train"]
    assert (amounts["utterances"], amounts["left_out"]) == (39, 1)


def test_an_alignment_older_than_its_manifest_or_of_another_is_refused(frames_bench: Bench) -> None:
    own, dev = align(frames_bench.train), align(frames_bench.dev)
    code, error = frames_bench.run("out", "--alignment", str(dev), str(own))
    assert (code, "not an alignment of" in error) == (2, True)
    rows = read_jsonl(frames_bench.train)
    write_jsonl(frames_bench.train, [{**row, "text": row["text"][:-1] or "a"} for row in rows])
    code, error = frames_bench.run("out", "--alignment", str(own), str(dev))
    assert code == 2
    assert f"{own}: not an alignment of {frames_bench.train} as it is now; run the `align` rule again" in error


def test_alignments_must_be_given_and_wanted(frames_bench: Bench) -> None:
    code, error = frames_bench.run("out")
    assert (code, "1 + 1 manifests, 0 alignments" in error) == (2, True)
    other = frames_bench.with_recipe(task={"kind": "ctc"}, alphabet=" abcd", alignments=[])
    code, error = train(other, "out")
    assert (code, "the task ctc learns from no alignment" in error) == (2, True)


def test_dev_has_the_states_of_train(frames_bench: Bench) -> None:
    alignments = [str(align(frames_bench.train)), str(align(frames_bench.dev, states=STATES + 1))]
    code, error = frames_bench.run("out", "--alignment", *alignments)
    assert (code, "dev is aligned with the model of train" in error) == (2, True)


def test_dev_is_aligned_by_the_gmm_of_train(frames_bench: Bench) -> None:
    alignments = [str(align(frames_bench.train, gmm="a")), str(align(frames_bench.dev, gmm="b"))]
    code, error = frames_bench.run("out", "--alignment", *alignments)
    assert (code, f"{alignments[1]}: aligned by another GMM than {alignments[0]}" in error) == (2, True)


def test_languages_have_their_last_hidden_layer_and_their_states_for_themselves(tmp_path: Path) -> None:
    """Two corpora, two inventories; a batch mixes them."""
    splits, alignments = {}, []
    for split, count in (("train", 16), ("dev", 6)):
        for lang in ("aa", "bb"):
            path = write_split(tmp_path, f"{split}-{lang}", sentences(f"{split}{lang}", count))
            write_jsonl(path, [{**row, "lang": lang} for row in read_jsonl(path)])
            splits[split, lang] = path
            alignments.append(str(align(path, states=STATES + (lang == "bb"))))
    recipe = {**frames_recipe(batch_size=4, epochs=3), "heads": {"aa": "", "bb": ""}, "alignments": ["one", "two"]}
    bench = Bench(tmp_path, splits["train", "aa"], splits["dev", "aa"], {**recipe, "corpora": ["a", "b"]})
    words = bench.arguments("out", "--alignment", *alignments)
    for split in ("train", "dev"):
        words.insert(words.index(str(splits[split, "aa"])) + 1, str(splits[split, "bb"]))
    assert main(words) == 0
    model, meta = load_model(bench.outputs("out")["model"])
    assert model.branches == {"aa": ("hidden_3_aa", "output_aa"), "bb": ("hidden_3_bb", "output_bb")}
    assert model.trunk == ("hidden_1", "hidden_2")
    assert {lang: units.size for lang, units in units_from(meta).items()} == {"aa": STATES, "bb": STATES + 1}
    last = read_jsonl(bench.outputs("out")["metrics"])[-1]
    assert set(last["dev_by_language"]) == {"aa", "bb"}
    assert np.isfinite(last["dev_by_language"]["bb"]["fer"])


def test_corpora_of_several_languages_may_be_named_alike(tmp_path: Path) -> None:
    """As the recorded prompts are: each utterance keeps its states and has random streams of its own."""
    paths, files = [], {}
    for lang in ("aa", "bb"):
        (tmp_path / lang).mkdir()
        paths.append(write_split(tmp_path / lang, "train", sentences(lang, 6)))
        rows = [{**row, "lang": lang, "id": row["id"].replace(lang, "clip")} for row in read_jsonl(paths[-1])]
        write_jsonl(paths[-1], rows)
        files[lang] = align(paths[-1])
    recipe = {**frames_recipe(), "heads": {"aa": "", "bb": ""}, "corpora": ["a", "b"], "alignments": ["one", "two"]}
    material = material_of(RunRecipe.model_validate(recipe), paths, paths, [*files.values(), *files.values()])
    examples = read_examples(paths, material.tasks, "fbank", wanted=material.has)
    assert len({utterance.id for utterance in examples.utterances}) == 12
    for utterance, labels in zip(examples.utterances, examples.labels, strict=True):
        own = read_alignment(files[utterance.lang])[utterance.id.removeprefix(f"{utterance.lang}/")]
        assert utterance.id.startswith(f"{utterance.lang}/clip-")
        assert labels.tolist() == own.tolist()
    with pytest.raises(UserError, match="occurs twice"):
        read_examples([paths[0], paths[0]], material.tasks, "fbank")


def test_states_of_the_toy_corpus_are_those_of_its_letters(frames_bench: Bench) -> None:
    utterance = read_manifest(frames_bench.train)[0]
    states = states_of(utterance)
    said = [state for place, state in enumerate(states) if place == 0 or states[place - 1] != state]
    assert "".join(" abcd"[state] for state in said).split() == utterance.text.split()

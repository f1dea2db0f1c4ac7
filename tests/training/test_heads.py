"""Several languages in a run: a head for each over a shared stack, dev measured by language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.conftest import ALPHABET, Bench, make_recipe, sentences, write_split
from thaw.config.models import QuartzNetSpec, head_names, layer_names
from thaw.config.run import RunRecipe
from thaw.corpora.manifest import read_manifest
from thaw.errors import UserError
from thaw.files import read_jsonl, write_jsonl
from thaw.models import build, load_model
from thaw.models.layered import layer_of
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import prepare
from thaw.tasks import tasks_for
from thaw.training.activations import Activations, computed_once
from thaw.training.central import Central
from thaw.training.data import read_examples
from thaw.training.distributed import World
from thaw.training.forward import forward
from thaw.training.torch_optim import optimizer_for
from thaw.units import of_language, units_from, units_of

HEADS = {"aa": " abcd", "bb": "dcba "}
QUARTZNET = {"kind": "quartznet", "variant": "mini-3x1"}
MODELS = [make_recipe()["model"], QUARTZNET]


def spoken_in(path: Path, langs: list[str]) -> Path:
    """The same manifest with its utterances' languages in turn."""
    rows = read_jsonl(path)
    write_jsonl(path, [{**row, "lang": langs[place % len(langs)]} for place, row in enumerate(rows)])
    return path


def make_learner(folder: Path, langs: list[str], heads: dict[str, str], **changes: Any) -> Central:
    model = changes.pop("model", MODELS[0])
    freeze = changes.pop("freeze", [])
    plain = make_recipe(**{"epochs": 2, "dropout": 0.2, **changes})
    run = RunRecipe.model_validate({**plain, "model": model, "heads": heads, "freeze": freeze})
    tasks = tasks_for(run.recipe.task, units_of(run))
    splits = {name: spoken_in(write_split(folder, name, sentences(name, n)), langs) for name, n in COUNTS.items()}
    examples, dev = (read_examples([path], tasks, run.model.frontend) for path in splits.values())
    network = build(run.model, {lang: task.classes for lang, task in tasks.items()})
    surgery = prepare(network, operations_of(run, network))
    done = computed_once(surgery, run, [examples, dev], torch.device("cpu"))
    if done:
        examples = Activations(examples, network, done, torch.device("cpu"), "fp32", True)
        dev = Activations(dev, network, done, torch.device("cpu"), "fp32", False)
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    return Central(run, network, surgery, optimizer, examples, dev, World(), print, done)


COUNTS = {"train": 24, "dev": 10}


def trained(learner: Central) -> list[dict[str, Any]]:
    for _ in learner.run():
        pass
    return learner.rows


def gradients(learner: Central) -> dict[str, Tensor | None]:
    pairs = zip(learner.optimizer.names, learner.optimizer.parameters, strict=True)
    return {name: None if p.grad is None else p.grad.clone() for name, p in pairs}


@pytest.mark.parametrize("model", MODELS)
def test_one_language_alone_in_heads_has_the_bits_of_one_head(tmp_path: Path, model: dict[str, Any]) -> None:
    one = make_learner(tmp_path, ["aa"], {}, model=model)
    other = make_learner(tmp_path, ["aa"], {"aa": ALPHABET}, model=model)
    (head,) = one.model.heads
    assert other.model.heads == (f"{head}_aa",)
    renamed = {name.replace(f".{head}.", f".{head}_aa."): tensor for name, tensor in one.model.state_dict().items()}
    other.model.load_state_dict(renamed)  # another layer's name draws other first weights
    rows, other_rows = trained(one), trained(other)
    clocks = ("audio_seconds_per_second", "step_seconds", "data_seconds")
    for row, other_row in zip(rows, other_rows, strict=True):
        assert {k: v for k, v in row.items() if k not in clocks} == {
            k: v for k, v in other_row.items() if k not in clocks
        }
    after = other.model.state_dict()
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(after[name.replace(f".{head}.", f".{head}_aa.")], tensor), name


@pytest.mark.parametrize("model", MODELS)
def test_a_heads_gradient_is_of_its_own_language_alone(tmp_path: Path, model: dict[str, Any]) -> None:
    learner = make_learner(tmp_path, ["aa", "bb"], HEADS, model=model)
    learner.model.eval()  # norms of a batch would mix what they see
    mixed = list(range(8))
    mine = [i for i in mixed if learner.examples.utterances[i].lang == "aa"]
    assert 0 < len(mine) < 8
    learner.accumulate(mixed)
    whole = gradients(learner)
    learner.accumulate(mine)
    alone = gradients(learner)
    head = learner.model.branches["aa"][0]
    for name in (name for name in whole if layer_of(name) == head):
        got, want = whole[name], alone[name]
        assert got is not None
        assert want is not None
        torch.testing.assert_close(got * 8, want * len(mine), rtol=1e-4, atol=1e-5)  # both are over their batch's size
    shared = next(name for name in whole if layer_of(name) == learner.model.trunk[0])
    assert whole[shared] is not None
    others = [name for name in alone if layer_of(name) == learner.model.branches["bb"][0]]
    assert others
    assert all(alone[name] is None for name in others)


def test_a_head_without_utterances_in_a_batch_stands_still(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, ["aa", "bb"], HEADS)
    learner.step(list(range(8)))  # moments of both heads are no longer zero
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in learner.optimizer.state().items()}
    learner.step([i for i in range(24) if learner.examples.utterances[i].lang == "aa"][:8])
    moved = {
        layer_of(name) for name, tensor in learner.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert moved == {*learner.model.trunk, *learner.model.branches["aa"]}
    silent = learner.model.branches["bb"][0]
    after = learner.optimizer.state()
    assert all(torch.equal(after[key], tensor) for key, tensor in state.items() if f".{silent}." in key)


def test_a_batch_gives_every_utterance_to_its_own_head(tmp_path: Path) -> None:
    """Each language's loss is what a model of that head alone says."""
    learner = make_learner(tmp_path, ["aa", "bb"], HEADS, dropout=0.0)
    learner.model.eval()
    batch = learner.examples.batch(range(8))
    losses, answers = learner.losses(batch, None)
    assert [answer.head for answer in answers] == ["aa", "bb"]
    for row, (lang, loss) in enumerate(zip(batch.langs, losses.tolist(), strict=True)):
        part = batch.part([row])
        (answer,) = forward(learner.model, part, None)
        assert (answer.head, [*answer.outputs]) == (lang, [f"layer_6_{lang}"])
        logits, _ = learner.model(part.x, part.lengths, lang=lang)
        assert torch.equal(answer.logits, logits)
        assert learner.tasks[lang].losses(answer).item() == pytest.approx(loss, rel=1e-5)
    words = [of_language(learner.tasks, lang).labels(u) for lang, u in zip(batch.langs, learner.examples.utterances)]  # noqa: B905
    assert batch.targets.tolist() == [label for labels in words for label in labels]


@pytest.mark.parametrize("heads", [{}, HEADS])
def test_dev_is_measured_by_language(tmp_path: Path, heads: dict[str, str]) -> None:
    learner = make_learner(tmp_path, ["aa", "bb"], heads)
    row = trained(learner)[-1]
    by_language = row["dev_by_language"]
    assert list(by_language) == ["aa", "bb"]
    texts = {lang: [u.text for u in learner.dev.utterances if u.lang == lang] for lang in ("aa", "bb")}
    for key, size in (("cer", len), ("wer", lambda text: len(text.split()))):
        sizes = {lang: sum(size(text) for text in spoken) for lang, spoken in texts.items()}
        errors = sum(by_language[lang][key] * sizes[lang] for lang in sizes)
        assert row[f"dev_{key}"] == pytest.approx(errors / sum(sizes.values()))
    losses = sum(by_language[lang]["loss"] * len(texts[lang]) for lang in texts)
    assert row["dev_loss"] == pytest.approx(losses / 10)


def test_dev_of_one_language_has_no_parts(tmp_path: Path) -> None:
    assert "dev_by_language" not in trained(make_learner(tmp_path, ["aa"], {}))[-1]


def test_frozen_shared_layers_are_computed_once_for_all_heads(tmp_path: Path) -> None:
    frozen = ["layer_1", "layer_2", "layer_3", "lstm", "layer_5"]
    learner = make_learner(tmp_path, ["aa", "bb"], HEADS, dropout=0.0, freeze=frozen)
    assert learner.done == len(frozen)
    trained(learner)
    assert {layer_of(name) for name in learner.optimizer.names} == {"layer_6_aa", "layer_6_bb"}


def test_names_of_heads() -> None:
    spec = QuartzNetSpec(kind="quartznet", variant="mini-3x1")
    assert head_names(spec) == ("decoder",)
    assert head_names(spec, ["de", "cs"]) == ("decoder_cs", "decoder_de")
    assert layer_names(spec, ["de", "cs"])[-3:] == ("conv_3", "decoder_cs", "decoder_de")
    assert tuple(build(spec, {"de": 3, "cs": 4}).layers) == layer_names(spec, ["de", "cs"])


def test_an_utterance_of_a_language_without_a_head_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-00.: no head for language 'cc'; the heads are those of aa, bb"):
        make_learner(tmp_path, ["aa", "cc"], HEADS)


def test_a_multilingual_training_resumes_and_is_read_back(bench: Bench) -> None:
    both = Bench(bench.folder, spoken_in(bench.train, ["aa", "bb"]), spoken_in(bench.dev, ["aa", "bb"]), bench.recipe)
    both.recipe = {**both.recipe, "heads": HEADS}
    assert both.run("whole", state="state-whole")[0] == 0
    for _ in range(3):
        both.run("out", "--budget", "0.001")
    assert both.run("out")[0] == 0
    for option in ("model", "optimizer"):
        assert both.outputs("out")[option].read_bytes() == both.outputs("whole")[option].read_bytes()
    model, meta = load_model(both.outputs("out")["model"])
    assert model.heads == ("layer_6_aa", "layer_6_bb")
    assert {lang: units.decode([0, 1]) for lang, units in units_from(meta).items()} == {"aa": " a", "bb": "dc"}
    assert len(read_manifest(both.dev)) == 12
    assert np.isfinite(read_jsonl(both.outputs("out")["metrics"])[-1]["dev_by_language"]["bb"]["loss"])

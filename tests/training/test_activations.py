"""Frozen layers are computed once only where that changes nothing, and then it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import ALPHABET, make_recipe, sentences, write_split
from thaw.config.run import RunRecipe
from thaw.models import build
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import Surgery, prepare
from thaw.training import activations
from thaw.training.activations import Activations, computed_once
from thaw.training.data import Examples, read_examples
from thaw.training.distributed import World
from thaw.training.optim import optimizer_for
from thaw.training.trainer import Trainer
from thaw.units import Alphabet

CPU = torch.device("cpu")
FREEZE = ["layer_1", "layer_2", "layer_3", "lstm"]


def recipe(freeze: list[str], dropout: float = 0.0, frozen: dict[str, str] | None = None, **changes: Any) -> RunRecipe:
    plain = make_recipe(epochs=3, dropout=dropout, **changes)
    return RunRecipe.model_validate(plain | {"freeze": freeze, "frozen": frozen or {}})


def prepared(run: RunRecipe) -> Surgery:
    model = build(run.model, len(ALPHABET) + 1)
    return prepare(model, operations_of(run, model))


@pytest.fixture
def splits(tmp_path: Path) -> list[Examples]:
    files = [write_split(tmp_path, "train", sentences("train", 40)), write_split(tmp_path, "dev", sentences("dev", 10))]
    return [read_examples([path], Alphabet(ALPHABET), "deepspeech") for path in files]


@pytest.mark.parametrize(
    ("run", "layers"),
    [
        (recipe(FREEZE), 4),
        (recipe(["layer_1", "lstm"]), 1),
        (recipe(["layer_2"]), 0),
        (recipe(FREEZE, dropout=0.1), 0),
        (recipe(FREEZE, dropout=0.1, frozen={"dropout": "off"}), 4),
        (recipe(FREEZE, augmentation={"speed": [0.9, 1.1]}), 0),
        (recipe(FREEZE, augmentation={"spec_augment": {}}), 0),
        (recipe([]), 0),
    ],
)
def test_which_layers_are_computed_once(run: RunRecipe, layers: int, splits: list[Examples]) -> None:
    assert computed_once(prepared(run), run, splits, CPU) == layers


@pytest.mark.parametrize(("norm", "layers"), [("eval", 3), ("train", 0), ("learn", 0)])
def test_norms_that_move_are_computed_anew(norm: str, layers: int, splits: list[Examples]) -> None:
    model = {"kind": "quartznet", "variant": "mini-3x1"}
    run = RunRecipe.model_validate(
        make_recipe(dropout=0.0) | {"model": model, "freeze": ["conv_1", "block_1", "block_2"]}
    )
    run = run.model_copy(update={"frozen": run.frozen.model_copy(update={"norm": norm})})
    mel = [Examples(split.utterances, Alphabet(ALPHABET), run.model.frontend) for split in splits]
    assert computed_once(prepared(run), run, mel, CPU) == layers


def test_what_takes_too_much_memory_is_computed_anew(splits: list[Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipe(FREEZE)
    frames = sum(run.model.frames(u.samples) for split in splits for u in split.utterances)
    needed = 4 * frames * run.model.model_dump()["hidden"]
    monkeypatch.setattr(activations, "MOST_BYTES", needed)
    assert computed_once(prepared(run), run, splits, CPU) == 4
    monkeypatch.setattr(activations, "MOST_BYTES", needed - 1)
    assert computed_once(prepared(run), run, splits, CPU) == 0


def test_an_utterance_has_the_same_bits_whoever_asks_first(splits: list[Examples]) -> None:
    run = recipe(FREEZE)
    surgery = prepared(run)
    forwards, backwards = (Activations(splits[0], surgery.model, 4, CPU, "fp32") for _ in range(2))
    count = len(splits[0])
    rows = {index: forwards.features(index) for index in range(count)}
    assert all(np.array_equal(backwards.features(index), rows[index]) for index in reversed(range(count)))
    assert not splits[0].cache  # the features themselves are let go


def trained(run: RunRecipe, splits: list[Examples], done: int) -> Trainer:
    surgery = prepared(run)
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    if done:
        splits = [Activations(split, surgery.model, done, CPU, "fp32") for split in splits]
    trainer = Trainer(run, surgery.model, surgery, optimizer, *splits, Alphabet(ALPHABET), World(), print, done)
    for _ in trainer.run():
        pass
    surgery.check_end(optimizer.unmoved())
    return trainer


def test_training_behind_kept_activations_is_the_same_training(splits: list[Examples]) -> None:
    run = recipe(FREEZE)
    whole, behind = trained(run, splits, 0), trained(run, splits, 4)
    for name, tensor in whole.model.state_dict().items():
        assert torch.allclose(tensor, behind.model.state_dict()[name], rtol=0, atol=1e-6), name
    for one, other in zip(whole.progress.rows, behind.progress.rows, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-6)
        assert (one["dev_cer"], one["utterances"]) == (other["dev_cer"], other["utterances"])

"""Frozen layers are computed once only where that changes nothing, and then it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.training.conftest import ALPHABET, TASKS, make_recipe, same_but_for_time, sentences, write_split
from thaw.config.conformer import ConformerSpec
from thaw.config.models import QuartzNetSpec
from thaw.config.rnn import BlstmSpec
from thaw.config.run import RunRecipe
from thaw.config.transformer import TransformerSpec
from thaw.models import build
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import Surgery, prepare
from thaw.training import activations
from thaw.training.activations import Activations, computed_once
from thaw.training.central import Central
from thaw.training.data import Examples, read_examples
from thaw.training.distributed import World
from thaw.training.torch_optim import optimizer_for

CPU = torch.device("cpu")
FREEZE = ["layer_1", "layer_2", "layer_3", "lstm"]


def recipe(freeze: list[str], dropout: float = 0.0, frozen: dict[str, str] | None = None, **changes: Any) -> RunRecipe:
    plain = make_recipe(**{"epochs": 3, "dropout": dropout, **changes})
    return RunRecipe.model_validate(plain | {"freeze": freeze, "frozen": frozen or {}})


def prepared(run: RunRecipe) -> Surgery:
    model = build(run.model, len(ALPHABET) + 1)
    return prepare(model, operations_of(run, model))


def mel(splits: list[Examples], frontend: str = "nemo-v1.0") -> list[Examples]:
    """The same utterances for a QuartzNet, or another model that reads log-mel features."""
    return [Examples(split.utterances, TASKS, frontend) for split in splits]


@pytest.fixture
def splits(tmp_path: Path) -> list[Examples]:
    files = [write_split(tmp_path, "train", sentences("train", 40)), write_split(tmp_path, "dev", sentences("dev", 10))]
    return [read_examples([path], TASKS, "deepspeech") for path in files]


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
    assert computed_once(prepared(run), run, mel(splits), CPU) == layers


def test_what_takes_too_much_memory_is_computed_anew(splits: list[Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    run = recipe(FREEZE)
    frames = sum(run.model.frames(u.samples) for split in splits for u in split.utterances)
    needed = 4 * frames * run.model.model_dump()["hidden"]
    monkeypatch.setattr(activations, "MOST_BYTES", needed)
    assert computed_once(prepared(run), run, splits, CPU) == 4
    monkeypatch.setattr(activations, "MOST_BYTES", needed - 1)
    assert computed_once(prepared(run), run, splits, CPU) == 0


@pytest.mark.parametrize("done", [1, 2, 3])
def test_memory_is_that_of_the_frames_before_others_are_left_out(
    done: int, splits: list[Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that takes every second frame halves what is kept behind it, and nothing of what is kept before."""
    run = blstm(done, subsample=[1, 2, 2])
    splits = mel(splits, run.model.frontend)
    model = prepared(run).model
    kept = [Activations(split, model, done, CPU, "fp32", False) for split in splits]
    needed = sum(each.features(index).nbytes for each in kept for index in range(len(each)))
    for share, layers in ((1.1, done), (0.9, 0)):
        monkeypatch.setattr(activations, "MOST_BYTES", share * needed)
        assert computed_once(prepared(run), run, splits, CPU) == layers


def test_an_utterance_has_the_same_bits_whoever_asks_first(splits: list[Examples]) -> None:
    run = recipe(FREEZE)
    surgery = prepared(run)
    forwards, backwards = (Activations(splits[0], surgery.model, 4, CPU, "fp32", True) for _ in range(2))
    count = len(splits[0])
    rows = {index: forwards.features(index) for index in range(count)}
    assert all(np.array_equal(backwards.features(index), rows[index]) for index in reversed(range(count)))
    assert not splits[0].cache  # the features themselves are let go


def trained(run: RunRecipe, splits: list[Examples], done: int) -> Central:
    surgery = prepared(run)
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    if done:
        kinds = zip(splits, (True, False), strict=True)
        splits = [Activations(split, surgery.model, done, CPU, "fp32", trained) for split, trained in kinds]
    trainer = Central(run, surgery.model, surgery, optimizer, *splits, World(), print, done)
    for _ in trainer.run():
        pass
    surgery.check_end(optimizer.unmoved())
    return trainer


def quartznet(variant: str, done: int, **changes: Any) -> RunRecipe:
    plain = {"kind": "quartznet", "variant": variant}
    run = recipe([], **{"epochs": 2, **changes}).model_copy(update={"model": QuartzNetSpec.model_validate(plain)})
    return run.model_copy(update={"freeze": tuple(sorted(run.model.layer_names[:done]))})


def blstm(done: int, dropout: float = 0.0, **model: Any) -> RunRecipe:
    plain = {"kind": "blstm", "mel": 20, "stack": 3, "layers": 3, "cells": 12, "projection": 10, "subsample": [1, 2, 1]}
    plain |= model
    run = recipe([], dropout, epochs=2).model_copy(update={"model": BlstmSpec.model_validate(plain)})
    return run.model_copy(update={"freeze": tuple(sorted(run.model.layer_names[:done]))})


def attending(kind: str, done: int) -> RunRecipe:
    """A model with self-attention whose first layers are frozen."""
    if kind == "conformer":
        model: Any = ConformerSpec(kind="conformer", variant="mini-S", kernel=15, norm="group", norm_groups=8)
    else:
        sizes = {"mel": 40, "width": 16, "attention_heads": 2, "inner": 32, "encoder_layers": 2, "decoder_layers": 1}
        model = TransformerSpec.model_validate({"kind": kind, **sizes})
    run = recipe([], 0.0, epochs=2).model_copy(update={"model": model})
    return run.model_copy(update={"freeze": tuple(sorted(model.layer_names[:done]))})


NOVOGRAD = {"optimizer": "novograd", "weight_decay": 1e-3, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("run", "done"),
    [(recipe(FREEZE[:done]), done) for done in (1, 2, 3, 4)]
    + [(quartznet("mini-3x1", done), done) for done in (1, 2, 4, 6)]
    + [(blstm(done), done) for done in (1, 2, 3)]
    + [(blstm(1, dropout=0.3, stack=1, vgg=[2, 2], subsample=[]), 1)]  # convolutions drop nothing
    + [(blstm(1, dropout=0.3, layers=1, subsample=[1]), 1)]  # nor does a last recurrent layer
    + [(quartznet("mini-5x2", 3, **NOVOGRAD), 3)]
    + [(quartznet("mini-3x1", 2, batch_size=13), 2)],  # 40 utterances: a batch of one, and it is padded by itself
)
def test_training_behind_kept_activations_has_the_same_bits(run: RunRecipe, done: int, splits: list[Examples]) -> None:
    if run.model.frontend != "deepspeech":
        splits = mel(splits, run.model.frontend)
    assert computed_once(prepared(run), run, splits, CPU) == done
    whole, behind = trained(run, splits, 0), trained(run, splits, done)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, behind.model.state_dict()[name]), name
    assert same_but_for_time(whole.progress.rows, behind.progress.rows)


@pytest.mark.parametrize("kind", ["conformer", "transformer"])
def test_what_attends_to_a_whole_batch_is_computed_anew(kind: str, splits: list[Examples]) -> None:
    """Self-attention over padding sums in another order: equal to rounding, which is not the same bits."""
    for frozen in (1, 2, 3):
        run = attending(kind, frozen)
        assert computed_once(prepared(run), run, mel(splits, run.model.frontend), CPU) == 1


@pytest.mark.parametrize("variant", get_args(QuartzNetSpec.model_fields["variant"].annotation))
def test_a_step_behind_kept_activations_has_the_same_bits_in_every_variant(
    variant: str, splits: list[Examples]
) -> None:
    """Logits, and the statistics of the norms that move, behind conv_1 and behind the middle of the stack."""
    names = quartznet(variant, 0).model.layer_names
    for done in (1, len(names) // 2):
        run = quartznet(variant, done)
        train = mel(splits)[0]
        logits, buffers = [], []
        for kept in (0, done):
            model = prepared(run).model.train()
            examples = Activations(train, model, done, CPU, "fp32", True) if kept else train
            batch = examples.batch([0, 7, 20])
            with torch.no_grad():
                y, frames = model(batch.x, batch.lengths, None, kept)
            logits.append([row[:count] for row, count in zip(y, frames.tolist(), strict=True)])
            buffers.append(dict(model.named_buffers()))
        assert all(torch.equal(one, other) for one, other in zip(*logits, strict=True))
        assert all(torch.equal(tensor, buffers[1][name]) for name, tensor in buffers[0].items())


@pytest.mark.parametrize(
    ("norm", "kind", "moving"),
    [
        ("eval", torch.nn.BatchNorm1d(4), False),
        ("train", torch.nn.BatchNorm1d(4), True),
        ("learn", torch.nn.BatchNorm1d(4), True),
        ("train", torch.nn.GroupNorm(2, 4), False),
        ("train", torch.nn.LayerNorm(4), False),
        ("learn", torch.nn.LayerNorm(4), True),
    ],
)
def test_a_norm_without_statistics_moves_only_where_it_learns(norm: str, kind: torch.nn.Module, moving: bool) -> None:
    assert activations.moves([kind], norm) == moving
    assert not activations.moves([], norm)

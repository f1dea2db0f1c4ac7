"""The task ctc-attention: its loss by hand, the distribution it smooths with, what dev counts, and a training of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.tasks.test_tasks import UNITS, batch, spelt
from tests.training.conftest import Bench, bench
from thaw.config.rnn import BlstmSpec
from thaw.config.run import RunRecipe
from thaw.config.tasks import CtcAttentionSpec
from thaw.models import LayeredModel, load_tensors
from thaw.tasks.ctc import ctc_loss
from thaw.tasks.ctc_attention import CtcAttention, ended, label_loss, unigram
from thaw.training.data import Batch
from thaw.training.forward import Answer
from thaw.units import EVERY

__all__ = ["bench"]

DECODER = {"width": 16, "attention": 16, "channels": 2, "reach": 5}
MODEL = {
    "kind": "blstm",
    "mel": 20,
    "features": "fbank",
    "stack": 2,
    "layers": 2,
    "cells": 16,
    "projection": 16,
    "subsample": [2, 1],
    "decoder": DECODER,
}
TASK = {"kind": "ctc-attention", "ctc_weight": 0.3, "smoothing_weight": 0.05}


def task(**keys: Any) -> CtcAttention:
    return CtcAttention(CtcAttentionSpec.model_validate({"kind": "ctc-attention", **keys}), UNITS)


def answer(ctc: torch.Tensor, attention: torch.Tensor, frames: torch.Tensor, given: Batch) -> Answer:
    outputs = {"ctc_output": ctc, "attention_output": attention}
    rows = tuple(range(len(given.ids)))
    return Answer(EVERY, rows, given, outputs, frames, given.x, LayeredModel({}, {EVERY: ("output",)}))


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def test_targets_end_where_the_utterance_does() -> None:
    assert ended(batch(["ab", "", "b"], 8), 3).tolist() == [[1, 2, 3], [3, -100, -100], [2, 3, -100]]


def test_the_loss_is_both_heads_weighted() -> None:
    given, frames = batch(["ab a", "b"], 8), torch.tensor([8, 8])
    ctc, attention = randn(2, 8, 4), randn(2, 5, 4)
    first = ctc_loss(ctc, frames, given.targets, given.target_lengths)
    log_probs = attention.log_softmax(-1)
    second = [-sum(log_probs[0, i, k] for i, k in enumerate([1, 2, 0, 1, 3])), -log_probs[1, 0, 2] - log_probs[1, 1, 3]]
    losses = task(ctc_weight=0.3).losses(answer(ctc, attention, frames, given))
    torch.testing.assert_close(losses, 0.3 * first + 0.7 * torch.stack([torch.as_tensor(s) for s in second]))


@pytest.mark.parametrize("how", ["unigram", "uniform"])
def test_smoothing_is_a_cross_entropy_with_a_mixture(how: str) -> None:
    targets = torch.tensor([[1, 3, -100]])
    logits = randn(1, 3, 4)
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    expected = 0.0
    for place, target in enumerate((1, 3)):
        even = torch.full((4,), 1 / 3)
        even[target] = 0.0
        wanted = 0.2 * (shares if how == "unigram" else even)
        wanted[target] += 0.8
        expected -= (wanted @ logits[0, place].log_softmax(-1)).item()
    made = label_loss(logits, targets, 0.2, shares if how == "unigram" else None)
    assert made.tolist() == pytest.approx([expected])
    assert label_loss(logits, targets, 0.0).item() < made.item()


def test_the_unigram_distribution_counts_labels_and_ends_and_leaves_none_out() -> None:
    rows = [np.array(row, np.int32) for row in ([1, 1, 1, 0], [1], [])]
    assert unigram(rows, 4).tolist() == pytest.approx([1 / 9, 4 / 9, 1 / 9, 3 / 9])


def test_smoothing_by_the_text_needs_the_text() -> None:
    learning = task(smoothing_weight=0.1)
    given = answer(randn(1, 8, 4), randn(1, 2, 4), torch.tensor([8]), batch(["b"], 8))
    with pytest.raises(RuntimeError, match="before the training text was counted"):
        learning.losses(given)
    learning.learn_text([np.array([2], np.int32)])
    even = task(smoothing_weight=0.1, smoothing="uniform").losses(given)
    assert learning.losses(given).isfinite().all()
    assert not torch.allclose(learning.losses(given), even)


def test_dev_counts_the_best_path_and_the_decoders_wrong_labels() -> None:
    given, frames = batch(["ab b", "a", ""], 8), torch.tensor([8, 8, 2])
    attention = torch.zeros(3, 5, 4)
    for row, classes in enumerate(([1, 2, 0, 1, 3], [1, 1], [3])):  # the fourth is wrong, and one end
        for place, number in enumerate(classes):
            attention[row, place, number] = 1
    counts = task().counts(answer(spelt("ab b", "a  b", "b"), attention, frames, given))
    over = {name: [(each.errors, each.total) for each in edits] for name, edits in counts.items()}
    assert over["token_error"] == [(1, 5), (1, 2), (0, 1)]
    assert over["cer"] == [(0, 4), (2, 1), (1, 0)]


def test_what_selects() -> None:
    dev = {"loss": 2.0, "cer": 0.3, "token_error": 0.1}
    assert [task(selects=name).select(dev) for name in ("token_error", "cer", "loss")] == [0.1, 0.3, 2.0]
    assert task().measures == ("cer", "wer", "token_error")
    assert task().classes == 4


@pytest.mark.parametrize("weight", [0, 1])
def test_both_heads_must_learn(weight: float) -> None:
    with pytest.raises(ValidationError, match=r"ctc_weight"):
        task(ctc_weight=weight)


def test_a_model_without_a_decoder_does_not_learn_it() -> None:
    plain = {"version": 2, "alphabet": " ab", "corpora": ["toy"], "seed": 1}
    bare = BlstmSpec.model_validate({**MODEL, "decoder": None})
    with pytest.raises(ValidationError, match="a blstm without a decoder learns anything but ctc-attention"):
        RunRecipe.model_validate({**plain, "model": bare, "recipe": {"epochs": 1, "task": TASK}})
    with pytest.raises(ValidationError, match="a blstm with a decoder learns ctc-attention and no other, not ctc"):
        RunRecipe.model_validate({**plain, "model": MODEL, "recipe": {"epochs": 1}})
    heads = {"aa": " ab", "bb": " ab"}
    with pytest.raises(ValidationError, match="one language"):
        RunRecipe.model_validate({**plain, "model": MODEL, "recipe": {"epochs": 1, "task": TASK}, "heads": heads})


def recipe(bench: Bench, **keys: Any) -> Bench:
    rates = {"optimizer": "adam", "learning_rate": 0.01, "max_gradient_norm": 5.0, "dropout": 0.1, "epochs": 3}
    made = bench.with_recipe(task=TASK, **{**rates, **keys})
    made.recipe["model"] = MODEL
    return made


def test_it_is_learnt_and_a_kill_changes_no_bit(bench: Bench) -> None:
    from tests.training.test_train_command import EVERY_STEP, assert_same_outputs, kill_when

    learning = recipe(bench)
    code, err = learning.run("whole", state="state-whole")
    assert code == 0, err
    rows = [json.loads(line) for line in learning.outputs("whole")["metrics"].read_text().splitlines()]
    assert rows[-1]["dev_token_error"] < rows[0]["dev_token_error"] < 1
    assert set(rows[0]) >= {"dev_loss", "dev_cer", "dev_wer", "dev_token_error"}
    record = json.loads(learning.outputs("whole")["record"].read_text())
    assert record["best"]["dev_token_error"] == min(row["dev_token_error"] for row in rows)
    assert all(math.isfinite(row["train_loss"]) for row in rows)
    weights, _ = load_tensors(learning.outputs("whole")["model"])
    assert weights["layers.blstm_1.normaliser.mean"].min() > 1  # of the training set: log energies of int16 samples
    for step in (2, 7):
        kill_when(learning, step, *EVERY_STEP)
    code, err = learning.run("out", *EVERY_STEP)
    assert code == 0, err
    assert_same_outputs(learning, "out")


def test_a_transformer_learns_by_noam(bench: Bench) -> None:
    noam = {"schedule": "noam", "schedule_width": 16, "warmup_steps": 20, "learning_rate": 0.2}
    learning = recipe(bench, epochs=8, **noam, snapshots=["best", "mean-3"], dropout=0.0)
    sizes = {"width": 16, "attention_heads": 2, "inner": 32, "encoder_layers": 1, "decoder_layers": 1}
    learning.recipe["model"] = {"kind": "transformer", "mel": 20, "features": "fbank", **sizes}
    snapshots = learning.folder / "snapshots.safetensors"
    code, err = learning.run("out", "--snapshots", str(snapshots))
    assert code == 0, err
    rows = [json.loads(line) for line in learning.outputs("out")["metrics"].read_text().splitlines()]
    assert rows[-1]["dev_token_error"] < 0.75 * rows[0]["dev_token_error"]
    assert rows[0]["learning_rate"] == pytest.approx(0.2 / 4 * 5 * 20**-1.5)
    tensors, meta = load_tensors(snapshots, "mean-3")
    assert set(tensors) == set(load_tensors(learning.outputs("out")["model"])[0])
    assert meta["snapshots"] == {"mean-3": 8}  # and the last epoch it holds


def test_frozen_layers_of_the_encoder_are_computed_once(bench: Bench) -> None:
    """The start's weights below, and what is above learns behind them: the same weights as without keeping anything."""
    first = recipe(bench, epochs=1)
    assert first.run("first")[0] == 0
    weights = []
    # A speed that changes nothing is augmentation nevertheless, and with that nothing is kept.
    for name, augmentation in (("kept", {}), ("anew", {"speed": [1.0]})):
        second = recipe(bench, epochs=1, dropout=0.0, augmentation=augmentation)
        second.recipe |= {"start": "first", "reset": ["attention", "decoder"], "draw": 1, "freeze": ["blstm_1"]}
        start = ["--start", str(first.outputs("first")["model"])]
        code, err = second.run(name, *start, state=f"state-{name}")
        assert code == 0, err
        checks = json.loads(second.outputs(name)["record"].read_text())["checks"]
        assert checks.get("computed_once") == (None if augmentation else ["blstm_1"])
        weights.append(load_tensors(second.outputs(name)["model"])[0])
    kept, anew = weights
    assert all(torch.equal(tensor, anew[key]) for key, tensor in kept.items())


def test_both_heads_are_frozen_and_the_rest_is_drawn_anew(bench: Bench, tmp_path: Path) -> None:
    """Zhang et al.'s stage: the two output layers stay bit for bit, all below them is learnt again."""
    first = recipe(bench, epochs=1)
    assert first.run("first")[0] == 0
    second = recipe(bench, epochs=1)
    below = ["blstm_1", "blstm_2", "attention", "decoder"]
    second.recipe |= {"start": "first", "reset": below, "draw": 1, "freeze": ["ctc_output", "attention_output"]}
    code, err = second.run("second", "--start", str(first.outputs("first")["model"]), state="state-second")
    assert code == 0, err
    checks = json.loads(second.outputs("second")["record"].read_text())["checks"]
    assert set(checks["start"]["frozen"]) == {"ctc_output", "attention_output"}
    assert checks["start"]["frozen"] == checks["end"]["frozen"]
    assert checks["start"]["drawn"] == below
    assert not any("output" in name for name in checks["start"]["trainable"])

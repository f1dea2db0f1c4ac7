"""The loop: what a step computes, what is left out of it, how epochs are judged, and that processes agree."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.conftest import ALPHABET, TASKS, make_recipe, same_but_for_time, sentences, write_split
from thaw.config.run import RunRecipe
from thaw.config.tasks import CTC
from thaw.models import build
from thaw.models.layered import Noise
from thaw.surgery.operations import operations_of
from thaw.surgery.surgery import prepare
from thaw.tasks import tasks_for
from thaw.tasks.ctc import ctc_loss
from thaw.training.central import Central
from thaw.training.data import Batch, read_examples
from thaw.training.deferred import Deferred
from thaw.training.distributed import World
from thaw.training.forward import Answer, forward
from thaw.training.judging import Dev
from thaw.training.learner import Diverged, Moment
from thaw.training.optim import NovoGrad
from thaw.training.progress import Progress
from thaw.training.steps import Wanted
from thaw.training.torch_optim import optimizer_for
from thaw.units import EVERY, Alphabet

MakeLearner = Callable[..., Central]


def make_learner(
    folder: Path,
    world: World | None = None,
    said: list[str] | None = None,
    hidden: int = 16,
    model: dict[str, Any] | None = None,
    **recipe: Any,
) -> Central:
    plain = make_recipe(**recipe)
    run = RunRecipe.model_validate({**plain, "model": model or {**plain["model"], "hidden": hidden}})
    train = write_split(folder, "train", sentences("train", 24))
    dev = write_split(folder, "dev", sentences("dev", 10))
    tasks = TASKS if run.recipe.task == CTC else tasks_for(run.recipe.task, {EVERY: Alphabet(ALPHABET)})
    examples = [read_examples([path], tasks, run.model.frontend) for path in (train, dev)]
    built = build(run.model, len(ALPHABET) + 1)
    surgery = prepare(built, operations_of(run, built))
    optimizer = optimizer_for(run.recipe, surgery.trainable())
    say = (said if said is not None else []).append
    return Central(run, built, surgery, optimizer, *examples, world or World(), say)


@pytest.fixture
def make(tmp_path: Path) -> MakeLearner:
    return lambda **recipe: make_learner(tmp_path, **recipe)


def run_to_end(learner: Central) -> list[dict[str, Any]]:
    for _ in learner.run():
        pass
    return learner.progress.rows


def gradients(learner: Central) -> list[Tensor]:
    return [gradient.clone() for gradient in learner.optimizer.gradients()]


def poison(learner: Central, *bad: str) -> None:
    """Make the loss of some utterances infinite, as an impossible alignment does."""
    honest = learner.losses

    def losses(batch: Any, noise: Noise | None) -> tuple[Tensor, list[Answer]]:
        values, answers = honest(batch, noise)
        factor = torch.tensor([math.inf if name in bad else 1.0 for name in batch.ids])
        return values * factor, answers

    learner.losses = losses  # type: ignore[method-assign]


# --- one step -----------------------------------------------------------------------------------


def test_loss_is_the_mean_of_nats_per_utterance(make: MakeLearner) -> None:
    learner = make(batch_size=24, dropout=0.0, order="sorted")
    batch = learner.examples.batch(range(24))
    logits, frames = learner.model(batch.x, batch.lengths)
    expected = ctc_loss(logits, frames, batch.targets, batch.target_lengths).mean()
    expected.backward()
    wanted = gradients(learner)
    heard = learner.accumulate(range(24))
    assert (heard.utterances, heard.weight, heard.left_out) == (24, 24, [])
    assert heard.loss / 24 == pytest.approx(expected.item(), rel=1e-6)
    for got, want in zip(gradients(learner), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)


def test_epoch_loss_weighs_utterances_not_batches(make: MakeLearner) -> None:
    learner = make(batch_size=16, learning_rate=1e-12, dropout=0.0, epochs=1)
    row = run_to_end(learner)[0]
    batch = learner.examples.batch(range(24))
    losses, _ = learner.losses(batch, None)
    assert row["train_loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert row["utterances"] == 24
    assert row["audio_seconds"] == pytest.approx(learner.examples.seconds(range(24)))


def test_learning_rate_warms_up_linearly(make: MakeLearner) -> None:
    learner = make(learning_rate=0.01, warmup_steps=4)
    assert [learner.learning_rate(step) for step in (1, 2, 4, 5, 99)] == pytest.approx(
        [0.0025, 0.005, 0.01, 0.01, 0.01]
    )
    assert make(learning_rate=0.01).learning_rate(1) == 0.01


def test_cosine_reaches_over_all_steps_of_all_epochs(make: MakeLearner) -> None:
    learner = make(learning_rate=0.01, schedule="cosine", warmup_ratio=0.25, epochs=4, batch_size=8)  # 12 steps
    rows = run_to_end(learner)
    assert [row["learning_rate"] for row in rows] == [learner.learning_rate(step) for step in (3, 6, 9, 12)]
    assert [rows[0]["learning_rate"], learner.learning_rate(4)] == [0.0075, 0.01]
    assert 0 < rows[3]["learning_rate"] < 0.0005


def test_novograd_trains(make: MakeLearner) -> None:
    learner = make(optimizer="novograd", betas=(0.95, 0.25), weight_decay=1e-3, learning_rate=0.01, epochs=6)
    rows = run_to_end(learner)
    assert isinstance(learner.optimizer, NovoGrad)
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def test_clipping_bounds_the_step_and_reports_the_norm_before(make: MakeLearner) -> None:
    norms, largest = [], []
    for limit in (0.0, 0.5):
        learner = make(max_gradient_norm=limit, epochs=1, batch_size=24)
        norms.append(run_to_end(learner)[0]["gradient_norm"])
        largest.append(learner.optimizer.gradient_norm().item())
    assert norms[0] == norms[1] == pytest.approx(largest[0])
    assert largest[1] == pytest.approx(0.5, rel=1e-5)


def dev(learner: Central) -> list[float]:
    """What is added up of some dev utterances."""
    return learner.evaluate_batch(learner.dev.batch(range(10)))


def test_dropout_acts_in_training_only(make: MakeLearner) -> None:
    learner = make(dropout=0.5)
    first = learner.accumulate(range(8)).loss
    learner.progress.epoch = 2
    assert learner.accumulate(range(8)).loss != first  # other masks in another epoch
    learner.progress.epoch = 1
    assert learner.accumulate(range(8)).loss == first
    assert dev(learner) == dev(learner)


def test_bf16_computes_the_loss_in_fp32(make: MakeLearner) -> None:
    learner = make(precision="bf16", dropout=0.0)
    batch = learner.examples.batch(range(8))
    losses, (answer,) = learner.losses(batch, None)
    exact, _ = make(dropout=0.0).losses(batch, None)
    assert (losses.dtype, answer.logits.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(losses, exact, rtol=0.02, atol=0.1)
    assert run_to_end(make(precision="bf16", epochs=2))[-1]["train_loss"] < 20


# --- augmentation ---------------------------------------------------------------------------------

AUGMENTED = {
    "augmentation": {"speed": [0.9, 1.0, 1.1], "dither": 1e-4, "spec_augment": {}, "cutout": {"mode": "v0.10"}},
    "optimizer": "novograd",
    "betas": (0.95, 0.25),
    "weight_decay": 1e-3,
    "schedule": "cosine",
    "warmup_ratio": 0.2,
    "epochs": 3,
}


def test_augmentation_changes_training_utterances_and_leaves_dev_alone(make: MakeLearner) -> None:
    plain, augmented = make(dropout=0.0), make(dropout=0.0, **AUGMENTED)
    assert augmented.accumulate(range(8)).loss != plain.accumulate(range(8)).loss
    assert dev(augmented) == dev(plain)
    first = augmented.accumulate(range(8)).loss
    augmented.progress.epoch = 2
    assert augmented.accumulate(range(8)).loss != first
    row = run_to_end(make(**AUGMENTED))[0]
    assert row["audio_seconds"] == pytest.approx(plain.examples.seconds(range(24)))  # as the manifest has it


@pytest.mark.parametrize("size", [{}, {"batch_size": 24, "batch_seconds": 8.0, "microbatch_seconds": 3.0}])
@pytest.mark.parametrize("done", [1, 4, 8])  # moments: two in the middle of an epoch, one before its last dev batch
def test_a_training_taken_up_in_mid_epoch_ends_in_the_same_bits(
    make: MakeLearner, done: int, size: dict[str, Any]
) -> None:
    how = {**AUGMENTED, **size}
    whole = make(**how)
    run_to_end(whole)
    broken = make(**how)
    run = broken.run()
    for _ in range(done):
        next(run)
    resumed = make(**how)
    resumed.model.load_state_dict(broken.model.state_dict())
    resumed.optimizer.restore(broken.optimizer.state())
    resumed.progress = Progress.from_plain(json.loads(json.dumps(broken.progress.plain())))
    rows = run_to_end(resumed)
    assert same_but_for_time(rows, whole.progress.rows)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor), name
    for name, tensor in whole.optimizer.state().items():
        assert torch.equal(resumed.optimizer.state()[name], tensor), name


# --- what cannot be trained on --------------------------------------------------------------------


def test_utterances_without_a_finite_loss_are_named_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    learner = make_learner(tmp_path, said=said, dropout=0.0)
    clean = make_learner(tmp_path, dropout=0.0)
    bad = learner.examples.utterances[3]
    poison(learner, bad.id)
    heard = learner.accumulate(range(8))
    learner.whole_gradient(8, heard.weight)
    rest = [0, 1, 2, 4, 5, 6, 7]
    alone = clean.accumulate(rest)
    assert (heard.loss, heard.utterances, heard.left_out) == (alone.loss, 7, [bad.id])
    for got, want in zip(gradients(learner), gradients(clean), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)  # the mean over the seven that count
    frames = len(learner.examples.features(3))
    assert said == [f"epoch 1, step 1: loss not finite, left out: {bad.id} ({frames} frames, {len(bad.text)} labels)"]
    row = run_to_end(learner)[0]
    assert (row["non_finite"], row["non_finite_ids"], row["utterances"]) == (1, [bad.id], 23)
    assert all(torch.isfinite(p).all() for p in learner.model.parameters())


QUARTZNET = {"kind": "quartznet", "variant": "mini-3x1"}


def after_steps(learner: Central, *batches: list[int]) -> dict[str, Tensor]:
    learner.model.train()
    for batch in batches:
        learner.step(batch)
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


@pytest.mark.parametrize("how", ["loss", "features"])
def test_norms_know_nothing_of_an_utterance_that_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Two forward passes would move running statistics twice, and one value that is not a number would spoil them."""
    bad, rest = 3, [0, 1, 2, 4, 5, 6, 7]
    learner = make_learner(tmp_path, model=QUARTZNET, order="sorted")
    if how == "loss":
        poison(learner, learner.examples.utterances[bad].id)
    else:
        learner.examples.features(bad)
        monkeypatch.setitem(learner.examples.cache, (bad, 1.0), np.full_like(learner.examples.features(bad), math.nan))
    got = after_steps(learner, list(range(8)))
    wanted = after_steps(make_learner(tmp_path, model=QUARTZNET, order="sorted"), rest)
    statistics = [name for name in got if "running" in name]
    assert statistics
    assert all(torch.equal(got[name], wanted[name]) for name in statistics)
    for name, tensor in got.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=2e-3)  # steps of 0.01; a mean over seven
    assert learner.progress.sums.non_finite == [learner.examples.utterances[bad].id]


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_step_without_a_finite_gradient_is_as_if_its_batch_had_not_been(tmp_path: Path, how: str) -> None:
    said: list[str] = []
    learner = make_learner(tmp_path, said=said, model=QUARTZNET, epochs=1, order="sorted", schedule="cosine")
    first = learner.examples.utterances[8].id
    if how == "loss":
        poison(learner, *(utterance.id for utterance in learner.examples.utterances[8:16]))
    else:
        head = learner.model.layers["decoder"]
        head.bias.register_hook(lambda grad: grad * (math.inf if learner.progress.batch == 1 else 1.0))
    row = run_to_end(learner)[0]
    clean = make_learner(tmp_path, model=QUARTZNET, epochs=1, order="sorted", schedule="cosine")
    after_steps(clean, list(range(8)))
    clean.progress.step += 1  # the schedule goes on
    wanted = after_steps(clean, list(range(16, 24)))
    assert all(torch.equal(wanted[name], tensor) for name, tensor in learner.model.state_dict().items())
    assert (row["skipped"], row["step"], row["utterances"], learner.progress.skipped) == (1, 3, 16, 0)
    assert int(learner.optimizer.state()["step"]) == 2
    assert "epoch 1, step 2: skipped, " in said[-1]
    assert first in said[-1]


@pytest.mark.parametrize("most", [0, 1])
def test_too_many_skipped_steps_in_a_row_end_the_training(make: MakeLearner, most: int) -> None:
    learner = make(order="sorted", max_skipped_steps=most)
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    learner.model.layers["layer_6"].bias.register_hook(lambda gradient: gradient * math.inf)
    last = learner.examples.utterances[8 * most].id
    expected = rf"epoch 1 at step {most + 1}: {most + 1} steps .*{last}.*max_gradient_norm \(now 0: no clipping\)"
    with pytest.raises(Diverged, match=expected):
        run_to_end(learner)
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.model.state_dict().items())


def test_an_epoch_of_skipped_steps_has_no_mean_loss(make: MakeLearner) -> None:
    learner = make(epochs=1)
    learner.model.layers["layer_6"].bias.register_hook(lambda gradient: gradient * math.inf)
    row = run_to_end(learner)[0]
    assert (row["train_loss"], row["gradient_norm"], row["skipped"]) == (None, None, 3)


def test_dev_utterances_without_a_finite_loss_do_not_hide_the_rest(tmp_path: Path) -> None:
    said: list[str] = []
    learner = make_learner(tmp_path, said=said, epochs=1)
    poison(learner, learner.dev.utterances[0].id)
    assert math.isfinite(run_to_end(learner)[0]["dev_loss"])
    assert said == ["epoch 1: 1 dev utterances have no finite loss"]


# --- epochs ---------------------------------------------------------------------------------------


def test_dev_is_evaluated_whole_and_without_disturbing_the_model(make: MakeLearner) -> None:
    learner = make(epochs=1, batch_size=4)
    moments = list(learner.run())
    assert moments == [Moment.STEP] * 6 + [Moment.DEV] * 3 + [Moment.EPOCH]
    losses, _ = learner.losses(learner.dev.batch(range(10)), None)
    row = learner.progress.rows[0]
    assert row["dev_loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert 0.9 < row["dev_cer"] <= 1.0  # after six steps: nearly nothing is recognised
    assert row["dev_wer"] == 1.0


def test_error_rates_weigh_characters_and_words_not_utterances(
    make: MakeLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make(batch_size=4)
    texts = ["ab c", "d", "a b c d"] + [""] * 7
    learner.dev.utterances = [
        replace(utterance, text=text) for utterance, text in zip(learner.dev.utterances, texts, strict=True)
    ]
    heard = iter(["ab c", "c d", "a b d"] + [""] * 7)
    monkeypatch.setattr("thaw.tasks.ctc.greedy", lambda logits, units: next(heard))

    def error_rates() -> tuple[float | None, float | None]:
        run = learner.evaluate()
        try:
            while True:
                next(run)
        except StopIteration as end:
            return end.value.values["cer"], end.value.values["wer"]

    assert error_rates() == ((0 + 2 + 2) / (4 + 1 + 7), (0 + 1 + 1) / (2 + 1 + 4))
    learner.dev.utterances = [replace(utterance, text="") for utterance in learner.dev.utterances]
    heard = iter(["x"] * 10)
    assert error_rates() == (None, None)


def test_training_learns_to_read(make: MakeLearner) -> None:
    rows = run_to_end(make(hidden=64, epochs=24, learning_rate=0.003, batch_size=4, dropout=0.0))
    assert rows[-1]["train_loss"] < 0.2 < 5 < rows[0]["train_loss"]
    assert rows[-1]["dev_cer"] < 0.05  # sentences it has not been trained on
    assert rows[-1]["dev_cer"] <= rows[-1]["dev_wer"] < 0.4 < rows[0]["dev_wer"]


def test_best_and_early_stop_follow_deepspeech(make: MakeLearner) -> None:
    learner = make(early_stop_epochs=2, early_stop_delta=0.5, epochs=9)
    seen = []
    for dev_loss in (10.0, 9.8, 9.0, 8.6, 8.4):
        run = learner.run()
        next(run)
        learner.close_epoch(Dev({"loss": dev_loss}, 10, {}))
        assert learner.progress.best is not None
        seen.append((learner.progress.best["epoch"], learner.progress.stale, learner.stopped_early))
    # 9.8: a new best, yet no improvement by 0.5; 9.0: one, compared with 9.8; 8.6, 8.4: new bests, no improvements
    assert seen == [(1, 0, False), (2, 1, False), (3, 0, False), (4, 1, False), (5, 2, True)]
    assert learner.finished


def test_best_weights_are_those_of_the_best_epoch(make: MakeLearner) -> None:
    learner = make(epochs=3)
    weights = []
    for moment in learner.run():
        if moment is Moment.EPOCH:
            weights.append(learner.model.state_dict()["layers.layer_6.weight"].clone())
            if len(weights) == 2:
                learner.progress.best = {"epoch": 2, "dev_loss": -1.0}  # no later epoch can beat it
    assert learner.kept
    assert torch.equal(learner.kept["best"].weights["layers.layer_6.weight"], weights[1])
    assert int(learner.kept["best"].optimizer["step"]) == 6


def test_several_makers_of_batches_give_the_same_bits(make: MakeLearner, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for makers in (1, 4):
        monkeypatch.setattr(Central, "makers", makers)
        learner = make(**AUGMENTED | {"batch_size": 3})
        rows = run_to_end(learner)
        found.append((rows, learner.weights()))
    (rows, weights), (other_rows, other) = found
    assert same_but_for_time(rows, other_rows)
    assert all(torch.equal(other[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("done", [0, 1])
def test_the_next_epoch_is_made_while_dev_is_judged(
    make: MakeLearner, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """But for outputs of frozen layers: the model that makes them is in training then, and not while dev is judged."""
    learner = make(epochs=2)
    learner.done = done
    made, prepare = list[int](), learner.prepare

    def prepared(wanted: Wanted) -> Batch:
        made.append(wanted.epoch)
        return prepare(wanted)

    monkeypatch.setattr(learner, "prepare", prepared)
    monkeypatch.setattr("thaw.training.steps.forward", lambda model, batch, noise, done: forward(model, batch, noise))
    moments = learner.run()
    while next(moments) is Moment.STEP:
        pass
    deadline = time.monotonic() + 0.5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(made) == ({1} if done else {1, 2})
    assert [moment for moment in moments if moment is Moment.EPOCH] == [Moment.EPOCH] * 2
    assert made == sorted(made)


def test_progress_is_json_and_back(make: MakeLearner) -> None:
    learner = make(epochs=2)
    run = learner.run()
    for _ in range(5):
        next(run)
    assert Progress.from_plain(learner.progress.plain()) == learner.progress


# --- several processes ----------------------------------------------------------------------------


# A decoder as well; without Adam, which makes much of gradients that are zero but for rounding.
DECODER = {"width": 8, "attention": 8, "channels": 2, "reach": 3}
BOTH_HEADS = {
    "model": {"kind": "blstm", "mel": 20, "layers": 1, "cells": 8, "projection": 8, "vgg": [2, 3], "decoder": DECODER},
    "task": {"kind": "ctc-attention", "ctc_weight": 0.3},
    "optimizer": "sgd",
}


def train_as_rank(folder: Path, rank: int, size: int, port: int, results: Any, how: dict[str, Any]) -> None:
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank}
    os.environ.update({name: str(value) for name, value in names.items()})
    torch.set_num_threads(1)
    (folder / str(rank)).mkdir()
    world = World.join(torch.device("cpu"))
    said: list[str] = []
    deferred = how.pop("deferred", False)
    learner = make_learner(folder / str(rank), world, said, epochs=2, **{"batch_size": 5, **how})
    learner.deferred = Deferred(learner) if deferred else None
    poison(learner, learner.examples.utterances[0].id)
    statistics = torch.tensor([float(rank)])
    learner.model.register_buffer("statistics", statistics)  # as batch norm has them, of its own process's utterances
    rows = run_to_end(learner)
    parameters = [p.detach().tolist() for p in learner.optimizer.parameters]
    results.put((rank, rows, parameters, statistics.tolist(), said))
    world.leave()


BY_SECONDS = {"batch_size": 24, "batch_seconds": 6.0, "microbatch_seconds": 2.0}
HOW = {
    "ctc": {},
    "ctc-attention": BOTH_HEADS,
    "deferred": {"deferred": True},
    "by seconds": BY_SECONDS,
    "by seconds, deferred": {**BY_SECONDS, "deferred": True},
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_two_processes_train_as_one(tmp_path: Path, how: dict[str, Any]) -> None:
    """Batches of 5 over 2 processes: shares are uneven, and the last batch of 24 leaves shares of 2 and 2."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["thaw.training.session"])
    results = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=train_as_rank, args=(tmp_path, rank, 2, port, results, how)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    leader, other = sorted(results.get(timeout=60) for _ in ranks)
    (_, rows, parameters, statistics, said), (_, other_rows, other_parameters, other_statistics, _) = leader, other
    for process in ranks:
        process.join(30)
    plain = {"batch_size": 5, **{key: value for key, value in how.items() if key != "deferred"}}
    alone = make_learner(tmp_path, epochs=2, **plain)
    poison(alone, alone.examples.utterances[0].id)
    expected = run_to_end(alone)
    assert parameters == other_parameters
    assert statistics == other_statistics == [0.0]  # dev was judged with the leader's, which are those that are saved
    assert [row["dev_loss"] for row in rows] == [row["dev_loss"] for row in other_rows]
    assert any(alone.examples.utterances[0].id in line for line in said)
    for row, want in zip(rows, expected, strict=True):
        assert row["non_finite_ids"] == want["non_finite_ids"] != []
        for key in ("train_loss", "dev_loss", "dev_cer", "dev_wer", "gradient_norm", "utterances", "audio_seconds"):
            assert row[key] == pytest.approx(want[key], rel=1e-4), key
    for got, want in zip(parameters, alone.optimizer.parameters, strict=True):
        torch.testing.assert_close(torch.tensor(got), want.detach(), rtol=1e-4, atol=1e-5)

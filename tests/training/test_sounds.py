"""Features made on the device: batches, masks and whole trainings are those of the host but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.training.conftest import TASKS, Bench, same_but_for_time, sentences, write_split
from tests.training.test_central import QUARTZNET
from tests.training.test_deferred import tensors
from tests.training.test_federated import federated
from thaw.config.run import RunRecipe
from thaw.config.schema import AugmentationSpec, RecipeSpec
from thaw.config.strict import semantic
from thaw.frontends.on_device import front_end
from thaw.training.augment import Augment
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.data import Examples, read_examples
from thaw.training.deferred import Deferred
from thaw.training.distributed import World
from thaw.training.learner import Learner
from thaw.training.steps import Wanted

CPU = torch.device("cpu")
DEVICE = {"features_on": "device"}
MASKS = {"spec_augment": {"time_width": 9, "frequency_width": 5}, "cutout": {"frequency": 9, "time": 30}}
EVERYTHING = {"speed": [0.9, 1.0, 1.1], "dither": 1e-4, **MASKS}
TONES = 2e-4  # between tones is little, and NeMo's single precision on the host shows: 1.2e-4 at one value
FRONT_ENDS = ("deepspeech", "fbank", "log-mel-20", "nemo-v0.10", "nemo-80")


def two(folder: Path, frontend: str) -> tuple[Examples, Examples]:
    """The same utterances, whose features the host makes, or the device."""
    path = write_split(folder, "train", sentences("train", 12))
    host, device = (read_examples([path], TASKS, frontend) for _ in range(2))
    device.front_end = front_end(frontend, CPU)
    return host, device


def augment(spec: dict[str, Any], epoch: int = 1) -> Augment:
    return Augment(AugmentationSpec.model_validate(spec), lambda samples: samples // 320, seed=1, epoch=epoch)


@pytest.mark.parametrize("spec", [{}, {"speed": [0.9, 1.1]}, {"dither": 1e-3}, MASKS, EVERYTHING], ids=str)
@pytest.mark.parametrize("frontend", FRONT_ENDS)
def test_a_batch_is_that_of_the_host(tmp_path: Path, frontend: str, spec: dict[str, Any]) -> None:
    """Speed, dither and masks are drawn as there, and hit the same values."""
    host, device = two(tmp_path, frontend)
    for indices, epoch in (([3, 0, 7, 11], 1), ([5], 2), (list(range(12)), 3)):
        how = augment(spec, epoch) if spec else None
        expected, made = (one.batch(indices, how).checked().to(CPU) for one in (host, device))
        assert torch.equal(made.lengths, expected.lengths)
        assert (made.ids, made.texts, made.langs, made.spoiled) == (expected.ids, expected.texts, expected.langs, ())
        torch.testing.assert_close(made.x, expected.x, rtol=0, atol=TONES)


def test_masks_hide_what_they_hide_on_the_host(tmp_path: Path) -> None:
    """Exactly: a masked value is the same in every frame of its coefficient."""
    host, device = two(tmp_path, "log-mel-20")
    how = augment(MASKS)
    masked, plain = (device.batch(list(range(12)), one).to(CPU).x for one in (how, None))
    expected, unmasked = (host.batch(list(range(12)), one).x for one in (how, None))
    assert torch.equal(masked != plain, expected != unmasked)
    assert 0.05 < (masked != plain).float().mean() < 0.8


def test_samples_travel_as_small_as_they_can(tmp_path: Path) -> None:
    _, device = two(tmp_path, "deepspeech")
    assert device.batch([0, 1]).x.dtype == torch.int16
    assert device.batch([0, 1], augment({"dither": 1e-3})).x.dtype == torch.float32


def test_nothing_of_a_batch_is_kept_but_samples(tmp_path: Path) -> None:
    _, device = two(tmp_path, "deepspeech")
    free = device.free_bytes
    device.batch([0, 1])
    assert not device.cache
    assert free - device.free_bytes == sum(2 * device.utterances[index].samples for index in (0, 1))
    device.forget([0, 1])
    assert device.free_bytes == free


# --- trainings ------------------------------------------------------------------------------------


def learner_of(bench: Bench, **job: Any) -> Learner:
    recipe = RunRecipe.model_validate(bench.recipe)
    return begin(Job(recipe, [bench.train], [bench.dev], {}, bench.folder / "state", **job), World(), print).learner


def to_end(learner: Learner) -> Learner:
    for _ in learner.run():
        pass
    return learner


TRAININGS: list[dict[str, Any]] = [
    {"augmentation": EVERYTHING},
    {"model": QUARTZNET, "dropout": 0.1, "microbatch_seconds": 3.0, "learning_rate": 1e-3},
    {"model": {"kind": "blstm", "mel": 20, "features": "fbank", "layers": 1, "cells": 8, "projection": 8}},
]


@pytest.mark.parametrize("how", TRAININGS, ids=str)
def test_a_training_learns_what_it_learns_from_the_host(bench: Bench, how: dict[str, Any]) -> None:
    """The first weights have the same losses; what comes of them differs by what rounding becomes in 10 steps.

    That is little at these rates: noise of 3e-6 on the features does as much, and at ten times the rate far more.
    """
    host, device = (learner_of(bench.with_recipe(epochs=2, **how, **more)) for more in ({}, DEVICE))
    first = []
    for learner in (host, device):
        assert isinstance(learner, Central)
        first.append(learner.heard(learner.prepare(Wanted(1, tuple(range(8))))).detach())
    torch.testing.assert_close(first[1], first[0], rtol=1e-4, atol=0)
    for ours, theirs in zip(to_end(device).rows, to_end(host).rows, strict=True):
        for key in ("train_loss", "dev_loss"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-2), key


@pytest.mark.parametrize("how", TRAININGS[:2], ids=str)
def test_it_resumes_to_the_same_bits(bench: Bench, how: dict[str, Any]) -> None:
    """In the middle of an epoch, and with steps that are read one step later."""
    asked = bench.with_recipe(epochs=2, **how, **DEVICE)
    whole = to_end(learner_of(asked))
    broken, resumed = learner_of(asked), learner_of(asked)
    moments = broken.run()
    for _ in range(3):
        next(moments)
    resumed.restore(broken.tensors(), broken.facts())
    assert isinstance(resumed, Central)
    resumed.deferred = Deferred(resumed)
    assert same_but_for_time(to_end(resumed).rows, whole.rows)
    assert all(torch.equal(tensor, tensors(resumed)[name]) for name, tensor in tensors(whole).items())


def test_what_frozen_layers_give_is_made_of_them_once(bench: Bench) -> None:
    """Of a chunk of utterances at a time, so that it is a function of the data alone."""
    frozen = bench.with_recipe(epochs=2, dropout=0.0, freeze=["layer_1", "layer_2"], **DEVICE)
    learner = learner_of(frozen)
    assert isinstance(learner, Central)
    assert learner.done == 2
    kept = to_end(learner).rows
    host = to_end(learner_of(frozen.with_recipe(features_on="host"))).rows
    assert [row["dev_loss"] for row in kept] == pytest.approx([row["dev_loss"] for row in host], rel=1e-4)


def test_clients_have_the_front_end_too(bench: Bench) -> None:
    rows = [to_end(learner_of(federated(bench).with_recipe(epochs=1, **more))).rows for more in ({}, DEVICE)]
    assert rows[1][0]["dev_loss"] == pytest.approx(rows[0][0]["dev_loss"], rel=1e-4)


def test_no_store_is_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.training.begin.STORED_HOURS", 0.0)
    place = bench.folder / "features"
    to_end(learner_of(bench.with_recipe(epochs=1, **DEVICE), features=place))
    assert not place.exists()
    to_end(learner_of(bench.with_recipe(epochs=1), features=place))
    assert place.exists()


# --- what a config says ---------------------------------------------------------------------------


def test_it_is_part_of_what_a_run_is_unless_it_is_the_default(bench: Bench) -> None:
    plain, host, device = (
        semantic(RunRecipe.model_validate(bench.with_recipe(**more).recipe))
        for more in ({}, {"features_on": "host"}, DEVICE)
    )
    assert plain == host
    assert "features_on" not in plain["recipe"]
    assert device["recipe"] == {**plain["recipe"], **DEVICE}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"task": {"kind": "frames", "drawn": 100}, "order": "shuffled"}, "features_on: drawn frames"),
        ({"task": {"kind": "language-model"}}, "features_on: a language-model reads no audio"),
        (
            {"learner": {"kind": "downpour", "mode": "processes"}, "optimizer": "adagrad"},
            "features_on: the processes of downpour",
        ),
        ({"features_on": "gpu"}, "Input should be 'host' or 'device'"),
    ],
)
def test_what_cannot_have_it_is_told_so(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecipeSpec.model_validate({"epochs": 1, **DEVICE, **more})
    if "features_on" not in more:
        RecipeSpec.model_validate({"epochs": 1, **more})

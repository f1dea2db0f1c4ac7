"""Between the first layer of a step and the end of its update, nothing is asked of a GPU and nothing is waited for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from tests.training.conftest import ALPHABET, make_recipe, sentences, write_split
from tests.training.test_central import BOTH_HEADS, QUARTZNET
from tests.training.test_heads import spoken_in
from tests.training.test_streams import learner as text_learner
from tests.training.test_streams import text  # noqa: F401  (a fixture)
from tests.training.virtual_gpu import GPU, VirtualGpu, install
from thaw.config.run import RunRecipe
from thaw.frontends.on_device import front_end
from thaw.models import build
from thaw.tasks import CtcAttention, Frames, tasks_for
from thaw.tasks.ctc import ctc_loss
from thaw.training import streams
from thaw.training.central import Central
from thaw.training.data import read_examples
from thaw.training.distributed import World
from thaw.training.torch_optim import optimizer_for
from thaw.units import EVERY, Alphabet

TRANSFORMER = {"kind": "transformer", "mel": 20, "width": 16, "inner": 16, "attention_heads": 2, "encoder_layers": 1}
CONFORMER = {"kind": "conformer", "variant": "mini-S"}
MODELS: list[dict[str, Any]] = [
    {},
    {"model": QUARTZNET},
    {"model": {"kind": "blstm", "mel": 20, "layers": 2, "cells": 8, "projection": 8}},
    BOTH_HEADS,
    {"model": {**TRANSFORMER, "decoder_layers": 1}, "task": {"kind": "ctc-attention"}},
    {"model": CONFORMER},
    {"model": {**CONFORMER, "norm": "group", "first": "convolution", "causal": True, "left_context": 8, "stack": 1}},
    {"model": {**CONFORMER, "head": "rnnt"}, "task": {"kind": "rnnt"}},
    {"model": {"kind": "dnn", "hidden": 8, "layers": 2, "context": 1}, "task": {"kind": "frames"}},
    {"langs": ["aa", "bb"]},
]
SOUNDS: list[dict[str, Any]] = [
    {**how, "features_on": "device", "augmentation": {"speed": [0.9, 1.1], "dither": 1e-4, "spec_augment": {}}}
    for how in ({}, {"model": QUARTZNET}, MODELS[2], {"langs": ["aa", "bb"]})
] + [{**MODELS[8], "features_on": "device"}]
OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "adam-tf", "max_gradient_norm": 5.0},
    {"optimizer": "novograd", "weight_decay": 1e-3},
    {"optimizer": "adam"},
    {"optimizer": "adamw", "weight_decay": 1e-2},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "adagrad"},
    {"optimizer": "adadelta"},
    {"optimizer": "asgd"},
]


def learner_on(gpu: VirtualGpu, folder: Path, how: dict[str, Any]) -> Central:
    """A learner whose model is on the GPU; examples are the host's."""
    plain = make_recipe(**{key: value for key, value in how.items() if key not in ("model", "langs")})
    run = RunRecipe.model_validate({**plain, "model": how.get("model", plain["model"])})
    heads = how.get("langs", [EVERY])
    tasks = tasks_for(run.recipe.task, {head: Alphabet(ALPHABET) for head in heads})
    for task in tasks.values():
        if isinstance(task, Frames):
            task.aligned = lambda utterance: np.zeros(run.model.frames(utterance.samples), np.int32)
    manifest = write_split(folder, "train", sentences("train", 12))
    examples = read_examples([spoken_in(manifest, how.get("langs", ["xx"]))], tasks, run.model.frontend)
    for task in tasks.values():
        if isinstance(task, CtcAttention):
            task.learn_text(examples.labels)
    with gpu.fake, gpu, torch.device(GPU):
        model = build(run.model, {head: task.classes for head, task in tasks.items()})
    with gpu.fake, gpu:
        optimizer = optimizer_for(run.recipe, dict(model.named_parameters()))
    surgery: Any = SimpleNamespace(dropout_rates=lambda rate: dict.fromkeys(model.layers, rate))
    with gpu.fake, gpu:
        if run.recipe.features_on == "device":
            examples.front_end = front_end(run.model.frontend, GPU)
        return Central(run, model, surgery, optimizer, examples, examples, World(device=GPU), print)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # the transducer's loss looks for it
@pytest.mark.parametrize("how", MODELS + OPTIMIZERS + SOUNDS, ids=str)
def test_no_step_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]) -> None:
    gpu = install(monkeypatch)
    learner = learner_on(gpu, tmp_path, {"dropout": 0.1, **how})
    assert learner.deferred

    def backward(loss: Tensor) -> None:
        assert loss.device == GPU
        for parameter in learner.optimizer.parameters:
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    learner.model.train()
    gpu.waits.clear()
    with gpu.fake, gpu:
        for batch in ([0, 1, 2], [3, 4, 5]):
            learner.step(batch)
        learner.settle()
    assert gpu.waits == []
    assert learner.progress.sums.utterances == 6


def test_no_step_of_a_language_model_waits(text: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    gpu = install(monkeypatch)
    given = text_learner(text)
    with gpu.fake, gpu, torch.device(GPU):
        model = build(given.run_recipe.model, {EVERY: given.task.classes})
    with gpu.fake, gpu:
        optimizer = optimizer_for(given.recipe, dict(model.named_parameters()))
        surgery: Any = SimpleNamespace(frozen_layers=[], frozen=SimpleNamespace(dropout="on"))
        learner = streams.Streams(
            given.run_recipe, model, surgery, optimizer, given.text, given.dev_text, given.task, GPU, print
        )
    assert learner.held

    def backward(loss: Tensor) -> None:
        for parameter in optimizer.parameters:
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)
    pieces = learner.cuts(1)
    gpu.waits.clear()
    with gpu.fake, gpu:
        for piece in pieces[:2]:
            learner.step(piece)
        learner.settle()
    assert gpu.waits == []
    assert learner.progress.sums.weight > 0


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: torch.zeros(3).to(GPU),
        lambda x: torch.tensor([1.0], device=GPU),
        lambda x: x[torch.tensor([1, 0])],
        lambda x: torch.zeros(4).copy_(x),
    ],
)
def test_the_virtual_gpu_sees_every_kind_of_wait(wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = install(monkeypatch)
    with gpu.fake, gpu:
        x = torch.empty(4, device=GPU)
        assert gpu.waits == []
        with contextlib.suppress(DynamicOutputShapeException):
            wait(x)
    assert len(gpu.waits) == 1


@pytest.mark.parametrize(("frames", "labels"), [(9, 1), (3, 0), (1, 2)], ids=["spelt", "silent", "impossible"])
def test_no_loss_that_cudnn_is_not_given_waits(monkeypatch: pytest.MonkeyPatch, frames: int, labels: int) -> None:
    """But for what has more labels than it takes. Each has a gradient."""
    gpu = install(monkeypatch)
    lengths, counts = torch.tensor([9, frames]), torch.tensor([2, labels])
    targets = torch.zeros(2 + labels, dtype=torch.int32)
    with gpu.fake, gpu:
        logits = torch.empty(2, 9, 4, device=GPU, requires_grad=True)
        losses = ctc_loss(logits, lengths, targets, counts)
    assert (losses.shape, losses.device, losses.requires_grad) == ((2,), GPU, True)
    assert gpu.waits == []

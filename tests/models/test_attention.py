"""A recurrent decoder that attends: its sizes and equations; an utterance in whatever batch, taught or step by step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.test_blstm import randn
from thaw.config.models import head_names, layer_names, places
from thaw.config.rnn import BlstmSpec
from thaw.models import Noise, build
from thaw.models.attention import Decoder, LocationAttention, RecurrentCtcAttention
from thaw.models.layered import Labels
from thaw.surgery.surgery import parameter_counts

CLASSES = 7


def spec(**keys: Any) -> BlstmSpec:
    decoder = {"width": 6, "attention": 5, "channels": 2, "reach": 3}
    sizes = {"mel": 8, "layers": 2, "cells": 6, "projection": 4, "subsample": [2, 1], "decoder": decoder}
    return BlstmSpec.model_validate({"kind": "blstm", **sizes, **keys})


def small(seed: int = 1, **keys: Any) -> RecurrentCtcAttention:
    model = build(spec(**keys), CLASSES)
    assert isinstance(model, RecurrentCtcAttention)
    model.initialise(seed)
    with torch.no_grad():  # energies that tell frames apart
        model.attention.weight_energy.mul_(5)
    return model


def labels(*rows: list[int]) -> Labels:
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = torch.tensor(row, dtype=torch.int64)
    return Labels(ids, torch.tensor([len(row) for row in rows]))


def test_published_sizes() -> None:
    """The sheet's counts, 83 features where there are 80: of attention and decoder, whose embedding is in them."""
    with torch.device("meta"):
        counts = parameter_counts(build(BlstmSpec.model_validate({"kind": "blstm", "decoder": {}}), 52))["by_layer"]
        vgg = {"kind": "blstm", "layers": 6, "vgg": [64, 128], "decoder": {}}
        deep = parameter_counts(build(BlstmSpec.model_validate(vgg), 52))["by_layer"]
    lstm = 4 * 300 * (300 + 320 + 300 + 2)
    assert counts["decoder"] == 52 * 300 + lstm
    assert counts["decoder"] + counts["attention_output"] == pytest.approx(1.14e6, rel=0.005)
    assert counts["attention"] == 320 * 320 + 320 + 320 * 300 + 10 * 201 + 320 * 10 + 320 + 1
    assert counts["attention"] == pytest.approx(0.20e6, rel=0.03)
    assert counts["ctc_output"] == 320 * 52 + 52
    assert deep["vgg"] == pytest.approx(0.26e6, rel=0.005)
    of_pitch = 2 * 4 * 320 * 128  # 83 features give 21 rows of 128 channels, 80 give 20
    blstms = sum(count for name, count in deep.items() if name.startswith("blstm"))
    assert blstms + of_pitch == pytest.approx(17.15e6, rel=0.001)


def test_names_and_places() -> None:
    model = small(vgg=[2, 3], subsample=[])
    own = ("attention", "decoder", "ctc_output", "attention_output")
    assert tuple(model.layers) == layer_names(spec(vgg=[2, 3], subsample=[])) == ("vgg", "blstm_1", "blstm_2", *own)
    assert model.heads == head_names(spec()) == own[2:]
    assert model.places[-3:] == places(spec())[-3:] == (("attention",), ("decoder",), own[2:])


def test_an_attention_is_that_of_its_equations() -> None:
    """Chorowski et al. (2015), equations 8 and 9 with a bias for the frames, and energies that are doubled."""
    shape = spec().decoder
    assert shape is not None
    layer = LocationAttention(4, 6, shape)
    layer.reset_parameters(torch.Generator().manual_seed(1))
    frames, state = randn(1, 9, 4), randn(1, 6)
    before = randn(1, 9).softmax(dim=1)
    energies = []
    padded = [0.0] * 3 + before[0].tolist() + [0.0] * 3
    for t in range(9):
        near = torch.tensor(padded[t : t + 7])
        location = layer.kernel[:, 0] @ near
        parts = layer.weight_frames @ frames[0, t] + layer.bias_frames + layer.weight_state @ state[0]
        energies.append(layer.weight_energy[0] @ torch.tanh(parts + layer.weight_location @ location))
    expected = (2 * torch.stack(energies)).softmax(dim=0)
    weights = layer.weights(layer.keys(frames), torch.zeros(1, 9, dtype=torch.bool), state, before)
    torch.testing.assert_close(weights[0], expected)


def test_first_weights_of_the_decoder() -> None:
    layer = Decoder(30, 40, 50)
    layer.reset_parameters(torch.Generator().manual_seed(1))
    assert layer.embedding.std().item() == pytest.approx(1, rel=0.05)
    assert layer.weight_ih.std().item() == pytest.approx(80**-0.5, rel=0.05)
    assert layer.bias_ih.tolist() == [0.0] * 50 + [1.0] * 50 + [0.0] * 100
    assert not layer.bias_hh.any()


@pytest.mark.parametrize("keys", [{}, {"vgg": [2, 3], "subsample": []}])
@pytest.mark.parametrize("noise", [None, 0.4])
def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch(
    keys: dict[str, Any], noise: float | None
) -> None:
    model = small(**keys)
    lengths, said = torch.tensor([33, 14, 1]), labels([1, 2, 0, 5, 5], [3, 1], [])
    x = randn(3, 33, 8)
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = math.nan  # what lies in the padding must not matter

    def outputs(rows: slice) -> tuple[dict[str, Tensor], Tensor]:
        ids = ["a", "b", "c"][rows]
        drawn = None if noise is None else Noise(dict.fromkeys(model.layers, noise), 1, 1, ids)
        some, u = lengths[rows], said.lengths[rows]
        encoded, frames = model(x[rows, : some.max()], some, drawn, upto=len(model.trunk))
        return model.outputs(encoded, frames, drawn, labels=Labels(said.ids[rows, : u.max()], u)), frames

    whole, frames = outputs(slice(0, 3))
    assert whole["attention_output"].shape == (3, 6, CLASSES)
    for row in range(3):
        alone, _ = outputs(slice(row, row + 1))
        t, u = int(frames[row]), int(said.lengths[row]) + 1
        assert t == spec(**keys).frames(400 + 160 * (int(lengths[row]) - 1))
        torch.testing.assert_close(alone["ctc_output"][0], whole["ctc_output"][row, :t], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            alone["attention_output"][0], whole["attention_output"][row, :u], rtol=1e-5, atol=1e-6
        )


def test_dropout_changes_what_is_taught() -> None:
    model, x, lengths, said = small(), randn(2, 9, 4), torch.tensor([9, 5]), labels([1, 2], [3])
    drawn = [Noise({"decoder": 0.4}, 1, epoch, ["a", "b"]) for epoch in (1, 1, 2)]
    one, again, other = (model.outputs(x, lengths, noise, labels=said)["attention_output"] for noise in drawn)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3)
    assert not torch.allclose(one, model.outputs(x, lengths, labels=said)["attention_output"], atol=1e-3)


def test_step_by_step_it_says_what_it_was_taught() -> None:
    model, x, lengths = small().eval(), randn(2, 9, 4), torch.tensor([9, 5])
    said = labels([1, 2, 0], [3, 3, 6])
    taught = model.outputs(x, lengths, labels=said)["attention_output"].log_softmax(dim=-1)
    memory, state = model.memory(x, lengths)
    last = torch.full((2,), CLASSES - 1)
    for place in range(4):
        log_probs, state = model.step(memory, state, last)
        torch.testing.assert_close(log_probs, taught[:, place], rtol=1e-5, atol=1e-5)
        last = said.ids[:, place] if place < 3 else last
    swapped, turned = torch.tensor([1, 0]), model.step(memory, state, last)[0]
    log_probs, _ = model.step(memory.of(swapped), state.of(swapped), last[swapped])
    torch.testing.assert_close(log_probs, turned[swapped])


def test_labels_reach_only_what_comes_behind_them() -> None:
    model, x, lengths = small(), randn(1, 9, 4), torch.tensor([9])
    one, other = (model.outputs(x, lengths, labels=labels(row))["attention_output"] for row in ([1, 2, 3], [1, 4, 3]))
    assert torch.equal(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2], other[:, 2])


def test_without_labels_ctc_answers_alone() -> None:
    model, x, lengths = small(), randn(2, 21, 8), torch.tensor([21, 8])
    logits, frames = model(x, lengths)
    encoded, counts = model(x, lengths, upto=len(model.trunk))
    assert torch.equal(frames, counts)
    assert torch.equal(model.outputs(encoded, frames)["ctc_output"], logits)


def test_every_parameter_but_one_takes_part() -> None:
    model, x, lengths = small(), randn(2, 21, 8), torch.tensor([21, 8])
    encoded, frames = model(x, lengths, upto=len(model.trunk))
    made = model.outputs(encoded, frames, labels=labels([1, 2], [3]))
    sum(logits.square().sum() for logits in made.values()).backward()  # type: ignore[union-attr]
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 1e-6}
    assert {name for name, _ in model.named_parameters()} - moved == {"layers.attention.bias_energy"}

"""Bidirectional LSTMs with projections: torch's own numbers, published sizes, and an utterance in whatever batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from thaw.config.rnn import BlstmSpec
from thaw.models import LayeredModel, Noise, build
from thaw.models.blstm import Blstm, ProjectedBlstm, draw_lecun, stack_frames
from thaw.models.layered import keep
from thaw.surgery.surgery import parameter_counts


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def spec(**keys: Any) -> BlstmSpec:
    sizes = {"mel": 8, "layers": 3, "cells": 6, "projection": 5, **keys}
    return BlstmSpec.model_validate({"kind": "blstm", **sizes})


def small(seed: int = 1, **keys: Any) -> LayeredModel:
    model = build(spec(**keys), 9)
    model.initialise(seed)
    return model


def test_published_size() -> None:
    """ESPnet's RNNP of 4 layers on 83 features, and its output for 52 characters; here 3 of pitch are left out."""
    with torch.device("meta"):
        model = build(BlstmSpec(kind="blstm"), 52)
    counts = parameter_counts(model)
    of_pitch = 2 * 4 * 320 * 3
    assert counts["total"] + of_pitch == 6_804_532
    assert counts["by_layer"]["output"] == 320 * 52 + 52
    assert tuple(model.layers) == ("blstm_1", "blstm_2", "blstm_3", "blstm_4", "output")


def test_layers_are_those_of_the_specification_in_order() -> None:
    assert tuple(small().layers) == spec().layer_names


def test_it_is_torchs_own_bidirectional_lstm_in_value_and_gradient() -> None:
    mine, theirs = Blstm(5, 4), nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            getattr(mine, name.replace("_l0", "")).copy_(parameter)
    x = randn(3, 11, 5).requires_grad_()
    lengths = torch.tensor([11, 7, 1])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    inside = torch.arange(11) < lengths.unsqueeze(1)
    weights = randn(3, 11, 8) * inside.unsqueeze(2)
    y = mine(x, lengths)
    torch.testing.assert_close(y[inside], expected[inside], rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x, retain_graph=True)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), x, retain_graph=True)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, parameter in theirs.named_parameters():
        own = getattr(mine, name.replace("_l0", ""))
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-5, atol=1e-5)


STACKS = [{}, {"stack": 3}, {"subsample": [1, 2, 2]}, {"stack": 4, "subsample": [3, 1, 2]}]


@pytest.mark.parametrize("keys", STACKS)
@pytest.mark.parametrize("filled", [100.0, math.nan])
def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch(keys: dict[str, Any], filled: float) -> None:
    model = small(**keys).eval()
    lengths = torch.tensor([41, 17, 1])
    x = randn(3, 41, 8)
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = filled  # what lies in the padding must not matter
    logits, frames = model(x, lengths)
    assert logits.shape[1] == model.padded(41, len(model.trunk)) == frames.max()
    for row, length in enumerate(lengths.tolist()):
        assert frames[row] == spec(**keys).frames(400 + 160 * (length - 1))
        alone, count = model(x[row : row + 1, :length], lengths[row : row + 1])
        assert count == frames[row]
        torch.testing.assert_close(alone[0], logits[row, : frames[row]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", STACKS)
def test_padding_takes_no_gradient_and_gives_none(keys: dict[str, Any]) -> None:
    model = small(**keys)
    x, lengths = randn(2, 30, 8), torch.tensor([30, 12])
    gradients = []
    for filled, frames in ((0.0, 30), (7.0, 30), (math.inf, 37)):
        padded = torch.full((2, frames, 8), filled)
        padded[0, :30], padded[1, :12] = x[0], x[1, :12]
        padded.requires_grad_()
        model.zero_grad()
        logits, counts = model(padded, lengths)
        inside = torch.arange(logits.shape[1]) < counts.unsqueeze(1)
        logits[inside].square().sum().backward()
        assert padded.grad is not None
        assert not padded.grad[1, 12:].any()
        gradients.append([p.grad for p in model.parameters()])
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_an_utterance_is_dropped_out_alike_in_whatever_batch() -> None:
    model = small()
    x, lengths = randn(2, 30, 8), torch.tensor([30, 12])
    rates = dict.fromkeys(model.layers, 0.4)
    batch, _ = model(x, lengths, Noise(rates, 1, 1, ["a", "b"]))
    alone, _ = model(x[1:, :12], lengths[1:], Noise(rates, 1, 1, ["b"]))
    torch.testing.assert_close(alone[0], batch[1, :12], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(x, lengths)[0], batch, atol=1e-2)


def test_dropout_and_tanh_lie_between_the_layers_and_not_behind_the_last() -> None:
    model, dropped = small(), []
    with torch.no_grad():
        model.get_parameter("layers.blstm_3.bias").fill_(5)
    x, lengths = 30 * randn(1, 5, 8), torch.tensor([5])
    for name in model.layers:

        def drop(y: Tensor, name: str = name) -> Tensor:
            dropped.append(name)
            return 100 * y

        x, lengths = model.layer(name)(x, lengths, drop)
        assert (x.abs().max() <= 1) == (name in ("blstm_1", "blstm_2"))
    assert dropped == ["blstm_1", "blstm_2"]


def test_a_layer_takes_every_second_frame_before_its_projection() -> None:
    layer = ProjectedBlstm(5, 4, 3, stride=2, squash=False)
    draw_lecun(layer, torch.Generator().manual_seed(1))
    x, lengths = randn(2, 7, 5), torch.tensor([7, 4])
    y, counts = layer(x, lengths, keep)
    expected = layer.lstm(x, lengths)[:, [0, 2, 4, 6]] @ layer.weight.T + layer.bias
    torch.testing.assert_close(y, expected)
    assert counts.tolist() == [4, 2]


def test_frames_are_stacked_in_order_and_filled_up_with_zeros() -> None:
    x = torch.arange(1.0, 11.0).reshape(1, 5, 2).repeat(2, 1, 1)
    y, lengths = stack_frames(x, torch.tensor([5, 3]), 2)
    assert lengths.tolist() == [3, 2]
    assert y.tolist() == [
        [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 0, 0]],
        [[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0]],
    ]


def test_first_weights_have_the_variance_of_one_input_and_biases_are_zero() -> None:
    model = small(cells=64, projection=80, mel=80)
    state = {key.removeprefix("layers."): tensor for key, tensor in model.state_dict().items()}
    for key, inputs in {
        "blstm_1.lstm.weight_ih": 80,
        "blstm_2.lstm.weight_hh_reverse": 64,
        "blstm_3.weight": 128,
    }.items():
        assert state[key].std().item() == pytest.approx(inputs**-0.5, rel=0.05)
        assert state[key].mean().item() == pytest.approx(0, abs=0.05 * inputs**-0.5)
    assert all(not tensor.any() for key, tensor in state.items() if "bias" in key)
    other = small(2, cells=64, projection=80, mel=80).state_dict()
    assert not torch.equal(other["layers.blstm_1.weight"], model.state_dict()["layers.blstm_1.weight"])


def test_a_stride_for_each_layer() -> None:
    with pytest.raises(ValidationError, match="2 numbers for 3 layers; give one for each"):
        spec(subsample=[1, 2])

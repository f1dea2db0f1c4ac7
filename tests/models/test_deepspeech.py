"""DeepSpeech 0.7's network against its published sizes, torch's own LSTM, and itself in other batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from thaw.config.models import DeepSpeechSpec
from thaw.models import LayeredModel, Noise, build
from thaw.models.deepspeech import Dense, Lstm, stack_context
from thaw.models.layered import keep
from thaw.surgery.surgery import parameter_counts


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def small(seed: int = 1, hidden: int = 24, classes: int = 9) -> LayeredModel:
    model = build(DeepSpeechSpec(kind="deepspeech", hidden=hidden), classes)
    model.initialise(seed)
    return model


TRAINABLE = {  # at 2048 units and 32 classes
    (): 47_231_008,
    ("layer_1",): 46_217_248,
    ("layer_1", "layer_2"): 42_020_896,
    ("layer_1", "layer_2", "layer_3"): 37_824_544,
    ("layer_1", "layer_2", "layer_3", "lstm"): 4_261_920,
    ("layer_1", "layer_2", "layer_3", "lstm", "layer_5"): 65_568,
    ("layer_1", "layer_2", "layer_3", "layer_5"): 33_628_192,
}


@pytest.mark.parametrize("frozen", TRAINABLE)
def test_published_size(frozen: tuple[str, ...]):
    with torch.device("meta"):
        model = build(DeepSpeechSpec(kind="deepspeech"), 32)
    for name in frozen:
        model.layer(name).requires_grad_(False)
    counts = parameter_counts(model)
    assert counts["trainable"] == TRAINABLE[frozen]
    assert counts["total"] == 47_231_008
    assert counts["by_layer"]["lstm"] == 33_562_624


def test_layers_are_those_of_the_specification_in_order():
    assert tuple(small().layers) == DeepSpeechSpec(kind="deepspeech").layer_names


def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch():
    model = small().eval()
    lengths = torch.tensor([40, 17, 1])
    x = randn(3, 40, 26) + 100.0  # what lies in the padding must not matter
    logits, out_lengths = model(x, lengths)
    assert logits.shape == (3, 40, 9)
    assert torch.equal(out_lengths, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(alone[0], logits[row, :length], rtol=1e-5, atol=1e-5)


def test_so_does_it_under_dropout():
    model = small()
    x, lengths = randn(2, 30, 26), torch.tensor([30, 12])
    rates = dict.fromkeys(model.layers, 0.4)
    batch, _ = model(x, lengths, Noise(rates, 1, 1, ["a", "b"]))
    alone, _ = model(x[1:, :12], lengths[1:], Noise(rates, 1, 1, ["b"]))
    torch.testing.assert_close(alone[0], batch[1, :12], rtol=1e-5, atol=1e-5)
    quiet, _ = model(x, lengths)
    assert not torch.allclose(quiet, batch, atol=1e-2)


def test_dropout_follows_the_four_clipped_layers_and_no_other():
    dropped = []
    x, lengths = randn(1, 5, 26), torch.tensor([5])
    model = small()
    for name in model.layers:

        def drop(y: Tensor, name: str = name) -> Tensor:
            assert y.min() >= 0  # after the activation
            dropped.append(name)
            return y

        x, lengths = model.layer(name)(x, lengths, drop)
    assert dropped == ["layer_1", "layer_2", "layer_3", "layer_5"]


def test_context_is_19_frames_oldest_first_and_zero_outside_the_utterance():
    x = torch.arange(1.0, 11.0).reshape(1, 10, 1).repeat(2, 1, 2)
    stacked = stack_context(x, torch.tensor([10, 4]), 9).reshape(2, 10, 19, 2)
    assert stacked[0, 0, :, 0].tolist() == [0.0] * 9 + [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert stacked[0, 9, :, 1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] + [0.0] * 9
    assert stacked[1, 3, :, 0].tolist() == [0.0] * 6 + [1, 2, 3, 4] + [0.0] * 9


def test_clipped_at_zero_and_twenty():
    dense = Dense(1, 3, clip=20.0)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[-1.0], [1.0], [100.0]]))
        dense.bias.zero_()
    y, _ = dense(torch.full((1, 1, 1), 2.0), torch.tensor([1]), keep)
    assert y.flatten().tolist() == [0.0, 2.0, 20.0]


def test_lstm_is_torchs_with_the_second_bias_at_zero():
    layer = Lstm(5, 7)
    layer.reset_parameters(torch.Generator().manual_seed(1))
    reference = nn.LSTM(5, 7, batch_first=True)
    with torch.no_grad():
        layer.bias.copy_(randn(28))
        for mine, theirs in zip(layer.parameters(), ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), strict=True):
            getattr(reference, theirs).copy_(mine)
        reference.bias_hh_l0.zero_()
    x = randn(2, 11, 5)
    y, _ = layer(x, torch.tensor([11, 11]), keep)
    torch.testing.assert_close(y, reference(x)[0])
    y.square().sum().backward()
    reference(x)[0].square().sum().backward()
    torch.testing.assert_close(layer.bias.grad, reference.bias_ih_l0.grad)
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih", "weight_hh", "bias"]


def test_first_weights_are_glorot_uniform_and_biases_zero():
    model = small(hidden=64, classes=30)
    fans = {"layer_1.weight": 494 + 64, "lstm.weight_ih": 128, "lstm.weight_hh": 128, "layer_6.weight": 64 + 30}
    state = {key.removeprefix("layers."): tensor for key, tensor in model.state_dict().items()}
    for key, fan in fans.items():
        bound = math.sqrt(6 / fan)
        assert 0.97 * bound < state[key].abs().max() <= bound
        assert state[key].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert all(not tensor.any() for key, tensor in state.items() if key.endswith("bias"))


def test_initialisation_is_a_function_of_the_seed():
    one, again, other = small(1).state_dict(), small(1).state_dict(), small(2).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert all(not torch.equal(one[key], other[key]) for key in one if "weight" in key)


def test_no_gradient_work_below_the_lowest_trainable_layer():
    model = small()
    for name in ("layer_1", "layer_2", "layer_3", "lstm"):
        model.layer(name).requires_grad_(False)
    x, lengths = randn(1, 5, 26), torch.tensor([5])
    tracked = {}
    for name in model.layers:
        x, lengths = model.layer(name)(x, lengths, Noise({name: 0.4}, 1, 1, ["u"]).drop_for(name))
        tracked[name] = x.requires_grad
    assert [name for name, grad in tracked.items() if grad] == ["layer_5", "layer_6"]


def test_runs_in_bf16_near_fp32():
    model = small()
    x, lengths = randn(1, 20, 26), torch.tensor([20])
    noise = Noise(dict.fromkeys(model.layers, 0.4), 1, 1, ["u"])
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(x, lengths, noise)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), model(x, lengths, noise)[0], rtol=0.05, atol=0.05)

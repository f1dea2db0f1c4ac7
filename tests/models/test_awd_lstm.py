"""AWD-LSTM: its size, where it drops what, and what its loss is made of, against the formulas of the original.

The formulas are those of salesforce/awd-lstm-lm (model.py, locked_dropout.py, embed_regularize.py, weight_drop.py,
main.py), written out here step by step with the masks that the model drew.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models import build
from thaw.models.awd_lstm import AwdLstm, Masks, Recurrent, State
from thaw.surgery.operations import Freeze, Reset
from thaw.surgery.surgery import prepare
from thaw.tasks.language_model import nats, regularised

V, B, T = 20, 3, 7
SPEC = AwdLstmSpec(kind="awd-lstm", embedding=6, hidden=10)


@pytest.fixture
def model() -> AwdLstm:
    built = build(SPEC, V)
    assert isinstance(built, AwdLstm)
    built.initialise(1)
    return built


def units(seed: int = 1, rows: int = B) -> Tensor:
    return torch.randint(0, V, (rows, T), generator=torch.Generator().manual_seed(seed))


def some_state(seed: int = 2) -> State:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        (torch.randn(1, B, width, generator=generator), torch.randn(1, B, width, generator=generator).tanh())
        for width in (10, 10, 6)
    )


def test_the_published_size() -> None:
    with torch.device("meta"):
        model = build(AwdLstmSpec(kind="awd-lstm"), 33_278)
    assert sum(p.numel() for p in model.parameters()) == 33_556_078
    assert [name for name, _ in model.named_parameters() if "decoder" in name] == ["layers.decoder.bias"]
    assert list(model.layers) == ["embedding", "lstm_1", "lstm_2", "lstm_3", "decoder"]


def test_first_weights(model: AwdLstm) -> None:
    tensors = model.state_dict()
    embedding = tensors["layers.embedding.weight"]
    assert 0.09 < embedding.abs().max() <= 0.1
    assert not tensors["layers.decoder.bias"].any()
    for width, layer in ((10, "lstm_1"), (6, "lstm_3")):
        weight = tensors[f"layers.{layer}.lstm.weight_hh_l0"]
        assert 0.8 / width**0.5 < weight.abs().max() <= 1 / width**0.5


def lstm(x: Tensor, state: tuple[Tensor, Tensor], layer: Recurrent, recurrent: Tensor) -> Tensor:
    """One LSTM by its equations, time by time; gates i, f, g, o."""
    h, c = state[0][0], state[1][0]
    inner = layer.lstm
    outputs = []
    for t in range(x.shape[1]):
        gates = x[:, t] @ inner.weight_ih_l0.T + inner.bias_ih_l0 + h @ recurrent.T + inner.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def mask(rates: dict[str, float], place: str, shape: tuple[int, ...]) -> Tensor:
    """What the model's masks do to ones at a place (its own step, so the very values)."""
    masks = Masks(rates, 3, 5, B)
    if place == "words":
        drawn = masks.of_words(torch.ones(shape))
    elif place.startswith("weights"):
        drawn = masks.of_weights(place, torch.ones(shape))
    else:
        return masks.locked(place, torch.ones(shape))
    assert drawn is not None
    return drawn


def test_the_loss_and_every_place_of_dropout(model: AwdLstm) -> None:
    """The same loss as step by step with each mask where the original has it, with AR, TAR and a state from before."""
    rates, state, x, targets = model.rates(), some_state(), units(), units(4)
    reading = model.read(x, state, Masks(rates, 3, 5, B))
    loss = regularised(nats(reading.logits, targets).mean(), reading, 2.0, 1.0)

    weight = model.layer("embedding").weight
    assert isinstance(weight, Tensor)
    vectors = (weight * mask(rates, "words", (V, 6)))[x]  # the embedding's rows, not the decoder's
    vectors = vectors * mask(rates, "input", (B, 1, 6))
    for number, width in ((1, 10), (2, 10), (3, 6)):
        layer = model.layer(f"lstm_{number}")
        assert isinstance(layer, Recurrent)
        recurrent = layer.recurrent * mask(rates, f"weights_{number}", (4 * width, width))
        raw = lstm(vectors, state[number - 1], layer, recurrent)
        vectors = raw * mask(rates, "output" if number == 3 else f"hidden_{number}", (B, 1, width))
    bias = model.layer("decoder").bias
    assert isinstance(bias, Tensor)
    logits = vectors @ weight.T + bias
    expected = nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    expected = expected + 2.0 * vectors.pow(2).mean() + 1.0 * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)

    ours = torch.autograd.grad(loss, list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for (name, _), a, b in zip(model.named_parameters(), ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


@pytest.mark.parametrize(
    ("place", "rate", "shape"),
    [("words", 0.1, (4000, 6)), ("input", 0.65, (B, 1, 2000)), ("weights_1", 0.5, (200, 50))],
)
def test_dropout_is_effective_and_keeps_the_mean(place: str, rate: float, shape: tuple[int, ...]) -> None:
    """A port of the original whose weight drop did nothing reported 78.5 for 68.6 (ahmetumutdurmus/awd-lstm #1)."""
    drawn = mask({place: rate}, place, shape)
    assert float((drawn == 0).float().mean()) == pytest.approx(rate, abs=0.03)
    assert drawn.max() == pytest.approx(1 / (1 - rate), rel=1e-3)


def test_masks_are_locked_in_time_and_follow_seed_step_and_stream() -> None:
    rates = {"input": 0.5}
    ones = torch.ones(B, T, 50)
    masked = Masks(rates, 1, 1, B).locked("input", ones)
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    assert not torch.equal(masked[0], masked[1])
    assert torch.equal(masked, Masks(rates, 1, 1, B).locked("input", ones))
    for seed, step in ((2, 1), (1, 2)):
        assert not torch.equal(masked, Masks(rates, seed, step, B).locked("input", ones))
    fewer = Masks(rates, 1, 1, 2).locked("input", ones[:2])
    assert torch.equal(fewer, masked[:2])


def test_reading_in_pieces_is_reading_at_once(model: AwdLstm) -> None:
    whole = model.read(units())
    first = model.read(units()[:, :3])
    second = model.read(units()[:, 3:], first.state)
    assert torch.allclose(torch.cat([first.logits, second.logits], dim=1), whole.logits, atol=1e-6)


def test_padding_changes_no_valid_output(model: AwdLstm) -> None:
    alone, _ = model(units()[:1, :4], torch.tensor([4]))
    padded, lengths = model(units(), torch.tensor([4, T, T]))
    assert lengths.tolist() == [4, T, T]
    assert torch.allclose(padded[0, :4], alone[0], atol=1e-6)


def test_the_matrix_is_frozen_for_both_layers_and_gradients_flow_through(model: AwdLstm) -> None:
    surgery = prepare(model, [Reset(tuple(model.layers), "draw", 2), Freeze(("embedding", "decoder"), FrozenSpec())])
    assert {name.split(".")[1] for name in surgery.trainable()} == {"lstm_1", "lstm_2", "lstm_3"}
    nats(model.read(units()).logits, units(4)).mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in surgery.trainable().values())
    assert model.layer("embedding").weight.grad is None
    off = model.rates(["embedding", "decoder"])
    assert not {"words", "input"} & set(off)
    assert {"hidden_1", "output", "weights_3"} <= set(off)


@pytest.mark.parametrize("layers", [("decoder",), ("embedding", "lstm_1")])
def test_one_of_two_layers_that_share_a_matrix_is_refused(model: AwdLstm, layers: tuple[str, ...]) -> None:
    for operation in (Reset(layers), Freeze(layers)):
        with pytest.raises(UserError, match="embedding, decoder share their weights"):
            prepare(model, [operation])

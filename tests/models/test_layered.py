"""Dropout masks, norms that stay still, and loading layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from thaw.config.conformer import ConformerSpec
from thaw.config.dnn import DnnSpec
from thaw.config.models import DeepSpeechSpec, ModelSpec, QuartzNetSpec
from thaw.config.rnn import BlstmSpec
from thaw.config.transformer import TransformerSpec
from thaw.errors import UserError
from thaw.frontends import dimension
from thaw.models import build, layered
from thaw.models.layered import Drop, Layer, LayeredModel, Noise, keep
from thaw.randomness import seed_of

RATES = {"a": 0.4, "b": 0.4, "off": 0.0}


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def mask(ids: list[str], frames: int, layer: str = "a", units: int = 33, epoch: int = 1, seed: int = 1) -> Tensor:
    return Noise(RATES, seed, epoch, ids).drop_for(layer)(torch.ones(len(ids), frames, units))


def test_a_mask_does_not_depend_on_padding_batch_or_place_in_it():
    alone = mask(["u"], 50)
    batch = mask(["x", "u", "y"], 200)
    assert torch.equal(alone[0], batch[1, :50])


def test_masks_are_those_that_finished_runs_had():
    """Keys of `seed_of`, one by one, as they were made before utterances were hashed once for all layers."""
    drop = Noise(RATES, 7, 3, ["é", "v"]).drop_for("b")
    for call in range(2):
        got = drop(torch.ones(2, 4, 9)) != 0
        seeds = [seed_of(7, "dropout", 3, name, "b", call) for name in ("é", "v")]
        words = torch.tensor([((seed >> 32) - 2**30, (seed & 0xFFFFFFFF) - 2**31) for seed in seeds])
        assert torch.equal(got, layered._noise(words.to(torch.int32), 4, 9) < round(0.6 * 65536) - 32768)


SMALL = (
    DeepSpeechSpec(kind="deepspeech", hidden=8, context=1),
    QuartzNetSpec(kind="quartznet", variant="mini-3x1"),
    DnnSpec(kind="dnn", hidden=8, layers=2, context=1),
    BlstmSpec(kind="blstm", mel=8, layers=2, cells=4, projection=4, subsample=(1, 1)),
    BlstmSpec(kind="blstm", mel=8, layers=2, cells=4, projection=4, subsample=(1, 1), vgg=(2, 2)),
    TransformerSpec(kind="transformer", mel=8, width=8, inner=8, attention_heads=2, encoder_layers=1, decoder_layers=1),
    ConformerSpec(kind="conformer", variant="mini-S"),
)


@pytest.mark.parametrize("spec", SMALL, ids=lambda spec: f"{spec.kind}-{bool(getattr(spec, 'vgg', None))}")
def test_a_layer_says_whether_it_drops(spec: ModelSpec) -> None:
    """What `computed_once` goes by: a layer that drops and says it does not would be kept as it was once."""
    model = build(spec, 5)
    model.initialise(1)
    x, lengths = randn(2, 40, dimension(spec.frontend)), torch.tensor([40, 31])
    for name in model.trunk:
        calls: list[Tensor] = []

        def drop(y: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(y)
            return y

        x, lengths = model.layer(name)(x, lengths, drop)
        assert model.layer(name).drops == bool(calls), name


def test_masks_differ_between_everything_that_names_them():
    masks = [mask(["u"], 20), mask(["v"], 20), mask(["u"], 20, layer="b"), mask(["u"], 20, epoch=2)]
    masks.append(mask(["u"], 20, seed=2))
    drop = Noise(RATES, 1, 1, ["u"]).drop_for("a")
    masks.append([drop(torch.ones(1, 20, 33)) for _ in range(2)][1])  # the second place of the same layer
    for i, one in enumerate(masks):
        for other in masks[:i]:
            # Independent masks agree where both keep or both drop: 0.6² + 0.4² = 0.52 of 660 units.
            assert 0.4 < ((one == 0) == (other == 0)).float().mean() < 0.64


@pytest.mark.parametrize("rate", [0.05, 0.4, 0.75])
def test_dropout_keeps_the_mean_and_drops_its_share(rate: float):
    x = torch.ones(4, 100, 501)
    y = Noise({"a": rate}, 1, 1, list("uvwx")).drop_for("a")(x)
    dropped = (y == 0).float()
    assert y[y != 0].unique().tolist() == pytest.approx([1 / (1 - rate)], abs=1e-4)
    assert dropped.mean().item() == pytest.approx(rate, abs=4e-3)
    assert dropped.mean(dim=(1, 2)).tolist() == pytest.approx([rate] * 4, abs=8e-3)
    assert dropped.mean(dim=(0, 1)).tolist() == pytest.approx([rate] * 501, abs=0.12)  # no unit stands out


def test_neighbouring_units_and_frames_are_dropped_independently():
    dropped = (mask(["u"], 400, units=400)[0] == 0).float() - 0.4
    for shifted, other in ((dropped[1:], dropped[:-1]), (dropped[:, 1:], dropped[:, :-1]), (dropped.T, dropped)):
        assert abs((shifted * other).mean().item()) < 0.002  # 160 000 products of variance 0.24²: 3.3 deviations


def test_no_rate_means_no_change():
    x = randn(1, 5, 7)
    noise = Noise(RATES, 1, 1, ["u"])
    assert noise.drop_for("off")(x) is x
    assert noise.drop_for("not named")(x) is x


class Normed(Layer):
    """A linear layer with batch normalisation, as later models have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        return drop(self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        nn.init.uniform_(self.linear.weight, -1.0, 1.0, generator=generator)
        nn.init.zeros_(self.linear.bias)
        self.norm.reset_parameters()


def normed_model(outputs: int = 5) -> LayeredModel:
    model = LayeredModel({"low": Normed(3, 4), "high": Normed(4, outputs)})
    model.initialise(1)
    return model


def test_norms_of_still_layers_stay_in_evaluation_mode():
    model = normed_model()
    model.still = frozenset({"low"})
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.eval()
    model.train()
    model(randn(2, 6, 3), torch.tensor([6, 6]))
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {f"layers.high.norm.{key}" for key in ("running_mean", "running_var", "num_batches_tracked")}
    assert model.layer("low").training  # only the norm inside stands still


def test_a_layers_first_weights_depend_on_the_seed_and_its_name_alone():
    one, other = normed_model(), normed_model(outputs=9)
    assert torch.equal(one.layer("low").linear.weight, other.layer("low").linear.weight)
    one.reset_layer("low", seed=2)
    assert not torch.equal(one.layer("low").linear.weight, other.layer("low").linear.weight)


def test_load_layers_takes_the_named_ones_only():
    model, source = normed_model(), normed_model()
    source.initialise(7)
    model.load_layers(source.state_dict(), ["low"], "the source")
    assert torch.equal(model.layer("low").linear.weight, source.layer("low").linear.weight)
    assert not torch.equal(model.layer("high").linear.weight, source.layer("high").linear.weight)


def test_load_layers_says_which_layer_does_not_fit():
    model = normed_model()
    other = normed_model(outputs=6).state_dict()
    with pytest.raises(UserError, match=r"s.st: layer high .*linear.weight is \(5, 4\) here, \(6, 4\) there.*reset it"):
        model.load_layers(other, ["low", "high"], "s.st")
    with pytest.raises(UserError, match="layer low does not fit this model: it is missing there"):
        model.load_layers({}, ["low"], "s.st")
    with pytest.raises(UserError, match="has layers that this model has not: \\['middle'\\]"):
        model.load_layers({"layers.middle.weight": torch.ones(1)}, [], "s.st")
    low = {key: tensor for key, tensor in model.layer_state("low").items() if "bias" not in key}
    with pytest.raises(UserError, match=r"layer low .* expected tensors .*low\.linear\.bias"):
        model.load_layers(low, ["low"], "s.st")


@pytest.mark.parametrize(
    "spec",
    [
        DeepSpeechSpec(kind="deepspeech", hidden=8, context=2),
        QuartzNetSpec(kind="quartznet", variant="mini-3x1"),
        QuartzNetSpec(kind="quartznet", variant="mini-5x2"),
    ],
    ids=["deepspeech", "mini-3x1", "mini-5x2"],
)
def test_what_lies_beyond_an_utterances_end_reaches_nothing(spec: DeepSpeechSpec | QuartzNetSpec):
    """Of every layer, in training: neither valid frames nor statistics nor gradients. Kept activations rest on it."""
    lengths = torch.tensor([24, 17, 3])
    x = randn(3, 24, dimension(spec.frontend))
    for name in build(spec, 5).layers:
        results = []
        for rubbish in (0.0, 1e3):
            model = build(spec, 5)
            model.initialise(1)
            layer, given = model.layer(name).train(), x.clone()
            for row, length in enumerate(lengths.tolist()):
                given[row, length:] = rubbish
            given.requires_grad_()
            y, shorter = layer(given, lengths, keep)
            valid = [row[:length] for row, length in zip(y, shorter.tolist(), strict=True)]
            torch.cat(valid).square().sum().backward()
            assert given.grad is not None
            inside = [row[:length] for row, length in zip(given.grad, lengths.tolist(), strict=True)]
            gradients = [p.grad for p in layer.parameters() if p.grad is not None]
            results.append([*valid, *inside, *gradients, *layer.buffers()])
        assert all(torch.equal(one, other) for one, other in zip(*results, strict=True)), name
        assert y.shape[1] == layer.padded(x.shape[1])
        lengths, x = shorter, y.detach()

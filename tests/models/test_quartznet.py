"""QuartzNet: published sizes, NeMo's own numbers (kept in quartznet.npz), and itself in other batches."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.make_golden_quartznet import (
    CLASSES,
    NOVOGRAD,
    SPEC,
    STEPS,
    batch,
    changes,
    nemo_results,
    thinned,
    weights,
)
from thaw.config.models import QuartzNetSpec
from thaw.models import LayeredModel, Noise, build
from thaw.models.layered import keep
from thaw.models.quartznet import BatchNorm, ConvBlock, by_channel, by_frame, nemo_keys
from thaw.surgery.surgery import parameter_counts
from thaw.tasks.ctc import ctc_loss
from thaw.training.optim import NovoGrad

GOLDEN = dict(np.load(Path(__file__).parent / "quartznet.npz"))
SMALL = QuartzNetSpec(kind="quartznet", variant="mini-3x1")
PUBLISHED = {"15x5": 18_924_381, "10x5": 12_818_781, "5x5": 6_713_181, "5x3": 6_407_005}


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def small(seed: int = 1, spec: QuartzNetSpec = SMALL) -> LayeredModel:
    model = build(spec, 9)
    model.initialise(seed)
    return model


def spec_of(variant: str) -> QuartzNetSpec:
    return QuartzNetSpec.model_validate({"kind": "quartznet", "variant": variant})


# --- sizes and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_size(variant: str) -> None:
    with torch.device("meta"):
        model = build(spec_of(variant), 29)
    assert parameter_counts(model)["total"] == PUBLISHED[variant]
    assert tuple(model.layers) == spec_of(variant).layer_names


def test_published_size_of_each_layer() -> None:
    with torch.device("meta"):
        model = build(spec_of("15x5"), 35)
    counts = parameter_counts(model)
    assert counts["total"] == 18_930_531  # Russian: 34 letters
    wanted = {"conv_1": 19_008, "block_1": 438_528, "block_4": 446_208, "block_7": 1_434_368, "block_8": 1_709_568}
    wanted |= {"block_10": 1_740_288, "block_15": 1_771_008, "conv_2": 307_712, "conv_3": 526_336}
    assert {name: counts["by_layer"][name] for name in wanted} == wanted


def test_nemos_names() -> None:
    """Every tensor has one, and 93 norms of five tensors, counts included, make NeMo's 637."""
    spec = spec_of("15x5")
    with torch.device("meta"):
        own = build(spec, 29).state_dict()
    keys = nemo_keys(spec)
    assert set(keys) == set(own)
    assert len(set(keys.values())) == len(keys) == 637 - 93
    assert keys["layers.conv_1.sub.0.depthwise.weight"] == "encoder.encoder.0.mconv.0.conv.weight"
    assert keys["layers.block_1.sub.4.pointwise.weight"] == "encoder.encoder.1.mconv.21.conv.weight"
    assert keys["layers.block_15.sub.4.norm.running_var"] == "encoder.encoder.15.mconv.22.running_var"
    assert keys["layers.block_15.residual.pointwise.weight"] == "encoder.encoder.15.res.0.0.conv.weight"
    assert keys["layers.conv_3.sub.0.norm.bias"] == "encoder.encoder.17.mconv.1.bias"
    assert keys["layers.decoder.bias"] == "decoder.decoder_layers.0.bias"


# --- NeMo's numbers ---------------------------------------------------------------------------------------------------


def our_results(spec: QuartzNetSpec, steps: int) -> dict[str, Tensor]:
    """What `nemo_results` gives, by thaw's model, loss and optimiser."""
    model = build(spec, CLASSES)
    model.load_layers(weights(spec, CLASSES), list(model.layers), "a test")
    parameters = dict(model.named_parameters())
    optimizer = NovoGrad(parameters, NOVOGRAD["betas"], NOVOGRAD["eps"], NOVOGRAD["weight_decay"])
    x, lengths, labels, counts = batch()
    model.eval()
    with torch.no_grad():
        logits, valid = model(x, lengths)
    results = {"eval": F.log_softmax(logits, -1), "valid": valid}
    model.train()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        logits, valid = model(x, lengths)
        loss = ctc_loss(logits, valid, labels, counts).mean()
        loss.backward()
        results |= {f"train {step}": F.log_softmax(logits.detach(), -1), f"loss {step}": loss.detach()}
        optimizer.step(NOVOGRAD["lr"])
        results |= {f"{name} {step}": tensor.clone() for name, tensor in model.state_dict().items()}
    return results


def test_outputs_and_training_steps_are_nemos() -> None:
    """A weight changes by 0.01 over its whole tensor, so by little: its changes are compared, not its values.

    A step makes rounding larger: with the last bit of its input changed, NeMo differs from itself by 1e-5 in training.
    """
    start = weights(SPEC, CLASSES)
    ours = thinned(our_results(SPEC, STEPS), start)
    assert ours.keys() == GOLDEN.keys()
    for key, expected in GOLDEN.items():
        atol = 1e-6 if key == "eval" or key.startswith("layers.") else 3e-5 if key == "train 2" else 1e-5
        np.testing.assert_allclose(ours[key], expected, rtol=1e-5, atol=atol, err_msg=key)
    assert GOLDEN["loss 2"] < GOLDEN["loss 1"] - 1


@pytest.mark.parametrize("variant", ["mini-5x2", "5x3"])
def test_the_installed_nemos_numbers(variant: str) -> None:
    pytest.importorskip("nemo.collections.asr.losses.ctc", reason="NeMo is not installed", exc_type=ImportError)
    spec = spec_of(variant)
    start = weights(spec, CLASSES)
    ours, theirs = (changes(results, start) for results in (our_results(spec, 1), nemo_results(spec, CLASSES, 1)))
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        torch.testing.assert_close(
            ours[key], expected, rtol=1e-5, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


# --- batches ----------------------------------------------------------------------------------------------------------


def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch() -> None:
    """Norms do something here; what lies in the padding must not matter."""
    model = build(SPEC, CLASSES)
    model.load_state_dict(weights(SPEC, CLASSES))
    model.eval()
    lengths = torch.tensor([75, 40, 33, 2, 1])
    x = randn(5, 75, 64) + 3.0
    with torch.no_grad():
        logits, shorter = model(x, lengths)
        assert logits.shape == (5, 40, CLASSES)  # half of 80, the next multiple of 16
        assert shorter.tolist() == [38, 20, 17, 1, 1]
        for row, length in enumerate(lengths.tolist()):
            alone, _ = model(x[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(alone[0, : shorter[row]], logits[row, : shorter[row]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 159, 160, 161])
def test_frames_are_those_the_specification_counts(frames: int) -> None:
    logits, lengths = small().eval()(randn(1, frames, 64), torch.tensor([frames]))
    samples = {1: 0}.get(frames, (frames - 1) * 160)  # of v1.0: frames - 1 whole steps
    if samples > 256:
        assert lengths.tolist() == [SMALL.frames(samples)]
    assert lengths.tolist() == [(frames + 1) // 2]
    assert logits.shape[1] >= (frames + 1) // 2


def test_in_training_norms_see_the_padding() -> None:
    """As published: mean and variance are over all frames of the batch, and so depend on how far it is padded."""
    x = randn(1, 48, 64)
    means = []
    for frames in (48, 64):
        model = small()
        model.train()
        model(F.pad(x, (0, 0, 0, frames - 48)), torch.tensor([48]))
        norm = model.layer("conv_1").sub[0].norm  # type: ignore[index, union-attr]
        assert isinstance(norm, BatchNorm)
        means.append(norm.running_mean)
    torch.testing.assert_close(means[1], means[0] * 48 / 64)  # beyond the end, convolutions without bias give zero


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (1, 3)])
@pytest.mark.parametrize("frames", [1, 2, 29, 30, 31])
def test_both_layouts_of_the_convolution_over_time_agree(frames: int, stride: int, dilation: int) -> None:
    x, weight = randn(2, frames, 6).requires_grad_(), randn(6, 1, 11).requires_grad_()
    one, other = (over(x, weight, stride, dilation) for over in (by_frame, by_channel))
    torch.testing.assert_close(one, other)
    assert one.shape == (2, (frames + 1) // stride if stride > 1 else frames, 6)
    gradients = [torch.autograd.grad(y.square().sum(), (x, weight)) for y in (one, other)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_follows_every_relu_of_every_layer_but_the_last() -> None:
    places = []
    x, lengths = randn(1, 32, 64), torch.tensor([32])
    model = small(spec=SPEC).eval()
    for name in model.layers:

        def drop(y: Tensor, name: str = name) -> Tensor:
            assert y.min() >= 0  # after the activation
            places.append(name)
            return y

        x, lengths = model.layer(name)(x, lengths, drop)
    blocks = [f"block_{number}" for number in range(1, 6) for _ in range(2)]
    assert places == ["conv_1", *blocks, "conv_2", "conv_3"]


def test_dropout_disturbs() -> None:
    model = small().eval()
    x, lengths = randn(2, 32, 64), torch.tensor([32, 30])
    quiet, _ = model(x, lengths)
    noisy, _ = model(x, lengths, Noise(dict.fromkeys(model.layers, 0.2), 1, 1, ["a", "b"]))
    assert not torch.allclose(quiet, noisy, rtol=1e-3, atol=1e-4)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_first_weights() -> None:
    """Xavier uniform kernels, torch's bias of the decoder, norms that do nothing."""
    state = small().state_dict()
    fans = {"block_1.sub.0.pointwise": 96 + 96, "conv_3.sub.0.pointwise": 128 + 256, "decoder": 256 + 9}
    fans |= {"block_3.sub.0.depthwise": 25 * (1 + 128), "block_2.residual.pointwise": 96 + 128}
    for name, fan in fans.items():
        weight, bound = state[f"layers.{name}.weight"], math.sqrt(6 / fan)
        assert 0.97 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert 0 < state["layers.decoder.bias"].abs().max() <= 1 / 16
    constant = {"norm.weight": 1, "norm.bias": 0, "running_mean": 0, "running_var": 1}
    for ending, value in constant.items():
        assert all((tensor == value).all() for key, tensor in state.items() if key.endswith(ending))


def test_a_reset_layer_forgets_its_statistics_too() -> None:
    model = small()
    fresh = {name: tensor.clone() for name, tensor in model.layer_state("block_1").items()}
    model.train()
    model(randn(2, 32, 64), torch.tensor([32, 20]))
    assert not torch.equal(model.layer_state("block_1")["layers.block_1.sub.0.norm.running_var"], torch.ones(96))
    model.reset_layer("block_1", 1)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in model.layer_state("block_1").items())


def test_norms_of_still_layers_keep_their_statistics() -> None:
    model = small()
    model.still = frozenset({"block_1"})
    model.train()
    model(randn(2, 32, 64), torch.tensor([32, 20]))
    moved = {name: tensor for name, tensor in model.state_dict().items() if name.endswith("running_mean")}
    assert [name for name, tensor in moved.items() if not tensor.any()] == [
        "layers.block_1.sub.0.norm.running_mean",
        "layers.block_1.residual.norm.running_mean",
    ]


def test_no_state_but_floats() -> None:
    """No count of batches, which would be an int64 among the weights."""
    assert all(tensor.dtype == torch.float32 for tensor in small().state_dict().values())


def test_norms_are_as_published() -> None:
    norms = [module for module in small().modules() if isinstance(module, BatchNorm)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
    block = small().layer("block_2")
    assert isinstance(block, ConvBlock)
    y, _ = block(randn(1, 20, 96), torch.tensor([20]), keep)
    assert y.is_contiguous()  # channels last, as the next layer wants it

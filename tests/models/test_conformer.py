"""Conformer: published sizes, NeMo's own numbers (kept in conformer.npz), torchaudio's, and itself in other batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.models.conformer import ConformerLayer

from tests.models.make_golden_conformer import FEATURES, NORMS, SPEC, inputs, weights
from tests.models.make_golden_conformer import LENGTHS as LENGTHS_OF_BLOCK
from thaw.config.conformer import ConformerSpec
from thaw.models import LayeredModel, Noise, build
from thaw.models.conformer import Attention, BatchNorm, ConformerBlock, Depthwise, GroupNorm, shifted
from thaw.models.layered import keep
from thaw.surgery.surgery import parameter_counts

GOLDEN = dict(np.load(Path(__file__).parent / "conformer.npz"))
LENGTHS = (81, 60, 33, 2, 1)
EVERY_KIND: list[dict[str, Any]] = [
    {"norm": "batch"},
    {"norm": "group"},
    {"norm": "group", "first": "convolution", "causal": True, "stack": 2, "left_context": 3, "kernel": 15},
    {"norm": "batch", "first": "convolution", "causal": True, "stack": 4},
]


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def spec_of(variant: str = "mini-S", **keys: Any) -> ConformerSpec:
    return ConformerSpec.model_validate({"kind": "conformer", "variant": variant, **keys})


def made(spec: ConformerSpec, classes: int = 9) -> LayeredModel:
    """Weights drawn, norms that do something: in training, they would."""
    model = build(spec, classes)
    model.initialise(1)
    generator = torch.Generator().manual_seed(2)
    for name, tensor in model.state_dict().items():
        if "norm" in name or "running" in name or name.endswith(("attention.u", "attention.w")):
            tensor.copy_(torch.empty(tensor.shape).uniform_(0.5, 1.5, generator=generator))
    return model


def block(model: LayeredModel, name: str = "block_1") -> ConformerBlock:
    layer = model.layer(name)
    assert isinstance(layer, ConformerBlock)
    return layer


# --- sizes and names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    ("variant", "subsampling", "each", "blocks"),
    [("S", 603_072, 506_736, 16), ("M", 1_903_616, 1_588_992, 16), ("L", 7_608_320, 6_323_712, 17)],
)
def test_published_size(variant: str, subsampling: int, each: int, blocks: int, norm: str) -> None:
    """24 d² + 32 d + k d a block, which with k = 32 is what Table 2 of Zhou et al. (2022) has; k = 31 has a middle."""
    spec = spec_of(variant, norm=norm)
    with torch.device("meta"):
        model = build(spec, 29)
    width = spec.sizes.width
    expected = {"subsampling": subsampling, **dict.fromkeys(spec.block_names, each), "output": 29 * (width + 1)}
    assert parameter_counts(model)["by_layer"] == expected
    assert each == 24 * width**2 + 32 * width + 31 * width
    assert len(spec.block_names) == blocks
    assert tuple(model.layers) == spec.layer_names
    published = {"S": 8.1e6, "M": 25.4e6, "L": 107.5e6}[variant]
    assert abs(blocks * (each + width) - published) < 0.05e6


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"norm": "group", "norm_groups": 5}, "do not divide 32 channels"),
        ({"norm": "batch", "norm_groups": 4}, "batch norm has none"),
        ({"kernel": 32}, "take 31 or 33"),
        ({"left_context": 3}, "only a causal model"),
        ({"stack": 5}, "mini-S has 4 blocks"),
    ],
)
def test_what_cannot_be_is_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        spec_of(**keys)


# --- NeMo's and torchaudio's numbers ----------------------------------------------------------------------------------


def golden_results() -> dict[str, Tensor]:
    """What `nemo_results` gives, by thaw's layers."""
    results = {}
    x, lengths = inputs(LENGTHS_OF_BLOCK, SPEC.sizes.width), torch.tensor(LENGTHS_OF_BLOCK)
    for norm in NORMS:
        layer = block(build(SPEC.model_copy(update={"norm": norm}), 3))
        layer.load_state_dict(weights(SPEC.model_copy(update={"norm": norm}), "block_1"))
        layer.eval()
        with torch.no_grad():
            if norm == "batch":
                y, _ = layer(x, lengths, keep)
                results |= {f"{norm} eval {row}": y[row, :length] for row, length in enumerate(LENGTHS_OF_BLOCK)}
            layer.train()
            results[f"{norm} train"] = layer(x[:1], lengths[:1], keep)[0][0]
    subsampling = build(SPEC, 3).layer("subsampling")
    subsampling.load_state_dict(weights(SPEC, "subsampling"))
    with torch.no_grad():
        y, shorter = subsampling(inputs(FEATURES, 80), torch.tensor(FEATURES), keep)
    return results | {"subsampling": y, "subsampling lengths": shorter}


def test_outputs_are_nemos() -> None:
    ours = golden_results()
    assert ours.keys() == GOLDEN.keys()
    for name, expected in GOLDEN.items():
        torch.testing.assert_close(ours[name], torch.from_numpy(expected), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("first", ["attention", "convolution"])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_are_torchaudios_where_positions_count_alike(norm: str, first: str, training: bool) -> None:
    """It knows no positions, and no padding: weights of positions are zero here, and one utterance is alone."""
    groups = {"norm_groups": 1} if norm == "group" else {}
    ours = block(made(spec_of(norm=norm, first=first, **groups)))
    theirs = ConformerLayer(32, 128, 2, 31, 0.0, norm == "group", first == "convolution")
    theirs.load_state_dict(torchaudio_state(ours, theirs))
    ours.conv.inner_norm.eps = 1e-5
    x = randn(1, 40, 32)
    ours.train(training)
    theirs.train(training)
    with torch.no_grad():
        found, _ = ours(x, torch.tensor([40]), keep)
        expected = theirs(x.transpose(0, 1), None).transpose(0, 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def torchaudio_state(ours: ConformerBlock, theirs: nn.Module) -> dict[str, Tensor]:
    """The weights of a block by torchaudio's names; positions lose theirs."""
    for silent in (ours.attention.u, ours.attention.w, ours.attention.pos.weight):
        nn.init.zeros_(silent)
    names = {
        "norm": "final_layer_norm",
        "attention.norm": "self_attn_layer_norm",
        "attention.out": "self_attn.out_proj",
    }
    for place, part in enumerate(("norm", "w1", None, None, "w2")):
        names |= {f"{ff}.{part}": f"{theirs}.sequential.{place}" for ff, theirs in (("ff1", "ffn1"), ("ff2", "ffn2"))}
    convs = {"pw1": 0, "dw": 2, "inner_norm": 3, "pw2": 5}
    names |= {"conv.norm": "conv_module.layer_norm"}
    names |= {f"conv.{part}": f"conv_module.sequential.{place}" for part, place in convs.items()}
    own = ours.state_dict()
    state = {key: tensor for key, tensor in theirs.state_dict().items() if key.endswith("num_batches_tracked")}
    for name, tensor in own.items():
        part, _, key = name.rpartition(".")
        if part in names:
            state[f"{names[part]}.{key}"] = tensor.reshape(theirs.state_dict()[f"{names[part]}.{key}"].shape)
    for key in ("weight", "bias"):
        state[f"self_attn.in_proj_{key}"] = torch.cat([own[f"attention.{part}.{key}"] for part in "qkv"])
    return state


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "training"),
    [(keys, training) for keys in EVERY_KIND for training in (False, True) if not training or keys["norm"] == "group"],
)
def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch(keys: dict[str, Any], training: bool) -> None:
    """Whatever lies in the padding. Batch norm in training is of the batch, and so has no utterance alone."""
    model = made(spec_of(**keys)).train(training)
    x, lengths = randn(5, 81, 80) + 3.0, torch.tensor(LENGTHS)
    with torch.no_grad():
        logits, shorter = model(x, lengths)
        for row, length in enumerate(LENGTHS):
            alone, _ = model(x[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(alone[0, : shorter[row]], logits[row, : shorter[row]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keys", EVERY_KIND)
def test_padding_reaches_no_statistic_and_no_gradient(keys: dict[str, Any]) -> None:
    model = made(spec_of(**keys)).train()
    lengths = torch.tensor(LENGTHS)
    results = []
    for filler in (0.0, 50.0):
        x = randn(5, 97, 80)
        for row, length in enumerate(LENGTHS):
            x[row, length:] = filler
        x.requires_grad_()
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        logits, shorter = model(x, lengths)
        inside = torch.arange(logits.shape[1]) < shorter.unsqueeze(1)
        gradients = torch.autograd.grad(logits[inside].square().sum(), [x, *model.parameters()])
        assert all(not gradients[0][row, length:].any() for row, length in enumerate(LENGTHS))
        buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
        results.append([logits[inside], *gradients[1:], *buffers.values()])
        model.load_state_dict(start)
    assert len(results[0]) > 20
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_batch_norm_in_training_is_torchs_where_nothing_is_padded_and_of_valid_frames_where_something_is() -> None:
    ours, theirs = BatchNorm(6).train(), nn.BatchNorm1d(6).train()
    x = randn(2, 7, 6) + 1.0
    expected = theirs(x.flatten(0, 1)).view(x.shape)
    torch.testing.assert_close(ours(x, None), expected)
    padded = F.pad(x, (0, 0, 0, 2), value=40.0)
    again = BatchNorm(6).train()
    torch.testing.assert_close(again(padded, torch.tensor([7, 7]))[:, :7], expected)
    torch.testing.assert_close(again.running_var, theirs.running_var)


def test_group_norm_is_torchs_where_nothing_is_padded() -> None:
    ours, theirs = GroupNorm(4, 12, causal=False), nn.GroupNorm(4, 12, eps=1e-3)
    x = randn(3, 20, 12) * 2.0 + 1.0
    torch.testing.assert_close(ours(x, None), theirs(x.transpose(1, 2)).transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_cumulative_group_norm_is_that_of_the_frames_so_far() -> None:
    norm, x = GroupNorm(4, 12, causal=True), randn(1, 9, 12) + 1.0
    whole = norm(x, None)
    for frame in range(9):
        overall = GroupNorm(4, 12, causal=False)(x[:, : frame + 1], None)
        torch.testing.assert_close(whole[:, frame], overall[:, frame], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 63, 64, 65])
@pytest.mark.parametrize("stack", [0, 3])
def test_frames_are_those_the_specification_counts(frames: int, stack: int) -> None:
    spec = spec_of(stack=stack)
    logits, lengths = made(spec).eval()(randn(1, frames, 80), torch.tensor([frames]))
    assert lengths.tolist() == [spec.frames(frames * 160)] == [logits.shape[1]]
    model = build(spec, 3)
    assert model.padded(frames, len(model.trunk)) == logits.shape[1]
    assert spec.frames(256) == 0


# --- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_causal_model_does_not_see_what_is_to_come(norm: str) -> None:
    """A frame of the output is of eight frames of features, where two of four are stacked."""
    model = made(spec_of(norm=norm, first="convolution", causal=True, stack=2)).eval()
    x, lengths = randn(1, 96, 80), torch.tensor([96])
    other = x.clone()
    other[:, 48:] += 5.0
    with torch.no_grad():
        one, two = model(x, lengths)[0], model(other, lengths)[0]
    torch.testing.assert_close(one[:, :6], two[:, :6], rtol=1e-5, atol=1e-5)
    assert (one[:, 6:] - two[:, 6:]).abs().max() > 0.01
    plain = made(spec_of(norm=norm)).eval()
    with torch.no_grad():
        assert (plain(x, lengths)[0] - plain(other, lengths)[0])[:, :11].abs().max() > 0.01


def test_left_context_ends() -> None:
    """A convolution of three and two frames of attention, in each of two blocks: eight frames back."""
    spec = spec_of(norm="batch", first="convolution", causal=True, left_context=2, kernel=3)
    model = made(spec).eval()
    x, lengths = randn(1, 50, 32), torch.tensor([50])
    other = x.clone()
    other[:, 10] = x[:, 20]
    for name in spec.block_names[:2]:
        with torch.no_grad():
            (x, _), (other, _) = (block(model, name)(each, lengths, keep) for each in (x, other))
    changed = (x - other).abs().amax((0, 2)) > 0
    assert changed.nonzero().flatten().tolist() == list(range(10, 10 + 2 * (2 + 2) + 1))


# --- attention --------------------------------------------------------------------------------------------------------


def test_scores_are_of_content_and_of_distance() -> None:
    """Transformer-XL's four terms, written out pair by pair."""
    attention = Attention(8, 2)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    x = randn(1, 5, 8)
    y = attention.norm(x)[0]
    q, k, v = (each(y).view(5, 2, 4) for each in (attention.q, attention.k, attention.v))
    out = torch.zeros(5, 2, 4)
    for head in range(2):
        for i in range(5):
            scores = []
            for j in range(5):
                rates = [10000.0 ** (-2 * pair / 8) for pair in range(4)]
                place = [each for rate in rates for each in (math.sin((i - j) * rate), math.cos((i - j) * rate))]
                p = attention.pos(torch.tensor(place)).view(2, 4)[head]
                score = (q[i, head] + attention.u[head, 0]) @ k[j, head] + (q[i, head] + attention.w[head, 0]) @ p
                scores.append(score / 2)
            out[i, head] = torch.stack(scores).softmax(0) @ v[:, head]
    torch.testing.assert_close(attention(x, None, keep)[0], attention.out(out.flatten(1)), rtol=1e-4, atol=1e-5)


def test_shift() -> None:
    scores = torch.arange(2, -3, -1).expand(1, 1, 3, 5)  # a score is its distance
    assert shifted(scores)[0, 0].tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_is_a_function_of_the_utterance_not_of_the_batch() -> None:
    model = made(spec_of(norm="group")).train()
    rates = dict.fromkeys(model.layers, 0.2)
    x, lengths = randn(2, 64, 80), torch.tensor([64, 40])
    quiet, _ = model(x, lengths)
    noisy, shorter = model(x, lengths, Noise(rates, 1, 1, ["a", "b"]))
    assert not torch.allclose(quiet, noisy, rtol=1e-3, atol=1e-3)
    other, _ = model(x.flip(0), lengths.flip(0), Noise(rates, 1, 1, ["b", "a"]))
    torch.testing.assert_close(other.flip(0)[0], noisy[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.flip(0)[1, : shorter[1]], noisy[1, : shorter[1]], rtol=1e-5, atol=1e-5)


def test_every_module_of_a_block_has_dropout() -> None:
    places: list[str] = []

    def drop(y: Tensor) -> Tensor:
        places.append("wide" if y.shape[2] == 128 else "narrow")
        return y

    model = made(spec_of())
    block(model)(randn(1, 8, 32), torch.tensor([8]), drop)
    assert places == ["wide", "narrow", "narrow", "narrow", "wide", "narrow"]


# --- weights ----------------------------------------------------------------------------------------------------------


def test_first_weights() -> None:
    """Uniform by fan-in, biases too; positions count alike; norms do nothing."""
    model = build(spec_of("M"), 9)
    model.initialise(1)
    state = model.state_dict()
    fans = {"subsampling.conv1": 9, "subsampling.conv2": 9 * 256, "subsampling.out": 20 * 256}
    parts = {"ff1.w1": 256, "ff1.w2": 1024, "attention.q": 256, "attention.out": 256, "conv.pw1": 256, "conv.dw": 31}
    fans |= {f"block_2.{part}": fan for part, fan in parts.items()}
    for name, fan in fans.items():
        for kind in ("weight", "bias"):
            tensor = state[f"layers.{name}.{kind}"]
            assert tensor.abs().max() <= fan**-0.5
            assert tensor.std().item() == pytest.approx((fan * 3) ** -0.5, rel=0.15)
    assert "layers.block_1.attention.pos.bias" not in state
    for name, tensor in state.items():
        if name.endswith(("norm.weight", "running_var")):
            assert (tensor == 1).all()
        elif name.endswith(("norm.bias", "running_mean", "attention.u", "attention.w")):
            assert (tensor == 0).all()


def test_a_reset_layer_forgets_its_statistics_too() -> None:
    model = build(spec_of(norm="batch"), 9)
    model.initialise(1)
    fresh = {name: tensor.clone() for name, tensor in model.layer_state("block_1").items()}
    model.train()
    model(randn(2, 64, 80), torch.tensor([64, 40]))
    assert model.layer_state("block_1")["layers.block_1.conv.inner_norm.running_mean"].any()
    model.reset_layer("block_1", 1)
    assert all(torch.equal(tensor, fresh[name]) for name, tensor in model.layer_state("block_1").items())
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())


def test_both_layouts_of_the_convolution_agree_and_a_causal_one_looks_back_only() -> None:
    late, centred = Depthwise(4, 5, causal=True), Depthwise(4, 5, causal=False)
    for module in (late, centred):
        nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(module.bias)
    x = randn(1, 12, 4)
    torch.testing.assert_close(late(x)[:, 2:], centred(x)[:, :-2])
    expected = F.conv1d(F.pad(x, (0, 0, 4, 0)).transpose(1, 2), late.weight, groups=4).transpose(1, 2)
    torch.testing.assert_close(late(x), expected)


def test_what_is_inert_changes_no_output() -> None:
    model = made(spec_of(norm="group")).eval()
    x, lengths = randn(2, 64, 80), torch.tensor([64, 40])
    before, _ = model(x, lengths)
    with torch.no_grad():
        for name in block(model).inert:
            block(model).get_parameter(name).add_(0.5)
    after, _ = model(x, lengths)
    assert block(model).inert
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)

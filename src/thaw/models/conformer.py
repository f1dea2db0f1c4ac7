"""Conformer as named layers: subsampling, block_1 … block_N, output.

Sources: Gulati et al. (2020); the order of modules, their biases and first weights as NVIDIA/NeMo 3.0.0 has them
(nemo/collections/asr/parts/submodules/conformer_modules.py, multi_head_attention.py), with the sizes of
`thaw.config.conformer`. Unlike there, nothing of the padding reaches a norm: statistics are of valid frames alone.

Shapes: B batch, T frames, F features, D width, H heads, K channels of a head, C channels, G groups, V classes.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.conformer import ConformerSpec
from thaw.config.models import head_name
from thaw.frontends import dimension
from thaw.models.deepspeech import Dense
from thaw.models.layered import Drop, HiddenUnits, Layer, LayeredModel, with_heads
from thaw.models.quartznet import by_channel, by_frame, masked, valid
from thaw.models.transducer import Joint, Transducer
from thaw.placing import on_device
from thaw.units import ByLanguage

Number = TypeVar("Number", int, Tensor)

EXPANSION = 4  # of the feed-forward modules
OUTSIDE = -1e4  # a score that no softmax lets through, and finite: a padded frame may have nothing to attend to


def conformer(spec: ConformerSpec, classes: ByLanguage[int]) -> LayeredModel:
    """The model with a head of V outputs for every language of `classes`, its weights not yet drawn."""
    width = spec.sizes.width
    layers: dict[str, Layer] = {
        "subsampling": Subsampling(dimension(spec.frontend), spec.sizes.channels, width, spec.causal)
    }
    for number, name in enumerate(spec.block_names, 1):
        layers[name] = ConformerBlock(spec, stacks=number == spec.stack)
    if spec.head == "rnnt":
        joints = {lang: Joint(width, spec.sizes.units, count) for lang, count in classes.items()}
        return Transducer(layers, joints, {lang: head_name(spec, lang) for lang in classes})
    return with_heads(spec, layers, {lang: Dense(width, count, clip=None) for lang, count in classes.items()})


# --- parts ------------------------------------------------------------------------------------------------------------


class BatchNorm(nn.BatchNorm1d):
    """Batch norm whose statistics are of valid frames; without a count of batches, which no momentum reads."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, C), valid frames (B,) or None where all are -> (B, T, C), anything in the padding."""
        flat = x.flatten(0, 1)
        if not self.training or lengths is None or int(lengths.min()) >= x.shape[1]:
            return super().forward(flat).view(x.shape)
        # Counted where the lengths are: a GPU that looks for its valid frames has the host wait for their number.
        inside = torch.arange(x.shape[1]) < lengths.unsqueeze(1)
        rows = on_device(inside.flatten().nonzero().squeeze(1), x.device)
        y: Tensor = super().forward(flat[rows])
        return torch.zeros_like(flat, dtype=y.dtype).index_copy(0, rows, y).view(x.shape)

    def reset_running_stats(self) -> None:
        """Statistics of nothing: mean 0, variance 1."""
        for statistic, value in ((self.running_mean, 0.0), (self.running_var, 1.0)):
            assert statistic is not None  # they are tracked
            statistic.fill_(value)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own would ask for the count


class GroupNorm(nn.GroupNorm):
    """Group norm whose statistics are of an utterance's valid frames; where `causal`, of those up to each frame.

    Both as tensorflow/lingvo lingvo/core/bn_layers.py (GroupNormLayer, `cumulative`), whose epsilon this is.
    """

    def __init__(self, groups: int, channels: int, causal: bool) -> None:
        super().__init__(groups, channels, eps=1e-3)
        self.causal = causal

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, C), valid frames (B,) or None where all are -> (B, T, C), anything in the padding."""
        inside = None if lengths is None else valid(x, lengths, x.shape[1])
        grouped = x.float().view(*x.shape[:2], self.num_groups, -1)  # (B, T, G, C / G)
        weights = x.new_ones(1, x.shape[1], 1) if inside is None else inside
        weights = weights.float().unsqueeze(3)  # (B, T, 1, 1)
        mean, variance = (self.cumulative if self.causal else self.overall)(grouped, weights)
        y = (grouped - mean) * torch.rsqrt(variance + self.eps)
        scaled: Tensor = y.flatten(2) * self.weight + self.bias
        return scaled.to(x.dtype)

    def overall(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, 1, G, 1) over frames and a group's channels; `weights` are 1 for valid frames."""
        total = weights.sum(1, keepdim=True) * x.shape[3]
        mean = (x * weights).sum((1, 3), keepdim=True) / total
        return mean, ((x - mean).square() * weights).sum((1, 3), keepdim=True) / total

    def cumulative(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, T, G, 1) over a group's channels in all frames up to each."""
        total = weights.cumsum(1).clamp(min=1) * x.shape[3]
        mean = (x * weights).sum(3, keepdim=True).cumsum(1) / total
        square = (x.square() * weights).sum(3, keepdim=True).cumsum(1) / total
        return mean, (square - mean.square()).clamp(min=0)


class Depthwise(nn.Module):
    """A convolution over time for each channel by itself, with bias, padded to the same length, or on the left only."""

    def __init__(self, channels: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.late = (kernel - 1) // 2 if causal else 0
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        over = by_channel if x.is_cuda else by_frame
        y = over(F.pad(x, (0, 0, self.late, 0)), self.weight, 1, 1)
        return y[:, : x.shape[1]] + self.bias


class FeedForward(nn.Module):
    """Norm, a layer four times as wide, Swish, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.w1 = nn.Linear(width, EXPANSION * width)
        self.w2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor, drop: Drop) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y: Tensor = self.w2(drop(F.silu(self.w1(self.norm(x)))))
        return drop(y)


class Attention(nn.Module):
    """Norm, then attention whose scores depend on how far apart frames are (Dai et al. 2019, Transformer-XL)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.pos = nn.Linear(width, width, bias=False)
        self.u = nn.Parameter(torch.empty(heads, 1, width // heads))
        self.w = nn.Parameter(torch.empty(heads, 1, width // heads))  # Dai et al. call it v

    def forward(self, x: Tensor, outside: Tensor | None, drop: Drop) -> Tensor:
        """(B, T, D) -> (B, T, D); `outside` (B or 1, 1, T or 1, T) is true where a frame (row) may not look (column).

        Dropout is of the output alone: a mask over pairs of frames would depend on how far a batch is padded.
        """
        x = self.norm(x)
        q, k, v = (each(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        p = self.pos(positions(x)).view(-1, self.heads, q.shape[3]).permute(1, 2, 0)  # (H, K, 2T - 1)
        scores = (q + self.u) @ k.transpose(2, 3) + shifted((q + self.w) @ p)  # (B, H, T, T)
        scores = scores / math.sqrt(q.shape[3])
        if outside is not None:
            scores = scores.masked_fill(outside, OUTSIDE)
        y: Tensor = self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
        return drop(y)


class Convolution(nn.Module):
    """Norm, a gated sum of channels, a convolution over time, batch or group norm, Swish, a sum of channels."""

    def __init__(self, spec: ConformerSpec) -> None:
        super().__init__()
        width = spec.sizes.width
        self.norm = nn.LayerNorm(width)
        self.pw1 = nn.Linear(width, 2 * width)
        self.dw = Depthwise(width, spec.kernel, spec.causal)
        self.inner_norm = BatchNorm(width) if spec.norm == "batch" else GroupNorm(spec.norm_groups, width, spec.causal)
        self.pw2 = nn.Linear(width, width)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> Tensor:
        """(B, T, D) and valid frames (B,) -> (B, T, D)."""
        inside = valid(x, lengths, x.shape[1])
        x = masked(F.glu(self.pw1(self.norm(x)), dim=2), inside)
        y: Tensor = self.pw2(F.silu(self.inner_norm(self.dw(x), lengths)))
        return drop(y)


# --- layers -----------------------------------------------------------------------------------------------------------


class Subsampling(Layer):
    """Two convolutions over time and frequency, each with a stride of two and ReLU, then a weighted sum of all."""

    def __init__(self, features: int, channels: int, width: int, causal: bool) -> None:
        super().__init__()
        self.sides = (2, 0) if causal else (1, 1)  # frames of padding before and after
        self.conv1 = nn.Conv2d(1, channels, 3, stride=2, padding=(0, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=2, padding=(0, 1))
        self.out = nn.Linear(channels * -(-features // 4), width)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T / 4 rounded up, D)."""
        x = masked(x, valid(x, lengths, x.shape[1])).unsqueeze(1)  # (B, 1, T, F)
        for conv in (self.conv1, self.conv2):
            x = F.relu(conv(F.pad(x, (0, 0, *self.sides))))
            lengths = halved(lengths)
            inside = valid(x, lengths, x.shape[2])
            x = masked(x, None if inside is None else inside.unsqueeze(1))
        return drop(self.out(x.transpose(1, 2).flatten(2))), lengths

    def padded(self, frames: int) -> int:
        """A quarter, rounded up."""
        return halved(halved(frames))

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform by fan-in."""
        draw(self, generator)


class ConformerBlock(Layer):
    """Half a feed-forward module, attention and convolution in the order of the spec, the other half, a norm.

    Where it `stacks`, two frames become one before all that: the last of an odd number is stacked on zeros.
    """

    inert = ("attention.k.bias",)  # adds the same to all scores of a frame, which a softmax takes out again
    apart = False  # attention sums over as many frames as the batch has: equal to rounding

    def __init__(self, spec: ConformerSpec, stacks: bool) -> None:
        super().__init__()
        width = spec.sizes.width
        self.spec = spec
        self.stack = nn.Linear(2 * width, width) if stacks else None
        self.ff1 = FeedForward(width)
        self.attention = Attention(width, spec.sizes.heads)
        self.conv = Convolution(spec)
        self.ff2 = FeedForward(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T', D)."""
        if self.stack is not None:
            x = masked(x, valid(x, lengths, x.shape[1]))
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2))
            x, lengths = self.stack(x.reshape(len(x), -1, 2 * x.shape[2])), halved(lengths)
        outside = self.outside(x, lengths)
        x = x + 0.5 * self.ff1(x, drop)
        if self.spec.first == "attention":
            x = x + self.attention(x, outside, drop)
            x = x + self.conv(x, lengths, drop)
        else:
            x = x + self.conv(x, lengths, drop)
            x = x + self.attention(x, outside, drop)
        return self.norm(x + 0.5 * self.ff2(x, drop)), lengths

    def outside(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """(B or 1, 1, T or 1, T): where a frame (row) may not look (column): padding, and what is to come."""
        frames = x.shape[1]
        at = torch.arange(frames, device=x.device)
        padding = None
        if int(lengths.min()) < frames:
            padding = (at >= on_device(lengths, x.device).unsqueeze(1))[:, None, None]
        if not self.spec.causal:
            return padding
        back = at.unsqueeze(1) - at
        future = back < 0
        if self.spec.left_context:
            future = future | (back > self.spec.left_context)
        return future[None, None] if padding is None else padding | future

    def padded(self, frames: int) -> int:
        """As many, or half as many where frames are stacked."""
        return halved(frames) if self.stack is not None else frames

    def hidden_units(self) -> tuple[HiddenUnits, ...]:
        """Those of both feed-forward modules."""
        return tuple(
            HiddenUnits(f"{name}.w1.weight", f"{name}.w1.bias", f"{name}.w2.weight", module.w1.out_features)
            for name, module in (("ff1", self.ff1), ("ff2", self.ff2))
        )

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform by fan-in; positions count alike, norms change nothing."""
        draw(self, generator)
        for bias in (self.attention.u, self.attention.w):
            nn.init.zeros_(bias)


def draw(layer: Layer, generator: torch.Generator) -> None:
    """Weights and biases uniform in ±1/sqrt(fan-in), drawn on the CPU; norms change nothing, statistics are of nothing.

    As NeMo has them: `reset_parameters_ff` and `reset_parameters_conv`, and what torch does with the others.
    """
    for module in layer.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | Depthwise):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for tensor in (module.weight, module.bias):
                if tensor is not None:
                    with torch.no_grad():
                        tensor.copy_(torch.empty(tensor.shape).uniform_(-bound, bound, generator=generator))
        elif isinstance(module, nn.LayerNorm | BatchNorm | GroupNorm):
            module.reset_parameters()


# --- positions --------------------------------------------------------------------------------------------------------


def positions(x: Tensor) -> Tensor:
    """(2T - 1, D): sines and cosines of how far back a frame is, from T - 1 to -(T - 1), as x (B, T, D) is."""
    frames, width = x.shape[1:]
    back = torch.arange(frames - 1, -frames, -1, device=x.device, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack([torch.sin(back * rates), torch.cos(back * rates)], 2).flatten(1).to(x.dtype)


def shifted(scores: Tensor) -> Tensor:
    """(B, H, T, 2T - 1), by frame and distance from T - 1 down -> (B, H, T, T), by frame and the frame looked at."""
    batch, heads, frames, distances = scores.shape
    scores = F.pad(scores, (1, 0)).view(batch, heads, distances + 1, frames)
    return scores[:, :, 1:].reshape(batch, heads, frames, distances)[..., :frames]


def halved(count: Number) -> Number:
    """Half, rounded up."""
    return (count + 1) // 2

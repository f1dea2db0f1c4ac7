"""QuartzNet as named layers: conv_1, block_1 … block_B, conv_2, conv_3, decoder.

Source: NVIDIA/NeMo v0.10.1 nemo/collections/asr/jasper.py and parts/jasper.py, with the sizes in `thaw.config.models`.
Shapes: B batch, T frames, C channels, V classes. Channels come last in memory too: on a CPU, that makes sums over
channels and norms fast, and convolutions over time as well if they are asked for in the right way (`by_frame`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.models import Block, QuartzNetSpec
from thaw.frontends import dimension
from thaw.models.deepspeech import draw_glorot
from thaw.models.layered import Drop, Layer, LayeredModel, with_heads
from thaw.placing import on_device
from thaw.units import ByLanguage

PAD_TO = 16  # feature frames of a batch are padded to a multiple of this: batch norm sees the padding in training


def quartznet(spec: QuartzNetSpec, classes: ByLanguage[int]) -> LayeredModel:
    """The model with a head of V outputs for every language of `classes`, its weights not yet drawn."""
    layers: dict[str, Layer] = {}
    channels = dimension(spec.frontend)
    for name, block in spec.blocks.items():
        layers[name] = ConvBlock(channels, block, pad_to=PAD_TO if name == "conv_1" else 1)
        channels = block.channels
    return with_heads(spec, layers, {lang: Decoder(channels, count) for lang, count in classes.items()})


class BatchNorm(nn.BatchNorm1d):
    """Batch norm with the published constants, and without a count of batches, which no momentum ever reads."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.1)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C); in training, frames of padding count as any other."""
        return super().forward(x.flatten(0, 1)).view(x.shape)

    def reset_running_stats(self) -> None:
        """Statistics of nothing: mean 0, variance 1."""
        for statistic, value in ((self.running_mean, 0.0), (self.running_var, 1.0)):
            assert statistic is not None  # they are tracked
            statistic.fill_(value)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own would ask for the count


class Depthwise(nn.Module):
    """A convolution over time for each channel by itself, of odd length, without bias, padded to "same"."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T / stride rounded up, C)."""
        over = by_channel if x.is_cuda else by_frame
        return over(x, self.weight, self.stride, self.dilation)


class Pointwise(nn.Module):
    """A weighted sum of each frame's channels, without bias. The weight's third axis is a kernel's, of length one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C')."""
        return F.linear(x, self.weight.squeeze(2))


class SubBlock(nn.Module):
    """Convolution (over time, then over channels; over channels alone where not separable) and batch norm."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        assert block.separable or block.kernel == block.stride == 1  # no QuartzNet has others
        self.depthwise = Depthwise(inputs, block.kernel, block.stride, block.dilation) if block.separable else None
        self.pointwise = Pointwise(inputs, block.channels)
        self.norm = BatchNorm(block.channels)

    def forward(self, x: Tensor, inside: Tensor | None) -> Tensor:
        """(B, T, C), zero beyond the utterances' ends -> (B, T', C'); `inside` (B, T', 1): see `masked`."""
        if self.depthwise is not None:
            x = masked(self.depthwise(x), inside)
        y: Tensor = self.norm(self.pointwise(x))
        return y


class Residual(nn.Module):
    """The way past a block: a 1x1 convolution and batch norm, also where channels would fit without."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pointwise = Pointwise(inputs, outputs)
        self.norm = BatchNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C), zero beyond the utterances' ends -> (B, T, C')."""
        y: Tensor = self.norm(self.pointwise(x))
        return y


class ConvBlock(Layer):
    """Sub-blocks with ReLU and dropout between them; the residual joins before the last ReLU.

    Every convolution takes what lies beyond an utterance's end for zero. The norms do not: in training, their
    statistics are of the padding too.
    """

    def __init__(self, inputs: int, block: Block, pad_to: int = 1) -> None:
        super().__init__()
        self.block = block
        self.pad_to = pad_to
        widths = [inputs] + [block.channels] * (block.repeat - 1)
        self.sub = nn.ModuleList([SubBlock(width, block) for width in widths])
        self.residual = Residual(inputs, block.channels) if block.residual else None

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T', C')."""
        x = F.pad(x, (0, 0, 0, self.padded_input(x.shape[1]) - x.shape[1]))
        x = first = masked(x, valid(x, lengths, x.shape[1]))
        lengths = (lengths - 1) // self.block.stride + 1  # the kernel is odd, and padded to the same length
        inside = valid(x, lengths, self.padded(x.shape[1]))
        for place, sub in enumerate(self.sub):
            if place:
                x = masked(drop(F.relu(x)), inside)
            x = sub(x, inside)
        if self.residual is not None:
            x = x + self.residual(first)
        return drop(F.relu(x)), lengths

    def padded_input(self, frames: int) -> int:
        """`frames` and what is added to them before the first convolution."""
        return frames + -frames % self.pad_to

    def padded(self, frames: int) -> int:
        """T' of a batch of T = `frames`: padded, then one in every stride."""
        return (self.padded_input(frames) - 1) // self.block.stride + 1

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier (Glorot) uniform kernels; norms that change nothing, and statistics of nothing."""
        for module in self.modules():
            if isinstance(module, Depthwise | Pointwise):
                outputs, inputs, kernel = module.weight.shape
                draw_glorot(module.weight, inputs * kernel, outputs * kernel, generator)
            elif isinstance(module, BatchNorm):
                module.reset_parameters()


class Decoder(Layer):
    """A 1x1 convolution to the classes: one weighted sum per frame."""

    drops = False

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, inputs, 1))
        self.bias = nn.Parameter(torch.empty(classes))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> logits (B, T, V)."""
        return F.linear(x, self.weight.squeeze(2), self.bias), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier uniform weights; the bias as torch draws those of convolutions, which NeMo leaves alone."""
        outputs, inputs, _ = self.weight.shape
        draw_glorot(self.weight, inputs, outputs, generator)
        bound = 1 / math.sqrt(inputs)
        with torch.no_grad():
            self.bias.copy_(torch.empty(outputs).uniform_(-bound, bound, generator=generator))


def valid(x: Tensor, lengths: Tensor, frames: int) -> Tensor | None:
    """(B, T, 1) of T = `frames`: one for a valid frame, zero beyond; None where all are valid. Where and as x is."""
    if int(lengths.min()) >= frames:
        return None
    inside = torch.arange(frames, device=x.device) < on_device(lengths, x.device).unsqueeze(1)
    return inside.unsqueeze(2).to(x.dtype)


def masked(x: Tensor, inside: Tensor | None) -> Tensor:
    """x (B, T, C) with zeros beyond the utterances' ends; a product takes a fifth of what `masked_fill` does."""
    return x if inside is None else x * inside.to(x.dtype)


def by_channel(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Depthwise convolution (B, T, C) -> (B, T', C) in the layout that CUDA's kernels are made for, (B, C, T)."""
    padding = dilation * (weight.shape[2] - 1) // 2
    y = F.conv1d(x.transpose(1, 2).contiguous(), weight, None, stride, padding, dilation, groups=x.shape[2])
    return y.transpose(1, 2)


def by_frame(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """The same, fast on CPUs: images of height T and width 1, channels last, have well-made kernels; sequences do not.

    Dilation has none either, but is none if `dilation` frames in turn make up the width.
    """
    batch, frames, channels = x.shape
    x = F.pad(x, (0, 0, 0, -frames % dilation))
    image = x.reshape(batch, -1, dilation, channels).permute(0, 3, 1, 2)  # (B, C, T / dilation, dilation)
    padding = ((weight.shape[2] - 1) // 2, 0)
    y = F.conv2d(image, weight.unsqueeze(3), None, (stride, 1), padding, groups=channels)
    return y.permute(0, 2, 3, 1).reshape(batch, -1, channels)[:, : (frames - 1) // stride + 1]


def nemo_keys(spec: QuartzNetSpec) -> Mapping[str, str]:
    """Our tensor names -> NeMo's, as `state_dict` of its EncDecCTCModel has them.

    In a block, NeMo numbers modules through: convolutions, norm, ReLU, dropout of each sub-block in turn.
    """
    keys = {}
    norm = ("weight", "bias", "running_mean", "running_var")
    for number, (name, block) in enumerate(spec.blocks.items()):
        ours, theirs = f"layers.{name}", f"encoder.encoder.{number}"
        convs = ("depthwise", "pointwise") if block.separable else ("pointwise",)
        for place in range(block.repeat):
            start = place * (len(convs) + 3)
            for slot, conv in enumerate(convs):
                keys[f"{ours}.sub.{place}.{conv}.weight"] = f"{theirs}.mconv.{start + slot}.conv.weight"
            for key in norm:
                keys[f"{ours}.sub.{place}.norm.{key}"] = f"{theirs}.mconv.{start + len(convs)}.{key}"
        if block.residual:
            keys[f"{ours}.residual.pointwise.weight"] = f"{theirs}.res.0.0.conv.weight"
            for key in norm:
                keys[f"{ours}.residual.norm.{key}"] = f"{theirs}.res.0.1.{key}"
    for key in ("weight", "bias"):
        keys[f"layers.decoder.{key}"] = f"decoder.decoder_layers.0.{key}"
    return keys

"""QuartzNet as named layers: conv_1, block_1 … block_B, conv_2, conv_3, decoder.

Source: NVIDIA/NeMo v0.10.1 nemo/collections/asr/jasper.py and parts/jasper.py, with the sizes in `thaw.config.models`.
Shapes: B batch, T frames, C channels, V classes. Layers pass (B, T, C) on, as views of (B, C, T) in memory, which is
what convolutions want: nothing is copied between two layers.
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
from thaw.models.layered import Drop, Layer, LayeredModel

PAD_TO = 16  # feature frames of a batch are padded to a multiple of this: batch norm sees the padding in training


def quartznet(spec: QuartzNetSpec, classes: int) -> LayeredModel:
    """The model for V = `classes` outputs (alphabet + blank), its weights not yet drawn."""
    layers: dict[str, Layer] = {}
    channels = dimension(spec.frontend)
    for name, block in spec.blocks.items():
        layers[name] = ConvBlock(channels, block, pad_to=PAD_TO if name == "conv_1" else 1)
        channels = block.channels
    layers["decoder"] = Decoder(channels, classes)
    return LayeredModel(layers)


class BatchNorm(nn.BatchNorm1d):
    """Batch norm with the published constants, and without a count of batches, which no momentum ever reads."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.1)
        self.register_buffer("num_batches_tracked", None)

    def reset_running_stats(self) -> None:
        """Statistics of nothing: mean 0, variance 1."""
        for statistic, value in ((self.running_mean, 0.0), (self.running_var, 1.0)):
            assert statistic is not None  # they are tracked
            statistic.fill_(value)

    def _load_from_state_dict(self, *args: Any) -> None:
        nn.Module._load_from_state_dict(self, *args)  # torch's own would ask for the count


class Convolution(nn.Module):
    """A convolution over time without bias, "same" padding, of an input that is zero beyond each utterance's end."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.padding = dilation * (kernel - 1) // 2
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel))

    def forward(self, x: Tensor, outside: Tensor | None) -> Tensor:
        """(B, C, T) -> (B, C', T'); `outside` (B, 1, T) is true beyond the utterances' ends, None: nowhere."""
        if outside is not None:
            x = x.masked_fill(outside, 0.0)
        return F.conv1d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)


class SubBlock(nn.Module):
    """Convolution (depthwise and pointwise where separable) and batch norm."""

    def __init__(self, inputs: int, block: Block) -> None:
        super().__init__()
        how = (block.kernel, block.stride, block.dilation)
        if block.separable:
            self.depthwise = Convolution(inputs, inputs, *how, groups=inputs)
            self.pointwise = Convolution(inputs, block.channels, 1)
        else:
            self.conv = Convolution(inputs, block.channels, *how)
        self.separable = block.separable
        self.norm = BatchNorm(block.channels)

    def forward(self, x: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        """(B, C, T) -> (B, C', T'); `before` and `after` mark what is outside at the two rates of frames."""
        x = self.pointwise(self.depthwise(x, before), after) if self.separable else self.conv(x, before)
        y: Tensor = self.norm(x)
        return y


class Residual(nn.Module):
    """The way past a block: a 1x1 convolution and batch norm, also where channels would fit without."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Convolution(inputs, outputs, 1)
        self.norm = BatchNorm(outputs)

    def forward(self, x: Tensor, outside: Tensor | None) -> Tensor:
        """(B, C, T) -> (B, C', T)."""
        y: Tensor = self.norm(self.conv(x, outside))
        return y


class ConvBlock(Layer):
    """Sub-blocks with ReLU and dropout between them; the residual joins before the last ReLU."""

    def __init__(self, inputs: int, block: Block, pad_to: int = 1) -> None:
        super().__init__()
        self.block = block
        self.pad_to = pad_to
        widths = [inputs] + [block.channels] * (block.repeat - 1)
        self.sub = nn.ModuleList([SubBlock(width, block) for width in widths])
        self.residual = Residual(inputs, block.channels) if block.residual else None

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> (B, T', C')."""
        x = x.transpose(1, 2)
        x = F.pad(x, (0, -x.shape[2] % self.pad_to))
        before, shorter = beyond(x, lengths), self.shortened(lengths)
        first, after = x, before
        for place, sub in enumerate(self.sub):
            if place:
                x = dropped(F.relu(x), drop)
            after = beyond(x, shorter, -(-x.shape[2] // self.block.stride)) if self.block.stride > 1 else before
            x = sub(x, before, after)
        if self.residual is not None:
            x = x + self.residual(first, before)
        return dropped(F.relu(x), drop).transpose(1, 2), shorter

    def shortened(self, lengths: Tensor) -> Tensor:
        """Valid frames behind the block's stride; the kernel is odd and padded to the same length."""
        return lengths if self.block.stride == 1 else (lengths - 1) // self.block.stride + 1

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier (Glorot) uniform kernels; norms that change nothing, and statistics of nothing."""
        for module in self.modules():
            if isinstance(module, Convolution):
                outputs, inputs, kernel = module.weight.shape
                draw_glorot(module.weight, inputs * kernel, outputs * kernel, generator)
            elif isinstance(module, BatchNorm):
                module.reset_parameters()


class Decoder(Layer):
    """A 1x1 convolution to the classes: one weighted sum per frame."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, inputs, 1))
        self.bias = nn.Parameter(torch.empty(classes))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> logits (B, T, V)."""
        return F.conv1d(x.transpose(1, 2), self.weight, self.bias).transpose(1, 2), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier uniform weights; the bias as torch draws those of convolutions, which NeMo leaves alone."""
        outputs, inputs, _ = self.weight.shape
        draw_glorot(self.weight, inputs, outputs, generator)
        bound = 1 / math.sqrt(inputs)
        with torch.no_grad():
            self.bias.copy_(torch.empty(outputs).uniform_(-bound, bound, generator=generator))


def beyond(x: Tensor, lengths: Tensor, frames: int | None = None) -> Tensor | None:
    """(B, 1, T), true beyond the valid frames; None where no frame of the batch is. T is that of x (B, C, T)."""
    frames = x.shape[2] if frames is None else frames
    if int(lengths.min()) >= frames:
        return None
    return (torch.arange(frames, device=x.device) >= lengths.to(x.device).unsqueeze(1)).unsqueeze(1)


def dropped(x: Tensor, drop: Drop) -> Tensor:
    """Dropout of (B, C, T): `drop` itself takes (B, T, C)."""
    return drop(x.transpose(1, 2)).transpose(1, 2)


def nemo_keys(spec: QuartzNetSpec) -> Mapping[str, str]:
    """Our tensor names -> NeMo's, as `state_dict` of its EncDecCTCModel has them.

    In a block, NeMo numbers modules through: convolutions, norm, ReLU, dropout of each sub-block in turn.
    """
    keys = {}
    norm = ("weight", "bias", "running_mean", "running_var")
    for number, (name, block) in enumerate(spec.blocks.items()):
        ours, theirs = f"layers.{name}", f"encoder.encoder.{number}"
        convs = ("depthwise", "pointwise") if block.separable else ("conv",)
        for place in range(block.repeat):
            start = place * (len(convs) + 3)
            for slot, conv in enumerate(convs):
                keys[f"{ours}.sub.{place}.{conv}.weight"] = f"{theirs}.mconv.{start + slot}.conv.weight"
            for key in norm:
                keys[f"{ours}.sub.{place}.norm.{key}"] = f"{theirs}.mconv.{start + len(convs)}.{key}"
        if block.residual:
            keys[f"{ours}.residual.conv.weight"] = f"{theirs}.res.0.0.conv.weight"
            for key in norm:
                keys[f"{ours}.residual.norm.{key}"] = f"{theirs}.res.0.1.{key}"
    for key in ("weight", "bias"):
        keys[f"layers.decoder.{key}"] = f"decoder.decoder_layers.0.{key}"
    return keys

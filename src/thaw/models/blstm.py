"""Bidirectional LSTMs with projections as named layers, and a linear output layer: blstm_1 … blstm_N, output.

Source: espnet/espnet espnet/nets/pytorch_backend/rnn/encoders.py (RNNP) and initialization.py.
Shapes: B batch, T frames, F features, C cells in each direction, P units of a projection, V classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.rnn import BlstmSpec
from thaw.models.layered import Drop, Layer
from thaw.models.lstm import lstm
from thaw.models.normalising import Normaliser
from thaw.placing import on_device

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of one direction, as torch.lstm takes them
SHUT = -1e4  # what padding adds to the input gates: its sigmoid is zero


def blstm_stack(spec: BlstmSpec, inputs: int) -> dict[str, Layer]:
    """The recurrent layers by name, reading frames of `inputs` features."""
    layers: dict[str, Layer] = {}
    for name, stride in zip(spec.recurrent, spec.strides, strict=True):
        first, last = not layers, name == spec.recurrent[-1]
        stack = spec.stack if first else 1
        width = inputs * stack if first else spec.projection
        layers[name] = ProjectedBlstm(width, spec.cells, spec.projection, stride, squash=not last, stack=stack)
    return layers


class Blstm(nn.Module):
    """One LSTM in each direction, from zero states; what lies beyond an utterance's end reaches no valid frame.

    Gates in torch's order i, f, g, o, and torch's two biases, which the published models have.
    """

    def __init__(self, inputs: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        for way in ("", "_reverse"):
            for name, shape in zip(WEIGHTS, ((inputs,), (cells,), (), ()), strict=True):
                self.register_parameter(f"{name}{way}", nn.Parameter(torch.empty(4 * cells, *shape)))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, 2·C).

        The backward direction meets padding first. A further feature, one in padding and else zero, shuts the input
        gates there, so that its state is still zero at the utterance's last frame. Reversing each utterance by itself,
        or packing them, takes two to four times as long on a CPU.
        """
        outside = outside_of(lengths, x.shape[1], x.device)
        x = torch.cat([x.masked_fill(outside, 0.0), outside.to(x.dtype)], dim=2)
        gate = F.pad(x.new_full((self.cells, 1), SHUT), (0, 0, 0, 3 * self.cells))  # (4·C, 1)
        weights: list[Tensor] = []
        for way in ("", "_reverse"):
            given, *others = (getattr(self, f"{name}{way}") for name in WEIGHTS)
            weights += [torch.cat([given, gate], dim=1), *others]
        state = x.new_zeros(2, len(x), self.cells)
        return lstm(x, (state, state), weights, self.training, both_ways=True)[0]


class ProjectedBlstm(Layer):
    """An LSTM in both directions, every `stride`-th frame of it, a projection; where `squash`, dropout and tanh.

    `stack` frames side by side make one of its input frames; the last one is filled up with zeros.
    """

    def __init__(self, inputs: int, cells: int, projection: int, stride: int, squash: bool, stack: int = 1) -> None:
        super().__init__()
        self.normaliser: Normaliser | None = None  # of what comes in, for a first layer
        self.stride, self.stack, self.squash = stride, stack, squash
        self.drops = squash
        self.lstm = Blstm(inputs, cells)
        self.weight = nn.Parameter(torch.empty(projection, 2 * cells))
        self.bias = nn.Parameter(torch.empty(projection))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T', P)."""
        if self.normaliser is not None:
            x = self.normaliser(x)
        if self.stack > 1:
            x, lengths = stack_frames(x, lengths, self.stack)
        x = self.lstm(x, lengths)[:, :: self.stride]
        lengths = (lengths - 1).div(self.stride, rounding_mode="floor") + 1
        x = F.linear(x, self.weight, self.bias)
        return torch.tanh(drop(x)) if self.squash else x, lengths

    def padded(self, frames: int) -> int:
        """T' of a batch of T = `frames`."""
        stacked = (frames - 1) // self.stack + 1
        return (stacked - 1) // self.stride + 1

    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `draw_lecun`."""
        draw_lecun(self, generator)
        if self.normaliser is not None:
            self.normaliser.reset()


class Linear(Layer):
    """A weighted sum per frame and a bias: the output layer."""

    drops = False

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, inputs))
        self.bias = nn.Parameter(torch.empty(classes))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, P) -> logits (B, T, V)."""
        return F.linear(x, self.weight, self.bias), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `draw_lecun`."""
        draw_lecun(self, generator)


@torch.no_grad()
def draw_lecun(module: nn.Module, generator: torch.Generator) -> None:
    """Normal weights of variance 1 / inputs (a convolution's: times its kernel), zero biases; drawn on the CPU.

    ESPnet calls this Chainer's way (`lecun_normal_init_parameters`); all gates of an LSTM count as one matrix.
    """
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.zero_()
        else:
            deviation = 1 / math.sqrt(parameter[0].numel())
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, deviation, generator=generator))


def outside_of(lengths: Tensor, frames: int, device: torch.device) -> Tensor:
    """(B, T, 1) of T = `frames`: whether a frame lies beyond its utterance's end."""
    return (torch.arange(frames, device=device) >= on_device(lengths, device).unsqueeze(1)).unsqueeze(2)


def stack_frames(x: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(B, T, F) -> (B, T / count rounded up, count · F): neighbours side by side, zeros beyond an utterance's end."""
    x = x.masked_fill(outside_of(lengths, x.shape[1], x.device), 0.0)
    x = F.pad(x, (0, 0, 0, -x.shape[1] % count))
    return x.reshape(len(x), -1, count * x.shape[2]), (lengths - 1).div(count, rounding_mode="floor") + 1

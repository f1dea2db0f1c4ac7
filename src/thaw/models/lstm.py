"""torch's LSTM in the precision that the recipe says, for every layer that has one.

Under autocast, torch casts what cuDNN's LSTM gets to half precision, whatever type autocast was given (aten/src/ATen/
cudnn/AutocastRNN.cpp): numbers of bf16's range would overflow there. So autocast is left out of it, and tensors are
cast here, to the type that it was given: cuDNN's LSTM takes bf16 since 9.13, on Ampere and later, and torch asks for
both (aten/src/ATen/native/RNN.cpp, `use_cudnn`). On a CPU that is what autocast does itself, to the bit.

Shapes: B batch, T frames, F features, H units of one direction.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]  # hidden and cell, (1 or 2, B, H) each


def lstm(
    x: Tensor, state: State, weights: Sequence[Tensor], training: bool, both_ways: bool = False
) -> tuple[Tensor, State]:
    """(B, T, F) -> (B, T, H), or 2·H where it goes both ways, and the state behind it.

    `weights`: from inputs, from hidden state, and the two biases of each direction, as torch has them.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, state, weights = x.to(dtype), (state[0].to(dtype), state[1].to(dtype)), [w.to(dtype) for w in weights]
    with warnings.catch_warnings(), torch.autocast(device, enabled=False):
        # cuDNN copies the tensors into one buffer at each call; that is small beside the layer's own work.
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        return _lstm(x, state, list(weights), training, both_ways)


def _lstm(x: Tensor, state: State, weights: list[Tensor], training: bool, both_ways: bool) -> tuple[Tensor, State]:
    y, hidden, cell = torch.lstm(x, state, weights, True, 1, 0.0, training, both_ways, True)
    return y, (hidden, cell)


def through(
    module: nn.LSTM, x: Tensor, state: State | None = None, recurrent: Tensor | None = None
) -> tuple[Tensor, State]:
    """The same of a module of one layer and direction; state None: zeros; `recurrent` stands for its own (4·H, H)."""
    given, own, *biases = (getattr(module, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if state is None:
        zero = x.new_zeros(1, len(x), module.hidden_size)
        state = zero, zero
    return lstm(x, state, [given, own if recurrent is None else recurrent, *biases], module.training)

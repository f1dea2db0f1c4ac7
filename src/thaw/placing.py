"""Tensors that the host has made, where the model is: a GPU that is still at work is not waited for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; itself where it is there.

    A plain copy to a GPU ends in a wait for all that the GPU has yet to do (torch's `copy_` from memory that is not
    pinned). From pinned memory it is only put into the queue, and torch keeps the memory until it was copied.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else pinned(tensor)).to(device, non_blocking=True)


def pinned(tensor: Tensor) -> Tensor:
    """A copy in memory that a GPU reads by itself."""
    return tensor.pin_memory()


def rows_of(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows of a tensor, wherever it is."""
    return tensor[on_device(torch.tensor(rows, dtype=torch.int64), tensor.device)]

"""A GPU that is none: tensors that only know shapes, and a list of every place where the host would have waited.

Tensors on it are torch's fake ones, so what mixes devices fails as it would. What the host has stays real. Reading a
value, looking for where something holds, and a plain copy in either direction are what a CUDA device makes the host
wait for: torch's copies do, unless they are told not to and the host's memory is pinned.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from thaw import placing
from thaw.training import deferred

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
SEARCHES = {aten.nonzero.default, aten.masked_select.default, aten.equal.default, aten.is_nonzero.default}


class VirtualGpu(TorchDispatchMode):
    """Active, it runs whatever is on `GPU` without numbers; `waits` says what the host would have waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        there = [leaf for leaf in leaves if isinstance(leaf, FakeTensor)]
        wanted = [leaf for leaf in leaves if isinstance(leaf, torch.device) and leaf.type == "cuda"]
        if not there and not wanted:
            with _disable_current_modes():
                return func(*args, **kwargs)
        self.note(func, args, kwargs, there, wanted)
        if func is aten._cudnn_ctc_loss.Tensor:
            return self.ctc(*args)
        if func.namespace == "torchaudio":  # the transducer's loss, and its gradient
            with self.fake:
                return torch.empty(len(args[0]), device=GPU), torch.empty_like(args[0])
        if func is aten._local_scalar_dense.default:
            return 1.0
        with self.fake:
            return func(*args, **kwargs)

    def note(self, func: Any, args: Any, kwargs: Any, there: list[FakeTensor], wanted: list[torch.device]) -> None:
        """Remember what would be waited for."""
        reads = func is aten._local_scalar_dense.default or func in SEARCHES
        if func is aten.index.Tensor or func is aten.index_put_.default:
            places = [place for place in args[1] if isinstance(place, Tensor)]
            reads = any(place.dtype == torch.bool or not isinstance(place, FakeTensor) for place in places)
        if func in (aten._to_copy.default, aten.copy_.default):
            source = args[1] if func is aten.copy_.default else args[0]
            to_host = isinstance(kwargs.get("device"), torch.device) and not wanted
            to_host |= func is aten.copy_.default and not isinstance(args[0], FakeTensor)
            crosses = (isinstance(source, FakeTensor) and to_host) or not isinstance(source, FakeTensor)
            free = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            reads = crosses and not free
        if reads:
            self.waits.append(f"{func} of {[tuple(tensor.shape) for tensor in there]}")

    def ctc(self, log_probs: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        """cuDNN's kernel, which reads where it runs: labels, valid frames and numbers of labels are int32 and there."""
        *tensors, blank, deterministic, _ = others
        assert all(isinstance(tensor, FakeTensor) and tensor.dtype == torch.int32 for tensor in tensors)
        assert (blank, deterministic, log_probs.dtype) == (0, True, torch.float32)
        with self.fake:
            return torch.empty(log_probs.shape[1], device=GPU), torch.empty_like(log_probs)


class Told(deferred.Told):
    """Numbers that set out for the host and are never read: nothing is ever wrong on this GPU."""

    def __init__(self, numbers: Tensor) -> None:
        assert isinstance(numbers, FakeTensor)
        self.size = numbers.numel()

    def read(self) -> list[float]:
        return [1.0] * self.size


def recurrence(x: Tensor, state: Any, weights: list[Tensor], training: bool, both_ways: bool) -> Any:
    """What an LSTM gives, in shapes; torch asks a driver which kernel to take."""
    assert {tensor.device for tensor in (x, *state, *weights)} == {GPU}
    return x.new_empty(*x.shape[:2], (1 + both_ways) * state[0].shape[2]), state


def install(monkeypatch: pytest.MonkeyPatch) -> VirtualGpu:
    """A GPU; memory is pinned by saying so, gradients come without a backward pass (torch's engine wants a driver)."""
    gpu = VirtualGpu()
    monkeypatch.setattr(placing, "pinned", lambda tensor: tensor)
    monkeypatch.setattr("thaw.training.data.pinned", lambda tensor: tensor)
    monkeypatch.setattr(deferred, "Told", Told)
    monkeypatch.setattr("thaw.training.streams.Told", Told)
    monkeypatch.setattr("thaw.models.lstm._lstm", recurrence)
    return gpu

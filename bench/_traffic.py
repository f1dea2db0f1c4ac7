"""What a step computes and moves, call by call: FLOPs and bytes of every kernel that torch is asked for.

FLOPs are by the formulas of `torch.utils.flop_counter`, with three corrections: it knows no fused LSTM (2·T·B·weights
forward; backward the same once for the inputs' gradient and once for the weights'), no attention kernel of a CPU, and
it counts the backward pass of a convolution in groups as if there were none. What has no formula multiplies no matrices
and counts as none: losses, norms, optimisers.

Bytes are an estimate: what a call reads and writes, each tensor once, as if nothing stayed in a cache between calls
and nothing was fused. Views move nothing. A lookup reads as much as it gives. An LSTM's recurrent matrix counts once a
call, though a frame after another asks for it: it is taken to stay in a cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

aten = torch.ops.aten
NOTHING = {"empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view", "detach", "alias", "_reshape_alias"}
LOOKUPS = {"embedding", "index", "index_select", "gather"}
HELD = ("lift_fresh", "set_", "_local_scalar_dense")


@dataclass(frozen=True)
class Call:
    """One kernel."""

    name: str
    flops: float
    bytes: float


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Every call inside the context, backward passes included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append(
            Call(name_of(func), flops(func, args, kwargs or {}, out), moved(func, args, kwargs or {}, out))
        )
        return out

    @property
    def flops(self) -> float:
        """Of all calls."""
        return math.fsum(call.flops for call in self.calls)

    @property
    def bytes(self) -> float:
        """Of all calls."""
        return math.fsum(call.bytes for call in self.calls)

    def roof(self, rate: float, bandwidth: float) -> tuple[float, float]:
        """Seconds that a machine needs at least, one call after the other, at `rate` FLOP/s and `bandwidth` B/s.

        Gives those of the calls that computing bounds, and those of the calls that memory bounds.
        """
        pairs = [(call.flops / rate, call.bytes / bandwidth) for call in self.calls]
        return math.fsum(f for f, b in pairs if f > b), math.fsum(b for f, b in pairs if f <= b)


def name_of(func: Any) -> str:
    """As a profile has it, without its namespace."""
    return str(func.overloadpacket.__name__)


def flops(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> float:
    """Of one call; 0 where it multiplies no matrices."""
    if own := OWN.get(name_of(func)):
        return own(args, out)
    formula = flop_registry.get(func.overloadpacket)
    return float(formula(*args, **kwargs, out_val=out)) if formula else 0.0


def moved(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> float:
    """Bytes that one call reads and writes."""
    name = name_of(func)
    if func.is_view or name in NOTHING or name.startswith(HELD):
        return 0.0
    written = sum(size_of(tensor) for tensor in tensors((out,)))
    read = [size_of(tensor) for tensor in tensors((*args, *kwargs.values()))]
    return float(written + sum(min(size, written) if name in LOOKUPS else size for size in read))


def tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    """Those among values and lists of values."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def size_of(tensor: Tensor) -> int:
    """Bytes of memory behind a tensor: what is only repeated counts once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


# --- what the registry has not, or not right --------------------------------------------------------


def convolution_backward(args: Sequence[Any], out: Any) -> float:
    """As much as forward for each of the two gradients that are wanted."""
    gradient, x, weight, *_ = args
    transposed, mask = args[7], args[10]
    once = conv_flop_count(list(x.shape), list(weight.shape), list(gradient.shape), transposed=transposed)
    return float(once * (mask[0] + mask[1]))


def lstm(x: Tensor, matrices: Sequence[Tensor]) -> float:
    """Forward, of one direction or several: every frame meets every weight."""
    return 2.0 * (x.numel() / x.shape[-1]) * sum(matrix.numel() for matrix in matrices)


def cudnn_backward(args: Sequence[Any], out: Any) -> float:
    """The way back through time, the inputs' gradient where it is wanted, the weights' where they are."""
    x, mask = args[0], args[-1]
    matrices = [weight for weight in args[1] if weight.dim() == 2]
    recurrent = [matrix for matrix in matrices if matrix.shape[1] != x.shape[-1]] or matrices[1::2]
    return lstm(x, matrices if mask[0] else recurrent) + (lstm(x, matrices) if mask[3] else 0.0)


def attention(query: Tensor, keys: Tensor, values: Tensor) -> float:
    """Forward: queries (…, T, D) by keys (…, S, D), and the result by values (…, S, E)."""
    return (
        2.0 * query.numel() * keys.shape[-2] + 2.0 * query.numel() / query.shape[-1] * values.shape[-1] * keys.shape[-2]
    )


OWN: dict[str, Callable[[Sequence[Any], Any], float]] = {
    "convolution_backward": convolution_backward,
    "mkldnn_rnn_layer": lambda args, out: lstm(args[0], args[1:3]),
    "mkldnn_rnn_layer_backward": lambda args, out: 2 * lstm(args[0], args[1:3]),
    "_cudnn_rnn": lambda args, out: lstm(args[0], [weight for weight in args[1] if weight.dim() == 2]),
    "_cudnn_rnn_backward": cudnn_backward,
    "_scaled_dot_product_flash_attention_for_cpu": lambda args, out: attention(*args[:3]),
    # The scores once more, and a product for each of the four gradients.
    "_scaled_dot_product_flash_attention_for_cpu_backward": lambda args, out: 2.5 * attention(*args[1:4]),
}

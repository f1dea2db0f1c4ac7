"""How far a run moved its layers: churn (Zhou et al. 2022), from before the first step to a later snapshot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from thaw.models.layered import layer_of
from thaw.probing.churn import is_matrix


def churn(first: Mapping[str, Tensor], later: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, float]:
    """Layer -> Frobenius norm of the change of its weight matrices, all together; biases and buffers are left out."""
    return {layer: math.sqrt(_squares(first, later, layer)) for layer in layers}


def relative_churn(first: Mapping[str, Tensor], later: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, float]:
    """The same over the norm of the first weights."""
    nothing = {name: tensor * 0 for name, tensor in first.items()}
    return {
        layer: math.sqrt(_squares(first, later, layer) / max(_squares(first, nothing, layer), 1e-30))
        for layer in layers
    }


def _squares(first: Mapping[str, Tensor], later: Mapping[str, Tensor], layer: str) -> float:
    names = [name for name, tensor in first.items() if layer_of(name) == layer and is_matrix(name, tensor)]
    return math.fsum(float((later[name].double() - first[name].double()).square().sum()) for name in names)

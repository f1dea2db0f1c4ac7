"""Smaller networks for the clients of a federated training: some hidden units of some layers are left out.

Federated dropout (Caldas et al. 2018). Of a feed-forward module d -> h -> d that keeps the units K, a client gets the
rows K of its first matrix and bias and the columns K of its second: a dense network, |K| = round((1 - rate) · h) in
each, which has (h - |K|) · (2d + 1) parameters less. The second bias stays. Nothing is rescaled: what the paper does
about that could not be verified.

A *cut* says which rows (dim 0) or columns (dim 1) of a parameter are kept, ascending.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from thaw.models.layered import LayeredModel
from thaw.randomness import rng

Cut = dict[int, Tensor]  # dim -> indices (K,) int64, on the parameter's device
Cuts = dict[str, Cut]  # by the parameter's name; one that is not named is whole


def draw_cuts(model: LayeredModel, rates: Mapping[str, float], seed: int, round_: int, client: str) -> Cuts:
    """What one client keeps of the layers in `rates` (name -> share of hidden units left out).

    A function of its arguments, and nested: the units kept at a higher rate are among those kept at a lower one. Give
    no name of a client where all clients of a round keep the same units.
    """
    cuts: Cuts = {}
    for layer, rate in rates.items():
        for place, group in enumerate(model.layer(layer).hidden_units()):
            kept = kept_units(rate, group.size)
            if kept == group.size:
                continue
            order = rng(seed, "units", round_, client, layer, place).permutation(group.size)
            for name, dim in ((group.w_in, 0), (group.b_in, 0), (group.w_out, 1)):
                parameter = model.get_parameter(f"layers.{layer}.{name}")
                indices = torch.from_numpy(np.sort(order[:kept])).to(parameter.device)
                cuts.setdefault(f"layers.{layer}.{name}", {})[dim] = indices
    return cuts


def kept_units(rate: float, size: int) -> int:
    """How many of `size` units a client keeps; one at least."""
    return max(round((1.0 - rate) * size), 1)


def cut(tensor: Tensor, kept: Cut | None) -> Tensor:
    """The rows and columns that are kept: a tensor of its own."""
    for dim, indices in (kept or {}).items():
        tensor = tensor.index_select(dim, indices)
    return tensor.clone()


def add_at(whole: Tensor, kept: Cut | None, part: Tensor | float) -> None:
    """Add to those rows and columns of `whole`, in place."""
    if not kept:
        whole += part
        return
    every = [kept.get(dim, torch.arange(size, device=whole.device)) for dim, size in enumerate(whole.shape)]
    shapes = [[-1 if dim == place else 1 for dim in range(whole.dim())] for place in range(whole.dim())]
    whole[tuple(indices.view(shape) for indices, shape in zip(every, shapes, strict=True))] += part


def put(model: nn.Module, name: str, value: Tensor) -> None:
    """Give a model a parameter of another size in the place of the one called `name`."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    trained = module.get_parameter(leaf).requires_grad
    setattr(module, leaf, nn.Parameter(value, requires_grad=trained))


def saved(model: LayeredModel, rates: Mapping[str, float]) -> int:
    """How many parameters a client's network has less than the whole one."""
    cuts = draw_cuts(model, rates, seed=0, round_=0, client="")
    whole = {name: model.get_parameter(name) for name in cuts}
    return sum(p.numel() - cut(p.detach(), cuts[name]).numel() for name, p in whole.items())

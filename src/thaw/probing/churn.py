"""Churn: how far training has moved each weight matrix from where it began, from weights alone.

Zhou et al. (2022) show ||W(t) - W(0)|| (Frobenius) of each module of each layer, over the largest of that module. A
wider layer has larger norms, so the raw norm and the norm over ||W(0)|| are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaw.models import LayeredModel, load_tensors
from thaw.models.layered import layer_of
from thaw.probing.weights import first_weights, snapshot_file


def churn(now: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row for each weight matrix (no bias, no norm): its layer, module (`ff1.w1`), the `norm` of how far it moved,
    and the norm that it had at `first`. Tensors are named as in `state_dict`.
    """
    rows = []
    for name, weight in now.items():
        if not is_matrix(name, weight) or name not in first:
            continue
        module = name.split(".", 2)[2].removesuffix(".weight")
        moved = torch.linalg.vector_norm(weight.double() - first[name].double())
        began = torch.linalg.vector_norm(first[name].double())
        rows.append({"layer": layer_of(name), "module": module, "norm": float(moved), "first": float(began)})
    return rows


def is_matrix(name: str, tensor: Tensor) -> bool:
    """Whether a tensor of a `state_dict` is a weight matrix: no vector, no bias for each of several heads."""
    return tensor.ndim > 1 and name.rpartition(".")[2].startswith("weight")


def churn_of_run(
    network: LayeredModel, meta: Mapping[str, Any], model: Path, snapshots: Path | None, at: Sequence[str]
) -> list[dict[str, Any]]:
    """The rows of a run at some of its snapshots; UserError where it keeps one of them not, or its first values."""
    if not at:
        return []
    first = first_weights(network, list(network.layers), meta, model, snapshots)
    rows = []
    for snapshot in at:
        now, _ = load_tensors(snapshot_file(snapshot, model, snapshots), snapshot)
        rows += [{"snapshot": snapshot, **row} for row in churn(now, first)]
    return rows

"""The weights that probes put in place of a snapshot's own: its run's other snapshots, and its first values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from thaw.config.layers import named_layers
from thaw.config.probes import LoadSpec, ResetSpec
from thaw.config.starts import BEST
from thaw.errors import UserError
from thaw.models import LayeredModel, load_tensors
from thaw.models.store import held_snapshots
from thaw.surgery.checks import draw_of, drawn_state
from thaw.surgery.operations import FIRST, Load, Operation, Reset


def operations_of_probe(specs: Sequence[ResetSpec | LoadSpec], model: LayeredModel) -> tuple[Operation, ...]:
    """What a probe's readable operations do to a model; UserError for a layer that it has not."""
    operations: list[Operation] = []
    layers = list(model.layers)
    for spec in specs:
        try:
            wanted = spec.load if isinstance(spec, LoadSpec) else spec.reset
            named = named_layers(wanted, layers, model.heads, model.places)
        except KeyError as error:
            raise UserError(f"the model has no layer {error.args[0]}; its layers: {', '.join(layers)}") from error
        if isinstance(spec, LoadSpec):
            operations.append(Load(spec.snapshot, named))
        else:
            operations.append(Reset(named, spec.to, spec.seed or 0, spec.draw, spec.buffers, modules=spec.modules))
    return tuple(operations)


def snapshot_file(snapshot: str, model: Path, snapshots: Path | None) -> Path:
    """The file of a run that holds a snapshot: the best epoch has one of its own."""
    if snapshot == BEST:
        return model
    if snapshots is None:
        raise UserError(f"snapshot {snapshot}: give the run's snapshots.safetensors with --snapshots")
    return snapshots


def other_weights(
    operations: Iterable[Operation], network: LayeredModel, meta: Mapping[str, Any], model: Path, snapshots: Path | None
) -> dict[str, dict[str, Tensor]]:
    """The sources of these operations, by name; `meta` is of the probed snapshot."""
    found = {}
    firsts: set[str] = set()
    for operation in operations:
        if isinstance(operation, Load) and operation.origin not in found:
            path = snapshot_file(operation.origin, model, snapshots)
            found[operation.origin], _ = load_tensors(path, operation.origin)
        elif isinstance(operation, Reset) and operation.to == "first":
            firsts.update(operation.layers)
    if firsts:
        found[FIRST] = first_weights(network, sorted(firsts), meta, model, snapshots)
    return found


def first_weights(
    network: LayeredModel, layers: Sequence[str], meta: Mapping[str, Any], model: Path, snapshots: Path | None
) -> dict[str, Tensor]:
    """The layers' weights before the run's first step: as it kept them, or drawn again as it had drawn them.

    UserError where neither is possible.
    """
    if snapshots is not None and FIRST in held_snapshots(snapshots):
        return load_tensors(snapshots, FIRST)[0]
    run = meta.get("run")
    tensors: dict[str, Tensor] = {}
    for layer in layers:
        place = draw_of(meta, layer)
        rows_kept = isinstance(run, Mapping) and run.get("output_rows", "fresh") != "fresh" and layer in network.heads
        if place is None or rows_kept:
            raise UserError(
                f"{model}: what layer {layer} was at first is not known, for its run did not draw all of it; "
                "keep that snapshot in training: snapshots: [first, best]"
            )
        tensors |= drawn_state(network, layer, *place)
    return tensors

"""Which layers matter: a ranking from the rows of a probe, by what resetting a layer does to the error rate.

No threshold between critical and ambient layers is published (Zhou et al. 2022), so who wants n layers takes the first
or the last n.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.config.learners import UnitDropoutSpec
from thaw.errors import UserError
from thaw.probing.rows import read_rows

PLAIN = {"reset", "to", "seed", "draw"}  # what is written of an operation that resets a whole layer


def criticality(rows: Iterable[Mapping[str, Any]], to: str = "draw", measure: str = "word") -> dict[str, float]:
    """Error rate after resetting each layer alone to a fresh draw, or to its first values: layer -> errors / total.

    Draws and splits are taken together. Rows of other probes, and of several operations, are passed over.
    """
    errors: defaultdict[str, float] = defaultdict(float)
    totals: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        layer = reset_alone(row["operations"], to)
        if layer is not None and measure in row["measures"]:
            errors[layer] += row["measures"][measure]["errors"]
            totals[layer] += row["measures"][measure]["total"]
    return {layer: errors[layer] / totals[layer] for layer in errors if totals[layer]}


def reset_alone(operations: Sequence[Mapping[str, Any]], to: str) -> str | None:
    """The one layer that a probe resets, as a whole, to such values; None for another probe."""
    if len(operations) != 1 or not operations[0].keys() <= PLAIN:
        return None
    operation = operations[0]
    if len(operation.get("reset", ())) != 1 or operation.get("to", "draw") != to:
        return None
    return str(operation["reset"][0])


def ranked(path: Path, layers: Sequence[str], to: str = "draw") -> list[str]:
    """`layers`, the most critical first; of equal ones, the lower first. UserError for a layer that was not probed."""
    rates = criticality(read_rows(path), to)
    if missing := [layer for layer in layers if layer not in rates]:
        word = "a fresh draw" if to == "draw" else "its first values"
        raise UserError(f"{path}: no probe resets {', '.join(missing)} alone to {word}: no ranking without it")
    return sorted(layers, key=lambda layer: (-rates[layer], layers.index(layer)))


def unit_rates(spec: UnitDropoutSpec | None, layers: Sequence[str], ranking: Path | None) -> dict[str, float]:
    """The share of hidden units that a client lacks, for each of the `layers` that have some, input side first.

    UserError where the spec names a layer that has none, asks for more layers than there are, or lacks its ranking.
    """
    if spec is None:
        return {}
    if not layers:
        raise UserError("learner.dropout: the model has no layer with hidden units that could be left out")
    chosen = set(spec.layers)
    if wrong := sorted(chosen - set(layers)):
        known = ", ".join(layers)
        raise UserError(f"learner.dropout.layers: {wrong[0]!r} has no hidden units; those that have: {known}")
    if spec.ranked:
        wanted = spec.critical or spec.ambient
        if wanted > len(layers):
            raise UserError(f"learner.dropout: {wanted} layers wanted, {len(layers)} have hidden units")
        if ranking is None:
            raise UserError("learner.dropout: critical and ambient need a ranking (--ranking: rows.jsonl of a probe)")
        order = ranked(ranking, layers, spec.by)
        chosen = set(order[:wanted] if spec.critical else order[-wanted:])
    return {layer: spec.raised if layer in chosen else spec.rate for layer in layers}

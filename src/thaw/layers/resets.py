"""The penalty of resetting each layer of the source run: a job of probes on the source's own language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from thaw.config.evidence import EvidenceSpec
from thaw.config.probes import LoadSpec, ProbeSpec, ResetSpec, each_layer
from thaw.config.starts import BEST
from thaw.probing.probe import probe
from thaw.scoring.measures import WORD

NONE = "none"


def penalties(
    spec: EvidenceSpec,
    layers: Sequence[str],
    model: Path,
    source: Path,
    snapshots: Path | None,
    *,
    own_seed: int | None,
    first: bool,
    threads: int,
    device: str,
) -> dict[str, Any]:
    """Word error rates of the run with each layer reset, minus its own: {"rerand": layer -> mean over draws, "reinit"}.

    Greedy decoding of `source`, a manifest in the run's own language. No draw takes `own_seed`, the run's. Without
    `first` (the run's first weights are not known) nothing is reset to them. "draws" holds each draw's penalty.
    """
    seeds = [seed for seed in range(spec.seed, spec.seed + spec.draws + 1) if seed != own_seed][: spec.draws]
    operations: dict[str, tuple[ResetSpec | LoadSpec, ...]] = {NONE: (), **each_layer(layers, "draw", seeds)}
    operations |= each_layer(layers, "first") if first else {}
    wanted = ProbeSpec(snapshot=BEST, splits=(spec.split,), operations=operations)
    probed = probe(wanted, model, [source], snapshots=snapshots, threads=threads, device=device)
    rates = {row["name"]: _rate(row["measures"]) for row in probed.rows}
    draws = {layer: [rates[f"{layer}-draw-{seed}"] - rates[NONE] for seed in seeds] for layer in layers}
    found: dict[str, Any] = {
        "rerand": {layer: fmean(values) for layer, values in draws.items()},
        "draws": draws,
        "rate": rates[NONE],
        "facts": probed.record["splits"][spec.split],
    }
    if first:
        found["reinit"] = {layer: rates[f"{layer}-first"] - rates[NONE] for layer in layers}
    return found


def _rate(measures: Mapping[str, Mapping[str, float]]) -> float:
    counted = measures[WORD.key]
    return counted["errors"] / counted["total"]

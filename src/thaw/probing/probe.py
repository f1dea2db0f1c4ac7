"""Probes: one snapshot, evaluated once for each list of operations, without training.

Features are made once for all probes, weights change in memory alone, and after each probe the snapshot's own are put
back and compared bit for bit. Batches and decoding are those of `thaw decode`, so a probe without operations gives
its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.config.models import semantic
from thaw.config.probes import ProbeSpec
from thaw.config.schema import GreedySpec, Split
from thaw.corpora.manifest import Utterance
from thaw.decoding.decode import check_references, hypotheses, make_decoder, read_utterances
from thaw.decoding.emissions import Features, Recogniser, emissions, load_recogniser, read_features
from thaw.errors import UserError
from thaw.models import LayeredModel
from thaw.probing.rows import measures
from thaw.probing.weights import operations_of_probe, other_weights, snapshot_file
from thaw.scoring.counts import count_rows
from thaw.surgery.checks import check_layers, require, same_bits
from thaw.surgery.operations import START, KeepRows, Load, Operation, Sources, apply
from thaw.training import environment


@dataclass
class Probed:
    """What a job of probes writes."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # one for each probe and split
    counts: list[dict[str, Any]] = field(default_factory=list)  # one for each of their utterances
    hypotheses: list[dict[str, Any]] = field(default_factory=list)  # likewise
    record: dict[str, Any] = field(default_factory=dict)


def probe(
    spec: ProbeSpec,
    model: Path,
    manifests: Sequence[Path],
    *,
    snapshots: Path | None = None,
    threads: int = 1,
    device: str = "auto",
) -> Probed:
    """All probes of `spec`, sorted by name; `manifests` are those of its splits, in that order.

    UserError where a layer or a snapshot does not exist, or where weights that a probe needs are not known.
    """
    if len(manifests) != len(spec.splits):
        raise UserError(f"{len(spec.splits)} splits ({', '.join(spec.splits)}) need as many manifests")
    began = time.perf_counter()
    recogniser = load_recogniser(snapshot_file(spec.snapshot, model, snapshots), device, threads, spec.snapshot)
    network, meta = recogniser.model, recogniser.meta
    lists = {name: operations_of_probe(written, network) for name, written in sorted(spec.operations.items())}
    every = [operation for operations in lists.values() for operation in operations]
    sources = {
        **other_weights(every, network, meta, model, snapshots),
        START: {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()},
    }
    utterances = {split: read_utterances(path) for split, path in zip(spec.splits, manifests, strict=True)}
    features = {split: list(read_features(recogniser, listed)) for split, listed in utterances.items()}
    ready = time.perf_counter()
    probed = Probed()
    for name, operations in lists.items():
        with operated(network, operations, sources, meta):
            for split, read in features.items():
                place = {"name": name, "split": split}
                row = place | {"snapshot": spec.snapshot, "operations": [semantic(o) for o in spec.operations[name]]}
                evaluate(recogniser, read, probed, place, row)
    ended = time.perf_counter()
    probed.record = {"probe": spec.model_dump(mode="json"), "environment": environment.record(recogniser.device, 1)}
    probed.record |= facts(recogniser, utterances) | {
        "cost": {
            "seconds": round(ended - began, 3),
            "features_seconds": round(ready - began, 3),
            "probe_seconds": round((ended - ready) / len(lists), 3),
        }
    }
    return probed


@contextmanager
def operated(
    model: LayeredModel, operations: Sequence[Operation], sources: Sources, meta: Mapping[str, Any]
) -> Iterator[None]:
    """The model after these operations, checked; then with the weights of `sources["start"]` again, checked too.

    `meta` is the metadata of the snapshot: a draw that its own run had made already is a UserError.
    """
    named = [{o.layer} if isinstance(o, KeepRows) else set(o.layers) for o in operations]
    touched = set[str]().union(*named)
    whole = (Load(START, tuple(layer for layer in model.layers if layer not in touched)), *operations)
    try:
        apply(model, whole, sources)
        check_layers(model, whole, sources, meta)
        yield
    finally:
        model.load_layers(sources[START], [layer for layer in model.layers if layer in touched], "the snapshot")
    require(same_bits(model.state_dict(), sources[START]), "a probe left its traces in the weights")


def evaluate(
    recogniser: Recogniser,
    read: Sequence[tuple[list[Utterance], Features]],
    probed: Probed,
    place: dict[str, Any],
    row: dict[str, Any],
) -> None:
    """Decode a split with the model as it is; add a row, and the counts and hypotheses behind it."""
    decoder = make_decoder(GreedySpec(kind="greedy"), recogniser, None, None, None)
    found = hypotheses(decoder.decode, emissions(recogniser, read))
    counts = count_rows(found)
    probed.rows.append(row | {"utterances": len(counts), "measures": measures(counts)})
    probed.counts += [place | count.row() for count in counts]
    probed.hypotheses += [place | line for line in found]


def facts(recogniser: Recogniser, utterances: Mapping[Split, Sequence[Utterance]]) -> dict[str, Any]:
    """What a record says of the splits."""
    splits, warnings = {}, []
    for split, listed in utterances.items():
        references, said = check_references([u.text for u in listed], recogniser.alphabet.characters, None)
        seconds = sum(u.samples for u in listed) / 16000
        splits[split] = {"utterances": len(listed), "audio_seconds": round(seconds, 3), "references": references}
        warnings += [f"{split}: {warning}" for warning in said]
    return {"splits": splits, "warnings": warnings}

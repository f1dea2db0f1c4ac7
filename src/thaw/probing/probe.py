"""Probes: one snapshot, evaluated once for each list of operations, without training.

Features are made once for all probes, and so is what the layers below the first changed one make of them. Weights
change in memory alone; after each probe the snapshot's own are put back and compared bit for bit. Batches and decoding
are those of `thaw decode`, so a probe without operations gives its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.config.probes import ProbeSpec
from thaw.config.schema import Split
from thaw.config.strict import semantic
from thaw.corpora.manifest import Utterance
from thaw.decoding.decode import greedily, with_head
from thaw.decoding.emissions import LogProbs, Recogniser, emissions, load_recogniser, read_features
from thaw.decoding.rows import check_references, read_utterances
from thaw.errors import UserError
from thaw.models import LayeredModel
from thaw.probing.churn import churn_of_run
from thaw.probing.rows import measures
from thaw.probing.weights import operations_of_probe, other_weights, snapshot_file
from thaw.scoring.counts import count_rows
from thaw.surgery.checks import check_layers, require, same_bits
from thaw.surgery.operations import START, KeepRows, Load, Operation, Sources, apply
from thaw.training import environment

MOST_BYTES = 4 << 30  # of what the batches may take behind a layer; beyond it probes begin further below


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
    batches = Batches(recogniser, dict(zip(spec.splits, manifests, strict=True)))
    ready = time.perf_counter()
    probed = Probed()
    for name in sorted(lists, key=lambda name: unchanged_layers(network, lists[name])):
        batches.advance(unchanged_layers(network, lists[name]))
        with operated(network, lists[name], sources, meta):
            for split in spec.splits:
                place = {"name": name, "split": split}
                row = place | {"snapshot": spec.snapshot, "operations": [semantic(o) for o in spec.operations[name]]}
                evaluate(batches, probed, place, row)
    for rows in (probed.rows, probed.counts, probed.hypotheses):
        rows.sort(key=lambda row: (row["name"], spec.splits.index(row["split"])))  # utterances stay in their order
    ended = time.perf_counter()
    cost = {"seconds": ended - began, "features_seconds": ready - began, "probe_seconds": (ended - ready) / len(lists)}
    probed.record = {
        "probe": spec.model_dump(mode="json"),
        **({"churn": churn_of_run(network, meta, model, snapshots, spec.churn)} if spec.churn else {}),
        **facts(batches),
        "environment": environment.record(recogniser.device, processes=1),
        "cost": {name: round(seconds, 3) for name, seconds in cost.items()},
    }
    return probed


class Batches:
    """The batches of all splits, as far through the unchanged model as no probe to come changes it."""

    def __init__(self, recogniser: Recogniser, manifests: Mapping[Split, Path]) -> None:
        self.utterances = {split: read_utterances(path) for split, path in manifests.items()}
        self.speaking = {  # the one model, with the head for each split's language
            split: with_head(recogniser, self.utterances[split], path) for split, path in manifests.items()
        }
        self.done = 0  # layers that the batches have been through
        self.splits = {split: list(read_features(recogniser, listed)) for split, listed in self.utterances.items()}

    def advance(self, upto: int) -> None:
        """Put them through more layers, up to `upto` of them; not where that takes too much memory."""
        if upto <= self.done:
            return
        recogniser = next(iter(self.speaking.values()))
        every = [batch for split in self.splits.values() for _, batch in split]
        longest = max(every, key=lambda batch: batch.x.numel())
        grows = recogniser.advanced(longest, self.done, upto).x.numel() / max(longest.x.numel(), 1)
        if 4 * grows * sum(batch.x.numel() for batch in every) > MOST_BYTES:
            return
        for split, read in self.splits.items():
            self.splits[split] = [(listed, recogniser.advanced(batch, self.done, upto)) for listed, batch in read]
        self.done = upto

    def hypotheses(self, split: Split) -> list[dict[str, str]]:
        """What the model as it is now recognises in a split: rows as `thaw decode` writes them."""
        return greedily(self.speaking[split], self.splits[split], self.done)

    def emissions(self, split: Split) -> Iterator[tuple[Utterance, LogProbs]]:
        """Each utterance of a split with its log-probabilities (T, V)."""
        return emissions(self.speaking[split], self.splits[split], self.done)


def unchanged_layers(model: LayeredModel, operations: Sequence[Operation]) -> int:
    """How many of the first layers these operations leave as they are, of those that all heads share."""
    changed = touched(operations)
    return next((place for place, layer in enumerate(model.trunk) if layer in changed), len(model.trunk))


def touched(operations: Sequence[Operation]) -> set[str]:
    """The layers that operations name."""
    named = [{o.layer} if isinstance(o, KeepRows) else set(o.layers) for o in operations]
    return set[str]().union(*named)


@contextmanager
def operated(
    model: LayeredModel, operations: Sequence[Operation], sources: Sources, meta: Mapping[str, Any]
) -> Iterator[None]:
    """The model after these operations, checked; then with the weights of `sources["start"]` again, checked too.

    `meta` is the metadata of the snapshot: a draw that its own run had made already is a UserError.
    """
    changed = [layer for layer in model.layers if layer in touched(operations)]
    whole = (Load(START, tuple(layer for layer in model.layers if layer not in changed)), *operations)
    try:
        apply(model, whole, sources)
        check_layers(model, whole, sources, meta)
        yield
    finally:
        model.load_layers(sources[START], changed, "the snapshot")
    require(same_bits(model.state_dict(), sources[START]), "a probe left its traces in the weights")


def evaluate(batches: Batches, probed: Probed, place: dict[str, Any], row: dict[str, Any]) -> None:
    """Decode a split with the model as it is; add a row, and the counts and hypotheses behind it."""
    found = batches.hypotheses(place["split"])
    counts = count_rows(found)
    probed.rows.append(row | {"utterances": len(counts), "measures": measures(counts)})
    probed.counts += [place | count.row() for count in counts]
    probed.hypotheses += [place | line for line in found]


def facts(batches: Batches) -> dict[str, Any]:
    """What a record says of the splits."""
    splits, warnings = {}, []
    for split, listed in batches.utterances.items():
        letters = batches.speaking[split].characters
        references, said = check_references([u.text for u in listed], letters, None)
        seconds = sum(u.samples for u in listed) / 16000
        splits[split] = {"utterances": len(listed), "audio_seconds": round(seconds, 3), "references": references}
        warnings += [f"{split}: {warning}" for warning in said]
    return {"splits": splits, "warnings": warnings}

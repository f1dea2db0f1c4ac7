"""Recognition with a decoding graph: the acoustic scale chosen on dev, words of every utterance, and their record.

For the GMM here; a network's scores go through `choose_scale` and `search.decode_scores` in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.alignment.acoustic import load
from thaw.alignment.graph import Graph, read_graph
from thaw.alignment.mfcc import cepstra, with_deltas
from thaw.alignment.search import Beam, Found, decode_scores
from thaw.audio.wav import SAMPLE_RATE
from thaw.config.alignment import SearchSpec
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.errors import UserError
from thaw.scoring.edits import count_words

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """What log likelihoods are multiplied by, and what was found on dev; warnings where the best lies at the edge."""

    value: float
    record: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


def choose_scale(spec: SearchSpec, graph: Graph, dev: Iterable[tuple[str, Scores]] | None) -> Scale:
    """The scale with the fewest word errors on dev: pairs of reference and log likelihoods (T, S). Ties: the smallest.

    Where the spec names one only, that. UserError where it names several and there is no dev.
    """
    scales = sorted(set(spec.scales))
    if len(scales) == 1:
        return Scale(scales[0])
    if dev is None:
        raise UserError("the acoustic scale is chosen on dev: give a manifest with --tune-on")
    errors, words = dict.fromkeys(scales, 0), 0
    for reference, scores in dev:
        words += len(reference.split())
        for scale in scales:
            found = decode_scores(scale * scores, graph, beam_of(spec))
            errors[scale] += count_words(reference, " ".join(found.words)).errors
    best = min(scales, key=lambda scale: (errors[scale], scale))
    record = {"scales": scales, "wer": [errors[scale] / max(1, words) for scale in scales]}
    at_edge = best in (scales[0], scales[-1]) and len(set(errors.values())) > 1
    warnings = [f"the best acoustic scale, {best:g}, lies on the edge: widen `scales`"] if at_edge else []
    return Scale(best, record, tuple(warnings))


def beam_of(spec: SearchSpec) -> Beam:
    """The search's limits."""
    return Beam(spec.beam, spec.max_active)


def rows_of(found: Iterable[tuple[Utterance, Found]]) -> list[dict[str, str]]:
    """Rows of hypotheses.jsonl, sorted by id."""
    rows = [
        {"id": each.id, "speaker": each.speaker, "reference": each.text, "hypothesis": " ".join(one.words)}
        for each, one in found
    ]
    return sorted(rows, key=lambda row: row["id"])


def references_record(utterances: Iterable[Utterance], graph: Graph) -> dict[str, Any]:
    """How many words of the references no search could find: the graph has them not."""
    words = [word for each in utterances for word in each.text.split()]
    known = set(graph.words)
    unknown = sum(word not in known for word in words)
    return {"oov_words": unknown, "oov_rate": unknown / len(words) if words else 0.0}


def recognise(
    spec: SearchSpec, model_path: Path, graph_path: Path, manifest: Path, tune_on: Path | None
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Rows of every utterance of a manifest by an alignment's own GMM, and the record of the work."""
    began = time.perf_counter()
    model, _ = load(model_path)
    graph = read_graph(graph_path)
    if graph.num_states != model.mixtures.num_states:
        raise UserError(f"{graph_path}: not a graph of {model_path}: {graph.num_states} states, not as many as it has")

    def scored(utterances: Iterable[Utterance]) -> Iterator[tuple[Utterance, Scores]]:
        for each in utterances:
            yield each, model.mixtures.log_likelihoods(with_deltas(cepstra(each.pcm())))

    dev = None if tune_on is None else ((each.text, scores) for each, scores in scored(read_manifest(tune_on)))
    scale = choose_scale(spec, graph, dev)
    tuned = time.perf_counter()
    utterances = read_manifest(manifest)
    found = [(each, decode_scores(scale.value * x, graph, beam_of(spec))) for each, x in scored(utterances)]
    ended = time.perf_counter()
    cut = sum(not one.whole for _, one in found)
    seconds = sum(each.samples for each in utterances) / SAMPLE_RATE
    warnings = [*scale.warnings, *([f"{cut} searches did not end where a sentence may end"] if cut else [])]
    return rows_of(found), {
        "decoder": {"kind": "gmm", **spec.model_dump(mode="json")},
        "scale": scale.value,
        "tuning": scale.record,
        "utterances": len(utterances),
        "audio_seconds": round(seconds, 3),
        "references": references_record(utterances, graph),
        "unfinished": cut,
        "warnings": warnings,
        "cost": {
            "seconds": round(ended - began, 3),
            "decode_seconds": round(ended - tuned, 3),
            "times_real_time": round(seconds / max(ended - tuned, 1e-9), 1),
        },
    }

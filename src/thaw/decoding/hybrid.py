"""Hybrid decoding: a network's states, made likelihoods by their priors, through a decoding graph.

What a network says of a frame is p(state | frame). A graph wants log p(frame | state), which is by Bayes' rule

    log p(state | frame) - log p(state) + a constant of the frame

(Bourlard & Morgan 1994, section 7). The prior is how often the alignment that the network learnt from has the state,
one added to each count so that none is impossible. Frames are not independent of each other as the rule takes them to
be: hence a scale for the whole, tuned on dev, and one for the prior.

Shapes: T frames, S states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from thaw.alignment.states import read_alignment
from thaw.config.decoders import HybridSpec
from thaw.errors import UserError
from thaw.files import read_json
from thaw.units import States, Units

Floats = NDArray[np.float32]


def log_priors(counts: NDArray[np.int64]) -> Floats:
    """Natural log priors (S,) of states that an alignment has so many frames of, one added to each."""
    more = counts.astype(np.float64) + 1.0
    priors: Floats = np.log(more / more.sum()).astype(np.float32)
    return priors


def scaled(log_posteriors: Floats, priors: Floats, scale: float, prior_scale: float) -> Floats:
    """Scores (T, S) for a graph: scale · (log posterior - prior_scale · log prior)."""
    return np.asarray(scale * (log_posteriors - prior_scale * priors), np.float32)


class Hybrid:
    """A graph and the priors of its states, ready to search."""

    def __init__(self, spec: HybridSpec, units: Units, graph: Path, alignment: Path) -> None:
        """`graph` is the file of `thaw graph`, others lie beside it; `alignment` is of what the model learnt.

        UserError where the model, the graph and the alignment are not of the same states.
        """
        from thaw.alignment.graph import RECORD, read_graph  # only here: no other decoder needs Kaldi

        if not isinstance(units, States):
            raise UserError(f"a hybrid searches tied states, and this model's classes are {units.describe()}")
        self.spec = spec
        self.graph = read_graph(graph)
        aligned = read_alignment(alignment)
        self.priors = log_priors(aligned.counts())
        made = read_json(graph.with_name(RECORD)).get("gmm_sha256")
        if made != aligned.meta.get("gmm_sha256"):
            raise UserError(f"{graph}: its states are of another GMM than those of {alignment}; run the `graph` rule")
        for path, count in ((graph, self.graph.num_states), (alignment, aligned.num_states)):
            if count != units.size:
                raise UserError(f"{path}: {count} states, but the model has {units.describe()}")

    @property
    def vocabulary(self) -> frozenset[str]:
        """The words it can give."""
        return frozenset(self.graph.words)

    def text(self, log_posteriors: Floats, scale: float, prior_scale: float) -> str:
        """The likeliest words of log posteriors (T, S)."""
        from thaw.alignment.search import Beam, decode_scores

        beam = Beam(self.spec.beam, self.spec.max_active)
        found = decode_scores(scaled(log_posteriors, self.priors, scale, prior_scale), self.graph, beam)
        return " ".join(found.words)


@dataclass(frozen=True)
class Choice:
    """The scales that make the fewest errors on dev, and what was found on the way."""

    scale: float
    prior_scale: float
    record: dict[str, Any] | None  # None where there was nothing to choose
    warnings: tuple[str, ...] = ()


def tune(spec: HybridSpec, search: Callable[[float, float], Sequence[str]], references: Sequence[str]) -> Choice:
    """The scales of `spec` for `references`, whose hypotheses `search(scale, prior_scale)` gives in their order.

    Fewest word errors; then fewest character errors; then the smaller prior scale, the smaller scale.
    """
    if not spec.tunes:
        return Choice(spec.scales[0], spec.prior_scales[0], None)
    total = max(1, sum(len(text.split()) for text in references))
    found = []
    for prior_scale, scale in product(sorted(set(spec.prior_scales)), sorted(set(spec.scales))):
        pairs = list(zip(references, search(scale, prior_scale), strict=True))
        words = sum(Levenshtein.distance(a.split(), b.split()) for a, b in pairs)
        letters = sum(Levenshtein.distance(a, b) for a, b in pairs)
        found.append((words, letters, prior_scale, scale))
    words, _, prior_scale, scale = min(found)
    record = {
        "grid": [
            {"scale": scale, "prior_scale": prior_scale, "wer": words / total} for words, _, prior_scale, scale in found
        ],
        "dev_wer": words / total,
        "utterances": len(references),
    }
    return Choice(scale, prior_scale, record, tuple(_edges(spec, scale, prior_scale)))


def _edges(spec: HybridSpec, scale: float, prior_scale: float) -> list[str]:
    """A best scale at the edge of what was tried may not be the best there is."""
    return [
        f"the best {name}, {chosen:g}, lies on the edge of the grid: widen {name}s"
        for name, values, chosen in (("scale", spec.scales, scale), ("prior_scale", spec.prior_scales, prior_scale))
        if len(values) > 1 and chosen in (min(values), max(values))
    ]

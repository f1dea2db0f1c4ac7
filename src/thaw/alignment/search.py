"""The likeliest words through a decoding graph, from scores of tied states: Kaldi's beam search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.alignment import kaldi
from thaw.alignment.graph import Graph


@dataclass(frozen=True)
class Beam:
    """How much is searched: costs are those of the graph, scores are taken as they are given."""

    beam: float = 13.0
    max_active: int = 7000


@dataclass(frozen=True)
class Found:
    """What was found: the words, the states by frame (T,), and the cost of it all (lower is likelier).

    `whole` says whether the search ended where the graph may end; else these are the likeliest words so far.
    """

    words: tuple[str, ...]
    states: NDArray[np.int32]
    cost: float
    whole: bool = True


NOTHING = Found((), np.zeros(0, np.int32), math.inf, False)


def decode_scores(scores: NDArray[np.float32], graph: Graph, beam: Beam = Beam()) -> Found:
    """The best path of scaled log likelihoods (T, S), of an utterance and each state; no words where T is 0.

    S must be the graph's number of states, and all scores finite: the search itself looks at neither (ValueError).
    """
    if scores.ndim != 2 or scores.shape[1] != graph.num_states:
        raise ValueError(f"scores {scores.shape} for a graph of {graph.num_states} states")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite")
    if not len(scores):
        return NOTHING
    khg = kaldi.hmm()
    options = khg.FasterDecoderOptions(beam=beam.beam, max_active=beam.max_active)
    decoder = khg.FasterDecoder(graph.fst, options)
    decoder.decode(khg.DecodableCtc(np.ascontiguousarray(scores, np.float32)))
    whole = decoder.reached_final()
    found, path = decoder.get_best_path()
    if not found:
        return NOTHING
    _, labels, words, weight = kaldi.fst().get_linear_symbol_sequence(path)
    cost = weight.value1 + weight.value2  # the graph's and the scores'
    states = np.array(labels, np.int32) - 1
    return Found(tuple(graph.words[word - 1] for word in words), states, float(cost), bool(whole))

"""Which state each frame of an utterance is in, given its words: Kaldi's training graphs and its aligner."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.alignment import kaldi
from thaw.alignment.acoustic import AcousticModel, Hmm
from thaw.alignment.mfcc import Features
from thaw.alignment.states import Aligned
from thaw.alignment.tree import PLACES

ACOUSTIC_SCALE = 0.1  # with it, beams mean what they mean in Kaldi's recipes
TRANSITION_SCALE, SELF_LOOP_SCALE = 1.0, 0.1
BEAM, RETRY_BEAM = 10.0, 40.0
FLAT_TRIES = 10
Path = NDArray[np.int32]  # (T,) transition ids


class Graphs:
    """Makes the training graphs of one tree and lexicon."""

    def __init__(self, hmm: Hmm, lexicon_fst: Any) -> None:
        khg = kaldi.hmm()
        self.hmm = hmm  # the compiler holds its transitions and tree by bare pointers
        # The probabilities of transitions are added before each alignment; with the defaults they would count twice.
        options = khg.TrainingGraphCompilerOptions(transition_scale=0.0, self_loop_scale=0.0)
        self.compiler = khg.TrainingGraphCompiler(
            trans_model=hmm.transitions, ctx_dep=hmm.tree, lex_fst=lexicon_fst, disambig_syms=[], opts=options
        )

    def compile(self, words: list[int]) -> Any:
        """The graph of an utterance's words, by number."""
        return self.compiler.compile_graph_from_text(words)


def flat(graph: Any, frames: int, seed: int) -> Path | None:
    """Every state of a way through the graph as long as every other; None where there are too few frames."""
    kf = kaldi.fst()
    found, aligned = kf.equal_align(ifst=graph, length=frames, rand_seed=seed, num_retries=FLAT_TRIES)
    if not found:
        return None
    _, path, _, _ = kf.get_linear_symbol_sequence(aligned)
    return np.array(path, np.int32)


def align(model: AcousticModel, graph: Any, features: Features) -> Path | None:
    """The likeliest way through the graph; None where there is none within the beam, or too few frames for any."""
    khg = kaldi.hmm()
    hmm = model.hmm
    weighted = graph.copy()
    khg.add_transition_probs(
        trans_model=hmm.transitions,
        transition_scale=TRANSITION_SCALE,
        self_loop_scale=SELF_LOOP_SCALE,
        fst=weighted,
    )
    scores = khg.DecodableAmDiagGmmScaled(
        am=model.kaldi_mixtures, tm=hmm.transitions, feats=features, scale=ACOUSTIC_SCALE
    )
    done, _, _, _, _, path, _ = khg.align_utterance_wrapper(
        config=khg.AlignConfig(beam=BEAM, retry_beam=RETRY_BEAM),
        utt="",
        acoustic_scale=ACOUSTIC_SCALE,
        fst=weighted,
        decodable=scores,
        num_done=0,
        num_error=0,
        num_retried=0,
        tot_like=0.0,
        frame_count=0,
    )
    return np.array(path, np.int32) if done and len(path) == len(features) else None


def contexts(hmm: Hmm, path: Path) -> NDArray[np.int64]:
    """(T, 4): left phone, phone, right phone and place of every frame; silence has no context (see `tree`)."""
    begins, phones, places = _runs(hmm, path)
    said = phones[::PLACES]
    left, right = np.concatenate([[0], said[:-1]]), np.concatenate([said[1:], [0]])
    alone = said == 1
    left[alone] = right[alone] = 0
    each = [np.repeat(side, PLACES) for side in (left, said, right)]
    lengths = np.diff([*begins, len(path)])
    return np.repeat(np.stack([*each, places], axis=1), lengths, axis=0).astype(np.int64)


def runs(hmm: Hmm, path: Path) -> Aligned:
    """The path as runs of states and phones; phones are numbered from 0 here, as files have them."""
    begins, phones, _ = _runs(hmm, path)
    lengths = np.diff([*begins, len(path)])
    spans = np.add.reduceat(lengths, np.arange(0, len(lengths), PLACES))
    states = zip(hmm.state[path[begins]].tolist(), lengths.tolist(), strict=True)
    return Aligned(tuple(states), tuple(zip((phones[::PLACES] - 1).tolist(), spans.tolist(), strict=True)))


def _runs(hmm: Hmm, path: Path) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Where each stay in a state begins, of which phone it is, and at which place.

    Kaldi puts the transition out of a state first and its self-loops after (`reorder`), and no state is left out: so
    each transition that is no self-loop begins a stay, and PLACES of them are a phone.
    """
    begins = np.flatnonzero(~hmm.stays[path])
    return begins, hmm.phone[path[begins]], np.arange(len(begins)) % PLACES

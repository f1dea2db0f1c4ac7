"""The acoustic model: phones, tree, transitions and mixtures, as one file and as Kaldi's objects.

The transition probabilities are kept as the counts that they are estimated from: Kaldi's own objects can only be stored
pickled, and those counts give them back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.alignment import kaldi
from thaw.alignment.gmm import Mixtures
from thaw.alignment.mfcc import DIMENSION
from thaw.alignment.tree import PLACES
from thaw.errors import UserError

VERSION = 1
STAY, LEAVE = 0.75, 0.25  # transition probabilities of a state before any was counted


@dataclass(frozen=True)
class AcousticModel:
    """A GMM-HMM. `phones` are numbered from 1, silence first; `transitions` counts (transition ids + 1,)."""

    phones: tuple[str, ...]
    tree: bytes  # in Kaldi's form
    transitions: NDArray[np.float64]
    mixtures: Mixtures

    @cached_property
    def hmm(self) -> Hmm:
        """Topology, tree and transitions as Kaldi's objects."""
        return Hmm(len(self.phones), self.tree, self.transitions)

    @cached_property
    def kaldi_mixtures(self) -> Any:
        """The mixtures as Kaldi's AmDiagGmm, for its aligner."""
        return _kaldi_mixtures(self.mixtures)

    def __reduce__(self) -> tuple[Any, ...]:
        """What is sent to another process: not Kaldi's objects, which it makes itself."""
        return AcousticModel, (self.phones, self.tree, self.transitions, self.mixtures)


class Hmm:
    """Kaldi's objects of a model, and what its transition ids (from 1; entry 0 of each array is a dummy) stand for."""

    def __init__(self, phones: int, tree: bytes, transitions: NDArray[np.float64] | None = None) -> None:
        khg = kaldi.hmm()
        self.topology = khg.HmmTopology()
        self.topology.read(_topology(phones))
        self.tree = khg.ContextDependency.__new__(khg.ContextDependency)
        self.tree.__setstate__(([byte - 256 if byte > 127 else byte for byte in tree],))  # its only reader of bytes
        self.transitions = khg.TransitionModel(ctx_dep=self.tree, hmm_topo=self.topology)
        if transitions is not None and len(transitions):
            self.transitions.mle_update(transitions, khg.MleTransitionUpdateConfig())
        ids = range(1, self.transitions.num_transition_ids + 1)
        self.state = np.array(self.transitions.transition_id_to_pdf_array(), np.int32)
        self.phone = np.array([0, *map(self.transitions.transition_id_to_phone, ids)], np.int32)
        self.stays = np.array([False, *map(self.transitions.is_self_loop, ids)])


def _topology(phones: int) -> str:
    """All phones alike: PLACES states from left to right."""
    states = " ".join(
        f"<State> {n} <PdfClass> {n} <Transition> {n} {STAY} <Transition> {n + 1} {LEAVE} </State>"
        for n in range(PLACES)
    )
    numbers = " ".join(map(str, range(1, phones + 1)))
    return (
        f"<Topology> <TopologyEntry> <ForPhones> {numbers} </ForPhones> {states} "
        f"<State> {PLACES} </State> </TopologyEntry> </Topology>"
    )


def _kaldi_mixtures(mixtures: Mixtures) -> Any:
    khg = kaldi.hmm()
    am = khg.AmDiagGmm()
    for state in range(mixtures.num_states):
        own = slice(mixtures.first[state], mixtures.first[state + 1])
        gmm = khg.DiagGmm(nmix=own.stop - own.start, dim=mixtures.means.shape[1])
        gmm.set_invvars_and_means(1.0 / mixtures.variances[own], mixtures.means[own])
        gmm.set_weights(mixtures.weights[own])
        gmm.compute_gconsts()
        am.add_pdf(gmm)
    return am


# --- files ------------------------------------------------------------------------------------------------------------


def save(path: Path, model: AcousticModel, meta: Mapping[str, Any]) -> None:
    """Write a model as safetensors; equal ones give equal bytes."""
    import torch

    from thaw.models.store import save_tensors

    mixtures = model.mixtures
    arrays = {
        "tree": np.frombuffer(model.tree, np.uint8),
        "transitions": model.transitions,
        "first": mixtures.first,
        "weights": mixtures.weights,
        "means": mixtures.means,
        "variances": mixtures.variances,
    }
    what = {"acoustic_model": VERSION, "phones": list(model.phones), "num_states": mixtures.num_states}
    save_tensors(path, {name: torch.from_numpy(np.array(each)) for name, each in arrays.items()}, {**meta, **what})


def load(path: Path) -> tuple[AcousticModel, dict[str, Any]]:
    """Read a model and its metadata; UserError where the file is none of this version."""
    from thaw.models.store import load_tensors

    tensors, meta = load_tensors(path)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        mixtures = Mixtures(arrays["first"], arrays["weights"], arrays["means"], arrays["variances"])
        if meta["acoustic_model"] != VERSION or mixtures.means.shape[1] != DIMENSION:
            raise KeyError("acoustic_model")
        model = AcousticModel(tuple(meta["phones"]), arrays["tree"].tobytes(), arrays["transitions"], mixtures)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: not an acoustic model of this version of thaw; run the `align` rule") from error
    return model, meta

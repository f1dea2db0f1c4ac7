"""Alignments of the tone corpus (conftest): its letters last as long as they were made to, so states are known."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from tests.training.conftest import ALPHABET, SECONDS
from thaw.alignment.frames import MIDDLE, SHIFT, frames_of
from thaw.alignment.states import Aligned, Inventory, write_alignment
from thaw.corpora.manifest import Utterance, read_manifest

STATES = len(ALPHABET)


def states_of(utterance: Utterance) -> list[int]:
    """The letter at the middle of each frame; the edges are silent, as spaces are."""
    edges = [800, *(int(16000 * SECONDS[letter]) for letter in utterance.text)]
    ends = np.cumsum(edges)
    middles = MIDDLE + SHIFT * np.arange(frames_of(utterance.samples))
    places = np.searchsorted(ends, middles, side="right")
    letters = [" ", *utterance.text, " "]
    return [ALPHABET.index(letters[place]) for place in places]


def align(manifest: Path, states: int = STATES, leave_out: tuple[str, ...] = (), gmm: str = "") -> Path:
    """The alignment of a manifest, beside it."""
    rows = [
        (u.id, Aligned(tuple((state, len(list(run))) for state, run in groupby(states_of(u)))))
        for u in read_manifest(manifest)
        if u.id not in leave_out
    ]
    path = manifest.with_suffix(".ali.safetensors")
    write_alignment(path, rows, Inventory(states), manifest, {"gmm_sha256": gmm})
    return path

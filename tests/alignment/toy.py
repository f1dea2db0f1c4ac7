"""An alignment that needs no Kaldi: the letters of the text share the frames evenly, one state each."""

from __future__ import annotations

from pathlib import Path

from thaw.alignment.frames import frames_of
from thaw.alignment.states import Aligned, Inventory, write_alignment
from thaw.corpora.manifest import read_manifest


def align_evenly(manifest: Path, path: Path, letters: str) -> Path:
    """Write to `path` an alignment of `manifest` whose states are the places in `letters`."""
    rows = []
    for utterance in read_manifest(manifest):
        frames, text = frames_of(utterance.samples), utterance.text
        cuts = [frames * n // len(text) for n in range(len(text) + 1)]
        runs = [(letters.index(c), b - a) for c, a, b in zip(text, cuts, cuts[1:], strict=False) if b > a]
        rows.append((utterance.id, Aligned(tuple(runs), tuple(runs))))
    write_alignment(path, rows, Inventory(len(letters), tuple(letters)), manifest, {})
    return path

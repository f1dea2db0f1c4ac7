"""Words made of tones: a corpus whose phones are known to the sample, and that a GMM-HMM learns in a second."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.training.conftest import ALPHABET, SECONDS, write_split
from thaw.alignment.frames import frames_of
from thaw.alignment.lexicon import Lexicon, write_lexicon
from thaw.alignment.states import Aligned, Inventory, write_alignment
from thaw.config.alignment import AlignmentSpec, SearchSpec
from thaw.corpora.manifest import read_manifest
from thaw.randomness import rng

WORDS = ("ab", "ba", "cad", "dab", "bcd")
SPEC = AlignmentSpec(
    mono_iterations=6,
    mono_gaussians=18,
    iterations=5,
    leaves=20,
    gaussians=30,
    search=SearchSpec(scales=(0.1,)),
)
EDGE = 800  # samples of silence at both ends (tests.training.conftest.spoken)
__all__ = ["ALPHABET", "EDGE", "SECONDS", "SPEC", "WORDS", "align_evenly", "lexicon_file", "tone_words"]


def tone_words(folder: Path, split: str, count: int) -> Path:
    """A manifest of sentences of WORDS."""
    texts = {}
    for number in range(count):
        draw = rng(7, split, number)
        said = [str(word) for word in draw.choice(WORDS, int(draw.integers(2, 5)))]
        texts[f"{split}-{number:02d}"] = " ".join(said)
    return write_split(folder, split, texts)


def lexicon() -> Lexicon:
    """A phone for each letter."""
    return Lexicon({word: (tuple(word),) for word in sorted(WORDS)})


def lexicon_file(folder: Path) -> Path:
    """The same as a file."""
    path = folder / "lexicon.txt"
    write_lexicon(path, lexicon())
    return path


def align_evenly(manifest: Path, path: Path, letters: str) -> Path:
    """Write to `path` an alignment of `manifest` whose states are the places in `letters`, evenly long: no Kaldi."""
    rows = []
    for utterance in read_manifest(manifest):
        frames, text = frames_of(utterance.samples), utterance.text
        cuts = [frames * n // len(text) for n in range(len(text) + 1)]
        runs = [(letters.index(c), b - a) for c, (a, b) in zip(text, pairwise(cuts), strict=True) if b > a]
        rows.append((utterance.id, Aligned(tuple(runs), tuple(runs))))
    write_alignment(path, rows, Inventory(len(letters), tuple(letters)), manifest, {})
    return path

"""A bootstrap on speech whose phones' times are known: espeak-ng's own, of sentences and voices it has not heard."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from bench import alignment as bench

from thaw.config.alignment import AlignmentSpec

SPEC = AlignmentSpec(mono_iterations=12, mono_gaussians=200, iterations=7, leaves=140, gaussians=300)


def test_forced_alignments_of_held_out_speech_are_near_the_truth(tmp_path: Path) -> None:
    found = bench.measure(tmp_path, "es", "es", {"train": 80, "dev": 4, "test": 12}, SPEC)
    rows = found["record"]["iterations"]
    for before, later in pairwise(rows):
        assert later["log_likelihood"] > before["log_likelihood"] or before["stage"] != later["stage"]
    off = np.abs(found["late"])
    assert len(off) > 0.9 * found["phones"]
    assert found["same_name"] > 0.9
    assert np.median(off) < 0.02
    assert np.mean(off < 0.05) > 0.85
    assert found["wer"] < 0.6

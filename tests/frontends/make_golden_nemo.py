"""Add one version of NeMo's features to nemo.npz: python -m tests.frontends.make_golden_nemo, beside an installed NeMo.

Run once with each of nemo_toolkit 0.10.1 (torch-stft, librosa < 0.10), 1.23.0 and 3.0.0: its number tells which of
thaw's front ends it stands for. NeMo is not needed to run the tests.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "nemo.npz"
SAMPLES = (8000, 8123)  # a whole number of frames, and not


def samples(length: int) -> np.ndarray:
    """int16: a chirp under noise whose two ends are loud, so that what stands beyond them counts."""
    random = np.random.default_rng(5)
    t = np.arange(length) / 16000
    chirp = 7000 * np.cos(2 * np.pi * (150 * t + 5000 * t**2)) * (0.2 + np.abs(np.cos(5 * t)))
    return np.round(chirp + random.uniform(-300, 300, length)).astype(np.int16)


def nemo_features(length: int) -> dict[str, np.ndarray]:
    """Which of thaw's front ends the installed NeMo has, and its features (T, F) of `samples`, valid frames only."""
    import nemo

    old = nemo.__version__.startswith("0.")
    if old:
        from nemo.collections.asr.parts.features import FilterbankFeatures
    else:
        from nemo.collections.asr.parts.preprocessing.features import FilterbankFeatures
    name = "nemo-v0.10" if old else "nemo-v1.0" if nemo.__version__.startswith("1.") else "nemo-2025-07"
    wave = torch.from_numpy(samples(length).astype(np.float32) / 32768).unsqueeze(0)
    lengths = torch.tensor([length])
    if old:  # this one does not say how many frames are valid
        featurizer = FilterbankFeatures(n_fft=512, dither=0.0, pad_to=0, stft_conv=True).eval()
        return {name: featurizer(wave, lengths)[0, :, : int(featurizer.get_seq_len(lengths.float()))].T.numpy()}
    kinds = {name: {}} | ({"nemo-80": {"n_window_size": 400, "nfilt": 80}} if name == "nemo-2025-07" else {})
    results = {}
    for kind, extra in kinds.items():
        found, frames = FilterbankFeatures(n_fft=512, dither=0.0, pad_to=0, **extra).eval()(wave, lengths)
        results[kind] = found[0, :, : int(frames)].T.numpy()
    return results


if __name__ == "__main__":
    kept = dict(np.load(DATA)) if DATA.exists() else {}
    for length in SAMPLES:
        found = nemo_features(length)
        kept |= {f"{name} {length}": features.astype(np.float32) for name, features in found.items()}
    np.savez_compressed(DATA, **dict(sorted(kept.items())))
    print(f"{', '.join(found)}: {DATA.stat().st_size} bytes", file=sys.stderr)

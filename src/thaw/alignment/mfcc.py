"""What the GMM hears: 13 cepstra by Kaldi, less their mean over the utterance, with first and second differences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from thaw.alignment import kaldi
from thaw.alignment.frames import frames_of
from thaw.audio.wav import SAMPLE_RATE, Pcm

CEPSTRA = 13
DIMENSION = 3 * CEPSTRA
DELTA_WINDOW = 2  # frames to each side, as Kaldi's add-deltas has it
Features = NDArray[np.float32]


def cepstra(pcm: Pcm) -> Features:
    """(T, CEPSTRA) of samples in units of int16, without dither; T is `frames_of` their number. C0 is the energy."""
    if not frames_of(len(pcm)):
        return np.zeros((0, CEPSTRA), np.float32)
    knf = kaldi.features()
    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.use_energy = False
    options.num_ceps = CEPSTRA
    computer = knf.OnlineMfcc(options)
    computer.accept_waveform(SAMPLE_RATE, pcm.astype(np.float32).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(t) for t in range(computer.num_frames_ready)])


def with_deltas(static: Features) -> Features:
    """(T, DIMENSION) of cepstra (T, CEPSTRA): their mean taken away, then first and second differences beside them.

    A difference is the slope of the line through the 2 * DELTA_WINDOW + 1 frames around; beyond the edges the first
    and the last frame are repeated (Kaldi's add-deltas).
    """
    if not len(static):
        return np.zeros((0, DIMENSION), np.float32)
    centred = static - static.mean(axis=0, dtype=np.float64).astype(np.float32)
    steps = np.arange(-DELTA_WINDOW, DELTA_WINDOW + 1)
    slope = steps / np.sum(steps**2)
    frames = np.arange(len(static))
    parts = [centred]
    for filter in (slope, np.convolve(slope, slope)):  # one filter each, so that edges are repeated once only
        reach = len(filter) // 2
        around = np.clip(frames[:, None] + np.arange(-reach, reach + 1), 0, len(static) - 1)
        parts.append(np.einsum("tkf,k->tf", centred[around], filter).astype(np.float32))
    return np.concatenate(parts, axis=1)

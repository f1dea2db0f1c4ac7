"""Plain log-mel features: their number of frames, their scale, what a tone and silence give."""

from __future__ import annotations

import numpy as np
import pytest

from thaw.config.rnn import BlstmSpec
from thaw.errors import UserError
from thaw.frontends import dimension, features, logmel


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_frames_of_a_length_agree_with_the_models_own_count(samples: int, frames: int) -> None:
    assert features("log-mel-40", np.ones(samples, np.int16)).shape == (frames, dimension("log-mel-40"))
    assert logmel.frames(samples) == frames
    assert BlstmSpec(kind="blstm", mel=40).frames(samples) == frames


@pytest.mark.parametrize("name", ["log-mel-0", "log-mel-7", "log-mel-101", "log-mel-", "log-mel-040", "log-mel-x"])
def test_a_front_end_of_no_such_size(name: str) -> None:
    with pytest.raises(UserError, match="log-mel-N"):
        features(name, np.ones(400, np.int16))
    with pytest.raises(UserError, match="log-mel-N"):
        dimension(name)


def test_every_filter_is_normalised_over_the_utterance() -> None:
    noise = np.random.default_rng(1).normal(0, 1000, 16000).astype(np.float32)
    x = features("log-mel-80", noise).astype(np.float64)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-3)
    np.testing.assert_array_equal(features("log-mel-80", np.zeros(1000, np.int16)), 0)


def test_a_tone_is_loudest_where_its_frequency_lies_on_the_mel_scale() -> None:
    time = np.arange(16000) / 16000
    quiet = np.random.default_rng(1).normal(0, 1, 16000)
    for hertz in (300.0, 1000.0, 3000.0):
        wave = quiet + np.where(time > 0.5, 5000 * np.sin(2 * np.pi * hertz * time), 0)
        x = features("log-mel-40", np.round(wave).astype(np.int16))
        rise = x[60:].mean(0) - x[:40].mean(0)
        edges = 700 * np.expm1(np.linspace(np.log1p(20 / 700), np.log1p(8000 / 700), 42))
        nearest = int(np.abs(edges[1:-1] - hertz).argmin())
        assert rise[nearest] > 1.9  # nearly all its variance: quiet, then loud


def test_every_filter_weighs_some_bin() -> None:
    for filters in (*range(8, 100, 13), 80, 100):
        assert (logmel.mel_matrix(filters).max(0) > 0.2).all(), filters
    matrix = logmel.mel_matrix(80)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix[10:240].sum(1), 1, atol=1e-5)  # neighbours share a bin wholly

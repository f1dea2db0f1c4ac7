"""The front end against numbers computed with TensorFlow's own operations (chirp of one second, 100 to 3100 Hz)."""

from __future__ import annotations

import numpy as np
import pytest

from thaw.config.models import DeepSpeechSpec
from thaw.errors import UserError
from thaw.frontends import deepspeech, dimension, features

FRAME_0 = [-48.03395, 12.88478, 11.83826, 6.534608, 3.840155, 1.891875, 1.748168, 0.1832553]
FRAME_0 += [-0.005953358, -0.5595403, -0.9417743, -0.8987920, -1.155123]
FRAME_24 = [-53.84764, -2.160294, -11.727716, -5.641394, 7.660917, 4.47297, -4.856353, -3.71003]
FRAME_24 += [2.840626, 3.163789, -1.529105, -3.235613, 0.360847]


def chirp() -> np.ndarray:
    t = np.arange(16000) / 16000
    return np.round(8000 * np.sin(2 * np.pi * (100 * t + 1500 * t**2))).astype(np.int16)


def test_chirp_gives_tensorflows_numbers():
    mfcc = features("deepspeech", chirp())
    assert mfcc.shape == (49, 26)
    assert mfcc.dtype == np.float32
    np.testing.assert_allclose(mfcc[0, :13], FRAME_0, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mfcc[24, :13], FRAME_24, rtol=0, atol=1e-5)
    assert mfcc.sum(dtype=float) == pytest.approx(-2966.809, abs=1e-3)
    assert np.abs(mfcc).sum(dtype=float) == pytest.approx(5479.047, abs=1e-3)


def test_silence_is_the_floor_in_coefficient_0_alone():
    mfcc = features("deepspeech", np.zeros(1600, np.int16))
    np.testing.assert_allclose(mfcc[:, 0], -247.139366, rtol=1e-7)
    np.testing.assert_allclose(mfcc[:, 1:], 0.0, atol=1e-12)


def test_mel_triangles():
    matrix = deepspeech.mel_matrix()
    np.testing.assert_allclose(matrix.sum(0)[:5], [1.3391, 1.5130, 1.6501, 1.8694, 1.8688], atol=5e-5)
    assert matrix.sum(0)[-1] == pytest.approx(15.9159, abs=5e-5)
    assert [np.nonzero(matrix[:, c])[0].tolist() for c in range(4)] == [[2, 3], [3, 4, 5], [4, 5, 6], [6, 7, 8]]


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (511, 0), (512, 1), (831, 1), (832, 2), (16000, 49)])
def test_frames_of_a_length_agree_with_the_models_own_count(samples: int, frames: int):
    assert features("deepspeech", np.ones(samples, np.int16)).shape == (frames, dimension("deepspeech"))
    assert DeepSpeechSpec(kind="deepspeech").frames(samples) == frames


def test_a_frame_hears_its_own_window_only():
    pcm = chirp()
    cut = features("deepspeech", pcm[320 * 10 : 320 * 10 + 512])
    np.testing.assert_array_equal(cut[0], features("deepspeech", pcm)[10])


@pytest.mark.parametrize("pcm", [np.zeros(1000, np.float64), np.zeros((2, 1000), np.int16)])
def test_other_samples_than_mono_int16_or_float32_are_refused(pcm: np.ndarray):
    with pytest.raises(ValueError, match="must be int16 or float32 of shape"):
        features("deepspeech", pcm)


def test_unknown_front_end():
    with pytest.raises(UserError, match="no front end 'mfc'"):
        features("mfc", chirp())
    with pytest.raises(UserError, match="no front end 'mfc'"):
        dimension("mfc")

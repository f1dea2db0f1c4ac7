"""NeMo's features, from int16 samples: against its own, of three releases and for Conformer, kept in nemo.npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frontends.make_golden_nemo import SAMPLES, nemo_features, samples
from thaw.config.conformer import ConformerSpec
from thaw.config.models import QuartzNetSpec
from thaw.frontends import dimension, features
from thaw.frontends.nemo import VERSIONS, mel_matrix

QUARTZNETS = [name for name in VERSIONS if name != "nemo-80"]
GOLDEN = dict(np.load(Path(__file__).parent / "nemo.npz"))
# A low channel of a quiet frame is mostly the rounding of the Fourier transform, which each library has its own way of.
WORST, MEAN = 5e-4, 5e-6


def compare(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=WORST)
    assert np.abs(found - expected).mean() < MEAN


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("length", SAMPLES)
def test_nemos_numbers(name: str, length: int) -> None:
    compare(features(name, samples(length)), GOLDEN[f"{name} {length}"])


def test_the_installed_nemos_numbers() -> None:
    pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed", exc_type=ImportError)
    for name, expected in nemo_features(9000).items():
        compare(features(name, samples(9000)), expected)


def test_the_releases_differ_in_window_and_ends() -> None:
    """By so much that none of the comparisons above would pass with another's numbers."""
    old, first, last = (features(name, samples(8123)) for name in QUARTZNETS)
    assert np.abs(old - first).max() > 0.05
    assert np.abs(first[:50] - last).max() > 0.5  # at the ends


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("length", [0, 1, 256, 257, 319, 320, 321, 16000, 16001, 16159])
def test_frames_of_a_length_agree_with_the_models_own_count(name: str, length: int) -> None:
    found = features(name, samples(length))
    floor, ceiling = length // 160, -(-length // 160)
    expected = {"nemo-v0.10": ceiling, "nemo-v1.0": floor + 1, "nemo-2025-07": floor, "nemo-80": floor}[name]
    assert found.shape == (expected if length > 256 else 0, dimension(name))
    assert np.isfinite(found).all()
    if name == "nemo-80":
        assert ConformerSpec(kind="conformer").frames(length) == (len(found) + 3) // 4
        return
    spec = QuartzNetSpec.model_validate({"kind": "quartznet", "frontend_version": name.removeprefix("nemo-")})
    assert spec.frames(length) == (len(found) + 1) // 2


@pytest.mark.parametrize("name", VERSIONS)
def test_each_channel_is_normalised_over_the_utterance(name: str) -> None:
    found = features(name, samples(16000)).astype(float)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0, ddof=1), 1, atol=1e-4)


def test_loudness_does_not_matter_and_float_samples_are_in_units_of_int16() -> None:
    pcm = samples(16000)
    np.testing.assert_array_equal(features("nemo-v1.0", pcm), features("nemo-v1.0", pcm.astype(np.float32)))
    half = features("nemo-v1.0", pcm.astype(np.float32) / 2)
    assert np.median(np.abs(half - features("nemo-v1.0", pcm))) < 0.01  # a constant is added in the logarithm


@pytest.mark.parametrize("name", VERSIONS)
def test_digital_silence_stays_bounded(name: str) -> None:
    found = features(name, np.zeros(16000, np.int16))
    assert np.abs(found).max() < 10


@pytest.mark.parametrize("pcm", [np.zeros(1000, np.float64), np.zeros((2, 1000), np.int16)])
def test_other_samples_than_mono_int16_or_float32_are_refused(pcm: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be int16 or float32"):
        features("nemo-v1.0", pcm)


@pytest.mark.parametrize("channels", [64, 80])
def test_mel_triangles_have_the_area_of_slaneys(channels: int) -> None:
    matrix = mel_matrix(channels)
    assert matrix.shape == (257, channels)
    areas = matrix.sum(0) * 16000 / 512
    np.testing.assert_allclose(areas[40:], 1, atol=0.1)  # narrow ones meet too few bins

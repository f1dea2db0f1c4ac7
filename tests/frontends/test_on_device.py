"""Front ends on the device are those of the host, to the tolerances that docs/features.md states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.errors import UserError
from thaw.frontends import dimension, features, frames, nemo
from thaw.frontends.on_device import FrontEnd, front_end
from thaw.training.sounds import side_by_side

CPU = torch.device("cpu")
# The most by which a value may differ. What the host has in single precision is the less exact of the two.
TOLERANCE = {"deepspeech": 1e-4, "fbank": 1e-5, "fbank-80": 1e-5, "log-mel-40": 1e-4, "log-mel-80": 1e-4}
TOLERANCE |= dict.fromkeys(nemo.VERSIONS, 1e-4)
LENGTHS = (0, 1, 256, 257, 399, 400, 511, 512, 559, 560, 831, 832, 16000, 16001, 48123)


def noise(samples: int, level: float = 3000.0) -> NDArray[np.int16]:
    return np.random.default_rng(samples).normal(0, level, samples).astype(np.int16)


def speech(samples: int, seed: int = 1) -> NDArray[np.int16]:
    """Harmonics of a gliding pitch under moving formants, in syllables, with breath and the noise of a room."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time + seed)) / 16000
    wave = np.zeros(samples)
    for number in range(1, 40):
        hertz = 120.0 * number
        formants = (500 + 250 * np.sin(3 * time), 1500 + 500 * np.sin(2 * time), 2600.0)
        wave += sum(np.exp(-(((hertz - peak) / 150) ** 2)) for peak in formants) * np.sin(number * phase)
    syllables = np.clip(np.sin(2 * np.pi * 2.2 * time), 0, 1) ** 0.5
    breath = generator.normal(0, 0.05, samples) * (1 - syllables)
    wave = 4000 * (wave * syllables + breath) + generator.normal(0, 12, samples)
    return np.clip(wave, -32768, 32767).astype(np.int16)


def paused(samples: int) -> NDArray[np.int16]:
    """Speech with half a second of digital silence in it."""
    made = speech(samples, 2)
    made[samples // 3 : samples // 3 + 8000] = 0
    return made


SOUNDS = {
    "noise": [noise(length) for length in LENGTHS],
    "speech": [speech(length) for length in (9000, 16000, 40007)],
    "loud": [np.clip(8 * speech(20000, 3).astype(np.int32), -32768, 32767).astype(np.int16)],
    "paused": [paused(32000)],
    "floats": [noise(length).astype(np.float32) * np.float32(1.01) for length in (600, 16000)],
}


def batch(made_by: FrontEnd, name: str, sounds: Sequence[NDArray[np.int16] | NDArray[np.float32]]) -> list[Tensor]:
    """The features of each of several sounds, made side by side; what lies beyond them is 0."""
    samples, lengths = [len(sound) for sound in sounds], [frames(name, len(sound)) for sound in sounds]
    x = made_by(side_by_side(sounds), torch.tensor(samples), torch.tensor(lengths))
    assert (x.dtype, x.shape) == (torch.float32, (len(sounds), max(lengths), dimension(name)))
    assert all(not row[length:].any() for row, length in zip(x, lengths, strict=True))
    return [row[:length] for row, length in zip(x, lengths, strict=True)]


@pytest.mark.parametrize("name", TOLERANCE)
def test_a_batch_is_what_the_host_makes_of_each(name: str) -> None:
    made_by = front_end(name, CPU)
    assert made_by.features == dimension(name)
    for kind, sounds in SOUNDS.items():
        for sound, made in zip(sounds, batch(made_by, name, sounds), strict=True):
            expected = features(name, sound)
            assert made.shape == expected.shape == (frames(name, len(sound)), dimension(name))
            worst = np.abs(made.numpy() - expected).max(initial=0)
            assert worst <= TOLERANCE[name], (kind, len(sound))


@pytest.mark.parametrize("name", TOLERANCE)
def test_what_is_beside_an_utterance_changes_nothing_of_it(name: str) -> None:
    """But for the last bit of a value, now and then."""
    made_by = front_end(name, CPU)
    sounds = [sound for kind in ("noise", "speech", "paused") for sound in SOUNDS[kind]]
    together, changed, values = batch(made_by, name, sounds), 0, 0
    for sound, made in zip(sounds, together, strict=True):
        (alone,) = batch(made_by, name, [sound])
        torch.testing.assert_close(made, alone, rtol=2e-7, atol=1e-9)
        changed, values = changed + int((made != alone).sum()), values + made.numel()
    assert changed <= values // 1000


@pytest.mark.parametrize("name", TOLERANCE)
def test_silence(name: str) -> None:
    """Where nothing moves, normalised features are 0; NeMo's rounds its mean, and divides that by 1e-5 or so."""
    sounds = [np.zeros(length, np.int16) for length in (3000, 16000)]
    for sound, made in zip(sounds, batch(front_end(name, CPU), name, sounds), strict=True):
        if name in nemo.VERSIONS:
            assert made.abs().max() < 1e-4
        else:
            np.testing.assert_allclose(made.numpy(), features(name, sound), rtol=0, atol=TOLERANCE[name])


@pytest.mark.parametrize("name", TOLERANCE)
def test_more_windows_than_are_made_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by, sounds = front_end(name, CPU), [speech(30000), speech(50000)]
    whole = batch(made_by, name, sounds)
    monkeypatch.setattr("thaw.frontends.on_device.ROWS", 64)
    monkeypatch.setattr("thaw.frontends.on_device.MOST", 128)
    for one, other in zip(whole, batch(made_by, name, sounds), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("name", [*TOLERANCE, "log-mel-8", "fbank-23"])
def test_frames_are_foretold(name: str) -> None:
    for samples in (*LENGTHS, *range(600, 1300, 41)):
        assert frames(name, samples) == len(features(name, noise(samples))), samples


def test_a_front_end_that_does_not_exist() -> None:
    for asked in (lambda: front_end("mfcc", CPU), lambda: frames("mfcc", 1600)):
        with pytest.raises(UserError, match="no front end 'mfcc'; there are: deepspeech"):
            asked()

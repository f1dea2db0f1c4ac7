"""Augmentation: what it does to sound and features, within which bounds, and that a place alone decides it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.config.schema import AugmentationSpec, CutoutSpec, SpecAugmentSpec
from thaw.training.augment import Augment, at_speed, rectangles, stretched, stripes

FRAMES, COEFFICIENTS = 300, 64


def augment(epoch: int = 1, seed: int = 1, **spec: Any) -> Augment:
    return Augment(AugmentationSpec.model_validate(spec), lambda samples: samples // 320, seed, epoch)


def tone(hertz: float, samples: int = 16000, level: float = 9000) -> NDArray[np.int16]:
    return (level * np.sin(2 * np.pi * hertz * np.arange(samples) / 16000)).astype(np.int16)


def loudest_hertz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * 16000 / len(samples))


def noise(frames: int = FRAMES) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(5, 2, (frames, COEFFICIENTS)).astype(np.float32)


# --- speed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0331, 1.1, 2.0])
def test_faster_is_shorter_and_higher_and_as_loud(factor: float) -> None:
    made = at_speed(tone(1000), factor)
    assert made.dtype == np.float32
    assert len(made) == stretched(16000, factor) == round(16000 / factor)
    assert loudest_hertz(made) == pytest.approx(1000 * factor, abs=2)
    assert np.abs(made[500:-500]).max() == pytest.approx(9000, rel=0.01)


def test_lengths_are_foretold() -> None:
    for samples in (257, 512, 16001, 33333):
        for factor in (0.85, 0.9, 1.0331, 1.1, 1.15):
            assert len(at_speed(np.ones(samples, np.int16), factor)) == stretched(samples, factor)


def test_resampling_stays_within_int16() -> None:
    square = np.where(np.arange(8000) % 40 < 20, 32767, -32768).astype(np.int16)  # its resampled edges overshoot
    made = at_speed(square, 1.1)
    assert (made.max(), made.min()) == (32767, -32768)


def drawn_of(how: Augment, utterance: str, required: int) -> float:
    return how.factor(utterance, how.fitting(16000, required))


def test_factors_are_all_used_and_depend_on_the_place_alone() -> None:
    drawn = [drawn_of(augment(speed=[0.9, 1.0, 1.1]), f"u{i}", 3) for i in range(300)]
    assert all(75 < drawn.count(factor) < 125 for factor in (0.9, 1.0, 1.1))
    assert drawn == [drawn_of(augment(speed=[0.9, 1.0, 1.1]), f"u{i}", 3) for i in range(300)]
    for other in (augment(epoch=2, speed=[0.9, 1.0, 1.1]), augment(seed=2, speed=[0.9, 1.0, 1.1])):
        assert 60 < sum(drawn_of(other, f"u{i}", 3) == drawn[i] for i in range(300)) < 140
    assert drawn_of(augment(), "u1", 3) == 1.0


def test_no_factor_leaves_too_few_frames_for_the_transcript() -> None:
    drawn = {drawn_of(augment(speed=[0.9, 1.0, 1.1]), f"u{i}", 50) for i in range(50)}
    assert drawn == {0.9, 1.0}  # 50 frames at 1.0, 45 at 1.1
    assert {drawn_of(augment(speed=[1.1, 1.2]), f"u{i}", 50) for i in range(9)} == {1.0}


# --- dither ---------------------------------------------------------------------------------------


def test_dither_is_white_noise_of_the_given_strength() -> None:
    pcm = tone(440)
    made = augment(dither=1e-3).dithered("u1", pcm)
    added = made - pcm
    assert made.dtype == np.float32
    assert added.std() == pytest.approx(32.768, rel=0.02)
    assert abs(added.mean()) < 1
    assert abs(np.corrcoef(added[1:], added[:-1])[0, 1]) < 0.02
    assert np.array_equal(made, augment(dither=1e-3).dithered("u1", pcm))
    for other in (augment(dither=1e-3).dithered("u2", pcm), augment(2, dither=1e-3).dithered("u1", pcm)):
        assert abs(np.corrcoef(added, other - pcm)[0, 1]) < 0.05


# --- masks ----------------------------------------------------------------------------------------


def test_masked_values_are_their_coefficients_mean_and_no_other_value_changes() -> None:
    before = noise()
    after = before.copy()
    augment(spec_augment={}).mask("u1", after)
    changed = after != before
    means = before.mean(axis=0)
    assert np.array_equal(after[changed], np.broadcast_to(means, before.shape)[changed])
    stripes_of_time = changed.all(axis=1)
    stripes_of_frequency = changed.all(axis=0)
    assert np.array_equal(changed, stripes_of_time[:, None] | stripes_of_frequency[None, :])
    assert 0 < changed.mean() < 0.8


def test_masks_depend_on_the_place_alone() -> None:
    def masked(utterance: str, **place: int) -> bytes:
        features = noise()
        augment(spec_augment={}, cutout={}, **place).mask(utterance, features)
        return features.tobytes()

    assert masked("u1") == masked("u1")
    assert len({masked("u1"), masked("u2"), masked("u1", epoch=2), masked("u1", seed=2), noise().tobytes()}) == 5


def test_cutout_does_not_move_with_spec_augment() -> None:
    alone, both = noise(), noise()
    augment(cutout={}).mask("u1", alone)
    augment(cutout={}, spec_augment={}).mask("u1", both)
    assert ((both != noise()) >= (alone != noise())).all()


def test_stripes_keep_within_width_and_share() -> None:
    spec = SpecAugmentSpec(time_masks=3, time_width=40, time_share=0.1, frequency_masks=1, frequency_width=20)
    for frames, longest in ((300, 30), (1000, 40), (9, 0)):
        widths, heights, ends = [], [], []
        for number in range(400):
            made = stripes(spec, frames, COEFFICIENTS, np.random.default_rng(number))
            assert [bands == slice(None) for _, bands in made] == [True, True, True, False]
            widths += [times.stop - times.start for times, _ in made[:3]]
            ends += [times.stop for times, _ in made[:3]]
            heights.append(made[3][1].stop - made[3][1].start)
            assert made[3][1].stop <= COEFFICIENTS
        assert (min(widths), max(widths)) == (0, longest)
        assert max(ends) <= frames
        assert (min(heights), max(heights)) == (0, 20)


@pytest.mark.parametrize(("mode", "tallest", "longest"), [("fixed", 50, 120), ("v0.10", 120, 50)])
def test_rectangles_are_nemos(mode: str, tallest: int, longest: int) -> None:
    spec = CutoutSpec.model_validate({"mode": mode})
    made = [r for number in range(2000) for r in rectangles(spec, FRAMES, COEFFICIENTS, np.random.default_rng(number))]
    assert len(made) == 10000
    lengths = [times.stop - times.start for times, _ in made]
    heights = [bands.stop - bands.start for _, bands in made]
    assert (min(lengths), max(lengths)) == (0, longest)
    assert (min(heights), max(heights)) == (0, tallest)
    assert (min(t.start for t, _ in made), max(t.start for t, _ in made)) == (0, FRAMES - 120)
    assert (min(b.start for _, b in made), max(b.start for _, b in made)) == (0, COEFFICIENTS - 50)


def test_the_swap_of_v010_makes_stripes_of_all_coefficients() -> None:
    def whole_bands(mode: str) -> float:
        spec = CutoutSpec.model_validate({"mode": mode})
        made = [r for n in range(500) for r in rectangles(spec, FRAMES, COEFFICIENTS, np.random.default_rng(n))]
        return float(np.mean([bands.start == 0 or bands.stop >= COEFFICIENTS for _, bands in made]))

    assert whole_bands("v0.10") > 0.4 > whole_bands("fixed")


def test_utterances_shorter_than_a_rectangle_are_masked_too() -> None:
    features = noise(5)
    for number in range(50):
        assert all(times.start == 0 for times, _ in rectangles(CutoutSpec(), 5, 30, np.random.default_rng(number)))
    augment(cutout={"rectangles": 9}).mask("u1", features)
    assert features.shape == (5, COEFFICIENTS)
    assert (features != noise(5)).any()
    assert np.isfinite(features).all()

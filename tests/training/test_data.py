"""Batches: every utterance once, in an order that only (seed, epoch) decide; features the same from cache and disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.conftest import ALPHABET, TASKS, sentences, write_split
from thaw.config.models import DeepSpeechSpec
from thaw.config.schema import AugmentationSpec
from thaw.errors import UserError
from thaw.frontends import features
from thaw.tasks.ctc import Ctc
from thaw.training.augment import Augment, at_speed
from thaw.training.data import Batch, Examples, epoch_batches, read_examples
from thaw.units import EVERY, Alphabet, ctc_frames

EVERYTHING = {"speed": [0.9, 1.1], "dither": 1e-4, "spec_augment": {}, "cutout": {"frequency": 9, "time": 30}}
SAMPLES = sorted(int(n) for n in np.random.default_rng(1).integers(8000, 80000, 101))


@pytest.fixture
def examples(tmp_path: Path) -> Examples:
    return read_examples([write_split(tmp_path, "train", sentences("train", 12))], TASKS, "deepspeech")


def augment(epoch: int = 1, **spec: Any) -> Augment:
    model = DeepSpeechSpec(kind="deepspeech")
    return Augment(AugmentationSpec.model_validate(spec), model.frames, seed=1, epoch=epoch)


def rows_of(batch: Batch) -> dict[str, bytes]:
    """The valid features of each utterance of a batch, by id."""
    lengths = batch.lengths.tolist()
    return {i: row[:n].numpy().tobytes() for i, row, n in zip(batch.ids, batch.x, lengths, strict=True)}


@pytest.mark.parametrize("order", ["bucketed", "sorted", "shuffled"])
def test_every_utterance_once_per_epoch(order: str) -> None:
    for epoch in range(1, 6):
        batches = epoch_batches(SAMPLES, 8, order, False, 1, epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(101))
        assert sorted(map(len, batches)) == [5] + [8] * 12


@pytest.mark.parametrize("order", ["bucketed", "sorted", "shuffled"])
def test_drop_last_leaves_only_whole_batches(order: str) -> None:
    batches = epoch_batches(SAMPLES, 8, order, True, 1, 1)
    indices = [i for batch in batches for i in batch]
    assert [len(batch) for batch in batches] == [8] * 12
    assert len(set(indices)) == 96
    assert epoch_batches(SAMPLES[:7], 8, order, True, 1, 1) == []


def test_drop_last_of_buckets_hits_other_utterances_each_epoch() -> None:
    lost = [
        frozenset(range(101)) - {i for b in epoch_batches(SAMPLES, 8, "bucketed", True, 1, e) for i in b}
        for e in range(9)
    ]
    assert len(set(lost)) > 5


def test_buckets_hold_like_durations_in_random_order() -> None:
    batches = epoch_batches(SAMPLES, 8, "bucketed", False, 1, 1)
    spread = [SAMPLES[max(batch)] / SAMPLES[min(batch)] for batch in batches]
    shuffled = [SAMPLES[max(b)] / SAMPLES[min(b)] for b in epoch_batches(SAMPLES, 8, "shuffled", False, 1, 1)]
    assert np.median(spread) < 1.5 < 3 < np.median(shuffled)
    middles = [float(np.mean(batch)) for batch in batches]
    assert middles != sorted(middles)


def test_sorted_is_ascending_and_the_same_in_every_epoch() -> None:
    first = epoch_batches(SAMPLES, 8, "sorted", False, 1, 1)
    assert [i for batch in first for i in batch] == list(range(101))
    assert first == epoch_batches(SAMPLES, 8, "sorted", False, 7, 3)


@pytest.mark.parametrize("order", ["bucketed", "shuffled"])
def test_order_is_a_function_of_seed_and_epoch(order: str) -> None:
    def batches(seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(SAMPLES, 8, order, False, seed, epoch)

    assert batches(1, 2) == batches(1, 2)
    assert batches(1, 2) != batches(1, 3)
    assert batches(1, 2) != batches(2, 2)
    together = [{frozenset(batch) for batch in batches(1, epoch)} for epoch in (1, 2)]
    assert len(together[0] & together[1]) < 6  # other utterances meet, not only other batches follow


def test_batch_pads_features_and_joins_labels(examples: Examples) -> None:
    batch = examples.batch([2, 0, 1])
    chosen = [examples.utterances[i] for i in (2, 0, 1)]
    made = [features("deepspeech", utterance.pcm()) for utterance in chosen]
    assert batch.ids == tuple(utterance.id for utterance in chosen)
    assert batch.lengths.tolist() == [len(f) for f in made]
    for row, f in zip(batch.x, made, strict=True):
        assert torch.equal(row[: len(f)], torch.from_numpy(f))
        assert not row[len(f) :].any()
    assert "".join(ALPHABET[i] for i in batch.targets.tolist()) == "".join(utterance.text for utterance in chosen)
    assert batch.target_lengths.tolist() == [len(utterance.text) for utterance in chosen]
    assert batch.targets.dtype == batch.target_lengths.dtype == torch.int32


def test_cache_keeps_to_its_budget_and_changes_no_bit(examples: Examples) -> None:
    one = examples.features(0).nbytes
    small = Examples(examples.utterances, TASKS, "deepspeech", cache_bytes=3 * one)
    for _ in range(2):
        for i in range(len(examples)):
            assert np.array_equal(small.features(i), examples.features(i))
    assert 0 < sum(kept.nbytes for kept in small.cache.values()) <= 3 * one
    assert small.features(0) is small.features(0)
    assert small.features(11) is not small.features(11)


@pytest.mark.parametrize("spec", [EVERYTHING, {"speed": [0.9, 1.1], "spec_augment": {}}], ids=["all", "no dither"])
def test_augmentation_is_the_same_whatever_the_batch_and_whatever_came_before(
    examples: Examples, spec: dict[str, Any]
) -> None:
    together = rows_of(examples.batch(range(12), augment(2, **spec)))
    anew = Examples(examples.utterances, TASKS, "deepspeech", cache_bytes=0)
    for indices in ([3], [11, 0], [7, 3, 5]):
        for batch in (examples.batch(indices, augment(2, **spec)), anew.batch(indices, augment(2, **spec))):
            for name, row in rows_of(batch).items():
                assert row == together[name]
    plain, first = rows_of(examples.batch(range(12))), rows_of(examples.batch(range(12), augment(1, **spec)))
    assert all(len({plain[name], first[name], together[name]}) == 3 for name in plain)


def test_augmentation_leaves_what_is_kept_alone(examples: Examples) -> None:
    plain = examples.batch(range(12)).x
    for epoch in (1, 2):
        batch = examples.batch(range(12), augment(epoch, **EVERYTHING | {"speed": [1.0], "dither": 0.0}))
        assert batch.x.shape == plain.shape
        assert not torch.equal(batch.x, plain)
        for row, length in zip(batch.x, batch.lengths, strict=True):
            assert not row[length:].any()
    assert torch.equal(examples.batch(range(12)).x, plain)
    assert len(examples.cache) == 12


def test_speeds_are_kept_apart_and_dithered_features_not_at_all(examples: Examples) -> None:
    for epoch in range(1, 9):
        examples.batch(range(12), augment(epoch, speed=[0.9, 1.0, 1.1]))
    assert {factor for _, factor in examples.cache} == {0.9, 1.0, 1.1}
    for (index, factor), kept in examples.cache.items():
        pcm = examples.utterances[index].pcm()
        assert np.array_equal(kept, features("deepspeech", pcm if factor == 1.0 else at_speed(pcm, factor)))
    anew = Examples(examples.utterances, TASKS, "deepspeech")
    anew.batch(range(12), augment(dither=1e-4))
    assert anew.cache == {}


def test_dither_comes_after_the_change_of_speed_and_samples_are_kept_for_it(examples: Examples) -> None:
    small = Examples(examples.utterances, TASKS, "deepspeech", cache_bytes=200_000)
    for epoch in (1, 2, 3):
        how = augment(epoch, speed=[0.9, 1.0, 1.1], dither=1e-4)
        for index, utterance in enumerate(examples.utterances):
            factor = how.factor(utterance.id, how.fitting(utterance.samples, 1))
            sound = utterance.pcm() if factor == 1.0 else at_speed(utterance.pcm(), factor)
            wanted = features("deepspeech", how.dithered(utterance.id, sound))
            for each in (examples, small):
                assert np.array_equal(each.features(index, how), wanted)
    assert {factor for _, factor in examples.sounds} == {0.9, 1.0, 1.1}
    assert 0 < sum(kept.nbytes for kept in small.sounds.values()) <= 200_000
    assert not examples.cache


def test_every_transcript_still_fits_at_every_speed(examples: Examples) -> None:
    fast = examples.batch(range(12), augment(speed=[2.0])).lengths.tolist()
    plain = examples.batch(range(12)).lengths.tolist()
    needed = [ctc_frames(labels.tolist()) for labels in examples.labels]
    assert all(frames >= need for frames, need in zip(fast, needed, strict=True))
    assert any(frames < length for frames, length in zip(fast, plain, strict=True))


def test_examples_are_ordered_by_duration_whatever_the_manifest_says(examples: Examples) -> None:
    turned = Examples(reversed(examples.utterances), TASKS, "deepspeech")
    assert [u.id for u in turned.utterances] == [u.id for u in examples.utterances]
    keys = [(u.samples, u.id) for u in examples.utterances]
    assert keys == sorted(keys)
    assert examples.seconds([0, 1]) == pytest.approx((keys[0][0] + keys[1][0]) / 16000)


def test_errors_name_the_utterance(tmp_path: Path) -> None:
    path = write_split(tmp_path, "train", sentences("train", 2))
    with pytest.raises(UserError, match=r"train-000 occurs twice"):
        read_examples([path, path], TASKS, "deepspeech")
    with pytest.raises(UserError, match=r"utterance train-00.*outside the alphabet"):
        read_examples([path], {EVERY: Ctc(Alphabet(" x"))}, "deepspeech")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match=r"empty\.jsonl: no utterances"):
        read_examples([tmp_path / "empty.jsonl"], TASKS, "deepspeech")

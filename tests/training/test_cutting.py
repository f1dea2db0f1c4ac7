"""Batches by seconds of audio, and batches that are added up of parts: the same gradients, whoever is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.test_central import MakeLearner, gradients, make, make_learner, poison, run_to_end
from thaw.training import cutting
from thaw.training.data import epoch_batches

SAMPLES = sorted(int(n) for n in np.random.default_rng(1).integers(8000, 80000, 101))
LIMIT = 20.0  # seconds
CONFORMER = {"kind": "conformer", "variant": "mini-S", "norm": "group", "head": "ctc"}
QUARTZNET = {"kind": "quartznet", "variant": "mini-3x1"}
__all__ = ["make"]  # a fixture


def padded(batch: list[int], samples: list[int] = SAMPLES) -> float:
    return len(batch) * max(samples[i] for i in batch) / 16000


def test_as_many_go_together_as_stay_within_the_limit() -> None:
    assert cutting.sizes([2, 2, 2, 3, 9, 1, 1], 6) == [3, 1, 1, 2]  # 9 is too long for any, and stands alone
    assert cutting.sizes([], 6) == []
    assert cutting.parts([3, 0, 4, 1], [5, 2, 9, 1, 3], 6) == [[3, 1], [4], [0]]


@pytest.mark.parametrize("order", ["bucketed", "sorted", "shuffled", "mixed"])
def test_batches_by_seconds(order: str) -> None:
    def batches(seed: int, epoch: int) -> list[list[int]]:
        return epoch_batches(SAMPLES, 24, order, False, seed, epoch, ["a", "b"] * 50 + ["a"], 1.0, LIMIT)

    for epoch in (1, 2):
        found = batches(1, epoch)
        assert sorted(i for batch in found for i in batch) == list(range(101))
        assert max(map(padded, found)) <= LIMIT
        assert found == batches(1, epoch)
    assert (batches(1, 1) == batches(1, 2)) == (order == "sorted")
    if order in ("bucketed", "sorted"):  # all but those that are full to the brim hold more than the limit less one
        assert sum(padded(batch) > 0.75 * LIMIT for batch in found) >= len(found) - 1
    if order == "bucketed":
        middles = [SAMPLES[batch[0]] for batch in found]
        assert middles != sorted(middles)


@pytest.mark.parametrize(
    "how", [{}, {"model": CONFORMER}, {"augmentation": {"speed": [0.9, 1.1], "dither": 1e-5, "spec_augment": {}}}]
)
def test_gradients_of_parts_add_up_to_that_of_the_batch(tmp_path: Path, how: dict[str, Any]) -> None:
    whole, parts = (
        make_learner(tmp_path, batch_size=24, order="sorted", microbatch_seconds=seconds, **how)
        for seconds in (0.0, 3.0)
    )
    cut = parts.parts(range(24))
    assert len(cut) > 3
    slowest = 0.9 if "augmentation" in how else 1.0
    assert all(padded(part, parts.samples) <= 3.0 * slowest for part in cut)
    heard, added = whole.accumulate(range(24)), parts.accumulate(range(24))
    assert (added.utterances, added.weight, added.left_out) == (heard.utterances, heard.weight, [])
    assert added.loss == pytest.approx(heard.loss, rel=1e-6)
    for got, want in zip(gradients(parts), gradients(whole), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    norm = whole.whole_gradient(24, 24)
    assert parts.whole_gradient(24, 24) == pytest.approx(norm, rel=1e-5)


def test_one_part_is_the_batch_to_the_bit(make: MakeLearner) -> None:
    rows = [run_to_end(make(order="sorted", microbatch_seconds=seconds, epochs=2)) for seconds in (0.0, 1000.0)]
    assert rows[0][1]["train_loss"] == rows[1][1]["train_loss"]
    assert rows[0][1]["gradient_norm"] == rows[1][1]["gradient_norm"]


@pytest.mark.parametrize("model", [None, QUARTZNET], ids=["deepspeech", "quartznet"])
def test_who_has_no_finite_loss_is_left_out_of_its_part_alone(tmp_path: Path, model: dict[str, Any] | None) -> None:
    learner, clean = (make_learner(tmp_path, model=model, order="sorted", microbatch_seconds=3.0) for _ in range(2))
    bad = learner.examples.utterances[12].id
    poison(learner, bad)
    rest = [index for index in range(24) if index != 12]
    assert [12 in part for part in learner.parts(range(24))].index(True) > 0  # parts before it, and after it
    cut = [[i for i in part if i != 12] for part in learner.parts(range(24))]
    clean.parts = lambda indices: cut  # type: ignore[method-assign]
    for each in (learner, clean):
        each.buffers.hold()
    heard, alone = learner.accumulate(range(24)), clean.accumulate(rest)
    assert (heard.loss, heard.utterances, heard.left_out) == (alone.loss, 23, [bad])
    learner.whole_gradient(24, 23)
    for got, want in zip(gradients(learner), gradients(clean), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    for name, buffer in learner.model.named_buffers():
        assert torch.equal(buffer, clean.model.get_buffer(name)), name


def test_a_training_by_seconds_is_one_by_count_where_batches_are_the_same(make: MakeLearner) -> None:
    by_count = make(batch_size=24, order="sorted", epochs=2)
    by_seconds = make(batch_size=24, batch_seconds=1000.0, order="sorted", epochs=2)
    assert by_seconds.steps == by_count.steps == 2
    assert run_to_end(by_count)[-1]["train_loss"] == run_to_end(by_seconds)[-1]["train_loss"]


def test_dev_is_the_same_in_parts(make: MakeLearner) -> None:
    whole, parts = make(epochs=1), make(epochs=1, microbatch_seconds=2.0)
    assert len(parts.dev_batches()) > 3
    assert sorted(i for batch in parts.dev_batches() for i in batch) == list(range(10))
    a, b = (run_to_end(each)[0] for each in (whole, parts))
    assert a["dev_cer"] == b["dev_cer"]
    assert a["dev_loss"] == pytest.approx(b["dev_loss"], rel=1e-3)

"""CTC against the sum over all alignments, and against its own definition of what can be aligned."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from thaw.tasks import ctc
from thaw.tasks.ctc import _by_cudnn, _by_utterance, _impossible, _on_cpu, _silent, _way, ctc_loss
from thaw.units import ctc_frames


def brute_force(logits: Tensor, target: list[int]) -> float:
    """-log of the summed probability of every path (T,) that collapses to `target`; the blank is the last class."""
    probs = torch.softmax(logits.double(), dim=-1)
    frames, classes = logits.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=frames):
        spelt = [label for label, _ in itertools.groupby(path) if label != classes - 1]
        if spelt == target:
            total += math.prod(float(probs[t, label]) for t, label in enumerate(path))
    return -math.log(total) if total else math.inf


CASES = [[0], [0, 1], [0, 0], [2, 1, 2], [1, 1, 2], []]


def batch(cases: list[list[int]]) -> tuple[Tensor, Tensor]:
    targets = torch.tensor([label for case in cases for label in case], dtype=torch.int32)
    return targets, torch.tensor([len(case) for case in cases])


def test_equals_the_sum_over_all_paths():
    lengths = torch.tensor([5, 4, 5, 3, 5, 2])
    logits = torch.randn(len(CASES), 5, 4, generator=torch.Generator().manual_seed(1))
    losses = ctc_loss(logits, lengths, *batch(CASES))
    assert losses.shape == (6,)
    expected = [brute_force(x[:n], case) for x, n, case in zip(logits, lengths.tolist(), CASES, strict=True)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)


def test_gradient_is_that_of_the_definition_and_zero_on_padding():
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2), requires_grad=True)
    ctc_loss(logits, torch.tensor([4, 3]), *batch([[0, 1], [1]])).sum().backward()
    assert not logits.grad[1, 3].any()
    step = 1e-4
    for t, v in itertools.product(range(3), range(3)):
        ends = []
        for sign in (1, -1):
            moved = logits.detach()[1, :3].double()
            moved[t, v] += sign * step
            ends.append(brute_force(moved, [1]))
        assert logits.grad[1, t, v].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-5)


def test_too_few_frames_give_inf_for_that_utterance_only():
    cases = [[0, 1], [0, 0], [0, 0]]
    lengths = torch.tensor([2, 2, 3])
    losses = ctc_loss(torch.zeros(3, 3, 3), lengths, *batch(cases))
    assert [math.isinf(loss) for loss in losses.tolist()] == [False, True, False]
    feasible = [ctc_frames(case) <= n for case, n in zip(cases, lengths.tolist(), strict=True)]
    assert feasible == [True, False, True]


@pytest.mark.parametrize(("targets", "frames"), [([], 0), ([3], 1), ([1, 1], 3), ([1, 2, 1], 3), ([5, 5, 5, 2], 6)])
def test_least_frames_of_labels(targets: list[int], frames: int):
    assert ctc_frames(targets) == frames


def test_not_divided_by_length_and_computed_in_fp32():
    logits = torch.zeros(1, 4, 3, dtype=torch.bfloat16)
    loss = ctc_loss(logits, torch.tensor([4]), *batch([[0, 1, 0, 1]]))  # one path of four frames
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(4 * math.log(3), rel=1e-6)


def random_batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    frame_lengths, target_lengths = torch.tensor([20, 13, 9]).int(), torch.tensor([6, 1, 4]).int()
    targets = torch.randint(0, 6, (11,), dtype=torch.int32, generator=generator)
    return torch.randn(3, 20, 7, generator=generator), frame_lengths, targets, target_lengths


def test_cudnns_layout_of_classes_changes_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctc, "_cudnn", lambda *given: F.ctc_loss(*given, blank=0, reduction="none"))
    logits, *rest = random_batch()
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    plain, moved = ctc_loss(one, *rest), _by_cudnn(other, *rest)
    torch.testing.assert_close(plain, moved)
    plain.sum().backward()
    moved.sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


LONGEST = [0, 1] * 127 + [0]  # 255 labels


@pytest.mark.parametrize(
    ("frames", "case", "way"),
    [
        (300, LONGEST, _by_cudnn),
        (300, [*LONGEST, 1], _on_cpu),
        (300, [], _silent),
        (3, [0, 0], _by_cudnn),
        (2, [0, 0], _impossible),
    ],
)
def test_what_cudnn_is_given(frames: int, case: list[int], way: ctc.Way):
    assert _way(case, frames) is way


@pytest.mark.parametrize(
    "places", [range(6), [2], [3], [0, 2], [1, 3]], ids=["all", "silent", "impossible", "no labels", "some"]
)
def test_on_a_gpu_every_utterance_goes_its_own_way(places: list[int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctc, "_cudnn", lambda *given: F.ctc_loss(*given, blank=0, reduction="none"))
    cases, frames = [[0, 1], [0, 0], [], [1, 1, 1], [*LONGEST, 1], [2]], [300, 3, 7, 4, 300, 9]
    lengths, labels = torch.tensor([frames[p] for p in places], dtype=torch.int32), [cases[p] for p in places]
    targets, counts = (tensor.int() for tensor in batch(labels))
    logits = torch.randn(len(labels), 300, 4, generator=torch.Generator().manual_seed(3))
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    wanted, got = ctc_loss(one, lengths, targets, counts), _by_utterance(other, lengths, targets, counts)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-4)
    got.sum().backward()
    assert other.grad.isfinite().all()
    wanted[wanted.isfinite()].sum().backward()
    finite = wanted.isfinite()
    torch.testing.assert_close(other.grad[finite], one.grad[finite], rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_equals_the_cpu_and_repeats_bit_for_bit():
    logits, *rest = random_batch()
    gradients = []
    torch.use_deterministic_algorithms(True)  # PyTorch's own CUDA kernel would raise
    try:
        for device in ("cpu", "cuda", "cuda"):
            x = logits.to(device).detach().requires_grad_()
            ctc_loss(x, *rest).sum().backward()
            gradients.append(x.grad.cpu())
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
    assert torch.equal(gradients[1], gradients[2])

"""Connectionist temporal classification (Graves et al. 2006): the task, its loss, and what is counted.

Shapes: B batch, T frames, V classes (blank is the last), N labels of all utterances one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from thaw.decoding.greedy import greedy
from thaw.placing import on_device, rows_of
from thaw.scoring.edits import Edits, count_characters, count_words
from thaw.tasks.spelling import Spelling
from thaw.units import Units, ctc_frames

if TYPE_CHECKING:
    from thaw.training.forward import Answer

CUDNN_LONGEST_TARGET = 255  # labels; cuDNN's kernel takes no more
Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # what `ctc_loss` takes to what it gives, lengths being int32


class Ctc(Spelling):
    """The task `ctc` of one head: its units, then the blank; greedy decoding."""

    measures: tuple[str, ...] = ("cer", "wer")

    def __init__(self, units: Units, selects: str = "loss") -> None:
        super().__init__(units, selects)

    def least_frames(self, labels: Sequence[int]) -> int:
        """See `ctc_frames`."""
        return ctc_frames(labels)

    def losses(self, answer: Answer) -> Tensor:
        """Losses (B,) by `ctc_loss`."""
        return ctc_loss(answer.logits, answer.frames, answer.batch.targets, answer.batch.target_lengths)

    def counts(self, answer: Answer) -> dict[str, list[Edits]]:
        """Edits of the best path's characters and words, over those of the reference."""
        return best_path_edits(answer.logits, answer.frames, answer.batch.texts, self.units)


def best_path_edits(logits: Tensor, frames: Tensor, texts: Sequence[str], units: Units) -> dict[str, list[Edits]]:
    """ "cer" and "wer": edits of the best paths through logits (B, T, V) with so many valid `frames` (B,)."""
    counts: dict[str, list[Edits]] = {"cer": [], "wer": []}
    for row, length, reference in zip(logits.float().cpu().numpy(), frames.tolist(), texts, strict=True):
        hypothesis = greedy(row[:length], units)
        counts["cer"].append(count_characters(reference, hypothesis))
        counts["wer"].append(count_words(reference, hypothesis))
    return counts


def ctc_loss(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log likelihoods (B,), in nats, of `targets` given `logits` (B, T, V); fp32 whatever the input.

    `frame_lengths` (B,) are valid frames, `targets` (N,) int32 all labels in a row, `target_lengths` (B,) labels per
    utterance; these three stay on the CPU. Not divided by length, as in mozilla/DeepSpeech v0.7.4 train.py. An
    utterance with fewer frames than `ctc_frames` has a loss of inf and a gradient that means nothing.

    On a GPU this takes the one CUDA path that gives the same bits every time: cuDNN's deterministic algorithm
    (PyTorch's own CUDA kernel adds up gradients in any order). The conditions for it come from reading
    aten/src/ATen/native/cudnn/LossCTC.cpp, not from a trial. Utterances outside them go their own way (`_way`): alone
    those with more labels than cuDNN takes are computed on the CPU, for which the host waits.
    """
    frame_lengths, targets, target_lengths = (
        x.to("cpu", torch.int32) for x in (frame_lengths, targets, target_lengths)
    )
    if logits.is_cuda and torch.backends.cudnn.enabled:
        return _by_utterance(logits, frame_lengths, targets, target_lengths)
    return _on_cpu(logits, frame_lengths, targets, target_lengths)


def _on_cpu(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The loss by PyTorch's kernel for a CPU, wherever the logits are."""
    blank = logits.shape[-1] - 1
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (T, B, V)
    loss = F.ctc_loss(log_probs.cpu(), targets, frame_lengths, target_lengths, blank, reduction="none")
    return on_device(loss, logits.device)


def _by_utterance(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The loss on a GPU: of each utterance by the way that takes it."""
    labels = torch.split(targets, target_lengths.tolist())
    ways = [_way(its.tolist(), frames) for its, frames in zip(labels, frame_lengths.tolist(), strict=True)]
    if set(ways) == {_by_cudnn}:
        return _by_cudnn(logits, frame_lengths, targets, target_lengths)
    losses, order = list[Tensor](), list[int]()
    for way in dict.fromkeys(ways):
        rows = [row for row, its in enumerate(ways) if its is way]
        its_labels = torch.cat([labels[row] for row in rows])
        losses.append(way(rows_of(logits, rows), frame_lengths[rows], its_labels, target_lengths[rows]))
        order += rows
    return rows_of(torch.cat(losses), torch.tensor(order).argsort().tolist())


def _way(labels: list[int], frames: int) -> Way:
    """How a GPU comes to the loss of an utterance; what cuDNN is not given has no frames to spell it, or no labels."""
    if ctc_frames(labels) > frames:
        return _impossible
    if not labels:
        return _silent
    return _by_cudnn if len(labels) <= CUDNN_LONGEST_TARGET else _on_cpu


def _impossible(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Infinite, with a gradient that is zero: a batch of nothing else has one too."""
    return logits.float().flatten(1).sum(1) * 0.0 + math.inf


def _silent(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Of utterances without labels: one path, all of it blanks."""
    inside = torch.arange(logits.shape[1], device=logits.device) < on_device(frame_lengths, logits.device).unsqueeze(1)
    blanks = F.log_softmax(logits.float(), dim=-1)[..., -1]
    return -torch.where(inside, blanks, 0.0).sum(1)


def _by_cudnn(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """The loss by cuDNN: blank is class 0, labels and lengths are int32 on the GPU, log probabilities fp32."""
    device = logits.device
    labels, frames, counts = (on_device(x, device) for x in (targets + 1, frame_lengths, target_lengths))
    padding = torch.arange(logits.shape[1], device=device) >= frames.unsqueeze(1)  # (B, T)
    # cuDNN need not write gradients of padded frames: masking makes them zero whatever memory held.
    logits = logits.float().masked_fill(padding.unsqueeze(2), 0.0).roll(1, dims=-1)  # last class to the front
    log_probs = F.log_softmax(logits, dim=-1).transpose(0, 1).contiguous()  # (T, B, V)
    return _cudnn(log_probs, labels, frames, counts)


def _cudnn(log_probs: Tensor, labels: Tensor, frames: Tensor, counts: Tensor) -> Tensor:
    """cuDNN's kernel, asked for by its own name and with its deterministic algorithm; all tensors are on the GPU.

    `F.ctc_loss` would first ask whether cuDNN can, for which it copies both lengths back to the host, once for every
    utterance; `_way` has seen to that. The kernel (cudnnCTCLoss_v8) reads lengths where it runs.
    """
    losses: Tensor = torch.ops.aten._cudnn_ctc_loss.Tensor(log_probs, labels, frames, counts, 0, True, False)[0]
    return losses

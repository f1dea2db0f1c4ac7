"""CTC of an encoder and a decoder that is taught by the labels, learnt together (Kim, Hori & Watanabe 2017).

Source of the loss: espnet/espnet espnet/nets/pytorch_backend/e2e_asr.py and rnn/decoders.py. It differs in three ways.
There, the decoder's loss is the mean over all labels and ends of a batch, times the mean number of labels: L / (L + 1)
of what it is here, a sum over an utterance's own, as CTC's is. There, padding is smoothed too; here it has no part. And
there, the distribution to smooth with counts a label once for each utterance that has it, and ends by the length of a
file's name (`label_smoothing_dist`); here it counts what the training text holds.

Shapes: B batch, T encoder frames, U labels, V classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thaw.config.tasks import CtcAttentionSpec
from thaw.models.ctc_attention import ATTENTION_OUTPUT, CTC_OUTPUT
from thaw.placing import on_device
from thaw.scoring.measures import AnyCounts, Counts
from thaw.tasks.ctc import best_path_edits, ctc_loss
from thaw.tasks.spelling import Spelling
from thaw.units import Units, ctc_frames

if TYPE_CHECKING:
    from thaw.training.data import Batch
    from thaw.training.forward import Answer

IntArray = NDArray[np.int32]

PADDING = -100  # a target that has no loss


class CtcAttention(Spelling):
    """The task `ctc-attention` of two heads. Both have the units, then one class: CTC's blank, the decoder's end.

    Dev counts the edits of CTC's best path ("cer", "wer") and the labels, ends included, that the decoder gets wrong
    when it is told all before them ("token_error": one minus what ESPnet calls accuracy).
    """

    measures: tuple[str, ...] = ("cer", "wer", "token_error")

    def __init__(self, spec: CtcAttentionSpec, units: Units) -> None:
        super().__init__(units, spec.selects)
        self.spec = spec
        self.distribution: Tensor | None = None  # (V,), of the labels to smooth with

    def least_frames(self, labels: Sequence[int]) -> int:
        """What CTC needs."""
        return ctc_frames(labels)

    def learn_text(self, labels: Iterable[IntArray]) -> None:
        """Count the labels of the training split, which `unigram` smooths with: needed before any loss."""
        self.distribution = unigram(labels, self.classes)

    def losses(self, answer: Answer) -> Tensor:
        """Losses (B,): both heads', weighted."""
        batch, weight = answer.batch, self.spec.ctc_weight
        ctc = ctc_loss(answer.outputs[CTC_OUTPUT], answer.frames, batch.targets, batch.target_lengths)
        logits = answer.outputs[ATTENTION_OUTPUT]
        distribution = None
        if self.spec.smoothing_weight and self.spec.smoothing == "unigram":
            if self.distribution is None:
                raise RuntimeError("unigram smoothing before the training text was counted")
            distribution = self.distribution
        taught = label_loss(logits, ended(batch, self.units.size), self.spec.smoothing_weight, distribution)
        return weight * ctc + (1 - weight) * taught

    def counts(self, answer: Answer) -> dict[str, Sequence[AnyCounts]]:
        """Edits of CTC's best path, and the decoder's wrong labels."""
        batch = answer.batch
        edits = best_path_edits(answer.outputs[CTC_OUTPUT], answer.frames, batch.texts, self.units)
        targets = ended(batch, self.units.size)
        wrong = (answer.outputs[ATTENTION_OUTPUT].argmax(dim=-1).cpu() != targets) & (targets != PADDING)
        totals = batch.target_lengths + 1
        pairs = zip(wrong.sum(dim=1).tolist(), totals.tolist(), strict=True)
        return {**edits, "token_error": [Counts(errors, total) for errors, total in pairs]}


def ended(batch: Batch, end: int) -> Tensor:
    """The labels of a batch, each utterance's with its end behind: (B, U + 1) int64 on the CPU, PADDING beyond."""
    lengths = batch.target_lengths.tolist()
    targets = torch.full((len(lengths), max(lengths, default=0) + 1), PADDING)
    for row, labels in zip(targets, torch.split(batch.targets, lengths), strict=True):
        row[: len(labels)] = labels
        row[len(labels)] = end
    return targets


def unigram(labels: Iterable[IntArray], classes: int) -> Tensor:
    """How often each class is in a text, (V,) summing to one: its labels, one end for each utterance, none never."""
    counts = np.zeros(classes, np.int64)
    for row in labels:
        counts += np.bincount(row, minlength=classes)
        counts[-1] += 1
    counts = np.maximum(counts, 1)
    return torch.from_numpy(counts / counts.sum()).float()


def label_loss(logits: Tensor, targets: Tensor, smoothing: float, distribution: Tensor | None = None) -> Tensor:
    """Losses (B,), fp32, in nats: the cross entropies of targets (B, U + 1) by logits (B, U + 1, V), added up.

    `smoothing` of each against `distribution` (V,), where given. Where not, it is spread evenly over the classes that
    are not the target (espnet/espnet espnet/nets/pytorch_backend/transformer/label_smoothing_loss.py, whose Kullback-
    Leibler divergence is this less a constant). A target that is PADDING has no part.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    targets = on_device(targets, logits.device)
    inside = targets != PADDING
    hits = log_probs.gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
    if distribution is not None:
        spread = log_probs @ on_device(distribution, logits.device)
    else:
        spread = (log_probs.sum(dim=-1) - hits) / (logits.shape[-1] - 1)
    each = (1 - smoothing) * hits + smoothing * spread if smoothing else hits
    return -torch.where(inside, each, 0.0).sum(dim=1)

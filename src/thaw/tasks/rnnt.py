"""The transducer's task: the likelihood of the labels over all their alignments with the frames (Graves 2012).

The loss is torchaudio's. Shapes: B batch, T frames, U labels, V classes (the blank is the last).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from thaw.decoding.greedy import tidy
from thaw.models.transducer import Transducer
from thaw.placing import on_device
from thaw.scoring.edits import Edits, count_characters, count_words
from thaw.tasks.spelling import Spelling
from thaw.units import Units

if TYPE_CHECKING:
    from thaw.training.forward import Answer


class Rnnt(Spelling):
    """The task `rnnt` of one head: its units, then the blank; greedy search."""

    measures: tuple[str, ...] = ("cer", "wer")

    def __init__(self, units: Units, selects: str = "loss") -> None:
        super().__init__(units, selects)

    def least_frames(self, labels: Sequence[int]) -> int:
        """One: a frame may say many labels."""
        return 1

    def losses(self, answer: Answer) -> Tensor:
        """Losses (B,) by `rnnt_loss`."""
        return rnnt_loss(answer.logits, answer.frames, answer.batch.targets, answer.batch.target_lengths)

    def counts(self, answer: Answer) -> dict[str, list[Edits]]:
        """Edits of the characters and words that the greedy search finds, over those of the reference."""
        assert isinstance(answer.model, Transducer)
        found = answer.model.search(answer.encoded, answer.frames, answer.head)
        texts = [tidy(self.units.decode(labels)) for labels in found]
        pairs = [*zip(answer.batch.texts, texts, strict=True)]
        return {"cer": [count_characters(*pair) for pair in pairs], "wer": [count_words(*pair) for pair in pairs]}


def rnnt_loss(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log likelihoods (B,), in nats, of `targets` (N,) given logits (B, T, U + 1, V); fp32 whatever the input.

    Lengths (B,) are valid frames and labels. Not divided by length. What lies beyond the lengths has no part in it.
    """
    from torchaudio.functional import rnnt_loss as loss  # only here: it takes as long to import as all else

    lengths = target_lengths.tolist()
    labels = torch.zeros(len(lengths), max(lengths), dtype=torch.int32)
    for row, own in zip(labels, torch.split(targets, lengths), strict=True):
        row[: len(own)] = own
    frames = frame_lengths.int()
    there = logits.float()[:, : int(frames.max()), : max(lengths) + 1].contiguous()  # it takes no more than there are
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        found: Tensor = loss(
            there,
            on_device(labels, logits.device),
            on_device(frames, logits.device),
            on_device(target_lengths.int(), logits.device),
            blank=logits.shape[-1] - 1,
            reduction="none",
        )
    return found

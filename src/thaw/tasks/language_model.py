"""Language modelling: the task, its loss, and what is counted. Sentences are read one after the other as one text.

Shapes: B streams or sentences, T units, V classes (the end of a sentence is the last), N labels in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from thaw.placing import on_device
from thaw.scoring.measures import Counts
from thaw.units import Units

if TYPE_CHECKING:
    from thaw.corpora.manifest import Utterance
    from thaw.models.awd_lstm import Reading
    from thaw.training.forward import Answer


class LanguageModelling:
    """The task `language-model` of one head: its units, then the end of a sentence; the mean dev loss selects."""

    measures: tuple[str, ...] = ("perplexity",)
    selects: str = "loss"

    def __init__(self, units: Units) -> None:
        self.units = units

    @property
    def classes(self) -> int:
        """V: the units and the end, which is the last."""
        return self.units.size + 1

    @property
    def end(self) -> int:
        """The class of the end of a sentence."""
        return self.units.size

    def stream(self, texts: Iterable[str]) -> list[int]:
        """The classes of sentences in a row, each with its end."""
        return [label for text in texts for label in (*self.units.encode(text), self.end)]

    def labels(self, utterance: Utterance) -> list[int]:
        """The units of a sentence and its end."""
        return self.stream([utterance.text])

    def least_frames(self, labels: Sequence[int]) -> int:
        """One output for each."""
        return len(labels)

    def weight(self, labels: int) -> int:
        """Their number: a mean loss is per unit."""
        return labels

    def losses(self, answer: Answer) -> Tensor:
        """Losses (B,), in nats per sentence, where logits (B, T, V) at t are of the sentence's label t."""
        logits, batch = answer.logits, answer.batch
        rows = torch.split(batch.targets.long(), batch.target_lengths.tolist())
        pairs = [(row[: len(labels)], on_device(labels, row.device)) for row, labels in zip(logits, rows, strict=True)]
        return torch.stack([nats(*pair).sum() for pair in pairs])

    def counts(self, answer: Answer) -> dict[str, list[Counts]]:
        """Nats over tokens, ends included."""
        losses = self.losses(answer).tolist()
        lengths = answer.batch.target_lengths.tolist()
        return {"perplexity": [Counts(loss, length) for loss, length in zip(losses, lengths, strict=True)]}

    def select(self, dev: Mapping[str, float | None]) -> float:
        """The loss."""
        loss = dev["loss"]
        assert loss is not None  # a learner has no finite one only where it diverged
        return loss


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log likelihoods of targets (…) by logits (…, V), fp32."""
    flat = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def regularised(loss: Tensor, reading: Reading, activation: float, temporal: float) -> Tensor:
    """A loss with the penalties on what the last LSTM gives (AR and TAR; Merity et al. 2017, arXiv 1708.01009).

    As salesforce/awd-lstm-lm main.py has it: the mean square after dropout, and that of changes in time before it.
    """
    if activation:
        loss = loss + activation * reading.dropped.float().square().mean()
    if temporal and reading.raw.shape[1] > 1:  # one unit has no change
        loss = loss + temporal * reading.raw.float().diff(dim=1).square().mean()
    return loss

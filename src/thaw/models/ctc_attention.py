"""An encoder with two heads: CTC over its frames, and a decoder that attends to them, label by label.

What all such models share; `thaw.models.attention` has the recurrent decoder, `thaw.models.transformer` the other one.
Shapes: B batch, N hypotheses, T encoder frames, H their units, U labels, D units of the decoder, V classes: the units,
then for CTC the blank, for the decoder the sentence's end, which also begins it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from thaw.models.layered import Labels, LayeredModel, Noise
from thaw.units import EVERY

CTC_OUTPUT, ATTENTION_OUTPUT = "ctc_output", "attention_output"
HEADS = (CTC_OUTPUT, ATTENTION_OUTPUT)


@dataclass(frozen=True)
class State:
    """What a decoder remembers of each hypothesis: tensors whose first axis is theirs, (N, …)."""

    tensors: tuple[Tensor, ...]

    def of(self, rows: Tensor) -> State:
        """That of some hypotheses, in this order."""
        return State(tuple(tensor[rows] for tensor in self.tensors))


@dataclass(frozen=True)
class Memory:
    """What a decoder attends to: the encoder's frames and what it makes of them once, (N, T, …); valid frames (N,)."""

    tensors: tuple[Tensor, ...]
    frames: Tensor

    def of(self, rows: Tensor) -> Memory:
        """That of some hypotheses, in this order."""
        return Memory(tuple(tensor[rows] for tensor in self.tensors), self.frames[rows])


class CtcAttention(LayeredModel):
    """Without labels, what CTC says; with them, both heads."""

    taught: ClassVar[bool] = True

    def path(self, lang: str = EVERY) -> tuple[str, ...]:
        """The way to CTC's logits."""
        return (*self.trunk, CTC_OUTPUT)

    def outputs(
        self, x: Tensor, lengths: Tensor, noise: Noise | None = None, lang: str = EVERY, labels: Labels | None = None
    ) -> dict[str, Tensor]:
        """Logits (B, T, V) of CTC and (B, U + 1, V) of the decoder: of each label, then of the end, given those before.

        What stands beyond an utterance's own U + 1 means nothing.
        """
        ctc, _ = self._through([CTC_OUTPUT], x, lengths, noise)
        if labels is None:
            return {CTC_OUTPUT: ctc}
        begun = shifted(labels, ctc.shape[-1] - 1)
        taught, _ = self._through([ATTENTION_OUTPUT], self.teach(x, lengths, begun, noise), lengths, noise)
        return {CTC_OUTPUT: ctc, ATTENTION_OUTPUT: taught}

    @abstractmethod
    def teach(self, x: Tensor, lengths: Tensor, begun: Tensor, noise: Noise | None) -> Tensor:
        """The decoder's units (B, U + 1, D) behind each of the labels `begun` (B, U + 1), of frames x (B, T, H)."""

    @abstractmethod
    def memory(self, x: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """Frames x (N, T, H) of which N hypotheses are begun."""

    @abstractmethod
    def step(self, memory: Memory, state: State, labels: Tensor) -> tuple[Tensor, State]:
        """Log-probabilities (N, V) of what comes behind the labels (N,), the last ones of the hypotheses.

        No noise: nothing is random.
        """

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (N, V), fp32, of the decoder's units (N, D)."""
        logits, _ = self._through([ATTENTION_OUTPUT], hidden.unsqueeze(1), hidden.new_ones(len(hidden)), None)
        return logits.squeeze(1).float().log_softmax(dim=-1)


def shifted(labels: Labels, begin: int) -> Tensor:
    """(B, U) -> (B, U + 1): the labels behind the class that begins a sentence."""
    return torch.cat([labels.ids.new_full((len(labels.ids), 1), begin), labels.ids], dim=1)

"""Frame classification: a tied state for every frame, from an alignment. The task, its loss, and what is counted.

Source: Heigold et al. (ICASSP 2013), section 2: cross entropy by frame; training stops on held-out frame accuracy.

Shapes: B batch, T frames, V states, N frames of all utterances one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from thaw.errors import UserError
from thaw.placing import on_device
from thaw.scoring.measures import Counts
from thaw.units import Units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thaw.corpora.manifest import Utterance
    from thaw.training.forward import Answer

Aligned = Callable[["Utterance"], "NDArray[np.int32]"]  # the states (T,) of an utterance; UserError where it has none


def unaligned(utterance: Utterance) -> NDArray[np.int32]:
    """No utterance is aligned where a model is only used."""
    raise UserError("it has no alignment; give --alignment")


class Frames:
    """The task `frames` of one head: its states, a class each; the rate of wrong frames of dev selects.

    Losses of frames add up to that of their utterance; means are by frame.
    """

    measures: tuple[str, ...] = ("fer",)
    selects: str = "fer"

    def __init__(self, units: Units, aligned: Aligned = unaligned) -> None:
        self.units = units
        self.aligned = aligned

    @property
    def classes(self) -> int:
        """V: the states."""
        return self.units.size

    def labels(self, utterance: Utterance) -> list[int]:
        """The state of each frame; UserError where there is none."""
        states: list[int] = self.aligned(utterance).tolist()
        return states

    def least_frames(self, labels: Sequence[int]) -> int:
        """As many as there are labels."""
        return len(labels)

    def weight(self, labels: int) -> int:
        """Its frames."""
        return labels

    def losses(self, answer: Answer) -> Tensor:
        """Cross entropies (B,), each the sum over an utterance's frames, in nats."""
        batch, logits = answer.batch, answer.logits
        lengths = batch.target_lengths.tolist()
        valid = in_a_row(logits.float(), lengths)
        each = F.cross_entropy(valid, on_device(batch.targets.long(), logits.device), reduction="none")  # (N,)
        return torch.stack([part.sum() for part in torch.split(each, lengths)])

    def counts(self, answer: Answer) -> dict[str, list[Counts]]:
        """Frames whose likeliest state is another than theirs, over all frames."""
        lengths = answer.batch.target_lengths.tolist()
        wrong = in_a_row(answer.logits, lengths).argmax(dim=-1).cpu() != answer.batch.targets.long()
        parts = zip(torch.split(wrong, lengths), lengths, strict=True)
        return {"fer": [Counts(int(part.sum()), length) for part, length in parts]}

    def select(self, dev: Mapping[str, float | None]) -> float:
        """The rate of wrong frames: 1 - frame accuracy."""
        rate = dev["fer"]
        assert rate is not None  # every utterance has frames
        return rate


def in_a_row(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """(B, T, V) -> (N, V): the first `lengths` frames of each row, one row after the other."""
    return torch.cat([row[:length] for row, length in zip(x, lengths, strict=True)])

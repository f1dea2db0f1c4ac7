"""Learners: who takes the steps. A session drives one, a unit of work at a time, and knows nothing else of it.

`central` is one optimiser over one or many processes; rounds of clients or stale gradients fit the same protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from torch import Tensor


class Diverged(Exception):
    """Losses or gradients are not finite, and no later step could mend that."""


class Moment(Enum):
    """What has just been done when a learner yields."""

    STEP = "step"  # a unit of training: a step, a round
    DEV = "dev batch"  # a unit of judging; a checkpoint here would save nothing but time already spent
    EPOCH = "epoch"  # a row of metrics was added, and weights may have become the best


@dataclass(frozen=True)
class Place:
    """Where a training is. Losses are nats per utterance."""

    epoch: int  # the one at work, 1-based
    unit: int  # its units of training that are done
    step: int  # units of training over all epochs
    steps: int  # as many as there will be, but for an early stop
    loss: float | None  # mean of this epoch so far
    audio_seconds: float  # trained on, over all epochs


@dataclass(frozen=True)
class Kept:
    """Weights to keep: on the CPU, and nothing that the learner still changes."""

    epoch: int
    weights: dict[str, Tensor]  # named as in the model's `state_dict`
    optimizer: dict[str, Tensor]


class Learner(Protocol):
    """One training. Between two units of work it can be saved (`tensors`, `facts`), and taken up again (`restore`)."""

    def run(self) -> Iterator[Moment]:
        """Train from the present place to the end, yielding after every unit of work. Raises Diverged."""

    def settle(self) -> None:
        """Know what became of all that was done: of a GPU, a step may still be to be read. Wanted before it is saved.

        All processes are to call it between the same two units of work, or in a unit of work each. Raises Diverged.
        """

    def tensors(self) -> dict[str, Tensor]:
        """With `facts`, all that another process needs to go on to the same bits."""

    def facts(self) -> dict[str, Any]:
        """See `tensors`; JSON types."""

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go back to where `tensors` and `facts` were taken."""

    @property
    def place(self) -> Place:
        """Where it is."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Metrics, one row per finished epoch."""

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far: {epoch, dev_<what selects>}."""

    def weights(self) -> dict[str, Tensor]:
        """The weights as they would be judged now (averages, where those are); not copied."""

    def unsaved(self) -> dict[str, Kept]:
        """Snapshots ("best", "epoch-N", "mean-N") that were taken and not yet handed out; each is given once."""

    def record(self) -> dict[str, Any]:
        """What `run.json` says of the training when it is over."""

    def unmoved(self) -> list[str]:
        """Names of trainable parameters whose every gradient was exactly zero."""

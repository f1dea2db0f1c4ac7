"""Tasks: what is learnt and how it is judged. A task owns the loss, the counts, and the measure that selects.

A learner knows steps and weights, and asks the task for the rest; a head has a task, with the head's own units.
Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from thaw.config.tasks import CtcAttentionSpec, CtcSpec, FramesSpec, LanguageTaskSpec, RnntSpec, TaskSpec
from thaw.scoring.measures import AnyCounts
from thaw.tasks.ctc import Ctc
from thaw.tasks.ctc_attention import CtcAttention
from thaw.tasks.frames import Frames
from thaw.tasks.language_model import LanguageModelling
from thaw.tasks.rnnt import Rnnt
from thaw.units import ByLanguage, Units

if TYPE_CHECKING:
    from thaw.corpora.manifest import Utterance
    from thaw.training.forward import Answer

__all__ = ["Ctc", "CtcAttention", "Frames", "LanguageModelling", "Rnnt", "Task", "task_for", "tasks_for"]


class Task(Protocol):
    """What a learner asks of a task."""

    measures: tuple[str, ...]  # names of what `counts` gives, as rows of metrics have them behind "dev_"
    selects: str  # of "loss" and the measures, the one that `select` reads: its name in records

    @property
    def classes(self) -> int:
        """V: outputs of the head, the units and what the task adds to them."""

    def labels(self, utterance: Utterance) -> list[int]:
        """What is to be learnt of an utterance; UserError where its text is none of the units'."""

    def least_frames(self, labels: Sequence[int]) -> int:
        """The fewest output frames that can tell these labels."""

    def weight(self, labels: int) -> int:
        """What an utterance with so many labels counts in a mean loss: 1, or its frames or tokens."""

    def losses(self, answer: Answer) -> Tensor:
        """Losses (B,), fp32, in nats, each of a whole utterance, of what the heads say of a batch.

        One that is not finite leaves its utterance out.
        """

    def counts(self, answer: Answer) -> Mapping[str, Sequence[AnyCounts]]:
        """For each measure, the counts of every utterance of the batch."""

    def select(self, dev: Mapping[str, float | None]) -> float:
        """How good an epoch is, lower is better: from "loss" (the mean by `weight`) and the rates of `measures`."""


def task_for(spec: TaskSpec, units: Units) -> Task:
    """The task of a head with these units."""
    match spec:
        case CtcSpec():
            return Ctc(units, spec.selects)
        case FramesSpec():
            return Frames(units)
        case LanguageTaskSpec():
            return LanguageModelling(units)
        case RnntSpec():
            return Rnnt(units, spec.selects)
        case CtcAttentionSpec():
            return CtcAttention(spec, units)


def tasks_for(spec: TaskSpec, units: ByLanguage[Units]) -> dict[str, Task]:
    """The task of each head."""
    return {lang: task_for(spec, each) for lang, each in units.items()}

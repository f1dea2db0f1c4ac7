"""What tasks share that spell an utterance's text: units and one class more, a mean over utterances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.units import Units

if TYPE_CHECKING:
    from thaw.corpora.manifest import Utterance


class Spelling:
    """The units of one head, then one class that is no unit: a blank, or an end."""

    def __init__(self, units: Units, selects: str) -> None:
        self.units = units
        self.selects = selects  # "loss", or one of the task's measures

    @property
    def classes(self) -> int:
        """V: the units and one more, which is the last."""
        return self.units.size + 1

    def labels(self, utterance: Utterance) -> list[int]:
        """The units of its text."""
        return self.units.encode(utterance.text)

    def weight(self, labels: int) -> int:
        """1: mozilla/DeepSpeech v0.7.4 train.py takes the mean over utterances, however long."""
        return 1

    def select(self, dev: Mapping[str, float | None]) -> float:
        """The loss, or a rate of dev; UserError where there is no such rate."""
        value = dev[self.selects]
        if value is None:  # a loss always is: a learner without a finite one has diverged
            raise UserError(f"dev has no {self.selects}: its references are empty; select by the loss")
        return value

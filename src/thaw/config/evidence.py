"""What may be said of the evidence that a choice of layers to freeze is drawn from (`thaw.layers`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from thaw.config.numbers import Count, Int
from thaw.config.sources import Positive, Split
from thaw.config.strict import Strict


class EvidenceSpec(Strict):
    """How much is looked at, of the source run and of the target's training split."""

    draws: Annotated[Positive, Field(le=1000)] = 3  # fresh draws of each layer that is re-randomised
    seed: Int = 101  # of the first of these draws, of the choice of utterances, of the head
    split: Split = "dev"  # of the source's corpus: resets are judged on it
    utterances: Annotated[Positive, Field(le=100_000)] = 256  # of the target, at most
    head_epochs: Annotated[Count, Field(le=10_000)] = 30  # in which the new head alone is fitted before gradients

"""What is measured: errors over a total, by utterance, under a key that files and tables share.

A measure is anything that sums: word and character edits over reference items, wrong frames over frames, nats over
tokens. Its rate is a micro average, all errors over all totals, and is not capped at 1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from thaw.scoring.edits import Edits


@dataclass(frozen=True)
class Counts:
    """Errors over a total, where there is no more to say of the errors (for edits there is: `Edits`)."""

    errors: float = 0
    total: float = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.errors + other.errors, self.total + other.total)

    def as_dict(self) -> dict[str, float]:
        """As files hold them: {errors, total}."""
        return asdict(self)


AnyCounts = Edits | Counts


def counts_from(row: dict[str, Any]) -> AnyCounts:
    """The inverse of `as_dict` of either kind; KeyError for a row of neither."""
    if "sub" in row:
        return Edits(row["sub"], row["del"], row["ins"], row["ref"])
    return Counts(row["errors"], row["total"])


@dataclass(frozen=True)
class Measure:
    """A measure: its key in files, its name in tables, what its total counts, and how its rate is shown.

    `percent` shows 100 times the rate; `exp` its exponential (a perplexity, of nats over tokens).
    """

    key: str
    name: str
    unit: str  # of the total, in the singular
    form: Literal["percent", "exp"] = "percent"

    def shown(self, rate: float) -> float:
        """The number that a table prints for a rate."""
        return 100 * rate if self.form == "percent" else math.exp(rate)

    def rate(self, published: float) -> float:
        """The rate of a number as config/published holds it: a fraction, or a perplexity."""
        return published if self.form == "percent" else math.log(published)

    @property
    def heading(self) -> str:
        """What a column is called: "WER %", "perplexity"."""
        return f"{self.name} %" if self.form == "percent" else self.name


WORD = Measure("word", "WER", "word")
CHARACTER = Measure("char", "CER", "character")
FRAME = Measure("frame", "FER", "frame")
TOKEN = Measure("token", "perplexity", "token", "exp")

MEASURES = {measure.key: measure for measure in (WORD, CHARACTER, FRAME, TOKEN)}

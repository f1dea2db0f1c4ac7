"""From hypotheses to counts per utterance, and from those to the scores of a system."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.edits import Edits, count_characters, count_words
from thaw.scoring.intervals import rate_intervals, units_of

LEVELS = ("word", "char")


@dataclass(frozen=True)
class UtteranceCounts:
    """The edits of one utterance: one row of counts.jsonl."""

    id: str
    speaker: str
    word: Edits
    char: Edits

    def row(self) -> dict[str, Any]:
        """As counts.jsonl holds it."""
        return {"id": self.id, "speaker": self.speaker, "word": self.word.as_dict(), "char": self.char.as_dict()}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> UtteranceCounts:
        """The inverse of `row`."""
        word, char = (Edits(e["sub"], e["del"], e["ins"], e["ref"]) for e in (row["word"], row["char"]))
        return cls(row["id"], row["speaker"], word, char)


def count_rows(rows: Iterable[dict[str, Any]]) -> list[UtteranceCounts]:
    """Counts of hypotheses rows {id, speaker, reference, hypothesis}, sorted by id; UserError for other rows."""
    counts = []
    for number, row in enumerate(rows, start=1):
        try:
            pair = (row["reference"], row["hypothesis"])
            counts.append(UtteranceCounts(row["id"], row["speaker"], count_words(*pair), count_characters(*pair)))
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"row {number} of the hypotheses lacks id, speaker, reference or hypothesis") from error
    counts.sort(key=lambda c: c.id)
    doubles = [a.id for a, b in itertools.pairwise(counts) if a.id == b.id]
    if doubles:
        raise UserError(f"utterance {doubles[0]} occurs more than once in the hypotheses")
    return counts


def score(counts: list[UtteranceCounts], spec: ScoringSpec) -> dict[str, Any]:
    """Totals, rates and intervals of one system, as scores.json holds them.

    Rates are fractions, micro-averaged, not capped at 1. `low` and `high` are null where there is one utterance only.
    `unit` is what intervals are over, `note` why that is not speakers (see `thaw.scoring.intervals`).
    Raises UserError where there is no reference word at all.
    """
    totals = {level: sum((getattr(c, level) for c in counts), Edits()) for level in LEVELS}
    if totals["word"].ref == 0:
        raise UserError("nothing to score: the references hold no words")
    columns = np.array([(c.word.errors, c.word.ref, c.char.errors, c.char.ref) for c in counts], dtype=np.int64)
    units = units_of([c.speaker for c in counts], columns, columns[:, 1])
    intervals = rate_intervals(units, spec.bootstrap, spec.level, spec.seed)
    scores: dict[str, Any] = {
        "utterances": len(counts),
        "speakers": len({c.speaker for c in counts}),
        "unit": units.kind,
        "note": units.note,
        "scoring": spec.model_dump(mode="json"),
    }
    for level, interval in zip(LEVELS, intervals, strict=True):
        low, high = interval or (None, None)
        edits = totals[level]
        scores[level] = edits.as_dict() | {"rate": edits.errors / edits.ref, "low": low, "high": high}
    return scores

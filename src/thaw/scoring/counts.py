"""From hypotheses to counts per utterance, and from those to the scores of one trained model."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thaw.errors import UserError
from thaw.scoring.edits import count_characters, count_words
from thaw.scoring.measures import CHARACTER, WORD, AnyCounts, counts_from

PLACE = ("id", "speaker")


@dataclass(frozen=True)
class UtteranceCounts:
    """What was counted in one utterance, by measure: one row of counts.jsonl."""

    id: str
    speaker: str
    counts: Mapping[str, AnyCounts]

    def row(self) -> dict[str, Any]:
        """As counts.jsonl holds it."""
        return {"id": self.id, "speaker": self.speaker} | {key: c.as_dict() for key, c in self.counts.items()}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> UtteranceCounts:
        """The inverse of `row`; KeyError or TypeError for another row."""
        counts = {key: counts_from(value) for key, value in row.items() if key not in PLACE}
        return cls(row["id"], row["speaker"], counts)


def count_rows(rows: Iterable[dict[str, Any]]) -> list[UtteranceCounts]:
    """Counts of hypotheses rows {id, speaker, reference, hypothesis}, sorted by id; UserError for other rows."""
    counts = []
    for number, row in enumerate(rows, start=1):
        try:
            pair = (row["reference"], row["hypothesis"])
            edits = {WORD.key: count_words(*pair), CHARACTER.key: count_characters(*pair)}
            counts.append(UtteranceCounts(row["id"], row["speaker"], edits))
        except (KeyError, AttributeError, TypeError) as error:
            raise UserError(f"row {number} of the hypotheses lacks id, speaker, reference or hypothesis") from error
    counts.sort(key=lambda c: c.id)
    doubles = [a.id for a, b in itertools.pairwise(counts) if a.id == b.id]
    if doubles:
        raise UserError(f"utterance {doubles[0]} occurs more than once in the hypotheses")
    return counts

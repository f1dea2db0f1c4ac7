"""From hypotheses to counts per utterance, and from those to the scores of one trained model."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from thaw.errors import UserError
from thaw.scoring.edits import count_characters, count_words
from thaw.scoring.measures import CHARACTER, MEASURES, WORD, AnyCounts, counts_from

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
    """Counts of what a decoder gave, sorted by id; UserError for other rows, and for rows of different measures.

    A row is {id, speaker, reference, hypothesis}, whose words and characters are counted, or
    {id, speaker, counts: {measure: {errors, total}}} where what is judged is no text.
    """
    counts = []
    for number, row in enumerate(rows, start=1):
        try:
            counts.append(UtteranceCounts(row["id"], row["speaker"], _counts(row)))
        except (KeyError, AttributeError, TypeError) as error:
            wanted = "id, speaker, reference or hypothesis (or counts)"
            raise UserError(f"row {number} of the hypotheses lacks {wanted}") from error
        if counts[-1].counts.keys() != counts[0].counts.keys():
            raise UserError(f"row {number} of the hypotheses counts other things than the first row")
    counts.sort(key=lambda c: c.id)
    doubles = [a.id for a, b in itertools.pairwise(counts) if a.id == b.id]
    if doubles:
        raise UserError(f"utterance {doubles[0]} occurs more than once in the hypotheses")
    return counts


def _counts(row: Mapping[str, Any]) -> dict[str, AnyCounts]:
    if "counts" in row:
        return {MEASURES[key].key: counts_from(value) for key, value in row["counts"].items()}
    pair = (row["reference"], row["hypothesis"])
    return {WORD.key: count_words(*pair), CHARACTER.key: count_characters(*pair)}

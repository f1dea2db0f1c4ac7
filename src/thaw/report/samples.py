"""Sample transcriptions of a decode: the best, the median and the worst utterances by word error rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thaw.errors import UserError
from thaw.exhibits.frame import Judged
from thaw.files import read_jsonl
from thaw.scoring.measures import WORD

PLACES = ("best", "median", "worst")
EACH = 2


@dataclass(frozen=True)
class Sample:
    """One utterance. `rate` is its WER as a fraction; it may exceed 1."""

    place: str
    id: str
    rate: float
    reference: str
    hypothesis: str


def samples(judged: Judged, each: int = EACH) -> tuple[Sample, ...]:
    """Up to `each` utterances from the two ends and the middle, none twice; longer ones first among equals.

    None of what has no text.
    """
    if any(WORD.key not in row.counts for row in judged.counts):
        return ()  # what was judged is no text
    texts = {row["id"]: row for row in read_jsonl(Path(judged.decode.hypotheses))}
    if {row.id for row in judged.counts} - texts.keys():
        message = f"{judged.decode.counts} and {judged.decode.hypotheses} are not of the same utterances; score again"
        raise UserError(message)
    counts = [(row.id, row.counts[WORD.key]) for row in judged.counts]
    order = sorted((word.errors / max(word.total, 1), -word.total, key) for key, word in counts)
    each = min(each, len(order) // 3) or 1
    middle = max(0, len(order) // 2 - each // 2)
    starts = (0, middle, len(order) - each)
    chosen: dict[int, str] = {}
    for place, start in zip(PLACES, starts, strict=True):
        for index in range(start, min(start + each, len(order))):
            chosen.setdefault(index, place)
    return tuple(
        Sample(place, order[i][2], order[i][0], texts[order[i][2]]["reference"], texts[order[i][2]]["hypothesis"])
        for i, place in chosen.items()
    )

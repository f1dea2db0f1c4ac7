"""The scores of one trained model on one test set, as scores.json holds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.intervals import Unit
from thaw.scoring.measures import MEASURES
from thaw.scoring.statistics import UNKNOWN, Estimate, Sample, estimate

# What the intervals of one model are for. They say nothing of another training: exhibits do, from several seeds.
SCOPES: dict[Unit, str] = {
    "speaker": "this trained model, other speakers",
    "utterance": "this trained model, other utterances of the same speakers",
    "none": "",
}


def score(counts: Sequence[UtteranceCounts], spec: ScoringSpec) -> dict[str, Any]:
    """Totals, rates and intervals of one model; one entry a measure, under its key.

    Rates are fractions, micro-averaged, not capped at 1. `low` and `high` are null where there is one utterance only.
    `unit` is what intervals are over, `note` why that is not speakers, `intervals` what they are for.
    Raises UserError where the references of a measure are empty.
    """
    if not counts:
        raise UserError("nothing to score: no utterances")
    sample = Sample(0, tuple(counts))
    found = {key: _estimate(sample, key, spec) for key in counts[0].counts}
    first = next(iter(found.values()))
    scores: dict[str, Any] = {
        "utterances": len(counts),
        "speakers": first.speakers,
        "unit": first.unit,
        "note": first.note,
        "intervals": SCOPES[first.unit],
        "scoring": spec.model_dump(mode="json"),
    }
    for key, one in found.items():
        total = reduce(add, (c.counts[key] for c in counts))
        scores[key] = total.as_dict() | {"rate": one.rate, "low": one.low, "high": one.high}
    return scores


def _estimate(sample: Sample, key: str, spec: ScoringSpec) -> Estimate:
    if not sum(c.counts[key].total for c in sample.counts):
        unit = MEASURES[key].unit if key in MEASURES else key
        raise UserError(f"nothing to score: the references hold no {unit}s")
    return estimate([sample], key, spec, UNKNOWN)

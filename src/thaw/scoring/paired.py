"""The same trainings, judged twice: before and after something was done to their weights.

Where two treatments are compared, their seeds are other trainings (`thaw.scoring.statistics.difference`). Here each
seed is its own control, so the difference of each is one number, and its noise over seeds is that of the differences.
"""

from __future__ import annotations

from collections.abc import Sequence

from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import Counts
from thaw.scoring.statistics import (
    SIGNIFICANT,
    Comparison,
    Sample,
    SeedNoise,
    detectable,
    estimate,
    quantile,
    two_sided,
)

DIFFERENCE = "difference"  # what these samples count: errors that came, less those that went


def differences(before: Sequence[Sample], after: Sequence[Sample], measure: str) -> list[Sample]:
    """`after` minus `before` of each seed, by utterance; UserError where they are not the same seeds and utterances."""
    first = {sample.seed: sample for sample in before}
    if sorted(first) != sorted(sample.seed for sample in after):
        raise UserError("the two judgements are not of the same trainings")
    return [_difference(first[sample.seed], sample, measure) for sample in after]


def _difference(before: Sample, after: Sample, measure: str) -> Sample:
    if before.ids != after.ids:
        raise UserError("the two judgements were not made on the same utterances")
    counts = []
    for one, other in zip(before.by_id, after.by_id, strict=True):
        first, second = one.counts[measure], other.counts[measure]
        if first.total != second.total:
            raise UserError("the two judgements were not made against the same references")
        more = Counts(second.errors - first.errors, first.total)
        counts.append(UtteranceCounts(one.id, one.speaker, {DIFFERENCE: more}))
    return Sample(after.seed, tuple(counts))


def mean_over(changes: Sequence[Sequence[Sample]]) -> list[Sample]:
    """The mean of several lists of `differences` of the same seeds, by utterance."""
    return [_mean(same) for same in zip(*changes, strict=True)]


def _mean(same: Sequence[Sample]) -> Sample:
    rows = zip(*(sample.by_id for sample in same), strict=True)
    counts = []
    for row in rows:
        found = [one.counts[DIFFERENCE] for one in row]
        mean = Counts(sum(one.errors for one in found) / len(found), found[0].total)
        counts.append(UtteranceCounts(row[0].id, row[0].speaker, {DIFFERENCE: mean}))
    return Sample(same[0].seed, tuple(counts))


def paired(samples: Sequence[Sample], spec: ScoringSpec, noise: SeedNoise) -> Comparison:
    """What `differences` say of a treatment; `noise` is that of differences (`seed_noise` of such samples)."""
    found = estimate(samples, DIFFERENCE, spec, noise)
    known = found.low is not None
    tested = known and noise.degrees > 0
    reach = quantile((1 + spec.level) / 2, found.degrees) * found.error
    return Comparison(
        difference=found.rate,
        low=found.rate - reach if known else None,
        high=found.rate + reach if known else None,
        p=two_sided(found.rate / found.error, found.degrees) if tested else None,
        smallest=detectable(found.error, found.degrees, SIGNIFICANT) if tested else None,
        scope=found.scope,
        unit=found.unit,
        note=found.note,
        error=found.error,
        degrees=found.degrees,
    )

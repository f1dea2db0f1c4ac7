"""Scores of a study's runs, arranged as tables and figures show them: target × decoder × treatment, seeds pooled.

With several seeds a rate is the mean over seeds, its interval comes from the edits of all seeds together (speakers are
resampled, seeds are not), and the spread over seeds (sample standard deviation) stands beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thaw.errors import UserError
from thaw.exhibits.spec import DecodeRow, ExhibitSpec, RunRow
from thaw.files import read_json, read_jsonl
from thaw.scoring.compare import Comparison, compare, holm
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import AnyCounts
from thaw.scoring.scores import score

Level = Literal["word", "char"]
LEVELS: dict[Level, str] = {"word": "WER", "char": "CER"}


def level_text(level: float) -> str:
    """0.95 -> "95 %"."""
    return f"{100 * level:.4g} %"


@dataclass(frozen=True)
class Seed:
    """One run, decoded once and scored."""

    run: RunRow
    decode: DecodeRow
    scores: dict[str, Any]  # scores.json
    counts: tuple[UtteranceCounts, ...]


@dataclass(frozen=True)
class Difference:
    """A comparison with its p value corrected for all treatments compared to the same one (Holm)."""

    comparison: Comparison
    p_holm: float


@dataclass(frozen=True)
class Result:
    """One treatment on one target with one decoder: all its seeds. Rates are fractions."""

    target: str
    treatment: str
    decoder: str
    seeds: tuple[Seed, ...]
    pooled: dict[str, Any]  # like scores.json, over all seeds

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the runs behind this result."""
        return tuple(seed.run.id for seed in self.seeds)

    def rate(self, level: Level) -> float:
        """The micro-averaged error rate, over all seeds."""
        return float(self.pooled[level]["rate"])

    def spread(self, level: Level) -> float | None:
        """Standard deviation over seeds; None for one seed."""
        if len(self.seeds) < 2:
            return None
        return statistics.stdev(float(seed.scores[level]["rate"]) for seed in self.seeds)


Results = dict[tuple[str, str, str], Result]  # (target, decoder, treatment)
Differences = dict[tuple[str, str, str, Level], Difference]


def load_results(spec: ExhibitSpec) -> Results:
    """Read every score of the spec's runs; UserError names a file that is missing or of another shape."""
    rows: dict[tuple[str, str, str], list[Seed]] = {}
    for run in spec.runs:
        for decode in run.decodes:
            rows.setdefault((run.target, decode.decoder, run.treatment), []).append(load_seed(run, decode))
    return {
        (target, decoder, treatment): Result(target, treatment, decoder, tuple(seeds), _pooled(seeds, spec))
        for (target, decoder, treatment), seeds in rows.items()
    }


def load_seed(run: RunRow, decode: DecodeRow) -> Seed:
    """One run's scores and counts by utterance."""
    scores = read_json(Path(decode.scores))
    rows = read_jsonl(Path(decode.counts))
    try:
        for level in LEVELS:
            float(scores[level]["rate"])
        counts = tuple(UtteranceCounts.from_row(row) for row in rows)
    except (KeyError, TypeError, ValueError) as error:
        message = f"{decode.scores} or {decode.counts}: not what `thaw score` writes ({error!r}); score this run again"
        raise UserError(message) from error
    return Seed(run, decode, scores, counts)


def _pooled(seeds: list[Seed], spec: ExhibitSpec) -> dict[str, Any]:
    if len(seeds) == 1:
        return seeds[0].scores
    return score(_summed(seeds), spec.scoring)


def _summed(seeds: Iterable[Seed]) -> list[UtteranceCounts]:
    """Edits of each utterance, added over seeds."""
    totals: dict[str, UtteranceCounts] = {}
    for seed in seeds:
        for row in seed.counts:
            old = totals.get(row.id)
            counts = row.counts if old is None else {key: _sum(old.counts[key], row.counts[key]) for key in row.counts}
            totals[row.id] = UtteranceCounts(row.id, row.speaker, counts)
    return [totals[key] for key in sorted(totals)]


def _sum(first: AnyCounts, second: AnyCounts) -> AnyCounts:
    return first + second  # type: ignore[operator]


def differences(results: Results, spec: ExhibitSpec, base: str) -> Differences:
    """Every treatment against `base`, by target, decoder and level; each such group is one family for Holm."""
    found: Differences = {}
    for target in spec.targets:
        for decoder in spec.decoders:
            for level in LEVELS:
                found.update(_family(results, spec, base, target, decoder, level))
    return found


def _family(
    results: Results, spec: ExhibitSpec, base: str, target: str, decoder: str, level: Level
) -> Iterable[tuple[tuple[str, str, str, Level], Difference]]:
    first = results.get((target, decoder, base))
    if first is None:
        return []
    others = [t for t in spec.treatments if t != base and (target, decoder, t) in results]
    compared = [_compared(first, results[target, decoder, treatment], spec, level) for treatment in others]
    corrected = holm([comparison.p for comparison in compared])
    return [
        ((target, decoder, treatment, level), Difference(comparison, p))
        for treatment, comparison, p in zip(others, compared, corrected, strict=True)
    ]


def _compared(first: Result, second: Result, spec: ExhibitSpec, level: Level) -> Comparison:
    """`second` against `first`, over the seeds that both have."""
    common = {s.run.seed for s in first.seeds} & {s.run.seed for s in second.seeds}
    if not common:
        raise UserError(f"{first.treatment} and {second.treatment} on {first.target} have no random seed in common")
    pools = [_summed(s for s in result.seeds if s.run.seed in common) for result in (first, second)]
    try:
        return compare(pools[0], pools[1], spec.scoring, level)
    except UserError as error:
        files = f"{first.seeds[0].decode.counts} and {second.seeds[0].decode.counts}"
        raise UserError(f"{files}: {error}; score both runs again") from error

"""thaw score: hypotheses → counts per utterance, error rates, intervals; and how two trained models differ."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thaw.config.schema import ScoringSpec
    from thaw.scoring.counts import UtteranceCounts

HELP = "count the errors of hypotheses, with intervals over speakers"
EXAMPLE = "thaw score --hypotheses hypotheses.jsonl --scores scores.json --counts counts.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--scoring", default="{}", help="a ScoringSpec as JSON (default: %(default)s)")
    parser.add_argument("--hypotheses", type=Path, required=True, help="JSON Lines: id, speaker, reference, hypothesis")
    parser.add_argument("--scores", type=Path, required=True, help="written: totals, rates and intervals (JSON)")
    parser.add_argument("--counts", type=Path, required=True, help="written: counts per utterance (JSON Lines)")
    parser.add_argument("--against", type=Path, help="other hypotheses of the same utterances: print the difference")


def run(args: argparse.Namespace) -> None:
    """Read hypotheses, write counts and scores."""
    from thaw.config.schema import ScoringSpec
    from thaw.files import read_jsonl, write_json, write_jsonl
    from thaw.scoring.scores import score

    spec = ScoringSpec.model_validate_json(args.scoring)
    rows = [*read_jsonl(args.hypotheses)]
    counts = _counted(args.hypotheses, rows)
    scores = _named(args.hypotheses, score, counts, spec)
    write_jsonl(args.counts, (c.row() for c in counts))
    write_json(args.scores, scores)
    if args.against:
        others = [*read_jsonl(args.against)]
        print(_named(args.against, _difference, _counted(args.against, others), counts, spec))
        print(_mapsswe(others, rows))


def _counted(path: Path, rows: list[dict[str, Any]]) -> list[UtteranceCounts]:
    from thaw.scoring.counts import count_rows

    return list(_named(path, count_rows, rows))


def _named(path: Path, function: Any, *arguments: Any) -> Any:
    """What a function gives; a UserError that does not name the file it is about gets its name."""
    from thaw.errors import UserError

    try:
        return function(*arguments)
    except UserError as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise UserError(f"{where}{error}") from error


def _difference(others: list[UtteranceCounts], counts: list[UtteranceCounts], spec: ScoringSpec) -> str:
    """One training each tells nothing of treatments: an interval over speakers, no p value."""
    from thaw.scoring.measures import WORD
    from thaw.scoring.statistics import UNKNOWN, Sample, difference

    found = difference([Sample(0, tuple(others))], [Sample(0, tuple(counts))], WORD.key, spec, UNKNOWN)
    text = f"{WORD.name} {100 * found.difference:+.1f} points"
    if found.low is not None and found.high is not None:
        over = {"speaker": "other speakers", "utterance": "other utterances of the same speakers"}[found.unit]
        text += f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}] for {over}"
    return f"{text}: these trained models; what another random seed would change is not in it"


def _mapsswe(others: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    from thaw.errors import UserError
    from thaw.scoring.mapsswe import mapsswe

    try:
        found = mapsswe(others, rows)
    except UserError as error:
        return f"no second opinion: {error}"
    return f"MAPSSWE (sctk): {found.segments} segments, Z {found.z:+.2f}, p {found.p:.3g}, these models and speakers"

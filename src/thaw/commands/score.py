"""thaw score: hypotheses → counts per utterance, error rates, intervals."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "count the errors of hypotheses, with bootstrap intervals over speakers"
EXAMPLE = "thaw score --hypotheses hypotheses.jsonl --scores scores.json --counts counts.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--scoring", default="{}", help="a ScoringSpec as JSON (default: %(default)s)")
    parser.add_argument("--hypotheses", type=Path, required=True, help="JSON Lines: id, speaker, reference, hypothesis")
    parser.add_argument("--scores", type=Path, required=True, help="written: totals, rates and intervals (JSON)")
    parser.add_argument("--counts", type=Path, required=True, help="written: counts per utterance (JSON Lines)")


def run(args: argparse.Namespace) -> None:
    """Read hypotheses, write counts and scores."""
    from thaw.config.schema import ScoringSpec
    from thaw.errors import UserError
    from thaw.files import read_jsonl, write_json, write_jsonl
    from thaw.scoring.counts import count_rows
    from thaw.scoring.scores import score

    spec = ScoringSpec.model_validate_json(args.scoring)
    try:
        counts = count_rows(read_jsonl(args.hypotheses))
        scores = score(counts, spec)
    except UserError as error:
        where = "" if str(args.hypotheses) in str(error) else f"{args.hypotheses}: "
        raise UserError(f"{where}{error}") from error
    write_jsonl(args.counts, (c.row() for c in counts))
    write_json(args.scores, scores)

"""thaw decode: a trained model × a manifest × a decoder → hypotheses, in one job. `emit` and `search` do it in two."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import computing_in, count
from thaw.commands.search import add_files

HELP = "decode every utterance of a manifest with a trained model"
EXAMPLE = (
    'thaw decode --decoder \'{"kind":"greedy"}\' --model results/runs/RUN/model.safetensors \\\n'
    "    --manifest test.jsonl --hypotheses hypotheses.jsonl --record decode.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--decoder", default='{"kind":"greedy"}', help="a DecoderSpec as JSON (default: greedy)")
    parser.add_argument(
        "--model", type=Path, required=True, help="model.safetensors of a run, or its snapshots.safetensors"
    )
    parser.add_argument("--snapshot", default="best", help="which of the run's snapshots (default: %(default)s)")
    parser.add_argument("--manifest", type=Path, required=True, help="the utterances to decode")
    add_files(parser)
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--hypotheses", type=Path, required=True, help="written: JSON Lines, sorted by id")
    parser.add_argument("--record", type=Path, required=True, help="written: settings, tuning, warnings, cost (JSON)")


def run(args: argparse.Namespace) -> None:
    """Decode, write hypotheses and record, show the warnings."""
    computing_in(args.threads)
    import sys

    from pydantic import TypeAdapter

    from thaw.config.decoders import DecoderSpec
    from thaw.decoding.decode import decode
    from thaw.decoding.searching import Files
    from thaw.files import write_json, write_jsonl

    spec = TypeAdapter[DecoderSpec](DecoderSpec).validate_json(args.decoder)
    rows, record = decode(
        spec,
        args.model,
        args.manifest,
        snapshot=args.snapshot,
        files=Files(args.lm, args.lexicon, args.graph, args.alignment),
        tune_on=args.tune_on,
        threads=args.threads,
        device=args.device,
    )
    for warning in record["warnings"]:
        print(f"thaw decode: warning: {warning}", file=sys.stderr)
    write_jsonl(args.hypotheses, rows)
    write_json(args.record, record)

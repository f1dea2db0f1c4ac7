"""thaw gmm: the words that an alignment's own model finds."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import one_thread

HELP = "recognise every utterance of a manifest with the GMM-HMM of an alignment and a decoding graph"
EXAMPLE = (
    "thaw gmm --model gmm.safetensors --graph graph.fst --manifest test.jsonl --tune-on dev.jsonl \\\n"
    "    --hypotheses hypotheses.jsonl --record decode.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--search", default="{}", help="a SearchSpec as JSON (default: %(default)s)")
    parser.add_argument("--model", type=Path, required=True, help="gmm.safetensors of an alignment")
    parser.add_argument("--graph", type=Path, required=True, help="graph.fst, with its words and record beside it")
    parser.add_argument("--manifest", type=Path, required=True, help="the utterances to recognise")
    parser.add_argument("--tune-on", nargs="?", type=Path, help="manifest the acoustic scale is chosen on (dev)")
    parser.add_argument("--hypotheses", type=Path, required=True, help="written: JSON Lines, sorted by id")
    parser.add_argument("--record", type=Path, required=True, help="written: settings, the scale, cost (JSON)")


def run(args: argparse.Namespace) -> None:
    """Recognise, write hypotheses and record."""
    one_thread()

    import sys

    from thaw.alignment.recognition import recognise
    from thaw.config.alignment import SearchSpec
    from thaw.files import write_json, write_jsonl

    spec = SearchSpec.model_validate_json(args.search)
    rows, record = recognise(spec, args.model, args.graph, args.manifest, args.tune_on)
    for warning in record["warnings"]:
        print(f"thaw gmm: warning: {warning}", file=sys.stderr)
    write_jsonl(args.hypotheses, rows)
    write_json(args.record, record)

"""thaw probe: one run, many lists of operations on its layers → a row of counts for each, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import computing_in, count

HELP = "evaluate a trained model once for each of many operations on its layers, without training"
EXAMPLE = (
    'thaw probe --probes \'{"operations":{"none":[],"lstm-drawn":[{"reset":["lstm"],"seed":101}]}}\' \\\n'
    "    --model results/runs/RUN/model.safetensors --manifest test.jsonl \\\n"
    "    --rows probes.jsonl --counts counts.jsonl --record probe.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--probes", required=True, metavar="JSON", help="a ProbeSpec: snapshot, splits, operations")
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors of a run")
    # It may stand without a value, so that one rule serves runs that keep further snapshots and runs that do not.
    parser.add_argument("--snapshots", nargs="?", type=Path, help="snapshots.safetensors of the run, if it has one")
    parser.add_argument("--manifest", type=Path, required=True, nargs="+", help="those of the splits, in their order")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--rows", type=Path, required=True, help="written: a row for each probe and split (JSON Lines)")
    parser.add_argument("--counts", type=Path, required=True, help="written: counts per utterance (JSON Lines)")
    parser.add_argument(
        "--hypotheses", nargs="?", type=Path, help="written, if given: what was recognised (JSON Lines)"
    )
    parser.add_argument("--record", type=Path, required=True, help="written: settings, warnings, cost (JSON)")


def run(args: argparse.Namespace) -> None:
    """Probe, write rows, counts and record, show the warnings."""
    computing_in(args.threads)
    import sys

    from thaw.config.probes import ProbeSpec
    from thaw.files import write_json, write_jsonl
    from thaw.probing.probe import probe

    spec = ProbeSpec.model_validate_json(args.probes)
    probed = probe(spec, args.model, args.manifest, snapshots=args.snapshots, threads=args.threads, device=args.device)
    for warning in probed.record["warnings"]:
        print(f"thaw probe: warning: {warning}", file=sys.stderr)
    if args.hypotheses is not None:
        write_jsonl(args.hypotheses, probed.hypotheses)
    write_jsonl(args.counts, probed.counts)
    write_jsonl(args.rows, probed.rows)
    write_json(args.record, probed.record)

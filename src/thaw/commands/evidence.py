"""thaw evidence: a trained run, a target's manifest → what is known beforehand of freezing each of its layers."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import computing_in, count

HELP = "measure, before any transfer is trained, what is said to tell which layers of a run to freeze"
EXAMPLE = (
    "thaw evidence --model results/runs/RUN/model.safetensors --source english/dev.jsonl \\\n"
    "    --target german/train.jsonl --out evidence.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--evidence", default="{}", metavar="JSON", help="an EvidenceSpec (default: its defaults)")
    parser.add_argument("--model", type=Path, required=True, help="model.safetensors of the run to transfer from")
    # It may stand without a value, so that one rule serves runs that keep further snapshots and runs that do not.
    parser.add_argument("--snapshots", nargs="?", type=Path, help="snapshots.safetensors of the run, if it has one")
    parser.add_argument("--source", type=Path, help="utterances in the run's own language, for resets")
    parser.add_argument("--target", type=Path, required=True, help="utterances to transfer to")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="written: numbers by predictor and layer (JSON)")


def run(args: argparse.Namespace) -> None:
    """Gather the evidence and write it."""
    computing_in(args.threads)
    from thaw.config.evidence import EvidenceSpec
    from thaw.files import write_json
    from thaw.layers.evidence import Question, gather

    spec = EvidenceSpec.model_validate_json(args.evidence)
    question = Question(
        spec, args.model, args.target, args.source, args.snapshots, threads=args.threads, device=args.device
    )
    write_json(args.out, gather(question))

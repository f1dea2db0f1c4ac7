"""thaw emit: a trained model × a manifest → emissions, for any number of searches."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import computing_in, count

HELP = "one pass of a trained model over a manifest: best paths, and log-probabilities for decoders that search"
EXAMPLE = "thaw emit --model results/runs/RUN/model.safetensors --manifest test.jsonl --scores --record emissions.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model", type=Path, required=True, help="model.safetensors of a run, or its snapshots.safetensors"
    )
    parser.add_argument("--snapshot", default="best", help="which of the run's snapshots (default: %(default)s)")
    parser.add_argument("--manifest", type=Path, required=True, help="the utterances to go through")
    parser.add_argument("--scores", action="store_true", help="keep log-probabilities: what a search needs")
    parser.add_argument("--tune-on", type=Path, help="the same of a manifest that decoders are tuned on (dev)")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument(
        "--record", type=Path, required=True, help="written, last (JSON); beside it labels.jsonl, scores.safetensors …"
    )


def run(args: argparse.Namespace) -> None:
    """Run the model, write what it says."""
    computing_in(args.threads)
    from thaw.decoding.decode import emit

    emit(
        args.model,
        args.manifest,
        args.record,
        snapshot=args.snapshot,
        scores=args.scores,
        tune_on=args.tune_on,
        threads=args.threads,
        device=args.device,
    )

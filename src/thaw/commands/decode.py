"""thaw decode: a trained model × a manifest × a decoder → hypotheses."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import count

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
    # Each may stand without a value, so that one rule serves decoders that need them and decoders that do not.
    parser.add_argument("--tune-on", nargs="?", type=Path, help="manifest a beam decoder's weights are tuned on (dev)")
    parser.add_argument("--lm", nargs="?", type=Path, help="KenLM binary of a beam decoder")
    parser.add_argument("--lexicon", nargs="?", type=Path, help="its lexicon")
    parser.add_argument("--graph", nargs="?", type=Path, help="decoding graph of a hybrid (graph.fst of `thaw graph`)")
    parser.add_argument("--alignment", nargs="?", type=Path, help="alignment that the model learnt from: its priors")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--hypotheses", type=Path, required=True, help="written: JSON Lines, sorted by id")
    parser.add_argument("--record", type=Path, required=True, help="written: settings, tuning, warnings, cost (JSON)")


def run(args: argparse.Namespace) -> None:
    """Decode, write hypotheses and record, show the warnings."""
    import sys

    from pydantic import TypeAdapter

    from thaw.config.decoders import DecoderSpec
    from thaw.decoding.decode import decode
    from thaw.files import write_json, write_jsonl

    spec = TypeAdapter[DecoderSpec](DecoderSpec).validate_json(args.decoder)
    rows, record = decode(
        spec,
        args.model,
        args.manifest,
        snapshot=args.snapshot,
        lm=args.lm,
        lexicon=args.lexicon,
        tune_on=args.tune_on,
        graph=args.graph,
        alignment=args.alignment,
        threads=args.threads,
        device=args.device,
    )
    for warning in record["warnings"]:
        print(f"thaw decode: warning: {warning}", file=sys.stderr)
    write_jsonl(args.hypotheses, rows)
    write_json(args.record, record)

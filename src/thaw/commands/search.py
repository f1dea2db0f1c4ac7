"""thaw search: emissions × a decoder → hypotheses. On CPUs; the model is not needed again."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import count, one_thread

HELP = "decode what `thaw emit` wrote, on CPUs"
EXAMPLE = (
    'thaw search --decoder \'{"kind":"greedy"}\' --emissions emissions.json --manifest test.jsonl \\\n'
    "    --hypotheses hypotheses.jsonl --record decode.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--decoder", default='{"kind":"greedy"}', help="a DecoderSpec as JSON (default: greedy)")
    parser.add_argument(
        "--emissions", type=Path, required=True, help="the record that `thaw emit` wrote (emissions.json)"
    )
    parser.add_argument("--manifest", type=Path, required=True, help="the utterances that it went through")
    add_files(parser)
    parser.add_argument("--threads", type=count, default=1, help="processes; any number gives the same bytes")
    parser.add_argument("--hypotheses", type=Path, required=True, help="written: JSON Lines, sorted by id")
    parser.add_argument("--record", type=Path, required=True, help="written: settings, tuning, warnings, cost (JSON)")


def add_files(parser: argparse.ArgumentParser) -> None:
    """The files of decoders; each may stand without a value, so that one rule serves all decoders."""
    parser.add_argument("--tune-on", nargs="?", type=Path, help="manifest a decoder's weights are tuned on (dev)")
    parser.add_argument("--lm", nargs="?", type=Path, help="KenLM binary of a beam decoder")
    parser.add_argument("--lexicon", nargs="?", type=Path, help="its lexicon")
    parser.add_argument("--graph", nargs="?", type=Path, help="decoding graph of a hybrid (graph.fst of `thaw graph`)")
    parser.add_argument("--alignment", nargs="?", type=Path, help="alignment that the model learnt from: its priors")


def run(args: argparse.Namespace) -> None:
    """Search, write hypotheses and record, show the warnings."""
    one_thread()
    import sys

    from pydantic import TypeAdapter

    from thaw.config.decoders import DecoderSpec, JointSpec, PerplexitySpec
    from thaw.decoding.emitted import read_pass
    from thaw.decoding.searching import Files, search
    from thaw.errors import UserError
    from thaw.files import write_json, write_jsonl

    spec = TypeAdapter[DecoderSpec](DecoderSpec).validate_json(args.decoder)
    if isinstance(spec, JointSpec | PerplexitySpec):
        raise UserError(f"--decoder: {spec.kind} asks the model while it searches: take `thaw decode`")
    files = Files(args.lm, args.lexicon, args.graph, args.alignment)
    rows, record = search(spec, read_pass(args.emissions), args.manifest, files, args.tune_on, args.threads)
    for warning in record["warnings"]:
        print(f"thaw search: warning: {warning}", file=sys.stderr)
    write_jsonl(args.hypotheses, rows)
    write_json(args.record, record)

"""thaw align: audio, text and a lexicon → a GMM-HMM, and a tied state for every frame of each split."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import count, one_thread

HELP = "train a GMM-HMM from a flat start, and align every split with it: a tied state for every frame"
EXAMPLE = (
    'thaw align --alignment \'{"leaves":200,"gaussians":800}\' --lexicon lexicon.txt --train train.jsonl \\\n'
    "    --dev dev.jsonl --test test.jsonl --state state --out alignment"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--alignment", default="{}", help="an AlignmentSpec as JSON (default: %(default)s)")
    parser.add_argument("--lexicon", type=Path, required=True, help="word, tab, phones")
    for split in ("train", "dev", "test"):
        parser.add_argument(f"--{split}", type=Path, required=split == "train", help=f"manifest of {split}")
    parser.add_argument("--threads", type=count, default=1, help="processes; any number gives the same bits")
    parser.add_argument("--state", type=Path, required=True, help="folder of what is unfinished; a killed job goes on")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder, written: gmm.safetensors, a file of each split, rejects.tsv, alignment.json",
    )


def run(args: argparse.Namespace) -> None:
    """Train, align, write; what is in --state of the same work is not done again."""
    one_thread()

    from thaw.alignment.making import make
    from thaw.config.alignment import AlignmentSpec

    splits = {split: getattr(args, split) for split in ("train", "dev", "test") if getattr(args, split)}
    spec = AlignmentSpec.model_validate_json(args.alignment)
    record = make(spec, args.lexicon, splits, args.out, args.state, args.threads)
    last = record["iterations"][-1]
    print(f"align: {last['states']} states, {last['gaussians']} Gaussians, {last['log_likelihood']:.2f} nats a frame")
    for split, each in record["splits"].items():
        print(f"align: {split}: {each['utterances']} utterances, {each['frames']} frames, {each['rejected']} rejected")

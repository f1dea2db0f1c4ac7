"""thaw part: a manifest → a share of it."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "cut a share from a training manifest: nested for one seed, by utterance or by speaker, or what it leaves"
EXAMPLE = 'thaw part --part \'{"share":0.2,"by":"speaker"}\' --train train.jsonl --out part.jsonl'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--part", required=True, metavar="JSON", help="a PartSpec: share, by, rest, seed")
    parser.add_argument("--train", type=Path, required=True, help="the manifest to cut from")
    parser.add_argument("--out", type=Path, required=True, help="written: the manifest of the share")


def run(args: argparse.Namespace) -> None:
    """Cut the share. Raises UserError where it would be empty, or the whole."""
    import os
    import sys

    from thaw.config.schema import PartSpec
    from thaw.corpora.shares import share
    from thaw.errors import UserError
    from thaw.files import read_jsonl, write_jsonl

    rows = read_jsonl(args.train)
    try:
        part = share(rows, PartSpec.model_validate_json(args.part))
    except UserError as error:
        raise UserError(f"{args.train}: {error}") from error
    for row in part:  # paths of audio start from the manifest's folder
        if "audio_filepath" in row:  # text has none
            audio = args.train.parent / row["audio_filepath"]
            row["audio_filepath"] = os.path.relpath(audio, args.out.parent)
    write_jsonl(args.out, part)
    print(
        f"part: {len(part)} of {len(rows)} utterances, {len({row['speaker'] for row in part})} speakers",
        file=sys.stderr,
    )

"""thaw audio: clips → one shard of 16 kHz mono int16."""

from __future__ import annotations

import argparse
from pathlib import Path

from thaw.commands.options import count, index

HELP = "convert a slice of a corpus's clips (MP3, FLAC, WAV, OGG) into one 16 kHz mono WAV shard with an index"
EXAMPLE = (
    "thaw audio --utterances utterances.jsonl --shard 0 --shards 4 --threads 2 \\\n"
    "    --wav 0.wav --index 0.jsonl --rejects 0.tsv"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--audio", default="{}", help="an AudioSpec as JSON (default: %(default)s)")
    parser.add_argument("--utterances", type=Path, required=True, help="the listing that `thaw fetch` made")
    parser.add_argument("--shard", type=index, default=0, help="which slice, counted from 0 (default: %(default)s)")
    parser.add_argument("--shards", type=count, default=1, help="of how many slices (default: %(default)s)")
    parser.add_argument("--threads", type=count, default=1, help="clips converted at once (default: %(default)s)")
    parser.add_argument("--wav", type=Path, required=True, help="written: the audio, clips back to back")
    parser.add_argument("--index", type=Path, required=True, help="written: where each clip lies (JSON Lines)")
    parser.add_argument("--rejects", type=Path, required=True, help="written: clips left out, and why")


def run(args: argparse.Namespace) -> None:
    """Convert one slice."""
    import sys

    from thaw.audio.listing import read_listing, shard_slice
    from thaw.audio.shards import ShardFiles, write_shard
    from thaw.config.schema import AudioSpec

    spec = AudioSpec.model_validate_json(args.audio)
    clips = shard_slice(read_listing(args.utterances), args.shard, args.shards)
    tally = write_shard(clips, spec, ShardFiles(args.wav, args.index, args.rejects), args.threads)
    print(f"audio: shard {args.shard} of {args.shards}: {tally.line()}", file=sys.stderr)

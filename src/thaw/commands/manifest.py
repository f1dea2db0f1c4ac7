"""thaw manifest: transcripts + audio index + alphabet → manifests per split."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thaw.config.models import ModelSpec
    from thaw.corpora.manifest import Built

HELP = "join transcripts and audio into manifests per split; utterances that cannot be used are listed with the reason"
EXAMPLE = (
    'thaw manifest --text \'{"alphabet":" abcdefghijklmnopqrstuvwxyz"}\' --frames \'{"kind":"deepspeech"}\' \\\n'
    "    --utterances utterances.jsonl --index 0.jsonl 1.jsonl --wav 0.wav 1.wav --rejects-in 0.tsv 1.tsv \\\n"
    "    --train train.jsonl --dev dev.jsonl --test test.jsonl --rejects rejects.tsv --counts counts.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--text", required=True, help="a TextSpec as JSON: alphabet and rules")
    parser.add_argument(
        "--frames", nargs="+", required=True, help="ModelSpecs as JSON (or lists of them); each must be able to align"
    )
    parser.add_argument("--utterances", type=Path, required=True, help="the listing that `thaw fetch` made")
    parser.add_argument("--index", type=Path, nargs="*", default=[], help="indices of all shards; none for text")
    parser.add_argument("--wav", type=Path, nargs="*", default=[], help="the shards, in the same order")
    parser.add_argument("--rejects-in", type=Path, nargs="*", default=[], help="rejects of the rooms before")
    for split in ("train", "dev", "test"):
        parser.add_argument(f"--{split}", type=Path, required=True, help=f"written: the manifest of {split}")
    parser.add_argument("--rejects", type=Path, required=True, help="written: all rejects, those before included")
    parser.add_argument("--counts", type=Path, required=True, help="written: utterances, hours, speakers… per split")


def run(args: argparse.Namespace) -> None:
    """Build and write the manifests."""
    from thaw.config.schema import SPLITS, TextSpec
    from thaw.corpora.manifest import Shard, build
    from thaw.corpora.sentences import build_text, is_text
    from thaw.errors import UserError
    from thaw.files import read_jsonl

    if len(args.index) != len(args.wav):
        raise UserError(f"--index names {len(args.index)} files and --wav {len(args.wav)}: give one of each per shard")
    text = TextSpec.model_validate_json(args.text)
    outputs: dict[str, Path] = {split: getattr(args, split) for split in SPLITS}
    if not args.index and is_text(read_jsonl(args.utterances)):
        write(build_text(args.utterances, args.rejects_in, text), outputs, args)
        return
    if not args.index:
        raise UserError("--index, --wav: these utterances have audio; name the indices of all shards, and the shards")
    shards = [Shard(index, wav) for index, wav in zip(args.index, args.wav, strict=True)]
    folders = {split: path.parent for split, path in outputs.items()}
    write(build(args.utterances, shards, args.rejects_in, text, _models(args.frames), folders), outputs, args)


def write(built: Built, outputs: dict[str, Path], args: argparse.Namespace) -> None:
    """Write manifests, rejects and counts, and say what they hold."""
    import sys

    from thaw.corpora.manifest import SHARED_SPEAKERS
    from thaw.files import write_json, write_jsonl, write_rejects

    for split, path in outputs.items():
        write_jsonl(path, built.rows[split])
        count = built.counts[split]
        kept = f"{count['utterances']} of {count['listed']} utterances, {count['hours']:.2f} h"
        print(f"manifest: {split}: {kept}, {count['speakers']} speakers", file=sys.stderr)
    for pair, number in built.counts.get(SHARED_SPEAKERS, {}).items():
        first, second = pair.split("+")
        line = (
            f"{number} of the speakers of {second} are in {first} too: rates say nothing of speakers not heard before"
        )
        print(f"manifest: warning: {line}", file=sys.stderr)
    write_rejects(args.rejects, built.rejects)
    write_json(args.counts, built.counts)


def _models(frames: list[str]) -> list[ModelSpec]:
    """Model specs from JSON texts that each hold one spec or a list of them."""
    from pydantic import TypeAdapter

    from thaw.config.models import ModelSpec
    from thaw.errors import UserError

    either: TypeAdapter[ModelSpec | list[ModelSpec]] = TypeAdapter(ModelSpec | list[ModelSpec])
    specs: list[ModelSpec] = []
    for text in frames:
        value = either.validate_json(text)
        specs += value if isinstance(value, list) else [value]
    if not specs:
        raise UserError('--frames names no model: give at least one, e.g. \'{"kind":"deepspeech"}\'')
    return specs

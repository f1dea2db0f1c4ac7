"""thaw checkpoint: weights and optimiser state of another toolkit → a start for `thaw train`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "read a released checkpoint of another toolkit as a model to start from"
EXAMPLE = (
    'thaw checkpoint --path deepspeech-0.7.4-checkpoint.tar.gz --alphabet " abcdefghijklmnopqrstuvwxyz\'" '
    "--model-out model.safetensors --optimizer optimizer.safetensors --digest model.sha256 --record record.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--kind", choices=["deepspeech-tf"], default="deepspeech-tf", help="whose it is (default: %(default)s, 0.7)")
    add("--path", type=Path, required=True, help="NAME of NAME.index, its folder, or a .tar.gz of that")
    add("--sha256", default="", metavar="HEX", help="of the .tar.gz, or of NAME.index and all NAME.data-* joined")
    add("--alphabet", required=True, metavar="STR", help="characters of its output layer, in order, without the blank")
    add("--model", metavar="JSON", help="the model it should hold; default: what the shapes in it say")
    add("--model-out", type=Path, required=True, metavar="OUT", help="weights (safetensors)")
    add("--optimizer", type=Path, required=True, metavar="OUT", help="optimizer state (safetensors)")
    add("--digest", type=Path, required=True, metavar="OUT", help="SHA-256 of the weights' file")
    add("--record", type=Path, required=True, metavar="OUT", help="what was read, mapped and left (JSON)")


def run(args: argparse.Namespace) -> None:
    """Read, check, convert; UserError says what does not fit."""
    from pydantic import TypeAdapter

    from thaw.canonical import file_sha256
    from thaw.checkpoints.deepspeech import import_deepspeech
    from thaw.checkpoints.source import digest, opened
    from thaw.config.models import DeepSpeechSpec, ModelSpec
    from thaw.errors import UserError
    from thaw.files import write_json, write_text
    from thaw.models import save_model, save_tensors
    from thaw.text import Alphabet

    spec = TypeAdapter[ModelSpec](ModelSpec).validate_json(args.model) if args.model else None
    if spec is not None and not isinstance(spec, DeepSpeechSpec):
        raise UserError(f"--model: a checkpoint of kind {args.kind} holds a model of kind deepspeech, not {spec.kind}")
    with opened(args.path, args.sha256, args.model_out.parent) as bundle:
        imported = import_deepspeech(bundle, Alphabet(args.alphabet), spec)
        origin = {
            "checkpoint": args.kind,
            "name": bundle.prefix.name,
            "sha256": digest(bundle),
            "files": {path.name: path.stat().st_size for path in bundle.files()},
        }
    meta = {
        "model": imported.spec.model_dump(mode="json"),
        "alphabet": args.alphabet,
        "run": {key: origin[key] for key in ("checkpoint", "name", "sha256")},
    }
    save_model(args.model_out, imported.model, meta)
    save_tensors(args.optimizer, imported.optimizer, {"optimizer": "adam-tf"})
    write_text(args.digest, file_sha256(args.model_out) + "\n")
    write_json(args.record, {**origin, **imported.record})
    for note in imported.record["notes"]:
        print(f"note: {note}")

"""thaw checkpoint: weights and optimiser state of another toolkit → a start for `thaw train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thaw.checkpoints.imported import Imported
    from thaw.config.models import DeepSpeechSpec, QuartzNetSpec

HELP = "read a released checkpoint of another toolkit as a model to start from"
EXAMPLE = (
    'thaw checkpoint --kind nemo --path QuartzNet15x5Base-En.nemo --alphabet " abcdefghijklmnopqrstuvwxyz\'" '
    "--model-out model.safetensors --optimizer optimizer.safetensors --digest model.sha256 --record record.json"
)
HOLDS = {"deepspeech-tf": "deepspeech", "nemo": "quartznet", "jasper": "quartznet"}  # kind of model by kind of file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--kind",
        choices=list(HOLDS),
        default="deepspeech-tf",
        help="deepspeech-tf: Mozilla DeepSpeech 0.7; nemo: a .nemo file of NVIDIA NeMo; jasper: the pair of .pt files "
        "of NeMo before 1.0 (default: %(default)s)",
    )
    add(
        "--path",
        type=Path,
        required=True,
        help="NAME of NAME.index, its folder, or a .tar.gz of that; the .nemo file; the folder of the pair",
    )
    add(
        "--sha256",
        default="",
        metavar="HEX",
        help="of the .tar.gz or .nemo; of NAME.index and all NAME.data-* joined; of encoder and decoder joined",
    )
    add("--alphabet", required=True, metavar="STR", help="characters of its output layer, in order, without the blank")
    add("--model", metavar="JSON", help="the model it should hold; default: what the file says")
    add("--model-out", type=Path, required=True, metavar="OUT", help="weights (safetensors)")
    add("--optimizer", type=Path, required=True, metavar="OUT", help="optimizer state (safetensors); NeMo has none")
    add("--digest", type=Path, required=True, metavar="OUT", help="SHA-256 of the weights' file")
    add("--record", type=Path, required=True, metavar="OUT", help="what was read, mapped and left (JSON)")


def run(args: argparse.Namespace) -> None:
    """Read, check, convert; UserError says what does not fit."""
    from pydantic import TypeAdapter

    from thaw.canonical import file_sha256
    from thaw.config.models import DeepSpeechSpec, ModelSpec, QuartzNetSpec
    from thaw.errors import UserError
    from thaw.files import write_json, write_text
    from thaw.models import save_model, save_tensors

    spec = TypeAdapter[ModelSpec](ModelSpec).validate_json(args.model) if args.model else None
    holds = HOLDS[args.kind]
    if spec is not None and spec.kind != holds:
        raise UserError(f"--model: a checkpoint of kind {args.kind} holds a model of kind {holds}, not {spec.kind}")
    if args.kind == "deepspeech-tf":
        assert spec is None or isinstance(spec, DeepSpeechSpec)
        imported, origin = _deepspeech(args, spec)
    else:
        assert spec is None or isinstance(spec, QuartzNetSpec)
        imported, origin = _nemo(args, spec)
    meta = {
        "model": imported.spec.model_dump(mode="json"),
        "alphabet": args.alphabet,
        "run": {key: origin[key] for key in ("checkpoint", "name", "sha256")},
    }
    save_model(args.model_out, imported.model, meta)
    save_tensors(args.optimizer, imported.optimizer, {"optimizer": "adam-tf" if imported.optimizer else "none"})
    write_text(args.digest, file_sha256(args.model_out) + "\n")
    write_json(args.record, {**origin, **imported.record})
    for note in imported.record["notes"]:
        print(f"note: {note}")


def _deepspeech(args: argparse.Namespace, spec: DeepSpeechSpec | None) -> tuple[Imported, dict[str, Any]]:
    """Weights and optimizer state of DeepSpeech, and which files they are from."""
    from thaw.checkpoints.deepspeech import import_deepspeech
    from thaw.checkpoints.source import digest, opened
    from thaw.units import Alphabet

    with opened(args.path, args.sha256, args.model_out.parent) as bundle:
        imported = import_deepspeech(bundle, Alphabet(args.alphabet), spec)
        return imported, {
            "checkpoint": args.kind,
            "name": bundle.prefix.name,
            "sha256": digest(bundle),
            "files": {path.name: path.stat().st_size for path in bundle.files()},
        }


def _nemo(args: argparse.Namespace, spec: QuartzNetSpec | None) -> tuple[Imported, dict[str, Any]]:
    """Weights of NeMo, and which files they are from."""
    from thaw.checkpoints.nemo import import_nemo
    from thaw.checkpoints.nemofile import open_jasper, open_nemo
    from thaw.units import Alphabet

    released = (open_nemo if args.kind == "nemo" else open_jasper)(args.path, args.sha256)
    imported = import_nemo(released, Alphabet(args.alphabet), spec)
    return imported, {
        "checkpoint": args.kind,
        "name": next(iter(released.files)),
        "sha256": released.sha256,
        "files": released.files,
    }

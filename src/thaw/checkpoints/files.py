"""Which files a checkpoint consists of, without reading any of them. Needs no torch: plans ask this too."""

from __future__ import annotations

import re
from pathlib import Path

from thaw.checkpoints.source import ARCHIVES, find_prefix
from thaw.errors import UserError

ENCODER, DECODER = "JasperEncoder", "JasperDecoderForCTC"


def checkpoint_files(kind: str, path: Path) -> list[Path]:
    """The files whose bytes, one after another, the checkpoint's `sha256` is of; UserError where `path` leads to none.

    deepspeech-tf: the archive, or index and data in order; nemo: the file; jasper: encoder and decoder.
    """
    if kind == "jasper":
        return list(jasper_pair(path))
    if kind == "nemo" or path.name.endswith(ARCHIVES):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        return [path]
    prefix = find_prefix(path)
    data = sorted(other for other in prefix.parent.iterdir() if other.name.startswith(f"{prefix.name}.data-"))
    return [prefix.with_name(f"{prefix.name}.index"), *data]


def jasper_pair(path: Path) -> tuple[Path, Path]:
    """Encoder and decoder of NeMo before 1.0, in the folder `path` or beside the encoder `path`; UserError for half."""
    encoder = _encoder(path)
    decoder = encoder.with_name(encoder.name.replace(ENCODER, DECODER, 1))
    if not decoder.is_file():
        raise UserError(f"{decoder}: no such file; {encoder.name} is only half of a model")
    return encoder, decoder


def _encoder(path: Path) -> Path:
    """The encoder's file that `path` means."""
    if path.is_file() and re.fullmatch(rf"{ENCODER}-.*\.pt", path.name):
        return path
    found = sorted(path.glob(f"{ENCODER}-*.pt")) if path.is_dir() else []
    if len(found) != 1:
        which = f"{len(found)} encoders there: {', '.join(p.name for p in found[:5])}" if found else "no encoder there"
        raise UserError(
            f"{path}: {which}; give a folder with one {ENCODER}-STEP-N.pt and its {DECODER}-STEP-N.pt, or the path of "
            "the encoder's file"
        )
    return found[0]

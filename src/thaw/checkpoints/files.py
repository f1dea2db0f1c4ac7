"""Which files a checkpoint consists of, without reading any of them. Needs no torch: plans ask this too."""

from __future__ import annotations

import re
from pathlib import Path

from thaw.errors import UserError

# DeepSpeech's own order (mozilla/DeepSpeech v0.7.4 util/checkpoints.py, `load_or_init_graph_for_evaluation`).
STATE_FILES = ("best_dev_checkpoint", "checkpoint")
ARCHIVES = (".tar.gz", ".tgz")
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


def find_prefix(path: Path) -> Path:
    """NAME of the checkpoint NAME.index that a folder or a name leads to; UserError where there is none, or several."""
    return in_folder(path, path) if path.is_dir() else _prefix(path)


def _prefix(path: Path) -> Path:
    """NAME, of NAME or NAME.index."""
    prefix = path.with_name(path.name.removesuffix(".index"))
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise UserError(f"{path}: no checkpoint there; give a folder, a {ARCHIVES[0]}, or NAME where NAME.index lies")
    return prefix


def in_folder(folder: Path, shown: Path) -> Path:
    """The checkpoint that a state file in `folder` or just below names, or else the only one there."""
    for name in STATE_FILES:
        states = [state for state in (*folder.glob(name), *sorted(folder.glob(f"*/{name}"))) if state.is_file()]
        if states:
            return _prefix(states[0].with_name(_latest(states[0])))
    found = sorted([*folder.glob("*.index"), *folder.glob("*/*.index")])
    if len(found) != 1:
        which = f"{len(found)} ({', '.join(path.name for path in found[:5])})" if found else "none"
        raise UserError(f"{shown}: {which} checkpoints in it, and no {' or '.join(STATE_FILES)}; give the path of one")
    return _prefix(found[0])


def _latest(state: Path) -> str:
    """The file name of the checkpoint that a state file names: paths in it are of the machine that wrote it."""
    try:
        with state.open("rb") as file:
            text = file.read(1 << 16).decode(errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {state}: {error.strerror or error}") from error
    match = re.search(r'^model_checkpoint_path: *"([^"]+)"', text, re.MULTILINE)
    name = re.split(r"[/\\]", match[1])[-1] if match else ""
    if not name.strip(". ") or not name.isprintable() or len(name) > 200:
        raise UserError(f"{state}: names no checkpoint; give the path of the one to read")
    return name

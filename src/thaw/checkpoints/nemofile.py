"""Reading what NVIDIA NeMo released, without NeMo: a .nemo archive, or the pair of files of its versions before 1.0.

Sources: NVIDIA/NeMo nemo/core/connectors/save_restore_connector.py (a tar of model_config.yaml and model_weights.ckpt;
gzipped at first, plain later), scripts/nemo_legacy_import/asr_checkpoint_port.py (JasperEncoder-STEP-N.pt and
JasperDecoderForCTC-STEP-N.pt, each a plain state dict).

Nothing is unpacked to disk, nothing is unpickled freely, and no byte count in the file is believed.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from torch import Tensor

from thaw.checkpoints.files import jasper_pair
from thaw.checkpoints.nemoconfig import MAX_CONFIG, read_config
from thaw.checkpoints.statedict import read_state
from thaw.errors import UserError

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"
MAX_BYTES = 1 << 29  # of a whole file; QuartzNet 15x5 has 76 million
MAX_MEMBERS = 1000
BLOCK = 1 << 20


@dataclass(frozen=True)
class Released:
    """A checkpoint as read: names and shapes are not yet compared with any model."""

    path: Path
    files: dict[str, int]  # name: bytes
    sha256: str
    tensors: dict[str, Tensor]  # by the names in the file
    config: dict[str, Any]  # empty where there is none
    full_names: bool  # whether names begin with the module: "encoder.encoder.0…", as in a .nemo
    notes: tuple[str, ...] = ()


def open_nemo(path: Path, sha256: str = "") -> Released:
    """Read a .nemo file; UserError where it is missing, damaged, has another checksum, or is no plain .nemo."""
    if not path.is_file():
        raise UserError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; give the path of a .nemo file")
    found = check_sha256([path], sha256)
    members, others = _members(path)
    if missing := [name for name in (CONFIG, WEIGHTS) if name not in members]:
        inside = ", ".join([*members, *others][:8]) or "nothing"
        raise UserError(
            f"{path}: not a .nemo file of NeMo 1.0 or later: it has no {' and no '.join(missing)} ({inside})"
        )
    config = read_config(members[CONFIG], f"{path}: {CONFIG}")
    tensors = read_state(io.BytesIO(members[WEIGHTS]), f"{path}: {WEIGHTS}")
    notes = (f"other files in it, not read: {', '.join(others[:20])}",) if others else ()
    return Released(path, {path.name: path.stat().st_size}, found, tensors, config, full_names=True, notes=notes)


def open_jasper(path: Path, sha256: str = "") -> Released:
    """Read the pair of encoder and decoder in the folder `path` (or: the encoder's file, its decoder beside it).

    `sha256` is that of both files joined, the encoder first. One YAML file beside them, NeMo's configuration of the
    model, is read too. UserError where there is no pair, or several.
    """
    pair = jasper_pair(path)
    folder = pair[0].parent
    found = check_sha256(pair, sha256)
    tensors: dict[str, Tensor] = {}
    for half in pair:
        if half.stat().st_size > MAX_BYTES:
            raise UserError(f"{half}: larger than {MAX_BYTES >> 20} MiB: not a QuartzNet")
        with half.open("rb") as file:
            tensors |= read_state(file, str(half))
    config, notes = _config_beside(folder)
    if trainers := sorted(other.name for other in folder.glob("trainer-*.pt")):
        notes.append(
            f"never read, since another training's optimizer state spoils a new one: {', '.join(trainers[:8])}"
        )
    files = {half.name: half.stat().st_size for half in pair}
    return Released(folder, files, found, tensors, config, full_names=False, notes=tuple(notes))


def check_sha256(paths: Iterable[Path], sha256: str) -> str:
    """The SHA-256 of files, one after another; UserError where `sha256` is given and is another."""
    paths = list(paths)
    total = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    total.update(block)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    found = total.hexdigest()
    if sha256 and found != sha256.lower():
        names = " + ".join(path.name for path in paths)
        raise UserError(f"{paths[0].parent}: sha256 of {names} is {found}, not {sha256}; get it again or correct it")
    return found


def _config_beside(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The one YAML file of a folder, and notes for the record."""
    found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(found) != 1:
        why = f"{len(found)} YAML files" if found else "no YAML file"
        return {}, [f"{why} beside the pair: neither its letters nor its front end could be compared"]
    with found[0].open("rb") as file:
        config = read_config(file.read(MAX_CONFIG + 1), str(found[0]))
    return config, [f"letters, blocks and front end are those of {found[0].name}, which the checksum leaves out"]


class _Limited(io.RawIOBase):
    """A stream that ends in an error after MAX_BYTES, however few they were packed into."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream, self.left, self.path = stream, MAX_BYTES, path

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(BLOCK if size < 0 else min(size, BLOCK))
        self.left -= len(data)
        if self.left < 0:
            raise UserError(f"{self.path}: unpacks to more than {MAX_BYTES >> 20} MiB: not a QuartzNet")
        return data


def _members(path: Path) -> tuple[dict[str, bytes], list[str]]:
    """The two files that count, by name, and the names of all others; UserError for what is no whole, plain tar."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            limited = _Limited(stream, path)
            members, others = _read(limited, path)
            while limited.read():  # to the very end, where gzip has its checksum
                pass
            return members, others
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, OverflowError) as error:
        raise UserError(f"{path}: not a whole .nemo file, which is a tar ({error}); get it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _read(stream: _Limited, path: Path) -> tuple[dict[str, bytes], list[str]]:
    members: dict[str, bytes] = {}
    others: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:
        for number, member in enumerate(tar):
            name = checked(member, path).name
            if number >= MAX_MEMBERS:
                raise UserError(f"{path}: more than {MAX_MEMBERS} files in it: not a .nemo file")
            if member.isdir():
                continue
            if name in (CONFIG, WEIGHTS):
                if name in members:
                    raise UserError(f"{path}: {name} is in it twice")
                content = tar.extractfile(member)
                assert content is not None  # only links and devices have none
                limit = MAX_CONFIG + 1 if name == CONFIG else MAX_BYTES
                members[name] = content.read(min(member.size, limit))
            else:
                others.append(ascii(name)[1:-1])
    return members, others


def checked(member: tarfile.TarInfo, path: Path) -> PurePosixPath:
    """The path of a member; UserError for whatever NeMo would not write: links, devices, paths that lead elsewhere.

    Nothing is written to such a path here. But a file that has one was made to do harm, and its weights are no better.
    """
    inside = PurePosixPath(member.name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in member.name or "\0" in member.name:
        raise UserError(f"{path}: its member {member.name[:100]!r} points outside of it; refused")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise UserError(f"{path}: its member {member.name[:100]!r} is a link, a device or sparse, not a file; refused")
    return inside

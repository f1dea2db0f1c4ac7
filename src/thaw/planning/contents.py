"""What the user's own files hold, as short digests: part of the identity of what is made from them.

A path says where a table, a text or a checkpoint is, not what it is. So a plan looks at these files: an edit makes
another digest, and with it other ids; a touch or a copy makes none. Files of more than `SMALL` bytes in all are read
again only where their size or times are others than when they were last read; `CACHE` remembers that.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from thaw.canonical import digest
from thaw.checkpoints.files import checkpoint_files
from thaw.config.schema import CheckpointSpec
from thaw.config.sources import Source, TextSource
from thaw.corpora.archives import fingerprint
from thaw.corpora.texts import version_of
from thaw.corpora.userfiles import archives, tables
from thaw.errors import UserError
from thaw.files import read_json, write_json

CACHE = Path("results/contents.json")
SMALL = 1 << 20  # bytes
SETTLED = 2_000_000_000  # ns: a file written just now may be written again within one tick of its clock
BLOCK = 1 << 20


def source_inputs(source: Source, language: str) -> list[Path]:
    """The user's own files, as far as they are there, that a corpus is listed from."""
    return [path for path in (*tables(source, language), *archives(source)) if path.is_file()]


def of_source(source: Source, language: str) -> str:
    """The content of the user's own files that a corpus is listed from; empty for a corpus without any."""
    if isinstance(source, TextSource) and not source.path and not source.splits:
        return digest([f"{package} {version_of(package)}" for package in source.packages])
    held = [of_file(path) for path in tables(source, language)] + [fingerprint(path) for path in archives(source)]
    return digest(held) if held else ""


def checkpoint_inputs(spec: CheckpointSpec) -> list[Path]:
    """The files of a checkpoint; none where they are not there, which its import says."""
    try:
        return checkpoint_files(spec.kind, Path(spec.path))
    except (UserError, OSError):
        return []


def of_checkpoint(spec: CheckpointSpec) -> str:
    """The checksum that a config may give as `sha256`, of the files that are there; empty where there are none."""
    return spec.sha256.lower() or sha256(checkpoint_inputs(spec))


def of_file(path: Path | str) -> str:
    """The SHA-256 of a file; empty where there is none."""
    return sha256([Path(path)]) if path and Path(path).is_file() else ""


def sha256(paths: Sequence[Path]) -> str:
    """SHA-256 of the bytes of files, one after another; empty for none. Raises UserError for what cannot be read."""
    if not paths:
        return ""
    try:
        stats = [path.stat() for path in paths]
        stamps = tuple((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats)
        return _sha256(tuple(path.absolute() for path in paths), stamps)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or paths[0]}: {error.strerror or error}") from error


@cache
def _sha256(paths: tuple[Path, ...], stamps: tuple[tuple[int, int, int], ...]) -> str:
    """The same, remembered by size, time of change and time of status change (ns) of each file."""
    if sum(size for size, _, _ in stamps) <= SMALL:
        return _read(paths)
    key, now = "\n".join(map(str, paths)), {"stamps": [list(stamp) for stamp in stamps]}
    before = _remembered().get(key, {})
    if before.get("stamps") == now["stamps"] and isinstance(before.get("sha256"), str):
        return str(before["sha256"])
    found = _read(paths)
    if time.time_ns() - max(max(times) for _, *times in stamps) > SETTLED:
        with suppress(UserError):  # it only saves time; results may lie where nobody may write
            write_json(CACHE, {**_remembered(), key: {**now, "sha256": found}})
    return found


def _remembered() -> dict[str, Any]:
    try:
        found = read_json(CACHE)
    except (UserError, OSError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, dict)} if isinstance(found, dict) else {}


def _read(paths: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                total.update(block)
    return total.hexdigest()

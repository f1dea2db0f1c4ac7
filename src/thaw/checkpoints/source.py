"""Finding the checkpoint behind a path: NAME of NAME.index, a folder, or a .tar.gz of one."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.checkpoints.bundle import Bundle
from thaw.corpora.archives import unpack
from thaw.errors import UserError

# DeepSpeech's own order (mozilla/DeepSpeech v0.7.4 util/checkpoints.py, `load_or_init_graph_for_evaluation`).
STATE_FILES = ("best_dev_checkpoint", "checkpoint")
ARCHIVES = (".tar.gz", ".tgz")


@contextmanager
def opened(path: Path, sha256: str, scratch: Path) -> Iterator[Bundle]:
    """The checkpoint that `path` leads to; an archive is unpacked below `scratch`, until the block ends.

    `sha256`, where not empty, is that of the archive, or else of all files of the checkpoint one after another: index,
    then data. UserError where there is no checkpoint, or several and no word which, or another checksum.
    """
    if path.name.endswith(ARCHIVES):
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=scratch) as folder:
            if not path.is_file():
                raise UserError(f"{path}: no such file")
            yield Bundle(_in_folder(unpack(path, Path(folder), sha256), path))
        return
    bundle = Bundle(find_prefix(path))
    if sha256 and (found := digest(bundle)) != sha256.lower():
        raise UserError(f"{path}: sha256 of {_names(bundle)} is {found}, not {sha256}; get it again or correct it")
    yield bundle


def find_prefix(path: Path) -> Path:
    """NAME of the checkpoint NAME.index that a folder or a name leads to; UserError where there is none, or several."""
    return _in_folder(path, path) if path.is_dir() else _prefix(path)


def digest(bundle: Bundle) -> str:
    """SHA-256 over all files of a checkpoint, one after another: what `cat NAME.index NAME.data-* | sha256sum` says."""
    total = hashlib.sha256()
    for path in bundle.files():
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}; a checkpoint is all its files") from error
    return total.hexdigest()


def _names(bundle: Bundle) -> str:
    return " + ".join(path.name for path in bundle.files())


def _prefix(path: Path) -> Path:
    """NAME, of NAME or NAME.index."""
    prefix = path.with_name(path.name.removesuffix(".index"))
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise UserError(f"{path}: no checkpoint there; give a folder, a {ARCHIVES[0]}, or NAME where NAME.index lies")
    return prefix


def _in_folder(folder: Path, shown: Path) -> Path:
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

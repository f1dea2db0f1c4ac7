"""Finding the checkpoint behind a path: NAME of NAME.index, a folder, or a .tar.gz of one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thaw.checkpoints.bundle import Bundle
from thaw.checkpoints.files import ARCHIVES, find_prefix, in_folder
from thaw.corpora.archives import unpack
from thaw.errors import UserError


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
            yield Bundle(in_folder(unpack(path, Path(folder), sha256), path))
        return
    bundle = Bundle(find_prefix(path))
    if sha256 and (found := digest(bundle)) != sha256.lower():
        raise UserError(f"{path}: sha256 of {_names(bundle)} is {found}, not {sha256}; get it again or correct it")
    yield bundle


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

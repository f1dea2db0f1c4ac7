"""Unpacking a corpus' .tar.gz: safe against what an archive may try, and resumable."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thaw.canonical import file_sha256
from thaw.corpora.ownership import claim
from thaw.errors import UserError
from thaw.files import write_text

CONTENT = "release"  # sub-folder of the unpacked files
COMPLETE = "unpacked"  # a file, there once all files are; holds the sha256 that was checked
EDGE = 1 << 20  # bytes at either end of an archive that its fingerprint covers
BLOCK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much an archive may unpack to. Speech hardly compresses; a bomb grows a thousandfold."""

    ratio: int = 30  # unpacked bytes per packed byte
    floor: int = 256 << 20  # bytes that any archive may unpack to
    members: int = 20_000_000

    def bytes(self, packed: int) -> int:
        """The most bytes that an archive of `packed` bytes may unpack to."""
        return max(self.floor, self.ratio * packed)


def unpack(archive: Path, root: Path, sha256: str = "", limits: Limits | None = None) -> Path:
    """Unpack `archive` into `root` and return the folder of its files; done before, it returns at once.

    `sha256`, where given, is checked before anything is unpacked. An interrupted call is taken up: files that are there
    in full size are passed over. Raises UserError for a wrong checksum, a broken archive, a full disk, and for an
    archive with absolute paths, "..", links, devices, or more bytes than `limits` allow.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; give a Common Voice folder or .tar.gz archive")
    claim(root, {"kind": "archive", "fingerprint": fingerprint(archive)})
    folder, complete = root / CONTENT, root / COMPLETE
    verified = complete.read_text() if complete.exists() else None
    if sha256 and sha256.lower() != verified and (found := file_sha256(archive)) != sha256.lower():
        raise UserError(f"{archive}: sha256 is {found}, not {sha256}; download it again or correct `sha256`")
    if verified is None:
        _unpack_all(archive, folder, limits or Limits())
    if verified is None or sha256.lower() not in ("", verified):
        write_text(complete, sha256.lower(), sealed=False)
    return folder


def _unpack_all(archive: Path, folder: Path, limits: Limits) -> None:
    try:
        _extract(archive, folder, limits)
        os.sync()  # one sync for all files, before the mark that says that they are there
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{archive}: not a whole .tar.gz archive ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into {folder}: {error.strerror or error}") from error


def fingerprint(path: Path) -> str:
    """A quick identity of a large file: its size and both ends. It tells files apart; it proves nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(EDGE)
        file.seek(max(0, size - EDGE))
        tail = file.read(EDGE)
    return hashlib.sha256(b"%d:" % size + head + tail).hexdigest()


class _Counted(io.RawIOBase):
    """A stream that ends in an error after `limit` bytes, however few they were packed into."""

    def __init__(self, stream: gzip.GzipFile, limit: int, archive: Path) -> None:
        self.stream, self.left, self.archive = stream, limit, archive

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(BLOCK if size < 0 else min(size, BLOCK))
        self.left -= len(data)
        if self.left < 0:
            raise UserError(
                f"{self.archive} unpacks to far more than its size: not a corpus of speech; nothing was listed"
            )
        return data


def _extract(archive: Path, folder: Path, limits: Limits) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(archive) as packed:
        stream = _Counted(packed, limits.bytes(archive.stat().st_size), archive)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:
            for number, member in enumerate(tar):
                target = folder / checked(member, archive)
                if number >= limits.members:
                    raise UserError(f"{archive} holds more than {limits.members} files: not a corpus of speech")
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    _write(tar, member, target)
                tar.members.clear()  # type: ignore[attr-defined]  # or a million headers stay in memory
        # To the very end: tarfile takes damaged data for the end of the archive, gzip's checksum does not.
        while stream.read():
            pass


def checked(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    """The path of a member below the folder it is unpacked to; UserError for whatever is no plain file or folder there.

    Links are refused even where they point inside: no corpus needs them, and each is a way to write through later.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise UserError(f"{archive}: its member {member.name!r} would be written outside the corpus folder; refused")
    # A sparse file has more bytes than the archive holds for it, which no count of unpacked bytes would see.
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise UserError(
            f"{archive}: its member {member.name!r} is a link, a device or sparse, not a plain file; refused"
        )
    return path


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a file under a temporary name first: a file in its place has all its bytes."""
    if target.is_file() and target.stat().st_size == member.size:
        return
    content = tar.extractfile(member)
    assert content is not None  # only links and devices have none
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    with temporary.open("wb") as file:
        shutil.copyfileobj(content, file, BLOCK)
    os.replace(temporary, target)

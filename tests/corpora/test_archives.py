"""Unpacking: what an archive may not do, and what an interruption may not break."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from thaw.corpora import archives
from thaw.corpora.archives import Limits, unpack
from thaw.errors import UserError

FILES = {"cv/de/train.tsv": b"client_id\tpath\tsentence\n", "cv/de/clips/a.mp3": b"aa", "cv/de/clips/b.mp3": b"bbbb"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def pack(path: Path, *odd: tarfile.TarInfo, files: dict[str, bytes] = FILES) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            tar.addfile(member(name, size=len(data)), io.BytesIO(data))
        for info in odd:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_becomes_a_folder(tmp_path: Path) -> None:
    archive = pack(tmp_path / "de.tar.gz", member("cv/de/empty", tarfile.DIRTYPE))
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = unpack(archive, tmp_path / "root", checksum.upper())
    assert contents(folder) == FILES
    assert (folder / "cv/de/empty").is_dir()


@pytest.mark.parametrize(
    "odd",
    [
        member("../evil", size=3),
        member("cv/../../evil", size=3),
        member("/tmp/evil-thaw", size=3),
        member("..", tarfile.DIRTYPE),
        member("cv/..\\evil", size=3),
        member("cv/out", tarfile.SYMTYPE, "/etc"),
        member("cv/up", tarfile.SYMTYPE, "../../.."),
        member("cv/hard", tarfile.LNKTYPE, "/etc/passwd"),
        member("cv/device", tarfile.CHRTYPE),
        member("cv/disk", tarfile.BLKTYPE),
        member("cv/pipe", tarfile.FIFOTYPE),
        member("cv/sparse", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda info: str(info.name),
)
def test_what_an_archive_may_not_hold(odd: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = pack(tmp_path / "de.tar.gz", odd)
    with pytest.raises(UserError, match="refused"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "root" / "evil").exists()
    assert not any(path.is_symlink() for path in (tmp_path / "root").rglob("*"))
    assert not (tmp_path / "root" / archives.COMPLETE).exists()


def test_a_bomb_is_stopped_early(tmp_path: Path) -> None:
    archive = pack(tmp_path / "bomb.tar.gz", member("cv/zeros", size=8 << 20))
    assert archive.stat().st_size < 20000
    with pytest.raises(UserError, match="unpacks to far more"):
        unpack(archive, tmp_path / "root", limits=Limits(floor=1 << 20))
    assert not (tmp_path / "root" / archives.CONTENT / "cv/zeros").exists()
    with pytest.raises(UserError, match="more than 2 files"):
        unpack(archive, tmp_path / "root", limits=Limits(members=2))


def test_wrong_checksum_unpacks_nothing(tmp_path: Path) -> None:
    archive = pack(tmp_path / "de.tar.gz")
    with pytest.raises(UserError, match="sha256 is"):
        unpack(archive, tmp_path / "root", "0" * 64)
    assert not (tmp_path / "root" / archives.CONTENT).exists()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_checksum(data: bytes) -> bytes:
    return data[:-8]


def _flip(data: bytes) -> bytes:
    return data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]


def _no_gzip(data: bytes) -> bytes:
    return b"PK" + data


@pytest.mark.parametrize("damage", [_cut, _cut_checksum, _flip, _no_gzip])
def test_a_damaged_archive_is_never_complete(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    archive = pack(tmp_path / "de.tar.gz")
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(UserError, match="not a whole"):
        unpack(archive, tmp_path / "root")
    assert not (tmp_path / "root" / archives.COMPLETE).exists()


def test_an_interrupted_unpacking_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, root = pack(tmp_path / "de.tar.gz"), tmp_path / "root"
    replace = archives.os.replace

    def dies_at_b(source: Path, target: Path) -> None:
        if target.name == "b.mp3":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(archives.os, "replace", dies_at_b)
        with pytest.raises(KeyboardInterrupt):
            unpack(archive, root)
    first = root / archives.CONTENT / "cv/de/clips/a.mp3"
    made = first.stat().st_mtime_ns
    assert contents(unpack(archive, root)) == FILES
    assert first.stat().st_mtime_ns == made


def test_unpacked_before_it_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "de.tar.gz")
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    folder = unpack(archive, tmp_path / "root", checksum)
    monkeypatch.setattr(archives, "file_sha256", None)
    assert unpack(archive, tmp_path / "root", checksum) == folder


def test_a_checksum_that_comes_later_is_checked_then(tmp_path: Path) -> None:
    archive = pack(tmp_path / "de.tar.gz")
    folder = unpack(archive, tmp_path / "root")
    with pytest.raises(UserError, match="sha256 is"):
        unpack(archive, tmp_path / "root", "0" * 64)
    assert contents(folder) == FILES  # nothing is lost to a slip of the pen
    assert unpack(archive, tmp_path / "root", hashlib.sha256(archive.read_bytes()).hexdigest()) == folder


def test_another_archive_starts_over(tmp_path: Path) -> None:
    unpack(pack(tmp_path / "de.tar.gz"), tmp_path / "root")
    other = pack(tmp_path / "de.tar.gz", files={"clips/c.mp3": b"c"})
    assert contents(unpack(other, tmp_path / "root")) == {"clips/c.mp3": b"c"}


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        unpack(tmp_path / "de.tar.gz", tmp_path / "root")

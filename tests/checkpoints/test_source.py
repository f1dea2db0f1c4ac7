"""Finding a checkpoint: by name, in a folder, in an archive; with and without a checksum."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path

import pytest

from thaw.checkpoints.source import digest, opened
from thaw.errors import UserError

DATA = Path(__file__).parent / "data"
FILES = ("best_dev-3.index", "best_dev-3.data-00000-of-00001", "best_dev_checkpoint")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as DeepSpeech leaves it: the best checkpoint, the last one, and a state file for each."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name in FILES:
        shutil.copyfile(DATA / name, folder / name)
    for name in FILES[:2]:
        shutil.copyfile(DATA / name, folder / name.replace("best_dev-3", "train-9"))
    (folder / "checkpoint").write_text('model_checkpoint_path: "train-9"\n')
    return folder


def found(path: Path, scratch: Path, sha256: str = "") -> str:
    with opened(path, sha256, scratch) as bundle:
        assert bundle.read("global_step") == 3
        return bundle.prefix.name


def test_by_name_and_in_a_folder(folder: Path, tmp_path: Path):
    assert found(folder / "train-9", tmp_path) == found(folder / "train-9.index", tmp_path) == "train-9"
    assert found(folder, tmp_path) == "best_dev-3"  # though its state file speaks of another machine's folder
    (folder / "best_dev_checkpoint").unlink()
    assert found(folder, tmp_path) == "train-9"
    (folder / "checkpoint").unlink()
    with pytest.raises(UserError, match=r"released: 2 \(best_dev-3.index, train-9.index\) checkpoints in it"):
        found(folder, tmp_path)
    (folder / "train-9.index").unlink()
    assert found(folder, tmp_path) == found(tmp_path, tmp_path) == "best_dev-3"


def test_nothing_there(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="nowhere: no checkpoint there"):
        found(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match=r"x\.tar\.gz: no such file"):
        found(tmp_path / "x.tar.gz", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: none checkpoints in it"):
        found(tmp_path / "empty", tmp_path)
    for text in ("", 'model_checkpoint_path: ".."', f'model_checkpoint_path: "{"n" * 5000}"'):
        (folder / "best_dev_checkpoint").write_text(text)
        with pytest.raises(UserError, match="names no checkpoint"):
            found(folder, tmp_path)
    (folder / "best_dev_checkpoint").write_text('model_checkpoint_path: "/etc/passwd"')
    with pytest.raises(UserError, match="released/passwd: no checkpoint there"):
        found(folder, tmp_path)


def test_an_archive_is_unpacked_and_cleared_away(folder: Path, tmp_path: Path):
    archive = tmp_path / "deepspeech-checkpoint.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "deepspeech-checkpoint")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    scratch = tmp_path / "results"
    assert found(archive, scratch, sha256.upper()) == "best_dev-3"
    assert list(scratch.iterdir()) == []
    with pytest.raises(UserError, match=f"sha256 is {sha256}, not 00"):
        found(archive, scratch, "00")
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(UserError, match="not a whole"):
        found(archive, scratch)
    assert list(scratch.iterdir()) == []


def test_checksum_of_files_is_over_all_of_them(folder: Path, tmp_path: Path):
    data = b"".join((DATA / name).read_bytes() for name in FILES[:2])
    sha256 = hashlib.sha256(data).hexdigest()
    assert found(folder, tmp_path, sha256) == "best_dev-3"
    with opened(folder, "", tmp_path) as bundle:
        assert digest(bundle) == sha256
    with pytest.raises(UserError, match=f"best_dev-3.data-00000-of-00001 is {sha256}, not 1234"):
        found(folder, tmp_path, "1234")

"""LibriSpeech and MLS: folders as published, archives by way of a mirror."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.corpora.wavs import recording
from thaw.config.sources import LibriSpeechSource, MlsSource
from thaw.corpora import librispeech
from thaw.corpora.fetch import fetch, read_source
from thaw.corpora.listing import Listing
from thaw.errors import UserError
from thaw.files import read_jsonl

SPLITS = {"train": ["train-clean-5"], "dev": ["dev-clean-2"], "test": ["test-clean"]}


def corpus(folder: Path) -> Path:
    """A LibriSpeech of three subsets with two utterances each, below `folder`."""
    for number, subset in enumerate(("train-clean-5", "dev-clean-2", "test-clean"), start=1):
        chapter = folder / "LibriSpeech" / subset / f"{number}" / "20"
        for utterance in ("0000", "0001"):
            recording(chapter / f"{number}-20-{utterance}.flac", rate=16000)
        text = f"{number}-20-0000 IT'S THE FIRST\n{number}-20-0001 AND THE SECOND\n"
        (chapter / f"{number}-20.trans.txt").write_text(text)
    return folder


def listed(**source: Any) -> Listing:
    given = LibriSpeechSource.model_validate({"kind": "librispeech", "splits": SPLITS, **source})
    return librispeech.read_librispeech(given, Path("unused"), "")


@pytest.mark.parametrize("inner", ["", "LibriSpeech"])
def test_a_folder(inner: str, tmp_path: Path) -> None:
    listing = listed(path=str(corpus(tmp_path) / inner))
    assert [(u.id, u.split, u.speaker, u.text) for u in listing.utterances][:3] == [
        ("1-20-0000", "train", "1", "IT'S THE FIRST"),
        ("1-20-0001", "train", "1", "AND THE SECOND"),
        ("2-20-0000", "dev", "2", "IT'S THE FIRST"),
    ]
    assert all((listing.clips / u.file).is_file() for u in listing.utterances)
    assert listing.rejects == []


def test_rejects(tmp_path: Path) -> None:
    chapter = corpus(tmp_path) / "LibriSpeech" / "train-clean-5" / "1" / "20"
    (chapter / "1-20-0001.flac").unlink()
    with (chapter / "1-20.trans.txt").open("ab") as file:
        file.write(b"nothing\n../../x Y\n")
    listing = listed(path=str(tmp_path))
    assert sorted((r.id, r.split, r.reason) for r in listing.rejects) == [
        ("1-20-0001", "train", "missing clip"),
        ("1-20.trans.txt:3", "train", "malformed row"),
        ("1-20.trans.txt:4", "train", "malformed row"),
    ]


def test_a_subset_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder dev-other; unpack them there"):
        listed(path=str(corpus(tmp_path)), splits={**SPLITS, "dev": ["dev-other"]})
    with pytest.raises(ValidationError, match="given twice: dev-clean-2"):
        listed(splits={**SPLITS, "train": ["dev-clean-2"]})


def archives(folder: Path) -> dict[str, str]:
    """The subsets as archives in `folder`/mirror, and their md5s."""
    sums = {}
    (folder / "mirror").mkdir()
    for subset in (subset for subsets in SPLITS.values() for subset in subsets):
        path = folder / "mirror" / f"{subset}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder / "LibriSpeech" / subset, f"LibriSpeech/{subset}")
        sums[subset] = hashlib.md5(path.read_bytes()).hexdigest()
    return sums


def test_archives_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librispeech, "MD5", archives(corpus(tmp_path)))
    source = json.dumps({"kind": "librispeech", "splits": SPLITS})

    def run() -> bytes:
        files = [tmp_path / name for name in ("u.jsonl", "r.tsv", "record.json")]
        fetch(read_source(source), "en", tmp_path / "root", files[0], files[1], files[2], str(tmp_path / "mirror"))
        return b"".join(path.read_bytes() for path in files)

    first = run()
    rows = read_jsonl(tmp_path / "u.jsonl")
    assert [row["id"] for row in rows][::2] == ["1-20-0000", "2-20-0000", "3-20-0000"]
    assert all(Path(row["path"]).stat().st_size > 100 for row in rows)
    assert not list((tmp_path / "root").glob("*.tar.gz"))  # what is unpacked is not kept twice
    assert len(list((tmp_path / "mirror").glob("*.tar.gz"))) == 3
    shutil.rmtree(tmp_path / "mirror")
    assert run() == first  # nothing is fetched again


def test_a_wrong_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives(corpus(tmp_path))  # with the sums of the real ones
    given = LibriSpeechSource.model_validate({"kind": "librispeech", "splits": SPLITS})
    with pytest.raises(UserError, match=r"train-clean-5\.tar\.gz.*md5|test-clean\.tar\.gz.*md5"):
        librispeech.read_librispeech(given, tmp_path / "root", str(tmp_path / "mirror"))


# --- MLS --------------------------------------------------------------------------------------------------------------


def mls(folder: Path, ending: str) -> Path:
    """A German MLS with two utterances to train on, as the archives lay it out."""
    top = folder / f"mls_german{'_opus' if ending == '.opus' else ''}"
    for split, names in {"train": ("10_20_000001", "11_20_000001"), "dev": ("12_1_0",), "test": ("13_1_0",)}.items():
        for name in names:
            speaker, book, _ = name.split("_")
            recording(top / split / "audio" / speaker / book / f"{name}{ending}", rate=16000)
        (top / split / "transcripts.txt").write_text("".join(f"{name}\tein satz {name[:2]}\n" for name in names))
    small = top / "train" / "limited_supervision"
    for name in ("9hr", *(f"1hr/{number}" for number in range(6))):
        (small / name).mkdir(parents=True)
        (small / name / "handles.txt").write_text("11_20_000001\n" if name == "1hr/3" else "")
    return folder


def mls_listed(folder: Path, **source: Any) -> Listing:
    given = MlsSource.model_validate({"kind": "mls", "language": "german", "path": str(folder), **source})
    return librispeech.read_mls(given, Path("unused"), "")


@pytest.mark.parametrize(("ending", "kind"), [(".flac", "flac"), (".opus", "opus")])
def test_mls(ending: str, kind: str, tmp_path: Path) -> None:
    listing = mls_listed(mls(tmp_path, ending), format=kind)
    assert [(u.id, u.split, u.speaker, u.text) for u in listing.utterances] == [
        ("10_20_000001", "train", "10", "ein satz 10"),
        ("11_20_000001", "train", "11", "ein satz 11"),
        ("12_1_0", "dev", "12", "ein satz 12"),
        ("13_1_0", "test", "13", "ein satz 13"),
    ]
    assert listing.rejects == []


def test_the_small_training_sets_of_mls(tmp_path: Path) -> None:
    folder = mls(tmp_path, ".opus")
    for train in ("1hr", "10hr"):
        assert [u.id for u in mls_listed(folder, train=train).utterances] == ["11_20_000001", "12_1_0", "13_1_0"]
    assert [u.id for u in mls_listed(folder, train="9hr").utterances] == ["12_1_0", "13_1_0"]
    shutil.rmtree(folder / "mls_german_opus" / "train" / "limited_supervision")
    with pytest.raises(UserError, match=r"handles\.txt: no such file; set `train: all`"):
        mls_listed(folder, train="9hr")
    with pytest.raises(UserError, match="give the folder of one language of MLS"):
        mls_listed(tmp_path / "nowhere")

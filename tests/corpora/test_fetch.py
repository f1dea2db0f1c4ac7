"""`thaw fetch`: from a source to the three files of the room."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from thaw.commands import fetch
from thaw.corpora.fetch import fetch as fetch_files
from thaw.corpora.fetch import read_source
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, read_rejects

SYNTHETIC = {
    "kind": "synthetic",
    "voice": "de",
    "locale": "de",
    "utterances": {"train": 2, "dev": 1, "test": 1},
    "speakers": {"train": 2, "dev": 1, "test": 1},
}


def run(source: dict[str, Any] | str, out: Path, root: str = "root", language: str = "de") -> list[dict[str, Any]]:
    """Fetch into `out`/`root`; the utterances."""
    parser = argparse.ArgumentParser()
    fetch.add_arguments(parser)
    text = source if isinstance(source, str) else json.dumps(source)
    options = ["--source", text, "--language", language, "--root", str(out / root)]
    files = ["--utterances", out / "u.jsonl", "--rejects", out / "r.tsv", "--record", out / "record.json"]
    fetch.run(parser.parse_args([*options, *map(str, files)]))
    return read_jsonl(out / "u.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthesised corpus, for use as a release: `made`/root."""
    folder = tmp_path_factory.mktemp("made")
    run(SYNTHETIC, folder)
    return folder


def test_synthetic(made: Path) -> None:
    rows = read_jsonl(made / "u.jsonl")
    assert [(row["id"], row["split"], row["lang"]) for row in rows] == [
        ("common_voice_de_10000000", "train", "de"),
        ("common_voice_de_10000001", "train", "de"),
        ("common_voice_de_20000000", "dev", "de"),
        ("common_voice_de_30000000", "test", "de"),
    ]
    for row in rows:
        assert set(row) == {"id", "path", "text_raw", "speaker", "split", "lang"}
        assert Path(row["path"]).stat().st_size > 1000
        assert row["text_raw"].endswith(".")
    assert read_rejects(made / "r.tsv") == []
    record = read_json(made / "record.json")
    assert (record["kind"], record["files"], record["splits"]) == ("synthetic", 4, {"train": 2, "dev": 1, "test": 1})
    assert record["bytes"] == sum(Path(row["path"]).stat().st_size for row in rows)


def test_a_second_fetch_gives_the_same_files(made: Path, tmp_path: Path) -> None:
    names = ("u.jsonl", "r.tsv", "record.json")
    before = [(made / name).read_bytes() for name in names]
    run(SYNTHETIC, made)
    assert [(made / name).read_bytes() for name in names] == before


def test_an_unpacked_release_stays_where_it_is(made: Path, tmp_path: Path) -> None:
    rows = run({"kind": "commonvoice", "path": str(made / "root")}, tmp_path)
    clips = [row.pop("digest") for row in rows]  # of the user's own clips, which may be replaced
    assert len(set(clips)) == len(clips)
    assert rows == read_jsonl(made / "u.jsonl")
    assert not (tmp_path / "root").exists()
    with pytest.raises(UserError, match="is a folder"):
        run({"kind": "commonvoice", "path": str(made / "root"), "sha256": "00"}, tmp_path)


def test_relative_paths_are_readable_from_here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    rows = run({"kind": "commonvoice", "path": "root"}, tmp_path)
    assert rows[0]["path"] == "root/clips/common_voice_de_10000000.mp3"


def test_an_archive(made: Path, tmp_path: Path) -> None:
    archive = tmp_path / "cv-corpus-21.0-2025-03-14-de.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made / "root", "cv-corpus-21.0-2025-03-14/de")
    source = {"kind": "commonvoice", "path": str(archive), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    rows = run(source, tmp_path)
    want = read_jsonl(made / "u.jsonl")
    assert [row | {"path": ""} for row in rows] == [row | {"path": ""} for row in want]
    assert Path(rows[0]["path"]).read_bytes() == Path(want[0]["path"]).read_bytes()
    assert read_json(tmp_path / "record.json")["sha256"] == read_json(made / "record.json")["sha256"]


def test_rejects_are_written_and_counted(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "de"
    shutil.copytree(made / "root", folder)
    (folder / "clips" / "common_voice_de_10000001.mp3").unlink()
    rows = run({"kind": "commonvoice", "path": str(folder)}, tmp_path)
    assert len(rows) == 3
    (reject,) = read_rejects(tmp_path / "r.tsv")
    assert (reject.id, reject.split, reject.room) == ("common_voice_de_10000001", "train", "fetch")
    assert read_json(tmp_path / "record.json")["rejected"] == {"missing clip": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "--source"),
        ({"kind": "gramophone"}, "--source"),
        ({"kind": "commonvoice", "path": "x", "typo": 1}, "typo"),
        ({"kind": "commonvoice", "path": "no/such/place"}, "no such file"),
        ({"kind": "commonvoice"}, "either path .* or dataset"),
        ({"kind": "commonvoice", "path": "a", "dataset": "b"}, "either path .* or dataset"),
        ({"kind": "table", "path": "no/such/place.tsv"}, r"no/such/place\.tsv: No such file"),
        (SYNTHETIC | {"voice": "klingon"}, "klingon.*choose one of"),
        (SYNTHETIC | {"locale": "tlh_XX"}, "tlh_XX.*choose one of"),
    ],
)
def test_what_a_user_can_mend(source: dict[str, Any] | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run(source, tmp_path)
    assert not (tmp_path / "u.jsonl").exists()
    assert not (tmp_path / "root").exists()


def test_a_corpus_without_a_usable_row(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "de"
    shutil.copytree(made / "root", folder)
    shutil.rmtree(folder / "clips")
    (folder / "clips").mkdir()
    with pytest.raises(UserError, match="none of its 4 rows"):
        run({"kind": "commonvoice", "path": str(folder)}, tmp_path)
    assert len(read_rejects(tmp_path / "r.tsv")) == 4


def test_a_data_set_by_way_of_a_mirror(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mirror has needs no key; what it has not needs one."""
    monkeypatch.delenv("MDC_API_KEY", raising=False)
    (tmp_path / "mirror").mkdir()
    with tarfile.open(tmp_path / "mirror" / "abc123.tar.gz", "w:gz") as tar:
        tar.add(made / "root", "cv-corpus-21.0-2025-03-14/de")
    files = [tmp_path / name for name in ("u.jsonl", "r.tsv", "record.json")]
    source = json.dumps({"kind": "commonvoice", "dataset": "abc123"})
    for _ in range(2):
        fetch_files(
            read_source(source), "de", tmp_path / "root", files[0], files[1], files[2], str(tmp_path / "mirror")
        )
        rows = read_jsonl(tmp_path / "u.jsonl")
        assert [row["id"] for row in rows] == [row["id"] for row in read_jsonl(made / "u.jsonl")]
        assert all(Path(row["path"]).is_file() for row in rows)
    with pytest.raises(UserError, match="MDC_API_KEY"):
        run({"kind": "commonvoice", "dataset": "other"}, tmp_path, root="other")


def test_a_union_is_its_parts(made: Path, tmp_path: Path) -> None:
    clips = sorted((made / "root" / "clips").glob("*.mp3"))
    rows = (f"{clip}\t{split}\tann\t{split}\n" for clip, split in zip(clips, ("train", "dev", "test"), strict=False))
    (tmp_path / "t.tsv").write_text("path\ttext\tspeaker\tsplit\n" + "".join(rows) + "gone\tx\tann\ttrain\n")
    own = {"kind": "table", "path": str(tmp_path / "t.tsv"), "columns": {"split": "split"}}
    found = run({"kind": "union", "parts": {"own": own, "made": SYNTHETIC}}, tmp_path)
    assert len(found) == 3 + 4
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)
    assert {row["id"].split("/")[0]: row["speaker"].split("/")[0] for row in found} == {"own": "own", "made": "made"}
    assert all(Path(row["path"]).is_file() for row in found)
    (reject,) = read_rejects(tmp_path / "r.tsv")
    assert (reject.id, reject.reason) == ("own/gone", "missing clip")
    record = read_json(tmp_path / "record.json")
    assert (record["kind"], record["splits"]) == ("union", {"train": 3, "dev": 2, "test": 2})
    assert record["source"]["parts"]["own"]["columns"]["split"] == "split"
    assert "shards" not in record["source"]["parts"]["own"]  # how its audio is cut is no part of a corpus

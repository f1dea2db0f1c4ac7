"""The user's own clips: those that were replaced are found, and only those are read that may have been."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.audio.clips import tone, write
from tests.corpora.test_fetch import run
from thaw.audio.listing import read_listing
from thaw.audio.shards import ShardFiles, write_shard
from thaw.config.schema import AudioSpec
from thaw.corpora import clips
from thaw.errors import UserError
from thaw.files import read_json


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    """A table of three speakers with a clip each."""
    rows = ["path\ttext\tspeaker"]
    for number, name in enumerate(("a", "b", "c")):
        write(tmp_path / f"{name}.wav", tone(0.5, hertz=200 + 100 * number))
        rows.append(f"{name}.wav\tja\t{name}")
    (tmp_path / "t.tsv").write_text("\n".join(rows) + "\n")
    return {"kind": "table", "path": str(tmp_path / "t.tsv")}


def listed(source: dict[str, Any], folder: Path) -> dict[str, str]:
    return {row["id"]: row["digest"] for row in run(source, folder)}


def test_a_replaced_clip_is_found_when_the_corpus_is_listed_again(
    source: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, record = listed(source, tmp_path), read_json(tmp_path / "record.json")
    reads: list[Path] = []
    original = clips.file_digest
    monkeypatch.setattr(clips, "file_digest", lambda path: (reads.append(path), original(path))[1])
    assert listed(source, tmp_path) == before
    assert reads == []  # by size and times
    os.utime(tmp_path / "a.wav", (1, 1))
    assert list(clips.replaced(tmp_path / clips.STAMPS)) == []
    assert listed(source, tmp_path) == before
    assert set(reads) == {tmp_path / "a.wav"}
    assert "replaced" not in capsys.readouterr().err
    times = (tmp_path / "b.wav").stat()
    write(tmp_path / "b.wav", tone(0.5, hertz=999))  # of the same size
    os.utime(tmp_path / "b.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "c.wav").rename(tmp_path / "d.wav")
    assert list(clips.replaced(tmp_path / clips.STAMPS)) == [
        f"{tmp_path / 'b.wav'} was replaced",
        f"{tmp_path / 'c.wav'} is gone",
    ]
    (tmp_path / "d.wav").rename(tmp_path / "c.wav")
    after = listed(source, tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"b"}
    assert f"1 clips were replaced since they were listed: {tmp_path / 'b.wav'}" in capsys.readouterr().err
    assert read_json(tmp_path / "record.json")["sha256"] != record["sha256"]
    assert list(clips.replaced(tmp_path / clips.STAMPS)) == []


def test_stamps_that_are_damaged_are_made_again(source: dict[str, Any], tmp_path: Path) -> None:
    before = listed(source, tmp_path)
    for damage in (b"{", b'{"path": 1}\n', b"[]\n", b"\xff"):
        (tmp_path / clips.STAMPS).write_bytes(damage)
        assert listed(source, tmp_path) == before


def test_a_clip_replaced_between_listing_and_conversion_stops_it(source: dict[str, Any], tmp_path: Path) -> None:
    """Else the listing would say one thing and the audio hold another, under one name."""
    listed(source, tmp_path)
    files = ShardFiles(tmp_path / "0.wav", tmp_path / "0.jsonl", tmp_path / "0.tsv")
    found = read_listing(tmp_path / "u.jsonl")
    write_shard(found, AudioSpec(), files)
    write(tmp_path / "b.wav", tone(0.4))
    with pytest.raises(UserError, match=r"b\.wav is not the clip that was listed"):
        write_shard(found, AudioSpec(), files)
    (tmp_path / "b.wav").unlink()
    with pytest.raises(UserError, match=r"b\.wav is not the clip that was listed"):
        write_shard(found, AudioSpec(), files)


def test_a_table_edited_while_it_is_read_is_no_corpus_of_that_name(source: dict[str, Any], tmp_path: Path) -> None:
    from thaw.cli import main

    command = ["fetch", "--source", json.dumps(source), "--language", "de", "--root", str(tmp_path / "root")]
    command += ["--utterances", str(tmp_path / "u"), "--rejects", str(tmp_path / "r"), "--record", str(tmp_path / "s")]
    assert main([*command, "--content", "another"]) != 0


def test_the_record_names_the_tables(source: dict[str, Any], tmp_path: Path) -> None:
    listed(source, tmp_path)
    assert list(read_json(tmp_path / "record.json")["tables"]) == [source["path"]]

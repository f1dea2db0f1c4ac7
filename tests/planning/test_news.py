"""What `thaw why` says of a corpus whose files the user changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audio.clips import tone, write
from tests.corpora.test_clips import source as source  # a fixture
from tests.planning.test_golden import on
from thaw.cli import main
from thaw.planning import layout
from thaw.planning.corpora import Corpus
from thaw.planning.news import corpus_news


def mine(source: dict[str, str]) -> Corpus:
    return next(one for one in on({"mine": source}).sources.values() if one.name == "mine")


def test_it_names_replaced_clips_and_edited_tables(
    source: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = mine(source)
    assert list(corpus_news(corpus)) == []
    folder = Path(layout.utterances(corpus)).parent
    names = {"utterances": "utterances.jsonl", "rejects": "rejects.tsv", "record": "source.json"}
    files = [word for key, name in names.items() for word in (f"--{key}", str(folder / name))]
    command = ["fetch", "--source", json.dumps(source), "--language", "de", "--content", corpus.content]
    assert main([*command, "--root", str(folder / "files"), *files]) == 0
    assert list(corpus_news(corpus)) == []
    write(tmp_path / "b.wav", tone(0.4))
    said = list(corpus_news(corpus))
    assert said[1] == f"  {tmp_path / 'b.wav'} was replaced"
    assert f"snakemake -R {layout.utterances(corpus)}" in said[-1]
    with Path(source["path"]).open("a") as table:
        table.write("d.wav\tnein\td\n")
    edited = mine(source)
    assert edited.source_id != corpus.source_id
    assert list(corpus_news(edited)) == [
        f"its corpus differs from {corpus.source_id} in the contents of",
        f"  {source['path']}",
    ]

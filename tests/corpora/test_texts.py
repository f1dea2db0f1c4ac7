"""Corpora of text: from files, docstrings and WikiText-2 to manifests without audio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from thaw.config.schema import TextSpec
from thaw.config.sources import TextSource, WikiTextSource
from thaw.corpora import texts
from thaw.corpora.fetch import fetch
from thaw.corpora.sentences import build_text, read_sentences
from thaw.errors import UserError
from thaw.files import read_jsonl, write_jsonl
from thaw.planning.contents import of_source

LETTERS = TextSpec(alphabet=" 'abcdefghijklmnopqrstuvwxyz")


def listed(source: TextSource | WikiTextSource, folder: Path) -> Path:
    """The listing of a source."""
    out = folder / "utterances.jsonl"
    fetch(source, "en", folder / "root", out, folder / "rejects.tsv", folder / "source.json")
    return out


def documents(folder: Path, **files: str) -> Path:
    """Text files by name."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_files_become_manifests_in_the_order_of_the_text(tmp_path: Path) -> None:
    folder = documents(
        tmp_path / "books",
        **{f"book{n}": f"Sentence {word} stands here.\n\nThen {word} goes on.\n" for n, word in enumerate("abcdefgh")},
        odd="Zzz!\n1234\n...\n",
    )
    source = TextSource(kind="text", path=str(folder))
    built = build_text(listed(source, tmp_path), [], LETTERS)
    counts = {split: built.counts[split] for split in ("train", "dev", "test")}
    assert sum(one["listed"] for one in counts.values()) == 8 * 2 + 3
    reasons = sorted(reject.reason for reject in built.rejects)
    assert reasons == ["character outside the alphabet", "empty text"]
    train = built.rows["train"]
    assert [row["id"] for row in train] == sorted(row["id"] for row in train)
    assert all("audio_filepath" not in row for row in train)
    first = [row for row in train if row["speaker"] == train[0]["speaker"]]
    assert first[1]["text"].startswith("then ")  # sentences of a document follow each other
    speakers = [{row["speaker"] for row in rows} for rows in built.rows.values()]
    assert not speakers[0] & speakers[1] | speakers[0] & speakers[2] | speakers[1] & speakers[2]
    path = tmp_path / "train.jsonl"
    write_jsonl(path, train)
    assert [one.text for one in read_sentences([path])] == [row["text"] for row in train]


def test_a_sentence_of_test_is_in_no_other_split(tmp_path: Path) -> None:
    splits = {"train": "one\nboth\nall\n", "dev": "two\nall\n", "test": "both\nall\n"}
    paths = {split: str(documents(tmp_path, **{split: text}) / f"{split}.txt") for split, text in splits.items()}
    built = build_text(listed(TextSource(kind="text", splits=paths), tmp_path), [], LETTERS)
    assert {split: [row["text"] for row in rows] for split, rows in built.rows.items()} == {
        "train": ["one"],
        "dev": ["two"],
        "test": ["both", "all"],
    }
    assert {reject.reason for reject in built.rejects} == {"same sentence in a held-out split"}


def test_an_empty_text_is_one_line(tmp_path: Path) -> None:
    path = documents(tmp_path, empty="\n \n") / "empty.txt"
    with pytest.raises(UserError, match="holds no sentence") as error:
        listed(TextSource(kind="text", splits={split: str(path) for split in ("train", "dev", "test")}), tmp_path)
    assert "\n" not in str(error.value)
    full = documents(tmp_path, full="words\n") / "full.txt"
    dots = documents(tmp_path, dots="...\n") / "dots.txt"
    source = TextSource(kind="text", splits={"train": str(dots), "dev": str(full), "test": str(full)})
    with pytest.raises(UserError, match=r"no sentence of split 'train' is left: the text is empty \(empty text\)"):
        build_text(listed(source, tmp_path), [], LETTERS)
    write_jsonl(tmp_path / "none.jsonl", [])
    with pytest.raises(UserError, match="the text is empty"):
        read_sentences([tmp_path / "none.jsonl"])


def test_verbatim_lines_are_left_alone(tmp_path: Path) -> None:
    path = documents(tmp_path, words="The <unk> Cat , 1 @-@ 2\n\nThe <unk> Cat , 1 @-@ 2\n") / "words.txt"
    splits = {split: str(path) for split in ("train", "dev", "test")}
    built = build_text(listed(TextSource(kind="text", splits=splits, verbatim=True), tmp_path), [], LETTERS)
    assert [row["text"] for row in built.rows["train"]] == ["The <unk> Cat , 1 @-@ 2", "", "The <unk> Cat , 1 @-@ 2"]


def test_docstrings_of_an_installed_package_are_prose(tmp_path: Path) -> None:
    source = TextSource(kind="text", packages=("networkx",), documents=30)
    listing = listed(source, tmp_path)
    rows = read_jsonl(listing)
    assert len({row["speaker"] for row in rows}) <= 30
    assert len({row["text_raw"] for row in rows}) == len(rows) > 100
    built = build_text(listing, [], LETTERS)
    assert not [reject for reject in built.rejects if reject.reason != "same sentence in a held-out split"]
    with pytest.raises(UserError, match="no-such-package is not installed"):
        of_source(TextSource(kind="text", packages=("no-such-package",)), "en")


WIKI = " \n = A Title = \n \n some words of a <unk> line \n = = Section = = \n"


def wikitext(folder: Path, train: str = WIKI) -> Path:
    """A folder as WikiText-2 comes."""
    folder.mkdir(exist_ok=True)
    for name in ("train", "valid", "test"):
        (folder / f"wiki.{name}.tokens").write_text(train)
    return folder


def test_wikitext_keeps_every_line_and_knows_its_articles(tmp_path: Path) -> None:
    folder = wikitext(tmp_path / "wiki", " \n = A Title = \n \n words \n = = Part = = \n = Next One = \n more \n")
    source = WikiTextSource(kind="wikitext", path=str(folder), published=False)
    built = build_text(listed(source, tmp_path), [], LETTERS)
    train = built.rows["train"]
    assert [row["text"] for row in train] == ["", "= A Title =", "", "words", "= = Part = =", "= Next One =", "more"]
    assert len({row["speaker"] for row in train[1:5]}) == 1
    assert len({row["speaker"] for row in train}) == 3
    assert sum(len(row["text"].split()) + 1 for row in train) == 7 + 15


def test_wikitext_that_is_not_as_published_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wikitext(tmp_path / "wiki")
    source = WikiTextSource(kind="wikitext", path=str(folder))
    with pytest.raises(UserError, match=r"not WikiText-2 as published.*2,088,628.*33,278"):
        texts.read_wikitext(source)
    monkeypatch.setattr(texts, "WIKITEXT_TOKENS", dict.fromkeys(("train", "dev", "test"), 20))
    monkeypatch.setattr(texts, "WIKITEXT_WORDS", 11)
    assert len(texts.read_wikitext(source).utterances) == 15
    (folder / "wiki.test.tokens").unlink()
    with pytest.raises(UserError, match=r"wiki\.test\.tokens"):
        texts.read_wikitext(source)


def test_the_rule_of_manifests_takes_text(tmp_path: Path) -> None:
    from thaw.cli import main

    folder = documents(tmp_path / "books", **{f"b{n}": f"words of book {'abcdefgh'[n]}\n" for n in range(8)})
    listing = listed(TextSource(kind="text", path=str(folder)), tmp_path)
    outputs = [f"--{split}={tmp_path / split}.jsonl" for split in ("train", "dev", "test")]
    rest = [f"--rejects={tmp_path / 'r.tsv'}", f"--counts={tmp_path / 'counts.json'}"]
    text = LETTERS.model_dump_json()
    words = ["manifest", "--text", text, "--frames", '{"kind":"awd-lstm"}', "--utterances", str(listing)]
    assert main([*words, *outputs, *rest]) == 0
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["train"]["hours"] == 0
    units = ["units", "--units", '{"kind":"words"}', "--train", str(tmp_path / "train.jsonl")]
    assert main([*units, "--out", str(tmp_path / "units.json"), "--record", str(tmp_path / "record.json")]) == 0
    assert json.loads((tmp_path / "units.json").read_text())["words"][1] == "book"
    part = ["part", "--part", '{"share":0.5}', "--train", str(tmp_path / "train.jsonl")]
    assert main([*part, "--out", str(tmp_path / "part.jsonl")]) == 0

"""The language model: what goes in, what is left out, what comes out. KenLM's programs are needed for a part of it."""

from __future__ import annotations

import argparse
import math
import subprocess
from pathlib import Path

import pytest

import thaw.lm.build
from thaw.canonical import file_sha256
from thaw.commands import lm as verb
from thaw.config.decoders import LanguageModelSpec
from thaw.config.schema import TextSpec
from thaw.errors import UserError
from thaw.files import read_json, write_jsonl
from thaw.lm.build import gather, lexicon_line, make, measure, read_lexicon, tool

ALPHABET = " abcdefghijklmnopqrstuvwxyzäöü"
RULES = TextSpec(alphabet=ALPHABET, replace={"ß": "ss"})
TRAIN = ["guten morgen", "guten abend", "gute nacht", "guten morgen berlin", "bis morgen", "guten tag"] * 3
DEV = ["gute nacht", "bis zum abend"]
TEST = ["guten tag"]


def has_kenlm() -> bool:
    try:
        return all(tool(name) for name in thaw.lm.build.TOOLS)
    except UserError:
        return False


needs_kenlm = pytest.mark.skipif(not has_kenlm(), reason="KenLM's programs are not built (make setup)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, texts in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        write_jsonl(tmp_path / f"{name}.jsonl", ({"id": str(i), "text": text} for i, text in enumerate(texts)))
    return tmp_path


def made(folder: Path, name: str = "lm", **spec: object) -> dict[str, object]:
    exclude = [folder / "dev.jsonl", folder / "test.jsonl"]
    files = (folder / f"{name}.binary", folder / f"{name}.txt")
    return make(LanguageModelSpec.model_validate(spec), RULES, [folder / "train.jsonl"], exclude, *files)


def test_sentences_of_dev_and_test_are_left_out(folder: Path) -> None:
    text = gather([folder / "train.jsonl"], [folder / "dev.jsonl", folder / "test.jsonl"], "", RULES)
    assert set(text.sentences) == {"guten morgen", "guten abend", "guten morgen berlin", "bis morgen"}
    assert len(text.sentences) == 12
    assert text.excluded == 6
    assert text.vocabulary() == ["abend", "berlin", "bis", "guten", "morgen"]


def test_extra_text_follows_the_rules_of_transcripts_and_is_excluded_too(folder: Path) -> None:
    extra = folder / "extra.txt"
    extra.write_text("Guten  Morgen!\nGute Nacht\nvoilà\n\nzum Café, bitte\nÜber Straßen\n", encoding="utf-8")
    text = gather([], [folder / "dev.jsonl"], str(extra), RULES)
    assert text.sentences == ["guten morgen", "über strassen"]
    assert (text.excluded, text.outside) == (1, 2)
    with pytest.raises(UserError, match=r"none\.txt"):
        gather([], [], str(folder / "none.txt"), RULES)


def test_nothing_left_is_said(folder: Path) -> None:
    with pytest.raises(UserError, match="also occurs in dev or test"):
        gather([folder / "dev.jsonl"], [folder / "dev.jsonl"], "", RULES)


def test_lexicon_lines_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(f"{lexicon_line('über')}\n{lexicon_line('a')}\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "über\tü b e r |\na\ta |\n"
    assert read_lexicon(path) == {"über": ["ü", "b", "e", "r"], "a": ["a"]}
    for broken in ("über ü b e r |\n", "a\ta\n", "ab\tab |\n", ""):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match=r"lexicon\.txt"):
            read_lexicon(path)


def test_missing_programs_name_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(thaw.lm.build, "__file__", str(tmp_path / "src" / "thaw" / "lm" / "build.py"))
    with pytest.raises(UserError, match="make setup"):
        tool("lmplz")
    built = tmp_path / "build" / "kenlm" / "bin" / "lmplz"
    built.parent.mkdir(parents=True)
    built.write_text("#!/bin/sh\n")
    built.chmod(0o755)
    assert tool("lmplz") == str(built)


@pytest.mark.parametrize(("alphabet", "message"), [(" abc|", "end of a word"), (" abc", "cannot spell")])
def test_alphabets_that_do_not_fit(folder: Path, alphabet: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(LanguageModelSpec(), TextSpec(alphabet=alphabet), [folder / "train.jsonl"], [], folder / "x", folder / "y")
    assert not (folder / "x").exists()


@needs_kenlm
def test_same_text_same_bytes(folder: Path) -> None:
    one, two = made(folder, "one"), made(folder, "two")
    assert one == two
    assert (folder / "one.binary").read_bytes() == (folder / "two.binary").read_bytes()
    assert one["sha256"] == file_sha256(folder / "one.binary")
    assert (folder / "one.txt").read_bytes() == (folder / "two.txt").read_bytes()


@needs_kenlm
def test_record(folder: Path) -> None:
    record = made(folder)
    assert {k: record[k] for k in ("order", "sentences", "distinct_sentences", "words", "vocabulary")} == {
        "order": 3,
        "sentences": 12,
        "distinct_sentences": 4,
        "words": 27,
        "vocabulary": 5,
    }
    assert record["excluded_sentences"] == 6
    tested = record["tested_on"]
    assert isinstance(tested, dict)
    assert set(tested) == {"dev", "test"}
    assert tested["dev"]["oov"] == 3  # gute, nacht, zum
    assert tested["dev"]["oov_rate"] == pytest.approx(3 / 5)
    assert tested["test"]["perplexity"] > 1
    assert set(read_lexicon(folder / "lm.txt")) == {"abend", "berlin", "bis", "guten", "morgen"}


@needs_kenlm
def test_perplexity_is_that_of_the_words_and_sentence_ends(folder: Path) -> None:
    made(folder)
    facts = measure(folder / "lm.binary", ["guten morgen"])
    said = subprocess.run(
        [tool("query"), str(folder / "lm.binary")], input="guten morgen\n", capture_output=True, text=True, check=True
    ).stdout
    total = float(said.split("Total: ")[1].split()[0])
    assert facts["perplexity"] == pytest.approx(math.pow(10, -total / 3), rel=1e-4)


@needs_kenlm
def test_order_and_pruning_reach_lmplz(folder: Path) -> None:
    sizes = {
        name: int(made(folder, name, **spec)["sha256"] != "") and (folder / f"{name}.binary").stat().st_size
        for name, spec in (("two", {"order": 2}), ("four", {"order": 4}), ("pruned", {"order": 4, "prune": (0, 3)}))
    }
    assert sizes["two"] < sizes["pruned"] < sizes["four"]


@needs_kenlm
def test_refusals_of_lmplz_are_passed_on(folder: Path) -> None:
    with pytest.raises(UserError, match=r"lmplz could not .*discount_fallback"):
        made(folder, discount_fallback=False)
    assert not (folder / "lm.binary").exists()


@needs_kenlm
def test_verb(folder: Path) -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    options = ["--text", RULES.model_dump_json(), "--train", folder / "train.jsonl", "--exclude", folder / "dev.jsonl"]
    options += [
        "--binary",
        folder / "b",
        "--lexicon",
        folder / "l",
        "--record",
        folder / "r.json",
        "--lm",
        '{"order":2}',
    ]
    verb.run(parser.parse_args([str(option) for option in options]))
    assert read_json(folder / "r.json")["order"] == 2
    assert read_json(folder / "r.json")["excluded_sentences"] == 3

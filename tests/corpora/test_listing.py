"""What all readers share: duplicates, missing clips, and splits made of speakers."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.config.sources import HeldOut
from thaw.corpora.listing import Listed, Listing, drawn_splits, sentence_key
from thaw.errors import UserError


def listing(*speakers: str) -> Listing:
    """Two utterances of each speaker, all in train."""
    rows = [Listed(f"{speaker}{number}", "train", "x", speaker, "x.wav") for speaker in speakers for number in (1, 2)]
    return Listing(Path(), rows)


def splits(of: Listing) -> dict[str, set[str]]:
    """The splits of every speaker."""
    found: dict[str, set[str]] = {}
    for utterance in of.utterances:
        found.setdefault(utterance.speaker, set()).add(utterance.split)
    return found


def test_speakers_are_held_out_whole_and_always_the_same() -> None:
    names = [f"speaker{number}" for number in range(20)]
    one, other = listing(*names), listing(*reversed(names))
    for corpus in (one, other):
        corpus.make_splits({"train"}, HeldOut(dev=0.1, test=0.2))
    found = splits(one)
    assert found == splits(other)
    assert all(len(places) == 1 for places in found.values())
    counts = [sum(places == {split} for places in found.values()) for split in ("train", "dev", "test")]
    assert counts == [14, 2, 4]


def test_few_speakers_still_give_every_split() -> None:
    corpus = listing("a", "b", "c")
    corpus.make_splits({"train"}, HeldOut(dev=0.01, test=0.9))
    assert sorted(*zip(*splits(corpus).values(), strict=True)) == ["dev", "test", "train"]
    with pytest.raises(UserError, match="2 speakers cannot make the splits train, test, dev"):
        listing("a", "b").make_splits({"train"}, HeldOut())


def test_a_split_that_is_given_is_not_made() -> None:
    corpus = listing("a", "b")
    corpus.make_splits({"train", "test"}, HeldOut())
    assert sorted(*zip(*splits(corpus).values(), strict=True)) == ["dev", "train"]
    corpus = listing("a")
    corpus.make_splits({"train", "test", "dev"}, HeldOut())
    assert splits(corpus) == {"a": {"train"}}


def test_named_speakers() -> None:
    corpus = listing("ann", "bob", "cay", "dan")
    corpus.make_splits({"train"}, HeldOut(), {"dev": ("cay",), "test": ("ann", "bob")})
    assert splits(corpus) == {"ann": {"test"}, "bob": {"test"}, "cay": {"dev"}, "dan": {"train"}}
    with pytest.raises(UserError, match=r"speakers: eve: not there; the corpus has ann, bob"):
        listing("ann", "bob").make_splits({"train"}, HeldOut(), {"test": ("eve",)})


def test_names_are_drawn_by_themselves_alone() -> None:
    """Golden: another draw would move every sentence of every corpus that was split before."""
    found = drawn_splits("names", "abcdefghij", HeldOut(dev=0.1, test=0.2))
    assert found == {"h": "test", "d": "test", "b": "dev"} | dict.fromkeys("aceifgj", "train")


def test_spellings_of_one_sentence_are_one() -> None:
    assert sentence_key("¡El líder  ha, dejado...") == sentence_key("el lider ha dejado")
    assert sentence_key("Ёлка") == sentence_key("елка")
    assert sentence_key("a b") != sentence_key("ab")

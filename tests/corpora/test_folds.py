"""Folds of the user's own corpora: every speaker is tested once, and is never in two splits of a fold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpora.test_table import HEAD, THREE, listed, table
from thaw.corpora.listing import fold_splits
from thaw.errors import UserError

SPEAKERS = st.sets(st.text(min_size=1, max_size=4), min_size=3, max_size=30)


@given(speakers=SPEAKERS, folds=st.integers(2, 12), dev=st.floats(0, 0.9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_speaker_is_tested_once(speakers: set[str], folds: int, dev: float) -> None:
    if len(speakers) < folds or len(speakers) - -(-len(speakers) // folds) < 2:
        with pytest.raises(UserError, match="speakers"):
            [fold_splits(speakers, folds, fold, dev) for fold in range(1, folds + 1)]
        return
    found = [fold_splits(speakers, folds, fold, dev) for fold in range(1, folds + 1)]
    assert all(one.keys() == speakers for one in found)
    assert Counter(name for one in found for name, split in one.items() if split == "test") == Counter(speakers)
    sizes = [Counter(one.values()) for one in found]
    assert max(size["test"] for size in sizes) - min(size["test"] for size in sizes) <= 1
    assert all(size["train"] and size["dev"] for size in sizes)
    assert all(size["dev"] == max(1, round(dev * len(speakers))) for size in sizes if size["train"] > 1)


def test_folds_are_a_function_of_names() -> None:
    names = [f"s{number}" for number in range(7)]
    assert fold_splits(names, 3, 2, 0.1) == fold_splits(reversed(names), 3, 2, 0.1)
    assert {name for name, split in fold_splits(names, 3, 1, 0.1).items() if split == "test"} == {"s2", "s4"}


def test_a_table_in_folds(tmp_path: Path) -> None:
    path = table(tmp_path, THREE)
    found = [{u.speaker: u.split for u in listed(path, folds=3, fold=fold).utterances} for fold in (1, 2, 3)]
    assert {name for one in found for name, split in one.items() if split == "test"} == {"ann", "bob", "cay"}
    assert all(sorted(one.values()) == ["dev", "test", "train"] for one in found)


def test_too_few_speakers_and_no_fold_are_said(tmp_path: Path) -> None:
    path = table(tmp_path, THREE)
    with pytest.raises(UserError, match=r"3 speakers \(ann, bob, cay\) cannot make 4 folds"):
        listed(path, folds=4, fold=1)
    with pytest.raises(UserError, match="from 1 to 3"):
        listed(path, folds=3)
    nameless = table(tmp_path, "clips/a.wav\tone\nclips/b.flac\ttwo\n", "n.tsv", HEAD.replace("\tspeaker", ""))
    with pytest.raises(UserError, match=r"1 speakers \(unknown\)"):
        listed(nameless, folds=2, fold=1, columns={"speaker": ""})

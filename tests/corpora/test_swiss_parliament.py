"""The Swiss Parliaments Corpus: tables as in Common Voice, no dev split, agreement of audio and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.corpora.wavs import recording
from thaw.config.sources import SwissParliamentSource
from thaw.corpora.listing import Listing
from thaw.corpora.swiss_parliament import read
from thaw.errors import UserError

HEAD = "client_id\tpath\tsentence\tiou_estimate\n"


def corpus(folder: Path, clips: str = "clips") -> Path:
    """Four speakers of one clip each to train on, of falling agreement, and one to test on."""
    rows = []
    for number, iou in enumerate(("0.95", "0.90", "0.8", "")):
        recording(folder / clips / f"s{number}.flac", rate=16000)
        rows.append(f"speaker{number}\ts{number}.flac\tSatz {number}\t{iou}\n")
    recording(folder / clips / "t.flac", rate=16000)
    (folder / "train_all.tsv").write_text(HEAD + "".join(rows))
    (folder / "test.tsv").write_text(HEAD + 'tester\tt.flac\t"Prüfung\t0.1\n')
    return folder


def listed(folder: Path, **source: Any) -> Listing:
    return read(SwissParliamentSource.model_validate({"kind": "swiss-parliament", "path": str(folder), **source}))


@pytest.mark.parametrize("clips", ["clips", "."])
def test_dev_is_made_of_speakers_of_train(clips: str, tmp_path: Path) -> None:
    listing = listed(corpus(tmp_path, clips))
    splits = [u.split for u in listing.utterances]
    assert sorted(splits) == ["dev", "test", "train", "train", "train"]
    (test,) = (u for u in listing.utterances if u.split == "test")
    assert (test.id, test.text, test.speaker) == ("t", '"Prüfung', "tester")
    assert listing.rejects == []


def test_least_agreement_is_asked_of_train_not_of_test(tmp_path: Path) -> None:
    listing = listed(corpus(tmp_path), min_iou=0.9)
    assert {u.id for u in listing.utterances} == {"s0", "s1", "t"}
    assert [(r.id, r.reason, r.detail) for r in listing.rejects] == [
        ("s2", "iou_estimate too low", "0.8"),
        ("s3", "iou_estimate too low", ""),
    ]


def test_what_a_user_can_mend(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    with pytest.raises(UserError, match=r"has no train_0\.9\.tsv \(it has test\.tsv, train_all\.tsv\)"):
        listed(folder, splits={"train": "train_0.9.tsv"})
    (folder / "train_all.tsv").write_text("client_id\tpath\tsentence\na\ts0.flac\tx\n")
    with pytest.raises(UserError, match="no column 'iou_estimate'"):
        listed(folder, min_iou=0.5)

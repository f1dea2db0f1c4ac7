"""Shares of a training split: nested, exact, by utterance or by whole speakers."""

from __future__ import annotations

import pytest

from thaw.config.schema import PartSpec
from thaw.corpora.shares import share
from thaw.errors import UserError

ROWS = [{"id": f"u{n:03}", "speaker": f"s{n % 7}"} for n in range(200)]


def ids(spec: PartSpec, rows: list[dict[str, str]] = ROWS) -> set[str]:
    return {row["id"] for row in share(rows, spec)}


@pytest.mark.parametrize("by", ["utterance", "speaker"])
def test_shares_are_nested_and_the_rest_is_what_they_leave(by: str) -> None:
    parts = [ids(PartSpec(share=each / 100, by=by)) for each in (20, 40, 80)]
    assert parts[0] < parts[1] < parts[2]
    rest = ids(PartSpec(share=0.8, by=by, rest=True))
    assert not rest & parts[2]
    assert rest | parts[2] == {row["id"] for row in ROWS}


def test_counts_are_exact_and_speakers_whole() -> None:
    assert len(ids(PartSpec(share=0.05))) == 10
    for speaker in {row["speaker"] for row in share(ROWS, PartSpec(share=0.5, by="speaker"))}:
        assert all(row["id"] in ids(PartSpec(share=0.5, by="speaker")) for row in ROWS if row["speaker"] == speaker)
    assert len(ids(PartSpec(share=0.5, by="speaker"))) <= 100


def test_a_share_does_not_depend_on_what_a_filter_rejects_or_on_the_order() -> None:
    whole = ids(PartSpec(share=0.4))
    without = ids(PartSpec(share=0.4), [row for row in reversed(ROWS) if row["id"] != "u007"])
    assert len(whole ^ without) <= 2
    assert ids(PartSpec(share=0.4, seed=2)) != whole


@pytest.mark.parametrize("spec", [PartSpec(share=0.001), PartSpec(share=0.999), PartSpec(share=0.01, by="speaker")])
def test_nothing_and_everything_are_no_shares(spec: PartSpec) -> None:
    with pytest.raises(UserError, match="of 200 utterances of 7 speakers is"):
        share(ROWS, spec)

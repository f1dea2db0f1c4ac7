"""Edit counts against values by hand, a naive Levenshtein, and NIST's sclite."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.scoring.edits import Edits, count, count_characters, count_words


def naive_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein by its recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, start=1):
        previous, row = row, [i]
        for j, found in enumerate(hypothesis, start=1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (expected != found)))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("guten morgen", "guten morgen", Edits(0, 0, 0, 2)),
        ("guten morgen", "guten abend", Edits(1, 0, 0, 2)),
        ("guten morgen berlin", "guten berlin", Edits(0, 1, 0, 3)),
        ("guten morgen", "guten lieben morgen", Edits(0, 0, 1, 2)),
        ("guten morgen", "", Edits(0, 2, 0, 2)),
        ("", "zu viel", Edits(0, 0, 2, 0)),
        ("ja", "a b c", Edits(1, 0, 2, 1)),
    ],
)
def test_words_by_hand(reference: str, hypothesis: str, expected: Edits) -> None:
    assert count_words(reference, hypothesis) == expected


def test_characters_count_spaces_and_code_points() -> None:
    assert count_characters("zwei drei", "zweidrei") == Edits(0, 1, 0, 9)
    assert count_characters("süß", "suß") == Edits(1, 0, 0, 3)
    assert count_characters("ab", "") == Edits(0, 2, 0, 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_total_is_levenshtein_and_kinds_are_consistent(reference: list[str], hypothesis: list[str]) -> None:
    edits = count(reference, hypothesis)
    assert edits.errors == naive_distance(reference, hypothesis)
    assert edits.ref == len(reference)
    assert edits.ins - edits.del_ == len(hypothesis) - len(reference)
    assert min(edits.sub, edits.del_, edits.ins) >= 0


def test_sums_and_files() -> None:
    total = Edits(1, 2, 3, 4) + Edits(1, 0, 0, 6)
    assert total.errors == 7
    assert total.as_dict() == {"sub": 2, "del": 2, "ins": 3, "ref": 10}


SCLITE = shutil.which("sclite") or shutil.which("sclite", path="/usr/lib/sctk/bin")


@pytest.mark.skipif(SCLITE is None, reason="sclite is not installed (Debian: apt-get install sctk)")
def test_sclite_counts_the_same(tmp_path: Path) -> None:
    pairs = [
        ("guten morgen liebe leute", "guten morgen leute"),
        ("eins zwei drei vier", "eins zwo drei vier fünf"),
        ("ja", "nein doch ja"),
        ("das ist gut", "das war schlecht"),
        ("wir sind hier", "wir sind hier"),
    ]
    assert SCLITE is not None
    for name, texts in (("ref", [r for r, _ in pairs]), ("hyp", [h for _, h in pairs])):
        lines = [f"{text} (speaker-{number})\n" for number, text in enumerate(texts)]
        (tmp_path / f"{name}.trn").write_text("".join(lines), encoding="utf-8")
    command = [
        SCLITE,
        "-r",
        "ref.trn",
        "trn",
        "-h",
        "hyp.trn",
        "trn",
        "-i",
        "spu_id",
        "-e",
        "utf-8",
        "-o",
        "pra",
        "stdout",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    scores = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    ids = re.findall(r"id: \(speaker-(\d+)\)", done.stdout)
    theirs = {int(i): tuple(int(n) for n in row[1:]) for i, row in zip(ids, scores, strict=True)}
    ours = {i: (e.sub, e.del_, e.ins) for i, e in enumerate(count_words(*pair) for pair in pairs)}
    assert theirs == ours

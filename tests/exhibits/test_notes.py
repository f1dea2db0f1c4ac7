"""What tables and figures say that intervals are over: what was resampled, by target."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import Fakes, counts_of
from tests.exhibits.test_tables import draw, grid_of, rows_of
from thaw.exhibits.notes import Pairs, count_text, interval_note, over_text
from thaw.exhibits.spec import ExhibitSpec

SPEAKERS = ("speaker", "")
ONE = ("utterance", "one speaker")
UNEQUAL = ("utterance", "11 speakers, one of them with 82 % of the words")
CAVEAT = " Intervals over utterances are for other sentences of the same speakers, not for other speakers."


@pytest.mark.parametrize(
    ("units", "over"),
    [
        ({"A": SPEAKERS, "B": SPEAKERS}, "over speakers"),
        ({"A": ONE}, "over utterances (one speaker)"),
        ({"A": ONE, "B": ONE}, "over utterances (one speaker)"),
        ({"A": ONE, "B": SPEAKERS, "C": ONE}, "over utterances (A, C: one speaker), over speakers (B)"),
        ({"A": ONE, "B": UNEQUAL}, f"over utterances (A: one speaker), over utterances (B: {UNEQUAL[1]})"),
        ({"A": ("none", "one utterance")}, ""),
    ],
)
def test_words_follow_what_was_resampled(units: Pairs, over: str) -> None:
    assert over_text(units) == over
    if over:
        caveat = CAVEAT if "utterances" in over else ""
        interval = over.replace("over ", "over test ")
        assert interval_note(0.95, units, "test ") == f"[95 %]: interval {interval}.{caveat}"


def test_where_there_is_no_interval() -> None:
    none = ("none", "one utterance")
    assert interval_note(0.95, {"A": none}) == "No intervals. None for A (one utterance)."
    assert interval_note(0.9, {"A": none, "B": SPEAKERS}) == (
        "[90 %]: interval over speakers (B). None for A (one utterance)."
    )


def test_one_score_says_how_many() -> None:
    assert count_text({"unit": "speaker", "note": "", "speakers": 12, "utterances": 1160}) == "over 12 speakers"
    one = {"unit": "utterance", "note": "one speaker", "speakers": 1, "utterances": 1160}
    assert count_text(one) == "over 1,160 utterances (one speaker)"
    assert count_text({"unit": "none", "note": "one utterance", "speakers": 1, "utterances": 1}) == "over 1 utterance"


@pytest.fixture
def mixed(tmp_path: Path) -> ExhibitSpec:
    """German with eight speakers, Russian with one; an English source with one."""
    fakes = Fakes(tmp_path, treatments=())
    rows: list[dict[str, Any]] = []
    for target, speaker in (("german", ""), ("russian", "anna"), ("english", "ben")):
        for treatment, wrong in (("scratch", 6), ("frozen-0", 4)):
            counts = counts_of(dict.fromkeys("abcdefgh", (wrong, wrong)))
            counts = [dataclasses.replace(row, speaker=speaker or row.speaker) for row in counts]
            decode = fakes.write_decode(f"{target}-{treatment}", "greedy", "greedy", counts)
            row = {"id": f"{target}-{treatment}", "treatment": treatment, "label": treatment, "decodes": [decode]}
            rows.append(row | {"target": target, "target_label": target.title(), "seed": 1})
    return fakes.spec("table2", runs=rows[:4], sources=rows[4:5])


def test_a_table_says_it_of_each_target(mixed: ExhibitSpec) -> None:
    drawn = draw(mixed)
    grid = grid_of(drawn)
    over = "over test speakers (German), over test utterances (Russian: one speaker)"
    assert any(over in note for note in grid["blocks"][0]["notes"])
    source = [note for note in grid["blocks"][0]["notes"] if note.startswith("Source model")]
    assert "(English): WER 60.0 [" in source[0]
    assert source[0].endswith("] %; over 8 utterances (one speaker).")
    for form in ("md", "tex"):
        assert over in drawn[form].decode()
    found = {row["target"]: row["interval_over"] for row in rows_of(drawn) if row["row"] == "treatment"}
    assert found == {"german": "speakers", "russian": "utterances"}


def test_the_csv_of_a_figure_says_it(mixed: ExhibitSpec) -> None:
    rows = rows_of(draw(mixed.model_copy(update={"name": "figure-wer"})))
    found = [row["interval_over"] for row in rows if row["row"] == "treatment"]
    assert found == ["speakers", "speakers", "utterances", "utterances"]

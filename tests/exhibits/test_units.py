"""What tables and figures say that intervals are over: what was resampled, by target."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import Fakes, counts_of
from tests.exhibits.test_tables import draw, grid_of, rows_of
from thaw.config.schema import ScoringSpec
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.units import Pairs, bars_over, count_text, interval_note, paired_over

SPEAKERS = ("speaker", "")
ONE = ("utterance", "one speaker")
UNEQUAL = ("utterance", "11 speakers, one of them with 82 % of the words")
CAVEAT = " Intervals over utterances are for other sentences of the same speakers, not for other speakers."


@pytest.mark.parametrize(
    ("units", "interval", "test", "bars"),
    [
        ({"A": SPEAKERS, "B": SPEAKERS}, "over test speakers", "over speakers", ""),
        ({"A": ONE}, "over test utterances (one speaker)", "over utterances (one speaker)", " over utterances"),
        (
            {"A": ONE, "B": ONE},
            "over test utterances (one speaker each)",
            "over utterances (one speaker each)",
            " over utterances",
        ),
        (
            {"A": ONE, "B": SPEAKERS, "C": ONE},
            "over test speakers (B), over test utterances (A, C: one speaker each)",
            "over speakers (B), over utterances (A, C: one speaker each)",
            " over utterances (A, C)",
        ),
        (
            {"A": ONE, "B": UNEQUAL},
            f"over test utterances (A: one speaker; B: {UNEQUAL[1]})",
            f"over utterances (A: one speaker; B: {UNEQUAL[1]})",
            " over utterances",
        ),
    ],
)
def test_words_follow_what_was_resampled(units: Pairs, interval: str, test: str, bars: str) -> None:
    caveat = CAVEAT if "utterances" in interval else ""
    assert interval_note(ScoringSpec(), units) == f"[95 %]: interval {interval}.{caveat}"
    assert paired_over(units) == test
    assert bars_over(units) == bars


def test_where_there_is_no_interval() -> None:
    none = ("none", "one utterance")
    assert interval_note(ScoringSpec(), {"A": none}) == "No intervals: A: one utterance."
    assert interval_note(ScoringSpec(), {"A": none, "B": SPEAKERS}).endswith(" Without one: A: one utterance.")
    assert paired_over({"A": none}) == "over utterances"


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
    source = "(English): WER 60.0 % [60.0, 60.0], CER 12.0 % [12.0, 12.0]; over 8 utterances (one speaker)."
    assert any(note.endswith(source) for note in grid["blocks"][0]["notes"])
    tests = "permutation test over speakers (German), over utterances (Russian: one speaker), Holm-corrected"
    assert all(tests in block["notes"][0] for block in grid["more"])
    for form in ("md", "tex"):
        assert over in drawn[form].decode()
        assert tests in drawn[form].decode()
    found = {row["target"]: row["interval_over"] for row in rows_of(drawn) if row["block"] == "result"}
    assert found == {"german": "speakers", "russian": "utterances"}


def test_the_csv_of_a_figure_says_it(mixed: ExhibitSpec) -> None:
    rows = rows_of(draw(mixed.model_copy(update={"name": "figure-wer"})))
    assert [row["interval_over"] for row in rows] == ["speakers", "speakers", "utterances", "utterances"]

"""From hypotheses to scores, and the verb that does it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.commands import score as verb
from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.scoring.counts import UtteranceCounts, count_rows
from thaw.scoring.scores import score

SPEC = ScoringSpec()


def row(id_: str, speaker: str, reference: str, hypothesis: str) -> dict[str, str]:
    return {"id": id_, "speaker": speaker, "reference": reference, "hypothesis": hypothesis}


ROWS = [
    row("b", "s2", "vier fünf", ""),
    row("a", "s1", "eins zwei drei", "eins zwo drei drei"),
    row("c", "s1", "ja", "ja"),
]


def test_rows_may_bring_counts_of_what_is_no_text() -> None:
    rows = [
        {"id": "b", "speaker": "1", "counts": {"token": {"errors": 9.5, "total": 4}}},
        {"id": "a", "speaker": "1", "counts": {"token": {"errors": 0.5, "total": 1}}},
    ]
    found = score(count_rows(rows), SPEC)
    assert found["token"]["rate"] == 2.0
    assert "word" not in found
    with pytest.raises(UserError, match="row 2 of the hypotheses counts other things"):
        count_rows([rows[0], ROWS[0]])
    with pytest.raises(UserError, match="row 1 of the hypotheses lacks"):
        count_rows([{"id": "b", "speaker": "1", "counts": {"tokn": {"errors": 9.5, "total": 4}}}])


def test_totals_are_micro_averages() -> None:
    scores = score(count_rows(ROWS), SPEC)
    word = scores["word"]
    assert {k: word[k] for k in ("sub", "del", "ins", "ref")} == {"sub": 1, "del": 2, "ins": 1, "ref": 6}
    assert word["rate"] == pytest.approx(4 / 6)
    assert word["low"] <= word["rate"] <= word["high"]
    assert scores["char"]["ref"] == 9 + 14 + 2
    assert (scores["utterances"], scores["speakers"], scores["unit"]) == (3, 2, "utterance")
    assert scores["note"] == "2 speakers"


def test_rates_are_not_capped() -> None:
    scores = score(count_rows([row("a", "s1", "ja", "x y z"), row("b", "s2", "ja", "x y")]), SPEC)
    assert scores["word"]["rate"] == pytest.approx(5 / 2)
    assert scores["word"]["high"] > 3


def test_one_utterance_has_no_interval() -> None:
    scores = score(count_rows([row("a", "s", "ja", "nein")]), SPEC)
    assert scores["word"]["low"] is None
    assert (scores["unit"], scores["note"]) == ("none", "one utterance")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "speaker": "s", "reference": "ja"}], "row 1"),
        ([row("a", "s", "ja", None)], "row 1"),  # type: ignore[arg-type]
        ([row("a", "s", "ja", "ja"), row("a", "s", "ja", "ja")], "more than once"),
    ],
)
def test_broken_hypotheses_are_named(rows: list[dict[str, str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        count_rows(rows)


def test_references_without_words_cannot_be_scored() -> None:
    with pytest.raises(UserError, match="no words"):
        score(count_rows([row("a", "s", "", "ja")]), SPEC)


def test_counts_survive_their_file() -> None:
    counts = count_rows(ROWS)
    assert [UtteranceCounts.from_row(json.loads(json.dumps(c.row()))) for c in counts] == counts


def test_verb_writes_the_same_bytes_twice(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "h.jsonl", ROWS)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    written = []
    for name in ("one", "two"):
        scores, counts = tmp_path / f"{name}.json", tmp_path / f"{name}.jsonl"
        options = ["--hypotheses", tmp_path / "h.jsonl", "--scores", scores, "--counts", counts]
        verb.run(parser.parse_args([*map(str, options), "--scoring", '{"level":0.9}']))
        written.append((scores.read_bytes(), counts.read_bytes()))
    assert written[0] == written[1]
    assert [r["id"] for r in read_jsonl(tmp_path / "one.jsonl")] == ["a", "b", "c"]
    assert read_json(tmp_path / "one.json")["word"]["ref"] == 6


def test_verb_tells_how_two_models_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(f"u{i}", f"s{i % 6}", "eins zwei drei vier", "eins zwei drei vier") for i in range(24)]
    worse = [r | {"hypothesis": "eins zwo" if i % 3 else "eins"} for i, r in enumerate(rows)]
    write_jsonl(tmp_path / "h.jsonl", rows)
    write_jsonl(tmp_path / "worse.jsonl", worse)
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    options = ["--hypotheses", tmp_path / "h.jsonl", "--scores", tmp_path / "s.json", "--counts", tmp_path / "c.jsonl"]
    verb.run(parser.parse_args([*map(str, options), "--against", str(tmp_path / "worse.jsonl")]))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("WER -75.0 points [-")
    assert "for other speakers: these trained models" in said[0]
    assert "MAPSSWE" in said[1]
    assert len(said) == 2
    write_jsonl(tmp_path / "worse.jsonl", worse[:-1])
    with pytest.raises(UserError, match=r"worse\.jsonl: the two systems were not scored on the same utterances"):
        verb.run(parser.parse_args([*map(str, options), "--against", str(tmp_path / "worse.jsonl")]))


def test_scoring_needs_neither_torch_nor_pandas() -> None:
    code = (
        "import sys, thaw.commands.score, thaw.scoring.scores, thaw.scoring.statistics\n"
        "print([m for m in ('torch', 'pandas', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

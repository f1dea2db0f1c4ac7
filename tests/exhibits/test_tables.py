"""Tables: every cell against hand values, published numbers kept apart, written forms that agree."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.exhibits.fakes import Fakes, counts_of
from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.exhibits.grid import Block, Column, Grid, Printed, latex, markdown, tex_escape
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.together import exhibits
from thaw.exhibits.write import write_exhibit
from thaw.files import read_json, write_json
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.statistics import Estimate, Sample, difference, estimate, holm, seed_noise

EIGHT = "abcdefgh"  # speakers


def draw(spec: ExhibitSpec) -> dict[str, bytes]:
    return exhibits(spec.kind)[spec.name].draw(spec)


def rows_of(drawn: dict[str, bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(drawn["csv"].decode())))


def grid_of(drawn: dict[str, bytes]) -> dict[str, Any]:
    grid: dict[str, Any] = json.loads(drawn["json"])
    return grid


def texts(block: dict[str, Any]) -> list[list[str]]:
    return [[cell["text"] for cell in row] for row in block["rows"]]


class Hand:
    """Runs on one target with hand-made errors per speaker; 10 words and 50 characters for each speaker."""

    def __init__(self, folder: Path, errors: dict[tuple[str, int], int]) -> None:
        self.fakes = Fakes(folder, treatments=())
        self.runs: list[dict[str, Any]] = []
        self.counts: dict[tuple[str, int], list[UtteranceCounts]] = {}
        for (treatment, seed), words in errors.items():
            # Every other speaker has one error less, and the next one more.
            by_speaker = {speaker: words + (-1) ** place for place, speaker in enumerate(EIGHT)}
            counts = counts_of({speaker: (wrong, 2 * wrong) for speaker, wrong in by_speaker.items()})
            self.counts[treatment, seed] = counts
            decode = self.fakes.write_decode(f"{treatment}-{seed}", "lm", "beam + LM", counts)
            run = {"id": f"run-{treatment}-{seed}", "treatment": treatment, "label": f"<{treatment}>"}
            self.runs.append(run | {"target": "german", "target_label": "German", "seed": seed, "decodes": [decode]})

    def draw(self, **changes: Any) -> dict[str, bytes]:
        return draw(self.fakes.spec("table2", runs=self.runs, **changes))

    def samples(self, treatment: str) -> list[Sample]:
        return [Sample(seed, tuple(counts)) for (name, seed), counts in self.counts.items() if name == treatment]


def bracketed(found: Estimate) -> str:
    return f"[{100 * (found.low or 0):.1f}, {100 * (found.high or 0):.1f}]"


def test_cells_are_the_hand_values(tmp_path: Path) -> None:
    # 8 of 10 words wrong, then 5, then 4, on the mean over speakers; no seed is repeated.
    hand = Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5, ("frozen-1", 1): 4})
    grid = grid_of(hand.draw())
    [rates], [to_baseline, to_reference] = grid["blocks"], grid["more"]
    none = seed_noise([hand.samples("scratch")], "word")
    word, char = (estimate(hand.samples("frozen-1"), measure, ScoringSpec(), none) for measure in ("word", "char"))
    assert texts(rates)[2] == ["<frozen-1>", f"40.0 {bracketed(word)}", f"16.0 {bracketed(char)}"]
    assert [row[1].partition(" ")[0] for row in texts(rates)] == ["80.0", "50.0", "40.0"]
    assert [[cell["bold"] for cell in row] for row in rates["rows"]] == [[False] * 3, [False] * 3, [False, True, True]]
    assert rates["rows"][2][1]["runs"] == ["run-frozen-1-1"]
    assert "these trained models" in rates["notes"][0]
    # Every speaker differs alike, so a difference is known to one error: 1 of 80 words, 7 degrees of freedom.
    assert texts(to_baseline)[0][1] == "−30.0 [−33.0, −27.0]"
    assert [row[2].partition(" ")[0] for row in texts(to_baseline)] == ["−12.0", "−16.0"]
    assert [row[1].partition(" ")[0] for row in texts(to_reference)] == ["+30.0", "−10.0"]


def test_without_a_repeated_seed_there_is_no_p_value(tmp_path: Path) -> None:
    drawn = Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5}).draw()
    for block in grid_of(drawn)["more"]:
        assert [column["title"] for column in block["columns"]] == ["WER [95 %]", "CER [95 %]"]
        assert "these trained models" in block["notes"][0]
        assert not any(cell["bold"] for row in block["rows"] for cell in row)
    rows = rows_of(drawn)
    assert not any(row[name] for row in rows for name in ("to_baseline_p", "to_baseline_p_holm", "to_reference_p"))
    assert {row["speaks_of"] for row in rows if row["row"] == "treatment"} == {"these trained models"}


SEEDS = {("scratch", 1): 8, ("scratch", 2): 7, ("frozen-0", 1): 3, ("frozen-0", 2): 5, ("frozen-1", 1): 4}


def test_seeds_give_mean_and_spread_and_their_noise_is_pooled(tmp_path: Path) -> None:
    hand = Hand(tmp_path, SEEDS)
    drawn = hand.draw()
    block = grid_of(drawn)["blocks"][0]
    noise = seed_noise([hand.samples(name) for name in ("scratch", "frozen-0", "frozen-1")], "word")
    assert noise.degrees == 2
    found = {name: estimate(hand.samples(name), "word", ScoringSpec(), noise) for name in ("frozen-0", "frozen-1")}
    # Rates 30 % and 50 %: mean 40, standard deviation 14.1. One seed has none of its own, but the pooled noise.
    assert texts(block)[1][1] == f"40.0 {bracketed(found['frozen-0'])} ±14.1"
    assert texts(block)[2][1] == f"40.0 {bracketed(found['frozen-1'])}"
    assert block["rows"][1][1]["runs"] == ["run-frozen-0-1", "run-frozen-0-2"]
    assert f"German: WER {100 * noise.sd:.1f}, CER " in block["notes"][0]
    assert "(2 degrees of freedom)" in block["notes"][0]
    assert any("1–2 random seeds" in note for note in block["notes"])
    rows = [r for r in rows_of(drawn) if (r["treatment"], r["measure"]) == ("frozen-0", "WER %")]
    assert [(r["row"], r["seed"], r["value"], r["errors"], r["total"]) for r in rows if r["row"] != "published"] == [
        ("treatment", "", "40.0", "", ""),
        ("run", "1", "30.0", "24", "80"),
        ("run", "2", "50.0", "40", "80"),
    ]


def test_differences_are_tested_and_say_how_little_they_could_show(tmp_path: Path) -> None:
    hand = Hand(tmp_path, SEEDS)
    drawn = hand.draw()
    to_baseline = grid_of(drawn)["more"][0]
    noise = seed_noise([hand.samples(name) for name in ("scratch", "frozen-0", "frozen-1")], "word")
    found = [
        difference(hand.samples("scratch"), hand.samples(name), "word", ScoringSpec(), noise)
        for name in ("frozen-0", "frozen-1")
    ]
    corrected = holm([one.p or 0 for one in found])
    for row, one, p in zip(to_baseline["rows"], found, corrected, strict=True):
        low, high = (f"{100 * (bound or 0):+.1f}".replace("-", "−") for bound in (one.low, one.high))
        assert row[1]["text"] == f"{100 * one.difference:+.1f}".replace("-", "−") + f" [{low}, {high}] ({p:.3f})"
        assert row[1]["bold"] == (p < 0.05)
    tests, smallest = to_baseline["notes"]
    assert "the 2 tests of a column are one family" in tests
    low, high = sorted(100 * (one.smallest_of(2) or 0) for one in found)
    assert f"German WER {low:.1f} to {high:.1f} points" in smallest
    row = next(r for r in rows_of(drawn) if (r["treatment"], r["measure"], r["seed"]) == ("frozen-0", "WER %", ""))
    assert float(row["to_baseline"]) == pytest.approx(-35)
    assert float(row["to_baseline_p"]) == pytest.approx(found[0].p, rel=1e-4)
    assert float(row["to_baseline_p_holm"]) == pytest.approx(corrected[0], rel=1e-4)
    assert row["to_reference"] == ""  # it is the reference


def test_noise_is_the_same_in_every_exhibit_of_a_study(tmp_path: Path) -> None:
    study = Fakes(tmp_path, seeds=(1, 2), targets={"russian": "Russian"}, kind="crosslingual")
    part = [r for r in rows_of(draw(study.spec("figure-learning-rate"))) if r["row"] == "treatment"]
    assert len(part) == 4
    rows = [r for r in rows_of(draw(study.spec("table-wer"))) if (r["decoder"], r["measure"]) == ("greedy", "WER %")]
    whole = {r["treatment"]: r for r in rows if r["row"] == "treatment"}
    for row in part:
        assert [row[key] for key in ("value", "low", "high", "seed_noise", "seed_noise_degrees")] == [
            whole[row["treatment"]][key] for key in ("value", "low", "high", "seed_noise", "seed_noise_degrees")
        ]
    assert part[0]["seed_noise_degrees"] == str(len(whole))


def test_runs_of_another_recipe_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    hand = Hand(tmp_path, {("scratch", 1): 8, ("scratch", 2): 4})
    hand.runs[0]["recipe"], hand.runs[1]["recipe"] = "one", "another"
    rows = [r for r in rows_of(hand.draw()) if (r["row"], r["measure"]) == ("treatment", "WER %")]
    assert [(r["value"], r["seeds"], r["run"]) for r in rows] == [
        ("80.0", "1", "run-scratch-1"),
        ("40.0", "1", "run-scratch-2"),
    ]


def test_csv_is_tidy_and_holds_counts_and_files(tmp_path: Path) -> None:
    drawn = Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5}).draw()
    rows = rows_of(drawn)
    row = next(r for r in rows if (r["treatment"], r["measure"], r["row"]) == ("frozen-0", "WER %", "run"))
    assert (row["value"], row["sub"], row["del"], row["ins"], row["total"]) == ("50.0", "40", "0", "0", "80")
    assert row["run"] == "run-frozen-0-1"
    assert Path(row["scores_file"]).is_file()
    assert Path(row["counts_file"]).is_file()
    assert row["scale_note"] == "mini scale: synthesised speech; not comparable with the published numbers"
    frame = pd.read_csv(io.BytesIO(drawn["csv"]))
    pivot = frame[frame["row"] == "treatment"].pivot_table(index="treatment", columns="measure", values="value")
    assert pivot.loc["frozen-0"].to_dict() == {"WER %": 50.0, "CER %": 20.0}


def test_a_run_that_was_stopped_at_its_best_epoch_is_marked(tmp_path: Path) -> None:
    study = Fakes(tmp_path, ("scratch", "frozen-0"), targets={"german": "German"})
    spec = study.spec("table2")
    assert not any("†" in note for block in grid_of(draw(spec))["blocks"] for note in block["notes"])
    path = Path(study.runs[1]["record"])
    write_json(path, read_json(path) | {"best": {"epoch": 6, "dev_loss": 14.0}})
    drawn = draw(spec)
    for block in grid_of(drawn)["blocks"]:
        assert [[cell["mark"] for cell in row] for row in block["rows"]] == [["", "", ""], ["", "†", "†"]]
        assert any("stopped, not finished" in note and "(1 of 2 runs)" in note for note in block["notes"])
    assert r"\textsuperscript{\textdagger{}}" in drawn["tex"].decode()
    unfinished = {r["treatment"]: r["unfinished"] for r in rows_of(drawn) if r["row"] == "treatment"}
    assert unfinished == {"scratch": "0", "frozen-0": "1"}
    assert draw(study.spec("figure-wer"))["png"]


@pytest.mark.parametrize(("scale", "speech"), [("mini", "synthesised"), ("mini", "recorded"), ("paper", "synthesised")])
def test_published_numbers_stay_out_of_our_columns(fakes: Fakes, scale: str, speech: str) -> None:
    drawn = draw(fakes.spec("table2", scale=scale, speech=speech))
    grid = grid_of(drawn)
    ours = json.dumps([grid["blocks"], grid["more"]], ensure_ascii=False)
    assert "ublished" not in re.sub(r"in the published rows", "", ours)
    [published] = grid["apart"]
    assert published["title"] == "Published (Eberhard & Zesch 2021, paper scale, logged values)"
    assert texts(published)[0] == ["Baseline", "69.7", "42.1", "74.1", "51.8"]
    rows = rows_of(drawn)
    assert not any(row["published"] for row in rows if row["row"] != "published")
    assert not any(row["value"] or row["run"] for row in rows if row["row"] == "published")
    assert all(row["published"] for row in rows if row["row"] == "published")
    for form in ("md", "tex", "csv"):
        assert f"{scale} scale" in drawn[form].decode()
        assert "not comparable with the published numbers" in drawn[form].decode()
    # In Markdown and LaTeX the first published number comes after the heading that says whose it is.
    for form in ("md", "tex"):
        before, title, after = drawn[form].decode().partition("Published (Eberhard")
        assert title
        assert not re.search(r"[ |&]69\.7 [|&]", before)
        assert re.search(r"[ |&]69\.7 [|&]", after)


def test_paper_scale_shows_published_numbers_beside_like_decoders(fakes: Fakes) -> None:
    grid = grid_of(draw(fakes.spec("table2", scale="paper", speech="recorded")))
    greedy, beam = grid["blocks"]
    assert grid["apart"] == []
    assert not any("published" in column["group"] for column in greedy["columns"])
    place = [column["group"] for column in beam["columns"]].index("German, published")
    assert [row[place + 1]["text"] for row in beam["rows"]] == ["69.7", "62.7", "48.3", "45.3"]
    assert not any("Spanish, published" in column["group"] for column in beam["columns"])  # not in the paper
    rows = rows_of(draw(fakes.spec("table2", scale="paper", speech="recorded")))
    found = {r["decoder"]: r["published"] for r in rows if (r["target"], r["measure"]) == ("german", "WER %")}
    assert found == {"greedy": "", "lm": "45.3271"}


def test_footnote_where_text_and_logs_disagree(fakes: Fakes) -> None:
    block = grid_of(draw(fakes.spec("table2")))["blocks"][0]
    assert [row[0]["mark"] for row in block["rows"]] == ["", "", "", "a"]
    assert any(note.startswith("a: The paper's text freezes the LSTM") for note in block["notes"])


def test_written_forms_agree(fakes: Fakes) -> None:
    drawn = draw(fakes.spec("table2"))
    rows = [r for r in rows_of(drawn) if r["row"] == "treatment"]
    cells = {f"{float(r['value']):.1f} [{float(r['low']):.1f}, {float(r['high']):.1f}]" for r in rows}
    in_grid = {c["text"] for block in grid_of(drawn)["blocks"] for row in block["rows"] for c in row[1:]}
    assert cells == in_grid
    rate = r"\d+\.\d \[\d+\.\d, \d+\.\d\](?! %)"  # with its %, it is the source's
    md, tex = (drawn[form].decode().partition("Difference to")[0] for form in ("md", "tex"))
    in_md = set(re.findall(rate, md.replace("\\", "")))
    in_tex = set(re.findall(rate, re.sub(r"[{}\\]", "", tex)))
    assert in_md == in_tex == cells


def test_the_same_input_gives_the_same_bytes(fakes: Fakes) -> None:
    assert draw(fakes.spec("table2")) == draw(fakes.spec("table2"))


def test_latex_and_markdown_escape_text() -> None:
    assert tex_escape(r"50% & a_b #1 {x} ~ ^ $ \ −") == (
        r"50\% \& a\_b \#1 \{x\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{} $-$"
    )
    block = Block(
        "A & B", "50%", (Column("a_b", "g_1"),), ((Printed("x|y"), Printed("#1", bold=True, mark="a")),), ("<n>",)
    )
    grid = Grid("g", "T_1", "note", (block,))
    assert r"x|y & \textbf{\#1}\textsuperscript{a} \\" in latex(grid)
    assert r"\multicolumn{1}{c}{g\_1}" in latex(grid)
    assert r"\caption{A \& B (note)}" in latex(grid)
    assert r"| x\|y | **#1**<sup>a</sup> |" in markdown(grid)
    assert r"\<n\>" in markdown(grid)


def test_corpora_table_counts_what_was_kept_and_why_not(fakes: Fakes) -> None:
    drawn = draw(fakes.spec("table1"))
    grid = grid_of(drawn)
    german = [row for row in texts(grid["blocks"][0]) if row[0] == "German"]
    assert german[0] == [
        *("German", "train", "1,320", "1,315", "0.73", "39", "27,720", "3,960", "31"),
        "2 too long; 3 transcript longer than its audio",
    ]
    assert [row[1] for row in german] == ["train", "dev", "test"]
    assert "7,896 to 7,919" in json.dumps(grid["apart"])
    row = rows_of(drawn)[0]
    assert (row["listed"], row["kept"], row["rejected"]) == ("1320", "1315", "5")
    assert row["rejected_by_reason"] == "too long=2; transcript longer than its audio=3"


def test_a_missing_score_is_named(fakes: Fakes, tmp_path: Path) -> None:
    runs = json.loads(json.dumps(fakes.runs))
    runs[0]["decodes"][0]["scores"] = "nowhere/scores.json"
    with pytest.raises(UserError, match=r"nowhere/scores\.json: no such file"):
        write_exhibit(fakes.spec("table2", runs=runs), [tmp_path / "table2.csv"])
    assert list(tmp_path.iterdir()) == []


def test_scores_of_another_shape_are_named(fakes: Fakes, tmp_path: Path) -> None:
    broken = tmp_path / "scores.json"
    broken.write_text("{}")
    runs = json.loads(json.dumps(fakes.runs))
    runs[0]["decodes"][0]["scores"] = str(broken)
    with pytest.raises(UserError, match=r"scores\.json.*thaw score"):
        draw(fakes.spec("table2", runs=runs))


def test_runs_on_other_utterances_are_not_compared(tmp_path: Path) -> None:
    hand = Hand(tmp_path, {("scratch", 1): 8})
    counts = counts_of({"z": (1, 1)})
    decode = hand.fakes.write_decode("other", "lm", "beam + LM", counts)
    hand.runs.append(hand.runs[0] | {"id": "other", "treatment": "frozen-0", "decodes": [decode]})
    with pytest.raises(UserError, match="not scored on the same utterances"):
        hand.draw()


def test_unknown_exhibits_and_forms_are_refused(fakes: Fakes, tmp_path: Path) -> None:
    spec = fakes.spec("table2")
    with pytest.raises(UserError, match="no exhibit 'table9'"):
        write_exhibit(spec.model_copy(update={"name": "table9"}), [tmp_path / "table9.csv"])
    with pytest.raises(UserError, match=r"table2 is written as csv, md, tex, json, not as '\.xlsx'"):
        write_exhibit(spec, [tmp_path / "table2.xlsx"])

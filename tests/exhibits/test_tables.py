"""Tables: every cell against hand values, published numbers kept apart, written forms that agree."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import Fakes, counts_of
from thaw.errors import UserError
from thaw.exhibits.grid import Block, Cell, Column, Grid, latex, markdown, tex_escape
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.together import exhibits
from thaw.exhibits.write import write_exhibit

EIGHT = "abcdefgh"  # speakers: enough for a sign-flip p below 0.05


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
        self.runs = []
        for (treatment, seed), words in errors.items():
            counts = counts_of(dict.fromkeys(EIGHT, (words, 2 * words)))
            decode = self.fakes.write_decode(f"{treatment}-{seed}", "lm", "beam + LM", counts)
            run = {"id": f"run-{treatment}-{seed}", "treatment": treatment, "label": f"<{treatment}>"}
            self.runs.append(run | {"target": "german", "target_label": "German", "seed": seed, "decodes": [decode]})

    def draw(self, **changes: Any) -> dict[str, bytes]:
        return draw(self.fakes.spec("table2", runs=self.runs, **changes))


def test_cells_are_the_hand_values(tmp_path: Path) -> None:
    # 8 of 10 words wrong for each of 8 speakers, then 5, then 4: rates without any spread, so intervals of no width.
    drawn = Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5, ("frozen-1", 1): 4}).draw()
    grid = grid_of(drawn)
    [rates], [to_baseline, to_reference] = grid["blocks"], grid["more"]
    assert texts(rates) == [
        ["<scratch>", "80.0 [80.0, 80.0]", "32.0 [32.0, 32.0]"],
        ["<frozen-0>", "50.0 [50.0, 50.0]", "20.0 [20.0, 20.0]"],
        ["<frozen-1>", "40.0 [40.0, 40.0]", "16.0 [16.0, 16.0]"],
    ]
    assert [[cell["bold"] for cell in row] for row in rates["rows"]] == [[False] * 3, [False] * 3, [False, True, True]]
    assert rates["rows"][2][1]["runs"] == ["run-frozen-1-1"]
    # All 8 speakers differ alike: two of the 2^8 sign patterns are as extreme, p = 1/128, twice that after Holm.
    assert texts(to_baseline) == [
        ["<frozen-0>", "−30.0 (0.016)", "−12.0 (0.016)"],
        ["<frozen-1>", "−40.0 (0.016)", "−16.0 (0.016)"],
    ]
    assert texts(to_reference) == [
        ["<scratch>", "+30.0 (0.016)", "+12.0 (0.016)"],
        ["<frozen-1>", "−10.0 (0.016)", "−4.0 (0.016)"],
    ]
    assert to_baseline["rows"][0][1]["bold"]


def test_csv_holds_counts_files_and_tests(tmp_path: Path) -> None:
    rows = rows_of(Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5}).draw())
    row = next(r for r in rows if (r["treatment"], r["measure"]) == ("frozen-0", "WER") and r["block"] == "result")
    assert (row["percent"], row["sub"], row["del"], row["ins"], row["ref"]) == ("50.0", "40", "0", "0", "80")
    assert (row["to_baseline"], row["to_baseline_p"], row["to_baseline_p_holm"]) == ("-30.0", "0.0078125", "0.0078125")
    assert row["to_reference"] == ""  # it is the reference
    assert row["run"] == "run-frozen-0-1"
    assert Path(row["scores_file"]).is_file()
    assert Path(row["counts_file"]).is_file()
    assert row["scale_note"] == "mini scale: synthesised speech; not comparable with the published numbers"


def test_seeds_give_mean_and_spread(tmp_path: Path) -> None:
    drawn = Hand(tmp_path, {("scratch", 1): 8, ("scratch", 2): 8, ("frozen-0", 1): 3, ("frozen-0", 2): 5}).draw()
    block = grid_of(drawn)["blocks"][0]
    # Rates 30 % and 50 %: mean 40, standard deviation 14.1.
    assert texts(block)[1][1] == "40.0 ±14.1 [40.0, 40.0]"
    assert block["rows"][1][1]["runs"] == ["run-frozen-0-1", "run-frozen-0-2"]
    assert any("2 random seeds" in note for note in block["notes"])
    rows = [r for r in rows_of(drawn) if (r["treatment"], r["measure"], r["block"]) == ("frozen-0", "WER", "result")]
    assert [(r["seed"], r["percent"], r["to_baseline"]) for r in rows] == [
        ("mean", "40.0", "-40.0"),
        ("1", "30.0", ""),
        ("2", "50.0", ""),
    ]


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
    assert not any(row["published_percent"] for row in rows if row["block"] == "result")
    assert not any(row["percent"] or row["run"] for row in rows if row["block"] == "published")
    assert all(row["published_percent"] for row in rows if row["block"] == "published")
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
    found = {r["decoder"]: r["published_percent"] for r in rows if (r["target"], r["measure"]) == ("german", "WER")}
    assert found == {"greedy": "", "lm": "45.3271"}


def test_footnote_where_text_and_logs_disagree(fakes: Fakes) -> None:
    block = grid_of(draw(fakes.spec("table2")))["blocks"][0]
    assert [row[0]["mark"] for row in block["rows"]] == ["", "", "", "a"]
    assert any(note.startswith("a: The paper's text freezes the LSTM") for note in block["notes"])


def test_written_forms_agree(fakes: Fakes) -> None:
    drawn = draw(fakes.spec("table2"))
    rows = [r for r in rows_of(drawn) if r["block"] == "result"]
    cells = {f"{float(r['percent']):.1f} [{float(r['low']):.1f}, {float(r['high']):.1f}]" for r in rows}
    in_grid = {c["text"] for block in grid_of(drawn)["blocks"] for row in block["rows"] for c in row[1:]}
    assert cells == in_grid
    in_md = set(re.findall(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", drawn["md"].decode().replace("\\", "")))
    in_tex = set(re.findall(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", re.sub(r"[{}]", "", drawn["tex"].decode())))
    assert in_md == in_tex == cells


def test_the_same_input_gives_the_same_bytes(fakes: Fakes) -> None:
    assert draw(fakes.spec("table2")) == draw(fakes.spec("table2"))


def test_latex_and_markdown_escape_text() -> None:
    assert tex_escape(r"50% & a_b #1 {x} ~ ^ $ \ −") == (
        r"50\% \& a\_b \#1 \{x\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{} $-$"
    )
    block = Block("A & B", "50%", (Column("a_b", "g_1"),), ((Cell("x|y"), Cell("#1", bold=True, mark="a")),), ("<n>",))
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

"""The frame: what is one treatment, what its noise is pooled over, and what a measure or a label may be."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.exhibits.fakes import Fakes, counts_of
from tests.exhibits.test_tables import Hand, draw, grid_of, rows_of, texts
from thaw.config.schema import ScoringSpec
from thaw.exhibits.frame import read_frame, samples
from thaw.exhibits.tables import RatesTable
from thaw.files import write_json, write_jsonl
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import Counts
from thaw.scoring.scores import score

HOSTILE = [
    "_under{score}",
    "a $x_1^2$ & 100% #1",
    r"\end{tabular}\input{/etc/passwd}",
    "<script>alert(1)</script>",
    "a\nb|c",
]


def test_folds_are_one_test_set_of_one_seed(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=())
    runs: list[dict[str, Any]] = []
    for treatment, wrong in (("scratch", 6), ("frozen-0", 4)):
        for seed in (1, 2):
            for fold, speakers in ((1, "abcd"), (2, "efgh")):
                counts = counts_of(dict.fromkeys(speakers, (wrong + seed * fold - 1, wrong)))
                decode = fakes.write_decode(f"{treatment}-{seed}-{fold}", "lm", "beam + LM", counts)
                row = {"id": f"{treatment}-{seed}-{fold}", "treatment": treatment, "label": treatment, "fold": fold}
                runs.append(row | {"target": "own", "target_label": "Own", "seed": seed, "decodes": [decode]})
    spec = fakes.spec("table2", runs=runs)
    scratch = read_frame(spec)[0]
    assert [(one.seed, len(one.counts)) for one in samples(scratch.judged)] == [(1, 8), (2, 8)]
    assert (scratch.estimate.seeds, scratch.estimate.speakers, scratch.noise.degrees) == (2, 8, 2)
    # Seed 1: 6 and 7 of 10 words, seed 2: 7 and 9.
    assert scratch.rate == pytest.approx((6 + 7 + 7 + 9) / 40)
    assert [row["fold"] for row in rows_of(draw(spec)) if row["row"] == "run"][:4] == ["1", "2", "1", "2"]


def test_any_measure_is_shown_in_its_own_form(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, treatments=())
    runs = []
    for treatment, nats in (("scratch", 4.0), ("frozen-0", 3.0)):
        counts = [UtteranceCounts(f"clip-{n}", f"{n}", {"token": Counts(10 * nats + n, 10)}) for n in range(6)]
        folder = tmp_path / treatment
        write_json(folder / "scores.json", score(counts, ScoringSpec()), sealed=False)
        write_jsonl(folder / "counts.jsonl", [row.row() for row in counts], sealed=False)
        decode = {"id": treatment, "decoder": "none", "label": "held out", "scores": str(folder / "scores.json")}
        decode["counts"] = str(folder / "counts.jsonl")
        row = {"id": treatment, "treatment": treatment, "label": treatment, "target": "news", "target_label": "News"}
        runs.append(row | {"seed": 1, "decodes": [decode]})
    spec = fakes.spec("table2", runs=runs)
    drawn = RatesTable("Perplexities").draw(spec)
    [block] = grid_of(drawn)["blocks"]
    assert block["columns"][0]["title"] == "perplexity [95 %]"
    assert [row[1].partition(" ")[0] for row in texts(block)] == ["70.1", "25.8"]  # e^4.25, e^3.25
    assert texts(grid_of(drawn)["more"][0])[0][1].startswith("−44.3 [")
    assert "[95 %]: interval over test documents." in block["notes"][0]
    assert "on the same sentences" in grid_of(drawn)["more"][0]["notes"][0]
    row = next(row for row in rows_of(drawn) if (row["treatment"], row["row"]) == ("frozen-0", "run"))
    assert (row["measure"], row["value"], row["errors"], row["total"]) == ("perplexity", "25.7903", "195.0", "60")


def test_operations_are_rows_of_their_own(tmp_path: Path) -> None:
    hand = Hand(tmp_path, {("scratch", 1): 3})
    counts = counts_of(dict.fromkeys("abcdefgh", (8, 9)))
    probe = hand.fakes.write_decode("probe", "lm", "beam + LM", counts) | {"operation": "layer_1 drawn anew"}
    hand.runs[0]["decodes"].append(probe)
    drawn = hand.draw()
    [block] = grid_of(drawn)["blocks"]
    assert [row[:1] for row in texts(block)] == [["<scratch>"], ["<scratch>: layer_1 drawn anew"]]
    [tests] = grid_of(drawn)["more"]
    assert texts(tests)[0][1].startswith("+50.0 [")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    study = Fakes(tmp_path_factory.mktemp("hostile"), ("scratch", "frozen-0", "frozen-1", "frozen-2", "frozen-3"))
    for run in study.runs:
        place = ["scratch", "frozen-0", "frozen-1", "frozen-2", "frozen-3"].index(run["treatment"])
        run["label"] = HOSTILE[place]
        run["target_label"] = HOSTILE[0] if run["target"] == "german" else HOSTILE[1]
        for decode in run["decodes"]:
            decode["label"] = HOSTILE[1]
    return study


@pytest.mark.parametrize("name", ["table2", "figure2", "figure-wer", "findings"])
@pytest.mark.filterwarnings("error")
def test_labels_are_labels_whatever_they_hold(hostile: Fakes, name: str) -> None:
    drawn = draw(hostile.spec(name))
    assert drawn == draw(hostile.spec(name))
    if "tex" in drawn:
        tex = drawn["tex"].decode()
        assert r"\textbackslash{}end\{tabular\}" in tex
        assert r"\input" not in tex
        assert r"a \$x\_1\textasciicircum{}2\$ \& 100\% \#1" in tex
        assert "a b|c" in tex
    if "md" in drawn:
        text = drawn["md"].decode()
        assert "<script>" not in text
        assert r"\$x\_1^2\$ \& 100%" in text
        assert r"a b\|c" in text


@pytest.mark.skipif(which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(hostile: Fakes, tmp_path: Path) -> None:
    body = draw(hostile.spec("table2"))["tex"].decode()
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\usepackage[T1]{fontenc}\begin{document}"
    (tmp_path / "t.tex").write_text(head + "\n" + body + r"\end{document}")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)

"""The multilingual study's exhibits on made-up results: gains, gaps, published cells apart, curves by time."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import ROOT, Fakes, hypotheses
from thaw.exhibits.multilingual import percent
from thaw.exhibits.progress import points
from thaw.exhibits.spec import ExhibitSpec, RunRow, drawable
from thaw.exhibits.together import exhibits
from thaw.files import write_json, write_jsonl
from thaw.scoring.counts import count_rows

LABELS = {"gmm": "GMM-HMM", "scratch": "From scratch", "cross-all": "From English, all layers",
          "multilingual": "Multilingual", "late": "4 replicas"}  # fmt: skip
QUALITY = {"gmm": 0.6, "scratch": 0.45, "cross-all": 0.4, "multilingual": 0.3}
TARGETS = {"catalan": "Catalan", "french": "French"}
STATES = {"catalan": 88, "french": 112}


class Made(Fakes):
    """Made-up results of a hybrid study: a GMM, networks with two seeds, a late learner that nobody decoded."""

    def __init__(self, folder: Path, kind: str = "hybrid") -> None:
        self.folder, self.kind, self.utterances, self.epochs = folder, "multilingual", 40, 5
        self.decoder = kind
        self.runs = [
            self.row(treatment, target, seed)
            for target in TARGETS
            for treatment in QUALITY
            for seed in ((1,) if treatment == "gmm" else (1, 2))
            if (treatment, target) != ("cross-all", "catalan")  # a gap, as the paper's table has them
        ]
        late = self.row("late", "catalan", 1) | {"decodes": [], "learner": "downpour"}
        self.runs.append(late)
        self.sources = []
        self.corpora = [self.corpus(name, label) for name, label in TARGETS.items()]

    def row(self, treatment: str, target: str, seed: int) -> dict[str, Any]:
        name = f"{target}-{treatment}-s{seed}"
        folder = self.folder / "runs" / name
        quality = QUALITY.get(treatment, 0.5)
        rows = hypotheses(name, quality, self.utterances)
        decode = self.write_decode(name, "greedy", "hybrid", count_rows(rows)) | {"kind": self.decoder}
        write_jsonl(Path(decode["hypotheses"]), rows, sealed=False)
        spec: dict[str, Any] = {"kind": "gmm" if treatment == "gmm" else self.decoder}
        spec |= {"scales": [0.3, 0.1, 0.2], "prior_scales": [1.0]} if self.decoder == "hybrid" else {}
        low = treatment == "gmm" or (target, seed) == ("french", 2)  # at an end of what was tried
        tuned = {"decoder": spec, "scale": 0.1 if low else 0.2, "prior_scale": 1.0}
        write_json(Path(decode["record"]), tuned, sealed=False)
        row = {"id": name, "treatment": treatment, "label": LABELS[treatment], "target": target, "seed": seed,
               "target_label": TARGETS[target], "recipe": treatment, "decodes": [decode]}  # fmt: skip
        if treatment == "gmm":
            return row
        together = treatment == "multilingual"
        metrics = [self.epoch(number, quality, together, treatment == "late") for number in range(1, 6)]
        write_jsonl(folder / "metrics.jsonl", metrics, sealed=False)
        record = {"best": {"epoch": 4}, "epochs": 5, "classes": {"": STATES[target]}}
        write_json(folder / "run.json", record, sealed=False)
        language = {"language": {"catalan": "ca", "french": "fr"}[target]} if together else {}
        return row | {"record": str(folder / "run.json"), "metrics": str(folder / "metrics.jsonl"), **language}

    def epoch(self, number: int, quality: float, together: bool, late: bool) -> dict[str, Any]:
        rate = quality + 0.5 / number
        row = {"epoch": number, "step": 20 * number, "step_seconds": 0.5, "dev_loss": 1.0, "dev_fer": rate}
        row |= {"dev_by_language": {"ca": {"fer": 0.25}, "fr": {"fer": 0.125}}} if together else {}
        return row | ({"replicas": 4, "staleness": 3, "parallel_seconds": 2.5} if late else {})

    def whole(self, name: str = "", **changes: Any) -> ExhibitSpec:
        return super().whole(name, reference="cross-all", **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("multilingual"))


def drawn(made: Fakes, name: str) -> dict[str, bytes]:
    return exhibits("multilingual")[name].draw(made.spec(name))


def rows_of(made: Fakes, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(drawn(made, name)["csv"].decode())))


def test_rows_are_languages_and_columns_ways_to_a_network(made: Made) -> None:
    block = json.loads(drawn(made, "table1")["json"])["blocks"][0]
    titles = [column["title"].split(" [")[0] for column in block["columns"]]
    assert titles == ["Hours", "States", "GMM-HMM", "From scratch", "Multilingual", "From English, all layers"]
    catalan, french = block["rows"]
    assert [cell["text"] for cell in catalan[:3]] == ["Catalan", catalan[1]["text"], "88"]
    assert catalan[6]["text"] == "–"  # the gap
    assert french[6]["text"] != "–"
    assert "/" not in catalan[3]["text"]  # a GMM gains over nothing


def test_gains_are_over_the_gmm_and_over_the_baseline(made: Made) -> None:
    cells = {(row["target"], row["treatment"]): row for row in rows_of(made, "table1") if row["row"] == "treatment"}
    for target in TARGETS:
        rate = {treatment: float(cells[target, treatment]["value"]) for treatment in ("gmm", "scratch", "multilingual")}
        scratch, multilingual = (float(cells[target, one]["gain"]) for one in ("scratch", "multilingual"))
        assert scratch == pytest.approx(1 - rate["scratch"] / rate["gmm"], abs=1e-3)
        assert multilingual == pytest.approx(1 - rate["multilingual"] / rate["scratch"], abs=1e-3)
        assert cells[target, "scratch"]["states"] == str(STATES[target])
    assert [percent(-0.14), percent(0.02), percent(0.001)] == ["−14 %", "+2 %", "0 %"]


def test_a_scale_at_the_end_of_those_tried_is_said(made: Made) -> None:
    block = json.loads(drawn(made, "table1")["json"])["blocks"][0]
    marks = {row[0]["text"]: [cell["mark"] for cell in row[3:]] for row in block["rows"]}
    assert marks == {"Catalan": ["‡", "", "", ""], "French": ["‡", "‡", "‡", "‡"]}
    [note] = [note for note in block["notes"] if note.startswith("‡")]
    assert "(gmm: acoustic scale 0.1 to 0.3; hybrid: acoustic scale 0.1 to 0.3)" in note
    assert note.endswith("so a wider grid might give a lower one (5 of 12 searches).")
    assert "textdaggerdbl" in drawn(made, "table1")["tex"].decode()
    cells = {(row["target"], row["treatment"]): row for row in rows_of(made, "table1") if row["row"] == "treatment"}
    assert (cells["catalan", "scratch"]["scale_at_end"], cells["french", "scratch"]["scale_at_end"]) == ("0", "1")


def test_what_was_never_tuned_is_at_no_end(tmp_path: Path) -> None:
    notes = json.loads(drawn(Made(tmp_path, kind="greedy"), "table1")["json"])["blocks"][0]["notes"]
    assert not any("‡" in note for note in notes)


def test_every_published_cell_stands_apart(made: Made) -> None:
    (block,) = json.loads(drawn(made, "table1")["json"])["apart"]
    cells = {row[0]["text"]: [cell["text"] for cell in row[1:]] for row in block["rows"]}
    assert len(cells) == 11
    assert cells["Portuguese, Portugal"] == ["100", "2900", "25.7", "21.8 / −15 %", "20.9 / −4 %", "21.0 / −4 %",
                                             "20.5 / −6 %"]  # fmt: skip
    assert cells["Catalan, Spain"] == ["100", "3300", "25.7", "22.1 / −14 %", "–", "–", "19.9 / −10 %"]
    assert sum(text == "–" for row in cells.values() for text in row) == 3 * 2 + 3 + 3  # three rows lack both columns


def test_published_gains_follow_from_their_rates() -> None:
    rows = list(csv.DictReader((ROOT / "config/published/multilingual.csv").open(encoding="utf-8")))
    wer = {(row["target"], row["treatment"]): float(row["wer"]) for row in rows}
    for row in rows:
        base = {"gmm": None, "scratch": "gmm"}.get(row["treatment"], "scratch")
        if base:
            gain = 100 * (1 - wer[row["target"], row["treatment"]] / wer[row["target"], base])
            assert abs(gain - float(row["gain"])) <= 0.75, row  # printed as a whole per cent, of rates with one decimal


def test_the_ctc_restatement_has_no_published_cells_in_its_table(tmp_path: Path) -> None:
    other = Made(tmp_path, kind="greedy")
    table = json.loads(drawn(other, "table1")["json"])
    assert table["apart"] == []
    assert table["title"].startswith("The same design with CTC")
    assert {row["scale"] for row in rows_of(other, "figure-gain")} == {"mini"}


def test_curves_are_of_the_targets_own_dev(made: Made) -> None:
    runs = {run.treatment: run for run in made.spec("figure4").runs}
    assert [point.accuracy for point in points(runs["multilingual"])] == [75.0] * 5
    assert [point.seconds for point in points(runs["scratch"])] == [10.0, 20.0, 30.0, 40.0, 50.0]
    rows = rows_of(made, "figure4")
    assert {row["target"] for row in rows} == {"catalan"}
    assert {row["treatment"] for row in rows} == {"scratch", "multilingual"}  # neither the GMM nor late gradients


def test_every_language_has_a_panel_of_its_own_dev(made: Made) -> None:
    rows = rows_of(made, "figure-languages")
    assert {row["target"] for row in rows} == {"catalan", "french"}
    assert {row["treatment"] for row in rows if row["target"] == "french"} == {"scratch", "cross-all", "multilingual"}
    together = {row["target"]: row["frame_accuracy"] for row in rows if row["treatment"] == "multilingual"}
    assert together == {"catalan": "75.0", "french": "87.5"}  # one training, judged by each language
    whole = made.whole()
    one = tuple(run for run in whole.runs if run.target == "catalan")
    assert "figure-languages" not in drawable(exhibits("multilingual"), whole.model_copy(update={"runs": one}))


def test_snapshots_that_were_decoded_are_drawn_too(made: Made) -> None:
    runs = [run | {"decodes": [run["decodes"][0] | {"snapshot": "epoch-3"}]} for run in made.runs if run["decodes"]]
    spec = made.spec("figure4", runs=runs)
    found = {point.epoch: point.test_wer for point in points(spec.runs[0])}
    assert found[3] > 0
    assert set(exhibits("multilingual")["figure4"].draw(spec)) == {"png", "pdf", "csv"}


def test_late_gradients_stand_beside_the_same_treatment_without(made: Made) -> None:
    rows = rows_of(made, "figure-learners")
    assert list(dict.fromkeys(row["treatment"] for row in rows)) == ["scratch", "late"]
    assert [row["seconds"] for row in rows if row["treatment"] == "late"][:2] == ["2.5", "5.0"]
    assert {row["staleness"] for row in rows if row["treatment"] == "late"} == {"3"}


def test_gains_by_hours_hold_ours_and_theirs_apart(made: Made) -> None:
    rows = rows_of(made, "figure-gain")
    ours = [row for row in rows if row["scale"] == "mini"]
    theirs = [row for row in rows if row["scale"] == "paper"]
    assert {row["treatment"] for row in ours} == {"cross-all", "multilingual"}
    assert all(float(row["low"]) <= float(row["gain"]) <= float(row["high"]) for row in ours)
    assert len(theirs) == 11 + 5 + 5


def test_findings_compare_networks_to_the_gmm_too(made: Made) -> None:
    text = drawn(made, "findings")["md"].decode()
    assert "Catalan" in text
    assert "GMM-HMM" in text


def test_exhibits_without_anything_to_show_are_not_drawn(made: Made) -> None:
    whole = made.whole()
    plain = whole.model_copy(update={"runs": tuple(RunRow.model_validate(r) for r in made.runs if r["decodes"])})
    assert "figure-learners" not in drawable(exhibits("multilingual"), plain)

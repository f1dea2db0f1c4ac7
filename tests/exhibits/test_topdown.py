"""Every exhibit of the top-down study, drawn from a plan of the toy config and made-up results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import hypotheses
from thaw.config.load import merged, read_yaml, validate
from thaw.config.schema import ScoringSpec
from thaw.exhibits.frame import read_frame
from thaw.exhibits.notes import bars_over
from thaw.exhibits.spec import RunRow
from thaw.exhibits.write import write_exhibit
from thaw.files import write_json, write_jsonl
from thaw.planning.plan import resolve
from thaw.planning.showing import Showing, exhibits
from thaw.scoring.counts import count_rows
from thaw.scoring.scores import score

ROOT = Path(__file__).parents[2]
# Share of words that are wrong, by role; the second stage is worse than the first.
QUALITY = {"baseline": 0.6, "stage": 0.4, "lowest": 0.7, "longer": 0.55, "swap": 0.45, "share": 0.6, "none": 0.8}


def quality(run: RunRow) -> float:
    assert run.place is not None
    if run.place.role in ("donor", "epoch"):
        return 0.8 - run.place.at / 200
    return QUALITY[run.place.role] + (0.15 if run.treatment == "ctc-stage-2" and run.seed == 1 else 0)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Showing]]:
    """Every exhibit by name; the current directory holds the files of its runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("topdown"))
        yield showings(other={"subsets": {"Even": "clip-*[02468]", "Odd": "clip-*[13579]"}})


def showings(**cascades: dict[str, Any]) -> dict[str, Showing]:
    """The exhibits of the toy config with some cascades changed; their files in the current directory."""
    Path("config").symlink_to(ROOT / "config")
    toy = read_yaml(Path(ROOT / "tests/workflow/topdown.yaml"))
    plan = resolve(validate(merged(toy, {"studies": {"topdown": {"cascades": cascades}}})))
    found = {name: one for (_, name), one in exhibits(plan).items()}
    written: set[str] = set()
    for run in (run for one in found.values() for run in (*one.spec.runs, *one.spec.others)):
        write_run(run, written)
    counted = {"listed": 9, "utterances": 9, "rejected": {}, "hours": 1.0, "speakers": 3, "characters": 90, "words": 20}
    for row in found["table-corpora"].spec.corpora:
        write_json(Path(row.counts), dict.fromkeys(("train", "dev", "test"), counted), sealed=False)
    return found


def write_run(run: RunRow, written: set[str]) -> None:
    if run.place is None:  # one of the others: its files are those of a run shown elsewhere
        return
    wrong = quality(run)
    epochs = 4 if run.place.role == "longer" else 6 if run.place.role == "share" else 3
    if run.record and run.record not in written:
        written.add(run.record)
        write_json(Path(run.record), {"best": {"epoch": 2}, "epochs": epochs}, sealed=False)
    if run.metrics and run.metrics not in written:
        written.add(run.metrics)
        rows = [{"epoch": n, "step": n, "train_loss": 9.0 / n, "dev_loss": 5.0 + abs(n - 2), "dev_cer": wrong}
                for n in range(1, epochs + 1)]  # fmt: skip
        write_jsonl(Path(run.metrics), rows, sealed=False)
    for decode in run.decodes:
        if decode.scores not in written:
            written.add(decode.scores)
            counts = count_rows(hypotheses(run.id, wrong, 30))
            write_json(Path(decode.scores), score(counts, ScoringSpec()), sealed=False)
            write_jsonl(Path(decode.counts), [one.row() for one in counts], sealed=False)


def draw(one: Showing, folder: Path) -> dict[str, str]:
    files = [folder / f"{one.spec.name}.{suffix}" for suffix in one.exhibit.suffixes]
    write_exhibit(one.spec, files)
    return {file.suffix[1:]: file.read_text() for file in files if file.suffix not in (".png", ".pdf")}


def test_every_exhibit_is_drawn_and_says_its_scale(shown: dict[str, Showing], tmp_path: Path) -> None:
    for name, one in shown.items():
        made = draw(one, tmp_path)
        assert all("mini scale" in text for text in made.values()), name


def table(text: str, title: str) -> dict[str, list[str]]:
    """The rows of one block of a Markdown table, by their labels."""
    block = text.split(f"## {title}")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_a_cascade_stands_beside_its_controls_and_the_published_cells_apart(
    shown: dict[str, Showing], tmp_path: Path
) -> None:
    text = draw(shown["table2"], tmp_path)["md"]
    assert [*table(text, "CTC: greedy")] == [
        "Baseline", "Top-down (Algorithm 1)", "Classifier from “Other”", "Lowest layer frozen",
        "Baseline, trained longer",
    ]  # fmt: skip
    published = table(text, "Published")
    assert published["BLSTM, CTC: Top-down with dropout 0.5, seed 3"] == ["8.2", "6.3"]
    assert len(published) == 20
    assert "Other: greedy" not in text
    assert "Difference to “Top-down (Algorithm 1)”" in text


def test_the_outcome_of_the_algorithm_is_the_last_stage_that_each_seed_accepted(
    shown: dict[str, Showing], tmp_path: Path
) -> None:
    rows = list(csv.DictReader(io.StringIO(draw(shown["table2"], tmp_path)["csv"])))
    ends = {row["seed"]: row["run"] for row in rows if row["treatment"] == "ctc-top-down" and row["row"] == "run"}
    assert {seed: run.split("-ctc-")[1][:7] for seed, run in ends.items()} == {"1": "stage-1", "2": "stage-2"}


def test_the_trace_has_every_stage_of_every_seed(shown: dict[str, Showing], tmp_path: Path) -> None:
    made = draw(shown["table-trace"], tmp_path)
    rows = table(made["md"], "CTC")
    verdicts = {label: cells[1] for label, cells in rows.items()}
    assert verdicts == {
        "Seed 1: Baseline": "start",
        "Seed 1: Stage 1: M1,5": "accepted",
        "Seed 1: Stage 2: M1,2,3": "rejected",
        "Seed 2: Baseline": "start",
        "Seed 2: Stage 1: M1,5": "accepted",
        "Seed 2: Stage 2: M1,2,3": "accepted",
        "Seed 1: Baseline, trained longer": "–",
        "Seed 2: Baseline, trained longer": "–",
    }
    assert rows["Seed 1: Stage 2: M1,2,3"][0] == "55.00"
    assert rows["Seed 1: Stage 2: M1,2,3"][3:5] == ["3", "9"]  # epochs, and those of all so far
    assert "the longer training has 4 epochs, all stages 9" in made["md"]


def test_a_test_set_in_parts_has_a_column_for_each(shown: dict[str, Showing], tmp_path: Path) -> None:
    text = draw(shown["table3"], tmp_path)["md"]
    heading = next(line for line in text.splitlines() if line.startswith("| Treatment | Even: WER"))
    assert "Odd: CER" in heading
    assert [*table(text, "Other: greedy")] == ["Baseline", "Top-down"]
    rows = list(csv.DictReader(io.StringIO(draw(shown["table3"], tmp_path)["csv"])))
    assert {row["utterances"] for row in rows if row["row"] == "run"} == {"15"}


def test_findings_say_where_the_algorithm_ended(shown: dict[str, Showing], tmp_path: Path) -> None:
    found = json.loads(draw(shown["findings"], tmp_path)["json"])
    said = " ".join(sentence for part in found["parts"] for sentence in part["sentences"])
    assert "accepted, one after the other: 1 of 2 with seed 1 (9 epochs for all), 2 of 2 with seed 2" in said
    assert "The longer training of the baseline has 4 epochs with seed 1, 4 epochs with seed 2." in said
    assert {part["title"].split(",")[0] for part in found["parts"]} == {"CTC", "Other"}


def test_a_cascade_of_one_seed_claims_nothing_of_other_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside others with several: neither its table nor its findings borrow their noise."""
    monkeypatch.chdir(tmp_path)
    more = {"seeds": [1], "stages": [["last-1"], ["last-3"]]}
    found = showings(other=more)
    text = draw(found["table3"], tmp_path)["md"]
    assert "No random seed is repeated: rates and intervals are those of these trained models" in text
    assert "No p values: no random seed is repeated" in text
    assert "±" not in text
    assert "what another random seed would have changed, too" not in text
    parts = {part["title"].split(",")[0]: part["sentences"] for part in json.loads(
        draw(found["findings"], tmp_path)["json"])["parts"]}  # fmt: skip
    alone = "No random seed is repeated here: this is true of these trained models alone."
    assert parts["Other"][0] == alone
    assert not any("beyond noise" in sentence for sentence in parts["Other"])
    assert alone not in parts["CTC"]
    rows = list(csv.DictReader(io.StringIO(draw(found["figure-stages"], tmp_path)["csv"])))
    scopes = {(row["treatment"].split("-")[0], row["speaks_of"], row["seed_noise_degrees"]) for row in rows
              if row["row"] == "treatment"}  # fmt: skip
    assert scopes == {("ctc", "treatment", "6"), ("other", "these trained models", "0")}
    bars = bars_over(read_frame(found["figure-stages"].spec, ["char"], compared=False))
    assert bars == "over speakers and random seeds (Other: of these trained models alone)"


def test_donors_stand_at_their_share_and_their_epoch(shown: dict[str, Showing], tmp_path: Path) -> None:
    for name, places in (("figure1", {"50 %", "75 %"}), ("figure2b", {"epoch 1", "epoch 2"})):
        rows = list(csv.DictReader(io.StringIO(draw(shown[name], tmp_path)["csv"])))
        labels = {row["label"] for row in rows}
        assert "No donor" in labels
        assert all(any(place in label for label in labels) for place in places)
    epochs = list(csv.DictReader(io.StringIO(draw(shown["figure2a"], tmp_path)["csv"])))
    assert [row["epoch"] for row in epochs] == ["1", "2", "3", "4", "5", "6"]

"""Table 3: what each scheme leaves out, from the records of its runs, and rates of runs that differ in their layers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import ROOT, Fakes, counts_of
from thaw.errors import UserError
from thaw.exhibits.federated import FederatedTable, published_schemes
from thaw.exhibits.reset_findings import federated_parts
from thaw.exhibits.schemes import federated_rows
from thaw.exhibits.spec import ExhibitSpec
from thaw.files import read_json, write_json

LAYERS = ["block_1", "block_2", "block_3", "block_4"]
UNIT, BLOCK, TOTAL = 65, 2 * 128, 90_000  # parameters of a hidden unit, units of a block, parameters of the model
SCHEMES: dict[str, tuple[str, dict[str, Any] | None, int]] = {  # label, dropout, word errors of 10 of each speaker
    "none": ("No dropout", None, 2),
    "crit-1": ("Crit-1", {"critical": 1}, 6),
    "amb-1": ("Amb-1", {"ambient": 1}, 3),
    "flat-20": ("Flat20", {"rate": 0.2}, 4),
}
SEEDS = (1, 2, 3)


def raised(scheme: str, seed: int) -> str:
    """The most critical block is another one for the third seed."""
    return {"crit-1": "block_1" if seed < 3 else "block_2", "amb-1": "block_4"}.get(scheme, "")


@pytest.fixture
def spec(tmp_path: Path) -> ExhibitSpec:
    """A study of four schemes and three seeds."""
    fakes = Fakes(tmp_path, ["scratch"], SEEDS, {"german": "German"})
    (*plain,) = fakes.runs
    runs = [row(fakes, old, scheme, old["seed"]) for scheme in SCHEMES for old in plain]
    whole = fakes.whole(runs=[*plain, *runs], baseline="federated-none", reference="")
    published = {"ambient-federated.csv": str(ROOT / "config/published/ambient-federated.csv")}
    return whole.model_copy(update={"runs": federated_rows(whole), "name": "table3", "published": published})


def row(fakes: Fakes, old: dict[str, Any], scheme: str, seed: int) -> dict[str, Any]:
    label, dropout, errors = SCHEMES[scheme]
    folder = fakes.folder / "runs" / f"{scheme}-{seed}"
    rates = {layer: dropout.get("rate", 0.1) for layer in LAYERS} if dropout else {}
    if dropout and raised(scheme, seed):
        rates[raised(scheme, seed)] = 0.5
    saved = sum(round(rate * BLOCK) * UNIT for rate in rates.values())
    record = read_json(Path(old["record"]))
    record["recipe"] = {"start": f"base-{seed}", "recipe": {"learner": {"kind": "federated", "dropout": dropout}}}
    record["federated"] = {
        "unit_rates": [{"layer": layer, "rate": rate} for layer, rate in rates.items()],
        "parameters": {"total": TOTAL, "client": TOTAL - saved, "saved": saved},
        "bytes_down": 1000 * seed,
        "bytes_up": 900 * seed,
    }
    write_json(folder / "run.json", record, sealed=False)
    decodes = []
    for snapshot in ("best", "first") if scheme == "none" else ("best",):
        more = 3 if snapshot == "first" else 0
        counts = counts_of({f"s{n}": (errors + more + (n + seed) % 2, 5 * errors) for n in range(6)})
        decodes.append(
            fakes.write_decode(f"{scheme}-{seed}-{snapshot}", "greedy", "greedy", counts) | {"snapshot": snapshot}
        )
    own = {"id": folder.name, "treatment": f"federated-{scheme}", "label": label, "learner": "federated"}
    return {**old, **own, "recipe": scheme, "record": str(folder / "run.json"), "decodes": decodes}


TABLE = FederatedTable("Federated dropout by layer", published_schemes(), stub="Scheme")


def test_the_base_is_the_first_weights_of_the_baseline(spec: ExhibitSpec) -> None:
    assert [run.treatment for run in spec.runs] == ["federated-base"] * 3 + [
        f"federated-{scheme}" for scheme in SCHEMES for _ in SEEDS
    ]
    assert {decode.snapshot for run in spec.runs for decode in run.decodes} == {"best"}


def test_the_table(spec: ExhibitSpec) -> None:
    drawn = TABLE.draw(spec)
    grid = json.loads(drawn["json"])
    (block,) = grid["blocks"]
    rows = {row[0]["text"]: [cell["text"] for cell in row[1:]] for row in block["rows"]}
    assert list(rows) == ["Before federated training", "No dropout", "Crit-1", "Amb-1", "Flat20"]
    assert rows["No dropout"][:4] == ["none", "90,000", "0", "0.0"]
    dropped = (128 + 3 * 26) * UNIT
    assert rows["Crit-1"][:4] == ["1 | 1 | 2", "90,000", f"{dropped:,}", f"{100 * dropped / TOTAL:.1f}"]
    assert rows["Amb-1"][0] == "4"
    assert rows["Flat20"][0] == "none"
    assert rows["Before federated training"][:4] == ["", "", "", ""]
    assert rows["Before federated training"][4].startswith("55.0 [")
    assert block["notes"][-1].startswith("Seeds start from a base of their own each")
    (published,) = grid["apart"]
    assert [row[0]["text"] for row in published["rows"]][:2] == ["Crit-2", "Amb-2"]
    assert [row[1]["text"] for row in published["rows"]] == ["8", "9", "9", "10", "10", "11", "12"]
    assert [row[2]["text"] for row in published["rows"]] == ["6.9", "6.3", "7.0", "6.5", "7.3", "6.6", "6.6"]


def test_critical_against_ambient_layers(spec: ExhibitSpec) -> None:
    blocks = {block["title"].split(":")[0]: block for block in json.loads(TABLE.draw(spec)["json"])["more"]}
    (row,) = blocks["Critical to ambient layers at the same share"]["rows"]
    assert row[0]["text"] == "Crit-1 to Amb-1 (15 %)"
    assert row[1]["text"].startswith("+30.0 [")
    vectors = blocks["Hidden units of both feed-forward modules that clients lack, in per cent, by layer"]["rows"]
    texts = [[cell["text"] for cell in row] for row in vectors]
    assert texts == [
        ["Crit-1, seed 1", "50", "10", "10", "10"],
        ["Crit-1, seed 2", "50", "10", "10", "10"],
        ["Crit-1, seed 3", "10", "50", "10", "10"],
        ["Amb-1", "10", "10", "10", "50"],
        ["Flat20", "20", "20", "20", "20"],
    ]


def test_the_csv_has_layers_and_bytes_of_each_run(spec: ExhibitSpec) -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.draw(spec)["csv"].decode())))
    runs = [row for row in rows if row["treatment"] == "federated-crit-1" and row["row"] == "run"]
    words = [row for row in runs if row["measure"].startswith("WER")]
    assert [row["raised_layers"] for row in words] == ["block_1", "block_1", "block_2"]
    assert [row["bytes_up"] for row in words] == ["900", "1800", "2700"]
    cell = next(row for row in rows if row["treatment"] == "federated-amb-1" and row["row"] == "treatment")
    assert float(cell["dropped_percent"]) == pytest.approx(100 * (128 + 78) * UNIT / TOTAL, abs=1e-4)
    assert [row["dropped_percent"] for row in rows if row["row"] == "published"][-1] == "12"


def test_one_base_for_all_seeds_is_said(spec: ExhibitSpec) -> None:
    for run in spec.runs:
        if run.record:
            record = read_json(Path(run.record))
            record["recipe"]["start"] = "base-1"
            write_json(Path(run.record), record, sealed=False)
    assert json.loads(TABLE.draw(spec)["json"])["blocks"][0]["notes"][-1].startswith("All start from one trained model")


def test_a_record_of_another_training_is_told(spec: ExhibitSpec) -> None:
    path = Path(spec.runs[-1].record)
    write_json(path, {"best": {"epoch": 1}, "epochs": 2}, sealed=False)
    with pytest.raises(UserError, match="not the record of a federated training"):
        TABLE.draw(spec)


def test_findings_tell_of_it(spec: ExhibitSpec) -> None:
    """The scheme with the lowest rate, what differs from no dropout, and critical layers against ambient ones."""
    (part,) = federated_parts(spec)
    assert part["title"] == "Federated dropout, German: greedy"
    assert "“No dropout”" in part["sentences"][0]
    higher = next(sentence for sentence in part["sentences"] if sentence.startswith("Higher than “No dropout”"))
    assert "“Crit-1” (+" in higher
    critical, ambient = (rate_of(spec, name) for name in ("crit-1", "amb-1"))
    change = f"{critical - ambient:+.1f} points".replace("-", "−")
    assert part["sentences"][-1] == f"“Crit-1” to “Amb-1”, both without 15 % of the parameters: {change} WER."
    assert federated_parts(spec.model_copy(update={"runs": ()})) == []


def rate_of(spec: ExhibitSpec, scheme: str) -> float:
    rows = csv.DictReader(io.StringIO(TABLE.draw(spec)["csv"].decode()))
    found = (row for row in rows if row["row"] == "treatment" and row["treatment"] == f"federated-{scheme}")
    return next(float(row["value"]) for row in found if row["measure"] == "WER %")
